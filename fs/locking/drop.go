package locking

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocfuse/ocfuse/stackglue"
)

// Drop gives the lock back to the cluster and retires the resource: the
// protected object leaves memory (ocfs2_drop_lock). It waits for the journal
// if Hooks.Ready says so, publishes the value block if this node holds EX, and
// does not call Hooks.Downconvert: the object's caches are gone already.
// Callers that still wait for the lock get ErrFreed. With holders left it
// returns ErrHeld and changes nothing. After an error of the context or the
// stack it may be called again; Drop of a dropped resource does nothing.
func (r *Resource) Drop(ctx context.Context) error {
	r.mu.Lock()
	err := r.drop(ctx)
	var done *Fresh
	if err == nil && r.flags&virtual != 0 {
		r.level = stackglue.IV
		done = r.real()
	}
	r.mu.Unlock()
	if done != nil {
		done.left1()
	}
	return err
}

// drop is Drop. mu held.
func (r *Resource) drop(ctx context.Context) error {
	if r.readers+r.writers != 0 {
		return fmt.Errorf("drop of %v lock %s with %d readers and %d writers: %w", r.typ, r.NameString(), r.readers, r.writers, ErrHeld)
	}
	r.flags |= freeing
	r.kick()
	if err := r.revealed(ctx); err != nil {
		return err
	}
	for {
		if err := r.settled(ctx); err != nil {
			return err
		}
		if r.flags&attached == 0 || r.mgr.fenced() {
			r.mgr.unregister(r)
			return nil
		}
		if r.hooks.Ready(r, stackglue.NL) {
			break
		}
		r.mgr.waitFlush(r)
		r.mu.Unlock()
		r.hooks.MakeReady(r)
		r.mu.Lock()
		for r.mgr.waitsForFlush(r) {
			if err := r.waitChange(ctx); err != nil {
				return err
			}
		}
	}
	sf := r.publish()
	r.act, r.requested, r.dropErr = actDrop, stackglue.IV, nil
	r.mgr.Counters.Drops.Add(1)
	if err := r.call(func(c stackglue.Conn) error { return c.Unlock(&r.Lksb, sf) }); err != nil {
		r.act = actNone
		r.dropErr = err
	}
	for r.act == actDrop {
		if err := r.waitChange(context.Background()); err != nil {
			return err
		}
	}
	if err := r.dropErr; err != nil && !errors.Is(err, stackglue.ErrShutdown) && !errors.Is(err, stackglue.ErrFenced) {
		return fmt.Errorf("drop of %v lock %s: %w", r.typ, r.NameString(), err)
	}
	r.mgr.unregister(r)
	return nil
}

// settled waits until nothing is in flight and no worker has the resource; a
// raise in flight is cancelled. mu held.
func (r *Resource) settled(ctx context.Context) error {
	for r.act != actNone || r.flags&(cancelling|queued|refreshing|pending) != 0 {
		if r.mgr.fenced() && r.flags&(queued|refreshing) == 0 {
			return nil // completions need not come any more
		}
		if r.act == actUp {
			r.cancel()
			if r.act == actNone {
				continue
			}
		}
		if err := r.waitChange(ctx); err != nil {
			return err
		}
	}
	return nil
}
