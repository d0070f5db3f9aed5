package blockdev

import "sync/atomic"

// pageSize is the unit of sharing between clones of a Mem.
const pageSize = 4096

// page is immutable once shared is set: whoever wants to change it makes a copy.
type page struct {
	shared atomic.Bool // set before a second table can see the page, never cleared
	data   [pageSize]byte
}

// pageTable is a sparse image; a missing page is zeros. It has no lock: Mem.mu
// guards the tables of a Mem, others belong to one goroutine.
type pageTable struct {
	m map[int64]*page // by page number
}

func newPageTable() *pageTable { return &pageTable{m: make(map[int64]*page)} }

// clone shares every page with a new table.
func (t *pageTable) clone() *pageTable {
	c := &pageTable{m: make(map[int64]*page, len(t.m))}
	for k, p := range t.m {
		p.shared.Store(true)
		c.m[k] = p
	}
	return c
}

// read copies the image at off into p.
func (t *pageTable) read(p []byte, off int64) {
	for len(p) > 0 {
		k, at := off/pageSize, off%pageSize
		n := min(int64(len(p)), pageSize-at)
		if pg := t.m[k]; pg != nil {
			copy(p[:n], pg.data[at:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+n
	}
}

// own returns page k of t, writable.
func (t *pageTable) own(k int64) *page {
	pg := t.m[k]
	switch {
	case pg == nil:
		pg = new(page)
	case pg.shared.Load():
		cp := new(page)
		cp.data = pg.data
		pg = cp
	default:
		return pg
	}
	t.m[k] = pg
	return pg
}

// write stores p at off. Zeros over a missing page cost nothing.
func (t *pageTable) write(p []byte, off int64) {
	for len(p) > 0 {
		k, at := off/pageSize, off%pageSize
		n := min(int64(len(p)), pageSize-at)
		if t.m[k] != nil || !allZero(p[:n]) {
			copy(t.own(k).data[at:], p[:n])
		}
		p, off = p[n:], off+n
	}
}

// zero makes [off, off+n) zeros; whole pages are dropped.
func (t *pageTable) zero(off, n int64) {
	if n >= pageSize && n/pageSize > int64(len(t.m)) {
		t.zeroSparse(off, n)
		return
	}
	for n > 0 {
		k, at := off/pageSize, off%pageSize
		c := min(n, pageSize-at)
		if c == pageSize {
			delete(t.m, k)
		} else if t.m[k] != nil {
			clear(t.own(k).data[at : at+c])
		}
		off, n = off+c, n-c
	}
}

// zeroSparse is zero for a range with more pages than the table holds.
func (t *pageTable) zeroSparse(off, n int64) {
	end := off + n
	for k := range t.m {
		lo, hi := max(off, k*pageSize), min(end, (k+1)*pageSize)
		if lo >= hi {
			continue
		}
		if hi-lo == pageSize {
			delete(t.m, k)
			continue
		}
		clear(t.own(k).data[lo-k*pageSize : hi-k*pageSize])
	}
}

// catchUp makes t, which lacks ops, equal to live, which has them applied in order.
// It shares live's pages rather than copying. Of the operations on one page the last
// decides: a write shares the finished page, zeroing is repeated.
func (t *pageTable) catchUp(live *pageTable, ops []Op) {
	for i := range ops {
		o := &ops[i]
		if o.Kind == OpZero {
			t.zero(o.Off, o.Len)
			continue
		}
		for k := o.Off / pageSize; k*pageSize < o.Off+o.Len; k++ {
			t.share(live, k)
		}
	}
}

// share makes page k of t the same as in src.
func (t *pageTable) share(src *pageTable, k int64) {
	pg := src.m[k]
	if pg == nil {
		delete(t.m, k)
		return
	}
	pg.shared.Store(true)
	t.m[k] = pg
}

// apply carries out a logged write or zeroing, sector by sector where keep is
// given: keep(sector number) tells whether that sector reached the medium.
func (t *pageTable) apply(o *Op, keep func(sector int64) bool) {
	if keep == nil {
		t.applyPart(o, 0, o.Len)
		return
	}
	for at := int64(0); at < o.Len; at += SectorSize {
		if keep((o.Off + at) / SectorSize) {
			t.applyPart(o, at, min(SectorSize, o.Len-at))
		}
	}
}

// applyPart applies n bytes of o, beginning at byte at of it.
func (t *pageTable) applyPart(o *Op, at, n int64) {
	switch o.Kind {
	case OpWrite, OpFUA:
		t.write(o.Data[at:at+n], o.Off+at)
	case OpZero:
		t.zero(o.Off+at, n)
	}
}

// allZero tells whether p holds only zeros.
func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
