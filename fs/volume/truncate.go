package volume

import (
	"context"
	"fmt"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// truncate sets the size of a regular file. i is locked by lockData. finish
// runs in the transaction that ends the change (attributes set with it).
func (i *Inode) truncate(ctx context.Context, size uint64, finish func()) error {
	v := i.v
	if size > uint64(v.maxBytes) {
		return ErrFileTooBig
	}
	if i.inlineData() {
		return i.truncateInline(ctx, size, finish)
	}
	if size >= i.attr.Size {
		if err := i.zeroGap(int64(size) + int64(v.geo.BlockSize) - 1); err != nil {
			return err
		}
		return i.setSize(ctx, size, finish)
	}
	if err := i.zeroTail(size); err != nil {
		return err
	}
	keep := uint32(v.geo.ClustersForBytes(size))
	if err := i.removeClusters(ctx, keep, 0, size); err != nil {
		return err
	}
	return i.setSize(ctx, size, finish)
}

// setSize writes the size and the times.
func (i *Inode) setSize(ctx context.Context, size uint64, finish func()) error {
	return i.v.transact(ctx, 1, func(tx *journal.Handle) error {
		c, err := i.begin(tx)
		if err != nil {
			return err
		}
		i.attr.Size = size
		i.attr.Mtime = now()
		i.attr.Ctime = i.attr.Mtime
		finish()
		c.finish()
		return nil
	})
}

func (i *Inode) truncateInline(ctx context.Context, size uint64, finish func()) error {
	b, di, err := i.dinode()
	if err != nil {
		return err
	}
	defer b.Put()
	if size > uint64(di.Inline().Count()) {
		if err := i.uninline(ctx); err != nil {
			return err
		}
		return i.setSize(ctx, size, finish)
	}
	return i.v.transact(ctx, 1, func(tx *journal.Handle) error {
		c, err := i.begin(tx)
		if err != nil {
			return err
		}
		if size < i.attr.Size {
			clear(di.Inline().Data()[size:])
		}
		i.attr.Size = size
		i.attr.Mtime = now()
		i.attr.Ctime = i.attr.Mtime
		finish()
		c.finish()
		return nil
	})
}

// zeroTail zeroes the block that will hold the new end of file from there on,
// so that a later extension shows zeros.
func (i *Inode) zeroTail(size uint64) error {
	bs := uint64(i.v.geo.BlockSize)
	if size&(bs-1) == 0 {
		return nil
	}
	end := min(i.attr.Size, (size+bs-1)&^(bs-1))
	return i.zeroBytes(int64(size), int64(end-size))
}

// zeroBytes zeroes a byte range of the file inside one block or of whole
// blocks, where clusters are allocated and written.
func (i *Inode) zeroBytes(off, n int64) error {
	if n <= 0 {
		return nil
	}
	b, _, err := i.dinode()
	if err != nil {
		return err
	}
	defer b.Put()
	return i.eachRun(b, off, n, func(r extent.Run, at, n, dev int64) error {
		switch {
		case r.Hole() || r.Unwritten():
			return nil
		case r.Refcounted():
			return fmt.Errorf("inode %d shares the clusters at offset %d with another file (reflink), zeroing there: %w", i.blkno, at, ErrUnsupported)
		}
		return i.zeroRun(at, n, dev)
	})
}

// zeroRun zeroes n bytes at device offset dev, which need not be on block
// boundaries.
func (i *Inode) zeroRun(off, n, dev int64) error {
	bs := int64(i.v.geo.BlockSize)
	if head := off & (bs - 1); head != 0 || n < bs {
		k := min(n, bs-head)
		if err := i.overwriteZeros(off, k, dev); err != nil {
			return err
		}
		off, n, dev = off+k, n-k, dev+k
	}
	whole := n &^ (bs - 1)
	if err := i.zeroDevice(dev, whole); err != nil || n == whole {
		return err
	}
	return i.overwriteZeros(off+whole, n-whole, dev+whole)
}

func (i *Inode) overwriteZeros(off, n, dev int64) error {
	z := blockdev.GetBuf(int(n))
	defer blockdev.PutBuf(z)
	clear(z)
	return i.overwrite(z, off, dev)
}

// maxRemoveStep bounds the records one transaction removes.
const maxRemoveStep = 64

// removeStep is that bound for this volume: the truncate log must hold them.
func (v *Volume) removeStep() int { return min(maxRemoveStep, v.geo.TruncCount()) }

// removeClusters unmaps [cpos, cpos+n) (n 0: to the end) from the right, each
// transaction consistent. When the range reaches to the end of the file, size
// is the size aimed at, and i_size follows the last allocated cluster down
// (OCFS2 format: the last cluster must not begin at or behind the end of
// file). Clusters go to the truncate log, extent blocks to their allocator.
func (i *Inode) removeClusters(ctx context.Context, cpos, n uint32, size uint64) error {
	if some, err := i.mappedFrom(cpos); err != nil || !some {
		return err
	}
	d := i.v.alloc.Dealloc()
	end := uint64(cpos) + uint64(n)
	if n == 0 {
		end = 1 << 32
	}
	for end > uint64(cpos) {
		next, err := i.removeSome(ctx, cpos, end, n == 0, size, d)
		if err != nil {
			return err
		}
		end = next
	}
	return d.Run(ctx)
}

// mappedFrom tells whether any cluster at or behind cpos is allocated.
func (i *Inode) mappedFrom(cpos uint32) (bool, error) {
	if i.attr.Clusters == 0 {
		return false, nil
	}
	b, _, err := i.dinode()
	if err != nil {
		return false, err
	}
	defer b.Put()
	t := i.tree(b)
	last, ok, err := t.Last()
	return ok && last.End() > uint64(cpos), err
}

// removeSome is one transaction of removeClusters; it returns the new end.
func (i *Inode) removeSome(ctx context.Context, cpos uint32, end uint64, toEnd bool, size uint64, d *alloc.Dealloc) (uint64, error) {
	v := i.v
	b, _, err := i.dinode()
	if err != nil {
		return 0, err
	}
	defer b.Put()
	t := i.tree(b)
	meta, credits, err := t.Needs(extent.OpRemove, uint32(end-1))
	if err != nil {
		return 0, err
	}
	hold, err := v.alloc.TruncLog().Prepare(ctx, v.removeStep())
	if err != nil {
		return 0, err
	}
	defer hold.Release()
	var next uint64
	req := alloc.Request{Meta: meta, Hold: hold}
	err = v.change(ctx, req, credits+hold.Credits()+1, func(tx *journal.Handle, res *alloc.Reservation) error {
		c, err := i.begin(tx)
		if err != nil {
			return err
		}
		rm, err := i.removeIn(tx, res, &t, cpos, end, d, hold)
		if err != nil {
			c.b.Put()
			return err
		}
		next = uint64(rm.End)
		if rm.Done {
			next = uint64(cpos)
		}
		if toEnd {
			err = i.shrinkSize(&t, size)
		}
		c.finish()
		return err
	})
	return next, err
}

// removeIn unmaps one leaf's part and logs the freed clusters.
func (i *Inode) removeIn(tx *journal.Handle, res *alloc.Reservation, t *extent.Tree, cpos uint32, end uint64, d *alloc.Dealloc, hold *alloc.TruncHold) (extent.Removal, error) {
	var runs [maxRemoveStep]extent.Run
	n := uint32(end - uint64(cpos)) // 0 for the whole key space, as Remove wants it
	rm, err := t.Remove(tx, res, d, cpos, n, runs[:0:i.v.removeStep()])
	if err != nil {
		return rm, err
	}
	for _, r := range rm.Runs {
		if r.Refcounted() {
			return rm, fmt.Errorf("freeing clusters shared by reflink: %w", ErrUnsupported)
		}
		if err := hold.Append(tx, r.Blkno, r.Clusters); err != nil {
			return rm, err
		}
	}
	return rm, nil
}

// shrinkSize lowers the size in memory as far as the remaining clusters allow.
func (i *Inode) shrinkSize(t *extent.Tree, size uint64) error {
	last, ok, err := t.Last()
	if err != nil {
		return err
	}
	s := size
	if ok {
		s = max(s, last.End()<<i.v.geo.ClusterBits)
	}
	i.attr.Size = min(i.attr.Size, s)
	return nil
}

// refuseShared finds clusters shared by reflink in a range that is about to be
// changed, before anything was.
func (i *Inode) refuseShared(b *buffer.Buf, cpos uint32) error {
	if i.attr.Dyn&ondisk.DynHasRefcount == 0 {
		return nil
	}
	t := i.tree(b)
	var shared bool
	err := t.Walk(cpos, func(r extent.Run) bool {
		shared = r.Refcounted()
		return !shared
	})
	if err == nil && shared {
		err = fmt.Errorf("inode %d shares clusters with another file (reflink), removing them: %w", i.blkno, ErrUnsupported)
	}
	return err
}
