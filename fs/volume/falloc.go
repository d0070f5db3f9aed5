package volume

import (
	"context"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// Modes of Fallocate, the numbers of fallocate(2).
const (
	FallocKeepSize  = 0x01
	FallocPunchHole = 0x02
	FallocZeroRange = 0x10
)

// Fallocate allocates, punches a hole into, or zeroes [off, off+n).
// Preallocation behind the end of file with KEEP_SIZE is refused: OCFS2 has no
// place for it that fsck accepts (INODE_SPARSE_SIZE). done is called without
// the inode's mutex: see Cover.Done.
func (v *Volume) Fallocate(ctx context.Context, i *Inode, mode uint32, off, n int64, done Done) error {
	if err := v.writable(); err != nil {
		return err
	}
	if off < 0 || n <= 0 {
		return ErrInvalid
	}
	if off+n < 0 || off+n > v.maxBytes {
		return ErrFileTooBig
	}
	if err := i.lockRWMeta(ctx); err != nil {
		return err
	}
	defer i.unlockRWMeta()
	defer done.call()
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fallocate(ctx, mode, off, n)
}

// fallocate is Fallocate under the locks.
func (i *Inode) fallocate(ctx context.Context, mode uint32, off, n int64) error {
	if !i.attr.IsRegular() {
		return ErrInvalid
	}
	beyond := uint64(off+n) > i.attr.Size
	switch mode {
	case FallocPunchHole | FallocKeepSize:
		return i.punch(ctx, off, n)
	case FallocZeroRange | FallocKeepSize:
		if beyond {
			n = max(0, int64(i.attr.Size)-off)
		}
		return i.zeroRange(ctx, off, n, false)
	case FallocZeroRange:
		return i.zeroRange(ctx, off, n, true)
	case FallocKeepSize:
		if beyond {
			return ErrUnsupported
		}
		return i.preallocate(ctx, off, n)
	case 0:
		return i.preallocate(ctx, off, n)
	}
	return ErrUnsupported
}

// punch frees whole clusters of the range and zeroes the rest of it.
func (i *Inode) punch(ctx context.Context, off, n int64) error {
	size := int64(i.attr.Size)
	if off >= size {
		return nil
	}
	if i.inlineData() {
		return i.zeroInline(ctx, off, min(n, size-off))
	}
	g := i.v.geo
	cs := int64(g.ClusterSize)
	var err error
	end := off + n
	first, last := (off+cs-1)/cs, end/cs
	if end >= size {
		last = (size + cs - 1) / cs
		end = size
	}
	if first >= last {
		err = i.zeroBytes(ctx, off, end-off)
	} else {
		err = i.punchClusters(ctx, off, end, first, last)
	}
	if err != nil {
		return err
	}
	return i.setSize(ctx, i.attr.Size, func() {})
}

func (i *Inode) punchClusters(ctx context.Context, off, end, first, last int64) error {
	cs := int64(i.v.geo.ClusterSize)
	if err := i.zeroBytes(ctx, off, first*cs-off); err != nil {
		return err
	}
	if err := i.zeroBytes(ctx, last*cs, end-last*cs); err != nil {
		return err
	}
	if !i.v.geo.HasSparse() {
		return i.zeroBytes(ctx, first*cs, min((last-first)*cs, end-first*cs))
	}
	return i.removeClusters(ctx, uint32(first), uint32(last-first), i.attr.Size)
}

// zeroInline zeroes bytes of an inline file.
func (i *Inode) zeroInline(ctx context.Context, off, n int64) error {
	return i.v.transact(ctx, 1, func(tx *journal.Handle) error {
		c, err := i.begin(tx)
		if err != nil {
			return err
		}
		clear(c.di.Inline().Data()[off : off+n])
		i.attr.Mtime = now()
		i.attr.Ctime = i.attr.Mtime
		c.finish()
		return nil
	})
}

// zeroRange makes the range allocated and zero.
func (i *Inode) zeroRange(ctx context.Context, off, n int64, grow bool) error {
	if n == 0 {
		return nil
	}
	if k := min(n, int64(i.attr.Size)-off); k > 0 {
		if err := i.punch(ctx, off, k); err != nil {
			return err
		}
	}
	if !grow {
		n = min(n, int64(i.attr.Size)-off)
	}
	return i.preallocate(ctx, off, n)
}

// preallocate allocates the holes of the range as unwritten clusters and grows
// the file to cover it.
func (i *Inode) preallocate(ctx context.Context, off, n int64) error {
	g := i.v.geo
	if !g.HasUnwritten() || !g.HasSparse() {
		return ErrUnsupported
	}
	end := uint64(off + n)
	if i.inlineData() || i.attr.Size == 0 && i.attr.Clusters == 0 && g.HasInlineData() {
		if int64(end) <= int64(g.InlineCount()) && i.inlineData() {
			return i.setSize(ctx, max(i.attr.Size, end), func() {})
		}
		if i.inlineData() {
			if err := i.uninline(ctx); err != nil {
				return err
			}
		}
	}
	if end > i.attr.Size {
		if err := i.zeroGap(ctx, int64(end)+int64(g.BlockSize)-1); err != nil {
			return err
		}
	}
	stop := uint32(g.ClustersForBytes(end))
	for c := uint32(off >> g.ClusterBits); c < stop; {
		next, err := i.allocateHole(ctx, c, stop, end)
		if err != nil {
			return err
		}
		c = next
	}
	return i.setSize(ctx, max(i.attr.Size, end), func() {})
}

// allocateHole fills the first hole at or behind c; it returns where to go on.
func (i *Inode) allocateHole(ctx context.Context, c, stop uint32, end uint64) (uint32, error) {
	b, _, err := i.dinode()
	if err != nil {
		return 0, err
	}
	defer b.Put()
	t := i.tree(b)
	r, err := t.Lookup(c)
	if err != nil {
		return 0, err
	}
	runEnd := uint32(min(r.End(), uint64(stop)))
	if !r.Hole() {
		return runEnd, nil
	}
	meta, credits, err := t.Needs(extent.OpInsert, c)
	if err != nil {
		return 0, err
	}
	goal := i.goal(&t, c)
	want := min(runEnd-c, maxPreallocRun)
	var got uint32
	err = i.v.change(ctx, alloc.Request{Meta: meta, Clusters: want}, credits+1, func(tx *journal.Handle, res *alloc.Reservation) error {
		blkno, k, err := res.ClaimClusters(tx, want, goal)
		if err != nil {
			return err
		}
		got = k
		ch, err := i.begin(tx)
		if err != nil {
			return err
		}
		err = t.Insert(tx, res, extent.Run{Cpos: c, Clusters: k, Blkno: blkno, Flags: ondisk.ExtentUnwritten})
		if err != nil {
			ch.b.Put()
			return err
		}
		covered := min(uint64(c+k)<<i.v.geo.ClusterBits, end)
		i.attr.Size = max(i.attr.Size, covered)
		ch.finish()
		return nil
	})
	return c + got, err
}

// maxPreallocRun bounds the clusters one transaction allocates.
const maxPreallocRun = 1 << 14

// Seek returns the first offset at or behind off with data (hole false) or
// with a hole. The end of file counts as a hole.
func (v *Volume) Seek(ctx context.Context, i *Inode, off int64, hole bool) (int64, error) {
	if err := i.rlock(ctx, locking.Served); err != nil {
		return 0, err
	}
	defer i.runlock()
	size := int64(i.attr.Size)
	if off < 0 || off >= size {
		return 0, ErrNoData
	}
	if i.inlineData() || !i.attr.IsRegular() {
		if hole {
			return size, nil
		}
		return off, nil
	}
	b, _, err := i.dinode()
	if err != nil {
		return 0, err
	}
	defer b.Put()
	found := int64(-1)
	err = i.eachRun(b, off, size-off, func(r extent.Run, at, _, _ int64) error {
		if found < 0 && (r.Hole() || r.Unwritten()) == hole {
			found = at
		}
		return nil
	})
	switch {
	case err != nil:
		return 0, err
	case found >= 0:
		return found, nil
	case hole:
		return size, nil
	}
	return 0, ErrNoData
}
