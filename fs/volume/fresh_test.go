package volume_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/ocfuse/ocfuse/stackglue/fakestack"
)

// lockCalls is how often a node went to its stack for locks.
func lockCalls(m *mounted) uint64 {
	c := &m.Locks().Counters
	return c.Raises.Load() + c.Lowers.Load() + c.Drops.Load()
}

// TestCreateWithoutMessages: making, moving and removing files in an own tree
// costs no lock call, though another node is there; then that one sees it all.
func TestCreateWithoutMessages(t *testing.T) {
	c := newCluster(t, 2, fakestack.Options{Seed: 6})
	a, b := c.nodes[1].mounted, c.nodes[2].mounted
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(a.mkdir("/a"))
	ok(a.touch("/a/first")) // the allocators' locks
	ok(a.write("/a/first", []byte("some"), 0))
	ok(a.mkdir("/a/sub"))
	before := lockCalls(a)
	for k := range 100 {
		f := fmt.Sprintf("/a/f%d", k)
		ok(a.touch(f))
		ok(a.write(f, []byte(f), 0))
		if k%3 == 0 {
			ok(a.rename(f, fmt.Sprintf("/a/sub/f%d", k), 0))
		} else if k%3 == 1 {
			ok(a.link(f, fmt.Sprintf("/a/sub/f%d", k)))
			ok(a.unlink(f))
		}
		ok(a.mkdir(f + "-dir"))
		ok(a.touch(f + "-dir/x"))
	}
	if n := lockCalls(a) - before; n > 10 { // groups of the allocators are new now and then
		t.Errorf("%d lock calls for 500 changes", n)
	}
	for k := range 100 {
		f := fmt.Sprintf("/a/f%d", k)
		at := f
		if k%3 != 2 {
			at = fmt.Sprintf("/a/sub/f%d", k)
		}
		got, err := b.read(at)
		if err != nil || string(got) != f {
			t.Fatalf("the other node reads %s: %q, %v", at, got, err)
		}
		ok(b.write(at, []byte("B"), 0))
		if got, err = a.read(at); err != nil || string(got) != "B"+f[1:] {
			t.Fatalf("read back %s: %q, %v", at, got, err)
		}
		ok(b.unlink(f + "-dir/x"))
		ok(a.rmdir(f + "-dir"))
	}
	c.umount()
}

// TestCreateStorm: both nodes make and remove files in each other's directories
// and read them there.
func TestCreateStorm(t *testing.T) {
	c := newCluster(t, 2, fakestack.Options{Seed: 7})
	for _, d := range []string{"/d1", "/d2"} {
		if err := c.nodes[1].mkdir(d); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for _, n := range c.numbers() {
		m := c.nodes[n].mounted
		for w := range 2 {
			wg.Go(func() {
				for k := range 60 {
					f := fmt.Sprintf("/d%d/n%d-%d-%d", 1+(k+w)%2, n, w, k)
					if err := storm(m, c.nodes[3-n].mounted, f, k); err != nil {
						t.Errorf("node %d: %s: %v", n, f, err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	c.umount()
}

// storm is the life of one file, which other meets at times.
func storm(m, other *mounted, f string, k int) error {
	if err := m.touch(f); err != nil {
		return err
	}
	if err := m.write(f, []byte(f), 0); err != nil {
		return err
	}
	if k%3 == 0 {
		if got, err := other.read(f); err != nil || string(got) != f {
			return fmt.Errorf("the other node reads %q, %v", got, err)
		}
	}
	switch k % 4 {
	case 0:
		return other.unlink(f)
	case 1:
		return m.unlink(f)
	case 2:
		if err := m.rename(f, f+"x", 0); err != nil {
			return err
		}
		return other.rename(f+"x", f, 0)
	}
	return nil
}

// TestOrphanNobodyElseKnows: a node that comes with the number of a file which
// another one made, uses and removed, all without asking anybody, does not
// delete it.
func TestOrphanNobodyElseKnows(t *testing.T) {
	c := newCluster(t, 2, fakestack.Options{Seed: 8})
	a, b := c.nodes[1].mounted, c.nodes[2].mounted
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(a.mkdir("/d"))
	ok(a.touch("/d/f"))
	data := bytes.Repeat([]byte("x"), 1<<20)
	ok(a.write("/d/f", data, 0))
	i, _, err := a.lookup("/d/f")
	ok(err)
	ok(a.unlink("/d/f"))
	ok(a.Journal().FullFlush(bg)) // on disk it is an orphan
	b.CheckNumber(i.Number())
	p := make([]byte, len(data))
	if n, err := a.Read(bg, i, p, 0, nil); err != nil || n != len(data) || !bytes.Equal(p, data) {
		t.Errorf("the file in use has gone: %d, %v", n, err)
	}
	ok(b.touch("/other"))
	ok(b.write("/other", data, 0)) // nor does it stop working
	i.Put()
	c.umount()
}
