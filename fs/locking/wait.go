package locking

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
)

// waiter is a Lock call that could not be granted at once. All fields but ch
// are guarded by the mutex of the resource it waits for.
type waiter struct {
	prev, next *waiter
	level      stackglue.Mode
	flags      Flags
	done       bool // granted (err nil) or failed; off the list
	err        error
	ch         chan struct{} // cap 1: look again
}

var waiters = sync.Pool{New: func() any { return &waiter{ch: make(chan struct{}, 1)} }}

// waitList is a FIFO of waiters.
type waitList struct {
	head, tail *waiter
	n          int
}

func (l *waitList) push(w *waiter) {
	w.prev, w.next = l.tail, nil
	if l.tail != nil {
		l.tail.next = w
	} else {
		l.head = w
	}
	l.tail = w
	l.n++
}

func (l *waitList) remove(w *waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		l.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		l.tail = w.prev
	}
	w.prev, w.next = nil, nil
	l.n--
}

func (w *waiter) wake() {
	select {
	case w.ch <- struct{}{}:
	default:
	}
}

// end takes a waiter off the list with its result. mu held.
func (r *Resource) end(w *waiter, err error) {
	r.waiting.remove(w)
	if r.noqueueBy == w {
		r.noqueueBy = nil
	}
	w.done, w.err = true, err
	w.wake()
}

// kick grants what has become grantable, lets one waiter send the request
// that the first of the others need, and queues the downconvert if nothing
// stands in its way. To be called after every state change. mu held.
func (r *Resource) kick() {
	told := false
	for w := r.waiting.head; w != nil; {
		next := w.next
		switch {
		case r.grantable(w.level, w.flags):
			r.count(w.level)
			r.end(w, nil)
		case r.flags&freeing != 0:
			r.end(w, ErrFreed)
		case !told && r.canRaise(w.level):
			told = true
			w.wake()
		}
		w = next
	}
	if r.props.noCache && r.act == actNone && r.level > stackglue.NL && r.readers+r.writers == 0 && r.waiting.n == 0 {
		r.wantLess(stackglue.EX)
	}
	if r.flags&blocked != 0 && r.act == actNone && !r.heldAbove(highestCompat(r.blocking)) {
		r.enqueue()
	}
	r.changed()
}

// lockSlow is Lock for everything that is not simply cached.
func (r *Resource) lockSlow(ctx context.Context, level stackglue.Mode, f Flags) error {
	m := r.mgr
	if level != stackglue.PR && level != stackglue.EX {
		return fmt.Errorf("lock %s: level %v cannot be held: %w", r.NameString(), level, stackglue.ErrInvalid)
	}
	wait := r.props.waitRecovery && f&Recovery == 0
	for {
		if wait {
			if err := m.waitRecovered(ctx, f); err != nil {
				return err
			}
		}
		if err := m.gone(); err != nil {
			return err
		}
		r.mu.Lock()
		if err := r.acquire(ctx, level, f); err != nil {
			r.mu.Unlock()
			return err
		}
		if r.flags&(needsRefresh|refreshing) == 0 || wait && m.trouble.Load() != 0 {
			r.mu.Unlock()
		} else if err := r.refresh(ctx, level, f); err != nil {
			return err
		}
		if !wait || m.trouble.Load() == 0 {
			return nil
		}
		// The grant may owe itself to a death. It cannot be kept until the
		// journal is replayed: the node that recovers may need this lock.
		r.Unlock(level)
	}
}

// acquire waits for the grant and counts the holder. mu held, and held on
// return.
func (r *Resource) acquire(ctx context.Context, level stackglue.Mode, f Flags) error {
	if r.flags&freeing != 0 {
		return ErrFreed
	}
	if r.grantable(level, f) {
		r.count(level)
		return nil
	}
	w := waiters.Get().(*waiter)
	w.level, w.flags, w.done, w.err = level, f, false, nil
	r.waiting.push(w)
	r.mgr.Counters.Waits.Add(1)
	if err := r.mgr.gone(); err != nil {
		r.end(w, err) // fenced before the waiter could be seen by the one who fenced
	}
	for !w.done {
		if r.canRaise(level) {
			if err := r.raise(level, f, w); err != nil && !w.done {
				r.end(w, err)
				r.kick()
			}
			continue
		}
		if f&NoQueue != 0 && r.noqueueBy == nil && (r.act != actNone && r.flags&virtual == 0 || r.flags&blocked != 0) {
			r.end(w, stackglue.ErrAgain)
			continue
		}
		r.mu.Unlock()
		err := Await(ctx, w.ch)
		r.mu.Lock()
		if err != nil && !w.done {
			r.giveUp(w, err)
		}
	}
	err := w.err
	select {
	case <-w.ch:
	default:
	}
	waiters.Put(w)
	return err
}

// interruptPoll is how often a context is asked that called itself done but is
// not over.
const interruptPoll = 50 * time.Millisecond

// Await waits for ch or the end of the context. A context whose Done is closed
// while its Err is still nil is asked again from time to time: FUSE's
// INTERRUPT tells that a signal has come, which ends only some waits.
func Await(ctx context.Context, ch <-chan struct{}) error {
	done := ctx.Done()
	var again <-chan time.Time
	for {
		select {
		case <-ch:
			return nil
		case <-done:
			if done, again = nil, nil; ctx.Err() == nil {
				t := time.NewTicker(interruptPoll)
				defer t.Stop()
				again = t.C
			}
		case <-again:
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// giveUp ends a waiter whose context is over and cancels the request in
// flight if nobody else needs it. mu held (released for the call).
func (r *Resource) giveUp(w *waiter, err error) {
	r.end(w, fmt.Errorf("waiting for %v lock %s: %w", r.typ, r.NameString(), err))
	if r.act != actUp || r.flags&virtual != 0 {
		r.kick()
		return
	}
	for o := r.waiting.head; o != nil; o = o.next {
		if o.level > r.level {
			return
		}
	}
	r.cancel()
}

// raise sends the request or convert for level. by is the waiter it is for,
// nil for a prefetch. mu held; released during the call. The error is that of
// a call that was not accepted.
func (r *Resource) raise(level stackglue.Mode, f Flags, by *waiter) error {
	if r.flags&virtual != 0 {
		r.level = level
		r.kick()
		return nil
	}
	return r.request(level, f, by)
}

// request is raise for a lock that other nodes can want.
func (r *Resource) request(level stackglue.Mode, f Flags, by *waiter) error {
	var sf stackglue.Flags
	if r.flags&attached != 0 {
		sf |= stackglue.FlagConvert
	}
	if r.props.lvb {
		sf |= stackglue.FlagValBlk
	}
	if f&NoQueue != 0 {
		sf |= stackglue.FlagNoQueue
		r.noqueueBy = by
	}
	r.flags &^= requestNew | cancelSent
	if f&NewObject != 0 {
		r.flags |= requestNew
		if r.props.localNew && r.flags&attached == 0 {
			sf |= stackglue.FlagLocal
		}
	}
	if (r.level <= stackglue.NL || r.flags&virtual != 0) && r.props.lvb {
		// A stack that has no value block for the name leaves ours alone,
		// and what an earlier lock left here must not be trusted.
		clear(r.LVB[:])
		r.LVBValid = false
	}
	r.act, r.requested = actUp, level
	r.mgr.Counters.Raises.Add(1)
	err := r.call(func(c stackglue.Conn) error { return c.Lock(&r.Lksb, level, sf) })
	if err == nil {
		return nil
	}
	r.act, r.noqueueBy = actNone, nil
	r.flags &^= cancelWanted
	r.kick()
	return fmt.Errorf("lock %s to %v: %w", r.NameString(), level, err)
}

// call runs one call into the stack with the pending state around it.
// mu held; released during the call.
func (r *Resource) call(fn func(stackglue.Conn) error) error {
	conn := r.mgr.conn.Load()
	if conn == nil {
		return stackglue.ErrShutdown
	}
	r.callGen++
	gen := r.callGen
	r.flags |= pending
	r.mu.Unlock()
	err := fn(*conn)
	r.mu.Lock()
	if r.callGen == gen {
		r.flags &^= pending
	}
	if err == nil && r.flags&(cancelWanted|pending) == cancelWanted {
		r.cancel()
	}
	return err
}

// cancel asks the stack to give up the raise in flight, once. mu held;
// released during the call.
func (r *Resource) cancel() {
	if r.act != actUp || r.flags&(cancelling|cancelSent) != 0 {
		r.flags &^= cancelWanted
		return
	}
	if r.flags&pending != 0 {
		r.flags |= cancelWanted
		return
	}
	conn := r.mgr.conn.Load()
	if conn == nil {
		return
	}
	r.flags |= cancelling | cancelSent
	r.flags &^= cancelWanted
	r.mgr.Counters.Cancels.Add(1)
	r.mu.Unlock()
	err := (*conn).Unlock(&r.Lksb, stackglue.FlagCancel)
	r.mu.Lock()
	if err != nil {
		// Not accepted, so no completion: nothing was left to cancel, or
		// the connection is closed, which the raise's own end shows.
		r.flags &^= cancelling
		r.kick()
	}
}

// owner gives the stack its callbacks without showing them in the API.
type owner Resource

// LockAST implements stackglue.LockOwner.
func (o *owner) LockAST(l *stackglue.Lksb) {
	r := (*Resource)(o)
	r.mu.Lock()
	r.callGen++ // the call that is still returning, if any, is over
	r.flags &^= pending | cancelWanted
	act, status := r.act, l.Status
	r.act = actNone
	fresh := r.fresh
	switch act {
	case actUp:
		r.raised(status)
	case actDown:
		r.lowered(status)
	}
	real := r.fresh == nil
	r.kick()
	r.mu.Unlock()
	switch {
	case fresh == nil:
	case real:
		fresh.left1()
	case status != nil && !errors.Is(status, stackglue.ErrCanceled):
		fresh.failed(status)
	}
}

// raised handles the end of a request or convert up. mu held.
func (r *Resource) raised(status error) {
	by := r.noqueueBy
	r.noqueueBy = nil
	switch {
	case status == nil:
		if r.props.refresh && r.level <= stackglue.NL && r.flags&requestNew == 0 {
			r.flags |= needsRefresh
		}
		r.level = r.requested
		r.flags |= attached
		r.real()
		if r.mgr.tuning.MinHold[r.typ] > 0 {
			r.raisedAt = r.mgr.now()
			r.usedAt = r.raisedAt
		}
	case errors.Is(status, stackglue.ErrAgain):
		if by != nil && !by.done {
			r.end(by, stackglue.ErrAgain)
		}
	case errors.Is(status, stackglue.ErrCanceled):
		// The waiters ask again once the other node had its turn.
	default:
		for w := r.waiting.head; w != nil; {
			next := w.next
			if w.level > r.level {
				r.end(w, fmt.Errorf("lock %s to %v: %w", r.NameString(), r.requested, status))
			}
			w = next
		}
	}
}

// UnlockAST implements stackglue.LockOwner.
func (o *owner) UnlockAST(l *stackglue.Lksb, f stackglue.Flags, err error) {
	r := (*Resource)(o)
	r.mu.Lock()
	defer r.mu.Unlock()
	if f&stackglue.FlagCancel != 0 {
		r.flags &^= cancelling
		r.kick()
		return
	}
	r.callGen++
	r.flags &^= pending
	r.act = actNone
	r.dropErr = err
	if err == nil {
		r.level, r.flags = stackglue.IV, r.flags&^(attached|needsRefresh)
		r.unblocked()
	}
	r.kick()
}

// BlockingAST implements stackglue.LockOwner.
func (o *owner) BlockingAST(l *stackglue.Lksb, mode stackglue.Mode) {
	r := (*Resource)(o)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mgr.Counters.Basts.Add(1)
	r.wantLess(mode)
	r.enqueue()
}
