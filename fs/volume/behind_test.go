package volume_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/volume"
	"github.com/ocfuse/ocfuse/stackglue/fakestack"
)

// noise returns n bytes that tell where they belong.
func noise(rng *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for k := range p {
		p[k] = byte(rng.Uint32())
	}
	return p
}

// behind writes p at off as the kernel's cached writes come.
func (m *mounted) behind(path string, p []byte, off int64) error {
	i, _, err := m.lookup(path)
	if err != nil {
		return err
	}
	defer m.put(i)
	_, n, err := m.Write(bg, i, p, off, volume.WriteBehind, nil)
	if err == nil && n != len(p) {
		err = fmt.Errorf("wrote %d of %d bytes", n, len(p))
	}
	return err
}

// TestWriteBehindSeenElsewhere: data that a node has not written to the device
// yet is seen by its own reads and by those of another node, and goes the right
// way when it is overwritten, cut off, punched out or deleted.
func TestWriteBehindSeenElsewhere(t *testing.T) {
	for _, args := range [][]string{{"-b", "4K", "-C", "4K"}, {"-b", "1K", "-C", "32K"}} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 2, fakestack.Options{}, args...)
			rng := rand.New(rand.NewPCG(7, 11))
			files := [3][]byte{}
			for f := range files {
				if err := c.nodes[1].touch(fmt.Sprintf("/f%d", f)); err != nil {
					t.Fatal(err)
				}
			}
			for step := range 150 {
				f := rng.IntN(len(files))
				if err := behindStep(rng, c.pick(rng), fmt.Sprintf("/f%d", f), &files[f]); err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
				if rng.IntN(3) > 0 {
					continue // so that writes follow each other
				}
				f = rng.IntN(len(files))
				if got, err := c.pick(rng).read(fmt.Sprintf("/f%d", f)); err != nil || !bytes.Equal(got, files[f]) {
					t.Fatalf("step %d: file %d: %v %s", step, f, err, diff(got, files[f]))
				}
			}
			for f := range files {
				if got, err := c.pick(rng).read(fmt.Sprintf("/f%d", f)); err != nil || !bytes.Equal(got, files[f]) {
					t.Fatalf("file %d at the end: %v %s", f, err, diff(got, files[f]))
				}
			}
			c.umount()
		})
	}
}

// behindStep changes a file and what it should hold.
func behindStep(rng *rand.Rand, m *mounted, path string, want *[]byte) error {
	const unit = 32 << 10
	size := len(*want)
	switch op := rng.IntN(20); {
	case op < 11 && size < 6<<20: // append whole blocks
		p := noise(rng, unit*(1+rng.IntN(12)))
		at := (size + unit - 1) / unit * unit
		*want = append(append(*want, make([]byte, at-size)...), p...)
		return m.behind(path, p, int64(at))
	case op < 14 && size > 0: // over what is there
		at := rng.IntN(size)
		p := noise(rng, 1+rng.IntN(min(size-at, 100000)))
		copy((*want)[at:], p)
		return m.behind(path, p, int64(at))
	case op < 16 && size > 0:
		*want = (*want)[:rng.IntN(size):size]
		return m.truncate(path, uint64(len(*want)))
	case op < 18 && size > 0:
		i, _, err := m.lookup(path)
		if err != nil {
			return err
		}
		defer m.put(i)
		at, n := rng.IntN(size), 1+rng.IntN(400000)
		clear((*want)[at:min(size, at+n)])
		return m.Fallocate(bg, i, volume.FallocPunchHole|volume.FallocKeepSize, int64(at), int64(n), nil)
	case op == 19:
		*want = nil
		return errors.Join(m.unlink(path), m.touch(path))
	}
	return nil
}

// snapshot copies the image as a power cut would leave it.
func (m *mounted) snapshot() string {
	m.t.Helper()
	to := filepath.Join(m.t.TempDir(), "copy.img")
	src, err := os.Open(m.path)
	if err != nil {
		m.t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		m.t.Fatal(err)
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		m.t.Fatal(err)
	}
	return to
}

// TestWriteBehindOrdered: a commit, whoever asked for it, does not show clusters
// before their data is there, and fsync makes both durable.
func TestWriteBehindOrdered(t *testing.T) {
	path := newImage(t, 64<<20)
	m := mount(t, path)
	if err := errors.Join(m.touch("/f"), m.touch("/other")); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	var want []byte
	for range 12 { // the last buffer is not full
		p := noise(rng, 128<<10)
		if err := m.behind("/f", p, int64(len(want))); err != nil {
			t.Fatal(err)
		}
		want = append(want, p...)
	}
	other, _, err := m.lookup("/other")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.write("/other", []byte("x"), 0), m.Fsync(bg, other, false)); err != nil {
		t.Fatal(err)
	}
	m.put(other)
	after := mount(t, m.snapshot())
	if got, err := after.read("/f"); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("after a power cut: %v %s", err, diff(got, want))
	}
	after.umount()
	m.umount()
}

// brokenDevice fails writes of file data once it is told to.
type brokenDevice struct {
	blockdev.Device
	broken atomic.Bool
}

var errBroken = errors.New("broken")

func (d *brokenDevice) WriteAt(p []byte, off int64) (int, error) {
	if d.broken.Load() && len(p) >= 64<<10 {
		return 0, errBroken
	}
	return d.Device.WriteAt(p, off)
}

// TestWriteBehindFails: close and fsync tell that data could not be written, and
// it is never committed as if it had been.
func TestWriteBehindFails(t *testing.T) {
	path := newImage(t, 64<<20)
	raw, err := blockdev.Open(path, blockdev.Options{Claim: blockdev.ClaimShared})
	if err != nil {
		t.Fatal(err)
	}
	dev := &brokenDevice{Device: raw}
	v, err := volume.Mount(bg, dev, volume.Options{Slot: -1, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	m := &mounted{v, t, path, dev}
	i, _, err := m.lookup("/")
	if err != nil {
		t.Fatal(err)
	}
	m.put(i)
	if err := m.touch("/f"); err != nil {
		t.Fatal(err)
	}
	if i, _, err = m.lookup("/f"); err != nil {
		t.Fatal(err)
	}
	if err := m.Fsync(bg, i, false); err != nil {
		t.Fatal(err)
	}
	dev.broken.Store(true)
	if err := m.behind("/f", make([]byte, 128<<10), 0); err != nil {
		t.Fatalf("the write itself: %v", err)
	}
	if err := m.Flush(i); !errors.Is(err, errBroken) {
		t.Errorf("flush: %v", err)
	}
	if err := m.Fsync(bg, i, false); !errors.Is(err, errBroken) {
		t.Errorf("fsync: %v", err)
	}
	m.put(i)
	dev.broken.Store(false)
	if err := m.Unmount(bg); err == nil {
		t.Error("unmounted as if nothing had happened")
	}
	dev.Close()
	again := mount(t, path)
	if got, err := again.read("/f"); err != nil || len(got) != 0 {
		t.Errorf("%d bytes after a mount, %v", len(got), err)
	}
	again.umount()
}
