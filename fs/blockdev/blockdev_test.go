package blockdev

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

// newFile makes an image file of n bytes in a directory of the real disk.
func newFile(t testing.TB, n int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dev.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(n); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, path string, o Options) *File {
	t.Helper()
	d, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// fill returns n bytes that depend on seed, at memory that is aligned or is not.
func fill(n int, seed uint64, alignedMem bool) []byte {
	b := AlignedBuf(n + 1)
	if !alignedMem {
		b = b[1:]
	}
	b = b[:n]
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// devices is every kind of device, 8 MiB, as the conformance test sees them.
func devices(t *testing.T) map[string]Device {
	const size = 8 << 20
	return map[string]Device{
		"direct":   open(t, newFile(t, size), Options{Claim: ClaimExclusive}),
		"buffered": open(t, newFile(t, size), Options{Buffered: true}),
		"mem":      NewMem(size, MemOptions{}),
		"memlog":   NewMem(size, MemOptions{Record: true}),
		"gated":    NewGated(NewMem(size, MemOptions{}), &testGate{}),
		"recorder": NewRecorder(open(t, newFile(t, size), Options{})),
		"plain":    plainDevice{NewMem(size, MemOptions{})},
	}
}

// plainDevice hides Zeroer.
type plainDevice struct{ Device }

func TestDeviceConformance(t *testing.T) {
	for name, d := range devices(t) {
		t.Run(name, func(t *testing.T) { testDevice(t, d) })
	}
}

func testDevice(t *testing.T, d Device) {
	model := make([]byte, d.Size())
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range 200 {
		n := 512 * (1 + rng.IntN(64))
		off := 512 * rng.Int64N((d.Size()-int64(n))/512+1)
		p := fill(n, uint64(i), i%2 == 0)
		var err error
		switch i % 4 {
		case 0, 1:
			var k int
			if k, err = d.WriteAt(p, off); err == nil && k != n {
				t.Fatalf("write returned %d of %d", k, n)
			}
		case 2:
			err = d.WriteFUA(p, off)
		case 3:
			err = ZeroRange(d, off, int64(n))
			clear(p)
		}
		if err != nil {
			t.Fatal(err)
		}
		copy(model[off:], p)
	}
	if err := d.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, al := range []bool{true, false} {
		got := fill(len(model), 1, al)
		if n, err := d.ReadAt(got, 0); err != nil || n != len(got) {
			t.Fatalf("read: %d, %v", n, err)
		}
		if !bytes.Equal(got, model) {
			t.Fatalf("contents differ (aligned %v)", al)
		}
	}
	if err := Discard(d, 0, 4096); err != nil {
		t.Fatal(err)
	}
	testRefusals(t, d)
}

func testRefusals(t *testing.T, d Device) {
	b := AlignedBuf(4096)
	for _, c := range []struct {
		off  int64
		n    int
		want error
	}{
		{1, 512, ErrAlign}, {512, 511, ErrAlign}, {256, 512, ErrAlign},
		{d.Size(), 512, ErrRange}, {d.Size() - 512, 1024, ErrRange},
		{-512, 512, ErrRange}, {1 << 62, 512, ErrRange}, {-1 << 63, 512, ErrRange},
	} {
		before := d.Stats()
		if _, err := d.ReadAt(b[:c.n], c.off); !errors.Is(err, c.want) {
			t.Errorf("read %d at %d: %v, want %v", c.n, c.off, err, c.want)
		}
		if _, err := d.WriteAt(b[:c.n], c.off); !errors.Is(err, c.want) {
			t.Errorf("write %d at %d: %v, want %v", c.n, c.off, err, c.want)
		}
		if err := d.WriteFUA(b[:c.n], c.off); !errors.Is(err, c.want) {
			t.Errorf("fua %d at %d: %v, want %v", c.n, c.off, err, c.want)
		}
		if err := ZeroRange(d, c.off, int64(c.n)); !errors.Is(err, c.want) {
			t.Errorf("zero %d at %d: %v, want %v", c.n, c.off, err, c.want)
		}
		if d.Stats() != before {
			t.Errorf("refused operations were counted: %+v", d.Stats())
		}
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	img := newFile(t, 1<<20)
	holder := open(t, img, Options{Claim: ClaimShared})
	if err := os.Symlink("/nonexistent", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		o          Options
		want       error
		text       string
	}{
		{"missing", filepath.Join(dir, "no"), Options{}, fs.ErrNotExist, "check the name"},
		{"dangling", filepath.Join(dir, "dangling"), Options{}, fs.ErrNotExist, "check the name"},
		{"directory", dir, Options{}, ErrNotDevice, "is a directory"},
		{"character device", "/dev/null", Options{}, ErrNotDevice, "character device"},
		{"too small", img, Options{MinSize: 2 << 20}, ErrTooSmall, "2097152 needed"},
		{"held", img, Options{Claim: ClaimExclusive}, ErrBusy, "unmount it"},
	} {
		_, err := Open(c.path, c.o)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	open(t, img, Options{Claim: ClaimShared}).Close()
	holder.Close()
	ex := open(t, img, Options{Claim: ClaimExclusive})
	if _, err := Open(img, Options{Claim: ClaimShared}); !errors.Is(err, ErrBusy) {
		t.Errorf("shared claim against an exclusive one: %v", err)
	}
	open(t, img, Options{ReadOnly: true}).Close()
	ex.Close()
}

func TestReadOnlyAndClosed(t *testing.T) {
	d := open(t, newFile(t, 1<<20), Options{ReadOnly: true})
	b := AlignedBuf(512)
	if _, err := d.WriteAt(b, 0); !errors.Is(err, ErrReadOnly) || !d.ReadOnly() {
		t.Errorf("write: %v", err)
	}
	if err := d.WriteFUA(b, 0); !errors.Is(err, ErrReadOnly) {
		t.Errorf("fua: %v", err)
	}
	if err := d.ZeroRange(0, 512); !errors.Is(err, ErrReadOnly) {
		t.Errorf("zero: %v", err)
	}
	if err := d.Discard(0, 512); !errors.Is(err, ErrReadOnly) {
		t.Errorf("discard: %v", err)
	}
	if err := d.Flush(); err != nil {
		t.Errorf("flush: %v", err)
	}
	w := open(t, newFile(t, 1<<20), Options{})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, rerr := w.ReadAt(b, 0)
	_, werr := w.WriteAt(b, 0)
	for what, err := range map[string]error{"read": rerr, "write": werr, "fua": w.WriteFUA(b, 0),
		"flush": w.Flush(), "zero": w.ZeroRange(0, 512), "close": w.Close()} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after close: %v", what, err)
		}
	}
	if err := w.Flush(); errors.Is(err, ErrFlushLost) {
		t.Error("closing must not count as a lost flush")
	}
}

// TestShrunkFile reads where a file ended after it was opened.
func TestShrunkFile(t *testing.T) {
	path := newFile(t, 1<<20)
	d := open(t, path, Options{})
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadAt(AlignedBuf(4096), 8192); !errors.Is(err, ErrRange) {
		t.Errorf("got %v", err)
	}
}

func TestOddFileSize(t *testing.T) {
	d := open(t, newFile(t, 4096+100), Options{})
	if d.Size() != 4096 {
		t.Errorf("size %d", d.Size())
	}
}

func TestTmpfsOrDirect(t *testing.T) {
	f, err := os.CreateTemp("/dev/shm", "blockdev")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	d := open(t, f.Name(), Options{})
	p := fill(4096, 3, false)
	if err := d.WriteFUA(p, 4096); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4096)
	if _, err := d.ReadAt(got, 4096); err != nil || !bytes.Equal(got, p) {
		t.Fatalf("read back: %v", err)
	}
	// Newer kernels give tmpfs O_DIRECT; then there is nothing to warn of.
	if d.memAlign == 1 && d.Warning() == "" {
		t.Error("page cache without a warning")
	}
}

func TestBuffers(t *testing.T) {
	for _, n := range []int{1, 512, 4095, 4096, 4097, 65536, 1 << 20, 4 << 20, 4<<20 + 1} {
		for range 3 {
			b := GetBuf(n)
			if len(b) != n || uintptr(unsafe.Pointer(&b[0]))%BufAlign != 0 {
				t.Fatalf("%d bytes: got %d at %p", n, len(b), &b[0])
			}
			PutBuf(b)
		}
		if b := AlignedBuf(n); len(b) != n || cap(b) != n || !aligned(b, BufAlign) {
			t.Fatalf("AlignedBuf(%d): %d, %d", n, len(b), cap(b))
		}
	}
	PutBuf(make([]byte, 100))
	PutBuf(nil)
	if AlignedBuf(0) != nil {
		t.Error("AlignedBuf(0)")
	}
	if n := testing.AllocsPerRun(100, func() { PutBuf(GetBuf(8192)) }); n != 0 && !raceEnabled {
		t.Errorf("%v allocations for a pooled buffer", n)
	}
}

// TestConcurrent has writers on disjoint ranges, readers and flushers together.
func TestConcurrent(t *testing.T) {
	for name, d := range devices(t) {
		t.Run(name, func(t *testing.T) {
			var wg sync.WaitGroup
			const per = 64 << 10
			for w := range 8 {
				wg.Go(func() {
					for i := range 16 {
						p := fill(4096, uint64(w*100+i), i%2 == 0)
						off := int64(w*per + i*4096)
						if _, err := d.WriteAt(p, off); err != nil {
							t.Error(err)
							return
						}
						if i%5 == 0 {
							if err := d.Flush(); err != nil {
								t.Error(err)
							}
						}
						got := make([]byte, 4096)
						if _, err := d.ReadAt(got, off); err != nil || !bytes.Equal(got, p) {
							t.Errorf("read own write: %v", err)
						}
					}
				})
			}
			wg.Wait()
			if s := d.Stats(); s.Writes != 8*16 || s.WriteBytes != 8*16*4096 || s.Reads != 8*16 || s.Flushes != 8*4 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func benchFile(b *testing.B) *File {
	d := open(b, newFile(b, 64<<20), Options{})
	if err := writeZeros(d, 0, d.Size()); err != nil {
		b.Fatal(err)
	}
	if err := d.Flush(); err != nil {
		b.Fatal(err)
	}
	return d
}

func BenchmarkDirect(b *testing.B) {
	const n = 4096
	ops := map[string]func(d *File, p []byte, off int64) error{
		"read":  func(d *File, p []byte, off int64) error { _, err := d.ReadAt(p, off); return err },
		"write": func(d *File, p []byte, off int64) error { _, err := d.WriteAt(p, off); return err },
		"fua":   func(d *File, p []byte, off int64) error { return d.WriteFUA(p, off) },
	}
	for _, name := range []string{"read", "write", "fua"} {
		for _, al := range []bool{true, false} {
			kind := "/aligned"
			if !al {
				kind = "/bounced"
			}
			b.Run(name+kind, func(b *testing.B) {
				d, p := benchFile(b), fill(n, 1, al)
				b.SetBytes(n)
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					if err := ops[name](d, p, int64(i)*n%d.Size()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
