package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
	"github.com/ocfuse/ocfuse/stackglue"
)

// journalDirty is bit 0 of ij_flags: the slot is in use, or its owner died.
const journalDirty = 1

// cleanJournal replays (own: then marks dirty again; else: marks clean) the log
// of a slot if it is dirty, and bumps its recovery generation if it was
// replayed. The caller holds the journal inode's META EX. The inode is written
// in place (OCFS2 format: the journal inode's own state).
func (v *Volume) cleanJournal(ctx context.Context, slot int, own bool) (wasDirty bool, err error) {
	m := new(buffer.Meta)
	m.Init(v.cache)
	defer m.Invalidate()
	b, err := m.Read(v.sysBlkno[sysKey{ondisk.SysJournal, slot}], ondisk.CheckDinode)
	if err != nil {
		return false, fmt.Errorf("journal inode of slot %d: %w", slot, err)
	}
	defer b.Put()
	di := ondisk.Dinode(b.Data)
	wasDirty = di.JournalFlags()&journalDirty != 0
	if err := v.replay(ctx, slot, wasDirty, own); err != nil {
		return wasDirty, err
	}
	if wasDirty {
		di.SetRecoveryGeneration(di.RecoveryGeneration() + 1)
	}
	flags := di.JournalFlags() &^ journalDirty
	if own {
		flags |= journalDirty
	}
	if !wasDirty && !own {
		return false, nil
	}
	di.SetJournalFlags(flags)
	if err := b.WriteThrough(); err != nil {
		return wasDirty, err
	}
	v.noteGeneration(slot, di.RecoveryGeneration())
	return wasDirty, nil
}

func (v *Volume) noteGeneration(slot int, gen uint32) {
	if v.slotGens == nil {
		v.slotGens = make([]uint32, v.geo.MaxSlots)
	}
	v.slotGens[slot] = gen
}

// replay brings the home blocks up to date with a dirty log; the own clean log
// is only emptied.
func (v *Volume) replay(ctx context.Context, slot int, dirty, own bool) error {
	if !dirty && !own {
		return nil
	}
	ext, err := v.journalExtents(slot)
	if err != nil {
		return err
	}
	cfg := journal.ReplayConfig{
		Dev: v.dev, BlockSize: v.geo.BlockSize, Extents: ext,
		VolumeBlocks: v.geo.TotalBlocks, AllocBuf: blockdev.AlignedBuf,
		Progress: func(done, total int) { v.recovering.progress(slot, done, total) },
	}
	if !dirty {
		_, err = journal.Wipe(ctx, cfg)
	} else {
		var res journal.ReplayResult
		if res, err = journal.Replay(ctx, cfg); err == nil {
			v.logf("replayed the journal of slot %d: %d transactions, %d blocks", slot, res.Transactions, res.Written)
		}
	}
	if err != nil {
		return journalError(slot, err)
	}
	return nil
}

// journalError says whose journal failed, and what to do where the journal itself
// is wrong. (Damaged metadata says so by itself.)
func journalError(slot int, err error) error {
	if errors.Is(err, journal.ErrCorrupt) || errors.Is(err, ErrStale) {
		err = fmt.Errorf("%w: run fsck.ocfs2", err)
	}
	return fmt.Errorf("journal of slot %d: %w", slot, err)
}

// readGeneration reads a slot's recovery generation from disk, without a lock.
func (v *Volume) readGeneration(slot int) (uint32, error) {
	di, _, err := v.rawExtents(ondisk.SysJournal, slot)
	if err != nil {
		return 0, err
	}
	return di.RecoveryGeneration(), nil
}

// recovery is the recovery of dead nodes' slots: one goroutine while there is
// something to do.
type recovery struct {
	v       *Volume
	mu      sync.Mutex // guards the rest
	cond    *sync.Cond
	dead    map[uint32]bool
	ready   bool // the mount is far enough to recover others
	running bool
	err     error  // the last failure
	state   string // what is being done, for status
}

func (r *recovery) init(v *Volume) {
	r.v, r.dead = v, map[uint32]bool{}
	r.cond = sync.NewCond(&r.mu)
}

// nodeDown is called by the lock manager, before any lock of the dead node is
// granted here.
func (r *recovery) nodeDown(node uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dead[node] = true
	r.kick()
}

// start begins with nodes found dead at mount, and those that died since.
func (r *recovery) start(dead []uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range dead {
		r.dead[n] = true
		r.v.locks.MarkDead(n)
	}
	r.ready = true
	r.kick()
}

// kick starts the goroutine if there is work. mu held.
func (r *recovery) kick() {
	if r.ready && !r.running && len(r.dead) > 0 {
		r.running = true
		go r.run()
	}
}

// wait returns when no dead node is left to recover.
func (r *recovery) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, r.cond.Broadcast)
	defer stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.running && ctx.Err() == nil {
		r.cond.Wait()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return r.err
}

// progress notes how far a replay is.
func (r *recovery) progress(slot, done, total int) {
	r.mu.Lock()
	r.state = fmt.Sprintf("slot %d: replaying journal, %d of %d blocks", slot, done, total)
	r.mu.Unlock()
}

// RecoveryState says what is being recovered, or why a recovery failed, which
// everybody then waits for; "" if nothing.
func (v *Volume) RecoveryState() string {
	r := &v.recovering
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.running:
		return r.state
	case len(r.dead) > 0 && r.err != nil:
		return "failed: " + r.err.Error()
	}
	return ""
}

// run recovers dead nodes until none is left (Linux fs/ocfs2/journal.c,
// __ocfs2_recovery_thread).
func (r *recovery) run() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.dead) > 0 && r.v.background.Err() == nil {
		r.mu.Unlock()
		nodes, err := r.v.recoverNodes(r.v.background)
		r.mu.Lock()
		r.err = err
		if err != nil {
			break
		}
		for _, n := range nodes {
			delete(r.dead, n)
		}
	}
	r.running = false
	r.cond.Broadcast()
}

// besides returns the dead nodes that are not among those known.
func (r *recovery) besides(known []uint32) []uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var more []uint32
	for n := range r.dead {
		if !slices.Contains(known, n) {
			more = append(more, n)
		}
	}
	return more
}

// errMoreDead: another node's journal has to be replayed first.
var errMoreDead = errors.New("another node has died")

// recoverNodes recovers the slots of all dead nodes under the superblock lock,
// and returns the nodes. All journals are replayed before anything is freed:
// the newest global bitmap may be in any of them.
func (v *Volume) recoverNodes(ctx context.Context) ([]uint32, error) {
	// Nested: mount waits for us with the lock held.
	if err := v.superRes.Lock(ctx, stackglue.EX, locking.Recovery|locking.Nested); err != nil {
		return nil, fmt.Errorf("recovery: superblock lock: %w", err)
	}
	defer v.superRes.Unlock(stackglue.EX)
	if err := v.slots.read(); err != nil {
		return nil, err
	}
	var nodes []uint32
	var slots, free []int
	for err := errMoreDead; err != nil; {
		more := v.recovering.besides(nodes)
		nodes = append(nodes, more...)
		var dead []int
		if dead, err = v.replayNodes(ctx, more); err == nil {
			slots, free = append(slots, dead...), append(free, dead...)
			free, err = v.freeSlots(ctx, free, nodes)
		}
		if err != nil && !errors.Is(err, errMoreDead) {
			v.logf("%v; the slot stays as it is, run fsck.ocfs2", err)
			return nil, err
		}
	}
	for _, n := range nodes {
		v.locks.Recovered(n)
	}
	for slot := range v.geo.MaxSlots {
		if gen, err := v.readGeneration(slot); err == nil {
			v.noteGeneration(slot, gen)
		}
	}
	v.helpers.Go(func() { v.finishRecovery(slots) })
	return nodes, nil
}

// replayNodes replays the journals of nodes, and returns the slots of those
// that were really dead.
func (v *Volume) replayNodes(ctx context.Context, nodes []uint32) (slots []int, err error) {
	for _, n := range nodes {
		slot, ok := v.slots.find(n)
		if !ok || n == v.node {
			continue // it had none, or somebody was faster
		}
		dead, err := v.replaySlot(ctx, n, slot)
		if err != nil {
			return nil, fmt.Errorf("recovering node %d, slot %d: %w", n, slot, err)
		}
		if dead {
			slots = append(slots, slot)
		}
	}
	return slots, nil
}

// replaySlot replays a dead node's journal. If the log was replayed already by
// somebody else, who then died or is the node itself, back in its slot, the
// journal's lock tells which.
func (v *Volume) replaySlot(ctx context.Context, node uint32, slot int) (dead bool, err error) {
	gen, err := v.readGeneration(slot)
	if err != nil {
		return false, err
	}
	ji, err := v.sysInode(ondisk.SysJournal, slot)
	if err != nil {
		return false, err
	}
	f := locking.Recovery
	if v.slotGens != nil && gen != v.slotGens[slot] {
		f |= locking.NoQueue
	}
	err = ji.metaLock.Lock(ctx, stackglue.EX, f)
	if f&locking.NoQueue != 0 && errors.Is(err, stackglue.ErrAgain) {
		v.logf("node %d is back in slot %d", node, slot)
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("journal lock: %w", err)
	}
	defer ji.metaLock.Unlock(stackglue.EX)
	v.logf("recovering node %d, slot %d", node, slot)
	_, err = v.cleanJournal(ctx, slot, false)
	return true, err
}

// freeSlots frees what dead slots held and gives them up, and returns those
// that are left: with errMoreDead if a node died that is not in known.
func (v *Volume) freeSlots(ctx context.Context, slots []int, known []uint32) ([]int, error) {
	bitmap, err := v.sysInode(ondisk.SysGlobalBitmap, 0)
	if err != nil {
		return slots, err
	}
	for len(slots) > 0 {
		slot := slots[0]
		la, err := v.newSlotFile(ondisk.SysLocalAlloc, slot)
		if err != nil {
			return slots, err
		}
		tl, err := v.newSlotFile(ondisk.SysTruncateLog, slot)
		if err != nil {
			return slots, err
		}
		if err := v.alloc.Recover(ctx, la, tl, duringRecovery{bitmap, known}); err != nil {
			return slots, fmt.Errorf("recovering slot %d: %w", slot, err)
		}
		v.slots.m.Clear(slot)
		if err := v.slots.write(slot); err != nil {
			return slots, err
		}
		slots = slots[1:]
	}
	return nil, nil
}

// finishRecovery deletes the orphans of recovered slots, and the own ones that
// a dead node had open.
func (v *Volume) finishRecovery(slots []int) {
	for _, slot := range append(slots, v.slot) {
		if err := v.recoverOrphans(v.helperCtx, slot); err != nil && v.helperCtx.Err() == nil {
			v.logf("recovering orphans: %v", err)
		}
	}
}

// findDead looks at mount for slots whose owner is dead: its journal lock can
// be had. Local volumes have no other owners.
func (v *Volume) findDead(ctx context.Context) ([]uint32, error) {
	var dead []uint32
	for slot := range v.geo.MaxSlots {
		gen, err := v.readGeneration(slot)
		if err != nil {
			return nil, err
		}
		v.noteGeneration(slot, gen)
		node, taken := v.slots.m.Node(slot)
		if !taken || slot == v.slot {
			continue
		}
		ji, err := v.sysInode(ondisk.SysJournal, slot)
		if err != nil {
			return nil, err
		}
		err = ji.metaLock.Lock(ctx, stackglue.EX, locking.Recovery|locking.NoQueue)
		if errors.Is(err, stackglue.ErrAgain) {
			continue // alive
		}
		if err != nil {
			return nil, fmt.Errorf("journal lock of slot %d: %w", slot, err)
		}
		ji.metaLock.Unlock(stackglue.EX)
		dead = append(dead, node)
	}
	return dead, nil
}

// slotInUse tells whether the slot map names a node for a slot, as last read.
func (v *Volume) slotInUse(slot int) bool {
	_, taken := v.slots.m.Node(slot)
	return taken
}
