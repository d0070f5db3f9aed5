package refcount

import (
	"fmt"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

const what = "refcount tree"

// Tree is an open refcount tree. It holds its root block; Close it.
type Tree struct {
	m    *buffer.Meta
	root *buffer.Buf
}

// Record is a run of clusters with one count.
type Record struct {
	Cluster  uint32 // the first
	Clusters uint32
	Count    uint32 // references, at least 1
}

// End is the first cluster behind the record.
func (r Record) End() uint32 { return r.Cluster + r.Clusters }

// Open reads the tree whose root is block blkno, through m, which caches all its
// blocks. Errors: ondisk.ErrCorrupt, or that of the device.
func Open(m *buffer.Meta, blkno uint64) (Tree, error) {
	b, err := m.Read(blkno, ondisk.CheckRefcountBlock)
	if err != nil {
		return Tree{}, err
	}
	r := ondisk.RefcountBlock(b.Data)
	if f := r.Flags(); f&^ondisk.RefcountTree != 0 || r.Parent() != 0 || r.Count() == 0 {
		err := ondisk.Corruptf(what, blkno, "root with flags %#x, parent %d, used by %d inodes", f, r.Parent(), r.Count())
		b.Put()
		return Tree{}, err
	}
	return Tree{m, b}, nil
}

// Close gives the root back.
func (t *Tree) Close() {
	if t.root != nil {
		t.root.Put()
		t.root = nil
	}
}

// Generation is rf_generation: with the root's block number it names the tree's
// lock, and tells it from a tree that had the same block earlier.
func (t *Tree) Generation() uint32 { return t.block().Generation() }

// Inodes is the number of inodes that use the tree.
func (t *Tree) Inodes() uint32 { return t.block().Count() }

// Empty tells whether no cluster is counted.
func (t *Tree) Empty() bool { return !t.block().IsTree() && t.block().Records().Used() == 0 }

func (t *Tree) block() ondisk.RefcountBlock { return ondisk.RefcountBlock(t.root.Data) }

// leaves is the extent tree of a root with leaves.
func (t *Tree) leaves() extent.Tree { return extent.OfRefcount(t.m, t.root) }

func (t *Tree) corrupt(blkno uint64, format string, args ...any) error {
	return ondisk.Corruptf(what, blkno, format, args...)
}

// leaf is the block with the records around a cluster: the root, or a leaf.
type leaf struct {
	b    *buffer.Buf
	l    ondisk.RefcountList
	at   uint32 // e_cpos of the leaf's extent record
	root bool
}

// put gives the block back.
func (f *leaf) put() { f.b.Put() }

// find returns the leaf that cluster c belongs to.
func (t *Tree) find(c uint32) (leaf, error) {
	if !t.block().IsTree() {
		return leaf{b: t.root.Hold(), l: t.block().Records(), root: true}, nil
	}
	e := t.leaves()
	r, err := e.LookupHash(c)
	if err != nil {
		return leaf{}, err
	}
	return t.readLeaf(r)
}

// readLeaf reads the leaf that an extent record points to.
func (t *Tree) readLeaf(r extent.Run) (leaf, error) {
	b, err := t.m.Read(r.Blkno, ondisk.CheckRefcountBlock)
	if err != nil {
		return leaf{}, err
	}
	rb := ondisk.RefcountBlock(b.Data)
	if rb.Flags() != ondisk.RefcountLeaf || rb.Parent() != t.root.Blkno || rb.Generation() != t.Generation() || r.Blkno == t.root.Blkno {
		err := t.corrupt(r.Blkno, "leaf with flags %#x, parent %d, generation %#x; the root is %d with %#x",
			rb.Flags(), rb.Parent(), rb.Generation(), t.root.Blkno, t.Generation())
		b.Put()
		return leaf{}, err
	}
	return leaf{b: b, l: rb.Records(), at: r.Cpos}, nil
}

// record decodes record i of a block, with its place between the neighbours.
func (t *Tree) record(f *leaf, i int) (Record, error) {
	r, total := f.l.Rec(i), uint64(t.m.Geometry().TotalClusters)
	start, n := r.Cpos(), uint64(r.Clusters())
	bad := n == 0 || r.Refcount() == 0 || start == 0 || start >= total || n > total-start
	if i > 0 && !bad {
		p := f.l.Rec(i - 1)
		bad = p.Cpos() >= start || uint64(p.Clusters()) > start-p.Cpos()
	}
	if i+1 < int(f.l.Used()) && !bad {
		bad = f.l.Rec(i+1).Cpos() < start+n
	}
	if bad {
		return Record{}, t.corrupt(f.b.Blkno, "record %d: %d references to clusters %d +%d, or its neighbours", i, r.Refcount(), start, n)
	}
	return Record{uint32(start), uint32(n), r.Refcount()}, nil
}

// search returns the index of the record that holds cluster c.
func (t *Tree) search(f *leaf, c uint32) (int, Record, error) {
	lo, hi := 0, int(f.l.Used())
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if f.l.Rec(mid).Cpos() <= uint64(c) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo > 0 {
		r, err := t.record(f, lo-1)
		if err != nil || c-r.Cluster < r.Clusters {
			return lo - 1, r, err
		}
	}
	return 0, Record{}, t.corrupt(f.b.Blkno, "shared cluster %d has no record", c)
}

// Lookup returns the record that holds cluster c, which an extent with the
// REFCOUNTED flag maps: without a record the volume is corrupt.
func (t *Tree) Lookup(c uint32) (Record, error) {
	f, err := t.find(c)
	if err != nil {
		return Record{}, fmt.Errorf("%s %d: %w", what, t.root.Blkno, err)
	}
	defer f.put()
	_, r, err := t.search(&f, c)
	return r, err
}

// Walk calls fn for every record in order until it returns false.
func (t *Tree) Walk(fn func(Record) bool) error {
	each := func(f leaf) (bool, error) {
		defer f.put()
		for i := range int(f.l.Used()) {
			r, err := t.record(&f, i)
			if err != nil || !fn(r) {
				return false, err
			}
		}
		return true, nil
	}
	if !t.block().IsTree() {
		f, err := t.find(0)
		if err == nil {
			_, err = each(f)
		}
		return err
	}
	e := t.leaves()
	var inner error
	err := e.Walk(0, func(r extent.Run) bool {
		f, err := t.readLeaf(r)
		if err != nil {
			inner = err
			return false
		}
		more, err := each(f)
		inner = err
		return more && err == nil
	})
	if inner != nil {
		return inner
	}
	return err
}
