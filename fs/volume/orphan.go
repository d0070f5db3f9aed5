package volume

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/dir"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/fs/xattr"
	"github.com/ocfuse/ocfuse/journal"
	"github.com/ocfuse/ocfuse/stackglue"
)

// deleter wipes inodes whose last reference on this node is gone and that may
// have no name left. It has its own goroutine because a FORGET must not wait
// for locks.
type deleter struct {
	v      *Volume
	mu     sync.Mutex // guards queue, busy, closed
	cond   *sync.Cond // there is work, or closed
	idle   *sync.Cond // there is none
	queue  []*Inode
	busy   int
	closed bool
	wiped  atomic.Uint64 // inodes it is done with
}

// deleters is how many inodes are wiped at a time.
const deleters = 2

func (d *deleter) start(v *Volume) {
	d.v = v
	d.cond, d.idle = sync.NewCond(&d.mu), sync.NewCond(&d.mu)
	for range deleters {
		go d.run()
	}
}

// add queues an inode with the reference that goes with it.
func (d *deleter) add(i *Inode) {
	d.mu.Lock()
	d.queue = append(d.queue, i)
	d.mu.Unlock()
	d.cond.Signal()
}

// wait returns when nothing is queued or being wiped.
func (d *deleter) wait() {
	d.mu.Lock()
	for len(d.queue)+d.busy > 0 {
		d.idle.Wait()
	}
	d.mu.Unlock()
}

// progress waits until more inodes than wiped are done with. False: none will be
// soon. The kernel lets go of a file that was unlinked a little later.
func (d *deleter) progress(ctx context.Context, wiped uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for d.wiped.Load() == wiped {
		select {
		case <-ctx.Done():
			return false
		case <-look.C:
		}
	}
	return true
}

// stop ends the goroutines after the queue has been worked off.
func (d *deleter) stop() {
	d.wait()
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.cond.Broadcast()
}

func (d *deleter) run() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		for len(d.queue) == 0 && !d.closed {
			d.cond.Wait()
		}
		if len(d.queue) == 0 {
			return
		}
		i := d.queue[0]
		d.queue = d.queue[1:]
		d.busy++
		d.mu.Unlock()
		d.v.wipeUnused(i)
		d.mu.Lock()
		d.busy--
		d.wiped.Add(1)
		if len(d.queue)+d.busy == 0 {
			d.idle.Broadcast()
		}
	}
}

// wipeUnused runs the delete protocol for an inode that nobody uses here, with
// the caller's reference, which it consumes.
func (v *Volume) wipeUnused(i *Inode) {
	s := v.table.shard(i.blkno)
	s.mu.Lock()
	if i.refs > 1 { // somebody found it again
		i.refs--
		s.mu.Unlock()
		return
	}
	i.loading = make(chan struct{}) // nobody gets it from now on
	s.mu.Unlock()

	_, err := v.deleteInode(v.background, i)
	if err != nil && !errors.Is(err, ErrStale) {
		v.logf("deleting inode %d: %v; it stays in the orphan directory until the next mount", i.blkno, err)
		v.fatal(err)
	}
	v.retire(i)
}

// checkNumber runs the delete protocol for an inode number that is not in
// memory any more: another node removed its last name just when it left.
func (v *Volume) checkNumber(blkno uint64) {
	i, err := v.iget(v.helperCtx, blkno, igetNoQueue)
	if err != nil {
		return // gone, or another node's business
	}
	i.set(stateMaybeOrphaned)
	i.Put()
}

// deleteInode wipes i if it is an orphan that no node uses (OCFS2 format:
// delete; Linux fs/ocfs2/inode.c, ocfs2_delete_inode). gone tells whether it
// did.
func (v *Volume) deleteInode(ctx context.Context, i *Inode) (gone bool, err error) {
	if v.writable() != nil {
		return false, nil
	}
	if !v.local {
		if err := v.nfsSync.Lock(ctx, stackglue.PR, 0); err != nil {
			return false, err
		}
		defer v.nfsSync.Unlock(stackglue.PR)
	}
	if err := v.seeOrphan(ctx, i); err != nil {
		return false, err
	}
	if err := i.wlock(ctx); err != nil {
		return false, err
	}
	defer i.wunlock()
	orphan, err := i.isOrphan()
	mine := false
	if err == nil && orphan {
		mine, err = i.lastUser(ctx)
	}
	if err != nil {
		return false, err
	}
	if !mine {
		// Ours must be gone before META is: the next node to try must not
		// find it, or all of them might leave the deletion to each other.
		i.state.And(^uint32(stateMaybeOrphaned))
		return false, i.dropOpen(ctx)
	}
	if err := v.wipe(ctx, i); err != nil {
		return false, err
	}
	i.set(stateDeleted) // before another node can ask for the value block
	return true, nil
}

// seeOrphan takes the orphan directory that has i for a moment, if it is another
// node's: the locks of an inode which that node made and orphaned itself may
// exist there only (Fresh), and this node have its number from an earlier life.
// Afterwards they are real, and OPEN, which this node holds PR, keeps that life
// from ending, so that what the locks say then holds. Not with i locked: what
// is made real includes its META.
func (v *Volume) seeOrphan(ctx context.Context, i *Inode) error {
	if err := i.rlock(ctx, 0); err != nil {
		return err
	}
	slot, err := i.orphanedSlot()
	i.runlock()
	if err != nil || slot < 0 || slot == v.slot {
		return err
	}
	od, err := v.sysInode(ondisk.SysOrphanDir, slot)
	if err != nil {
		return err
	}
	if err := od.rlock(ctx, 0); err != nil {
		return err
	}
	od.runlock()
	return nil
}

// orphanedSlot returns whose orphan directory has i, -1: none.
func (i *Inode) orphanedSlot() (int, error) {
	if orphan, err := i.isOrphan(); err != nil || !orphan {
		return -1, err
	}
	b, di, err := i.dinode()
	if err != nil {
		return -1, err
	}
	defer b.Put()
	return int(di.OrphanedSlot()), nil
}

// isOrphan decides by the dinode.
func (i *Inode) isOrphan() (bool, error) {
	b, di, err := i.dinode()
	if err != nil {
		return false, err
	}
	defer b.Put()
	const unwanted = ondisk.InodeSystem | ondisk.InodeDioOrphaned
	return di.HasFlag(ondisk.InodeValid|ondisk.InodeOrphaned) && di.Flags()&unwanted == 0 && di.Links() == 0 && di.Dtime() == 0, nil
}

// lastUser asks the cluster whether another node has the inode in memory: the
// OPEN lock can only be had EX if none has it PR. The holder of our own PR is
// given up for it.
func (i *Inode) lastUser(ctx context.Context) (bool, error) {
	if i.v.local {
		return true, nil
	}
	if i.openHeld {
		i.openHeld = false
		i.openLock.Unlock(stackglue.PR)
	}
	err := i.openLock.Lock(ctx, stackglue.EX, locking.NoQueue)
	if errors.Is(err, stackglue.ErrAgain) {
		return false, nil // another node has it, and will delete it
	}
	if err != nil {
		return false, err
	}
	i.openLock.Unlock(stackglue.EX)
	return true, nil
}

// dropOpen gives the OPEN lock back: the inode leaves this node's memory.
func (i *Inode) dropOpen(ctx context.Context) error {
	if i.openLock == nil {
		return nil
	}
	if i.openHeld {
		i.openHeld = false
		i.openLock.Unlock(stackglue.PR)
	}
	return i.openLock.Drop(ctx)
}

// wipe frees everything an orphan has, and the inode itself. i is write-locked.
func (v *Volume) wipe(ctx context.Context, i *Inode) error {
	if err := v.wipeContent(ctx, i); err != nil {
		return err
	}
	return v.freeDinode(ctx, i)
}

// wipeContent frees what the inode owns, in the order of Linux
// ocfs2_wipe_inode; each part survives a crash after it.
func (v *Volume) wipeContent(ctx context.Context, i *Inode) error {
	b, di, err := i.dinode()
	if err != nil {
		return err
	}
	defer b.Put()
	if dx := di.DxRoot(); di.HasDyn(ondisk.DynIndexedDir) && dx != 0 {
		if err := v.dropIndex(ctx, i, dx); err != nil {
			return err
		}
	}
	if !i.inlineData() && !di.IsFastSymlink() {
		if err := i.removeClusters(ctx, 0, 0, 0); err != nil {
			return err
		}
	}
	if err := v.dropXattrs(ctx, i); err != nil {
		return err
	}
	if di.RefcountLoc() == 0 {
		return nil
	}
	return v.leaveRefTree(ctx, i)
}

// dropXattrs frees what the extended attributes own.
func (v *Volume) dropXattrs(ctx context.Context, i *Inode) error {
	d := v.alloc.Dealloc()
	if err := xattr.Wipe(ctx, &i.meta, i.blkno, wiping{i}, d); err != nil {
		return err
	}
	return d.Run(ctx)
}

// dropIndex frees a directory's index: its clusters, then its root.
func (v *Volume) dropIndex(ctx context.Context, i *Inode, dx uint64) error {
	root, err := i.meta.Read(dx, ondisk.CheckDxRoot)
	if err != nil {
		return err
	}
	defer root.Put()
	r := ondisk.DxRoot(root.Data)
	d := v.alloc.Dealloc()
	if !r.IsInline() {
		u := unmapping{i: i, t: extent.OfDxRoot(&i.meta, root), end: 1 << 32, d: d}
		if err := u.run(ctx); err != nil {
			return err
		}
	}
	d.FreeMeta(alloc.MetaBlock{Blkno: dx, Slot: r.SuballocSlot(), Bit: r.SuballocBit(), Loc: r.SuballocLoc()})
	err = v.transact(ctx, 1, func(tx *journal.Handle) error {
		c, err := i.begin(tx)
		if err != nil {
			return err
		}
		c.di.SetDxRoot(0)
		c.di.SetDynFeatures(c.di.DynFeatures() &^ ondisk.DynIndexedDir)
		c.finish()
		return nil
	})
	if err != nil {
		return err
	}
	return d.Run(ctx)
}

// freeDinode is the last transaction of a deletion: the orphan entry, the
// dinode and its bit.
func (v *Volume) freeDinode(ctx context.Context, i *Inode) error {
	b, di, err := i.dinode()
	if err != nil {
		return err
	}
	defer b.Put()
	od, err := v.sysInode(ondisk.SysOrphanDir, int(di.OrphanedSlot()))
	if err != nil {
		return err
	}
	if err := od.wlock(ctx); err != nil {
		return err
	}
	defer od.wunlock()
	mb := alloc.MetaBlock{Blkno: i.blkno, Slot: di.SuballocSlot(), Bit: di.SuballocBit(), Loc: di.SuballocLoc()}
	free, err := v.alloc.LockInodeFree(ctx, mb.Slot)
	if err != nil {
		return err
	}
	defer free.Release()
	return v.transact(ctx, dir.DeleteCredits+free.Credits()+2, func(tx *journal.Handle) error {
		if err := od.deleteName(tx, []byte(ondisk.OrphanName(i.blkno))); err != nil {
			return fmt.Errorf("orphan directory of slot %d: %w", di.OrphanedSlot(), err)
		}
		if i.attr.IsDir() {
			od.attr.Links--
		}
		if err := od.touchDir(tx, false); err != nil {
			return err
		}
		if err := tx.Write(&b.Block); err != nil {
			return err
		}
		di.SetDtime(uint64(now().Sec))
		di.SetFlags(di.Flags() &^ (ondisk.InodeValid | ondisk.InodeOrphaned))
		di.SetLinks(0)
		return free.Free(tx, mb)
	})
}

// recoverOrphans deletes what the orphan directory of a slot holds and nobody
// uses (Linux fs/ocfs2/journal.c, ocfs2_recover_orphans).
func (v *Volume) recoverOrphans(ctx context.Context, slot int) error {
	od, err := v.sysInode(ondisk.SysOrphanDir, slot)
	if err != nil {
		return err
	}
	names, err := v.orphanNames(ctx, od)
	if err != nil {
		return fmt.Errorf("orphan directory of slot %d: %w", slot, err)
	}
	for _, o := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := v.recoverOrphan(ctx, od, o); err != nil {
			return fmt.Errorf("orphan %d of slot %d: %w", o.ino, slot, err)
		}
	}
	return nil
}

// orphanEntry is a name of an orphan directory.
type orphanEntry struct {
	ino  uint64
	name string
	dio  bool // an unfinished appending direct write of a kernel node
}

func (v *Volume) orphanNames(ctx context.Context, od *Inode) ([]orphanEntry, error) {
	var list []orphanEntry
	err := v.ReadDir(ctx, od, 0, func(e DirEntry) bool {
		name := string(e.Name)
		if name == "." || name == ".." {
			return true
		}
		hex, dio := strings.CutPrefix(name, "dio-")
		n, err := strconv.ParseUint(hex, 16, 64)
		if err != nil || n != e.Ino {
			v.logf("orphan directory %d has a strange entry %q for inode %d; left alone", od.blkno, name, e.Ino)
			return true
		}
		list = append(list, orphanEntry{e.Ino, name, dio})
		return true
	})
	return list, err
}

func (v *Volume) recoverOrphan(ctx context.Context, od *Inode, o orphanEntry) error {
	i, err := v.iget(ctx, o.ino, igetNoQueue)
	if errors.Is(err, stackglue.ErrAgain) || errors.Is(err, ErrStale) {
		return nil // another node is deleting it, or has
	}
	if err != nil {
		return err
	}
	defer i.Put()
	if o.dio {
		return v.finishDio(ctx, i, od, o)
	}
	i.set(stateMaybeOrphaned)
	return nil
}

// finishDio ends an appending direct write that a node died in: the clusters
// beyond the end of file go, and the mark.
func (v *Volume) finishDio(ctx context.Context, i, od *Inode, o orphanEntry) error {
	unlock, err := i.lockData(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := i.truncate(ctx, i.attr.Size, func() {}); err != nil {
		return err
	}
	if err := i.removeClusters(ctx, uint32(v.geo.ClustersForBytes(i.attr.Size)), 0, i.attr.Size); err != nil {
		return err
	}
	if err := od.wlock(ctx); err != nil {
		return err
	}
	defer od.wunlock()
	return v.transact(ctx, dir.DeleteCredits+2, func(tx *journal.Handle) error {
		c, err := i.begin(tx)
		if err != nil {
			return err
		}
		c.di.SetFlags(c.di.Flags() &^ ondisk.InodeDioOrphaned)
		c.finish()
		if err := od.deleteName(tx, []byte(o.name)); err != nil {
			return err
		}
		return od.touchDir(tx, false)
	})
}
