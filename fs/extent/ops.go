package extent

import (
	"fmt"

	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// Insert maps the hole r.Cpos..r.End() to the clusters at r.Blkno. tx and res
// must have what Needs(OpInsert, r.Cpos) said. Errors: ErrMapped when part of the
// range is mapped, ErrRange, ErrTooDeep, corruption, or those of tx and res.
func (t *Tree) Insert(tx *journal.Handle, res MetaSource, r Run) error {
	if err := t.checkRun(r); err != nil {
		return err
	}
	e := newEdit(t, tx, res)
	e.recs, e.count = append(e.recs, r), int64(r.Clusters)
	if err := t.descend(&e.p, r.Cpos); err != nil {
		e.done()
		return err
	}
	if err := t.settle(tx, &e.p, r); err != nil {
		e.done()
		return err
	}
	s := e.p.at()
	i := upper(s.l, r.Cpos)
	if (i > 0 && leafRec(s.l, i-1).End() > uint64(r.Cpos)) ||
		(i < int(s.l.NextFree()) && uint64(s.l.Rec(i).Cpos()) < r.End()) {
		e.done()
		return fmt.Errorf("%s at block %d: inserting %v: %w", t.kind.what(), t.root.Blkno, r, ErrMapped)
	}
	e.i, e.j = i, i
	return e.run()
}

// settle deals with a record that reaches over the boundary to the next leaf:
// either that leaf maps part of it, or it begins after its boundary (a tree
// another implementation wrote), which is then moved.
func (t *Tree) settle(tx *journal.Handle, p *path, r Run) error {
	if p.leaf == 0 || p.isLast() {
		return nil
	}
	s := &p.n[p.leaf-1]
	bound := uint64(s.l.Rec(s.idx).Cpos()) + uint64(s.l.Rec(s.idx).IntClusters())
	if r.End() <= bound {
		return nil
	}
	q, ok, err := t.neighbour(p, +1)
	if err != nil || !ok {
		return err
	}
	defer q.release()
	l := q.at().l
	first := l.Rec(firstRecord(l)).Cpos()
	if r.End() > uint64(first) {
		return fmt.Errorf("%s at block %d: inserting %v: %w", t.kind.what(), t.root.Blkno, r, ErrMapped)
	}
	for k := range p.leaf {
		if err := tx.Write(&p.n[k].buf.Block); err != nil {
			return err
		}
		if err := tx.Write(&q.n[k].buf.Block); err != nil {
			return err
		}
	}
	setBoundary(p, &q, first)
	return nil
}

// Removal is the result of one Remove step.
type Removal struct {
	// Runs are the records' parts that were removed, right to left, in the slice
	// the caller gave. Their clusters are the caller's to free (or, refcounted, to
	// decrement) in the same transaction.
	Runs []Run
	// End is where to go on: [cpos, End) may still hold records. When Done, End
	// is cpos.
	End  uint32
	Done bool
}

// Remove unmaps the last part of [cpos, cpos+clusters): what one leaf holds of
// it, but at most cap(buf) records. The caller frees Runs, then calls again for
// [cpos, End) until Done, in the same transaction after extending it by
// Needs(OpRemove, End-1), or in another. Nodes that empty go to sink. res is only
// asked when a record is cut in the middle, and may be nil if the range reaches
// to the end of the tree. clusters 0 means to the end of the key space.
func (t *Tree) Remove(tx *journal.Handle, res MetaSource, sink MetaSink, cpos, clusters uint32, buf []Run) (Removal, error) {
	end := uint64(cpos) + uint64(clusters)
	if clusters == 0 {
		end = 1 << 32
	}
	if end > 1<<32 || cap(buf) == 0 {
		return Removal{}, fmt.Errorf("%w: removing %d clusters at %d, room for %d runs", ErrRange, clusters, cpos, cap(buf))
	}
	e := newEdit(t, tx, res)
	e.out = sink
	for end > uint64(cpos) {
		if err := t.descend(&e.p, uint32(end-1)); err != nil {
			e.done()
			return Removal{}, err
		}
		i, j := within(e.p.at().l, cpos, end)
		if i < j {
			return e.remove(max(i, j-cap(buf)), j, cpos, end, buf[:0])
		}
		start, first, parent := uint64(e.p.start()), e.p.isFirst(), e.p.n[max(0, e.p.leaf-1)].buf.Blkno
		e.p.release()
		if first {
			break
		}
		if start >= end {
			e.done()
			return Removal{}, t.corrupt(parent, "cluster %d led to a leaf that begins at %d", end-1, start)
		}
		end = start
	}
	e.done()
	return Removal{Runs: buf[:0], End: cpos, Done: true}, nil
}

// within returns the indices of the leaf records that overlap [cpos, end).
func within(l ondisk.ExtentList, cpos uint32, end uint64) (i, j int) {
	j = upper(l, uint32(end-1))
	i = upper(l, cpos)
	if i > 0 && leafRec(l, i-1).End() > uint64(cpos) {
		i--
	}
	return i, j
}

// remove cuts [cpos, end) out of records [i, j) of the leaf.
func (e *edit) remove(i, j int, cpos uint32, end uint64, buf []Run) (Removal, error) {
	t, s, u := e.t, e.p.at(), uint32(e.t.unit())
	e.i, e.j = i, j
	rem := Removal{End: cpos, Done: true}
	behind := uint64(1) << 32
	for k := j - 1; k >= i; k-- {
		r, err := t.record(s.l, k, s.buf.Blkno)
		if err == nil && (r.End() > behind || r.End() <= uint64(cpos)) {
			err = t.corrupt(s.buf.Blkno, "record %d %v is not in front of %d", k, r, behind)
		}
		if err != nil {
			e.done()
			return Removal{}, err
		}
		behind = uint64(r.Cpos)
		cut := r
		if cut.Cpos < cpos {
			cut = cut.From(cpos, u)
		}
		if cut.End() > end {
			cut.Clusters = uint32(end - uint64(cut.Cpos))
		}
		if left := cut.Cpos - r.Cpos; left > 0 {
			e.recs = append(e.recs, Run{r.Cpos, left, r.Flags, r.Blkno})
		}
		if r.End() > cut.End() {
			e.recs = append(e.recs, r.From(uint32(cut.End()), u))
		}
		e.count -= int64(cut.Clusters)
		buf = append(buf, cut)
		rem.End, rem.Done = cut.Cpos, cut.Cpos == cpos
	}
	if len(e.recs) == 2 && e.recs[0].Cpos > e.recs[1].Cpos {
		e.recs[0], e.recs[1] = e.recs[1], e.recs[0]
	}
	rem.Runs = buf
	if !rem.Done && i == 0 && e.p.isFirst() {
		rem.End, rem.Done = cpos, true
	}
	if err := e.run(); err != nil {
		return Removal{}, err
	}
	return rem, nil
}

// SetFlags changes the flags of the records' parts inside [cpos, cpos+clusters)
// to (flags &^ clear) | set, as far as the leaf of cpos and the mapping reach,
// and returns the number of clusters done (at least 1). The caller goes on behind
// them. Errors: ErrHole when cpos is not mapped, and as for Insert.
func (t *Tree) SetFlags(tx *journal.Handle, res MetaSource, cpos, clusters uint32, set, clear uint8) (uint32, error) {
	return t.change(tx, res, cpos, clusters, func(r Run) Run {
		r.Flags = r.Flags&^clear | set
		return r
	})
}

// Replace maps [cpos, cpos+clusters), which is mapped, to the clusters at blkno
// with the given flags, as far as the leaf of cpos and the mapping reach. It
// returns the old runs, appended to buf, whose clusters are the caller's to free
// or decrement; their sum is what was done. Errors as for SetFlags.
func (t *Tree) Replace(tx *journal.Handle, res MetaSource, cpos, clusters uint32, blkno uint64, flags uint8, buf []Run) ([]Run, error) {
	if err := t.checkRun(Run{cpos, clusters, flags, blkno}); err != nil {
		return nil, err
	}
	u := t.unit()
	old := buf[:0]
	_, err := t.change(tx, res, cpos, clusters, func(r Run) Run {
		old = append(old, r)
		return Run{r.Cpos, r.Clusters, flags, blkno + uint64(r.Cpos-cpos)*u}
	})
	if err != nil {
		return nil, err
	}
	return old, nil
}

// change applies fn to the parts of consecutive records inside the range.
func (t *Tree) change(tx *journal.Handle, res MetaSource, cpos, clusters uint32, fn func(Run) Run) (uint32, error) {
	end := uint64(cpos) + uint64(clusters)
	if clusters == 0 || end > 1<<32 {
		return 0, fmt.Errorf("%w: changing %d clusters at %d", ErrRange, clusters, cpos)
	}
	e := newEdit(t, tx, res)
	if err := t.descend(&e.p, cpos); err != nil {
		e.done()
		return 0, err
	}
	s, u := e.p.at(), uint32(t.unit())
	e.i, e.j = within(s.l, cpos, end)
	next := uint64(cpos)
	for k := e.i; k < e.j && k < e.i+maxChange; k++ {
		r, err := t.record(s.l, k, s.buf.Blkno)
		if err != nil {
			e.done()
			return 0, err
		}
		if uint64(r.Cpos) > next {
			e.j = k // a hole ends it
			break
		}
		if r.End() <= next || k > e.i && uint64(r.Cpos) < next {
			err := t.corrupt(s.buf.Blkno, "record %d %v begins before %d, where the one before ends", k, r, next)
			e.done()
			return 0, err
		}
		if skip := uint32(next) - r.Cpos; skip > 0 {
			e.recs = append(e.recs, Run{r.Cpos, skip, r.Flags, r.Blkno})
			r = r.From(uint32(next), u)
		}
		mid := r
		mid.Clusters = uint32(min(r.End(), end) - uint64(r.Cpos))
		e.recs = append(e.recs, fn(mid))
		next = mid.End()
		if r.End() > next {
			e.recs = append(e.recs, r.From(uint32(next), u))
		}
	}
	e.j = min(e.j, e.i+maxChange)
	if next == uint64(cpos) {
		e.done()
		return 0, fmt.Errorf("%s at block %d, cluster %d: %w", t.kind.what(), t.root.Blkno, cpos, ErrHole)
	}
	if err := e.run(); err != nil {
		return 0, err
	}
	return uint32(next - uint64(cpos)), nil
}
