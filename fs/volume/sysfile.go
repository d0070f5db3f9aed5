package volume

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/dir"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
	"github.com/ocfuse/ocfuse/stackglue"
)

// sysKey names a system file.
type sysKey struct {
	kind ondisk.SystemFile
	slot int
}

// findSystemFiles looks every system file up, without locks: the system
// directory of a mounted volume does not change.
func (v *Volume) findSystemFiles() error {
	m := new(buffer.Meta)
	m.Init(v.cache)
	b, err := m.Read(v.geo.SystemDirBlkno, ondisk.CheckDinode)
	if err != nil {
		return fmt.Errorf("system directory: %w", err)
	}
	defer b.Put()
	d := dir.Open(m, b)
	v.sysBlkno = map[sysKey]uint64{}
	for kind := ondisk.SystemFile(0); kind < ondisk.NumSystemFiles; kind++ {
		slots := 1
		if kind.PerSlot() {
			slots = v.geo.MaxSlots
		}
		for slot := range slots {
			name := ondisk.SystemInodeName(kind, slot)
			e, err := d.Lookup([]byte(name))
			if errors.Is(err, dir.ErrNotFound) && !kind.Required(v.geo) {
				break
			}
			if err != nil {
				if errors.Is(err, dir.ErrNotFound) {
					err = fmt.Errorf("%w: run fsck.ocfs2", err)
				}
				return fmt.Errorf("system file %s: %w", name, err)
			}
			v.sysBlkno[sysKey{kind, slot}] = e.Ino
		}
	}
	return nil
}

// sysInode returns a system inode; it stays in memory for the whole mount.
func (v *Volume) sysInode(kind ondisk.SystemFile, slot int) (*Inode, error) {
	key := sysKey{kind, slot}
	v.sysMu.Lock()
	defer v.sysMu.Unlock()
	if i := v.sysInodes[key]; i != nil {
		return i, nil
	}
	blkno, ok := v.sysBlkno[key]
	if !ok {
		return nil, fmt.Errorf("volume has no system file %s", ondisk.SystemInodeName(kind, slot))
	}
	i, err := v.iget(v.background, blkno, igetSystem)
	if err != nil {
		return nil, err
	}
	v.sysInodes[key] = i
	return i, nil
}

// rawExtents reads a system file's extents without locks: for the slot map, the
// heartbeat region and journals, whose place never changes.
func (v *Volume) rawExtents(kind ondisk.SystemFile, slot int) (ondisk.Dinode, []extent.Run, error) {
	blkno, ok := v.sysBlkno[sysKey{kind, slot}]
	if !ok {
		return nil, nil, fmt.Errorf("volume has no system file %s", ondisk.SystemInodeName(kind, slot))
	}
	m := new(buffer.Meta)
	m.Init(v.cache)
	defer m.Invalidate()
	b, err := m.Read(blkno, ondisk.CheckDinode)
	if err != nil {
		return nil, nil, fmt.Errorf("system file %s: %w", ondisk.SystemInodeName(kind, slot), err)
	}
	defer b.Put()
	var runs []extent.Run
	t := extent.OfInode(m, b)
	if err := t.Walk(0, func(r extent.Run) bool { runs = append(runs, r); return true }); err != nil {
		return nil, nil, err
	}
	return append(ondisk.Dinode(nil), b.Data...), runs, nil
}

// blocksOf lists the first n device blocks of a raw file.
func (v *Volume) blocksOf(runs []extent.Run, n int) ([]uint64, error) {
	var blocks []uint64
	for _, r := range runs {
		for k := range uint64(r.Clusters) << v.geo.BpcBits {
			if len(blocks) == n {
				return blocks, nil
			}
			blocks = append(blocks, r.Blkno+k)
		}
	}
	if len(blocks) < n {
		return nil, fmt.Errorf("system file has %d blocks, %d are needed", len(blocks), n)
	}
	return blocks, nil
}

// region is the heartbeat file as the stack sees it (stackglue.BlockRegion):
// below the gate and every cache.
type region struct {
	v      *Volume
	blocks []uint64
}

func (v *Volume) heartbeatRegion() (*region, error) {
	_, runs, err := v.rawExtents(ondisk.SysHeartbeat, 0)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, r := range runs {
		n += int(r.Clusters) << v.geo.BpcBits
	}
	blocks, err := v.blocksOf(runs, min(n, 256))
	if err != nil || len(blocks) == 0 {
		return nil, err
	}
	return &region{v, blocks}, nil
}

// BlockSize implements stackglue.BlockRegion.
func (r *region) BlockSize() int { return r.v.geo.BlockSize }

// Blocks implements stackglue.BlockRegion.
func (r *region) Blocks() int { return len(r.blocks) }

// ReadBlocks implements stackglue.BlockRegion. Contiguous blocks are read at
// once.
func (r *region) ReadBlocks(first int, p []byte) error {
	bs := r.v.geo.BlockSize
	for len(p) > 0 {
		n := 1
		for (n+1)*bs <= len(p) && r.blocks[first+n] == r.blocks[first]+uint64(n) {
			n++
		}
		if _, err := r.v.raw.ReadAt(p[:n*bs], r.v.geo.ByteOfBlock(r.blocks[first])); err != nil {
			return fmt.Errorf("heartbeat region: %w", err)
		}
		first, p = first+n, p[n*bs:]
	}
	return nil
}

// WriteBlock implements stackglue.BlockRegion.
func (r *region) WriteBlock(n int, p []byte) error {
	if err := r.v.raw.WriteFUA(p, r.v.geo.ByteOfBlock(r.blocks[n])); err != nil {
		return fmt.Errorf("heartbeat region: %w", err)
	}
	return nil
}

// slotFile is a system inode that only its slot's owner touches (local alloc,
// truncate log): a mutex and no cluster lock. It also serves a recoverer, who
// holds the superblock lock while the owner is dead.
type slotFile struct {
	blkno uint64
	meta  buffer.Meta
	mu    sync.RWMutex
}

func (v *Volume) newSlotFile(kind ondisk.SystemFile, slot int) (*slotFile, error) {
	blkno, ok := v.sysBlkno[sysKey{kind, slot}]
	if !ok {
		return nil, fmt.Errorf("volume has no system file %s", ondisk.SystemInodeName(kind, slot))
	}
	f := &slotFile{blkno: blkno}
	f.meta.Init(v.cache)
	return f, nil
}

// Blkno implements alloc.SysInode.
func (f *slotFile) Blkno() uint64 { return f.blkno }

// Meta implements alloc.SysInode.
func (f *slotFile) Meta() *buffer.Meta { return &f.meta }

// LockEX implements alloc.SysInode.
func (f *slotFile) LockEX(context.Context) error { f.mu.Lock(); return nil }

// UnlockEX implements alloc.SysInode.
func (f *slotFile) UnlockEX() { f.mu.Unlock() }

// RLock implements alloc.SysInode.
func (f *slotFile) RLock(context.Context) error { f.mu.RLock(); return nil }

// RUnlock implements alloc.SysInode.
func (f *slotFile) RUnlock() { f.mu.RUnlock() }

// duringRecovery is a system inode whose locks do not wait for the recovery
// under way. They may be granted because their holder has died: unless it is
// among the nodes whose journals were replayed, the inode cannot be used.
type duringRecovery struct {
	*Inode
	replayed []uint32
}

// LockEX implements alloc.SysInode.
func (r duringRecovery) LockEX(ctx context.Context) error {
	if err := r.metaLock.Lock(ctx, stackglue.EX, locking.Recovery); err != nil {
		return err
	}
	if len(r.v.recovering.besides(r.replayed)) > 0 {
		r.metaLock.Unlock(stackglue.EX)
		return errMoreDead
	}
	r.mu.Lock()
	return nil
}

// journalExtents maps the log of a slot.
func (v *Volume) journalExtents(slot int) ([]journal.Extent, error) {
	di, runs, err := v.rawExtents(ondisk.SysJournal, slot)
	if err != nil {
		return nil, err
	}
	const smallest = 4 << 20
	if di.Size() < smallest {
		return nil, fmt.Errorf("journal of slot %d has %d bytes, at least %d are needed: run fsck.ocfs2", slot, di.Size(), smallest)
	}
	var ext []journal.Extent
	log := uint32(0)
	for _, r := range runs {
		if uint64(r.Cpos)<<v.geo.BpcBits != uint64(log) {
			return nil, ondisk.Corruptf("journal", di.Blkno(), "log block %d is a hole: the next extent begins at cluster %d", log, r.Cpos)
		}
		n := r.Clusters << v.geo.BpcBits
		ext = append(ext, journal.Extent{Log: log, Blkno: r.Blkno, Len: n})
		log += n
	}
	return ext, nil
}
