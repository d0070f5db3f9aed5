package m0

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocfuse/ocfuse/stackglue/fakestack"
)

// sh runs a shell command in another process.
func sh(t *testing.T, format string, args ...any) string {
	t.Helper()
	out, err := exec.Command("/bin/sh", "-ec", fmt.Sprintf(format, args...)).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v: %s", fmt.Sprintf(format, args...), err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestMountInside: a file system that a user mounted on a directory inside
// survives what other nodes do around it.
func TestMountInside(t *testing.T) {
	c := newCluster(t, 2, fakestack.Options{}, &faults{})
	a, b := c.dirs[0], c.dirs[1]
	other := t.TempDir()
	if err := os.WriteFile(other+"/inner", []byte("inner"), 0o600); err != nil {
		t.Fatal(err)
	}
	sh(t, "mkdir %s/dir %s/dir/sub; mount --bind %s %s/dir/sub; cat %s/dir/sub/inner", a, a, other, b, b)
	defer func() { _ = exec.Command("umount", "-l", b+"/dir/sub").Run() }()
	sh(t, "cd %s; for i in $(seq 1000); do : > f$i; : > dir/g$i; done", a)
	if got := sh(t, "cat %s/dir/sub/inner", b); got != "inner" {
		t.Errorf("the mount inside was lost: %q", got)
	}
	if n := sh(t, "ls %s | wc -l; ls %s/dir | wc -l", b, b); n != "1001\n1001" {
		t.Errorf("names: %q", n)
	}
	sh(t, "umount %s/dir/sub", b)
	// The engine hears of it through mountinfo, a little later.
	for end := time.Now().Add(5 * time.Second); !c.mnts[1].Status().NamesCached; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("names are not cached though nothing is mounted inside any more")
		}
	}
}

// TestForgotten: an inode that was only looked at is forgotten soon after
// another node removed it, so that its space can be freed.
func TestForgotten(t *testing.T) {
	c := newCluster(t, 2, fakestack.Options{}, &faults{})
	sh(t, "cd %s; for i in $(seq 50); do echo x > f$i; done; cd %s; cat f* > /dev/null; rm %s/f*", c.dirs[0], c.dirs[1], c.dirs[0])
	deadline := time.Now().Add(time.Second)
	for {
		left := 0
		for k, n := range c.nodes {
			n.mu.Lock()
			for id, i := range n.inodes {
				if id != 1 && i.k.Known() {
					left++
					_ = k
				}
			}
			n.mu.Unlock()
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d removed inodes are still known to a kernel after 1 s", left)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestKilledWaiter: a process that waits for a lock can be killed; one that
// gets a harmless signal goes on waiting and is served.
func TestKilledWaiter(t *testing.T) {
	c := newCluster(t, 2, fakestack.Options{}, &faults{})
	sh(t, "echo x > %s/f", c.dirs[0])
	i := c.nodes[0].get(2)
	if err := i.meta.Lock(t.Context(), ex, 0); err != nil {
		t.Fatal(err)
	}
	unlocked := false
	defer func() {
		if !unlocked {
			i.meta.Unlock(ex)
		}
	}()
	start := func() (*exec.Cmd, chan error) {
		x := exec.Command("cat", c.dirs[1]+"/f")
		if err := x.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- x.Wait() }()
		time.Sleep(100 * time.Millisecond) // it is waiting by then
		return x, ended
	}
	victim, dead := start()
	_ = victim.Process.Kill()
	select {
	case <-dead:
	case <-time.After(5 * time.Second):
		t.Error("a killed process goes on waiting for a lock")
	}
	patient, served := start()
	_ = patient.Process.Signal(unix.SIGWINCH)
	_ = patient.Process.Signal(unix.SIGCONT)
	select {
	case err := <-served:
		t.Errorf("a harmless signal ended the wait: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	i.meta.Unlock(ex)
	unlocked = true
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("after the wait: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("never served")
	}
}

// TestForcedUnmount: a mount whose requests wait for a lock that never comes
// can be taken away.
func TestForcedUnmount(t *testing.T) {
	c := newCluster(t, 2, fakestack.Options{}, &faults{})
	sh(t, "echo x > %s/f", c.dirs[0])
	i := c.nodes[0].get(2)
	if err := i.meta.Lock(t.Context(), ex, 0); err != nil {
		t.Fatal(err)
	}
	defer i.meta.Unlock(ex)
	x := exec.Command("cat", c.dirs[1]+"/f")
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	if err := c.mnts[1].Unmount(false); err == nil {
		t.Fatal("a mount in use was unmounted")
	}
	c.nodes[1].m.Close()
	if err := c.mnts[1].Unmount(true); err != nil {
		t.Error(err)
	}
	if err := x.Wait(); err == nil {
		t.Error("cat succeeded")
	}
}

// TestCachedReads: while the locks are held, looking again asks nobody.
func TestCachedReads(t *testing.T) {
	c := newCluster(t, 2, fakestack.Options{}, &faults{})
	sh(t, "mkdir %s/d; echo hello > %s/d/f; ln -s target %s/d/s", c.dirs[0], c.dirs[0], c.dirs[0])
	look := func() {
		for _, d := range c.dirs {
			sh(t, "stat %s/d/f %s/d/s > /dev/null; readlink %s/d/s > /dev/null; test ! -e %s/d/none", d, d, d, d)
		}
	}
	look()
	look()
	for k, m := range c.mnts {
		before, raises := m.Status(), c.nodes[k].m.Counters.Raises.Load()
		look()
		after := m.Status()
		if after.FuseRequests != before.FuseRequests || c.nodes[k].m.Counters.Raises.Load() != raises {
			t.Errorf("node %d: %v, before %v", k, after.ByKind, before.ByKind)
		}
	}
}
