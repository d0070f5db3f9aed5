package locking

import (
	"errors"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
)

// wantLess records that another node waits for mode. mu held.
func (r *Resource) wantLess(mode stackglue.Mode) {
	if r.flags&blocked == 0 {
		r.flags |= blocked
		r.blocking = stackglue.NL
		r.rv = revoke{since: r.mgr.now()}
	}
	r.blocking = max(r.blocking, mode)
}

// unblocked ends a revoke. mu held.
func (r *Resource) unblocked() {
	r.flags &^= blocked | shut
	r.blocking = stackglue.NL
	r.rv = revoke{}
}

// enqueue hands the resource to a worker, or tells the one that has it to
// look again. mu held.
func (r *Resource) enqueue() {
	if r.flags&blocked == 0 {
		return
	}
	if r.flags&queued != 0 {
		r.flags |= rekick
		return
	}
	r.flags |= queued
	r.mgr.queue(r)
}

// minHoldLeft is how much of the fair quantum is left. mu held.
func (r *Resource) minHoldLeft() time.Duration {
	if r.raisedAt.IsZero() {
		return 0
	}
	now := r.mgr.now()
	left := r.mgr.tuning.MinHold[r.typ] - now.Sub(r.raisedAt)
	if r.readers+r.writers == 0 {
		left = min(left, r.mgr.tuning.Linger-now.Sub(r.usedAt))
	}
	return left
}

// keep looks again when the quantum may be over, which is sooner once the last
// holder has left. mu held.
func (r *Resource) keep(left time.Duration) {
	if r.keeper == nil {
		r.keeper = time.AfterFunc(left, r.Retry)
		return
	}
	r.keeper.Reset(left)
}

// unblock is a worker's turn with one resource (Linux ocfs2_unblock_lock): it
// goes as far as it can and leaves; whoever removes the obstacle queues the
// resource again.
func (r *Resource) unblock() {
	r.mu.Lock()
	for {
		r.flags &^= rekick
		if !r.step() && r.flags&rekick == 0 {
			break
		}
	}
	r.flags &^= queued
	r.kickIdle()
	r.mu.Unlock()
}

// kickIdle tells a Drop that no worker has the resource. mu held.
func (r *Resource) kickIdle() {
	if r.flags&freeing != 0 {
		r.changed()
	}
}

// step does one thing towards giving the lock up and reports whether to go
// on. mu held; may be released in between.
func (r *Resource) step() bool {
	if r.flags&blocked == 0 || r.flags&freeing != 0 {
		return false
	}
	if r.act != actNone || r.flags&cancelling != 0 {
		// A raise that waits for the node that waits for us would never
		// end; one from NL is granted or queued without us.
		if r.act == actUp && r.level > stackglue.NL {
			r.cancel()
		}
		return false
	}
	to := highestCompat(r.blocking)
	if r.level <= to || r.level <= stackglue.NL {
		r.unblocked() // a late BAST
		r.kick()
		return false
	}
	if r.flags&refreshing != 0 {
		return false // its end kicks
	}
	if left := r.minHoldLeft(); left > 0 {
		r.keep(left)
		return false
	}
	if r.heldAbove(to) {
		r.drain()
		return false
	}
	if !r.passed(to) {
		return r.pass(to)
	}
	if r.hidesSome() {
		if err := r.reveal(r.hides.unreal); err != nil {
			r.mgr.logf("lock %s is kept: the locks of new objects behind it: %v", r.NameString(), err)
		}
		return false
	}
	if !r.hooks.Ready(r, to) {
		r.mgr.waitFlush(r)
		r.mu.Unlock()
		r.hooks.MakeReady(r)
		r.mu.Lock()
		return false
	}
	r.lower(to)
	return false
}

// drain bounds how long Served requests can keep the holders from reaching
// zero. mu held.
func (r *Resource) drain() {
	left := r.mgr.tuning.DrainQuantum - r.mgr.now().Sub(r.rv.since)
	if left <= 0 || r.rv.passes >= r.mgr.tuning.OpenPasses {
		r.flags |= shut
		return
	}
	since := r.rv.since
	time.AfterFunc(left, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.flags&blocked != 0 && r.rv.since.Equal(since) && !r.rv.running && r.heldAbove(highestCompat(r.blocking)) {
			r.flags |= shut
		}
	})
}

// passed reports whether the last pass still stands: it left at most what to
// allows, and nothing more was granted since it began. mu held.
func (r *Resource) passed(to stackglue.Mode) bool {
	rv := &r.rv
	return rv.valid && rv.to <= to && !r.grantedSince(to, rv.beganPR, rv.beganEX)
}

// pass runs the hook once. mu held; released during the hook.
func (r *Resource) pass(to stackglue.Mode) bool {
	t := &r.mgr.tuning
	rv := &r.rv
	rv.passes++
	n := rv.passes
	rv.running, rv.to, rv.beganPR, rv.beganEX = true, to, r.grantsPR, r.grantsEX
	r.mgr.Counters.Passes.Add(1)
	p := Pass{From: r.level, To: to, Blocked: r.blocking, N: n, Closed: n > t.HoldPasses}
	var open *time.Timer
	switch {
	case n <= t.OpenPasses:
		if r.flags&shut != 0 {
			r.flags &^= shut
			r.kick()
		}
	case p.Closed:
		r.mgr.Counters.ClosedPasses.Add(1)
		r.flags |= shut
	default:
		r.mgr.Counters.HeldPasses.Add(1)
		r.flags |= shut
		open = time.AfterFunc(t.HoldTime, func() { r.openGate(n) })
	}
	// The flush and the pass can run side by side.
	early := !r.hooks.Ready(r, to)
	r.mu.Unlock()
	if early {
		r.hooks.MakeReady(r)
	}
	v := r.hooks.Downconvert(r, p)
	if open != nil {
		open.Stop()
	}
	r.mu.Lock()
	rv.running = false
	rv.valid = v != Again
	rv.verdict = v
	return v != Again
}

// openGate lets Served requests in that wait for pass n, if it is still on.
func (r *Resource) openGate(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rv.running && r.rv.passes == n && r.flags&shut != 0 {
		r.flags &^= shut
		r.kick()
	}
}

// publish prepares the value block for leaving the level held. mu held.
func (r *Resource) publish() stackglue.Flags {
	if !r.props.lvb {
		return 0
	}
	if r.level == stackglue.EX {
		switch {
		case r.flags&needsRefresh == 0:
			r.hooks.FillLVB(r)
		case !r.LVBValid:
			// Nobody here looked at what a dead writer left. Passing it on
			// would make it trusted: a block of zeros has no version.
			clear(r.LVB[:])
		}
	}
	return stackglue.FlagValBlk
}

// lower sends the message that gives up what is above to. mu held; released
// during the call.
func (r *Resource) lower(to stackglue.Mode) {
	sf := stackglue.FlagConvert | r.publish()
	r.mgr.Counters.Lowers.Add(1)
	r.raisedAt = time.Time{}
	var err error
	if r.rv.verdict == DropLock && to == stackglue.NL {
		r.act, r.requested = actDrop, stackglue.IV
		err = r.call(func(c stackglue.Conn) error { return c.Unlock(&r.Lksb, sf&^stackglue.FlagConvert) })
	} else {
		r.act, r.requested = actDown, to
		err = r.call(func(c stackglue.Conn) error { return c.Lock(&r.Lksb, to, sf) })
	}
	if err == nil {
		return
	}
	// The connection is over or the stack refused a legal call: the lock is
	// kept, and nobody here may lose it silently.
	r.act = actNone
	r.flags &^= shut
	if !errors.Is(err, stackglue.ErrShutdown) && !errors.Is(err, stackglue.ErrFenced) {
		r.mgr.logf("lock %s: giving up %v for another node failed: %v", r.NameString(), r.level, err)
	}
}

// lowered handles the end of a convert down. mu held.
func (r *Resource) lowered(status error) {
	if status != nil {
		r.flags &^= shut
		r.mgr.logf("lock %s: giving up %v for another node failed: %v", r.NameString(), r.level, status)
		return
	}
	r.level = r.requested
	if r.level <= highestCompat(r.blocking) {
		r.unblocked()
		return
	}
	// Somebody asked for more meanwhile. What was done up to now does not
	// count for it: a new revoke begins.
	r.flags &^= shut
	r.rv = revoke{since: r.mgr.now()}
}
