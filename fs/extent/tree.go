package extent

import (
	"errors"
	"fmt"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// Kinds of failure, for errors.Is. Corrupt trees give ondisk.ErrCorrupt.
var (
	// ErrMapped: an insertion covers clusters that are mapped already.
	ErrMapped = errors.New("extent range is already mapped")
	// ErrHole: flags or clusters of a range were to be changed that is not mapped.
	ErrHole = errors.New("extent range is not mapped")
	// ErrTooDeep: the tree would need more levels than the format allows.
	ErrTooDeep = errors.New("extent tree is full: too many fragments")
	// ErrNotTree: the root holds something else (inline data, inline index).
	ErrNotTree = errors.New("no extent tree")
	// ErrRange: an argument is outside what a record can hold or the volume has.
	ErrRange = errors.New("bad extent range")
)

// Run is a leaf record or a hole: Clusters logical clusters from Cpos on, whose
// data begins at block Blkno (0: a hole). Flags are the ondisk.Extent* bits.
type Run struct {
	Cpos     uint32
	Clusters uint32
	Flags    uint8
	Blkno    uint64
}

// Hole reports that nothing is allocated.
func (r Run) Hole() bool { return r.Blkno == 0 }

// End is the first logical cluster behind the run; up to 2^32.
func (r Run) End() uint64 { return uint64(r.Cpos) + uint64(r.Clusters) }

// Unwritten reports allocated clusters that read as zeros.
func (r Run) Unwritten() bool { return r.Flags&ondisk.ExtentUnwritten != 0 }

// Refcounted reports clusters that must be copied before they are written.
func (r Run) Refcounted() bool { return r.Flags&ondisk.ExtentRefcounted != 0 }

// From returns the part of r from logical cluster cpos on, which lies inside r;
// bpc is the number of blocks per cluster.
func (r Run) From(cpos uint32, bpc uint32) Run {
	skip := cpos - r.Cpos
	r.Cpos, r.Clusters = cpos, r.Clusters-skip
	if r.Blkno != 0 {
		r.Blkno += uint64(skip) * uint64(bpc)
	}
	return r
}

func (r Run) String() string {
	if r.Hole() {
		return fmt.Sprintf("[%d +%d hole]", r.Cpos, r.Clusters)
	}
	return fmt.Sprintf("[%d +%d -> block %d flags %#x]", r.Cpos, r.Clusters, r.Blkno, r.Flags)
}

// MetaBlock names a metadata block and the bit it came from, as stored in the
// *_suballoc_slot, _bit and _loc fields.
type MetaBlock struct {
	Blkno uint64
	Slot  uint16 // whose suballocator; ondisk.SlotGlobal: global_inode_alloc
	Bit   uint16 // in the group
	Loc   uint64 // the group descriptor, if the group is discontiguous; else 0
}

// Group is the descriptor of the group the block belongs to.
func (b MetaBlock) Group() uint64 {
	if b.Loc != 0 {
		return b.Loc
	}
	return b.Blkno - uint64(b.Bit)
}

// MetaSource hands out metadata blocks that were reserved before the handle was
// started. It does not fail for space then.
type MetaSource interface {
	ClaimMeta(tx *journal.Handle) (MetaBlock, error)
}

// MetaSink collects metadata blocks that a change freed. They are given back to
// their suballocator in a following transaction.
type MetaSink interface {
	FreeMeta(MetaBlock)
}

// Tree is an extent tree. It is valid as long as the root buffer is held.
type Tree struct {
	m    *buffer.Meta
	root *buffer.Buf
	kind kind
	// ebCap overrides the capacity of new extent blocks, so that tests get deep
	// trees from few records; 0 is the block's own.
	ebCap int
}

// OfInode is the data tree of the dinode in di.
func OfInode(m *buffer.Meta, di *buffer.Buf) Tree { return Tree{m: m, root: di, kind: inodeKind{}} }

// OfDxRoot is the tree of a directory index whose entries are not inline.
func OfDxRoot(m *buffer.Meta, root *buffer.Buf) Tree { return Tree{m: m, root: root, kind: dxKind{}} }

// OfXattrValue is the tree of an xattr value; its root lies at byte off of the
// block in b (a dinode, an xattr block or a block of a bucket).
func OfXattrValue(m *buffer.Meta, b *buffer.Buf, off int) Tree {
	return Tree{m: m, root: b, kind: valueKind(off)}
}

// OfXattrTree is the bucket tree of an indexed xattr block.
func OfXattrTree(m *buffer.Meta, root *buffer.Buf) Tree {
	return Tree{m: m, root: root, kind: xattrKind{}}
}

// OfRefcount is the tree of a refcount root with the TREE flag.
func OfRefcount(m *buffer.Meta, root *buffer.Buf) Tree {
	return Tree{m: m, root: root, kind: refcountKind{}}
}

// Depth is l_tree_depth of the root.
func (t *Tree) Depth() int { return int(t.kind.list(t.root.Data).Depth()) }

// Clusters is the root's cluster counter.
func (t *Tree) Clusters() uint32 { return t.kind.clusters(t.root.Data) }

// corrupt reports a bad node at blkno.
func (t *Tree) corrupt(blkno uint64, format string, args ...any) error {
	return ondisk.Corruptf(t.kind.what(), blkno, format, args...)
}

// capacity of a new extent block, in records.
func (t *Tree) capacity() int {
	if t.ebCap > 0 {
		return t.ebCap
	}
	return t.m.Geometry().EBExtents()
}

// rootList returns the root's list after the checks that the block validators
// cannot make because they do not know what the block is used for.
func (t *Tree) rootList() (ondisk.ExtentList, error) {
	if !t.kind.isTree(t.root.Data) {
		return nil, fmt.Errorf("%s at block %d: %w", t.kind.what(), t.root.Blkno, ErrNotTree)
	}
	l := t.kind.list(t.root.Data)
	if d := l.Depth(); d > ondisk.MaxTreeDepth || int(l.NextFree()) > l.Space() || (d > 0 && l.NextFree() == 0) {
		return nil, t.corrupt(t.root.Blkno, "root of depth %d with %d records", d, l.NextFree())
	}
	return l, nil
}

// unit is the number of blocks one cluster of the tree's records stands for.
func (t *Tree) unit() uint64 {
	if t.kind.metaUnits() {
		return 1
	}
	return uint64(t.m.Geometry().Bpc)
}

// checkRun verifies that a record points to whole clusters inside the volume.
func (t *Tree) checkRun(r Run) error {
	g := t.m.Geometry()
	u := t.unit()
	switch {
	case r.Clusters == 0 || r.Clusters > ondisk.MaxLeafClusters || r.End() > 1<<32:
		return fmt.Errorf("%w: %v", ErrRange, r)
	case r.Blkno == 0 || r.Blkno&(u-1) != 0 || r.Blkno >= g.TotalBlocks || g.TotalBlocks-r.Blkno < uint64(r.Clusters)*u:
		return fmt.Errorf("%w: %v outside the volume or not aligned", ErrRange, r)
	}
	return nil
}

// record decodes leaf record i of the node at blkno.
func (t *Tree) record(l ondisk.ExtentList, i int, blkno uint64) (Run, error) {
	r := leafRec(l, i)
	if err := t.checkRun(r); err != nil {
		return Run{}, t.corrupt(blkno, "record %d: %v", i, err)
	}
	return r, nil
}

// leafRec decodes leaf record i without judging it.
func leafRec(l ondisk.ExtentList, i int) Run {
	e := l.Rec(i)
	return Run{Cpos: e.Cpos(), Clusters: uint32(e.Clusters()), Flags: e.Flags(), Blkno: e.Blkno()}
}
