package badinput

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/mkfs"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/fs/volume"
	_ "github.com/ocfuse/ocfuse/stacks/local"
)

var bg = context.Background()

// image is a volume to damage.
type image struct {
	name  string
	dev   *blockdev.Mem
	geo   *ondisk.Geometry
	spots []int64 // byte offsets of its metadata blocks
}

// makeImages makes volumes with all kinds of inodes in them: left cleanly, left
// as a crash leaves them, with small blocks, and with block checks.
func makeImages(t testing.TB) []*image {
	t.Helper()
	return []*image{
		makeImage(t, "clean", mkfs.Options{BlockSize: 1024, ClusterSize: 4096}, false),
		makeImage(t, "crashed", mkfs.Options{BlockSize: 1024, ClusterSize: 4096}, true),
		makeImage(t, "small blocks", mkfs.Options{BlockSize: 512, ClusterSize: 4096, Features: "noinline-data"}, false),
		makeImage(t, "metaecc", mkfs.Options{BlockSize: 4096, ClusterSize: 4096, Features: "metaecc"}, false),
	}
}

func makeImage(t testing.TB, name string, o mkfs.Options, crash bool) *image {
	t.Helper()
	dev := blockdev.NewMem(48<<20, blockdev.MemOptions{})
	o.Local, o.JournalSize = true, 4<<20
	o.Identity = mkfs.Identity{UUID: [16]byte{1, 2, 3}, Generation: 77, DxSeed: [3]uint32{1, 2, 3}, Time: time.Unix(1700000000, 0)}
	if err := mkfs.Format(bg, dev, o); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	v, err := volume.Mount(bg, dev, volume.Options{Slot: -1})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if err := populate(v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	used := dev
	if crash {
		if err := v.Sync(bg); err != nil {
			t.Fatal(err)
		}
		used = dev.Crash(blockdev.Crash{Mode: blockdev.KeepAll})
	}
	if err := v.Unmount(bg); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	im := &image{name: name, dev: used.Clone()}
	if im.geo, _, err = ondisk.FindSuper(im.dev); err != nil {
		t.Fatal(err)
	}
	im.spots = findSpots(t, im)
	return im
}

// populate makes directories with and without an index, files with one extent
// and with a tree, holes, symlinks in and out of line, and special files.
func populate(v *volume.Volume) error {
	root := v.Root()
	var err error
	make1 := func(d *volume.Inode, name string, n volume.NewInode) *volume.Inode {
		if err != nil {
			return root
		}
		var i *volume.Inode
		if i, err = v.Create(bg, d, []byte(name), n, nil); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
			return root
		}
		return i
	}
	file, folder := volume.NewInode{Mode: ondisk.ModeRegular | 0o644}, volume.NewInode{Mode: ondisk.ModeDir | 0o755}
	write := func(i *volume.Inode, n int, off int64) {
		if err == nil {
			_, _, err = v.Write(bg, i, make([]byte, n), off, 0, nil)
		}
	}
	many := make1(root, "many", folder)
	for n := range 250 {
		f := make1(many, fmt.Sprintf("a file with a rather long name %04d", n), file)
		write(f, 100, 0)
		f.Put()
	}
	a, b := make1(root, "frag-a", file), make1(root, "frag-b", file)
	for n := range int64(300) { // two files in turn: many extents
		write(a, 4096, 2*n*4096)
		write(b, 4096, 2*n*4096)
	}
	a.Put()
	b.Put()
	inline, big := make1(root, "inline", file), make1(root, "big", file)
	write(inline, 50, 0)
	write(big, 200000, 1<<20)
	if err == nil {
		err = v.Link(bg, big, root, []byte("hard"), nil)
	}
	inline.Put()
	big.Put()
	d := root
	for n := range 4 {
		next := make1(d, fmt.Sprintf("deep%d", n), folder)
		if d != root {
			d.Put()
		}
		d = next
	}
	make1(d, "leaf", file).Put()
	d.Put()
	many.Put()
	make1(root, "short", volume.NewInode{Mode: ondisk.ModeSymlink | 0o777, Target: []byte("big")}).Put()
	make1(root, "long", volume.NewInode{Mode: ondisk.ModeSymlink | 0o777, Target: make1k()}).Put()
	make1(root, "fifo", volume.NewInode{Mode: 0o010644}).Put()
	return err
}

// make1k is a target too long for the fast form.
func make1k() []byte {
	p := make([]byte, 1000)
	for i := range p {
		p[i] = "abcdefg/"[i%8]
	}
	return p
}

// findSpots lists the blocks that hold metadata: those with a signature, blocks
// of directories, the slot map's and the journal's first.
func findSpots(t testing.TB, im *image) []int64 {
	t.Helper()
	bs := im.geo.BlockSize
	var list []int64
	all := make([]byte, im.dev.Size())
	if _, err := im.dev.ReadAt(all, 0); err != nil {
		t.Fatal(err)
	}
	for off := 2 * bs; off < len(all); off += bs {
		if isMeta(all[off : off+bs]) {
			list = append(list, int64(off))
		}
	}
	if len(list) < 300 {
		t.Fatalf("%s: only %d metadata blocks found", im.name, len(list))
	}
	return list
}

func isMeta(b []byte) bool {
	if _, ok := ondisk.CheckOffset(string(b[:8])); ok {
		return true
	}
	journal := b[0] == 0xC0 && b[1] == 0x3B && b[2] == 0x39 && b[3] == 0x98
	return journal || ondisk.DirBlock(b).Trailer().HasSignature()
}
