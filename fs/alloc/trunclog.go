package alloc

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// TruncLog is the truncate log of the own slot: clusters that are free, but may
// not be handed out before the journal was emptied (OCFS2 format: truncate log;
// Linux fs/ocfs2/alloc.c).
type TruncLog struct {
	a    *Allocator
	ino  SysInode
	seen atomic.Uint64 // records and clusters as last seen: records<<48 | clusters
	hold TruncHold     // the one in use; guarded by the lock
}

// TruncLog returns the own slot's log.
func (a *Allocator) TruncLog() *TruncLog { return &a.trunc }

// TruncHold is a locked truncate log with room for some appends.
type TruncHold struct {
	t *TruncLog
	b *buffer.Buf
}

// lock takes the lock and reads the inode.
func (t *TruncLog) lock(ctx context.Context) (*TruncHold, error) {
	if err := t.ino.LockEX(ctx); err != nil {
		return nil, fmt.Errorf("truncate log: %w", err)
	}
	b, err := readTrunc(t.ino)
	if err != nil {
		t.ino.UnlockEX()
		return nil, err
	}
	t.hold = TruncHold{t, b}
	t.note(b)
	return &t.hold, nil
}

// readTrunc reads a truncate log inode.
func readTrunc(ino SysInode) (*buffer.Buf, error) {
	b, err := ino.Meta().Read(ino.Blkno(), ondisk.CheckDinode)
	if err != nil {
		return nil, err
	}
	if d := ondisk.Dinode(b.Data); !d.HasFlag(ondisk.InodeValid) || !d.HasFlag(ondisk.InodeDealloc) || d.TruncLog().Count() == 0 {
		b.Put()
		return nil, ondisk.Corruptf("truncate log", b.Blkno, "flags %#x, room for %d records", d.Flags(), d.TruncLog().Count())
	}
	return b, nil
}

// note remembers the counts for Len.
func (t *TruncLog) note(b *buffer.Buf) {
	tl := ondisk.Dinode(b.Data).TruncLog()
	n := uint64(0)
	for i := range int(tl.Used()) {
		if r := tl.Rec(i); r.Start() != 0 {
			n += uint64(r.Clusters())
		}
	}
	t.seen.Store(uint64(tl.Used())<<48 | n&(1<<48-1))
}

// Len is the number of records and clusters in the log, as last seen; no lock is
// taken.
func (t *TruncLog) Len() (records int, clusters uint64) {
	v := t.seen.Load()
	return int(v >> 48), v & (1<<48 - 1)
}

// Prepare locks the log and makes room for n records, flushing it if needed.
// Before Reserve (which is told in Request.Hold) and before the transaction.
func (t *TruncLog) Prepare(ctx context.Context, n int) (*TruncHold, error) {
	h, err := t.lock(ctx)
	if err != nil {
		return nil, err
	}
	if h.Room() < n {
		err = h.flush(ctx)
	}
	if err == nil && h.Room() < n {
		err = fmt.Errorf("alloc: the truncate log holds %d records, %d were asked for", h.Room(), n)
	}
	if err != nil {
		h.Release()
		return nil, err
	}
	return h, nil
}

// Credits is what all appends of one transaction cost.
func (h *TruncHold) Credits() int { return 1 }

// Room is the number of further records that surely fit.
func (h *TruncHold) Room() int {
	tl := ondisk.Dinode(h.b.Data).TruncLog()
	return int(tl.Count()) - int(tl.Used())
}

// Append records that the clusters at block blkno are free once tx is durable: in
// the transaction that removes the last reference to them.
func (h *TruncHold) Append(tx *journal.Handle, blkno uint64, clusters uint32) error {
	g := h.t.a.env.Geo
	first := g.BlocksToClusters(blkno)
	if !g.ValidBlock(blkno) || !g.ClusterAligned(blkno) || first == 0 || clusters == 0 || clusters > g.TotalClusters-first {
		return ondisk.Corruptf("extent", blkno, "freeing %d clusters from here, the volume has %d", clusters, g.TotalClusters)
	}
	if err := tx.Write(&h.b.Block); err != nil {
		return err
	}
	tl := ondisk.Dinode(h.b.Data).TruncLog()
	n := int(tl.Used())
	if n > 0 {
		r := tl.Rec(n - 1)
		end := uint64(r.Start()) + uint64(r.Clusters())
		if r.Start() != 0 && end == uint64(first) && r.Clusters() <= 1<<31 {
			r.SetClusters(r.Clusters() + clusters)
			h.t.grew(0, clusters)
			return nil
		}
	}
	if n == int(tl.Count()) {
		return fmt.Errorf("alloc: the truncate log is full with %d records, Prepare was asked for fewer", n)
	}
	tl.Rec(n).SetStart(first)
	tl.Rec(n).SetClusters(clusters)
	tl.SetUsed(uint16(n + 1))
	h.t.grew(1, clusters)
	return nil
}

func (t *TruncLog) grew(records, clusters uint32) {
	t.seen.Add(uint64(records)<<48 + uint64(clusters))
}

// Release unlocks the log; after tx.Stop.
func (h *TruncHold) Release() {
	t, b := h.t, h.b
	*h = TruncHold{}
	b.Put()
	t.ino.UnlockEX()
}

// Flush frees what the log holds. When it is empty it costs nothing.
func (t *TruncLog) Flush(ctx context.Context) error {
	h, err := t.lock(ctx)
	if err != nil {
		return err
	}
	defer h.Release()
	return h.flush(ctx)
}

// relieve flushes the log because the volume is full; more false: it was empty.
func (t *TruncLog) relieve(ctx context.Context, h *TruncHold) (more bool, err error) {
	if h == nil {
		if h, err = t.lock(ctx); err != nil {
			return false, err
		}
		defer h.Release()
	}
	if ondisk.Dinode(h.b.Data).TruncLog().Used() == 0 {
		return false, nil
	}
	return true, h.flush(ctx)
}

// flushBatch is the number of records freed per transaction.
const flushBatch = 32

// flush empties the log. The journal is emptied first, so that no image of a
// metadata block inside the freed clusters can be replayed over new data.
func (h *TruncHold) flush(ctx context.Context) error {
	a := h.t.a
	if ondisk.Dinode(h.b.Data).TruncLog().Used() == 0 {
		return nil
	}
	if err := a.env.FullFlush(ctx); err != nil {
		return err
	}
	gb, err := a.bitmap.lock(ctx)
	if err != nil {
		return err
	}
	defer a.bitmap.unlock(gb)
	return a.replayTrunc(ctx, h.b, gb)
}

// replayTrunc frees the records of a truncate log from the last to the first,
// each in the transaction that takes it out of the log.
func (a *Allocator) replayTrunc(ctx context.Context, b, gb *buffer.Buf) error {
	c := &a.bitmap
	tl := ondisk.Dinode(b.Data).TruncLog()
	for tl.Used() > 0 {
		n := int(tl.Used())
		from, credits := n, 2
		for from > 0 && n-from < flushBatch {
			r := tl.Rec(from - 1)
			more := c.groupsOf(r.Start(), r.Clusters())
			if credits+more > a.env.Journal.MaxCredits() && from < n {
				break
			}
			from, credits = from-1, credits+more
		}
		tx, err := a.env.Journal.Start(ctx, credits)
		if err != nil {
			return err
		}
		if err := freeRecords(tx, b, from, c, gb); err != nil {
			return a.broken(tx, err)
		}
		a.trunc.noteIf(b)
		if err := tx.Stop(); err != nil {
			return err
		}
	}
	return nil
}

// noteIf keeps Len right if b is the own log.
func (t *TruncLog) noteIf(b *buffer.Buf) {
	if b.Blkno == t.ino.Blkno() {
		t.note(b)
	}
}

// freeRecords frees records [from, tl_used) and takes them out of the log.
func freeRecords(tx *journal.Handle, b *buffer.Buf, from int, c *clusters, gb *buffer.Buf) error {
	if err := tx.Write(&b.Block); err != nil {
		return err
	}
	tl := ondisk.Dinode(b.Data).TruncLog()
	for i := int(tl.Used()) - 1; i >= from; i-- {
		r := tl.Rec(i)
		if r.Start() != 0 && r.Clusters() != 0 {
			if err := c.release(tx, gb, r.Start(), r.Clusters()); err != nil {
				return err
			}
		}
		clear(r)
	}
	tl.SetUsed(uint16(from))
	return nil
}
