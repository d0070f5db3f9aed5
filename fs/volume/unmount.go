package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/stackglue"
)

// Unmount leaves the volume clean (OCFS2 format: clean unmount, in order). The
// caller has made sure that nobody uses it any more; references that are left
// are dropped. After an error the slot stays dirty and is recovered by the next
// mount or another node.
func (v *Volume) Unmount(ctx context.Context) error {
	if v.unmounting.Swap(true) {
		return errors.New("unmounted already")
	}
	v.stopHelpers()
	<-v.timerDone
	lost := v.recovering.wait(ctx)
	if lost != nil {
		v.locks.Close() // or whatever is under way would wait for the dead node's locks
	}
	v.helpers.Wait()
	v.deleter.stop()
	v.reaper.stop()
	if lost != nil {
		return v.leaveDirty(ctx, lost)
	}
	if bad := v.trouble.Load(); bad != nil {
		v.abandon()
		return *bad
	}
	if err := v.leaveSlot(ctx); err != nil {
		v.abandon()
		return err
	}
	v.cancel()
	if err := v.conn.Disconnect(ctx); err != nil {
		return fmt.Errorf("leaving the cluster: %w", err)
	}
	return nil
}

// leaveDirty ends the mount without META locks, which nobody gets as long as a dead
// node's slot is not recovered. What was changed is made durable; the slot is left
// to the next mount, as after a crash.
func (v *Volume) leaveDirty(ctx context.Context, cause error) error {
	err := v.j.FullFlush(ctx)
	v.abandon()
	return errors.Join(fmt.Errorf("this node's slot stays dirty, because a dead node could not be recovered: %w", cause), err)
}

// leaveSlot empties everything the slot owns and gives it up.
func (v *Volume) leaveSlot(ctx context.Context) error {
	if err := v.alloc.Shut(ctx); err != nil {
		return fmt.Errorf("local alloc and truncate log: %w", err)
	}
	if err := v.dropInodes(ctx); err != nil {
		return err
	}
	if err := v.superRes.Lock(ctx, stackglue.EX, 0); err != nil {
		return fmt.Errorf("superblock lock: %w", err)
	}
	if err := v.slots.read(); err != nil {
		return err
	}
	v.slots.m.Clear(v.slot)
	if err := v.slots.write(v.slot); err != nil {
		return err
	}
	v.superRes.Unlock(stackglue.EX)
	if err := v.dropSystem(ctx); err != nil {
		return err
	}
	if err := v.closeJournal(ctx); err != nil {
		return err
	}
	for _, r := range []*locking.Resource{v.nfsSync, v.renameRes, v.superRes} {
		if err := r.Drop(ctx); err != nil {
			return err
		}
	}
	v.locks.Close()
	return nil
}

// dropInodes takes every ordinary inode out of memory.
func (v *Volume) dropInodes(ctx context.Context) error {
	if err := v.j.FullFlush(ctx); err != nil {
		return err
	}
	for _, dirs := range []bool{false, true} {
		for n := range v.table.shards {
			v.dropShard(&v.table.shards[n], dirs)
		}
	}
	v.dropRefTrees()
	return nil
}

// dropShard takes the ordinary inodes of a shard out of memory, all but the
// directories first: their locks may hide those of their children.
func (v *Volume) dropShard(s *shard, dirs bool) {
	s.mu.Lock()
	var list []*Inode
	for _, i := range s.m {
		if !i.system && (dirs || !i.IsDir()) {
			s.unlinkIdle(i)
			list = append(list, i)
		}
	}
	s.mu.Unlock()
	for _, i := range list {
		v.freeInode(i)
		s.mu.Lock()
		delete(s.m, i.blkno)
		s.mu.Unlock()
	}
}

// dropSystem gives the locks of the system inodes back, but for the own
// journal's.
func (v *Volume) dropSystem(ctx context.Context) error {
	if err := v.j.FullFlush(ctx); err != nil {
		return err
	}
	own := v.sysBlkno[sysKey{ondisk.SysJournal, v.slot}]
	for n := range v.table.shards {
		for _, i := range v.table.shards[n].m {
			if i.blkno != own {
				v.freeInode(i)
			}
		}
	}
	return nil
}

// closeJournal empties the log, clears the dirty mark in place and drops the
// journal's lock, in this order.
func (v *Volume) closeJournal(ctx context.Context) error {
	if err := v.j.Close(ctx); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	close(v.flushC)
	<-v.flusherDone
	ji, err := v.sysInode(ondisk.SysJournal, v.slot)
	if err != nil {
		return err
	}
	m := new(buffer.Meta)
	m.Init(v.cache)
	b, err := m.Read(ji.blkno, ondisk.CheckDinode)
	if err != nil {
		return err
	}
	di := ondisk.Dinode(b.Data)
	di.SetJournalFlags(di.JournalFlags() &^ journalDirty)
	err = b.WriteThrough()
	b.Put()
	if err != nil {
		return err
	}
	ji.metaLock.Unlock(stackglue.EX)
	v.dropLocks(ji)
	return nil
}
