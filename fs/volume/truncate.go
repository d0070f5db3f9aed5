package volume

import (
	"context"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/extent"
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
		if err := i.zeroGap(ctx, int64(size)+int64(v.geo.BlockSize)-1); err != nil {
			return err
		}
		return i.setSize(ctx, size, finish)
	}
	if err := i.zeroTail(ctx, size); err != nil {
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
func (i *Inode) zeroTail(ctx context.Context, size uint64) error {
	bs := uint64(i.v.geo.BlockSize)
	if size&(bs-1) == 0 {
		return nil
	}
	end := min(i.attr.Size, (size+bs-1)&^(bs-1))
	return i.zeroBytes(ctx, int64(size), int64(end-size))
}

// zeroBytes zeroes a byte range of the file where clusters are allocated and
// written; shared ones are copied first.
func (i *Inode) zeroBytes(ctx context.Context, off, n int64) error {
	if n <= 0 {
		return nil
	}
	if err := i.unshare(ctx, off, n); err != nil {
		return err
	}
	b, _, err := i.dinode()
	if err != nil {
		return err
	}
	defer b.Put()
	return i.eachRun(b, off, n, func(r extent.Run, at, n, dev int64) error {
		if r.Hole() || r.Unwritten() {
			return nil
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

// removeClusters unmaps [cpos, cpos+n) (n 0: to the end) from the right, each
// transaction consistent. When the range reaches to the end of the file, size
// is the size aimed at, and i_size follows the last allocated cluster down
// (OCFS2 format: the last cluster must not begin at or behind the end of
// file). See unmapping for where clusters and extent blocks go.
func (i *Inode) removeClusters(ctx context.Context, cpos, n uint32, size uint64) error {
	if err := i.settle(); err != nil {
		return err
	}
	if some, err := i.mappedFrom(cpos); err != nil || !some {
		return err
	}
	b, di, err := i.dinode()
	if err != nil {
		return err
	}
	defer b.Put()
	u := unmapping{i: i, t: i.tree(b), cpos: cpos, end: uint64(cpos) + uint64(n), d: i.v.alloc.Dealloc(), extra: 1}
	if n == 0 {
		u.end = 1 << 32
	}
	u.begin = func(tx *journal.Handle) error { return tx.Write(&b.Block) }
	u.finish = func(*journal.Handle) error {
		var err error
		if n == 0 {
			err = i.shrinkSize(&u.t, size)
		}
		change{i, b.Hold(), di}.finish()
		return err
	}
	if err := u.run(ctx); err != nil {
		return err
	}
	return u.d.Run(ctx)
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
