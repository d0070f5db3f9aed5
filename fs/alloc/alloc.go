package alloc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// Kinds of failure, for errors.Is. Damaged allocators give ondisk.ErrCorrupt.
var (
	// ErrNoSpace: the volume has no room; nothing was changed.
	ErrNoSpace = errors.New("no space left on volume")
	// ErrNeedsFsck: the own local alloc is not empty although the journal was
	// clean; Linux refuses such a mount as well.
	ErrNeedsFsck = errors.New("inconsistent volume, run fsck")
)

// MetaBlock names a metadata block or inode and the bit it came from.
type MetaBlock = extent.MetaBlock

// SysInode is an allocator's system inode, owned by fs/volume.
type SysInode interface {
	// Blkno is the dinode's block.
	Blkno() uint64
	// Meta caches the dinode and the group descriptors.
	Meta() *buffer.Meta
	// LockEX takes the local mutex and the META lock at EX; the content is fresh
	// afterwards. local_alloc and truncate_log of the own slot have only the
	// mutex.
	LockEX(ctx context.Context) error
	UnlockEX()
	// RLock is the same, shared and at PR.
	RLock(ctx context.Context) error
	RUnlock()
}

// Env is what the allocators work on.
type Env struct {
	Geo     *ondisk.Geometry
	Journal *journal.Journal
	Slot    int // own slot

	GlobalBitmap     SysInode
	GlobalInodeAlloc SysInode                         // inodes of slot ondisk.SlotGlobal; freeing only
	InodeAlloc       func(slot int) (SysInode, error) // any slot, 0..MaxSlots-1; same value each time
	ExtentAlloc      func(slot int) (SysInode, error) // likewise
	LocalAlloc       SysInode                         // own slot
	TruncateLog      SysInode                         // own slot
	FullFlush        func(ctx context.Context) error  // commit, write home, empty the log
	Logf             func(format string, args ...any) // what an operator should know; may be nil
	LocalAllocBits   int                              // window size in clusters; 0: as Linux, <0: no window
}

// Request says what an operation may claim.
type Request struct {
	Inodes int // from inode_alloc of the own slot
	// InodeHint is the group (MetaBlock.Group) to look in first, e.g. that of the
	// directory or of the inode created last; 0: none.
	InodeHint uint64
	Meta      int    // blocks from extent_alloc of the own slot
	Clusters  uint32 // clusters in all
	// Contig: Clusters must be one run, to be claimed at once.
	Contig bool
	// Runs is how many calls of ClaimClusters the transaction makes at most; 0:
	// one per cluster, at most 8. Only the credits depend on it.
	Runs int
	// Hold is the truncate log's Prepare, if the caller has it: a Reserve that
	// finds the volume full flushes the log.
	Hold *TruncHold
}

// Space is the global bitmap's count, in clusters. Free does not count what the
// nodes' local alloc windows keep.
type Space struct {
	Total uint32
	Free  uint32
}

// Allocator is the space of one mounted volume, as one slot sees it. Safe for
// concurrent use.
type Allocator struct {
	env    Env
	bitmap clusters
	local  local
	trunc  TruncLog
	steal  [2]theft // by kind

	mu   sync.Mutex
	subs [2]map[uint16]*suballoc // guarded by mu; by kind and slot
}

// New prepares the allocators. Nothing is read or locked.
func New(env Env) (*Allocator, error) {
	switch {
	case env.Geo == nil || env.Journal == nil || env.FullFlush == nil:
		return nil, errors.New("alloc: no geometry or journal")
	case env.GlobalBitmap == nil || env.GlobalInodeAlloc == nil || env.InodeAlloc == nil || env.ExtentAlloc == nil ||
		env.LocalAlloc == nil || env.TruncateLog == nil:
		return nil, errors.New("alloc: a system inode is missing")
	case env.Slot < 0 || env.Slot >= env.Geo.MaxSlots:
		return nil, fmt.Errorf("alloc: slot %d of %d", env.Slot, env.Geo.MaxSlots)
	}
	a := &Allocator{env: env}
	a.bitmap.file = file{geo: env.Geo, ino: env.GlobalBitmap, what: "global_bitmap"}
	a.local = local{file: file{geo: env.Geo, ino: env.LocalAlloc, what: "local alloc"}, now: time.Now}
	switch bits := env.LocalAllocBits; {
	case bits == 0:
		a.local.def = defaultWindow(env.Geo)
	case bits > 0:
		a.local.def = uint32(min(bits, env.Geo.LocalAllocSize()*8))
	}
	a.local.size = a.local.def
	a.trunc.a, a.trunc.ino = a, env.TruncateLog
	for k := range a.subs {
		a.subs[k] = make(map[uint16]*suballoc)
	}
	return a, nil
}

func (a *Allocator) logf(format string, args ...any) {
	if a.env.Logf != nil {
		a.env.Logf(format, args...)
	}
}
