package extent

import (
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// maxNodes is the longest path: a root and MaxTreeDepth extent blocks.
const maxNodes = ondisk.MaxTreeDepth + 1

// step is one node on a path and the record of it the path goes through; in the
// leaf idx is up to the user.
type step struct {
	buf *buffer.Buf
	l   ondisk.ExtentList
	idx int
}

// path leads from the root (n[0]) to a leaf (n[leaf]). It holds a reference on
// every buffer but the root's; release gives them back.
type path struct {
	n    [maxNodes]step
	leaf int
}

func (p *path) release() {
	for k := 1; k <= p.leaf; k++ {
		p.n[k].buf.Put()
	}
	p.leaf = 0
}

// clone copies p with references of its own.
func (p *path) clone() path {
	c := *p
	for k := 1; k <= c.leaf; k++ {
		c.n[k].buf.Hold()
	}
	return c
}

// at is the leaf.
func (p *path) at() *step { return &p.n[p.leaf] }

// start is the boundary the parents name for the leaf: 0 in a tree without
// levels.
func (p *path) start() uint32 {
	if p.leaf == 0 {
		return 0
	}
	s := &p.n[p.leaf-1]
	return s.l.Rec(s.idx).Cpos()
}

// isFirst and isLast tell whether the leaf is the leftmost or rightmost one.
func (p *path) isFirst() bool {
	for k := range p.leaf {
		if p.n[k].idx > 0 {
			return false
		}
	}
	return true
}

func (p *path) isLast() bool {
	for k := range p.leaf {
		if p.n[k].idx < int(p.n[k].l.NextFree())-1 {
			return false
		}
	}
	return true
}

// upper returns the number of records with e_cpos <= cpos.
func upper(l ondisk.ExtentList, cpos uint32) int {
	lo, hi := 0, int(l.NextFree())
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if l.Rec(mid).Cpos() <= cpos {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// readNode reads the extent block blkno, which must be of the given depth: a
// walk downwards ends whatever is on the disk.
func (t *Tree) readNode(blkno uint64, depth uint16) (*buffer.Buf, ondisk.ExtentList, error) {
	b, err := t.m.Read(blkno, ondisk.CheckExtentBlock)
	if err != nil {
		return nil, nil, err
	}
	l := ondisk.ExtentBlock(b.Data).List()
	if l.Depth() != depth || l.NextFree() == 0 {
		b.Put()
		return nil, nil, t.corrupt(blkno, "node of depth %d with %d records, its parent wants depth %d", l.Depth(), l.NextFree(), depth)
	}
	return b, l, nil
}

// descend fills p with the path to the leaf that cpos leads to. On error p holds
// nothing.
func (t *Tree) descend(p *path, cpos uint32) error {
	l, err := t.rootList()
	if err != nil {
		return err
	}
	p.leaf = 0
	p.n[0] = step{buf: t.root, l: l}
	return t.down(p, func(l ondisk.ExtentList) int { return max(0, upper(l, cpos)-1) })
}

// down extends p to a leaf; pick chooses the record in each interior node.
func (t *Tree) down(p *path, pick func(ondisk.ExtentList) int) error {
	for {
		s := p.at()
		depth := s.l.Depth()
		if depth == 0 {
			return nil
		}
		s.idx = pick(s.l)
		b, l, err := t.readNode(s.l.Rec(s.idx).Blkno(), depth-1)
		if err != nil {
			p.release()
			return err
		}
		p.leaf++
		p.n[p.leaf] = step{buf: b, l: l}
	}
}

func firstRec(ondisk.ExtentList) int  { return 0 }
func lastRec(l ondisk.ExtentList) int { return int(l.NextFree()) - 1 }

// move changes p to the neighbouring leaf in direction dir (-1 or +1). It
// reports false, leaving p as it was, when there is none. On error p holds
// nothing.
func (t *Tree) move(p *path, dir int) (bool, error) {
	k := p.leaf - 1
	for ; k >= 0; k-- {
		if i := p.n[k].idx + dir; i >= 0 && i < int(p.n[k].l.NextFree()) {
			break
		}
	}
	if k < 0 {
		return false, nil
	}
	for i := k + 1; i <= p.leaf; i++ {
		p.n[i].buf.Put()
	}
	p.leaf = k
	p.n[k].idx += dir
	at, first := p.n[k].idx, true
	err := t.down(p, func(l ondisk.ExtentList) int {
		if first {
			first = false
			return at
		}
		if dir > 0 {
			return firstRec(l)
		}
		return lastRec(l)
	})
	return err == nil, err
}

// neighbour returns the path to the leaf next to p's, or ok false.
func (t *Tree) neighbour(p *path, dir int) (q path, ok bool, err error) {
	if (dir < 0 && p.isFirst()) || (dir > 0 && p.isLast()) {
		return path{}, false, nil
	}
	q = p.clone()
	ok, err = t.move(&q, dir)
	return q, ok, err
}

// firstRecord is the first record of the leaf that is not empty.
func firstRecord(l ondisk.ExtentList) int {
	if l.NextFree() > 1 && l.Rec(0).Clusters() == 0 {
		return 1
	}
	return 0
}
