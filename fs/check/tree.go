package check

import (
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// tree is one extent tree being walked. The fields above the blank line are the
// caller's; the rest is the walk's result.
type tree struct {
	what      string   // "file data", "directory index", ... for messages
	owner     uint64   // inode (refcount tree: root block)
	sys       bool     // owner is a system inode
	blockRecs bool     // leaf records point to single metadata blocks (refcount)
	dense     bool     // no holes allowed
	mayShare  bool     // REFCOUNTED records allowed
	shared    *refTree // where REFCOUNTED records are counted; nil: not counted
	leaf      func(rec ondisk.ExtentRec)

	clusters  uint64 // sum of leaf lengths
	end       uint64 // logical end of the last leaf record
	lastStart uint64 // logical start of the last cluster with data
	records   int
	bad       bool // something was wrong: derived checks would repeat it
	lastLeaf  uint64
	nextLeaf  uint64 // h_next_leaf_blk of lastLeaf
}

// walk checks the whole tree below root list l, found in block at, and claims
// what it uses. Linux fs/ocfs2/alloc.c describes the shape.
func (c *checker) walk(t *tree, l ondisk.ExtentList, at, lastEb uint64) {
	depth := l.Depth()
	if len(l) < 16 || depth > ondisk.MaxTreeDepth {
		t.bad = true
		c.problem(ExtentListDepth, at, "Root of %s of inode %d has depth %d, at most %d", t.what, t.owner, depth, ondisk.MaxTreeDepth)
		return
	}
	c.node(t, l, at, 0, 1<<32)
	if t.lastLeaf != lastEb && !t.bad {
		c.problem(TreeLastEB, at, "%s of inode %d: last extent block is %d, the rightmost leaf is %d", t.what, t.owner, lastEb, t.lastLeaf)
	}
	if t.nextLeaf != 0 {
		c.problem(EBNextLeaf, t.lastLeaf, "Last extent block %d of %s of inode %d links to another leaf %d", t.lastLeaf, t.what, t.owner, t.nextLeaf)
	}
	if n := int(l.NextFree()); depth > 0 && n > 0 && !t.bad {
		r := l.Rec(n - 1)
		if end := uint64(r.Cpos()) + uint64(r.IntClusters()); end != t.end {
			c.problem(ExtentInterior, at, "%s of inode %d: interior records end at %d, the last leaf record at %d", t.what, t.owner, end, t.end)
		}
	}
}

// node checks one node whose records must lie in [lo, hi).
func (c *checker) node(t *tree, l ondisk.ExtentList, at, lo, hi uint64) {
	count, n := int(l.Count()), int(l.NextFree())
	if count > l.Space() {
		t.bad = true
		c.problem(ExtentListCount, at, "Extent list in block %d has capacity %d, room for %d", at, count, l.Space())
		count = l.Space()
	}
	if n > count {
		t.bad = true
		c.problem(ExtentListFree, at, "Extent list in block %d uses %d of %d records", at, n, count)
		n = count
	}
	if l.Depth() == 0 {
		for i := range n {
			c.leafRec(t, l.Rec(i), at, lo, hi)
		}
		return
	}
	if n == 0 {
		t.bad = true
		c.problem(ExtentEmptyNode, at, "Node of depth %d in block %d has no records", l.Depth(), at)
	}
	for i := range n {
		r := l.Rec(i)
		from, to := uint64(r.Cpos()), uint64(r.Cpos())+uint64(r.IntClusters())
		if i > 0 && from != lo || from < lo || to > hi || to <= from {
			c.problem(ExtentInterior, at, "%s of inode %d: interior record %d in block %d covers %d..%d, want it from %d and below %d",
				t.what, t.owner, i, at, from, to, lo, hi)
		}
		c.child(t, r.Blkno(), l.Depth()-1, from, to)
		lo = to
	}
}

// child descends into an extent block.
func (c *checker) child(t *tree, blkno uint64, depth uint16, lo, hi uint64) {
	fail := func(code, format string, args ...any) {
		t.bad = true
		c.problem(code, blkno, format, args...)
	}
	if !c.g.ValidBlock(blkno) {
		fail(ExtentBlknoRange, "%s of inode %d points to extent block %d, out of the volume", t.what, t.owner, blkno)
		return
	}
	b, ok := c.block(blkno)
	if !ok {
		t.bad = true
		return
	}
	e := ondisk.ExtentBlock(b)
	if !ondisk.HasSignature(b, ondisk.SigExtent) {
		fail(ExtentEBInvalid, "%s of inode %d points to block %d, which is no extent block", t.what, t.owner, blkno)
		return
	}
	c.ecc("extent block", blkno, b, ondisk.CheckOffExtent)
	if e.FSGeneration() != c.g.FSGeneration {
		fail(EBGen, "Extent block %d of inode %d has generation %#x, want %#x", blkno, t.owner, e.FSGeneration(), c.g.FSGeneration)
		return
	}
	if e.Blkno() != blkno {
		fail(EBBlkno, "Extent block at %d of inode %d says it is at %d", blkno, t.owner, e.Blkno())
	}
	if !c.claimMeta("Extent block", blkno, suballocOf{e.SuballocSlot(), e.SuballocBit(), e.SuballocLoc()}) {
		t.bad = true
		return
	}
	if e.List().Depth() != depth {
		fail(ExtentListDepth, "Extent block %d of inode %d has depth %d, want %d", blkno, t.owner, e.List().Depth(), depth)
		return
	}
	if depth == 0 {
		if t.lastLeaf != 0 && t.nextLeaf != blkno {
			c.problem(EBNextLeaf, t.lastLeaf, "Extent block %d of inode %d links to leaf %d, the next one is %d", t.lastLeaf, t.owner, t.nextLeaf, blkno)
		}
		t.lastLeaf, t.nextLeaf = blkno, e.NextLeafBlk()
		if e.List().NextFree() == 0 {
			c.problem(ExtentEmptyNode, blkno, "Leaf extent block %d of inode %d has no records", blkno, t.owner)
		}
	}
	c.node(t, e.List(), blkno, lo, hi)
}

// leafRec checks and claims one leaf record.
func (c *checker) leafRec(t *tree, r ondisk.ExtentRec, at, lo, hi uint64) {
	cpos, n := uint64(r.Cpos()), uint64(r.Clusters())
	t.records++
	c.rep.Summary.Extents++
	if n == 0 {
		t.bad = true
		c.problem(ExtentBlknoRange, at, "%s of inode %d has an empty extent at %d in block %d", t.what, t.owner, cpos, at)
		return
	}
	if cpos < t.end {
		t.bad = true
		c.problem(ExtentOverlap, at, "%s of inode %d: extent at %d overlaps the one before, which ends at %d", t.what, t.owner, cpos, t.end)
	} else if t.dense && cpos > t.end {
		t.bad = true
		c.problem(NoHoles, at, "%s of inode %d has a hole from %d to %d", t.what, t.owner, t.end, cpos)
	}
	if cpos < lo || cpos+n > hi {
		c.problem(ExtentInterior, at, "%s of inode %d: extent %d..%d in block %d is outside of %d..%d", t.what, t.owner, cpos, cpos+n, at, lo, hi)
	}
	c.recFlags(t, r, at)
	t.end, t.lastStart = cpos+n, cpos+n-1
	t.clusters += n
	if t.blockRecs {
		if n != 1 || !c.g.ValidBlock(r.Blkno()) {
			t.bad = true
			c.problem(ExtentBlknoRange, at, "%s of inode %d: record at %d of %d blocks points to block %d", t.what, t.owner, cpos, n, r.Blkno())
			return
		}
		t.leaf(r)
		return
	}
	if !c.recRange(t, r, at) {
		t.bad = true
		return
	}
	cl := run{uint64(c.g.BlocksToClusters(r.Blkno())), n}
	refcounted := t.mayShare && r.Flags()&ondisk.ExtentRefcounted != 0
	c.claimClusters(t.owner, t.sys, cl, refcounted)
	if refcounted && t.shared != nil {
		t.shared.runs = append(t.shared.runs, cl)
		c.rep.Summary.SharedRuns++
	}
	if t.leaf != nil {
		t.leaf(r)
	}
}

// recRange checks the place of a record's clusters.
func (c *checker) recRange(t *tree, r ondisk.ExtentRec, at uint64) bool {
	blkno := r.Blkno()
	switch {
	case !c.g.ValidBlock(blkno):
		c.problem(ExtentBlknoRange, at, "%s of inode %d: extent at %d points to block %d, out of the volume", t.what, t.owner, r.Cpos(), blkno)
	case !c.g.ClusterAligned(blkno):
		c.problem(ExtentBlknoUnaligned, at, "%s of inode %d: extent at %d points to block %d, which starts no cluster", t.what, t.owner, r.Cpos(), blkno)
	case c.g.ClustersToBlocks(uint32(r.Clusters())) > c.g.TotalBlocks-blkno:
		c.problem(ExtentClustersOverrun, at, "%s of inode %d: extent at %d of %d clusters at block %d ends off the volume", t.what, t.owner, r.Cpos(), r.Clusters(), blkno)
	default:
		return true
	}
	return false
}

func (c *checker) recFlags(t *tree, r ondisk.ExtentRec, at uint64) {
	f := r.Flags()
	if f&ondisk.ExtentUnwritten != 0 && !c.g.HasUnwritten() {
		c.problem(ExtentUnwritten, at, "%s of inode %d: extent at %d is marked unwritten, the volume has no such feature", t.what, t.owner, r.Cpos())
	}
	if f&ondisk.ExtentRefcounted != 0 && !t.mayShare {
		c.problem(ExtentRefcounted, at, "%s of inode %d: extent at %d is marked refcounted, the inode is not", t.what, t.owner, r.Cpos())
	}
	if x := f &^ (ondisk.ExtentUnwritten | ondisk.ExtentRefcounted); x != 0 {
		c.problem(ExtentUnwritten, at, "%s of inode %d: extent at %d has unknown flags %#x", t.what, t.owner, r.Cpos(), x)
	}
}
