package extent

import "github.com/ocfuse/ocfuse/fs/ondisk"

// apply carries out a prepared edit. Every block it touches was declared.
func (e *edit) apply() {
	b := e.t.root.Data
	e.t.kind.setClusters(b, uint32(int64(e.t.kind.clusters(b))+e.count))
	if e.unlink {
		e.applyUnlink()
		return
	}
	s := e.p.at()
	if e.drop > 0 {
		shift(s.l, 1, 0)
		e.i, e.j, e.drop = e.i-1, e.j-1, 0
	}
	for k := range e.p.leaf + 1 {
		e.edge[k] = e.p.n[k].l
	}
	if e.deepen {
		e.applyDeepen()
	}
	if n := e.result(); n > int(e.p.at().l.Count()) {
		e.splitLeaf(n)
	} else {
		replace(e.p.at().l, e.i, e.j, e.recs)
	}
	e.fixEdges()
}

// shift moves the records from index from on to index to, clears what is left
// over and sets the number of used records.
func shift(l ondisk.ExtentList, from, to int) {
	n := int(l.NextFree())
	m := n + to - from
	copy(l.Recs(to, m), l.Recs(from, n))
	if m < n {
		clear(l.Recs(m, n))
	}
	l.SetNextFree(uint16(m))
}

// replace puts recs in the place of leaf records [i, j); there is room.
func replace(l ondisk.ExtentList, i, j int, recs []Run) {
	if j-i != len(recs) {
		shift(l, j, i+len(recs))
	}
	for k, r := range recs {
		l.Rec(i+k).SetLeaf(r.Cpos, uint16(r.Clusters), r.Blkno, r.Flags)
	}
}

// applyDeepen moves the root's records into a new block below it.
func (e *edit) applyDeepen() {
	root := e.p.n[0].l
	nb := e.fresh(root.Depth())
	l := ondisk.ExtentBlock(nb.buf.Data).List()
	n := int(root.NextFree())
	copy(l.Recs(0, n), root.Recs(0, n))
	l.SetNextFree(uint16(n))
	clear(root.Recs(0, n))
	end := uint32(0)
	if n > 0 {
		end = recEnd(l, n-1)
	}
	root.SetDepth(root.Depth() + 1)
	root.Rec(0).SetInterior(0, end, nb.id.Blkno)
	root.SetNextFree(1)
	if root.Depth() == 1 {
		e.t.kind.setLastEb(e.t.root.Data, nb.id.Blkno)
	}
	copy(e.p.n[1:e.p.leaf+2], e.p.n[:e.p.leaf+1])
	e.p.leaf++
	e.p.n[0].idx = 0
	e.p.n[1].buf, e.p.n[1].l = nb.buf.Hold(), l
	copy(e.edge[1:], e.edge[:e.p.leaf])
	e.edge[0], e.edge[1] = root, l
}

// splitLeaf replaces records in a full leaf, moving part of the n resulting
// records into a new leaf behind it.
func (e *edit) splitLeaf(n int) {
	s := e.p.at()
	nb := e.fresh(0)
	left, right := s.l, ondisk.ExtentBlock(nb.buf.Data).List()
	if e.i == int(left.NextFree()) {
		// Appending: a full leaf stays full, which is right for sequential files.
		replace(right, 0, 0, e.recs)
	} else {
		e.halve(left, right, n)
	}
	lb, rb := ondisk.ExtentBlock(s.buf.Data), ondisk.ExtentBlock(nb.buf.Data)
	rb.SetNextLeafBlk(lb.NextLeafBlk())
	lb.SetNextLeafBlk(nb.id.Blkno)
	if rb.NextLeafBlk() == 0 {
		e.t.kind.setLastEb(e.t.root.Data, nb.id.Blkno)
	}
	e.edge[e.p.leaf] = right
	e.addChild(e.p.leaf-1, right.Rec(0).Cpos(), nb.id.Blkno)
}

// halve distributes the n resulting records over left and right.
func (e *edit) halve(left, right ondisk.ExtentList, n int) {
	var scratch [recSize * (260 + 16)]byte
	all := append(scratch[:0], left.Recs(0, e.i)...)
	for _, r := range e.recs {
		var b [recSize]byte
		ondisk.ExtentRec(b[:]).SetLeaf(r.Cpos, uint16(r.Clusters), r.Blkno, r.Flags)
		all = append(all, b[:]...)
	}
	all = append(all, left.Recs(e.j, int(left.NextFree()))...)
	spread(left, right, all, n)
}

// spread writes the first half of n records to left and the rest to right.
func spread(left, right ondisk.ExtentList, all []byte, n int) {
	h := (n + 1) / 2
	old := int(left.NextFree())
	copy(left.Recs(0, h), all[:h*recSize])
	if old > h {
		clear(left.Recs(h, old))
	}
	left.SetNextFree(uint16(h))
	copy(right.Recs(0, n-h), all[h*recSize:])
	right.SetNextFree(uint16(n - h))
}

// addChild enters a new child into the interior node k of the path, behind the
// child the path goes through; the boundary between them is at.
func (e *edit) addChild(k int, at uint32, child uint64) {
	s := &e.p.n[k]
	old := s.l.Rec(s.idx)
	end := recEnd(s.l, s.idx)
	old.SetIntClusters(at - old.Cpos())
	pos, n := s.idx+1, int(s.l.NextFree())
	var rec [recSize]byte
	ondisk.ExtentRec(rec[:]).SetInterior(at, end-at, child)
	if n < int(s.l.Count()) {
		shift(s.l, pos, pos+1)
		copy(s.l.Rec(pos), rec[:])
		return
	}
	nb := e.fresh(s.l.Depth())
	right := ondisk.ExtentBlock(nb.buf.Data).List()
	if pos == n {
		copy(right.Rec(0), rec[:])
		right.SetNextFree(1)
	} else {
		var scratch [recSize * 260]byte
		all := append(scratch[:0], s.l.Recs(0, pos)...)
		all = append(all, rec[:]...)
		all = append(all, s.l.Recs(pos, n)...)
		spread(s.l, right, all, n+1)
	}
	e.edge[k] = right
	e.addChild(k-1, right.Rec(0).Cpos(), nb.id.Blkno)
}

// fixEdges brings the interior records in line with the leaf's new first and
// last record.
func (e *edit) fixEdges() {
	if e.p.leaf == 0 {
		return
	}
	if e.top {
		l := e.edge[e.p.leaf]
		setEnds(e.edge[:e.p.leaf], recEnd(l, int(l.NextFree())-1))
	}
	first := e.p.at().l.Rec(0).Cpos()
	switch {
	case e.raise:
		setBoundary(&e.left, &e.p, first)
	case e.lower:
		lowerStarts(&e.p, first)
	}
}

// setEnds makes the last record of each of the nodes end at end.
func setEnds(nodes []ondisk.ExtentList, end uint32) {
	for _, l := range nodes {
		r := l.Rec(int(l.NextFree()) - 1)
		r.SetIntClusters(end - r.Cpos())
	}
}

// setStart makes an interior record begin at cpos, keeping its end.
func setStart(r ondisk.ExtentRec, cpos uint32) {
	end := r.Cpos() + r.IntClusters()
	r.SetCpos(cpos)
	r.SetIntClusters(end - cpos)
}

// lowerStarts extends the first records on the path downwards to first.
func lowerStarts(p *path, first uint32) {
	for k := p.leaf - 1; k >= 0; k-- {
		r := p.n[k].l.Rec(p.n[k].idx)
		if r.Cpos() <= first {
			return
		}
		setStart(r, first)
	}
}

// setBoundary moves the boundary between two neighbouring leaves.
func setBoundary(left, right *path, at uint32) {
	k := 0
	for left.n[k].idx == right.n[k].idx {
		k++
	}
	end := func(s *step) { r := s.l.Rec(s.idx); r.SetIntClusters(at - r.Cpos()) }
	end(&left.n[k])
	setStart(right.n[k].l.Rec(right.n[k].idx), at)
	for k++; k < left.leaf; k++ {
		end(&left.n[k])
		setStart(right.n[k].l.Rec(right.n[k].idx), at)
	}
}

// applyUnlink takes the empty leaf, and the nodes that empty with it, out of
// the tree.
func (e *edit) applyUnlink() {
	b := e.t.root.Data
	for k := e.p.leaf; k > max(0, e.keep); k-- {
		eb := ondisk.ExtentBlock(e.p.n[k].buf.Data)
		e.out.FreeMeta(MetaBlock{Blkno: eb.Blkno(), Slot: eb.SuballocSlot(), Bit: eb.SuballocBit(), Loc: eb.SuballocLoc()})
	}
	if e.keep < 0 {
		l := e.t.kind.list(b)
		l.SetDepth(0)
		clear(l.Recs(0, int(l.NextFree())))
		l.SetNextFree(0)
		e.t.kind.setLastEb(b, 0)
		return
	}
	start := e.p.start()
	next := ondisk.ExtentBlock(e.p.at().buf.Data).NextLeafBlk()
	node := &e.p.n[e.keep]
	shift(node.l, node.idx+1, node.idx)
	if e.hasRt && e.right.n[e.keep].buf == node.buf && e.right.n[e.keep].idx > node.idx {
		e.right.n[e.keep].idx--
	}
	if e.hasLeft {
		ondisk.ExtentBlock(e.left.at().buf.Data).SetNextLeafBlk(next)
		if next == 0 {
			e.t.kind.setLastEb(b, e.left.at().buf.Blkno)
		}
	}
	switch {
	case e.hasLeft && e.hasRt:
		l := e.right.at().l
		setBoundary(&e.left, &e.right, l.Rec(firstRecord(l)).Cpos())
	case e.hasLeft:
		l := e.left.at().l
		for k := range e.left.leaf {
			e.edge[k] = e.left.n[k].l
		}
		setEnds(e.edge[:e.left.leaf], recEnd(l, int(l.NextFree())-1))
	default:
		lowerStarts(&e.right, start)
	}
}
