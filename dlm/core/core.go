package core

import (
	"errors"
	"fmt"
	"time"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Times the kernel uses (defaults of its configfs files), in nanoseconds of the clock given to Tick.
const (
	TossTime     = int64(10 * time.Second)      // toss_secs: an unused resource is forgotten after this
	ScanTime     = int64(5 * time.Second)       // scan_secs: how often that is checked
	RecoverTime  = int64(5 * time.Second)       // recover_timer: STATUS and NAMES are repeated after this
	pollStep     = int64(20 * time.Millisecond) // barrier polling: 20 ms more with each try ...
	pollMax      = int64(time.Second)           // ... up to 1 s; see Config.FirstPoll
	maxLVBLen    = wire.MaxRcomBuf - wire.RcomLockSize
	maxMembers   = wire.MaxSlots
	deadlineNone = int64(1<<63 - 1)
)

// Kinds of errors, for errors.Is.
var (
	ErrInvalid     = errors.New("dlm: invalid argument")
	ErrUnsupported = errors.New("dlm: unsupported flag")
	ErrBusy        = errors.New("dlm: an operation is in progress")
	ErrNoLock      = errors.New("dlm: no such lock")
	ErrNoSpace     = errors.New("dlm: no lock id is free")
	ErrAgain       = errors.New("dlm: an orphan exists in another mode")
	ErrState       = errors.New("dlm: not possible in this state")
	ErrProto       = errors.New("dlm: configuration mismatch with a peer") // the kernel's -EPROTO
	ErrIgnored     = errors.New("dlm: message ignored")
)

// Fault plants a bug. It exists so that the simulator can prove that it would notice one; 0 everywhere else.
type Fault uint8

// Faults.
const (
	FaultNone        Fault = iota
	FaultCompatPRCW        // a granted PR does not exclude CW
	FaultKeepLVB           // the LVB stays valid although the node that held EX died
	FaultLoseRequest       // waiting locks are not sent to a new master
	FaultSkipBast          // no BAST is sent for a converting lock
)

// Config describes one lockspace on one node. NodeID, LVBLen, LSFlags and GlobalID must agree with what the peers are
// told; a difference in LVBLen or LSFlags is found at the first STATUS exchange.
type Config struct {
	NodeID   int32  // own node id, positive
	Name     string // 1..64 bytes
	GlobalID uint32 // h_lockspace; 0 means wire.GlobalID(Name)
	LVBLen   int    // bytes, a multiple of 8; 64 for ocfs2, 32 for user lockspaces and gfs2
	LSFlags  uint32 // rf_lsflags; 0 for everything Linux uses
	User     bool   // locks carry USER, as in lockspaces the kernel makes for user space; false for ocfs2
	RcomID   uint64 // first rc_id of requests; any number
	Seq      uint64 // recover_seq to begin with; 0 as Linux 6.1
	// FirstPoll is the first pause before a barrier's STATUS is repeated, in nanoseconds. It doubles up to the 20 ms
	// Linux begins with; 0 begins with those. A peer answers STATUS at any time, so how often is our own matter.
	FirstPoll int64
	Fault     Fault
}

// Slot is a member and the number it has for the life of its membership.
type Slot struct {
	NodeID int32
	Slot   uint16
}

// Completion tells the end of an operation. (Linux DLM_CB_CAST with the lksb.)
type Completion struct {
	ID     LockID
	Data   any         // LockReq.Data
	Status wire.Result // 0, EAGAIN, EUNLOCK, ECANCEL, EDEADLK
	Flags  wire.SBF    // DEMOTED, VALNOTVALID, ALTMODE
	Mode   wire.Mode   // granted mode now, IV if none
	Gone   bool        // ID is not valid any more
	LVB    []byte      // the lock's buffer, nil if it has none; valid during the call only
}

// Blocking tells that a lock is in somebody's way. (Linux DLM_CB_BAST.)
type Blocking struct {
	ID   LockID
	Data any
	Mode wire.Mode // the mode that is blocked
}

// Effects receives what the core wants done. Calls come in order, from inside the event that causes them. They must
// not call the core back; what they are given is valid only until they return.
type Effects interface {
	// Send sends a lock operation to a member (reliable, in order per node). Header is complete but for h_length.
	Send(to int32, m *wire.Message)
	// SendRcom sends a recovery message. Bare ones (RcomType.Bare) may be lost, the others must not.
	SendRcom(to int32, r *wire.Rcom)
	// Complete is a completion callback.
	Complete(cb *Completion)
	// Block is a blocking callback.
	Block(cb *Blocking)
	// MemberAdded and MemberRemoved tell the transport whom to talk to; this node itself is not reported. A node that
	// left and came back is removed and added. (Linux dlm_midcomms_add_member, dlm_midcomms_remove_member.)
	MemberAdded(id int32)
	MemberRemoved(id int32)
	// RecoverPrep: locking stops (Linux dlm_lockspace_ops.recover_prep).
	RecoverPrep()
	// RecoverSlot: a member failed, as opposed to left (recover_slot); before RecoverDone.
	RecoverSlot(s Slot)
	// RecoverDone: the membership round is complete and locking runs again (recover_done). slots is in ascending slot
	// order; ourSlot is 0 if the low node assigned none.
	RecoverDone(slots []Slot, ourSlot uint16, generation uint32)
	// RecoverFailed: recovery cannot go on; locking stays stopped until the next Stop and Start. err is ErrProto.
	RecoverFailed(err error)
}

// Core is one lockspace on one node. Not safe for concurrent use.
type Core struct {
	cfg  Config
	out  Effects
	now  int64
	dead bool // released

	table    rsbTable
	active   rsbList // resources in use
	inactive rsbList // cached, oldest first
	dirRecs  rsbList // inactive resources of other masters, kept because we are their directory node
	ids      idTable
	waiters  waitList
	rsbPool  *rsb
	lkbPool  *lkb
	lvbPool  [][]byte
	zeroLVB  []byte
	nextScan int64
	deferred []deferredOp // local operations issued while locking is stopped
	requests []savedMsg   // messages received while locking is stopped (Linux ls_requestqueue)
	orphans  int          // locks with lfOrphan

	memberState
	rec recovery

	held  []heldCallback // callbacks held back during recovery
	msg   wire.Message   // scratch
	rcom  wire.Rcom      // scratch
	rbuf  []byte         // scratch for rcom payloads
	cb    Completion     // scratch
	bcb   Blocking       // scratch
	stats Stats
}

// Stats counts what happened. Fields only grow.
type Stats struct {
	Locks, Converts, Unlocks, Cancels uint64 // local operations
	Sent, Received                    uint64 // MSGs
	RcomSent, RcomReceived            uint64
	Completions, Basts                uint64
	Queued                            uint64 // messages that waited for recovery
	Ignored                           uint64 // of those, not acted upon
	Recoveries                        uint64 // completed
}

// New makes a lockspace that is not a member of anything yet: locking is stopped until the first Start.
func New(cfg Config, out Effects) (*Core, error) {
	switch {
	case cfg.NodeID <= 0:
		return nil, fmt.Errorf("%w: node id %d is not positive", ErrInvalid, cfg.NodeID)
	case len(cfg.Name) == 0 || len(cfg.Name) > wire.LockspaceMax:
		return nil, fmt.Errorf("%w: lockspace name of %d bytes, want 1..%d", ErrInvalid, len(cfg.Name), wire.LockspaceMax)
	case cfg.LVBLen < 0 || cfg.LVBLen%8 != 0 || cfg.LVBLen > maxLVBLen:
		return nil, fmt.Errorf("%w: LVB length %d, want a multiple of 8 up to %d", ErrInvalid, cfg.LVBLen, maxLVBLen)
	case out == nil:
		return nil, fmt.Errorf("%w: no effects", ErrInvalid)
	}
	if cfg.GlobalID == 0 {
		cfg.GlobalID = wire.GlobalID(cfg.Name)
	}
	c := &Core{cfg: cfg, out: out, zeroLVB: make([]byte, cfg.LVBLen)}
	c.table = rsbTable{buckets: make([]*rsb, rsbTableMin), mask: rsbTableMin - 1}
	c.stopped, c.lockingStopped = true, true
	c.seq = cfg.Seq
	c.rec.rcomID = cfg.RcomID
	return c, nil
}

// Config returns the configuration, GlobalID filled in.
func (c *Core) Config() Config { return c.cfg }

// Stats returns the counters.
func (c *Core) Stats() Stats { return c.stats }

// heldCallback is a callback of either kind, with its own copy of the LVB.
type heldCallback struct {
	comp  Completion
	block Blocking
	isAst bool
}

// complete delivers a completion to the owner, if that is us. (Linux queue_cast.)
func (c *Core) complete(l *lkb, res wire.Result) {
	if l.masterCopy() {
		return
	}
	c.stats.Completions++
	l.castMode = l.grmode
	l.lflags &^= lfDemoted
	cb := &c.cb
	*cb = Completion{ID: l.id, Data: l.data, Status: res, Flags: l.sbflags, Mode: l.grmode, LVB: l.lvb}
	cb.Gone = l.grmode == wire.IV && !l.is(lfLimbo) &&
		(res == wire.ResultUnlock || res == wire.ResultCancel || res == wire.ResultAgain)
	if c.rec.holdCallbacks {
		h := heldCallback{comp: *cb, isAst: true}
		h.comp.LVB = append([]byte(nil), l.lvb...)
		c.held = append(c.held, h)
		return
	}
	c.out.Complete(cb)
	cb.Data, cb.LVB = nil, nil
}

// block delivers a BAST to the owner. One that the last completion already made pointless is dropped, unless it says
// that the owner's own conversion is deadlocked. (Linux dlm_add_cb, dlm_callback_work, which drop that one too.)
func (c *Core) block(l *lkb, mode wire.Mode) {
	deadlocked := l.queue() == wire.StatusConvert && mode == l.rqmode
	if l.castMode != wire.IV && compatTable[mode+1][l.castMode+1] && !deadlocked {
		return
	}
	c.stats.Basts++
	b := &c.bcb
	*b = Blocking{ID: l.id, Data: l.data, Mode: mode}
	if c.rec.holdCallbacks {
		c.held = append(c.held, heldCallback{block: *b})
		return
	}
	c.out.Block(b)
	b.Data = nil
}

// releaseCallbacks delivers what recovery held back. (Linux dlm_callback_resume.)
func (c *Core) releaseCallbacks() {
	c.rec.holdCallbacks = false
	for i := range c.held {
		h := &c.held[i]
		if h.isAst {
			c.out.Complete(&h.comp)
		} else {
			c.out.Block(&h.block)
		}
	}
	clear(c.held)
	c.held = c.held[:0]
}

// Release ends the lockspace on this node. Nothing is sent: the peers notice by the membership change that follows,
// drop our locks (an LVB under a PW/EX lock with VALBLK becomes invalid) and move the resources we mastered among
// themselves. Without force it fails with ErrBusy while own locks exist. (Linux dlm_release_lockspace, force 0 or 2;
// here locks of other nodes never prevent it.)
func (c *Core) Release(force bool) error {
	if c.dead {
		return fmt.Errorf("%w: lockspace %q is already released", ErrState, c.cfg.Name)
	}
	if !force {
		for i := range c.ids.slots {
			if l := c.ids.slots[i].l; l != nil && !l.masterCopy() && !l.is(lfDead) {
				return fmt.Errorf("%w: lock %#x is still there", ErrBusy, uint32(l.id))
			}
		}
	}
	c.abortRecovery()
	c.dead, c.stopped, c.lockingStopped = true, true, true
	c.requests, c.deferred, c.held = nil, nil, nil
	for i := range c.members {
		if id := c.members[i].id; id != c.cfg.NodeID {
			c.out.MemberRemoved(id)
		}
	}
	c.members = nil
	return nil
}

// Tick tells the time, in nanoseconds of any clock that does not go back, and runs what is due. Cheap when nothing is.
func (c *Core) Tick(now int64) {
	if now < c.now {
		return
	}
	c.now = now
	if c.dead {
		return
	}
	c.recoveryTimers()
	if now >= c.nextScan {
		c.nextScan = now + ScanTime
		c.scan()
	}
}

// Deadline returns when Tick should be called next; ok is false if there is nothing to wait for.
func (c *Core) Deadline() (at int64, ok bool) {
	at = deadlineNone
	if c.dead {
		return at, false
	}
	if c.rec.running {
		at = c.rec.poll.at
	}
	if c.inactive.head != nil && !c.lockingStopped {
		at = min(at, c.nextScan)
	}
	return at, at != deadlineNone
}
