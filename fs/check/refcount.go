package check

import (
	"maps"
	"slices"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// refTree is a refcount tree: who points to it and which clusters they share.
type refTree struct {
	root   uint64
	inodes []uint64
	runs   []run // clusters of REFCOUNTED extents, one run per reference
}

// counted is a run of clusters with a reference count.
type counted struct {
	run
	count uint32
}

// checkRefTrees compares every refcount tree with the extents that use it.
func (c *checker) checkRefTrees() {
	var seen bitmap
	for i, root := range slices.Sorted(maps.Keys(c.trees)) {
		if c.cancelled() {
			return
		}
		t := c.trees[root]
		recs, ok := c.refRoot(t)
		refs := countRuns(t.runs)
		if ok {
			c.compareRefs(t, recs, refs)
		}
		if i == 0 && len(c.trees) == 1 {
			continue
		}
		if seen == nil {
			seen = newBitmap(uint64(c.g.TotalClusters))
		}
		for _, r := range refs {
			if first, n := seen.setRun(r.start, r.n); n > 0 {
				c.problem(RefcountForeign, root, "Cluster %d is shared through refcount tree %d and another", first, root)
			}
		}
	}
}

// refBlock reads and claims one block of a tree.
func (c *checker) refBlock(blkno uint64, code string) (ondisk.RefcountBlock, bool) {
	if !c.g.ValidBlock(blkno) {
		c.problem(code, blkno, "Refcount block %d is out of the volume", blkno)
		return nil, false
	}
	b, ok := c.block(blkno)
	if !ok {
		return nil, false
	}
	r := ondisk.RefcountBlock(b)
	if !ondisk.HasSignature(b, ondisk.SigRefcount) || r.FSGeneration() != c.g.FSGeneration || r.Blkno() != blkno {
		c.problem(code, blkno, "Block %d is no refcount block of this volume", blkno)
		return nil, false
	}
	c.ecc("refcount block", blkno, b, ondisk.CheckOffRefcount)
	return r, c.claimMeta("Refcount block", blkno, suballocOf{r.SuballocSlot(), r.SuballocBit(), r.SuballocLoc()})
}

// refRoot checks a tree and returns its records in order; false if they are not
// complete.
func (c *checker) refRoot(t *refTree) ([]counted, bool) {
	r, ok := c.refBlock(t.root, RefcountRootInvalid)
	if !ok {
		return nil, false
	}
	if int(r.Count()) != len(t.inodes) {
		c.problem(RefcountCount, t.root, "Refcount tree %d says %d inodes use it, found %d", t.root, r.Count(), len(t.inodes))
	}
	if r.Parent() != 0 {
		c.problem(RBParent, t.root, "Root %d of a refcount tree has parent %d", t.root, r.Parent())
	}
	switch r.Flags() {
	case 0:
		return c.refRecords(t, r, 0, 1<<32)
	case ondisk.RefcountTree:
	default:
		c.problem(RefcountRootInvalid, t.root, "Root %d of a refcount tree has flags %#x", t.root, r.Flags())
		return nil, false
	}
	type leafAt struct {
		cpos  uint32
		blkno uint64
	}
	var leaves []leafAt
	w := &tree{what: "Refcount tree", owner: t.root, blockRecs: true}
	w.leaf = func(rec ondisk.ExtentRec) { leaves = append(leaves, leafAt{rec.Cpos(), rec.Blkno()}) }
	c.walk(w, r.Extents(), t.root, r.LastEbBlk())
	if int(r.Clusters()) != len(leaves) && !w.bad {
		c.problem(RefcountClusters, t.root, "Refcount tree %d says %d leaves, it has %d", t.root, r.Clusters(), len(leaves))
	}
	var all []counted
	complete := !w.bad
	for i, lf := range leaves {
		hi := uint64(1) << 32
		if i+1 < len(leaves) {
			hi = uint64(leaves[i+1].cpos)
		}
		recs, ok := c.refLeaf(t, r, lf.blkno, lf.cpos, hi)
		all = append(all, recs...)
		complete = complete && ok
	}
	return all, complete
}

func (c *checker) refLeaf(t *refTree, root ondisk.RefcountBlock, blkno uint64, cpos uint32, hi uint64) ([]counted, bool) {
	r, ok := c.refBlock(blkno, RefcountBlockInvalid)
	if !ok {
		return nil, false
	}
	if r.Flags() != ondisk.RefcountLeaf {
		c.problem(RefcountBlockInvalid, blkno, "Leaf %d of refcount tree %d has flags %#x", blkno, t.root, r.Flags())
		return nil, false
	}
	if r.Parent() != t.root {
		c.problem(RBParent, blkno, "Leaf %d of refcount tree %d says its root is %d", blkno, t.root, r.Parent())
	}
	if r.Generation() != root.Generation() {
		c.problem(RefcountGen, blkno, "Leaf %d of refcount tree %d has generation %#x, the root %#x", blkno, t.root, r.Generation(), root.Generation())
	}
	if r.Cpos() != cpos {
		c.problem(RefcountOrder, blkno, "Leaf %d of refcount tree %d says it starts at %d, its extent record at %d", blkno, t.root, r.Cpos(), cpos)
	}
	return c.refRecords(t, r, uint64(cpos), hi)
}

// refRecords reads the records of a root or leaf, which must lie in [lo, hi).
func (c *checker) refRecords(t *refTree, r ondisk.RefcountBlock, lo, hi uint64) ([]counted, bool) {
	l, at, ok := r.Records(), r.Blkno(), true
	n := int(l.Used())
	if int(l.Count()) > l.Space() {
		c.problem(RefcountListCount, at, "Refcount block %d has capacity %d, room for %d", at, l.Count(), l.Space())
		ok = false
	}
	if l.Used() > l.Count() {
		c.problem(RefcountListUsed, at, "Refcount block %d uses %d of %d records", at, l.Used(), l.Count())
		ok = false
	}
	if n = min(n, l.Space()); n == 0 && r.Flags() == ondisk.RefcountLeaf {
		c.problem(RefcountListEmpty, at, "Leaf %d of refcount tree %d has no records", at, t.root)
	}
	var recs []counted
	for i := range n {
		rec := l.Rec(i)
		v := counted{run{rec.Cpos(), uint64(rec.Clusters())}, rec.Refcount()}
		total := uint64(c.g.TotalClusters)
		switch {
		case v.n == 0 || v.start >= total || v.n > total-v.start:
			c.problem(RefcountRange, at, "Refcount block %d: record %d covers clusters %d..%d, off the volume", at, i, v.start, v.start+v.n)
			ok = false
			continue
		case v.start < lo && i > 0:
			c.problem(RefcountCollision, at, "Refcount block %d: record %d at cluster %d overlaps the one before", at, i, v.start)
			ok = false
			continue
		case v.start < lo || v.end() > hi:
			c.problem(RefcountOrder, at, "Refcount block %d: record %d at clusters %d..%d is outside of %d..%d", at, i, v.start, v.end(), lo, hi)
		}
		recs = append(recs, v)
		lo = v.end()
	}
	return recs, ok
}

// countRuns turns references into runs of equal count, in order.
func countRuns(runs []run) []counted {
	starts, ends := make([]uint64, len(runs)), make([]uint64, len(runs))
	for i, r := range runs {
		starts[i], ends[i] = r.start, r.end()
	}
	slices.Sort(starts)
	slices.Sort(ends)
	var out []counted
	var depth uint32
	var pos uint64
	for i, j := 0, 0; j < len(ends); {
		at := ends[j]
		if i < len(starts) && starts[i] < at {
			at = starts[i]
		}
		if depth > 0 && at > pos {
			out = append(out, counted{run{pos, at - pos}, depth})
		}
		pos = at
		for ; i < len(starts) && starts[i] == at; i++ {
			depth++
		}
		for ; j < len(ends) && ends[j] == at; j++ {
			depth--
		}
	}
	return out
}

// compareRefs reports where records and references differ. Both are in order
// and free of overlaps.
func (c *checker) compareRefs(t *refTree, recs, refs []counted) {
	pos := uint64(0)
	for i, j := 0, 0; i < len(recs) || j < len(refs); {
		next := uint64(1) << 33
		var rec, ref uint32
		for _, s := range []struct {
			list []counted
			k    int
			v    *uint32
		}{{recs, i, &rec}, {refs, j, &ref}} {
			if s.k >= len(s.list) {
				continue
			}
			e := s.list[s.k]
			if e.start > pos {
				next = min(next, e.start)
				continue
			}
			*s.v = e.count
			next = min(next, e.end())
		}
		switch {
		case rec == ref:
		case ref == 0:
			c.problem(RefcountRedundant, t.root, "Refcount tree %d counts %d references to clusters %d..%d, which nobody shares", t.root, rec, pos, next-1)
		default:
			c.problem(RefcountRecCount, t.root, "Refcount tree %d counts %d references to clusters %d..%d, found %d", t.root, rec, pos, next-1, ref)
		}
		pos = next
		for i < len(recs) && recs[i].end() <= pos {
			i++
		}
		for j < len(refs) && refs[j].end() <= pos {
			j++
		}
	}
}
