package volume

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
	"github.com/ocfuse/ocfuse/stackglue"
)

// Options say how to mount.
type Options struct {
	// Stack is the cluster stack's name ("local", "dlm", ...); "" takes the
	// one of the volume's label.
	Stack string
	// Conn is passed to the stack; Group, ClusterName, Protocol, Recovery,
	// Heartbeat and Logf are filled in.
	Conn stackglue.Config
	// ReadOnly refuses every change; the slot and the journal are used all
	// the same.
	ReadOnly bool
	// Slot is the preferred slot; negative: any.
	Slot int
	// CommitInterval of the journal; 0: 5 s.
	CommitInterval time.Duration
	// CacheBytes bounds the metadata cache; 0: 256 MiB.
	CacheBytes int
	// IdleInodes is how many unreferenced inodes stay in memory; 0: 65536.
	IdleInodes int
	// LocalAllocBits overrides the size of the local alloc window.
	LocalAllocBits int
	// Kernel is what caches above; nil: nothing.
	Kernel KernelCache
	// Logf receives what an operator should read.
	Logf func(format string, args ...any)
}

// Volume is a mounted volume.
type Volume struct {
	opts   Options
	raw    blockdev.Device // below the gate: the heartbeat only
	dev    blockdev.Device
	geo    *ondisk.Geometry
	cache  *buffer.Cache
	conn   stackglue.Conn
	locks  *locking.Manager
	j      *journal.Journal
	alloc  *alloc.Allocator
	kernel KernelCache
	local  bool // single node: no cluster locks for names, no slots of others
	stack  string
	why    string // why the mount is read-only though it was not asked for; "": it is not
	node   uint32
	slot   int

	// background is the context of work that no caller waits for; it ends
	// with the mount.
	background context.Context
	cancel     context.CancelFunc
	// helperCtx is that of the goroutines in helpers, which may be given up
	// half-way: it ends when the unmount begins.
	helperCtx   context.Context
	stopHelpers context.CancelFunc

	maxBytes int64 // largest file size
	nextGen  atomic.Uint32

	table   table
	root    *Inode
	deleter deleter
	reaper  reaper

	refs refTrees

	sysMu     sync.Mutex // guards sysInodes
	sysInodes map[sysKey]*Inode
	sysBlkno  map[sysKey]uint64 // constant after mount

	superRes, renameRes, nfsSync *locking.Resource

	renameMu sync.Mutex // orders local renames of directories under renameRes

	slots      *slotMap
	slotGens   []uint32 // ij_recovery_generation as last seen, by slot; guarded by the superblock lock
	recovering recovery

	helpers sync.WaitGroup // goroutines that end with background

	behind atomic.Int64 // bytes of buffers of all writeBehinds

	flushC      chan struct{}
	flusherDone chan struct{}
	timerDone   chan struct{}
	unmounting  atomic.Bool
	trouble     atomic.Pointer[error] // why the mount is read-only or dead
}

// Geometry returns the volume's geometry.
func (v *Volume) Geometry() *ondisk.Geometry { return v.geo }

// Root returns the root directory; it has no reference to put.
func (v *Volume) Root() *Inode { return v.root }

// Locks returns the lock manager, for dumps and status.
func (v *Volume) Locks() *locking.Manager { return v.locks }

// Conn returns the cluster connection, for status and administration.
func (v *Volume) Conn() stackglue.Conn { return v.conn }

// Journal returns the journal, for statistics.
func (v *Volume) Journal() *journal.Journal { return v.j }

// Cache returns the metadata cache, for statistics.
func (v *Volume) Cache() *buffer.Cache { return v.cache }

// Device returns the device as the volume uses it, for statistics.
func (v *Volume) Device() blockdev.Device { return v.dev }

// Slot returns this node's slot.
func (v *Volume) Slot() int { return v.slot }

// Node returns this node's number.
func (v *Volume) Node() uint32 { return v.node }

// Stack returns the name of the cluster stack.
func (v *Volume) Stack() string { return v.stack }

// Local tells whether the volume is mounted without a cluster.
func (v *Volume) Local() bool { return v.local }

// ReadOnly tells whether changes are refused, and why if it is not by choice.
func (v *Volume) ReadOnly() (bool, error) {
	if p := v.trouble.Load(); p != nil {
		return true, *p
	}
	return v.opts.ReadOnly, nil
}

// Why says why the mount is read-only though that was not asked for: what the
// volume or the device is like. "": it is not, or that came later (ReadOnly).
func (v *Volume) Why() string { return v.why }

// SetKernel sets what caches above the volume; before anything is looked up.
func (v *Volume) SetKernel(k KernelCache) { v.kernel = k }

func (v *Volume) logf(format string, args ...any) {
	if v.opts.Logf != nil {
		v.opts.Logf(format, args...)
	}
}

// nextGeneration returns the generation of the next inode: a counter that
// starts at random, so that a reused block number has a new one.
func (v *Volume) nextGeneration() uint32 {
	for {
		if g := v.nextGen.Add(1); g != 0 {
			return g
		}
	}
}

func randomGeneration() uint32 { return rand.Uint32() }
