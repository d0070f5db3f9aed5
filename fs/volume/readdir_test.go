package volume_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/ocfuse/ocfuse/fs/volume"
	"github.com/ocfuse/ocfuse/stackglue/fakestack"
)

// TestReadDirPlusLoadsAhead: the inodes of a listing are in memory before it
// asks for them one by one, and each name is there once.
func TestReadDirPlusLoadsAhead(t *testing.T) {
	path := newImage(t, 64<<20)
	m := mount(t, path)
	const files = 300
	for k := range files {
		if err := m.touch(fmt.Sprintf("/file%03d", k)); err != nil {
			t.Fatal(err)
		}
	}
	m.umount()
	m = mount(t, path)
	names, begin := map[string]bool{}, uint64(0)
	pos := uint64(0)
	for more := true; more; {
		more = false
		left := 64
		err := m.ReadDirPlus(bg, m.Root(), pos, left, func(e volume.DirEntry) bool {
			if more = left == 0; more {
				return false
			}
			if left == 64 {
				begin = m.Cache().Stats().Reads
			}
			left, pos = left-1, e.Next
			if n := string(e.Name); n == "." || n == ".." {
				return true
			} else if names[n] {
				t.Errorf("%s was listed twice", n)
			} else {
				names[n] = true
			}
			i, err := m.Entry(bg, m.Root(), e.Ino, nil)
			if err != nil {
				t.Fatal(err)
			}
			i.Put()
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if n := m.Cache().Stats().Reads - begin; n > 2 { // the directory's own blocks
			t.Errorf("%d blocks were read while the names were handed out", n)
		}
	}
	if len(names) < files {
		t.Errorf("%d names, want %d", len(names), files)
	}
	m.umount()
}

// TestReadDirPlusWhileUnlinked: inodes loaded ahead do not keep what another
// node deletes meanwhile.
func TestReadDirPlusWhileUnlinked(t *testing.T) {
	c := newCluster(t, 2, fakestack.Options{})
	a, b := c.nodes[1], c.nodes[2]
	const files = 120
	for k := range files {
		if err := a.touch(fmt.Sprintf("/file%03d", k)); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		var err error
		for k := range files {
			err = errors.Join(err, a.unlink(fmt.Sprintf("/file%03d", k)))
		}
		done <- err
	}()
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		err := b.ReadDirPlus(bg, b.Root(), 0, 2*files, func(e volume.DirEntry) bool {
			if n := string(e.Name); n == "." || n == ".." {
				return true
			}
			i, err := b.Entry(bg, b.Root(), e.Ino, nil)
			if err != nil {
				t.Errorf("%s: %v", e.Name, err)
				return false
			}
			i.Put()
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	c.umount()
}
