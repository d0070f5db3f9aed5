package locking

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
)

// Errors of this package.
var (
	// ErrFreed: the resource is being dropped.
	ErrFreed = errors.New("lock resource is being dropped")
	// ErrHeld: Drop of a resource that still has holders.
	ErrHeld = errors.New("lock resource still has holders")
)

type state uint16

const (
	attached     state = 1 << iota // a DLM lock exists
	pending                        // the call into the stack has not returned
	cancelling                     // a cancel is in flight
	cancelWanted                   // cancel as soon as pending ends
	cancelSent                     // the raise in flight has been cancelled once
	blocked                        // a BAST arrived and is not yet obeyed
	needsRefresh                   // the object must be re-read before use
	refreshing                     // a holder is doing that
	queued                         // on the downconvert queue or in a worker
	rekick                         // something changed while a worker had it
	freeing                        // Drop has begun
	shut                           // Served requests wait too while blocked
	requestNew                     // the raise in flight is for a new object
	virtual                        // no DLM lock yet, and nobody to compete with: see Fresh
)

var stateNames = [...]string{"attached", "pending", "cancelling", "cancel-wanted", "cancel-sent", "blocked", "needs-refresh",
	"refreshing", "queued", "rekick", "freeing", "shut", "new", "virtual"}

// action is what is in flight at the stack (Linux: BUSY and l_action).
type action uint8

const (
	actNone action = iota
	actUp          // request or convert to a higher level
	actDown        // convert to a lower level
	actDrop        // unlock
)

var actionNames = [...]string{"", "raising", "lowering", "dropping"}

// Resource is one cluster lock of this node. It may not be copied.
type Resource struct {
	// Lksb is the stack's view; Hooks.FillLVB writes its LVB.
	stackglue.Lksb

	mgr   *Manager
	typ   Type
	props *props
	hooks Hooks
	// Data is for the owner of the resource; set it before the first Lock.
	Data any

	prev, next *Resource // registry links; guarded by mgr.regMu of the shard

	mu        sync.Mutex // guards everything below
	level     stackglue.Mode
	requested stackglue.Mode // target of act
	blocking  stackglue.Mode // highest mode another node waits for
	flags     state
	act       action
	readers   uint32
	writers   uint32
	grantsPR  uint64 // Lock calls granted, ever
	grantsEX  uint64
	callGen   uint32 // counts calls into the stack; see callReturned
	waiting   waitList
	noqueueBy *waiter     // whose NoQueue request is in flight
	raisedAt  time.Time   // when the level was last raised; set only with MinHold
	usedAt    time.Time   // when the last holder left, or as raisedAt; likewise
	keeper    *time.Timer // looks again when the quantum may be over; likewise
	dropErr   error
	idle      chan struct{} // closed by the next state change; see waitChange
	rv        revoke
	fresh     *Fresh // what the lock is virtual with
	hides     *cover // new objects behind this lock; nil: there never were any
}

// revoke is the state of giving the lock up, from the BAST to the convert.
type revoke struct {
	since   time.Time
	passes  int
	running bool
	valid   bool // a pass has been run; begun* belong to the last one
	to      stackglue.Mode
	verdict Verdict
	beganPR uint64
	beganEX uint64
}

// NewResource makes a resource with no lock behind it. name is the lock's
// name on the wire (see Name). hooks may be nil if the type needs nothing.
func (m *Manager) NewResource(t Type, name []byte, hooks Hooks) *Resource {
	p := typeTable[t]
	if p == nil {
		panic(fmt.Sprintf("locking: no lock type %q", byte(t))) // invariant: types are the constants above
	}
	if hooks == nil {
		hooks = NopHooks{}
	}
	r := &Resource{mgr: m, typ: t, props: p, hooks: hooks}
	r.level, r.requested, r.blocking = stackglue.IV, stackglue.IV, stackglue.NL
	r.SetName(name)
	r.Owner = (*owner)(r)
	m.register(r)
	return r
}

// Type returns the resource's type.
func (r *Resource) Type() Type { return r.typ }

// Level returns the level this node holds in the cluster right now.
func (r *Resource) Level() stackglue.Mode {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.level
}

// Holders returns how many readers and writers there are on this node.
func (r *Resource) Holders() (readers, writers int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int(r.readers), int(r.writers)
}

// Lock makes the caller a holder at PR or EX and returns when the cluster
// allows it and the object is fresh. Errors: stackglue.ErrAgain (NoQueue),
// the context's error if it ended first (never after the grant),
// stackglue.ErrFenced, stackglue.ErrShutdown, ErrFreed, an error of the
// stack, or one of Hooks.Refresh. After an error the caller holds nothing.
// A context may be closed by Done without an Err: the wait then ends when Err is
// set. A lock that is cached costs two uncontended mutex operations and no
// allocation or message.
func (r *Resource) Lock(ctx context.Context, level stackglue.Mode, f Flags) error {
	r.mu.Lock()
	if r.grantable(level, f) && r.mgr.trouble.Load() == 0 {
		r.count(level)
		if r.flags&(needsRefresh|refreshing) == 0 {
			r.mu.Unlock()
			return nil
		}
		return r.refresh(ctx, level, f)
	}
	r.mu.Unlock()
	return r.lockSlow(ctx, level, f)
}

// TryCached is Lock that never sends a message and never waits: it reports
// whether the level was there for the taking.
func (r *Resource) TryCached(level stackglue.Mode, f Flags) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.grantable(level, f) || r.flags&(needsRefresh|refreshing) != 0 || r.mgr.trouble.Load() != 0 {
		return false
	}
	r.count(level)
	return true
}

// Unlock ends a hold taken by Lock at the same level.
func (r *Resource) Unlock(level stackglue.Mode) {
	r.mu.Lock()
	r.uncount(level)
	r.mu.Unlock()
}

// Prefetch asks the cluster for level without waiting and without holding
// anything, so that a Lock soon after finds it here. It does nothing if the
// level is here, a call is in flight or another node waits for the lock.
func (r *Resource) Prefetch(level stackglue.Mode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mgr.trouble.Load() != 0 || !r.canRaise(level) {
		return
	}
	// An error of the call is met again by the Lock that follows.
	_ = r.raise(level, 0, nil)
}

// Retry makes a worker call Hooks.Downconvert again after it said Again.
func (r *Resource) Retry() {
	r.mu.Lock()
	r.enqueue()
	r.mu.Unlock()
}

// grantable reports whether a request may become a holder at once.
// mu held.
func (r *Resource) grantable(level stackglue.Mode, f Flags) bool {
	if level > r.level || r.flags&freeing != 0 {
		return false
	}
	if r.act >= actDown {
		return level <= r.requested
	}
	if r.flags&blocked == 0 || level <= highestCompat(r.blocking) || f&Nested != 0 {
		return true
	}
	if f&Served != 0 {
		return r.flags&shut == 0
	}
	return !r.raisedAt.IsZero() && r.flags&shut == 0 && r.minHoldLeft() > 0
}

// canRaise reports whether a request for a higher level may be sent now.
// mu held.
func (r *Resource) canRaise(level stackglue.Mode) bool {
	if level <= r.level || r.act != actNone || r.flags&(cancelling|refreshing|freeing) != 0 {
		return false
	}
	if r.flags&needsRefresh != 0 && r.level > stackglue.NL && r.readers+r.writers != 0 {
		return false // a holder is about to read the value block, which a raise rewrites
	}
	return r.flags&blocked == 0 || level <= highestCompat(r.blocking)
}

// count makes the caller a holder. mu held.
func (r *Resource) count(level stackglue.Mode) {
	if level == stackglue.EX {
		r.writers++
		r.grantsEX++
	} else {
		r.readers++
		r.grantsPR++
	}
}

// uncount ends a hold and lets a waiting worker go on. mu held.
func (r *Resource) uncount(level stackglue.Mode) {
	n := &r.readers
	if level == stackglue.EX {
		n = &r.writers
	}
	if *n == 0 {
		panic(fmt.Sprintf("locking: unlock of %v %q at %v without a holder", r.typ, r.NameBytes(), level)) // invariant: Lock and Unlock pair
	}
	*n--
	if r.readers+r.writers == 0 && !r.raisedAt.IsZero() {
		r.usedAt = r.mgr.now()
	}
	if *n != 0 || r.flags&(blocked|freeing) == 0 && !r.props.noCache {
		return
	}
	if r.props.noCache && r.readers+r.writers == 0 && r.level > stackglue.NL {
		r.wantLess(stackglue.EX)
	}
	if r.flags&blocked != 0 && !r.heldAbove(highestCompat(r.blocking)) {
		r.enqueue()
	}
	r.changed()
}

// heldAbove reports whether somebody here holds more than to. mu held.
func (r *Resource) heldAbove(to stackglue.Mode) bool {
	return r.writers != 0 && to < stackglue.EX || r.readers != 0 && to < stackglue.PR
}

// grantedSince reports whether more than to was granted since the counters
// were pr and ex. mu held.
func (r *Resource) grantedSince(to stackglue.Mode, pr, ex uint64) bool {
	return r.grantsEX != ex && to < stackglue.EX || r.grantsPR != pr && to < stackglue.PR
}

// refresh runs Hooks.Refresh if nobody else does and the object needs it.
// The caller is counted as a holder. mu held; returns with it released.
func (r *Resource) refresh(ctx context.Context, level stackglue.Mode, f Flags) error {
	for r.flags&refreshing != 0 || r.flags&needsRefresh != 0 && r.act != actNone {
		if err := r.waitChange(ctx); err != nil {
			r.uncount(level)
			r.mu.Unlock()
			return err
		}
	}
	if r.flags&needsRefresh == 0 {
		r.mu.Unlock()
		return nil
	}
	r.flags |= refreshing
	valid := r.LVBValid && r.props.lvb
	r.mu.Unlock()
	r.mgr.Counters.Refreshes.Add(1)
	err := r.hooks.Refresh(r, &r.LVB, valid)
	r.mu.Lock()
	r.flags &^= refreshing
	if err == nil {
		r.flags &^= needsRefresh
	} else {
		r.uncount(level)
	}
	r.kick()
	r.mu.Unlock()
	if err != nil {
		return fmt.Errorf("refresh of %v lock %s: %w", r.typ, r.NameString(), err)
	}
	return nil
}

// waitChange waits for the next state change of the resource. mu held, and
// held again on return.
func (r *Resource) waitChange(ctx context.Context) error {
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	ch := r.idle
	r.mu.Unlock()
	err := Await(ctx, ch)
	r.mu.Lock()
	return err
}

// changed wakes waitChange. mu held.
func (r *Resource) changed() {
	if r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}
