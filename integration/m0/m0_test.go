package m0

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/stackglue/fakestack"
)

var (
	runFlag  = flag.String("m0.run", "", "shell command to run over the mounts; {0}, {1} are their directories")
	seedFlag = flag.Int64("m0.seed", 1, "seed of delays and checks")
	rounds   = flag.Int("m0.rounds", 20, "rounds of each check")
	debug    = flag.Bool("m0.debug", false, "log every FUSE request")
)

func TestMain(m *testing.M) {
	if name := os.Getenv("M0_CHECK"); name != "" {
		os.Exit(client(name, strings.Split(os.Getenv("M0_MOUNTS"), ":"), os.Getenv("M0_SEED"), os.Getenv("M0_ROUNDS")))
	}
	flag.Parse()
	os.Exit(m.Run())
}

// cluster is the mounts of one test.
type cluster struct {
	t     *testing.T
	slow  int // divides the rounds: delays make each round long
	dirs  []string
	nodes []*node
	mnts  []*kcache.Mount
}

// possible says why FUSE cannot be mounted here. It is a failure, not a skip,
// where the rest of the suite needs FUSE anyway: root with /dev/fuse.
func possible(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the cache protocol is proved over real mounts: needs root")
	}
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skipf("the cache protocol is proved over real mounts: %v", err)
	} else {
		f.Close()
	}
}

func newCluster(t *testing.T, n int, o fakestack.Options, f *faults) *cluster {
	possible(t)
	c := &cluster{t: t, slow: 1}
	if f.replyDelay+o.CallDelay != 0 {
		c.slow = 4
	}
	fake, d := fakestack.New(o), newDisk()
	for i := range n {
		m := locking.New(locking.Config{Logf: t.Logf})
		conn, err := fake.Connect(uint32(i+1), m)
		if err != nil {
			t.Fatal(err)
		}
		m.Attach(conn)
		nd := newNode(d, m, f)
		dir := t.TempDir()
		mnt, err := kcache.New(kcache.MountConfig{Dir: dir, Source: fmt.Sprintf("m0-%d", i), Subtype: "m0", Debug: *debug,
			Logf: t.Logf}, func(e *kcache.Engine) fuse.RawFileSystem { nd.k = e; return nd })
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); mnt.Serve() }()
		t.Cleanup(func() { c.unmount(mnt, m, done) })
		c.dirs, c.nodes, c.mnts = append(c.dirs, dir), append(c.nodes, nd), append(c.mnts, mnt)
	}
	return c
}

// unmount takes one mount away: quietly if it can, by force if it is stuck.
func (c *cluster) unmount(mnt *kcache.Mount, m *locking.Manager, done chan struct{}) {
	if err := mnt.Unmount(false); err != nil {
		c.t.Errorf("%v: by force then", err)
		m.Close()
		if err := mnt.Unmount(true); err != nil {
			c.t.Error(err)
		}
	}
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		// A mount namespace made meanwhile (by `ip netns exec`, say) has a
		// copy of the mount, which is served as long as that lives.
		if copies, _ := filepath.Glob("/proc/[0-9]*/ns/mnt"); foreignNamespace(copies) {
			c.t.Log("the server goes on: another mount namespace appeared during the test")
			return
		}
		c.t.Error("the server did not end after the unmount")
		c.dump()
	}
}

// foreignNamespace reports whether a process lives in another mount namespace.
func foreignNamespace(links []string) bool {
	mine, _ := os.Readlink("/proc/self/ns/mnt")
	for _, l := range links {
		var pid int
		_, _ = fmt.Sscanf(l, "/proc/%d", &pid)
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
		if ns, err2 := os.Readlink(l); err == nil && err2 == nil && ns != mine && bytes.Contains(b, []byte(" fuse.m0 ")) {
			return true
		}
	}
	return false
}

// check runs one check of the client over the mounts.
func (c *cluster) check(name string, limit time.Duration) {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^$")
	cmd.Env = append(os.Environ(), "M0_CHECK="+name, "M0_MOUNTS="+strings.Join(c.dirs, ":"), "GOMAXPROCS=16",
		fmt.Sprint("M0_SEED=", *seedFlag), fmt.Sprint("M0_ROUNDS=", max(3, *rounds/c.slow)))
	c.command(cmd, limit)
}

// command runs a client and shows what everybody waits for if it hangs.
func (c *cluster) command(cmd *exec.Cmd, limit time.Duration) {
	c.t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	t0 := time.Now()
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-time.After(limit):
		c.dump()
		for k, m := range c.mnts { // a client in D state can be ended only so
			c.nodes[k].m.Close()
			_ = m.Unmount(true)
		}
		_ = cmd.Process.Kill()
		<-ended
		err = fmt.Errorf("no end after %v", limit)
	}
	if err != nil {
		c.t.Errorf("%v\n%s", err, out.String())
	} else if out.Len() != 0 {
		c.t.Logf("%s", strings.TrimSpace(out.String()))
	}
	c.report(time.Since(t0))
}

// report logs what the run cost.
func (c *cluster) report(d time.Duration) {
	for k, m := range c.mnts {
		s, l := m.Status(), &c.nodes[k].m.Counters
		c.t.Logf("node %d, %v: %d requests, %d notifies, %d epochs, %d retries, %d stuck; raises %d, passes %d (held %d, closed %d), cancels %d", k,
			d.Round(time.Millisecond), s.FuseRequests, s.Notifies, s.Epochs, s.Retries, s.Stuck, l.Raises.Load(), l.Passes.Load(), l.HeldPasses.Load(), l.ClosedPasses.Load(), l.Cancels.Load())
	}
}

// dump logs locks that are not at rest, and all goroutines.
func (c *cluster) dump() {
	for k, n := range c.nodes {
		for _, d := range n.m.Dump() {
			if d.InFlight != "" || d.Waiters != 0 || len(d.Flags) > 1 || d.Readers+d.Writers != 0 {
				c.t.Logf("node %d: %+v", k, d)
			}
		}
	}
	var b bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
	c.t.Logf("%s", b.String())
}

var variants = []struct {
	name string
	o    fakestack.Options
	f    faults
	one  bool // GOMAXPROCS=1
}{
	{name: "plain"},
	{name: "late-replies", f: faults{replyDelay: 2 * time.Millisecond}},
	{name: "late-callbacks", o: fakestack.Options{CallDelay: 500 * time.Microsecond, CallbackDelay: 500 * time.Microsecond}},
	{name: "one-cpu", one: true},
}

// TestCoherence runs every check over two mounts, in every variant.
func TestCoherence(t *testing.T) {
	for k := range variants {
		v := &variants[k]
		t.Run(v.name, func(t *testing.T) {
			if v.one {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			}
			o := v.o
			o.Seed = *seedFlag
			for _, name := range checkNames() {
				t.Run(name, func(t *testing.T) {
					newCluster(t, 2, o, &faults{replyDelay: v.f.replyDelay}).check(name, 60*time.Second)
				})
			}
		})
	}
}

// TestThreeNodes runs the checks that grow with the number of nodes.
func TestThreeNodes(t *testing.T) {
	for _, name := range []string{"append", "exclusive", "sharedDir", "mmapWords", "storm"} {
		t.Run(name, func(t *testing.T) {
			newCluster(t, 3, fakestack.Options{Seed: *seedFlag}, &faults{}).check(name, 60*time.Second)
		})
	}
}

// TestRun runs the command of -m0.run over two mounts.
func TestRun(t *testing.T) {
	if *runFlag == "" {
		t.Skip("only with -m0.run")
	}
	for k := range variants {
		v := &variants[k]
		t.Run(v.name, func(t *testing.T) {
			c := newCluster(t, 2, v.o, &faults{replyDelay: v.f.replyDelay})
			cmd := *runFlag
			for i, d := range c.dirs {
				cmd = strings.ReplaceAll(cmd, fmt.Sprintf("{%d}", i), d)
			}
			x := exec.CommandContext(context.Background(), "/bin/sh", "-c", cmd)
			c.command(x, 10*time.Minute)
		})
	}
}
