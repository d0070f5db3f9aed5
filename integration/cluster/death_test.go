package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// writer writes small files, one after the other, and remembers which were
// acknowledged.
type writer struct {
	dir     string // on the mount
	acked   int
	longest time.Duration
	err     error // what ended it, if not stop
}

// text is what a writer puts into its k-th file.
func text(who string, k int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%s-%d.", who, k), 1+k*37%900)
}

func (w *writer) run(stop *atomic.Bool) {
	last := time.Now()
	for !stop.Load() {
		if w.err = promise(w.dir, w.acked); w.err != nil {
			return
		}
		w.acked++
		w.longest = max(w.longest, time.Since(last))
		last = time.Now()
	}
}

// promise writes and syncs a file under a temporary name, renames it, and
// syncs the folder.
func promise(dir string, k int) error {
	tmp, final := filepath.Join(dir, "tmp"), filepath.Join(dir, fmt.Sprint(k))
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.Write(text(filepath.Base(dir), k))
	if err := errors.Join(err, f.Sync(), f.Close(), os.Rename(tmp, final)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// allWrite lets every node write in a folder of its own until the function
// that is returned is called.
func allWrite(t *testing.T, c *Cluster, round string) (ws []*writer, stop func()) {
	t.Helper()
	var end atomic.Bool
	var wg sync.WaitGroup
	for k, n := range c.Nodes {
		w := &writer{dir: c.path(k, fmt.Sprintf("%s-node%d", round, n.N))}
		do(t, os.Mkdir(w.dir, 0o755))
		ws = append(ws, w)
	}
	d, err := os.Open(c.Nodes[0].Mnt)
	do(t, err)
	do(t, errors.Join(d.Sync(), d.Close()))
	for _, w := range ws {
		wg.Go(func() { w.run(&end) })
	}
	return ws, func() { end.Store(true); wg.Wait() }
}

// verify expects everything acknowledged to be whole, seen from node k.
func verify(t *testing.T, c *Cluster, k int, ws []*writer) {
	t.Helper()
	for _, w := range ws {
		who := filepath.Base(w.dir)
		for n := range w.acked {
			got, err := os.ReadFile(c.path(k, fmt.Sprintf("%s/%d", who, n)))
			if err != nil || !bytes.Equal(got, text(who, n)) {
				t.Fatalf("node %d: %s/%d of %d acknowledged: %d bytes, %v", c.Nodes[k].N, who, n, w.acked, len(got), err)
			}
		}
	}
}

// maxPause is how long a survivor may stand still.
const maxPause = 8 * time.Second

// TestKilledNode: while all write, one is killed. The others go on, nothing
// acknowledged is lost, and the dead one comes back.
func TestKilledNode(t *testing.T) {
	onEach(t, 3, func(t *testing.T, c *Cluster) { killOne(t, c, 1, 3) })
}

// TestKilledNodeOneThread is the same with nodes whose Go code runs on one
// thread at a time.
func TestKilledNodeOneThread(t *testing.T) {
	onEach(t, 3, func(t *testing.T, c *Cluster) { killOne(t, c, 2) }, "GOMAXPROCS=1")
}

func killOne(t *testing.T, c *Cluster, victims ...int) {
	for round, number := range victims {
		victim := c.Nodes[number-1]
		ws, stop := allWrite(t, c, fmt.Sprintf("round%d", round))
		time.Sleep(500 * time.Millisecond) // some writing
		victim.Kill()
		time.Sleep(time.Second) // some more, of the survivors
		victim.Detach()
		stop()
		for k, w := range ws {
			alive := c.Nodes[k] != victim
			if alive && (w.err != nil || w.acked == 0 || w.longest > maxPause) {
				t.Fatalf("node %d, a survivor: %d files, longest pause %v, %v", c.Nodes[k].N, w.acked, w.longest, w.err)
			}
			if !alive && w.err == nil {
				t.Fatalf("writing on the killed node went on")
			}
			t.Logf("node %d: %d files, longest pause %v", c.Nodes[k].N, w.acked, w.longest)
		}
		for k := range c.Nodes {
			if c.Nodes[k] != victim {
				verify(t, c, k, ws)
			}
		}
		victim.Mount()
		verify(t, c, number-1, ws)
	}
}

// TestAllKilled: all nodes die at once, as in a power cut of the hosts. The
// first to come back recovers all, or all come back together, and what was
// acknowledged is there.
func TestAllKilled(t *testing.T) {
	onEach(t, 3, func(t *testing.T, c *Cluster) {
		for round := range 3 {
			ws, stop := allWrite(t, c, fmt.Sprint("power", round))
			time.Sleep(500 * time.Millisecond)
			for _, n := range c.Nodes {
				do(t, n.proc.Process.Kill())
			}
			for _, n := range c.Nodes {
				n.killed()
				n.Detach()
			}
			stop()
			var wg sync.WaitGroup
			for k := range c.Nodes {
				n := c.Nodes[(k+round)%3]
				n.start()
				if round < 2 {
					n.mounted()
				} else {
					wg.Go(n.mounted)
				}
			}
			wg.Wait()
			for k := range c.Nodes {
				verify(t, c, k, ws)
			}
		}
	})
}

// notifying tells whether a thread of the process sits in a notify that waits
// for a page: what a killed node could not end from.
func notifying(pid int) bool {
	s := stacksOf(pid)
	return strings.Contains(s, "fuse_reverse_inval_inode") || strings.Contains(s, "fuse_notify")
}

// TestKilledInNotify kills a node while one of its threads is in the kernel,
// taking back a page that a request of the same node has locked. The node's
// guard must end it, and the others must go on.
func TestKilledInNotify(t *testing.T) {
	onEach(t, 2, func(t *testing.T, c *Cluster) {
		put(t, c.path(0, "f"), strings.Repeat("x", 1<<20))
		caught := 0
		for range 3 {
			if killInNotify(t, c) {
				caught++
			}
			put(t, c.path(0, "after"), "the other goes on")
			c.Nodes[1].Mount()
			expect(t, c.path(1, "after"), "the other goes on")
		}
		if caught == 0 {
			t.Error("no kill met a thread in a notify: this test has shown nothing")
		}
	})
}

// killInNotify lets both nodes fight for the pages of a file and kills the
// second one when a thread of it is seen in a notify, or after two seconds.
func killInNotify(t *testing.T, c *Cluster) (caught bool) {
	t.Helper()
	victim := c.Nodes[1]
	var stop atomic.Bool
	var wg sync.WaitGroup
	for k := range 4 {
		f, err := os.OpenFile(c.path(1, "f"), os.O_RDWR, 0)
		do(t, err)
		wg.Go(func() {
			defer f.Close()
			b := make([]byte, 128<<10)
			for off := int64(k); !stop.Load(); off++ {
				if _, err := f.ReadAt(b, off%7*(128<<10)); err != nil {
					return // killed
				}
			}
		})
	}
	w, err := os.OpenFile(c.path(0, "f"), os.O_RDWR, 0)
	do(t, err)
	failed := make(chan error, 1)
	wg.Go(func() {
		defer w.Close()
		for off := int64(0); !stop.Load(); off += 4096 {
			if _, err := w.WriteAt([]byte("y"), off%(1<<20)); err != nil {
				failed <- err
				return
			}
		}
	})
	for end := time.Now().Add(2 * time.Second); !caught && time.Now().Before(end); {
		caught = notifying(victim.proc.Process.Pid)
	}
	victim.Kill()
	victim.Detach()
	time.Sleep(200 * time.Millisecond)
	stop.Store(true)
	wg.Wait()
	select {
	case err := <-failed:
		t.Fatalf("the other node: %v", err)
	default:
	}
	return caught
}
