package volume_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/fs/volume"
	"github.com/ocfuse/ocfuse/stackglue"
	"github.com/ocfuse/ocfuse/stackglue/fakestack"
)

// fakePlugin connects volumes of one test to one in-process lock manager,
// which the mount options name.
type fakePlugin struct{}

var fakeClusters sync.Map // name -> *fakestack.Cluster

func init() { stackglue.Register(fakePlugin{}) }

func (fakePlugin) Name() string     { return "fake" }
func (fakePlugin) Labels() []string { return []string{"pcmk"} }

func (fakePlugin) Connect(_ context.Context, cfg stackglue.Config) (stackglue.Conn, error) {
	c, ok := fakeClusters.Load(cfg.Options["cluster"])
	if !ok {
		return nil, errors.New("no such cluster")
	}
	return c.(*fakestack.Cluster).Connect(cfg.Node, cfg.Recovery)
}

// cluster is several nodes on one image.
type cluster struct {
	t     testing.TB
	path  string
	fake  *fakestack.Cluster
	nodes map[uint32]*clusterNode
}

type clusterNode struct {
	*mounted
	fence *fence
}

// fence is a gate that a dead node's writes do not pass.
type fence struct {
	closed atomic.Bool
	mu     sync.RWMutex
}

func (f *fence) Enter() error {
	f.mu.RLock()
	if f.closed.Load() {
		f.mu.RUnlock()
		return stackglue.ErrFenced
	}
	return nil
}

func (f *fence) Leave() { f.mu.RUnlock() }

// shut returns when no write is under way and none will begin.
func (f *fence) shut() {
	f.mu.Lock() // waits for the writers that are inside
	defer f.mu.Unlock()
	f.closed.Store(true)
}

func newCluster(t testing.TB, nodes int, o fakestack.Options, args ...string) *cluster {
	t.Helper()
	args = append([]string{"-M", "cluster", "--cluster-stack=pcmk", "--cluster-name=kp", "-N", "4"}, args...)
	c := &cluster{t: t, path: newImage(t, 512<<20, args...), fake: fakestack.New(o), nodes: map[uint32]*clusterNode{}}
	name := fmt.Sprintf("%s-%p", t.Name(), c)
	fakeClusters.Store(name, c.fake)
	t.Cleanup(func() { fakeClusters.Delete(name) })
	for n := range nodes {
		c.mount(uint32(n+1), name)
	}
	return c
}

// clusterName is what the mount options call a cluster.
func clusterName(c *cluster) (name string) {
	fakeClusters.Range(func(k, v any) bool {
		if v == c.fake {
			name = k.(string)
		}
		return true
	})
	return name
}

func (c *cluster) mount(node uint32, name string) *clusterNode {
	c.t.Helper()
	raw, err := blockdev.Open(c.path, blockdev.Options{Claim: blockdev.ClaimShared})
	if err != nil {
		c.t.Fatal(err)
	}
	f := &fence{}
	dev := blockdev.NewGated(raw, f)
	v, err := volume.Mount(bg, dev, volume.Options{
		Slot: -1, Stack: "fake",
		Conn: stackglue.Config{Node: node, Options: map[string]string{"cluster": name}},
		Logf: func(format string, a ...any) { c.t.Logf(fmt.Sprintf("node %d: ", node)+format, a...) },
	})
	if err != nil {
		raw.Close()
		c.t.Fatalf("node %d: mount: %v", node, err)
	}
	n := &clusterNode{&mounted{v, c.t, c.path, dev}, f}
	c.nodes[node] = n
	return n
}

// kill ends a node as a power cut does.
func (c *cluster) kill(node uint32) {
	n := c.nodes[node]
	delete(c.nodes, node)
	n.fence.shut()
	c.fake.Kill(node)
	n.Locks().Evicted(errors.New("killed")) // a dead process waits for nothing
}

func (c *cluster) numbers() []uint32 {
	var list []uint32
	for n := range c.nodes {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

// pick returns a random node.
func (c *cluster) pick(rng *rand.Rand) *mounted {
	list := c.numbers()
	return c.nodes[list[rng.IntN(len(list))]].mounted
}

// umount unmounts every node, one after the other, and checks the image.
func (c *cluster) umount() {
	c.t.Helper()
	for _, n := range c.numbers() {
		if err := c.nodes[n].Unmount(bg); err != nil {
			c.t.Fatalf("node %d: unmount: %v", n, err)
		}
		c.nodes[n].dev.Close()
	}
	fsck(c.t, c.path)
}

// TestClusterModel: operations of one history, each on a random node, and what
// each other node then sees.
func TestClusterModel(t *testing.T) {
	c := newCluster(t, 3, fakestack.Options{Seed: 1})
	md := &model{files: map[string]*[]byte{}, dirs: map[string]bool{"": true}}
	rng := rand.New(rand.NewPCG(3, 4))
	for step := range 600 {
		if err := md.step(rng, c.pick(rng)); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		if f := md.pick(rng, md.files); f != "" {
			got, err := c.pick(rng).read(f)
			if err != nil || !bytes.Equal(got, *md.files[f]) {
				t.Fatalf("step %d: another node reads %s: %v %s", step, f, err, diff(got, *md.files[f]))
			}
		}
	}
	for _, n := range c.numbers() {
		md.compare(t, c.nodes[n].mounted)
	}
	c.umount()
}

// TestClusterParallel: every node works in its own directory and all in a
// shared one.
func TestClusterParallel(t *testing.T) {
	c := newCluster(t, 3, fakestack.Options{Seed: 2})
	if err := c.nodes[1].mkdir("/shared"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, n := range c.numbers() {
		for w := range 2 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if err := churn(c.nodes[n].mounted, fmt.Sprintf("n%d-%d", n, w)); err != nil {
					t.Errorf("node %d: %v", n, err)
				}
			}()
		}
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, n := range c.numbers() {
		got, err := c.nodes[n].list("/shared")
		if err != nil || len(got) != 6*30 {
			t.Fatalf("node %d lists %d names: %v", n, len(got), err)
		}
	}
	c.umount()
}

// churn makes, moves and removes files under names that begin with who.
func churn(m *mounted, who string) error {
	own := "/" + who
	if err := m.mkdir(own); err != nil {
		return err
	}
	for k := range 60 {
		for _, dir := range []string{own, "/shared"} {
			f := fmt.Sprintf("%s/%s-%d", dir, who, k)
			if err := m.touch(f); err != nil {
				return err
			}
			if err := m.write(f, bytes.Repeat([]byte(who), 1+k*50), int64(k)); err != nil {
				return err
			}
			switch k % 4 {
			case 1:
				if err := m.unlink(f); err != nil {
					return err
				}
			case 2:
				if err := m.rename(f, f+"-moved", 0); err != nil {
					return err
				}
			case 3:
				if err := m.rename(f, fmt.Sprintf("%s/%s-%d-moved", dir, who, k-1), 0); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// TestClusterDeath: a node dies again and again while all write; what it
// promised by fsync is there, the others go on, and the volume stays clean.
func TestClusterDeath(t *testing.T) {
	c := newCluster(t, 3, fakestack.Options{Seed: 3})
	name := clusterName(c)
	for round := range 4 {
		victim := uint32(round%3 + 1)
		var (
			wg    sync.WaitGroup
			stop  atomic.Bool
			mu    sync.Mutex
			acked = map[string][]byte{}
		)
		for _, n := range c.numbers() {
			m := c.nodes[n].mounted
			wg.Add(1)
			go func() {
				defer wg.Done()
				dir := fmt.Sprintf("/r%d-n%d", round, n)
				err := m.mkdir(dir)
				for k := 0; err == nil && !stop.Load(); k++ {
					f := fmt.Sprintf("%s/f%d", dir, k)
					data := bytes.Repeat([]byte(f), 1+k%50)
					if err = promise(m, f, data); err == nil {
						mu.Lock()
						acked[f] = data
						mu.Unlock()
					}
				}
				if err != nil && n != victim {
					t.Errorf("round %d: node %d: %v", round, n, err)
				}
			}()
		}
		time.Sleep(300 * time.Millisecond)
		c.kill(victim)
		time.Sleep(300 * time.Millisecond)
		stop.Store(true)
		wg.Wait()
		if t.Failed() {
			t.FailNow()
		}
		for f, want := range acked {
			for _, n := range c.numbers() {
				got, err := c.nodes[n].read(f)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("round %d: node %d reads %s: %v, %s", round, n, f, err, diff(got, want))
				}
			}
		}
		t.Logf("round %d: %d files promised", round, len(acked))
		c.mount(victim, name)
	}
	c.umount()
}

// TestAllDead: all nodes die while they write. Whoever mounts first must replay
// all journals before it frees what the dead held: the newest global bitmap may
// be in any of them.
func TestAllDead(t *testing.T) {
	c := newCluster(t, 3, fakestack.Options{Seed: 6})
	name := ""
	fakeClusters.Range(func(k, v any) bool {
		if v == c.fake {
			name = k.(string)
		}
		return true
	})
	for round := range 4 {
		var wg sync.WaitGroup
		var stop atomic.Bool
		for _, n := range c.numbers() {
			m := c.nodes[n].mounted
			wg.Go(func() {
				dir := fmt.Sprintf("/r%d-n%d", round, n)
				err := m.mkdir(dir)
				for k := 0; err == nil && !stop.Load(); k++ {
					err = promise(m, fmt.Sprintf("%s/f%d", dir, k), make([]byte, 1000+k*7000))
				}
			})
		}
		time.Sleep(300 * time.Millisecond)
		for n := range uint32(3) {
			c.kill(n + 1)
		}
		stop.Store(true)
		wg.Wait()
		for n := range uint32(3) {
			c.mount((n+uint32(round))%3+1, name)
		}
	}
	c.umount()
}

// promise writes a file under a temporary name, syncs it and renames it.
func promise(m *mounted, f string, data []byte) error {
	tmp := f + ".tmp"
	if err := m.touch(tmp); err != nil {
		return err
	}
	if err := m.write(tmp, data, 0); err != nil {
		return err
	}
	i, _, err := m.lookup(tmp)
	if err != nil {
		return err
	}
	err = m.Fsync(bg, i, false)
	m.put(i)
	if err != nil {
		return err
	}
	if err := m.rename(tmp, f, 0); err != nil {
		return err
	}
	return m.Sync(bg)
}

// TestUnlinkedElsewhere: a file that another node removed lives as long as
// this one uses it, and its clusters are free soon after.
func TestUnlinkedElsewhere(t *testing.T) {
	c := newCluster(t, 2, fakestack.Options{Seed: 4})
	a, b := c.nodes[1].mounted, c.nodes[2].mounted
	if err := a.touch("/f"); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("x"), 1<<20)
	if err := a.write("/f", data, 0); err != nil {
		t.Fatal(err)
	}
	i, _, err := b.lookup("/f") // b uses it
	if err != nil {
		t.Fatal(err)
	}
	if err := a.unlink("/f"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.lookup("/f"); !errors.Is(err, volume.ErrNotFound) {
		t.Fatalf("b still finds the name: %v", err)
	}
	p := make([]byte, len(data))
	if n, err := b.Read(bg, i, p, 0, nil); err != nil || n != len(data) || !bytes.Equal(p, data) {
		t.Fatalf("b cannot read what it uses: %d, %v", n, err)
	}
	i.Put()
	c.umount() // fsck sees an orphan that nobody deleted
}

// TestFlockLoweredLate: a lock that was given up, or made a shared one, was
// lowered in the background, and another node's try right after it failed.
func TestFlockLoweredLate(t *testing.T) {
	c := newCluster(t, 2, fakestack.Options{Seed: 5})
	a, b := c.nodes[1].mounted, c.nodes[2].mounted
	if err := a.touch("/f"); err != nil {
		t.Fatal(err)
	}
	var locks []*volume.Flock
	for _, m := range []*mounted{a, b} {
		i, _, err := m.lookup("/f")
		if err != nil {
			t.Fatal(err)
		}
		defer i.Put()
		locks = append(locks, m.NewFlock(i))
	}
	for k := range 100 {
		x, y := locks[k%2], locks[(k+1)%2]
		for _, err := range []error{
			x.Lock(bg, true, false), x.Lock(bg, false, true), y.Lock(bg, false, true), y.Unlock(bg),
			x.Lock(bg, true, true), x.Unlock(bg), y.Lock(bg, true, true), y.Unlock(bg),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for k := range 100 { // a wait that is given up leaves nothing behind
		if err := locks[0].Lock(bg, true, false); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(bg)
		done := make(chan error)
		go func() { done <- locks[1].Lock(ctx, true, false) }()
		if k%2 == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if err := locks[0].Unlock(bg); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range locks {
		if err := l.Close(bg); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTmpfile: a file without a name can get one, or is gone.
func TestTmpfile(t *testing.T) {
	m := mount(t, newImage(t, 64<<20))
	n := volume.NewInode{Mode: ondisk.ModeRegular | 0o600}
	for k := range 50 {
		i, err := m.Tmpfile(bg, m.Root(), n, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := m.Write(bg, i, []byte("hello"), int64(k*1000), 0, nil); err != nil {
			t.Fatal(err)
		}
		if k%2 == 0 {
			if err := m.Link(bg, i, m.Root(), fmt.Appendf(nil, "named%d", k), nil); err != nil {
				t.Fatal(err)
			}
		}
		i.Put()
	}
	names, err := m.list("/")
	if err != nil || len(names) != 26 {
		t.Fatalf("%q, %v", names, err)
	}
	m.umount()
}
