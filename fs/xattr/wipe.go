package xattr

import (
	"context"
	"fmt"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// Volume is what the inode's owner does for Wipe.
type Volume interface {
	// Unmap removes the records of t at and behind logical cluster cpos, from
	// the right, in transactions of its own each of which leaves tree and
	// volume consistent: clusters go to the truncate log or, shared ones, are
	// counted down; extent blocks go to d. also, unless nil, runs last in each
	// transaction and may declare up to extra blocks.
	Unmap(ctx context.Context, t extent.Tree, cpos uint32, d *alloc.Dealloc, extra int, also func(*journal.Handle) error) error
	// Transact runs fn in a transaction that may declare credits blocks.
	Transact(ctx context.Context, credits int, fn func(*journal.Handle) error) error
}

// wiper is one Wipe.
type wiper struct {
	m   *buffer.Meta
	geo *ondisk.Geometry
	v   Volume
	d   *alloc.Dealloc
}

// Wipe frees everything that the extended attributes of the inode whose dinode
// is block blkno of m own, in several transactions. Afterwards the dinode has no
// xattr block; an inline area stays, its values have no clusters. Metadata
// blocks are noted in d, which the caller runs. Errors: ondisk.ErrCorrupt with
// what could be freed freed, and those of v.
func Wipe(ctx context.Context, m *buffer.Meta, blkno uint64, v Volume, d *alloc.Dealloc) error {
	w := wiper{m: m, geo: m.Geometry(), v: v, d: d}
	b, err := m.Read(blkno, ondisk.CheckDinode)
	if err != nil {
		return err
	}
	defer b.Put()
	di := ondisk.Dinode(b.Data)
	if di.HasDyn(ondisk.DynInlineXattr) {
		if err := w.inline(ctx, b, di); err != nil {
			return fmt.Errorf("inline attributes of inode %d: %w", blkno, err)
		}
	}
	if loc := di.XattrLoc(); loc != 0 {
		if err := w.block(ctx, b, loc); err != nil {
			return fmt.Errorf("attributes of inode %d: %w", blkno, err)
		}
	}
	return nil
}

// inline frees the values of the inline area.
func (w *wiper) inline(ctx context.Context, b *buffer.Buf, di ondisk.Dinode) error {
	h := di.XattrArea()
	if n := di.XattrAreaSize(); n != len(h) {
		return ondisk.Corruptf("inline xattr area", b.Blkno, "%d bytes in a block of %d", n, len(b.Data))
	}
	if err := ondisk.CheckXattrRegion("inline xattr area", h, b.Blkno); err != nil {
		return err
	}
	base := len(b.Data) - len(h)
	return w.values(ctx, h, func(off int) (*buffer.Buf, int, error) { return b, base + off, nil }, 0, nil)
}

// block frees the xattr block at loc and what it leads to. di is the dinode's
// buffer.
func (w *wiper) block(ctx context.Context, di *buffer.Buf, loc uint64) error {
	b, err := w.m.Read(loc, ondisk.CheckXattrBlock)
	if err != nil {
		return err
	}
	defer b.Put()
	x := ondisk.XattrBlock(b.Data)
	if x.IsIndexed() {
		err = w.buckets(ctx, b)
	} else {
		base := len(b.Data) - len(x.Header())
		err = w.values(ctx, x.Header(), func(off int) (*buffer.Buf, int, error) { return b, base + off, nil }, 0, nil)
	}
	if err != nil {
		return err
	}
	w.d.FreeMeta(alloc.MetaBlock{Blkno: loc, Slot: x.SuballocSlot(), Bit: x.SuballocBit(), Loc: x.SuballocLoc()})
	return w.v.Transact(ctx, 1, func(tx *journal.Handle) error {
		if err := tx.Write(&di.Block); err != nil {
			return err
		}
		d := ondisk.Dinode(di.Data)
		d.SetXattrLoc(0)
		if !d.HasDyn(ondisk.DynInlineXattr) {
			d.SetDynFeatures(d.DynFeatures() &^ ondisk.DynHasXattr)
		}
		return nil
	})
}

// values frees the clusters of all outside values of a valid region. root tells
// in which block, and where, the byte at an offset of the region lies. extra and
// also are Unmap's.
func (w *wiper) values(ctx context.Context, h ondisk.XattrHeader, root func(off int) (*buffer.Buf, int, error), extra int, also func(*journal.Handle) error) error {
	for i := range int(h.Count()) {
		e := h.Entry(i)
		if e.IsLocal() {
			continue
		}
		if r := h.ValueRoot(e); r.Clusters() == 0 && r.List().NextFree() == 0 {
			continue // freed before a crash
		}
		b, off, err := root(int(e.NameOffset()) + ondisk.Pad4(int(e.NameLen())))
		if err != nil {
			return err
		}
		if err := w.v.Unmap(ctx, extent.OfXattrValue(w.m, b, off), 0, w.d, extra, also); err != nil {
			return fmt.Errorf("value %d in block %d: %w", i, b.Blkno, err)
		}
	}
	return nil
}

// buckets frees the bucket tree of an indexed xattr block, from the right.
func (w *wiper) buckets(ctx context.Context, root *buffer.Buf) error {
	for {
		t := extent.OfXattrTree(w.m, root)
		last, ok, err := t.Last()
		if err != nil || !ok {
			return err
		}
		if err := w.record(ctx, last); err != nil {
			return err
		}
		if err := w.v.Unmap(ctx, t, last.Cpos, w.d, 0, nil); err != nil {
			return err
		}
	}
}

// record frees the values in the buckets of one extent record.
func (w *wiper) record(ctx context.Context, r extent.Run) error {
	step := uint64(ondisk.XattrBucketSize) >> w.geo.BlockBits
	most := uint64(r.Clusters) << w.geo.ClusterBits / ondisk.XattrBucketSize
	n := uint64(1)
	for k := uint64(0); k < n; k++ {
		b, err := w.readBucket(r.Blkno + k*step)
		if err != nil {
			return err
		}
		if k == 0 {
			n = uint64(ondisk.XattrHeader(b.data[:]).NumBuckets())
			if n == 0 || n > most {
				err = ondisk.Corruptf("xattr bucket", r.Blkno, "says the extent has %d buckets, it has room for %d", n, most)
			}
		}
		if err == nil {
			err = w.values(ctx, ondisk.XattrHeader(b.data[:]), b.place, b.credits(), b.seal())
		}
		b.put()
		if err != nil {
			return err
		}
	}
	return nil
}
