package locking

import (
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
)

// Type is the kind of a lock resource; its value is the first byte of the
// resource's name (OCFS2 locking: names; Linux fs/ocfs2/ocfs2_lockid.h).
type Type byte

// The lock types.
const (
	Meta       Type = 'M' // inode metadata and file data
	RW         Type = 'W' // write serialisation and direct I/O of a file
	Open       Type = 'O' // somebody has the inode in memory
	Dentry     Type = 'N' // a name refers to an inode
	Super      Type = 'S' // slot map, mount, recovery
	Rename     Type = 'R' // renames of directories across directories
	Flock      Type = 'F' // flock(2), one resource per open file
	NFSSync    Type = 'Y' // inode deletion against file handle lookup
	OrphanScan Type = 'P' // one orphan scan at a time in the cluster
	Refcount   Type = 'T' // a refcount tree
	TrimFS     Type = 'I' // one fstrim at a time
	QInfo      Type = 'Q' // a global quota file
)

// props is what Linux fs/ocfs2/dlmglue.c keeps in struct ocfs2_lock_res_ops.
type props struct {
	name         string
	lvb          bool // LOCK_TYPE_USES_LVB
	refresh      bool // LOCK_TYPE_REQUIRES_REFRESH
	waitRecovery bool // acquirers wait for the recovery map
	noCache      bool // given up as soon as nobody holds it
	localNew     bool // a new object's lock may be mastered here unasked
	bare         bool // nothing is cached under it: without holders it is not missed
}

// A refcount tree waits for the recovery, unlike in Linux: the META lock that is
// taken before may be that of another inode than the dead node changed the tree
// for.
var typeTable = map[Type]*props{
	Meta:       {name: "meta", lvb: true, refresh: true, waitRecovery: true},
	RW:         {name: "rw", localNew: true, bare: true},
	Open:       {name: "open"},
	Dentry:     {name: "dentry"},
	Super:      {name: "super", refresh: true},
	Rename:     {name: "rename"},
	Flock:      {name: "flock", noCache: true},
	NFSSync:    {name: "nfs-sync"},
	OrphanScan: {name: "orphan-scan", lvb: true, refresh: true},
	Refcount:   {name: "refcount", waitRecovery: true},
	TrimFS:     {name: "trim-fs", lvb: true, refresh: true},
	QInfo:      {name: "qinfo", lvb: true, refresh: true},
}

// String returns the type's name as used in dumps.
func (t Type) String() string {
	if p := typeTable[t]; p != nil {
		return p.name
	}
	return "unknown-" + string(rune(t))
}

// Flags modify a Lock call.
type Flags uint8

// The flags of Lock.
const (
	// NoQueue fails with stackglue.ErrAgain instead of waiting for another
	// node (it does wait for the lock manager's answer).
	NoQueue Flags = 1 << iota
	// Served: see "who is granted what" in the package comment.
	Served
	// Nested: the caller holds this resource already.
	Nested
	// Recovery: do not wait for the recovery map.
	Recovery
	// NewObject: the protected object is being created by this caller, who knows
	// its content: no refresh, and the stack may master an RW lock here
	// without asking (its name contains a generation never used before).
	NewObject
)

// Verdict is what Hooks.Downconvert wants to happen to the lock.
type Verdict uint8

// The verdicts.
const (
	// Convert gives up what the other node needs and keeps the rest.
	Convert Verdict = iota
	// DropLock gives the lock back altogether (a dentry lock without a
	// name). The resource stays usable; the next Lock requests it anew.
	DropLock
	// Again says that the hook could not do its work yet; it is called
	// again, without delay, after what it waits for was reported with
	// Resource.Retry.
	Again
)

// Pass describes one run of Hooks.Downconvert.
type Pass struct {
	From    stackglue.Mode // level held
	To      stackglue.Mode // level that will remain
	Blocked stackglue.Mode // level the other node asked for
	// N counts the passes of this revoke from 1. From the second on only
	// what was served since the last pass began has to be done again.
	N int
	// Closed: nothing will be granted until this pass has returned, so it
	// must not wait for a request that waits for this lock.
	Closed bool
}

// Hooks does for one resource what its type needs. Implementations are the
// in-memory inode, dentry, quota file and so on.
type Hooks interface {
	// Refresh brings the protected object up to date after the level rose
	// from NL or IV. valid says that lvb is what the last EX holder wrote
	// (version and generation are still to be checked by the caller); lvb
	// may be used until Refresh returns. An error fails the Lock that
	// needed it, and the next one tries again.
	Refresh(r *Resource, lvb *[stackglue.LVBLen]byte, valid bool) error
	// Ready reports whether the level may be lowered to to as far as the
	// journal is concerned: all metadata of the object is checkpointed.
	// It is called with the resource's mutex held: it must not block and
	// must not call into the resource.
	Ready(r *Resource, to stackglue.Mode) bool
	// MakeReady starts what Ready waits for (a journal flush) and returns.
	// Manager.Flushed must be called when it is done; one flush serves
	// every resource that waits.
	MakeReady(r *Resource)
	// Downconvert gets rid of everything that p.To does not allow to be
	// cached outside the holders' reach: the kernel's pages, names and
	// attributes. It runs without the mutex and may wait, but not for
	// anything that waits for a cluster lock. Served holders go on using
	// the in-memory object meanwhile, so that must stay as it is: Refresh
	// replaces it when the level comes back.
	Downconvert(r *Resource, p Pass) Verdict
	// FillLVB writes the object's state into r.LVB before the level leaves
	// EX. Called with the mutex held, like Ready.
	FillLVB(r *Resource)
}

// NopHooks implements Hooks for types that need nothing done; embed it to
// override some.
type NopHooks struct{}

// Refresh implements Hooks.
func (NopHooks) Refresh(*Resource, *[stackglue.LVBLen]byte, bool) error { return nil }

// Ready implements Hooks.
func (NopHooks) Ready(*Resource, stackglue.Mode) bool { return true }

// MakeReady implements Hooks.
func (NopHooks) MakeReady(*Resource) {}

// Downconvert implements Hooks.
func (NopHooks) Downconvert(*Resource, Pass) Verdict { return Convert }

// FillLVB implements Hooks.
func (NopHooks) FillLVB(*Resource) {}

// Tuning bounds how long a revoke can be kept from the node that waits; see
// the package comment. The zero value stands for the defaults.
type Tuning struct {
	DrainQuantum time.Duration // default 1 ms
	OpenPasses   int           // default 3
	HoldPasses   int           // default 8: passes up to this one hold for HoldTime
	HoldTime     time.Duration // default 100 us
	// MinHold by type; none by default.
	MinHold map[Type]time.Duration
	// Hidden is how many new objects one lock may cover before the oldest get
	// locks of their own; default 4096. Another node that wants the lock waits
	// for the locks of all of them.
	Hidden int
	// Linger is how long a lock may lie unused during MinHold; default 100 us.
	Linger time.Duration
	// Workers is the most downconverts at a time; default 256. Goroutines
	// exist only while there is work.
	Workers int
}

func (t Tuning) withDefaults() Tuning {
	if t.DrainQuantum == 0 {
		t.DrainQuantum = time.Millisecond
	}
	if t.OpenPasses == 0 {
		t.OpenPasses = 3
	}
	if t.HoldPasses == 0 {
		t.HoldPasses = 8
	}
	if t.HoldTime == 0 {
		t.HoldTime = 100 * time.Microsecond
	}
	if t.Hidden == 0 {
		t.Hidden = 4096
	}
	if t.Linger == 0 {
		t.Linger = 100 * time.Microsecond
	}
	if t.Workers == 0 {
		t.Workers = 256
	}
	return t
}

// highestCompat returns the highest of NL, PR, EX that another node may hold
// or keep while one holds (or asks for) m (ocfs2_highest_compat_lock_level).
func highestCompat(m stackglue.Mode) stackglue.Mode {
	switch m {
	case stackglue.EX:
		return stackglue.NL
	case stackglue.PR:
		return stackglue.PR
	}
	return stackglue.EX
}
