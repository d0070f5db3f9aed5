package volume

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
	"github.com/ocfuse/ocfuse/stackglue"
)

// Protocol is the locking protocol of the filesystem (Linux
// fs/ocfs2/dlmglue.c, OCFS2_LOCKING_PROTOCOL_MAJOR and MINOR).
var Protocol = stackglue.Version{Major: 1, Minor: 0}

const (
	defaultCacheBytes = 256 << 20
	defaultIdleInodes = 65536
)

// Mount joins the cluster, takes a slot, replays what must be replayed and
// returns the volume ready for use (Linux fs/ocfs2/super.c,
// ocfs2_fill_super). The device stays the caller's to close, after Unmount.
//
// A device that cannot be written is mounted read-only and without a cluster if
// every journal is clean, so that nobody uses the volume (Linux: "hard
// read-only"); what a mount writes for itself stays in memory.
func Mount(ctx context.Context, dev blockdev.Device, opts Options) (*Volume, error) {
	v := &Volume{opts: opts, raw: dev, dev: dev, kernel: opts.Kernel, slot: -1, sysInodes: map[sysKey]*Inode{}}
	if v.kernel == nil {
		v.kernel = NoKernel{}
	}
	v.background, v.cancel = context.WithCancel(context.Background())
	v.helperCtx, v.stopHelpers = context.WithCancel(v.background)
	v.reaper.init(v)
	protected := dev.ReadOnly()
	if protected {
		v.raw = blockdev.NewOverlay(dev)
		v.dev, v.opts.Stack = v.raw, "local"
		v.onlyRead("the device is write-protected; no cluster is joined")
	}
	if err := v.readSuper(); err != nil {
		return nil, err
	}
	if protected {
		if err := v.checkClean(); err != nil {
			return nil, err
		}
	}
	if err := v.connect(ctx); err != nil {
		return nil, err
	}
	if err := v.start(ctx); err != nil {
		v.abandon()
		return nil, err
	}
	return v, nil
}

// onlyRead makes the mount read-only, and says why.
func (v *Volume) onlyRead(why string) {
	v.logf("%s: mounted read-only", why)
	v.opts.ReadOnly, v.why = true, why
}

// checkClean refuses a volume with a dirty journal: it is in use, or needs a
// recovery that a device which cannot be written does not allow (Linux
// fs/ocfs2/journal.c, ocfs2_check_journals_nolocks).
func (v *Volume) checkClean() error {
	for slot := range v.geo.MaxSlots {
		di, _, err := v.rawExtents(ondisk.SysJournal, slot)
		if err != nil {
			return err
		}
		if di.JournalFlags()&journalDirty != 0 {
			return fmt.Errorf("the device is write-protected, and the journal of slot %d is not clean: the volume is mounted by a node, "+
				"or one died: unmount it there, or make the device writable (blockdev --setrw) so that it can be recovered: %w", slot, blockdev.ErrReadOnly)
		}
	}
	return nil
}

// readSuper reads the superblock and decides whether the volume can be used.
func (v *Volume) readSuper() error {
	geo, _, err := ondisk.FindSuper(v.raw)
	if err != nil {
		return err
	}
	ro, err := geo.CheckFeatures()
	if err != nil {
		return err
	}
	if len(ro) > 0 && !v.opts.ReadOnly {
		v.onlyRead(fmt.Sprintf("the volume has features this program can only read (%s)", strings.Join(ro, ", ")))
	}
	if (geo.HasUsrQuota() || geo.HasGrpQuota()) && !v.opts.ReadOnly {
		v.onlyRead("the volume has quota files, which this program does not keep up to date yet")
	}
	if size := v.raw.Size(); uint64(size) < geo.TotalBlocks<<geo.BlockBits {
		return fmt.Errorf("device has %d bytes, the volume on it %d: it was truncated, or this is not the whole device", size, geo.TotalBlocks<<geo.BlockBits)
	}
	v.geo = geo
	v.maxBytes = min(1<<62, int64(1)<<32<<geo.ClusterBits)
	bytes := v.opts.CacheBytes
	if bytes == 0 {
		bytes = defaultCacheBytes
	}
	v.cache = buffer.NewCache(v.raw, geo, bytes)
	idle := v.opts.IdleInodes
	if idle == 0 {
		idle = defaultIdleInodes
	}
	v.table.init(idle)
	v.nextGen.Store(randomGeneration())
	return v.findSystemFiles()
}

// StackFor names the stack that serves a volume: by its label, "local" for
// volumes made for one node.
func StackFor(geo *ondisk.Geometry) (string, error) {
	if geo.IsLocal() {
		return "local", nil
	}
	return stackglue.ForLabel(geo.ClusterStack)
}

// connect joins the cluster and puts the write gate in front of the device.
func (v *Volume) connect(ctx context.Context) error {
	stack := v.opts.Stack
	if stack == "" {
		var err error
		if stack, err = StackFor(v.geo); err != nil {
			return err
		}
	}
	if v.geo.IsLocal() && stack != "local" {
		return fmt.Errorf("the volume was made for one node (mkfs -M local) and cannot be used with stack %s", stack)
	}
	v.stack, v.local = stack, stack == "local"
	v.recovering.init(v)
	v.locks = locking.New(locking.Config{Tuning: tuning(v.local), NodeDown: v.recovering.nodeDown, Evicted: v.evicted, Logf: v.opts.Logf})
	cfg := v.opts.Conn
	cfg.Group, cfg.ClusterName = v.geo.UUIDString(), v.geo.ClusterName
	cfg.Protocol, cfg.Recovery, cfg.Logf = Protocol, v.locks, v.logf
	if !v.local {
		r, err := v.heartbeatRegion()
		if err != nil {
			return err
		}
		if r != nil {
			cfg.Heartbeat = r
		}
	}
	conn, err := stackglue.Connect(ctx, stack, cfg)
	if err != nil {
		return err
	}
	v.conn, v.node = conn, conn.ThisNode()
	v.locks.Attach(conn)
	if gate := conn.Gate(); gate != nil {
		v.dev = blockdev.NewGated(v.raw, gate)
		v.cache = buffer.NewCache(v.dev, v.geo, int(v.cache.Limit()))
	}
	v.superRes = v.locks.NewResource(locking.Super, locking.GlobalName(locking.Super), nil)
	v.renameRes = v.locks.NewResource(locking.Rename, locking.GlobalName(locking.Rename), nil)
	v.nfsSync = v.locks.NewResource(locking.NFSSync, locking.GlobalName(locking.NFSSync), nil)
	return nil
}

// start brings the volume up once the cluster has been joined.
func (v *Volume) start(ctx context.Context) error {
	if err := v.superRes.Lock(ctx, stackglue.EX, locking.Recovery); err != nil {
		return fmt.Errorf("superblock lock: %w", err)
	}
	locked := true
	unlock := func() {
		if locked {
			v.superRes.Unlock(stackglue.EX)
			locked = false
		}
	}
	defer unlock()
	if err := v.takeSlot(); err != nil {
		return err
	}
	dirty, err := v.openJournal(ctx)
	if err != nil {
		return err
	}
	if err := v.startAlloc(); err != nil {
		return err
	}
	dead, err := v.findDead(ctx)
	if err != nil {
		return err
	}
	v.recovering.start(dead)
	if err := v.recovering.wait(ctx); err != nil {
		return err
	}
	// Not before: our try cached the journal locks of the dead here, so that
	// the next one to mount would take them for alive, and not wait.
	unlock()
	if err := v.loadAlloc(ctx, dirty); err != nil {
		return err
	}
	if v.root, err = v.iget(ctx, v.geo.RootBlkno, igetSystem); err != nil {
		return fmt.Errorf("root directory: %w", err)
	}
	if err := v.GetAttr(ctx, v.root, nil); err != nil {
		return fmt.Errorf("root directory: %w", err)
	}
	v.startBackground()
	return nil
}

// takeSlot finds a slot for this node and writes it into the slot map.
func (v *Volume) takeSlot() error {
	var err error
	if v.slots, err = v.newSlotMap(); err != nil {
		return err
	}
	if err := v.slots.read(); err != nil {
		return err
	}
	slot, err := v.slots.choose(v.node, v.opts.Slot)
	if err != nil {
		return err
	}
	v.slot = slot
	v.slots.m.Set(slot, v.node)
	return v.slots.write(slot)
}

// openJournal takes the lock of the own slot's journal for the whole mount,
// replays the log if the slot was not left cleanly, and marks it dirty.
func (v *Volume) openJournal(ctx context.Context) (wasDirty bool, err error) {
	ji, err := v.sysInode(ondisk.SysJournal, v.slot)
	if err != nil {
		return false, err
	}
	if err := ji.metaLock.Lock(ctx, stackglue.EX, locking.Recovery); err != nil {
		return false, journalError(v.slot, err)
	}
	wasDirty, err = v.cleanJournal(ctx, v.slot, true)
	if err != nil {
		return false, err
	}
	ext, err := v.journalExtents(v.slot)
	if err != nil {
		return false, err
	}
	v.j, err = journal.Open(journal.Config{
		Dev: v.dev, BlockSize: v.geo.BlockSize, Extents: ext, VolumeUUID: v.geo.UUID,
		CommitInterval: v.opts.CommitInterval, AllocBuf: blockdev.AlignedBuf,
		Finish:  func(_ uint64, image []byte) { buffer.Seal(v.geo, image) },
		OnAbort: v.aborted,
	})
	if err != nil {
		return false, journalError(v.slot, err)
	}
	v.flushC, v.flusherDone = make(chan struct{}, 1), make(chan struct{})
	go v.flusher()
	return wasDirty, nil
}

// startAlloc makes the allocators. They cannot allocate before loadAlloc.
func (v *Volume) startAlloc() error {
	env := alloc.Env{
		Geo: v.geo, Journal: v.j, Slot: v.slot, Logf: v.logf, LocalAllocBits: v.opts.LocalAllocBits,
		FullFlush:   v.j.FullFlush,
		InodeAlloc:  func(s int) (alloc.SysInode, error) { return v.sysInode(ondisk.SysInodeAlloc, s) },
		ExtentAlloc: func(s int) (alloc.SysInode, error) { return v.sysInode(ondisk.SysExtentAlloc, s) },
	}
	var errs [4]error
	env.GlobalBitmap, errs[0] = v.sysInode(ondisk.SysGlobalBitmap, 0)
	env.GlobalInodeAlloc, errs[1] = v.sysInode(ondisk.SysGlobalInodeAlloc, 0)
	env.LocalAlloc, errs[2] = v.newSlotFile(ondisk.SysLocalAlloc, v.slot)
	env.TruncateLog, errs[3] = v.newSlotFile(ondisk.SysTruncateLog, v.slot)
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	var err error
	v.alloc, err = alloc.New(env)
	return err
}

// loadAlloc readies the allocators; after a crash what the own slot's local
// alloc and truncate log held is freed first. That waits until the journals of
// all dead nodes are replayed, as any of them may hold the newest bitmap.
func (v *Volume) loadAlloc(ctx context.Context, dirty bool) error {
	if dirty {
		if err := v.alloc.Recover(ctx, nil, nil, nil); err != nil {
			return fmt.Errorf("slot %d after a crash: %w", v.slot, err)
		}
	}
	return v.alloc.LoadLocal(ctx)
}

// startBackground starts what runs beside the callers.
func (v *Volume) startBackground() {
	v.deleter.start(v)
	v.helpers.Go(func() {
		if _, err := v.alloc.Statfs(v.helperCtx); err != nil && v.helperCtx.Err() == nil {
			v.logf("counting free space: %v", err)
		}
	})
	v.timerDone = make(chan struct{})
	go v.timer()
	if v.opts.ReadOnly {
		return
	}
	v.helpers.Go(v.recoverOffline)
	if !v.local {
		v.helpers.Go(v.orphanScan)
	}
}

// recoverOffline deletes the orphans of the own slot and of slots nobody uses
// (Linux ocfs2_complete_mount_recovery, ocfs2_queue_recovery_completion).
func (v *Volume) recoverOffline() {
	for slot := range v.geo.MaxSlots {
		if v.helperCtx.Err() != nil {
			return
		}
		if slot != v.slot && v.slotInUse(slot) {
			continue
		}
		if err := v.recoverOrphans(v.helperCtx, slot); err != nil && v.helperCtx.Err() == nil {
			v.logf("recovering orphans: %v", err)
		}
	}
}

// truncLogDelay is how long freed clusters may wait in the truncate log (Linux:
// OCFS2_TRUNCATE_LOG_FLUSH_INTERVAL, 2 s). Who removes a file expects its space
// to be back within a second.
const truncLogDelay = 500 * time.Millisecond

// timer flushes the truncate log when it has been lying for a while.
func (v *Volume) timer() {
	defer close(v.timerDone)
	t := time.NewTicker(truncLogDelay)
	defer t.Stop()
	for {
		select {
		case <-v.helperCtx.Done():
			return
		case <-t.C:
		}
		if n, _ := v.alloc.TruncLog().Len(); n == 0 || v.writable() != nil {
			continue
		}
		if err := v.alloc.TruncLog().Flush(v.helperCtx); err != nil && v.helperCtx.Err() == nil {
			v.logf("flushing the truncate log: %v", err)
			v.fatal(err)
		}
	}
}

// aborted is the journal's OnAbort.
func (v *Volume) aborted(err error) {
	err = fmt.Errorf("the volume is read-only from now on: %w", err)
	v.trouble.CompareAndSwap(nil, &err)
	v.logf("%v", err)
}

// evicted is the lock manager's notice that the cluster gave this node up.
func (v *Volume) evicted(reason error) {
	err := fmt.Errorf("this node was given up by the cluster: %w", reason)
	v.trouble.CompareAndSwap(nil, &err)
	v.logf("%v", err)
	if v.j != nil {
		v.j.Abort(err)
	}
	v.cancel()
}

// abandon gives a failed mount up: nothing is promised, others recover the
// slot if it was taken.
func (v *Volume) abandon() {
	v.cancel()
	if v.j != nil {
		v.j.Abort(errors.New("mount failed"))
		close(v.flushC)
		<-v.flusherDone
	}
	v.locks.Close()
	v.conn.Abort()
}

// tuning is the fair quantum of a cluster mount: about twice what handing META on
// costs. RW goes along with META; it comes earlier, since no flush goes before it.
func tuning(local bool) locking.Tuning {
	if local {
		return locking.Tuning{}
	}
	return locking.Tuning{MinHold: map[locking.Type]time.Duration{locking.Meta: 3 * time.Millisecond, locking.RW: 5 * time.Millisecond}}
}
