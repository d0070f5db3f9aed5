package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocfuse/ocfuse/cmd/ocfuse/node"
)

// TestFlock: flock(2) holds between nodes.
func TestFlock(t *testing.T) {
	onEach(t, 3, func(t *testing.T, c *Cluster) {
		f := openAll(t, c, "lock", os.O_RDWR)
		fd := func(k int) int { return int(f[k].Fd()) }
		pairs(c, func(a, b int) {
			do(t, unix.Flock(fd(a), unix.LOCK_EX))
			want(t, "EX beside EX", unix.Flock(fd(b), unix.LOCK_EX|unix.LOCK_NB), unix.EAGAIN)
			want(t, "SH beside EX", unix.Flock(fd(b), unix.LOCK_SH|unix.LOCK_NB), unix.EAGAIN)
			do(t, unix.Flock(fd(a), unix.LOCK_SH))
			do(t, unix.Flock(fd(b), unix.LOCK_SH|unix.LOCK_NB))
			want(t, "EX beside SH", unix.Flock(fd(b), unix.LOCK_EX|unix.LOCK_NB), unix.EAGAIN)
			do(t, unix.Flock(fd(a), unix.LOCK_UN))
			do(t, unix.Flock(fd(b), unix.LOCK_EX|unix.LOCK_NB))
			do(t, unix.Flock(fd(b), unix.LOCK_UN))
		})
		interruptedWaiter(t, c, f)
		killedWaiter(t, c, f)
		closedHolder(t, c, f)
		killedHolder(t, c, f)
	})
}

// flockBusy counts who waits for flocks anywhere.
func flockBusy(c *Cluster) (waiters int, err error) {
	for _, n := range c.Nodes {
		if n.proc == nil {
			continue
		}
		list, err := n.locks()
		if err != nil {
			return 0, err
		}
		for _, l := range list {
			if strings.HasPrefix(l.Name, "F") {
				waiters += l.Waiters
			}
		}
	}
	return waiters, nil
}

// locks is what `ocfuse locks --json` says.
func (n *Node) locks(flags ...string) ([]node.LockView, error) {
	var list []node.LockView
	return list, n.call("locks", &list, flags...)
}

func waiters(c *Cluster, wanted int) func() error {
	return func() error {
		if got, err := flockBusy(c); err != nil || got != wanted {
			return fmt.Errorf("%d waiters, %w, want %d", got, err, wanted)
		}
		return nil
	}
}

// interruptedWaiter: flock(1) -w waits with a timer whose signal ends
// the call with EINTR. The wait leaves no lock behind.
func interruptedWaiter(t *testing.T, c *Cluster, f []*os.File) {
	do(t, unix.Flock(int(f[0].Fd()), unix.LOCK_EX))
	start := time.Now()
	err := exec.Command("flock", "-x", "-w", "0.3", c.path(1, "lock"), "true").Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("flock -w on node 2 beside the lock of node 1: %v, want exit code 1", err)
	}
	if d := time.Since(start); d < 200*time.Millisecond || d > 3*time.Second {
		t.Errorf("a wait of 0.3 s took %v", d)
	}
	within(t, 3*time.Second, "the interrupted wait is over", waiters(c, 0))
	do(t, unix.Flock(int(f[0].Fd()), unix.LOCK_UN))
	do(t, unix.Flock(int(f[2].Fd()), unix.LOCK_EX|unix.LOCK_NB)) // not leaked to the waiter
	do(t, unix.Flock(int(f[2].Fd()), unix.LOCK_UN))
}

// killedWaiter: a program killed while it waits gets no lock.
func killedWaiter(t *testing.T, c *Cluster, f []*os.File) {
	do(t, unix.Flock(int(f[0].Fd()), unix.LOCK_EX))
	cmd := exec.Command("flock", "-x", c.path(1, "lock"), "true")
	do(t, cmd.Start())
	within(t, 3*time.Second, "flock(1) waits", waiters(c, 1))
	do(t, cmd.Process.Kill())
	_ = cmd.Wait() // killed
	within(t, 3*time.Second, "the killed wait is over", waiters(c, 0))
	do(t, unix.Flock(int(f[0].Fd()), unix.LOCK_UN))
	do(t, unix.Flock(int(f[2].Fd()), unix.LOCK_EX|unix.LOCK_NB))
	do(t, unix.Flock(int(f[2].Fd()), unix.LOCK_UN))
}

// wait takes EX on another node's file in the background.
func wait(f *os.File) <-chan error {
	done := make(chan error, 1)
	go func() {
		for {
			err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
			if err != syscall.EINTR {
				done <- err
				return
			}
		}
	}()
	return done
}

func granted(t *testing.T, what string, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		do(t, err)
	case <-time.After(5 * time.Second):
		t.Fatalf("%s: no lock for 5 s", what)
	}
}

// closedHolder: closing the file gives the lock up.
func closedHolder(t *testing.T, c *Cluster, f []*os.File) {
	g, err := os.OpenFile(c.path(0, "lock"), os.O_RDWR, 0)
	do(t, err)
	do(t, unix.Flock(int(g.Fd()), unix.LOCK_EX))
	done := wait(f[1])
	within(t, 3*time.Second, "node 2 waits", waiters(c, 1))
	do(t, g.Close())
	granted(t, "after the holder closed", done)
	do(t, unix.Flock(int(f[1].Fd()), unix.LOCK_UN))
}

// killedHolder: the lock of a node that is killed goes to who waits.
func killedHolder(t *testing.T, c *Cluster, f []*os.File) {
	do(t, unix.Flock(int(f[2].Fd()), unix.LOCK_EX))
	done := wait(f[0])
	within(t, 3*time.Second, "node 1 waits", waiters(c, 1))
	c.Nodes[2].Kill()
	granted(t, "after the holder's node was killed", done)
	do(t, unix.Flock(int(f[0].Fd()), unix.LOCK_UN))
}
