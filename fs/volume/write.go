package volume

import (
	"context"
	"fmt"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
	"github.com/ocfuse/ocfuse/stackglue"
)

// WriteFlags modify Write.
type WriteFlags uint8

const (
	// WriteAppend ignores the offset: the data goes to the end of the file as
	// it is under the cluster lock.
	WriteAppend WriteFlags = 1 << iota
	// WriteKillPriv clears the set-id bits, as a write without CAP_FSETID does.
	WriteKillPriv
	// WriteCache: dirty pages of a shared mapping come back, possibly because
	// the lock is being given up: no lock is asked for (the level held covers
	// it), and the file is never extended.
	WriteCache
	// WriteBehind: new data may be on the device later than the reply, with
	// the transaction that maps it. Flush and Fsync tell what became of it.
	WriteBehind
)

// Write writes p at off and returns where it went (the offset but for
// WriteAppend) and how much. c may be nil.
func (v *Volume) Write(ctx context.Context, i *Inode, p []byte, off int64, f WriteFlags, c Cover) (at int64, n int, err error) {
	if err := v.writable(); err != nil {
		return 0, 0, err
	}
	if f&WriteCache != 0 {
		at, n, err = v.writeLocked(ctx, i, p, off, f)
		if c != nil {
			c.Done(at, n, err)
		}
		return at, n, err
	}
	if err := i.lockRWMeta(ctx); err != nil {
		return 0, 0, err
	}
	defer i.unlockRWMeta()
	if c == nil {
		return v.writeLocked(ctx, i, p, off, f)
	}
	c.Covered(true)
	at, n, err = v.writeLocked(ctx, i, p, off, f)
	c.Done(at, n, err)
	return at, n, err
}

// writeLocked is Write under the cluster locks.
func (v *Volume) writeLocked(ctx context.Context, i *Inode, p []byte, off int64, f WriteFlags) (at int64, n int, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.attr.IsRegular() {
		return 0, 0, ErrInvalid
	}
	if f&WriteAppend != 0 {
		off = int64(i.attr.Size)
	}
	if f&WriteCache != 0 {
		p = p[:max(0, min(int64(len(p)), int64(i.attr.Size)-off))]
	}
	if len(p) == 0 {
		return off, 0, nil
	}
	if off < 0 || off+int64(len(p)) > v.maxBytes {
		return 0, 0, ErrFileTooBig
	}
	w := writer{v: v, i: i, kill: f&WriteKillPriv != 0, behind: f&WriteBehind != 0}
	n, err = w.write(ctx, p, off)
	return off, n, err
}

// lockRWMeta takes RW EX and META EX: what every change of a file's data takes
// (OCFS2 locking: truncate, write, fallocate).
func (i *Inode) lockRWMeta(ctx context.Context) error {
	i.metaLock.Prefetch(stackglue.EX)
	if err := i.rwLock.Lock(ctx, stackglue.EX, 0); err != nil {
		return err
	}
	if err := i.metaLock.Lock(ctx, stackglue.EX, 0); err != nil {
		i.rwLock.Unlock(stackglue.EX)
		return err
	}
	return nil
}

func (i *Inode) unlockRWMeta() {
	i.metaLock.Unlock(stackglue.EX)
	i.rwLock.Unlock(stackglue.EX)
}

// lockData takes the locks of a change of the data, in order RW, META, mu.
func (i *Inode) lockData(ctx context.Context) (unlock func(), err error) {
	if err := i.lockRWMeta(ctx); err != nil {
		return nil, err
	}
	i.mu.Lock()
	return func() {
		i.mu.Unlock()
		i.unlockRWMeta()
	}, nil
}

// writer is one write in progress; the inode is locked.
type writer struct {
	v    *Volume
	i    *Inode
	kill bool
	// behind: see WriteBehind.
	behind bool
}

// maxWriteRun is the most bytes one transaction allocates and writes.
const maxWriteRun = 4 << 20

// write stores p at off. It returns how much was written before an error.
func (w writer) write(ctx context.Context, p []byte, off int64) (int, error) {
	i := w.i
	if done, err := w.tryInline(ctx, p, off); done || err != nil {
		return ifOK(len(p), err)
	}
	if err := i.zeroGap(ctx, off); err != nil {
		return 0, err
	}
	written, stamped := 0, false
	for written < len(p) {
		var n int
		var err error
		n, stamped, err = w.piece(ctx, p[written:], off+int64(written))
		written += n
		if err != nil {
			return written, err
		}
	}
	if stamped {
		return written, nil
	}
	return written, w.touch(ctx, off+int64(len(p)))
}

func ifOK(n int, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	return n, nil
}

// piece writes the part of p that lies in one run. stamped tells that the
// transaction which mapped it has the size and the times too.
func (w writer) piece(ctx context.Context, p []byte, off int64) (n int, stamped bool, err error) {
	i, g := w.i, w.v.geo
	b, _, err := i.dinode()
	if err != nil {
		return 0, false, err
	}
	defer b.Put()
	t := i.tree(b)
	r, err := t.Lookup(uint32(off >> g.ClusterBits))
	if err != nil {
		return 0, false, fmt.Errorf("inode %d: %w", i.blkno, err)
	}
	n = int(min(int64(len(p)), int64(r.End())<<g.ClusterBits-off, maxWriteRun))
	p = p[:n]
	dev := g.ByteOfBlock(r.Blkno) + off - int64(r.Cpos)<<g.ClusterBits
	switch {
	case r.Refcounted():
		n, err = w.cow(ctx, p, off, r)
		return n, false, err
	case r.Hole():
		n, err = w.fillHole(ctx, p, off)
		return n, true, err
	case r.Unwritten():
		n, err = w.fillUnwritten(ctx, p, off, r)
		return n, true, err
	}
	return n, false, i.overwrite(p, off, dev)
}

// overwrite writes into allocated, written clusters; off lies at dev. Partial
// blocks are completed from the device, or with zeros behind the end of file.
func (i *Inode) overwrite(p []byte, off, dev int64) error {
	bs := int64(i.v.geo.BlockSize)
	head := off & (bs - 1)
	end := (head + int64(len(p)) + bs - 1) &^ (bs - 1)
	if head == 0 && end == int64(len(p)) {
		return i.writeDevice(p, dev)
	}
	tmp := blockdev.GetBuf(int(end))
	defer blockdev.PutBuf(tmp)
	if err := i.edge(tmp[:bs], off-head, dev-head); err != nil {
		return err
	}
	if end > bs {
		last := end - bs
		if err := i.edge(tmp[last:], off-head+last, dev-head+last); err != nil {
			return err
		}
	}
	copy(tmp[head:], p)
	return i.writeDevice(tmp, dev-head)
}

// edge fills a block that will be partly overwritten: blocks behind the end of
// file count as zeros, whatever they hold.
func (i *Inode) edge(p []byte, off, dev int64) error {
	if off >= int64(i.attr.Size) {
		clear(p)
		return nil
	}
	if err := i.readDevice(p, dev); err != nil {
		return err
	}
	if keep := int64(i.attr.Size) - off; keep < int64(len(p)) {
		clear(p[keep:])
	}
	return nil
}

func (i *Inode) writeDevice(p []byte, dev int64) error {
	if err := i.settle(); err != nil {
		return err
	}
	if _, err := i.v.dev.WriteAt(p, dev); err != nil {
		return fmt.Errorf("writing data of inode %d: %w", i.blkno, err)
	}
	return nil
}

// fillHole allocates clusters for p and writes it; what p does not cover of
// them reads as zeros.
func (w writer) fillHole(ctx context.Context, p []byte, off int64) (int, error) {
	i, g := w.i, w.v.geo
	first := uint32(off >> g.ClusterBits)
	want := uint32((off+int64(len(p))-1)>>g.ClusterBits) - first + 1
	b, _, err := i.dinode()
	if err != nil {
		return 0, err
	}
	defer b.Put()
	t := i.tree(b)
	meta, credits, err := t.Needs(extent.OpInsert, first)
	if err != nil {
		return 0, err
	}
	goal := i.goal(&t, first)
	n := 0
	err = w.v.change(ctx, alloc.Request{Meta: meta, Clusters: want}, credits+1, func(tx *journal.Handle, res *alloc.Reservation) error {
		blkno, got, err := res.ClaimClusters(tx, want, goal)
		if err != nil {
			return err
		}
		start := int64(first) << g.ClusterBits
		n = int(min(int64(len(p)), start+int64(got)<<g.ClusterBits-off))
		if err := w.writeNew(tx, p[:n], off, extent.Run{Cpos: first, Clusters: got, Blkno: blkno}); err != nil {
			return err
		}
		c, err := i.begin(tx)
		if err != nil {
			return err
		}
		if err := t.Insert(tx, res, extent.Run{Cpos: first, Clusters: got, Blkno: blkno}); err != nil {
			c.b.Put()
			return err
		}
		w.grown(off + int64(n))
		w.stamp()
		c.finish()
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// writeNew writes p at off into the clusters of r, which tx maps.
func (w writer) writeNew(tx *journal.Handle, p []byte, off int64, r extent.Run) error {
	i, g := w.i, w.v.geo
	start, n, dev := int64(r.Cpos)<<g.ClusterBits, int64(r.Clusters)<<g.ClusterBits, g.ByteOfBlock(r.Blkno)
	end := off + int64(len(p))
	whole := off == start && end&int64(g.BlockSize-1) == 0 && (end == start+n || end >= int64(i.attr.Size))
	if w.behind && whole {
		return i.writeLater(tx, p, dev)
	}
	return i.writePadded(p, off, start, n, dev)
}

// goal is the block behind the last cluster before cpos, for contiguity.
func (i *Inode) goal(t *extent.Tree, cpos uint32) uint64 {
	if cpos == 0 {
		return 0
	}
	r, err := t.Lookup(cpos - 1)
	if err != nil || r.Hole() {
		return 0
	}
	return r.From(cpos-1, i.v.geo.Bpc).Blkno + uint64(i.v.geo.Bpc)
}

// writePadded writes p at file offset off into the new clusters that start at
// file offset start and device offset dev and are n bytes long. Blocks in
// front of p get zeros, and those behind it as far as the file reaches; blocks
// behind the end of file are zeroed when the file grows (zeroGap).
func (i *Inode) writePadded(p []byte, off, start, n, dev int64) error {
	bs := int64(i.v.geo.BlockSize)
	end := off + int64(len(p))
	to := min(start+n, (max(end, int64(i.attr.Size))+bs-1)&^(bs-1))
	if off == start && end == to {
		return i.writeDevice(p, dev)
	}
	head := off &^ (bs - 1)
	tail := (end + bs - 1) &^ (bs - 1)
	tmp := blockdev.GetBuf(int(tail - head))
	defer blockdev.PutBuf(tmp)
	clear(tmp[:off-head])
	clear(tmp[end-head:])
	copy(tmp[off-head:], p)
	if err := i.zeroDevice(dev, head-start); err != nil {
		return err
	}
	if err := i.writeDevice(tmp, dev+head-start); err != nil {
		return err
	}
	return i.zeroDevice(dev+tail-start, to-tail)
}

// zeroDevice writes n zero bytes at device offset dev.
func (i *Inode) zeroDevice(dev, n int64) error {
	if n <= 0 {
		return nil
	}
	if err := i.settle(); err != nil {
		return err
	}
	if err := blockdev.ZeroRange(i.v.dev, dev, n); err != nil {
		return fmt.Errorf("zeroing data of inode %d: %w", i.blkno, err)
	}
	return nil
}

// fillUnwritten writes into clusters that are allocated but read as zeros, and
// marks them written.
func (w writer) fillUnwritten(ctx context.Context, p []byte, off int64, r extent.Run) (int, error) {
	i, g := w.i, w.v.geo
	first := uint32(off >> g.ClusterBits)
	count := uint32((off+int64(len(p))-1)>>g.ClusterBits) - first + 1
	part := r.From(first, g.Bpc)
	start := int64(first) << g.ClusterBits
	if err := i.writePadded(p, off, start, int64(count)<<g.ClusterBits, g.ByteOfBlock(part.Blkno)); err != nil {
		return 0, err
	}
	err := i.setFlags(ctx, first, count, 0, ondisk.ExtentUnwritten, func() {
		w.grown(off + int64(len(p)))
		w.stamp()
	})
	return ifOK(len(p), err)
}

// setFlags changes the flags of mapped clusters, in as many transactions as it
// takes. done runs in each.
func (i *Inode) setFlags(ctx context.Context, cpos, n uint32, set, clear uint8, done func()) error {
	for n > 0 {
		b, _, err := i.dinode()
		if err != nil {
			return err
		}
		t := i.tree(b)
		meta, credits, err := t.Needs(extent.OpReplace, cpos)
		if err == nil {
			err = i.v.change(ctx, alloc.Request{Meta: meta}, credits+1, func(tx *journal.Handle, res *alloc.Reservation) error {
				c, err := i.begin(tx)
				if err != nil {
					return err
				}
				k, err := t.SetFlags(tx, res, cpos, n, set, clear)
				if err != nil {
					c.b.Put()
					return err
				}
				cpos, n = cpos+k, n-k
				done()
				c.finish()
				return nil
			})
		}
		b.Put()
		if err != nil {
			return err
		}
	}
	return nil
}

// grown raises the size in a transaction that also maps the clusters: the
// last allocated cluster must never begin at or behind the end of file.
func (w writer) grown(end int64) {
	if uint64(end) > w.i.attr.Size {
		w.i.attr.Size = uint64(end)
	}
}

// touch writes size, times and mode after the data is there.
func (w writer) touch(ctx context.Context, end int64) error {
	i := w.i
	return w.v.transact(ctx, 1, func(tx *journal.Handle) error {
		c, err := i.begin(tx)
		if err != nil {
			return err
		}
		w.grown(end)
		w.stamp()
		c.finish()
		return nil
	})
}

func (w writer) stamp() {
	a := &w.i.attr
	a.Mtime = now()
	a.Ctime = a.Mtime
	if w.kill {
		a.Mode = killPriv(a.Mode)
	}
}

// killPriv clears the set-user-id bit, and the set-group-id bit of files whose
// group may execute them.
func killPriv(mode uint16) uint16 {
	mode &^= 0o4000
	if mode&0o010 != 0 {
		mode &^= 0o2000
	}
	return mode
}

// zeroGap makes the bytes between the end of file and off, which is about to
// become part of the file, read as zeros: whole blocks of allocated clusters
// behind the old end may hold anything (Linux ocfs2_zero_extend). The rest of
// the old last block is zero already.
func (i *Inode) zeroGap(ctx context.Context, off int64) error {
	bs := int64(i.v.geo.BlockSize)
	from := (int64(i.attr.Size) + bs - 1) &^ (bs - 1)
	to := off &^ (bs - 1)
	if to <= from || i.attr.Clusters == 0 || i.inlineData() {
		return nil
	}
	if err := i.unshare(ctx, from, to-from); err != nil {
		return err
	}
	b, _, err := i.dinode()
	if err != nil {
		return err
	}
	defer b.Put()
	// Only the last allocated cluster can reach behind the end of file by
	// more than preallocation, which is unwritten.
	return i.eachRun(b, from, to-from, func(r extent.Run, _, n, dev int64) error {
		if r.Hole() || r.Unwritten() {
			return nil
		}
		return i.zeroDevice(dev, n)
	})
}
