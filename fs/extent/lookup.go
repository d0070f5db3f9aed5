package extent

// Lookup returns the record that maps logical cluster cpos, whole, or the hole
// from cpos up to the next record. A hole without a record behind it reaches to
// 2^32 (for cpos 0: to 2^32-1, the largest length). It allocates nothing.
func (t *Tree) Lookup(cpos uint32) (Run, error) {
	var p path
	if err := t.descend(&p, cpos); err != nil {
		return Run{}, err
	}
	defer p.release()
	s := p.at()
	i := upper(s.l, cpos)
	if i > 0 && s.l.Rec(i-1).Clusters() > 0 {
		r, err := t.record(s.l, i-1, s.buf.Blkno)
		if err != nil || uint64(cpos) < r.End() {
			return r, err
		}
	}
	if i < int(s.l.NextFree()) {
		return Run{Cpos: cpos, Clusters: s.l.Rec(i).Cpos() - cpos}, nil
	}
	ok, err := t.move(&p, +1)
	if err != nil {
		return Run{}, err
	}
	if !ok {
		return Run{Cpos: cpos, Clusters: holeToEnd(cpos)}, nil
	}
	s = p.at()
	next := s.l.Rec(firstRecord(s.l)).Cpos()
	if next <= cpos {
		return Run{}, t.corrupt(s.buf.Blkno, "leaf begins at cluster %d, the one before leads to %d", next, cpos)
	}
	return Run{Cpos: cpos, Clusters: next - cpos}, nil
}

func holeToEnd(cpos uint32) uint32 {
	if cpos == 0 {
		return 1<<32 - 1
	}
	return -cpos
}

// LookupHash returns the record with the largest e_cpos not above key: the rule
// of index trees (Linux fs/ocfs2/dir.c, ocfs2_dx_dir_lookup_rec). A tree without
// such a record is corrupt.
func (t *Tree) LookupHash(key uint32) (Run, error) {
	var p path
	if err := t.descend(&p, key); err != nil {
		return Run{}, err
	}
	defer p.release()
	for {
		s := p.at()
		if i := upper(s.l, key) - 1; i >= 0 && s.l.Rec(i).Clusters() > 0 {
			return t.record(s.l, i, s.buf.Blkno)
		}
		// The leaf begins after its boundary: the record is in the one before.
		ok, err := t.move(&p, -1)
		if err != nil {
			return Run{}, err
		}
		if !ok {
			return Run{}, t.corrupt(t.root.Blkno, "no record at or below hash %#x", key)
		}
	}
}

// Walk calls fn for every record that ends after logical cluster from, in
// order, until fn returns false.
func (t *Tree) Walk(from uint32, fn func(Run) bool) error {
	var p path
	if err := t.descend(&p, from); err != nil {
		return err
	}
	defer p.release()
	i := max(0, upper(p.at().l, from)-1)
	next := uint64(0) // the order is checked, so that a tree of one leaf many times ends
	for {
		s := p.at()
		for ; i < int(s.l.NextFree()); i++ {
			if s.l.Rec(i).Clusters() == 0 && i == 0 {
				continue
			}
			r, err := t.record(s.l, i, s.buf.Blkno)
			if err != nil {
				return err
			}
			if uint64(r.Cpos) < next {
				return t.corrupt(s.buf.Blkno, "record %d %v begins before %d, where the one before ends", i, r, next)
			}
			next = r.End()
			if next > uint64(from) && !fn(r) {
				return nil
			}
		}
		if ok, err := t.move(&p, +1); !ok || err != nil {
			return err
		}
		i = 0
	}
}

// Last returns the record with the largest e_cpos, or ok false for an empty tree.
func (t *Tree) Last() (r Run, ok bool, err error) {
	var p path
	if err := t.descend(&p, 1<<32-1); err != nil {
		return Run{}, false, err
	}
	defer p.release()
	s := p.at()
	i := int(s.l.NextFree()) - 1
	if i < 0 || s.l.Rec(i).Clusters() == 0 {
		return Run{}, false, nil
	}
	r, err = t.record(s.l, i, s.buf.Blkno)
	return r, err == nil, err
}
