package volume

import (
	"context"
	"fmt"
	"sync"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/stackglue"
)

// Read fills p from byte offset off of a regular file and returns how much
// there was. Holes and unwritten extents read as zeros. It is a served request:
// the kernel keeps pages locked while it waits. c may be nil.
func (v *Volume) Read(ctx context.Context, i *Inode, p []byte, off int64, c Cover) (n int, err error) {
	level, err := i.lockForRead(ctx, c)
	if err != nil {
		return 0, err
	}
	defer i.metaLock.Unlock(level)
	i.mu.RLock()
	defer i.mu.RUnlock()
	if c != nil {
		defer func() { c.Done(off, n, err) }()
	}
	if i.attr.IsDir() {
		return 0, ErrIsDir
	}
	return i.readData(p, off)
}

// lockForRead takes META at the level that c wants. What it wants can rise
// while PR is waited for: then it starts over.
func (i *Inode) lockForRead(ctx context.Context, c Cover) (stackglue.Mode, error) {
	level := stackglue.PR
	for {
		if c != nil && c.NeedsEX() {
			level = stackglue.EX
			i.expectWrite()
		}
		if err := i.metaLock.Lock(ctx, level, locking.Served); err != nil {
			return level, err
		}
		if c == nil || c.Covered(level == stackglue.EX) {
			return level, nil
		}
		i.metaLock.Unlock(level)
	}
}

// expectWrite asks for what a write takes, in one flight, before a read that
// takes META EX because the file is open for writing here: whoever reads so
// writes next, and RW alone, later, would be a round trip of its own. META is
// what the other node flushes for, so RW comes at no wait.
func (i *Inode) expectWrite() {
	if i.metaLock.Level() < stackglue.EX {
		i.metaLock.Prefetch(stackglue.EX)
		i.rwLock.Prefetch(stackglue.EX)
	}
}

// readData reads file data; i is locked.
func (i *Inode) readData(p []byte, off int64) (int, error) {
	size := int64(i.attr.Size)
	if off < 0 || off >= size || len(p) == 0 {
		return 0, nil
	}
	want := int(min(int64(len(p)), size-off))
	b, di, err := i.dinode()
	if err != nil {
		return 0, err
	}
	defer b.Put()
	if i.inlineData() {
		data := di.Inline().Data()
		if off >= int64(len(data)) {
			return 0, nil
		}
		return copy(p[:want], data[off:]), nil
	}
	return want, i.readExtents(b, p, want, off)
}

// readExtents reads want bytes at off into p. Whole blocks go straight into p
// where its capacity allows to read a little too much; the rest is bounced.
func (i *Inode) readExtents(b *buffer.Buf, p []byte, want int, off int64) error {
	bs := int64(i.v.geo.BlockSize)
	from, to := off&^(bs-1), (off+int64(want)+bs-1)&^(bs-1)
	n := int(to - from)
	if from == off && n <= cap(p) {
		return i.readBlocks(b, p[:n], from)
	}
	tmp := blockdev.GetBuf(n)
	defer blockdev.PutBuf(tmp)
	if err := i.readBlocks(b, tmp, from); err != nil {
		return err
	}
	copy(p[:want], tmp[off-from:])
	return nil
}

// readBlocks reads whole blocks. Runs after the first are read in parallel.
func (i *Inode) readBlocks(b *buffer.Buf, p []byte, off int64) error {
	var (
		wg    sync.WaitGroup
		once  sync.Once
		first error
	)
	fail := func(err error) { once.Do(func() { first = err }) }
	err := i.eachRun(b, off, int64(len(p)), func(r extent.Run, at, n, dev int64) error {
		part := p[at-off : at-off+n]
		if r.Hole() || r.Unwritten() {
			clear(part)
			return nil
		}
		if n == int64(len(p)) {
			return i.readDevice(part, dev)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := i.readDevice(part, dev); err != nil {
				fail(err)
			}
		}()
		return nil
	})
	wg.Wait()
	if err != nil {
		return err
	}
	return first
}

func (i *Inode) readDevice(p []byte, dev int64) error {
	if err := i.settle(); err != nil {
		return err
	}
	if _, err := i.v.dev.ReadAt(p, dev); err != nil {
		return fmt.Errorf("reading data of inode %d: %w", i.blkno, err)
	}
	return nil
}

// eachRun calls fn for each piece of the byte range [off, off+n): the run it
// lies in, the piece's file offset and length, and where it is on the device
// (meaningless for holes).
func (i *Inode) eachRun(b *buffer.Buf, off, n int64, fn func(r extent.Run, at, n, dev int64) error) error {
	g := i.v.geo
	t := i.tree(b)
	for end := off + n; off < end; {
		r, err := t.Lookup(uint32(off >> g.ClusterBits))
		if err != nil {
			return fmt.Errorf("inode %d: %w", i.blkno, err)
		}
		stop := min(end, int64(r.End())<<g.ClusterBits)
		dev := g.ByteOfBlock(r.Blkno) + off - int64(r.Cpos)<<g.ClusterBits
		if err := fn(r, off, stop-off, dev); err != nil {
			return err
		}
		off = stop
	}
	return nil
}
