package extent

import "github.com/ocfuse/ocfuse/fs/ondisk"

// Check verifies every invariant of a tree (OCFS2 format: extent trees): it
// reads all of it. It accepts what other implementations write.
func Check(t *Tree) error { return t.check(false) }

// walker is the state of a check.
type walker struct {
	t      *Tree
	strict bool // also what only this package guarantees
	next   uint64
	seen   uint64 // the leaf visited last
	link   uint64 // its h_next_leaf_blk
	leaves int
	sum    uint64
}

func (t *Tree) check(strict bool) error {
	l, err := t.rootList()
	if err != nil {
		return err
	}
	w := walker{t: t, strict: strict}
	if err := w.node(l, t.root.Blkno, 0, 1<<32, true); err != nil {
		return err
	}
	switch last := t.kind.lastEb(t.root.Data); {
	case w.sum != uint64(t.Clusters()):
		return t.corrupt(t.root.Blkno, "counter says %d clusters, the records have %d", t.Clusters(), w.sum)
	case last != w.seen:
		return t.corrupt(t.root.Blkno, "last leaf is said to be block %d, it is %d", last, w.seen)
	case w.link != 0:
		return t.corrupt(w.seen, "last leaf names block %d as the next", w.link)
	}
	return nil
}

// node checks a node whose records must lie inside [from, to); tail tells that it
// is on the right edge of the tree.
func (w *walker) node(l ondisk.ExtentList, blkno uint64, from, to uint64, tail bool) error {
	if int(l.NextFree()) > int(l.Count()) || int(l.Count()) > l.Space() {
		return w.t.corrupt(blkno, "%d of %d records used", l.NextFree(), l.Count())
	}
	for i := int(l.NextFree()); w.strict && i < int(l.Count()); i++ {
		if r := l.Rec(i); r.Cpos() != 0 || r.IntClusters() != 0 || r.Blkno() != 0 {
			return w.t.corrupt(blkno, "unused record %d is not zero", i)
		}
	}
	if l.Depth() == 0 {
		return w.leaf(l, blkno, from, to)
	}
	at := from
	for i := range int(l.NextFree()) {
		r := l.Rec(i)
		first, end := uint64(r.Cpos()), uint64(r.Cpos())+uint64(r.IntClusters())
		last := i == int(l.NextFree())-1
		if r.IntClusters() == 0 {
			end = first + 1<<32 // wrapped: the whole key space
		}
		switch {
		case first < at || (i > 0 && first != at):
			return w.t.corrupt(blkno, "interior record %d begins at %d, not at %d", i, first, at)
		case end > to || (w.strict && last && !tail && end != to):
			return w.t.corrupt(blkno, "interior record %d ends at %d, its parent at %d", i, end, to)
		}
		if err := w.child(r.Blkno(), l.Depth()-1, first, end, tail && last); err != nil {
			return err
		}
		if tail && last && w.next != end {
			return w.t.corrupt(blkno, "interior record %d ends at %d, the last record at %d", i, end, w.next)
		}
		at = end
	}
	return nil
}

func (w *walker) child(blkno uint64, depth uint16, from, to uint64, tail bool) error {
	b, l, err := w.t.readNode(blkno, depth)
	if err != nil {
		return err
	}
	defer b.Put()
	eb := ondisk.ExtentBlock(b.Data)
	if depth == 0 {
		if w.leaves > 0 && w.link != blkno {
			return w.t.corrupt(w.seen, "next leaf is said to be block %d, it is %d", w.link, blkno)
		}
		w.leaves++
		w.seen, w.link = blkno, eb.NextLeafBlk()
		if w.strict && w.leaves > 1 && uint64(l.Rec(0).Cpos()) != from {
			return w.t.corrupt(blkno, "leaf begins at %d, its boundary is %d", l.Rec(0).Cpos(), from)
		}
	}
	return w.node(l, blkno, from, to, tail)
}

func (w *walker) leaf(l ondisk.ExtentList, blkno uint64, from, to uint64) error {
	for i := range int(l.NextFree()) {
		if i == 0 && l.Rec(0).Clusters() == 0 && !w.strict {
			continue
		}
		r, err := w.t.record(l, i, blkno)
		if err != nil {
			return err
		}
		switch {
		case uint64(r.Cpos) < w.next:
			return w.t.corrupt(blkno, "record %d %v overlaps the one before, which ends at %d", i, r, w.next)
		case uint64(r.Cpos) < from || r.End() > to:
			return w.t.corrupt(blkno, "record %d %v outside its parent's [%d, %d)", i, r, from, to)
		}
		w.next = r.End()
		w.sum += uint64(r.Clusters)
	}
	return nil
}
