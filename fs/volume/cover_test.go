package volume_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/ocfuse/ocfuse/fs/volume"
)

// covering records what a volume tells its Cover.
type covering struct {
	ex      bool   // what NeedsEX says
	covered []bool // the arguments of Covered
	refuse  int    // how many times Covered says no; ex rises then
	done    func(at int64, n int, err error)
}

func (c *covering) NeedsEX() bool { return c.ex }

func (c *covering) Covered(ex bool) bool {
	c.covered = append(c.covered, ex)
	if c.refuse > 0 {
		c.refuse, c.ex = c.refuse-1, true
		return false
	}
	return true
}

func (c *covering) Done(at int64, n int, err error) { c.done(at, n, err) }

// TestCover checks that a Read which is refused PR goes on with EX, that Done
// hears where an append went, and that dirty pages can come back while Done of
// a Write or Fallocate runs.
func TestCover(t *testing.T) {
	path := newImage(t, 64<<20)
	m := mount(t, path)
	if err := errors.Join(m.touch("/f"), m.write("/f", make([]byte, 10000), 0)); err != nil {
		t.Fatal(err)
	}
	i, _, err := m.lookup("/f")
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	c := &covering{refuse: 1, done: func(at int64, n int, err error) {
		calls++
		if at != 9000 || n != 1000 || err != nil {
			t.Errorf("Read told Done(%d, %d, %v)", at, n, err)
		}
	}}
	if n, err := m.Read(bg, i, make([]byte, 4096), 9000, c); n != 1000 || err != nil {
		t.Fatalf("Read: %d, %v", n, err)
	}
	if !slices.Equal(c.covered, []bool{false, true}) {
		t.Errorf("Read was covered with EX: %v, want no, then yes", c.covered)
	}
	back := func() {
		calls++
		at, n, err := m.Write(bg, i, []byte("dirty"), 10, volume.WriteCache, nil)
		if at != 10 || n != 5 || err != nil {
			t.Errorf("dirty pages: %d, %d, %v", at, n, err)
		}
	}
	c = &covering{done: func(at int64, n int, err error) {
		if at != 10000 || n != 3 || err != nil {
			t.Errorf("Write told Done(%d, %d, %v)", at, n, err)
		}
		back()
	}}
	if _, _, err := m.Write(bg, i, []byte("end"), 0, volume.WriteAppend, c); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.covered, []bool{true}) {
		t.Errorf("Write was covered with EX: %v, want yes", c.covered)
	}
	if err := m.Fallocate(bg, i, volume.FallocPunchHole|volume.FallocKeepSize, 0, 5000, back); err != nil {
		t.Fatal(err)
	}
	if calls != 3 {
		t.Errorf("Done was called %d times, want 3", calls)
	}
	m.put(i)
	m.umount()
	fsck(t, path)
}

// signalled is the context of a request whose thread got a signal that does
// not kill it: done, but not over.
type signalled struct{ context.Context }

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (signalled) Done() <-chan struct{} { return closed }
func (signalled) Err() error            { return nil }

// TestSignalled checks that such a signal ends no operation, not even one that
// waits for the journal.
func TestSignalled(t *testing.T) {
	path := newImage(t, 64<<20)
	m := mount(t, path)
	if err := m.touch("/f"); err != nil {
		t.Fatal(err)
	}
	i, _, err := m.lookup("/f")
	if err != nil {
		t.Fatal(err)
	}
	ctx := signalled{bg}
	for k := range int64(50) {
		if _, _, err := m.Write(ctx, i, make([]byte, 5000), k*20000, 0, nil); err != nil {
			t.Fatal(err)
		}
		if err := m.Fsync(ctx, i, false); err != nil {
			t.Fatal(err)
		}
		if err := m.Sync(ctx); err != nil {
			t.Fatal(err)
		}
	}
	m.put(i)
	m.umount()
	fsck(t, path)
}
