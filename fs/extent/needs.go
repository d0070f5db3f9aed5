package extent

// Op is a kind of change, for Needs.
type Op uint8

const (
	OpInsert  Op = iota // Insert of one run
	OpRemove            // one step of Remove; cpos is the last cluster of the range
	OpReplace           // one step of SetFlags or Replace
)

// added is how many records a leaf may gain.
func (op Op) added() int {
	if op == OpReplace {
		return 2
	}
	return 1
}

// Needs returns what one change at logical cluster cpos can take at most: meta
// blocks from the MetaSource and credits of the handle, the new blocks included
// (the allocator's own are not: they are in the reservation's). It is exact for
// the tree as it is; for several changes in one transaction use Worst for all but
// the first.
func (t *Tree) Needs(op Op, cpos uint32) (meta, credits int, err error) {
	var p path
	if err := t.descend(&p, cpos); err != nil {
		return 0, 0, err
	}
	defer p.release()
	n := int(p.at().l.NextFree()) + op.added()
	if n > int(p.at().l.Count()) {
		k := p.leaf
		for ; k > 0; k-- {
			meta++
			if l := p.n[k-1].l; int(l.NextFree()) < int(l.Count()) {
				break
			}
		}
		if k == 0 {
			meta++
			if p.leaf > 0 {
				n = int(p.n[0].l.NextFree()) + 1
			}
			if n > t.capacity() {
				meta++
			}
		}
	}
	return meta, blocksTouched(op, p.leaf) + meta, nil
}

// Worst is Needs for any place in a tree that may have grown by one level since.
func (t *Tree) Worst(op Op) (meta, credits int) {
	d := t.Depth() + 1
	return d + 1, blocksTouched(op, d) + d + 1
}

// blocksTouched counts existing blocks: the path, for insertions the next leaf's
// parents (a boundary to mend), for removals the parents of both neighbours and
// the leaf before.
func blocksTouched(op Op, depth int) int {
	n := depth + 1
	if depth == 0 {
		return n
	}
	switch op {
	case OpInsert:
		n += depth - 1
	case OpRemove:
		n += depth + depth - 1
	}
	return n
}
