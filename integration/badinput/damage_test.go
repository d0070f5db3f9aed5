package badinput

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/fs/volume"
)

// What one damaged volume may take from mount to unmount: on an idle machine it
// is some milliseconds and some megabytes. Go's fuzzing ends a process without a
// word when one input takes 10 s; fuzzDeadline comes first, and says where.
const (
	deadline     = 60 * time.Second
	fuzzDeadline = 9 * time.Second
	memoryLimit  = 1 << 30
)

// damage changes up to 8 metadata blocks of a copy of im, as the generator says:
// bytes of the headers or anywhere, whole blocks zeroed, exchanged, or copied to
// another place with and without their own number in them.
func damage(t testing.TB, im *image, r *rand.Rand) *blockdev.Mem {
	dev, bs := im.dev.Clone(), im.geo.BlockSize
	load := func(off int64) []byte {
		b := make([]byte, bs)
		if _, err := dev.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
		return b
	}
	store := func(b []byte, off int64, fix bool) {
		if at, ok := ondisk.CheckOffset(string(b[:8])); ok && fix && im.geo.HasMetaECC() {
			ondisk.ComputeCheck(b, at) // as a writer with a bug would
		}
		if _, err := dev.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	for range 1 + r.IntN(8) {
		off, other, fix := im.spots[r.IntN(len(im.spots))], im.spots[r.IntN(len(im.spots))], r.IntN(4) > 0
		if r.IntN(4) == 0 {
			off = im.spots[r.IntN(60)] // superblock, system files
		}
		b := load(off)
		switch r.IntN(10) {
		case 0:
			clear(b)
		case 1:
			c := load(other)
			store(b, other, fix)
			b = c
		case 2:
			b = load(other)
			if ondisk.HasSignature(b, ondisk.SigDinode) {
				ondisk.Dinode(b).SetBlkno(uint64(off) / uint64(bs))
			}
		case 3:
			b[r.IntN(bs)] ^= 1 << r.IntN(8)
		default:
			spoil(b, r)
		}
		store(b, off, fix)
	}
	if err := dev.Flush(); err != nil {
		t.Fatal(err)
	}
	return dev
}

// spoil sets some bytes of a block to values that matter in counts and pointers.
func spoil(b []byte, r *rand.Rand) {
	for range 1 + r.IntN(6) {
		at, n := r.IntN(len(b)), 1<<r.IntN(4)
		if r.IntN(3) > 0 {
			at = r.IntN(min(0x140, len(b)))
		}
		at &^= n - 1
		v := []uint64{0, 1, 2, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, ^uint64(0), 1 << 63, r.Uint64(), r.Uint64N(12000)}[r.IntN(12)]
		for k := range n {
			b[at+k] = byte(v >> (8 * k))
		}
	}
}

// visit is one use of a damaged volume; it collects what went wrong.
type visit struct {
	v      *volume.Volume
	seen   map[uint64]bool
	errors []error
	done   int
}

func (w *visit) note(what string, err error) bool {
	w.done++
	if err != nil {
		w.errors = append(w.errors, fmt.Errorf("%s: %w", what, err))
	}
	return err == nil
}

// walk looks at everything that can be reached from d, once.
func (w *visit) walk(d *volume.Inode, depth int) {
	var names []string
	err := w.v.ReadDir(bg, d, 0, func(e volume.DirEntry) bool {
		if n := string(e.Name); n != "." && n != ".." {
			names = append(names, n)
		}
		return len(names) < 2000
	})
	w.note("readdir", err)
	for _, n := range names {
		var a volume.Attr
		i, err := w.v.Lookup(bg, d, []byte(n), func(_ *volume.Inode, at *volume.Attr) {
			if at != nil {
				a = *at
			}
		})
		if !w.note("lookup "+n, err) {
			continue
		}
		if !w.seen[i.Number()] {
			w.seen[i.Number()] = true
			switch {
			case a.IsDir() && depth < 20:
				w.walk(i, depth+1)
			case a.IsSymlink():
				_, err = w.v.Readlink(bg, i, nil)
				w.note("readlink "+n, err)
			case a.IsRegular():
				w.read(i, n, int64(a.Size))
			}
		}
		if i != w.v.Root() {
			i.Put()
		}
	}
}

func (w *visit) read(i *volume.Inode, name string, size int64) {
	p := make([]byte, 64<<10)
	for _, off := range []int64{0, size / 2, max(0, size-100)} {
		_, err := w.v.Read(bg, i, p, off, nil)
		w.note("read "+name, err)
	}
	for _, hole := range []bool{false, true} {
		if _, err := w.v.Seek(bg, i, 0, hole); !errors.Is(err, volume.ErrNoData) {
			w.note("seek "+name, err)
		}
	}
}

// change writes a little, everywhere in the volume that populate made.
func (w *visit) change() {
	v, root := w.v, w.v.Root()
	file := func(name string, fn func(i *volume.Inode) error) {
		i, err := v.Lookup(bg, root, []byte(name), nil)
		if !w.note("lookup "+name, err) {
			return
		}
		w.note("change "+name, fn(i))
		if i != root {
			i.Put()
		}
	}
	write := func(off int64, n int) func(i *volume.Inode) error {
		return func(i *volume.Inode) error {
			_, _, err := v.Write(bg, i, make([]byte, n), off, 0, nil)
			return err
		}
	}
	size := uint64(5000)
	file("inline", write(60, 5000))
	file("frag-a", write(50000, 300000))
	file("frag-b", func(i *volume.Inode) error { return v.SetAttr(bg, i, volume.SetAttr{Size: &size}, nil) })
	file("big", func(i *volume.Inode) error {
		return v.Fallocate(bg, i, volume.FallocPunchHole|volume.FallocKeepSize, 1<<20+5000, 100000, nil)
	})
	file("many", func(d *volume.Inode) error {
		for n := range 40 {
			i, err := v.Create(bg, d, fmt.Appendf(nil, "new %d", n), volume.NewInode{Mode: ondisk.ModeRegular | 0o600}, nil)
			if err != nil {
				return err
			}
			i.Put()
			old := fmt.Appendf(nil, "a file with a rather long name %04d", 3*n)
			if err := v.Unlink(bg, d, old, nil); err != nil {
				return err
			}
		}
		return v.Rename(bg, d, []byte("new 1"), root, []byte("moved"), 0, nil)
	})
	w.note("rename", v.Rename(bg, root, []byte("deep0"), root, []byte("deeper"), 0, nil))
	for _, n := range []string{"frag-a", "hard", "big", "long", "short", "fifo", "inline"} {
		w.note("unlink "+n, v.Unlink(bg, root, []byte(n), nil))
	}
	w.note("sync", v.Sync(bg))
	_, err := v.StatFS(bg)
	w.note("statfs", err)
}

// use mounts a damaged volume, uses it, and leaves it.
func use(dev blockdev.Device) *visit {
	w := &visit{seen: map[uint64]bool{}}
	v, err := volume.Mount(bg, dev, volume.Options{Slot: -1, CommitInterval: 20 * time.Millisecond, CacheBytes: 4 << 20})
	if !w.note("mount", err) {
		return w
	}
	w.v = v
	w.walk(v.Root(), 0)
	w.change()
	w.walk(v.Root(), 0)
	w.note("unmount", v.Unmount(bg))
	return w
}

// bounded is use with limits on time and memory: what hangs, or allocates without
// bound, ends the test with all stacks.
func bounded(t testing.TB, what string, dev blockdev.Device, limit time.Duration) *visit {
	t.Helper()
	result := make(chan *visit, 1)
	go func() { result <- use(dev) }()
	timer, look := time.NewTimer(limit), time.NewTicker(200*time.Millisecond)
	defer timer.Stop()
	defer look.Stop()
	for {
		select {
		case w := <-result:
			for _, err := range w.errors {
				if len(err.Error()) < 10 || len(err.Error()) > 1000 {
					t.Errorf("%s: not a clear error: %q", what, err)
				}
			}
			return w
		case <-look.C:
			if n := heap(); n > memoryLimit {
				t.Fatalf("%s: %d MiB of memory in use\n%s", what, n>>20, stacks())
			}
		case <-timer.C:
			t.Fatalf("%s: hangs\n%s", what, stacks())
		}
	}
}

// heap is how many bytes the objects of this process take.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// stacks says where every goroutine stands.
func stacks() []byte {
	b := make([]byte, 1<<20)
	return b[:runtime.Stack(b, true)]
}

// settle waits for the goroutines of volumes that were given up to end.
func settle(t testing.TB, base int) {
	t.Helper()
	for range 200 {
		if runtime.NumGoroutine() <= base {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%d goroutines were there before, now %d:\n%s", base, runtime.NumGoroutine(), stacks())
}

func TestGoodImages(t *testing.T) {
	for _, im := range makeImages(t) {
		w := bounded(t, im.name, im.dev.Clone(), deadline)
		for _, err := range w.errors {
			t.Errorf("%s: %v", im.name, err)
		}
		if len(w.seen) < 250 {
			t.Errorf("%s: only %d inodes found", im.name, len(w.seen))
		}
	}
}

// TestSimDamage uses damaged volumes; OCFUSE_SIM_SEEDS says how many.
func TestSimDamage(t *testing.T) {
	seeds := 250
	if n, err := strconv.Atoi(os.Getenv("OCFUSE_SIM_SEEDS")); err == nil {
		seeds = n
	}
	first, _ := strconv.Atoi(os.Getenv("OCFUSE_SIM_FIRST"))
	images := makeImages(t)
	base := runtime.NumGoroutine()
	failed, refused := 0, 0
	for seed := first; seed < first+seeds; seed++ {
		im := images[seed%len(images)]
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(seed), 7))
			w := bounded(t, im.name, damage(t, im, r), deadline)
			for _, err := range w.errors {
				t.Log(err)
			}
			if w.v == nil {
				refused++
			} else if len(w.errors) > 0 {
				failed++
			}
		})
	}
	t.Logf("%d volumes: %d were refused, %d had errors", seeds, refused, failed)
	if seeds >= 100 && (refused == 0 || failed == 0) {
		t.Error("the damage does not reach what it should")
	}
	settle(t, base)
}

var fuzzImages = sync.OnceValue(func() []*image { return makeImages(panicking{}) })

// panicking lets images be made outside a test.
type panicking struct{ testing.TB }

func (panicking) Helper()                   {}
func (panicking) Fatal(a ...any)            { panic(fmt.Sprint(a...)) }
func (panicking) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

// FuzzDamage overwrites metadata: each 12 bytes are the block (its index among
// the metadata blocks), an offset, and up to eight bytes, of which the offset's
// upper bits say how many.
func FuzzDamage(f *testing.F) {
	f.Add(uint8(0), []byte{0, 0, 0x20, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0})
	f.Add(uint8(1), []byte{9, 0, 0x76, 0, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0})
	f.Add(uint8(2), []byte{50, 0, 0xC0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 60, 0, 0x30, 0, 1, 0, 0xFF, 0xFF, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, which uint8, change []byte) {
		images := fuzzImages()
		im := images[int(which)%len(images)]
		dev, b := im.dev.Clone(), make([]byte, im.geo.BlockSize)
		for ; len(change) >= 12; change = change[12:] {
			off := im.spots[(int(change[0])|int(change[1])<<8)%len(im.spots)]
			if _, err := dev.ReadAt(b, off); err != nil {
				t.Fatal(err)
			}
			arg := int(change[2]) | int(change[3])<<8
			copy(b[(arg&0xFFF)%len(b):], change[4:12-arg>>13])
			if at, ok := ondisk.CheckOffset(string(b[:8])); ok && im.geo.HasMetaECC() {
				ondisk.ComputeCheck(b, at)
			}
			if _, err := dev.WriteAt(b, off); err != nil {
				t.Fatal(err)
			}
		}
		bounded(t, im.name, dev, fuzzDeadline)
	})
}

// TestHugeSize reads and writes a file whose size is beyond what file offsets
// in clusters can tell: reading behind 2^32 clusters ended in a panic.
func TestHugeSize(t *testing.T) {
	im := makeImages(t)[0]
	v, err := volume.Mount(bg, im.dev, volume.Options{Slot: -1})
	if err != nil {
		t.Fatal(err)
	}
	i, err := v.Lookup(bg, v.Root(), []byte("big"), nil)
	if err != nil {
		t.Fatal(err)
	}
	off := int64(i.Number()) * int64(im.geo.BlockSize)
	i.Put()
	if err := v.Unmount(bg); err != nil {
		t.Fatal(err)
	}
	for _, size := range []uint64{1 << 44, 1<<44 + 1, 1 << 54, 1<<63 - 1, 1 << 63, ^uint64(0)} {
		dev, b := im.dev.Clone(), make([]byte, im.geo.BlockSize)
		if _, err := dev.ReadAt(b, off); err != nil {
			t.Fatal(err)
		}
		ondisk.Dinode(b).SetSize(size)
		if _, err := dev.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
		corrupt := false
		for _, err := range bounded(t, fmt.Sprint(size), dev, deadline).errors {
			corrupt = corrupt || errors.Is(err, ondisk.ErrCorrupt)
		}
		if want := size > 1<<44; corrupt != want {
			t.Errorf("size %d: corruption found: %v, want %v", size, corrupt, want)
		}
	}
}
