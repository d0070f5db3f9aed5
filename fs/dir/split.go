package dir

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// splitHash chooses the hash value from which on a full leaf's cluster gives
// its entries to a new one (Linux fs/ocfs2/dir.c,
// ocfs2_dx_dir_find_leaf_split). first is the lowest value the cluster
// serves, insert the value of the name to come. ErrIndexFull if no value
// helps.
func splitHash(l ondisk.DxEntryList, first, insert uint32, single bool) (uint32, error) {
	majors := make([]uint32, l.NumUsed())
	for i := range majors {
		majors[i] = l.Rec(i).MajorHash()
	}
	slices.Sort(majors)
	if len(majors) == 0 || single {
		return 0, ErrIndexFull
	}
	if lo, hi := majors[0], majors[len(majors)-1]; lo == hi {
		switch {
		case lo == insert:
			return 0, ErrIndexFull
		case lo == first:
			return first + 1, nil
		case lo > insert:
			return lo, nil
		}
		return insert, nil
	}
	for _, m := range majors[len(majors)/2:] {
		if m > first {
			return m, nil
		}
	}
	return 0, ErrIndexFull
}

// splitCluster splits the cluster that the full leaf belongs to: in every leaf
// the entries from the split value on move to the same leaf of a new cluster.
// root is in the transaction.
func (d Dir) splitCluster(tx *journal.Handle, src Source, root, full *buffer.Buf, insert uint32) error {
	c, err := d.leafCluster(root, insert)
	if err != nil {
		return err
	}
	at, err := splitHash(ondisk.DxLeaf(full.Data).Entries(), c.first, insert, c.single)
	if err != nil {
		return fmt.Errorf("%w (directory %d)", err, d.di.Blkno)
	}
	leaves, err := d.newLeaves(tx, src, c.blkno)
	if err != nil {
		return err
	}
	defer putAll(leaves)
	for k := range uint64(d.g.Bpc) {
		old, err := d.leaf(c.blkno + k)
		if err != nil {
			return err
		}
		err = moveUpper(tx, old, leaves[k], at)
		old.Put()
		if err != nil {
			return err
		}
	}
	t := extent.OfDxRoot(d.m, root)
	return t.Insert(tx, src, extent.Run{Cpos: at, Clusters: 1, Blkno: leaves[0].Blkno})
}

// moveUpper moves the entries with a major hash >= at, in hash order, to a
// fresh leaf.
func moveUpper(tx *journal.Handle, from, to *buffer.Buf, at uint32) error {
	l := ondisk.DxLeaf(from.Data).Entries()
	n := int(l.NumUsed())
	moved := 0
	for i := range n {
		if l.Rec(i).MajorHash() >= at {
			moved++
		}
	}
	if moved == 0 {
		return nil
	}
	if err := tx.Write(&from.Block); err != nil {
		return err
	}
	keep := make([][16]byte, 0, n-moved)
	upper := make([][16]byte, 0, moved)
	for i := range n {
		e := l.Rec(i)
		if e.MajorHash() >= at {
			upper = append(upper, [16]byte(e))
		} else {
			keep = append(keep, [16]byte(e))
		}
	}
	byHash := func(a, b [16]byte) int {
		x, y := ondisk.DxEntry(a[:]), ondisk.DxEntry(b[:])
		return cmp.Or(cmp.Compare(x.MajorHash(), y.MajorHash()), cmp.Compare(x.MinorHash(), y.MinorHash()))
	}
	slices.SortStableFunc(keep, byHash)
	slices.SortStableFunc(upper, byHash)
	for i := range keep {
		copy(l.Rec(i), keep[i][:])
	}
	for i := len(keep); i < n; i++ {
		l.Rec(i).Clear()
	}
	l.SetNumUsed(uint16(len(keep)))
	for i := range upper {
		if !appendEntry(to, upper[i][:]) {
			return ErrIndexFull
		}
	}
	return nil
}
