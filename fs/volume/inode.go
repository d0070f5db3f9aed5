package volume

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/dir"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
	"github.com/ocfuse/ocfuse/stackglue"
)

// ErrStale: the inode was deleted (perhaps by another node) and its number may
// be in use again for another one.
var ErrStale = errors.New("inode is gone")

// Bits of Inode.state.
const (
	// stateMaybeOrphaned: a name of the inode was removed by another node, or
	// its link count is known to be 0: the last Put runs the delete protocol.
	stateMaybeOrphaned = 1 << iota
	// stateDeleted: wiped by this node; the META lock value block says so.
	stateDeleted
	// stateStale: found gone when its lock was refreshed.
	stateStale
	// stateTmpfile: made by Tmpfile and never linked.
	stateTmpfile
)

// Inode is one inode in memory. References are counted by the inode table
// (Volume.iget, Inode.Put).
type Inode struct {
	v      *Volume
	blkno  uint64
	system bool   // lock names and cluster rules of system inodes
	gen    uint32 // i_generation; set when loaded, then constant
	typ    uint16 // type bits of the mode; likewise

	meta buffer.Meta

	// mu guards attr and the content of meta's blocks against other
	// goroutines of this node; taken after the META cluster lock.
	mu   sync.RWMutex
	attr Attr

	metaLock, rwLock, openLock *locking.Resource // rwLock: nil until loaded
	openHeld                   bool              // openLock has its holder; guarded by the table's loading state
	fresh                      *locking.Fresh    // the locks of an inode made here while no other node can know it; else nil

	behind writeBehind

	state atomic.Uint32
	again bool // to be looked at again when it has left memory; see Volume.leave

	dentMu sync.Mutex // guards dents
	dents  []*dentry  // dentry locks this node holds for the inode

	// Kernel belongs to the KernelCache: what the kernel knows of the inode.
	Kernel atomic.Value

	// Guarded by the table shard's mutex:
	refs    int
	loading chan struct{} // non-nil while being loaded or freed
	lruPrev *Inode
	lruNext *Inode
	idle    bool // on the shard's list of unreferenced inodes
}

// Number is the inode number (block number of the dinode).
func (i *Inode) Number() uint64 { return i.blkno }

// Generation is i_generation: it distinguishes users of one block number.
func (i *Inode) Generation() uint32 { return i.gen }

// IsDir tells whether the inode is a directory.
func (i *Inode) IsDir() bool { return i.typ == ondisk.ModeDir || i.isRoot() }

// Volume returns the mount the inode belongs to.
func (i *Inode) Volume() *Volume { return i.v }

// MetaLevel returns the level at which META is cached, for status and tests.
func (i *Inode) MetaLevel() stackglue.Mode { return i.metaLock.Level() }

// SystemName is the name of a system inode in the system directory, "//name"
// as debugfs.ocfs2 writes it; "" for others.
func (i *Inode) SystemName() string {
	if !i.system || i.isRoot() {
		return ""
	}
	for key, blkno := range i.v.sysBlkno {
		if blkno == i.blkno {
			return "//" + ondisk.SystemInodeName(key.kind, key.slot)
		}
	}
	return ""
}

// isRoot tells whether it is the root directory.
func (i *Inode) isRoot() bool { return i.blkno == i.v.geo.RootBlkno }

func (i *Inode) has(bit uint32) bool { return i.state.Load()&bit != 0 }
func (i *Inode) set(bit uint32)      { i.state.Or(bit) }

// newInode makes an unloaded inode with its META and OPEN resources.
func (v *Volume) newInode(blkno uint64, system bool) *Inode {
	i := &Inode{v: v, blkno: blkno, system: system}
	i.meta.Init(v.cache)
	gen := uint32(0)
	if system {
		gen = v.geo.FSGeneration
	}
	i.metaLock = v.locks.NewResource(locking.Meta, locking.Name(locking.Meta, blkno, gen), (*metaHooks)(i))
	i.metaLock.Data = i
	if !system {
		i.openLock = v.locks.NewResource(locking.Open, locking.Name(locking.Open, blkno, 0), nil)
		i.openLock.Data = i
	}
	return i
}

// makeRWLock makes the RW resource, whose name needs the generation.
func (i *Inode) makeRWLock() {
	i.rwLock = i.v.locks.NewResource(locking.RW, locking.Name(locking.RW, i.blkno, i.gen), nil)
	i.rwLock.Data = i
}

// dinode returns the dinode block; the caller holds META and mu.
func (i *Inode) dinode() (*buffer.Buf, ondisk.Dinode, error) {
	b, err := i.meta.Read(i.blkno, ondisk.CheckDinode)
	if err != nil {
		return nil, nil, fmt.Errorf("inode %d: %w", i.blkno, err)
	}
	return b, ondisk.Dinode(b.Data), nil
}

// metaHooks are the META lock's hooks of an inode (Linux fs/ocfs2/dlmglue.c,
// ocfs2_inode_inode_lops).
type metaHooks Inode

// Refresh implements locking.Hooks: everything cached of the inode is from an
// earlier time.
func (h *metaHooks) Refresh(_ *locking.Resource, lvb *[stackglue.LVBLen]byte, valid bool) error {
	i := (*Inode)(h)
	i.meta.Invalidate()
	l := (*ondisk.MetaLVB)(lvb)
	if i.system && !i.isRoot() {
		valid = false // nobody publishes theirs, see FillLVB
	}
	loaded := i.rwLock != nil
	if loaded && valid && l.Trusted(i.gen) && l.Links() < 0xFFFF && l.Size() <= uint64(i.v.maxBytes) {
		rdev := i.attr.Rdev
		i.attr.fromLVB(l)
		i.attr.Rdev, i.attr.Generation = rdev, i.gen
		i.noteLinks()
		return nil
	}
	b, d, err := i.dinode()
	if err != nil {
		return err
	}
	defer b.Put()
	if d.Flags()&ondisk.InodeValid == 0 || d.Dtime() != 0 || loaded && d.Generation() != i.gen {
		i.set(stateStale)
		return fmt.Errorf("inode %d: %w", i.blkno, ErrStale)
	}
	if d.Size() > uint64(i.v.maxBytes) { // offsets would not fit the arithmetic
		return ondisk.Corruptf("dinode", i.blkno, "i_size %d, the largest file of this volume has %d", d.Size(), i.v.maxBytes)
	}
	if !loaded {
		i.gen = d.Generation()
		i.typ = d.Mode() & ondisk.ModeTypeMask
	}
	i.attr = loadAttr(d)
	i.noteLinks()
	return nil
}

// noteLinks remembers that the delete protocol must run.
func (i *Inode) noteLinks() {
	if i.attr.Links == 0 {
		i.set(stateMaybeOrphaned)
	}
}

// Ready implements locking.Hooks: the next holder of any level reads home
// blocks and writes them through its own log, so ours must hold none of them.
func (h *metaHooks) Ready(*locking.Resource, stackglue.Mode) bool {
	return h.v.j == nil || h.v.j.Checkpointed(&h.meta.Owner)
}

// MakeReady implements locking.Hooks.
func (h *metaHooks) MakeReady(*locking.Resource) { h.v.wantFlush() }

// Downconvert implements locking.Hooks.
func (h *metaHooks) Downconvert(_ *locking.Resource, p locking.Pass) locking.Verdict {
	i := (*Inode)(h)
	if i.system && !i.isRoot() {
		return locking.Convert
	}
	return i.v.kernel.RevokeInode(i, p)
}

// FillLVB implements locking.Hooks.
func (h *metaHooks) FillLVB(r *locking.Resource) {
	i := (*Inode)(h)
	l := (*ondisk.MetaLVB)(&r.LVB)
	if i.has(stateDeleted|stateStale) || i.system && !i.isRoot() {
		// Allocators change their dinode without attr: others read the disk.
		*l = ondisk.MetaLVB{}
		return
	}
	i.attr.toLVB(l)
}

// rlock takes META PR and mu shared. served marks requests that the kernel
// waits for while it holds locks of its own (locking.Served).
func (i *Inode) rlock(ctx context.Context, f locking.Flags) error {
	if err := i.metaLock.Lock(ctx, stackglue.PR, f); err != nil {
		return err
	}
	i.mu.RLock()
	return nil
}

func (i *Inode) runlock() {
	i.mu.RUnlock()
	i.metaLock.Unlock(stackglue.PR)
}

// wlock takes META EX and mu exclusively.
func (i *Inode) wlock(ctx context.Context) error {
	if err := i.metaLock.Lock(ctx, stackglue.EX, 0); err != nil {
		return err
	}
	i.mu.Lock()
	return nil
}

func (i *Inode) wunlock() {
	i.mu.Unlock()
	i.metaLock.Unlock(stackglue.EX)
}

// Directories and allocators see system inodes through these (alloc.SysInode).

// Blkno implements alloc.SysInode.
func (i *Inode) Blkno() uint64 { return i.blkno }

// Meta implements alloc.SysInode.
func (i *Inode) Meta() *buffer.Meta { return &i.meta }

// LockEX implements alloc.SysInode.
func (i *Inode) LockEX(ctx context.Context) error { return i.wlock(ctx) }

// UnlockEX implements alloc.SysInode.
func (i *Inode) UnlockEX() { i.wunlock() }

// RLock implements alloc.SysInode.
func (i *Inode) RLock(ctx context.Context) error { return i.rlock(ctx, 0) }

// RUnlock implements alloc.SysInode.
func (i *Inode) RUnlock() { i.runlock() }

// change is an open change of one inode: its dinode block is in the
// transaction. finish writes attr back.
type change struct {
	i  *Inode
	b  *buffer.Buf
	di ondisk.Dinode
}

// begin puts the dinode into the transaction. The inode is write-locked.
func (i *Inode) begin(tx *journal.Handle) (change, error) {
	b, di, err := i.dinode()
	if err != nil {
		return change{}, err
	}
	if err := tx.Write(&b.Block); err != nil {
		b.Put()
		return change{}, err
	}
	return change{i, b, di}, nil
}

// finish stores attr in the dinode, after picking up what extent and directory
// code changed there.
func (c change) finish() {
	c.i.attr.Clusters, c.i.attr.Dyn = c.di.Clusters(), c.di.DynFeatures()
	if c.i.attr.IsDir() {
		c.i.attr.Size = c.di.Size()
	}
	c.i.attr.store(c.di)
	c.b.Put()
}

// tree is the inode's extent tree.
func (i *Inode) tree(b *buffer.Buf) extent.Tree { return extent.OfInode(&i.meta, b) }

// dir is the inode's directory content.
func (i *Inode) dir(b *buffer.Buf) dir.Dir { return dir.Open(&i.meta, b) }

// checkDir refuses operations on inodes that are not directories.
func (i *Inode) checkDir() error {
	if !i.attr.IsDir() {
		return ErrNotDir
	}
	return nil
}
