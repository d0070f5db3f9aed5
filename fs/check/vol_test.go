package check

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// volume is a sparse volume in memory: blocks that are not there are zero.
type volume struct {
	bs     int
	size   int64
	blocks map[uint64][]byte
	broken uint64 // reads of this block fail, unless 0
	g      *ondisk.Geometry
}

func (v *volume) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= v.size {
			return n, io.EOF
		}
		if v.broken != 0 && uint64(at)/uint64(v.bs) == v.broken {
			return n, errors.New("medium error")
		}
		in := int(at % int64(v.bs))
		want := min(len(p)-n, v.bs-in, int(v.size-at))
		if b, ok := v.blocks[uint64(at)/uint64(v.bs)]; ok {
			copy(p[n:n+want], b[in:])
		} else {
			clear(p[n : n+want])
		}
		n += want
	}
	return n, nil
}

// loadVolume reads a file made by testdata/extract.go.
func loadVolume(t testing.TB, name string) *volume {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".vol.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	v := &volume{bs: int(le.Uint32(data)), blocks: map[uint64][]byte{}}
	v.size = int64(le.Uint64(data[4:])) * int64(v.bs)
	for data = data[12:]; len(data) > 0; data = data[8+v.bs:] {
		v.blocks[le.Uint64(data)] = data[8 : 8+v.bs : 8+v.bs]
	}
	if v.g, _, err = ondisk.FindSuper(v); err != nil {
		t.Fatal(err)
	}
	return v
}

// clone is a volume whose blocks can be changed without touching v's.
func (v *volume) clone() *volume {
	c := *v
	c.blocks = maps.Clone(v.blocks)
	return &c
}

// get is block blkno, to be read only.
func (v *volume) get(blkno uint64) []byte {
	if b, ok := v.blocks[blkno]; ok {
		return b
	}
	return make([]byte, v.bs)
}

// edit changes block blkno and then makes its block check right again, as a
// writer with a bug would.
func (v *volume) edit(blkno uint64, change func(b []byte)) {
	b := bytes.Clone(v.get(blkno))
	off, ok := ondisk.CheckOffset(string(b[:8]))
	if tail := ondisk.CheckOffTail(v.bs); !ok && ondisk.CheckMatches(b, tail) {
		off, ok = tail, true // a directory or quota block
	}
	change(b)
	if v.g.HasMetaECC() && ok {
		ondisk.ComputeCheck(b, off)
	}
	v.blocks[blkno] = b
}

// editBucket changes the xattr bucket that starts at blkno.
func (v *volume) editBucket(blkno uint64, change func(h ondisk.XattrHeader)) {
	h := make(ondisk.XattrHeader, ondisk.XattrBucketSize)
	if _, err := v.ReadAt(h, v.g.ByteOfBlock(blkno)); err != nil {
		panic(err)
	}
	change(h)
	if v.g.HasMetaECC() {
		ondisk.ComputeCheck(h, ondisk.CheckOffBucket)
	}
	for i := 0; i < len(h); i += v.bs {
		v.blocks[blkno+uint64(i/v.bs)] = h[i : i+v.bs]
	}
}

// inode changes the dinode at blkno.
func (v *volume) inode(blkno uint64, change func(d ondisk.Dinode)) {
	v.edit(blkno, func(b []byte) { change(b) })
}

// find is the first block, in order, that match accepts.
func (v *volume) find(t testing.TB, what string, match func(blkno uint64, b []byte) bool) uint64 {
	t.Helper()
	for _, blkno := range slices.Sorted(maps.Keys(v.blocks)) {
		if match(blkno, v.blocks[blkno]) {
			return blkno
		}
	}
	t.Fatalf("no %s in the volume", what)
	return 0
}

// findInode is the first valid inode that match accepts.
func (v *volume) findInode(t testing.TB, what string, match func(d ondisk.Dinode) bool) uint64 {
	t.Helper()
	return v.find(t, what, func(blkno uint64, b []byte) bool {
		d := ondisk.Dinode(b)
		return ondisk.HasSignature(b, ondisk.SigDinode) && d.Blkno() == blkno && d.HasFlag(ondisk.InodeValid) && match(d)
	})
}

// lookup is the inode of name in directory dir.
func (v *volume) lookup(t testing.TB, dir uint64, name string) uint64 {
	t.Helper()
	c := newChecker(context.Background(), v, v.g, Options{MaxProblems: 10})
	var ino uint64
	if err := c.eachName(ondisk.Dinode(v.get(dir)), func(n string, i uint64) {
		if n == name {
			ino = i
		}
	}); err != nil || ino == 0 {
		t.Fatalf("no %q in directory %d: %v", name, dir, err)
	}
	return ino
}

// sys is the inode of a system file.
func (v *volume) sys(t testing.TB, kind ondisk.SystemFile, slot int) uint64 {
	t.Helper()
	return v.lookup(t, v.g.SystemDirBlkno, ondisk.SystemInodeName(kind, slot))
}

// run checks the volume.
func (v *volume) run(t testing.TB) *Report {
	t.Helper()
	r, err := Run(context.Background(), v, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
