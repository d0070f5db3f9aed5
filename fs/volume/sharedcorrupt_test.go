package volume_test

import (
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/check"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/fs/volume"
)

// victims are the blocks that attributes and refcount trees consist of, and the
// dinodes that lead to them: all with a signature, and the first blocks of
// buckets, which have none but can be told by where their names begin.
func victims(data []byte, g *ondisk.Geometry) []int {
	var list []int
	for off := 3 * g.BlockSize; off < len(data); off += g.BlockSize {
		b := data[off : off+g.BlockSize]
		switch {
		case ondisk.HasSignature(b, ondisk.SigXattr), ondisk.HasSignature(b, ondisk.SigRefcount):
			list = append(list, off)
		case ondisk.HasSignature(b, ondisk.SigDinode):
			d := ondisk.Dinode(b)
			if d.HasFlag(ondisk.InodeValid) && !d.HasFlag(ondisk.InodeSystem) && d.DynFeatures()&(ondisk.DynHasXattr|ondisk.DynHasRefcount) != 0 {
				list = append(list, off)
			}
		case off%ondisk.XattrBucketSize == 0:
			h := ondisk.XattrHeader(data[off : off+ondisk.XattrBucketSize])
			if n := h.Count(); n > 0 && n < 200 && h.FreeStart() > 16*n && h.NumBuckets() < 20 && h.NameValueLen() > 0 {
				list = append(list, off)
			}
		}
	}
	return list
}

// TestDisguisedBucket deletes attributes whose bytes look like metadata blocks:
// names and values are a user's, and may be anything.
func TestDisguisedBucket(t *testing.T) {
	path := sharedImage(t, "1k-4k-ecc")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g, n := geometry(t, path), 0
	dev := loadMem(t, path)
	for _, off := range victims(data, g) {
		h := ondisk.XattrHeader(data[off : off+ondisk.XattrBucketSize])
		if off%ondisk.XattrBucketSize != 0 || !ondisk.CheckMatches(h, ondisk.CheckOffBucket) {
			continue
		}
		roots := make([]bool, len(h)) // bytes that the format needs
		for i := range int(h.Count()) {
			if e := h.Entry(i); !e.IsLocal() {
				at := int(e.NameOffset()) + ondisk.Pad4(int(e.NameLen()))
				for k := range 48 {
					roots[at+k] = true
				}
			}
		}
		for at := g.BlockSize; at < len(h); at += g.BlockSize {
			if tail := at + g.BlockSize - 48; !slices.Contains(roots[tail:tail+8], true) {
				copy(h[tail:], ondisk.SigDirTrailer)
				n++
			}
			if !slices.Contains(roots[at:at+8], true) {
				copy(h[at:], ondisk.SigDinode)
				n++
			}
		}
		ondisk.ComputeCheck(h, ondisk.CheckOffBucket)
		if _, err := dev.WriteAt(h, int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	if n < 10 {
		t.Fatalf("only %d blocks disguised", n)
	}
	if err := dev.Flush(); err != nil {
		t.Fatal(err)
	}
	dev.StartRecording()
	m := mountMem(t, dev, 5*time.Millisecond)
	for _, name := range []string{"/xa/buckets", "/xa/data", "/rf/xa", "/rf/xb"} {
		if err := m.unlink(name); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := m.Unmount(bg); err != nil {
		t.Fatal(err)
	}
	total := dev.Log().Len()
	for cut := 0; cut <= total; cut += 1 + total/25 {
		c, err := dev.CloneAt(cut, blockdev.Crash{Mode: blockdev.KeepAll})
		if err != nil {
			t.Fatal(err)
		}
		for orphans := uint64(1); orphans > 0; {
			m := mountMem(t, c, 0)
			time.Sleep(10 * time.Millisecond)
			if err := m.Unmount(bg); err != nil {
				t.Fatalf("cut at %d of %d: %v", cut, total, err)
			}
			rep, err := check.Run(bg, io.NewSectionReader(c, 0, c.Size()), check.Options{})
			if err != nil {
				t.Fatal(err)
			}
			orphans = rep.Summary.Orphans
		}
	}
}

// TestCorruptShared damages attributes, refcount trees and the inodes that have
// them, and then uses and deletes all files: whatever comes of it, it ends, and
// without a panic.
func TestCorruptShared(t *testing.T) {
	path := sharedImage(t, "512-4k")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g := geometry(t, path)
	spots := victims(data, g)
	files := sharedFiles(t, path)
	rng := rand.New(rand.NewPCG(41, 42))
	base := loadMem(t, path)
	const damages = 200
	failed := 0
	for range damages {
		dev := base.Clone()
		for range 1 + rng.IntN(4) {
			off := spots[rng.IntN(len(spots))]
			b := append([]byte(nil), data[off:off+g.BlockSize]...)
			for range 1 + rng.IntN(3) {
				at := rng.IntN(len(b))
				if rng.IntN(2) == 0 {
					at = rng.IntN(0x100) // headers and the first records
				}
				b[at] = []byte{0, 1, 0x7F, 0xFF, byte(rng.Uint32())}[rng.IntN(5)]
			}
			if _, err := dev.WriteAt(b, int64(off)); err != nil {
				t.Fatal(err)
			}
		}
		v, err := volume.Mount(bg, dev, volume.Options{Slot: -1})
		if err != nil {
			failed++
			continue
		}
		m := &mounted{v, t, "", dev}
		for name := range files {
			_ = m.write(name, []byte("written"), 5000)
			_ = m.truncate(name, 3000)
			_ = m.unlink(name)
		}
		if m.Unmount(bg) != nil {
			failed++
		}
	}
	if failed == 0 {
		t.Error("no damage was noticed")
	}
	t.Logf("%d of %d ended with an error", failed, damages)
}
