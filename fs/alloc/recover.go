package alloc

import (
	"context"
	"fmt"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// Recover frees what the local alloc and the truncate log of a slot hold that
// died (or, at mount after a replay, of the own slot), empties both, and flushes
// the journal. Preconditions: the slot's journal was replayed; the superblock lock
// is held, so that nobody else recovers or mounts the slot (not needed for the own
// one). globalBitmap is the global bitmap (the same Meta) with locks that do not
// wait for the recovery. Nil stands for what Env has. The content of the two inodes
// must not be cached from before the replay.
//
// Linux empties both in place and frees the clusters later, which leaks them if
// the survivor dies in between. Here each record leaves its inode in the
// transaction that frees it. The slot may be given away when Recover returns:
// nothing of it is in our log any more.
func (a *Allocator) Recover(ctx context.Context, localAlloc, truncLog, globalBitmap SysInode) error {
	if globalBitmap == nil {
		globalBitmap = a.bitmap.ino
	}
	if localAlloc == nil {
		localAlloc, truncLog = a.env.LocalAlloc, a.env.TruncateLog
	}
	if err := localAlloc.LockEX(ctx); err != nil {
		return err
	}
	defer localAlloc.UnlockEX()
	if err := truncLog.LockEX(ctx); err != nil {
		return err
	}
	defer truncLog.UnlockEX()
	la, err := readLocal(localAlloc)
	if err != nil {
		return err
	}
	defer la.Put()
	tl, err := readTrunc(truncLog)
	if err != nil {
		return err
	}
	defer tl.Put()
	_, total, _, _ := window(la)
	if total == 0 && ondisk.Dinode(tl.Data).TruncLog().Used() == 0 {
		return nil
	}
	// Our own log must not hold images of blocks in clusters about to be free.
	if err := a.env.FullFlush(ctx); err != nil {
		return err
	}
	if err := a.recover(ctx, la, tl, globalBitmap); err != nil {
		return fmt.Errorf("recovering local alloc and truncate log at blocks %d, %d: %w", la.Blkno, tl.Blkno, err)
	}
	return a.env.FullFlush(ctx)
}

func (a *Allocator) recover(ctx context.Context, la, tl *buffer.Buf, lock SysInode) error {
	c := &a.bitmap
	if err := lock.LockEX(ctx); err != nil {
		return err
	}
	defer lock.UnlockEX()
	gb, err := c.dinode()
	if err != nil {
		return err
	}
	defer gb.Put()
	if off, total, _, _ := window(la); total > 0 {
		tx, err := a.env.Journal.Start(ctx, 2+c.groupsOf(off, total))
		if err != nil {
			return err
		}
		if err := giveBack(tx, la, c, gb); err != nil {
			return a.broken(tx, err)
		}
		if err := tx.Stop(); err != nil {
			return err
		}
	}
	return a.replayTrunc(ctx, tl, gb)
}
