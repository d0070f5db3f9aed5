package volume

import (
	"context"
	"fmt"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// cow writes p at off into clusters that are shared by reflink, as far as run r
// and one transaction go: nobody else's data changes (Linux
// fs/ocfs2/refcounttree.c, ocfs2_refcount_cow). It returns how much was written,
// 0 if all it did is to make the clusters this inode's own.
func (w writer) cow(ctx context.Context, p []byte, off int64, r extent.Run) (int, error) {
	g := w.v.geo
	part := r.From(uint32(off>>g.ClusterBits), g.Bpc)
	last := uint32((off + int64(len(p)) - 1) >> g.ClusterBits)
	part.Clusters = last - part.Cpos + 1
	_, n, err := w.i.own(ctx, part, p, off)
	return n, err
}

// unshare makes the written clusters of a byte range the inode's own, so that
// they may be changed in place.
func (i *Inode) unshare(ctx context.Context, off, n int64) error {
	if n <= 0 || i.attr.Dyn&ondisk.DynHasRefcount == 0 {
		return nil
	}
	g := i.v.geo
	end := uint64((off+n-1)>>g.ClusterBits) + 1
	for c := uint64(off >> g.ClusterBits); c < end; {
		b, _, err := i.dinode()
		if err != nil {
			return err
		}
		t := i.tree(b)
		r, err := t.Lookup(uint32(c))
		b.Put()
		if err != nil {
			return fmt.Errorf("inode %d: %w", i.blkno, err)
		}
		if r.Hole() || r.Unwritten() || !r.Refcounted() {
			c = r.End()
			continue
		}
		part := r.From(uint32(c), g.Bpc)
		part.Clusters = uint32(min(r.End(), end) - c)
		done, _, err := i.own(ctx, part, nil, 0)
		if err != nil {
			return err
		}
		c += uint64(done)
	}
	return nil
}

// own makes the first clusters of part, which is inside one REFCOUNTED record,
// the inode's own: those without another user lose the flag, others are
// replaced by a copy. p, which may be empty, is written at off into the copy of
// written clusters. It returns the clusters done, at least 1, and how much of p
// was written, a prefix.
func (i *Inode) own(ctx context.Context, part extent.Run, p []byte, off int64) (done uint32, n int, err error) {
	part.Clusters = min(part.Clusters, uint32(max(1, maxWriteRun>>i.v.geo.ClusterBits)))
	s, err := i.lockShared(ctx, part, false)
	if err != nil {
		return 0, 0, err
	}
	d := i.v.alloc.Dealloc()
	part.Clusters = s.n
	if s.count == 1 {
		done, err = i.unflag(ctx, part, &s, d)
	} else {
		done, n, err = i.replace(ctx, part, &s, d, p, off)
	}
	s.release()
	if err != nil {
		return 0, 0, err
	}
	return done, n, d.Run(ctx)
}

// unflag takes the flag off clusters that only this inode uses, and their record
// out of the refcount tree.
func (i *Inode) unflag(ctx context.Context, part extent.Run, s *sharedPart, d *alloc.Dealloc) (done uint32, err error) {
	b, di, err := i.dinode()
	if err != nil {
		return 0, err
	}
	defer b.Put()
	t := i.tree(b)
	meta, credits, err := t.Needs(extent.OpReplace, part.Cpos)
	if err != nil {
		return 0, err
	}
	req := alloc.Request{Meta: meta + s.meta}
	err = i.v.change(ctx, req, credits+s.credits+1, func(tx *journal.Handle, res *alloc.Reservation) error {
		if err := tx.Write(&b.Block); err != nil {
			return err
		}
		if done, err = t.SetFlags(tx, res, part.Cpos, part.Clusters, 0, ondisk.ExtentRefcounted); err != nil {
			return err
		}
		part.Clusters = done
		if _, err := s.decrement(tx, res, d, part); err != nil {
			return err
		}
		change{i, b.Hold(), di}.finish()
		return nil
	})
	return done, err
}

// replace maps clusters to new ones with the same content, and p in it, and takes
// a reference off the old ones. Unwritten clusters stay so, and p is not
// written.
func (i *Inode) replace(ctx context.Context, part extent.Run, s *sharedPart, d *alloc.Dealloc, p []byte, off int64) (done uint32, n int, err error) {
	b, di, err := i.dinode()
	if err != nil {
		return 0, 0, err
	}
	defer b.Put()
	t := i.tree(b)
	meta, credits, err := t.Needs(extent.OpReplace, part.Cpos)
	if err != nil {
		return 0, 0, err
	}
	goal := i.goal(&t, part.Cpos)
	flags := part.Flags &^ ondisk.ExtentRefcounted
	req := alloc.Request{Meta: meta + s.meta, Clusters: part.Clusters, Runs: 1}
	err = i.v.change(ctx, req, credits+s.credits+1, func(tx *journal.Handle, res *alloc.Reservation) error {
		blkno, got, err := res.ClaimClusters(tx, part.Clusters, goal)
		if err != nil {
			return err
		}
		part.Clusters, done = got, got
		if !part.Unwritten() {
			if n, err = i.copyClusters(part, blkno, p, off); err != nil {
				return err
			}
		}
		if err := tx.Write(&b.Block); err != nil {
			return err
		}
		var buf [1]extent.Run
		old, err := t.Replace(tx, res, part.Cpos, got, blkno, flags, buf[:0])
		if err != nil {
			return err
		}
		if len(old) != 1 || old[0] != part {
			return ondisk.Corruptf("inode", i.blkno, "%v was to be replaced, found %v", part, old)
		}
		if _, err := s.decrement(tx, res, d, part); err != nil {
			return err
		}
		change{i, b.Hold(), di}.finish()
		return nil
	})
	return done, n, err
}

// copyClusters fills the new clusters at block blkno with the content of part and
// the portion of p that lies in it, whose length it returns. What p covers is not
// copied.
func (i *Inode) copyClusters(part extent.Run, blkno uint64, p []byte, off int64) (int, error) {
	g := i.v.geo
	bs := int64(g.BlockSize)
	start, end := int64(part.Cpos)<<g.ClusterBits, int64(part.End())<<g.ClusterBits
	from, to := g.ByteOfBlock(part.Blkno), g.ByteOfBlock(blkno)
	p = p[:max(0, min(int64(len(p)), end-off))]
	if len(p) == 0 {
		return 0, i.copyDevice(from, to, end-start)
	}
	// Blocks that p covers in part are copied, and then overwritten.
	head := (off + bs - 1) &^ (bs - 1)
	tail := max(head, (off+int64(len(p)))&^(bs-1))
	if err := i.copyDevice(from, to, head-start); err != nil {
		return 0, err
	}
	if err := i.copyDevice(from+tail-start, to+tail-start, end-tail); err != nil {
		return 0, err
	}
	return len(p), i.overwrite(p, off, to+off-start)
}

// maxCopy is the buffer for copying clusters.
const maxCopy = 1 << 20

// copyDevice copies n bytes on the device.
func (i *Inode) copyDevice(from, to, n int64) error {
	if n <= 0 {
		return nil
	}
	buf := blockdev.GetBuf(int(min(n, maxCopy)))
	defer blockdev.PutBuf(buf)
	for n > 0 {
		k := min(n, int64(len(buf)))
		if err := i.readDevice(buf[:k], from); err != nil {
			return err
		}
		if err := i.writeDevice(buf[:k], to); err != nil {
			return err
		}
		from, to, n = from+k, to+k, n-k
	}
	return nil
}
