package refcount

import (
	"fmt"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

const (
	// added is how many records one change can add: one is cut in three.
	added = 2
	// DetachCredits is what Detach costs: the root.
	DetachCredits = 1
)

// Needs returns what one Decrement inside the record of cluster c takes at most:
// blocks from the MetaSource and credits, those for the new blocks included.
func (t *Tree) Needs(c uint32) (meta, credits int, err error) {
	f, err := t.find(c)
	if err != nil {
		return 0, 0, err
	}
	defer f.put()
	used := int(f.l.Used())
	switch {
	case used+added > int(f.l.Count()) && f.root:
		return 2, 3, nil // the records move to a leaf, and that is split
	case used+added > int(f.l.Count()):
		e := t.leaves()
		meta, credits, err = e.Needs(extent.OpInsert, uint32(f.l.Rec(used/2).Cpos()))
		return meta + 1, credits + 3, err
	case used == 1 && !f.root:
		e := t.leaves()
		_, credits, err = e.Needs(extent.OpRemove, f.at)
		return 0, credits + 2, err
	}
	return 0, 1, nil
}

// Decrement takes one reference off the clusters [c, c+n), which lie in one
// record. zero reports that it was the last one: the record's part is gone, and
// the clusters are the caller's to free, or to keep for the only extent that
// mapped them, which loses its REFCOUNTED flag. tx and res have what Needs(c)
// said; a leaf that empties goes to sink. Errors: ondisk.ErrCorrupt when there
// is no such record, and those of tx and res.
func (t *Tree) Decrement(tx *journal.Handle, res extent.MetaSource, sink extent.MetaSink, c, n uint32) (zero bool, err error) {
	f, err := t.find(c)
	if err != nil {
		return false, err
	}
	defer func() { f.put() }()
	i, r, err := t.search(&f, c)
	if err != nil {
		return false, err
	}
	if n == 0 || n > r.End()-c {
		return false, t.corrupt(f.b.Blkno, "clusters %d +%d are not inside one record, %d +%d", c, n, r.Cluster, r.Clusters)
	}
	if int(f.l.Used())+added > int(f.l.Count()) {
		if f, err = t.split(tx, res, f, c); err != nil {
			return false, err
		}
		if i, r, err = t.search(&f, c); err != nil {
			return false, err
		}
	}
	if err := tx.Write(&f.b.Block); err != nil {
		return false, err
	}
	f.replace(i, r, c, n)
	if f.l.Used() == 0 && !f.root {
		err = t.unlink(tx, sink, &f)
	}
	return r.Count == 1, err
}

// replace lowers the count of [c, c+n) inside record i, which is r.
func (f *leaf) replace(i int, r Record, c, n uint32) {
	var recs [3]Record
	k := 0
	add := func(at, n, count uint32) {
		if n > 0 && count > 0 {
			recs[k] = Record{at, n, count}
			k++
		}
	}
	add(r.Cluster, c-r.Cluster, r.Count)
	add(c, n, r.Count-1)
	add(c+n, r.End()-(c+n), r.Count)
	j := i + 1
	if k > 0 && i > 0 && f.joins(i-1, recs[0]) {
		p := f.l.Rec(i - 1)
		recs[0].Cluster, recs[0].Clusters = uint32(p.Cpos()), p.Clusters()+recs[0].Clusters
		i--
	}
	if k > 0 && j < int(f.l.Used()) && f.joins(j, recs[k-1]) {
		recs[k-1].Clusters += f.l.Rec(j).Clusters()
		j++
	}
	f.splice(i, j, recs[:k])
}

// joins tells whether record i touches r and has the same count.
func (f *leaf) joins(i int, r Record) bool {
	o := f.l.Rec(i)
	touch := o.Cpos()+uint64(o.Clusters()) == uint64(r.Cluster) || uint64(r.Cluster)+uint64(r.Clusters) == o.Cpos()
	return touch && o.Refcount() == r.Count
}

// splice puts recs in the place of records [i, j).
func (f *leaf) splice(i, j int, recs []Record) {
	used := int(f.l.Used())
	n := used - (j - i) + len(recs)
	copy(f.l.Recs(i+len(recs), n), f.l.Recs(j, used))
	for k, r := range recs {
		f.l.Rec(i+k).Set(uint64(r.Cluster), r.Clusters, r.Count)
	}
	for k := n; k < used; k++ {
		f.l.Rec(k).Clear()
	}
	f.l.SetUsed(uint16(n))
}

// split makes room in a full block and returns the one that c belongs to then.
// It takes over f; on error it returns it.
func (t *Tree) split(tx *journal.Handle, res extent.MetaSource, f leaf, c uint32) (leaf, error) {
	if err := tx.Write(&t.root.Block); err != nil {
		return f, err
	}
	if f.root {
		low, err := t.newLeaf(tx, res, 0, f.l.Recs(0, int(f.l.Used())))
		if err != nil {
			return f, err
		}
		t.plant(low.Blkno)
		f.put()
		f = leaf{b: low, l: ondisk.RefcountBlock(low.Data).Records()}
	}
	if err := tx.Write(&f.b.Block); err != nil {
		return f, err
	}
	used := int(f.l.Used())
	at := uint32(f.l.Rec(used / 2).Cpos())
	if at <= f.at {
		return f, t.corrupt(f.b.Blkno, "leaf for clusters from %d on has cluster %d in its middle", f.at, at)
	}
	high, err := t.newLeaf(tx, res, at, f.l.Recs(used/2, used))
	if err != nil {
		return f, err
	}
	e := t.leaves()
	if err := e.Insert(tx, res, extent.Run{Cpos: at, Clusters: 1, Blkno: high.Blkno}); err != nil {
		high.Put()
		return f, err
	}
	clear(f.l.Recs(used/2, used))
	f.l.SetUsed(uint16(used / 2))
	if c < at {
		high.Put()
		return f, nil
	}
	f.put()
	return leaf{b: high, l: ondisk.RefcountBlock(high.Data).Records(), at: at}, nil
}

// newLeaf makes a leaf of the given records.
func (t *Tree) newLeaf(tx *journal.Handle, res extent.MetaSource, cpos uint32, recs []byte) (*buffer.Buf, error) {
	id, err := res.ClaimMeta(tx)
	if err != nil {
		return nil, fmt.Errorf("new leaf of %s %d: %w", what, t.root.Blkno, err)
	}
	b := t.m.New(id.Blkno)
	if err := tx.Write(&b.Block); err != nil {
		b.Put()
		return nil, err
	}
	r := ondisk.RefcountBlock(b.Data)
	r.Init(id.Blkno, t.m.Geometry().FSGeneration)
	r.SetSuballocSlot(id.Slot)
	r.SetSuballocBit(id.Bit)
	r.SetSuballocLoc(id.Loc)
	r.SetParent(t.root.Blkno)
	r.SetFlags(ondisk.RefcountLeaf)
	r.SetCpos(cpos)
	r.SetGeneration(t.Generation())
	l := r.Records()
	l.SetCount(uint16(l.Space()))
	n := len(recs) / len(l.Recs(0, 1))
	copy(l.Recs(0, n), recs)
	l.SetUsed(uint16(n))
	return b, nil
}

// plant turns the root into one with a single leaf (Linux
// ocfs2_expand_inline_ref_root).
func (t *Tree) plant(blkno uint64) {
	r := t.block()
	l := r.Extents()
	clear(l)
	r.SetFlags(r.Flags() | ondisk.RefcountTree)
	r.SetClusters(1)
	r.SetLastEbBlk(0)
	l.SetCount(uint16(l.Space()))
	l.SetNextFree(1)
	l.Rec(0).SetLeaf(0, 1, blkno, 0)
}

// unlink takes an empty leaf out of the tree; a root without leaves holds
// records again (Linux ocfs2_remove_refcount_extent).
func (t *Tree) unlink(tx *journal.Handle, sink extent.MetaSink, f *leaf) error {
	if err := tx.Write(&t.root.Block); err != nil {
		return err
	}
	rb := ondisk.RefcountBlock(f.b.Data)
	sink.FreeMeta(extent.MetaBlock{Blkno: f.b.Blkno, Slot: rb.SuballocSlot(), Bit: rb.SuballocBit(), Loc: rb.SuballocLoc()})
	e := t.leaves()
	var buf [1]extent.Run
	rm, err := e.Remove(tx, nil, sink, f.at, 1, buf[:0])
	if err != nil {
		return err
	}
	if len(rm.Runs) != 1 || rm.Runs[0].Blkno != f.b.Blkno {
		return t.corrupt(t.root.Blkno, "leaf %d was to be removed, found %v", f.b.Blkno, rm.Runs)
	}
	if e.Clusters() > 0 {
		return nil
	}
	r := t.block()
	r.SetFlags(r.Flags() &^ ondisk.RefcountTree)
	r.SetLastEbBlk(0)
	l := r.Records()
	clear(l)
	l.SetCount(uint16(l.Space()))
	return nil
}

// Detach takes one inode off the tree's users. last reports that it was the
// last one: the tree has no records, and its root has gone to sink. The inode
// forgets the tree in the same transaction. Errors: ondisk.ErrCorrupt when the
// last user leaves records behind, with nothing changed.
func (t *Tree) Detach(tx *journal.Handle, sink extent.MetaSink) (last bool, err error) {
	r := t.block()
	if r.Count() == 1 && !t.Empty() {
		return false, t.corrupt(t.root.Blkno, "the last inode leaves, and clusters are still counted")
	}
	if err := tx.Write(&t.root.Block); err != nil {
		return false, err
	}
	r.SetCount(r.Count() - 1)
	if r.Count() > 0 {
		return false, nil
	}
	sink.FreeMeta(extent.MetaBlock{Blkno: t.root.Blkno, Slot: r.SuballocSlot(), Bit: r.SuballocBit(), Loc: r.SuballocLoc()})
	return true, nil
}
