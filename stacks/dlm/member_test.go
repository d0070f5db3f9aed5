package dlm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
	"github.com/ocfuse/ocfuse/stacks/heartbeat"
)

// recorder is a recovery handler that tells of what it hears.
type recorder struct {
	mu      sync.Mutex
	down    map[uint32]time.Time // guarded by mu
	evicted chan error
}

func newRecorder() *recorder {
	return &recorder{down: map[uint32]time.Time{}, evicted: make(chan error, 4)}
}

func (r *recorder) NodeDown(n uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down[n] = time.Now()
}
func (r *recorder) Evicted(err error) { r.evicted <- err }
func (r *recorder) heard(n uint32) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.down[n]
	return t, ok
}

// testLock is a lock whose completions can be waited for.
type testLock struct {
	stackglue.Lksb
	done chan error
	bast chan stackglue.Mode
}

func newTestLock(name string) *testLock {
	l := &testLock{done: make(chan error, 1), bast: make(chan stackglue.Mode, 16)}
	l.SetName([]byte(name))
	l.Owner = l
	return l
}
func (l *testLock) LockAST(*stackglue.Lksb) { l.done <- l.Status }
func (l *testLock) BlockingAST(_ *stackglue.Lksb, m stackglue.Mode) {
	select {
	case l.bast <- m:
	default: // callbacks must not block
	}
}
func (l *testLock) UnlockAST(_ *stackglue.Lksb, _ stackglue.Flags, err error) { l.done <- err }

func (l *testLock) lock(c stackglue.Conn, m stackglue.Mode, f stackglue.Flags) error {
	if err := c.Lock(&l.Lksb, m, f); err != nil {
		return err
	}
	return l.wait()
}

func (l *testLock) unlock(c stackglue.Conn) error {
	if err := c.Unlock(&l.Lksb, 0); err != nil {
		return err
	}
	return l.wait()
}

func (l *testLock) wait() error {
	select {
	case err := <-l.done:
		return err
	case <-time.After(30 * time.Second):
		return fmt.Errorf("lock %q: no completion", l.NameBytes())
	}
}

// fileRegion is a heartbeat region in a file, for nodes in several processes.
type fileRegion struct{ f *os.File }

func (r fileRegion) BlockSize() int { return 512 }
func (r fileRegion) Blocks() int    { return 16 }
func (r fileRegion) ReadBlocks(first int, p []byte) error {
	_, err := r.f.ReadAt(p, int64(first)*512)
	return err
}
func (r fileRegion) WriteBlock(n int, p []byte) error {
	_, err := r.f.WriteAt(p, int64(n)*512)
	return err
}

// childSpec tells a child process what to be.
type childSpec struct {
	Cluster *stackglue.Cluster
	Region  string
	Dir     string
	Group   string
	Node    uint32
	Opts    map[string]string
}

const childEnv = "OCFUSE_DLM_CHILD"

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		if err := childMain(spec); err != nil {
			fmt.Println("failed:", err)
		}
		return
	}
	os.Exit(m.Run())
}

// childMain is a node that holds EX on "res" until it is killed.
func childMain(text string) error {
	var s childSpec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	f, err := os.OpenFile(s.Region, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	g := &group{cluster: s.Cluster, region: fileRegion{f}, dir: s.Dir, name: s.Group, opts: s.Opts}
	start := time.Now()
	cfg := g.config(s.Node, newRecorder())
	cfg.Logf = nil
	c, err := Plugin{}.Connect(context.Background(), cfg)
	if err != nil {
		return err
	}
	joined := time.Since(start)
	l := newTestLock("res")
	if err := l.lock(c, stackglue.EX, stackglue.FlagValBlk); err != nil {
		return err
	}
	fmt.Println("holding", joined.Milliseconds())
	time.Sleep(time.Hour)
	return nil
}

// spawn starts a child node and waits until it holds its lock.
func (g *group) spawn(node uint32, region string) (*exec.Cmd, time.Duration) {
	g.t.Helper()
	spec, err := json.Marshal(childSpec{g.cluster, region, g.dir, g.name, node, g.opts})
	if err != nil {
		g.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(spec))
	out, err := cmd.StdoutPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	var ms int64
	if _, e := fmt.Sscanf(line, "holding %d", &ms); e != nil {
		g.t.Fatalf("child %d: %q, %v", node, line, err)
	}
	return cmd, time.Duration(ms) * time.Millisecond
}

// processGroup is a group whose region is a file.
func processGroup(t *testing.T, n int) (*group, string) {
	g := newGroup(t, n)
	name := g.dir + "/region"
	if err := os.WriteFile(name, make([]byte, 16*512), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	g.region = fileRegion{f}
	return g, name
}

// TestKill: a node is killed (-9) and its lock goes to a survivor at once, because
// its death is proved by its process id; a successor joins at once, too.
func TestKill(t *testing.T) {
	g, file := processGroup(t, 3)
	g.opts["heartbeat-ms"] = "2000" // the real period: nothing here may wait for it
	r1, r2 := newRecorder(), newRecorder()
	conns := g.connectAll([]stackglue.RecoveryHandler{r1, r2})
	for round := range 3 {
		cmd, joined := g.spawn(3, file)
		if joined > 5*time.Second {
			t.Errorf("round %d: joining took %v", round, joined)
		}
		l := newTestLock("res")
		if err := conns[0].Lock(&l.Lksb, stackglue.EX, stackglue.FlagValBlk); err != nil {
			t.Fatal(err)
		}
		killed := time.Now()
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := l.wait(); err != nil {
			t.Fatal(err)
		}
		took := time.Since(killed)
		for i, r := range []*recorder{r1, r2} {
			if at, ok := r.heard(3); !ok || at.Before(killed) || at.After(time.Now()) {
				t.Errorf("round %d: node %d did not hear of the death first", round, i+1)
			} else {
				t.Logf("round %d: node %d hears of the death after %v", round, i+1, at.Sub(killed))
			}
		}
		t.Logf("round %d: joined in %v, lock of the dead granted after %v", round, joined, took)
		if took > 10*time.Second {
			t.Errorf("round %d: the lock came after %v", round, took)
		}
		if err := l.unlock(conns[0]); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
}

// TestStopped: a process that is stopped is not dead until its lease has ended;
// then it is really dead before its locks go to others.
func TestStopped(t *testing.T) {
	g, file := processGroup(t, 2)
	g.cluster.DeadThreshold = 20
	r1 := newRecorder()
	c := g.connectAll([]stackglue.RecoveryHandler{r1})[0]
	cmd, _ := g.spawn(2, file)
	l := newTestLock("res")
	if err := c.Lock(&l.Lksb, stackglue.EX, stackglue.FlagValBlk); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := l.wait(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(stopped); took < 17*100*time.Millisecond {
		t.Errorf("granted after %v, while the stopped node had a lease", took)
	}
	var ee *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &ee) || ee.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the stopped node ended with %v", err)
	}
}

// TestDouble: one number twice, on one host and (with another runtime folder) as
// if on another host.
func TestDouble(t *testing.T) {
	g := newGroup(t, 2)
	g.connect(1, newRecorder())
	_, err := Plugin{}.Connect(context.Background(), g.config(1, newRecorder()))
	if !errors.Is(err, heartbeat.ErrNodeInUse) || !strings.Contains(err.Error(), "on this host already") {
		t.Errorf("on one host: %v", err)
	}
	cfg := g.config(1, newRecorder())
	cfg.Options["runtime-dir"] = t.TempDir()
	if _, err = (Plugin{}).Connect(context.Background(), cfg); !errors.Is(err, heartbeat.ErrNodeInUse) || !strings.Contains(err.Error(), "from another host") {
		t.Errorf("on another host: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	g := newGroup(t, 2)
	for name, c := range map[string]struct {
		change func(*stackglue.Config)
		want   string
	}{
		"node 0":          {func(c *stackglue.Config) { c.Node = 0 }, "number 0 cannot be used"},
		"no cluster":      {func(c *stackglue.Config) { c.Cluster = nil }, "--config"},
		"unknown node":    {func(c *stackglue.Config) { c.Node = 9 }, "not in the cluster's configuration"},
		"another cluster": {func(c *stackglue.Config) { c.ClusterName = "other" }, `belongs to cluster "other"`},
		"no heartbeat":    {func(c *stackglue.Config) { c.Heartbeat = nil }, "--membership manual"},
		"bad membership":  {func(c *stackglue.Config) { c.Options["membership"] = "magic" }, "must be disk or manual"},
		"bad members":     {func(c *stackglue.Config) { c.Options["members"] = "1 x" }, `"x" is no node number`},
		"members without": {func(c *stackglue.Config) { c.Options["membership"], c.Options["members"] = "manual", "2" }, "does not contain this node"},
		"foreign address": {func(c *stackglue.Config) {
			k := *c.Cluster
			k.Nodes = []stackglue.ClusterNode{{Number: 1, Name: "a", Addr: "192.0.2.1", Port: 7777}}
			c.Cluster = &k
		}, "is it an address of this machine"},
	} {
		cfg := g.config(1, newRecorder())
		c.change(&cfg)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		conn, err := Plugin{}.Connect(ctx, cfg)
		cancel()
		if err == nil {
			conn.Abort()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	// Nothing of the refused attempts is left behind.
	g.connect(1, newRecorder())
}

func TestVersion(t *testing.T) {
	g := newGroup(t, 3)
	a := g.connect(1, newRecorder())
	cfg := g.config(2, newRecorder())
	cfg.Protocol = stackglue.Version{Major: 1, Minor: 7}
	b, err := Plugin{}.Connect(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	if b.Version() != a.Version() || a.Version() != (stackglue.Version{Major: 1}) {
		t.Errorf("versions %v and %v", a.Version(), b.Version())
	}
	cfg = g.config(3, newRecorder())
	cfg.Protocol = stackglue.Version{Major: 2}
	if _, err := (Plugin{}).Connect(context.Background(), cfg); err == nil || !strings.Contains(err.Error(), "does not fit 1.0") {
		t.Errorf("major 2: %v", err)
	}
}

// faulty fails one node's writes to the region.
type faulty struct {
	stackglue.BlockRegion
	broken atomic.Bool
}

func (f *faulty) WriteBlock(n int, p []byte) error {
	if f.broken.Load() {
		return errors.New("I/O error")
	}
	return f.BlockRegion.WriteBlock(n, p)
}

// TestEviction: a node that cannot heartbeat is out before others take its locks.
func TestEviction(t *testing.T) {
	g := newGroup(t, 2)
	g.cluster.DeadThreshold = 20
	r1, r2 := newRecorder(), newRecorder()
	a := g.connect(1, r1)
	cfg := g.config(2, r2)
	bad := &faulty{BlockRegion: g.region}
	cfg.Heartbeat = bad
	b, err := Plugin{}.Connect(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Abort()
	held, want := newTestLock("res"), newTestLock("res")
	if err := held.lock(b, stackglue.EX, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.Gate().Enter(); err != nil {
		t.Fatal(err)
	}
	b.Gate().Leave()
	if err := a.Lock(&want.Lksb, stackglue.EX, 0); err != nil {
		t.Fatal(err)
	}
	bad.broken.Store(true)
	if err := want.wait(); err != nil {
		t.Fatal(err)
	}
	if err := b.Gate().Enter(); !errors.Is(err, stackglue.ErrFenced) {
		t.Errorf("the gate of the node whose lock was taken: %v", err)
	}
	if err := <-r2.evicted; !errors.Is(err, stackglue.ErrFenced) {
		t.Errorf("evicted with %v", err)
	}
	if err := b.Lock(&newTestLock("x").Lksb, stackglue.PR, 0); !errors.Is(err, stackglue.ErrFenced) {
		t.Errorf("Lock: %v", err)
	}
	if _, ok := r1.heard(2); !ok {
		t.Error("no NodeDown")
	}
}

func manualGroup(t *testing.T) *group {
	g := newGroup(t, 3)
	g.region = nil
	g.opts["membership"] = "manual"
	return g
}

// TestManual: lists set by hand on both nodes, a death by the operator's word, a
// return, and leaving beside a peer that has to drop us.
func TestManual(t *testing.T) {
	g := manualGroup(t)
	g.opts["members"] = "1 2"
	g.opts["drop-wait-ms"] = "20000"
	r := []*recorder{newRecorder(), newRecorder()}
	c := g.connectAll([]stackglue.RecoveryHandler{r[0], r[1]})
	x, y := newTestLock("res"), newTestLock("res")
	if err := y.lock(c[1], stackglue.EX, 0); err != nil {
		t.Fatal(err)
	}
	if err := c[0].Lock(&x.Lksb, stackglue.EX, 0); err != nil {
		t.Fatal(err)
	}
	<-y.bast
	admin, ok := stackglue.AsAdmin(c[0])
	if !ok {
		t.Fatal("no Admin under manual membership")
	}
	ctx := context.Background()
	for _, bad := range [][2][]uint32{{{2}, nil}, {{1, 7}, nil}, {{1, 2}, {2}}} {
		if err := admin.SetMembers(ctx, bad[0], bad[1]); err == nil {
			t.Errorf("members %v dead %v were accepted", bad[0], bad[1])
		}
	}
	c[1].Abort()
	if err := admin.SetMembers(ctx, []uint32{1}, []uint32{2}); err != nil {
		t.Fatal(err)
	}
	if err := x.wait(); err != nil {
		t.Fatal(err)
	}
	if _, ok := r[0].heard(2); !ok {
		t.Error("no NodeDown for the dead node")
	}
	if s := c[0].Status(); s.Membership != "manual" || s.Members[1].State != "dead" {
		t.Errorf("status %+v", s)
	}
	// Back: this side lists it first and waits for it, which returns all the same.
	if err := admin.SetMembers(ctx, []uint32{1, 2}, nil); err != nil {
		t.Fatal(err)
	}
	var waiting atomic.Bool
	cfg := g.config(2, newRecorder())
	logf := cfg.Logf
	cfg.Logf = func(f string, a ...any) {
		logf(f, a...)
		waiting.Store(waiting.Load() || fmt.Sprintf(f, a...) == "waiting for members to drop node 2")
	}
	back, err := Plugin{}.Connect(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := y.lock(back, stackglue.PR, stackglue.FlagNoQueue); !errors.Is(err, stackglue.ErrAgain) {
		t.Errorf("node 1 lost its EX: %v", err)
	}
	if err := x.unlock(c[0]); err != nil {
		t.Fatal(err)
	}
	left := make(chan error, 1)
	go func() { left <- back.Disconnect(ctx) }()
	for !waiting.Load() {
		select {
		case err := <-left:
			t.Fatalf("left without waiting: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	if err := admin.SetMembers(ctx, []uint32{1}, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-left; err != nil {
		t.Error(err)
	}
	if err := c[0].Disconnect(ctx); err != nil {
		t.Error(err)
	}
}

// TestManualNotDropped: nobody drops us; Disconnect succeeds after its time.
func TestManualNotDropped(t *testing.T) {
	g := manualGroup(t)
	g.opts["members"] = "1 2"
	g.opts["drop-wait-ms"] = "300"
	c := g.connectAll([]stackglue.RecoveryHandler{newRecorder(), newRecorder()})
	start := time.Now()
	if err := c[1].Disconnect(context.Background()); err != nil {
		t.Error(err)
	}
	if d := time.Since(start); d < 300*time.Millisecond {
		t.Errorf("waited only %v", d)
	}
}

// TestChurn: nodes come, work and go, in order or by dying; the exclusive lock
// excludes throughout and everybody gets on.
func TestChurn(t *testing.T) {
	g := newGroup(t, 4)
	var inside atomic.Int32
	var work atomic.Int64
	var wg sync.WaitGroup
	for n := uint32(1); n <= 4; n++ {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(n), 1))
			for range 4 {
				c := g.connect(n, newRecorder())
				l := newTestLock("res")
				for range 20 {
					if err := l.lock(c, stackglue.EX, 0); err != nil {
						t.Errorf("node %d: %v", n, err)
						return
					}
					if inside.Add(1) != 1 {
						t.Errorf("node %d: not alone", n)
					}
					work.Add(1)
					inside.Add(-1)
					if err := l.unlock(c); err != nil {
						t.Errorf("node %d: %v", n, err)
						return
					}
				}
				if rng.IntN(3) == 0 {
					c.Abort()
				} else if err := c.Disconnect(context.Background()); err != nil {
					t.Errorf("node %d leaving: %v", n, err)
				}
			}
		})
	}
	wg.Wait()
	if work.Load() != 4*4*20 && !t.Failed() {
		t.Errorf("%d turns", work.Load())
	}
}

func TestStatusAndDump(t *testing.T) {
	g := newGroup(t, 2)
	c := g.connectAll([]stackglue.RecoveryHandler{newRecorder(), newRecorder()})
	l := newTestLock("res")
	if err := l.lock(c[0], stackglue.EX, stackglue.FlagValBlk); err != nil {
		t.Fatal(err)
	}
	s := c[0].Status()
	if s.Stack != "dlm" || s.Membership != "disk" || s.View == 0 || len(s.Members) != 2 || s.Members[0].State != "self" || s.Members[1].State != "member" || s.Protocol != "1.0" {
		t.Errorf("status %+v", s)
	}
	found := false
	for _, k := range c {
		k.Dump(func(d stackglue.LockDump) {
			for _, r := range d.Locks {
				found = found || string(d.Name) == "res" && r.Node == 1 && r.Mode == stackglue.EX && r.Queue == "granted"
			}
		})
	}
	if !found {
		t.Error("the lock is in no dump")
	}
	if c[0].Status().MessagesSent+c[1].Status().MessagesSent == 0 {
		t.Error("no messages counted")
	}
	before := c[0].Status().MessagesSent
	if err := l.lock(c[0], stackglue.NL, stackglue.FlagConvert|stackglue.FlagValBlk); err != nil {
		t.Fatal(err)
	}
	if m := c[0].Status(); m.MessagesSent < before {
		t.Error("the counter went back")
	}
}
