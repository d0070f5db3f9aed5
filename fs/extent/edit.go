package extent

import (
	"fmt"
	"sync"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

const (
	recSize = 16
	// maxChange bounds the records one change rewrites.
	maxChange = 64
)

// edit is one change of one leaf: records [i, j) are replaced by recs. It is
// prepared (may fail, changes nothing) and then applied (cannot fail).
type edit struct {
	t   *Tree
	tx  *journal.Handle
	res MetaSource
	out MetaSink
	p   path // to the leaf; owned by the edit

	i, j  int
	recs  []Run
	count int64 // change of the root's counter

	// The plan.
	drop    int // 1: an empty record in front of the leaf goes away
	deepen  bool
	unlink  bool
	raise   bool // the leaf's boundary moves up to its first record
	lower   bool // the tree's, or a subtree's, left edge moves down to it
	left    path // the leaf before, if unlink or raise and hasLeft
	right   path // the leaf behind, if unlink and hasRight
	hasLeft bool
	hasRt   bool
	keep    int // unlink: the deepest node that keeps a record; -1: the tree empties

	blocks [maxNodes + 1]newBlock
	nnew   int // blocks to claim
	used   int // blocks used while applying

	edge [maxNodes]ondisk.ExtentList // rightmost node of each level while applying
	top  bool                        // the leaf is the rightmost

	store [maxChange + 2]Run // backs recs
}

var editPool = sync.Pool{New: func() any { return new(edit) }}

// newEdit takes an edit from the pool; done gives it back.
func newEdit(t *Tree, tx *journal.Handle, res MetaSource) *edit {
	e := editPool.Get().(*edit)
	e.t, e.tx, e.res = t, tx, res
	e.recs = e.store[:0]
	return e
}

// newBlock is a claimed extent block.
type newBlock struct {
	id  MetaBlock
	buf *buffer.Buf
}

// done gives back every buffer and the edit itself.
func (e *edit) done() {
	e.p.release()
	e.left.release()
	e.right.release()
	for k := range e.nnew {
		e.blocks[k].buf.Put()
	}
	*e = edit{}
	editPool.Put(e)
}

// result is the number of records of the leaf after the change.
func (e *edit) result() int {
	return int(e.p.at().l.NextFree()) - e.drop - (e.j - e.i) + len(e.recs)
}

// first is the e_cpos of the leaf's first record after the change. Precondition:
// the leaf does not empty.
func (e *edit) first() uint32 {
	l := e.p.at().l
	switch {
	case e.i > e.drop:
		return l.Rec(e.drop).Cpos()
	case len(e.recs) > 0:
		return e.recs[0].Cpos
	}
	return l.Rec(e.j).Cpos()
}

// last is the end of the leaf's last record after the change, modulo 2^32.
func (e *edit) last() uint32 {
	l := e.p.at().l
	switch n := int(l.NextFree()); {
	case e.j < n:
		return recEnd(l, n-1)
	case len(e.recs) > 0:
		r := e.recs[len(e.recs)-1]
		return r.Cpos + r.Clusters
	}
	return recEnd(l, e.i-1)
}

// recEnd is the end of record i of a node of any depth, modulo 2^32.
func recEnd(l ondisk.ExtentList, i int) uint32 {
	r := l.Rec(i)
	return r.Cpos() + r.Len(l.Depth())
}

// run prepares and applies. It takes over e.p.
func (e *edit) run() error {
	defer e.done()
	if err := e.prepare(); err != nil {
		return err
	}
	e.apply()
	return nil
}

// prepare decides what has to be done, reads the neighbours, declares all blocks
// and claims the new ones.
func (e *edit) prepare() error {
	l := e.p.at().l
	if l.NextFree() > 0 && l.Rec(0).Clusters() == 0 {
		e.mendEmpty()
	}
	e.join()
	e.top = e.p.isLast()
	n := e.result()
	switch {
	case n == 0 && e.p.leaf > 0:
		e.unlink = true
		if err := e.planUnlink(); err != nil {
			return err
		}
	case n > int(l.Count()):
		if err := e.planSplit(n); err != nil {
			return err
		}
		fallthrough
	default:
		if err := e.planRaise(n); err != nil {
			return err
		}
	}
	if err := e.declare(); err != nil {
		return err
	}
	return e.claim()
}

// mendEmpty drops the empty record other implementations may leave in front of
// a leaf: it becomes part of what is replaced, or is shifted out.
func (e *edit) mendEmpty() {
	if e.i <= 1 {
		e.i, e.j = 0, max(e.j, 1)
	} else {
		e.drop = 1
	}
}

// join merges contiguous records of recs and its neighbours in the leaf.
func (e *edit) join() {
	if !e.t.kind.merges() || len(e.recs) == 0 {
		return
	}
	l, u := e.p.at().l, e.t.unit()
	if e.i > e.drop {
		if prev := leafRec(l, e.i-1); joins(prev, e.recs[0], u) {
			e.i--
			e.recs[0] = Run{prev.Cpos, prev.Clusters + e.recs[0].Clusters, prev.Flags, prev.Blkno}
		}
	}
	out := e.recs[:1]
	for _, r := range e.recs[1:] {
		if last := &out[len(out)-1]; joins(*last, r, u) {
			last.Clusters += r.Clusters
		} else {
			out = append(out, r)
		}
	}
	e.recs = out
	if e.j < int(l.NextFree()) {
		if last := &out[len(out)-1]; joins(*last, leafRec(l, e.j), u) {
			last.Clusters += uint32(l.Rec(e.j).Clusters())
			e.j++
		}
	}
}

// joins tells whether b continues a (OCFS2 format: extent trees, insertion).
func joins(a, b Run, unit uint64) bool {
	return a.End() == uint64(b.Cpos) && a.Blkno+uint64(a.Clusters)*unit == b.Blkno &&
		a.Flags == b.Flags && a.Clusters+b.Clusters <= ondisk.MaxLeafClusters && a.Clusters > 0 && b.Clusters > 0
}

// planSplit counts the blocks a leaf of n > capacity records costs.
func (e *edit) planSplit(n int) error {
	k := e.p.leaf
	for ; k > 0; k-- {
		e.nnew++ // node k is split in two
		if parent := e.p.n[k-1].l; int(parent.NextFree()) < int(parent.Count()) {
			return nil
		}
	}
	if e.p.n[0].l.Count() == 0 {
		return e.t.corrupt(e.t.root.Blkno, "root list without capacity")
	}
	if e.p.n[0].l.Depth() >= ondisk.MaxTreeDepth {
		return fmt.Errorf("%s at block %d: %w", e.t.kind.what(), e.t.root.Blkno, ErrTooDeep)
	}
	e.deepen = true
	e.nnew++
	if e.p.leaf > 0 {
		n = int(e.p.n[0].l.NextFree()) + 1
	}
	if n > e.t.capacity() {
		e.nnew++ // not even the new block holds the root's records and the new ones
	}
	return nil
}

// planRaise looks whether the boundary of the leaf has to move up because its
// first record goes away.
func (e *edit) planRaise(n int) error {
	if n == 0 || e.p.leaf == 0 || e.nnew > 0 || e.p.isFirst() {
		return nil
	}
	l := e.p.at().l
	if first := e.first(); first <= e.p.start() || first <= l.Rec(firstRecord(l)).Cpos() {
		return nil
	}
	left, ok, err := e.t.neighbour(&e.p, -1)
	if err != nil {
		return err
	}
	e.left, e.hasLeft, e.raise = left, ok, ok
	return nil
}

// planUnlink finds the neighbours and the nodes that go with an empty leaf.
func (e *edit) planUnlink() error {
	e.keep = e.p.leaf - 1
	for e.keep >= 0 && e.p.n[e.keep].l.NextFree() < 2 {
		e.keep--
	}
	if e.keep < 0 {
		return nil
	}
	var err error
	if e.left, e.hasLeft, err = e.t.neighbour(&e.p, -1); err != nil {
		return err
	}
	e.right, e.hasRt, err = e.t.neighbour(&e.p, +1)
	return err
}

// declare calls Write for every existing block that apply may change.
func (e *edit) declare() error {
	var from int // shallowest level of the path that changes
	switch {
	case e.unlink:
		from = e.keep
	case e.nnew > 0:
		from = max(0, e.p.leaf-e.nnew)
	default:
		from = e.p.leaf
	}
	if e.raise || e.edgesMove() {
		from = 0
	}
	if e.count != 0 || e.unlink || e.deepen {
		if err := e.tx.Write(&e.t.root.Block); err != nil {
			return err
		}
	}
	upTo := e.p.leaf
	if e.unlink {
		upTo = max(0, e.keep) // the nodes below are freed as they are
	}
	for k := max(0, from); k <= upTo; k++ {
		if err := e.tx.Write(&e.p.n[k].buf.Block); err != nil {
			return err
		}
	}
	if err := e.declareSpine(&e.left, e.hasLeft, e.unlink); err != nil {
		return err
	}
	return e.declareSpine(&e.right, e.hasRt, false)
}

// declareSpine declares the interior nodes of a neighbour's path that are not on
// the leaf's own, and its leaf if asked.
func (e *edit) declareSpine(q *path, ok, leaf bool) error {
	if !ok {
		return nil
	}
	end := q.leaf
	if leaf {
		end++
	}
	for k := 0; k < end; k++ {
		if err := e.tx.Write(&q.n[k].buf.Block); err != nil {
			return err
		}
	}
	return nil
}

// edgesMove tells whether interior records on the path change at the tree's
// right or left edge.
func (e *edit) edgesMove() bool {
	if e.p.leaf == 0 || e.unlink {
		return e.unlink
	}
	e.lower = e.first() < e.p.start()
	s := &e.p.n[e.p.leaf-1]
	return e.lower || e.top && recEnd(s.l, s.idx) != e.last()
}

// claim takes the new blocks. Last in preparation: a claim cannot be undone.
func (e *edit) claim() error {
	if left := e.tx.Left(); left < e.nnew {
		return fmt.Errorf("%s at block %d: %w: %d new nodes, %d left", e.t.kind.what(), e.t.root.Blkno, journal.ErrCredits, e.nnew, left)
	}
	for k := range e.nnew {
		id, err := e.res.ClaimMeta(e.tx)
		if err != nil {
			return fmt.Errorf("new node of %s at block %d: %w", e.t.kind.what(), e.t.root.Blkno, err)
		}
		b := e.t.m.New(id.Blkno)
		e.blocks[k] = newBlock{id, b}
		if err := e.tx.Write(&b.Block); err != nil {
			return err
		}
		b.Aux = nil
	}
	return nil
}

// fresh returns the next claimed block as an empty node of the given depth.
func (e *edit) fresh(depth uint16) *newBlock {
	n := &e.blocks[e.used]
	e.used++
	eb := ondisk.ExtentBlock(n.buf.Data)
	eb.Init(n.id.Blkno, e.t.m.Geometry().FSGeneration)
	eb.SetSuballocSlot(n.id.Slot)
	eb.SetSuballocBit(n.id.Bit)
	eb.SetSuballocLoc(n.id.Loc)
	eb.List().SetDepth(depth)
	eb.List().SetCount(uint16(e.t.capacity()))
	return n
}
