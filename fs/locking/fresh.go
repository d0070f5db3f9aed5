package locking

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ocfuse/ocfuse/stackglue"
)

// Fresh is the set of locks of one new object that no other node can know yet,
// because everything that leads to it is covered by locks this node holds EX:
// see "Locks of new objects" in the package comment. They exist on this node
// only, at any level, until one of the covers is to be given up.
type Fresh struct {
	mgr *Manager

	done atomic.Bool // nothing is hidden any more

	mu     sync.Mutex // guards the rest; taken before any Resource.mu
	locks  []*Resource
	covers []*Resource
	left   int  // locks that are neither real nor dropped
	closed bool // being made real: no lock joins any more
}

// cover is what a resource knows of the new objects it hides; guarded by the
// resource's mutex.
type cover struct {
	hidden   []*Fresh // oldest first; some are done
	unreal   int      // how many of them are not
	trimming bool     // more than Tuning.Hidden: the oldest are being made real
	err      error    // of the last lock that could not be made real
}

// Hide gives this node the locks of a new object without asking anybody. The
// caller holds every cover EX until it returns at least, and the object can be
// found by nobody who does not lock one of them. nil: a cover is not held EX,
// and the locks must be requested (Lock with NewObject).
func (m *Manager) Hide(covers []*Resource, reqs ...Request) *Fresh {
	f := &Fresh{mgr: m, locks: make([]*Resource, 0, len(reqs)), covers: make([]*Resource, 0, len(covers)+1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range covers {
		if !f.addCover(c) {
			f.uncover()
			return nil
		}
	}
	for _, q := range reqs {
		f.add(q.R, q.Level)
	}
	if f.left == 0 {
		f.uncover()
	}
	return f
}

// Join hides one more lock of the object, behind one more cover, which the
// caller holds EX. It reports whether the lock is there; if not, it must be
// requested. Either way the cover is not given up before the object's locks
// are real.
func (f *Fresh) Join(c, r *Resource, level stackglue.Mode) bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.left > 0 && f.addCover(c) && !f.closed && f.add(r, level)
}

// Cover adds a cover, which the caller holds EX: the object can be found
// through it from now on. f may be nil.
func (f *Fresh) Cover(c *Resource) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left > 0 && !f.addCover(c) {
		panic("locking: a cover is not held EX") // invariant: see the callers
	}
}

// add hides r; false if r has a lock of its own. f.mu held.
func (f *Fresh) add(r *Resource, level stackglue.Mode) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.level > stackglue.IV || r.act != actNone || r.flags&(attached|freeing) != 0 {
		return r.flags&virtual != 0 && r.level >= level
	}
	r.level, r.fresh = level, f
	r.flags |= virtual
	f.locks = append(f.locks, r)
	f.left++
	return true
}

// addCover notes f with c, unless c is not held EX. f.mu held.
func (f *Fresh) addCover(c *Resource) bool {
	if slices.Contains(f.covers, c) {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.level != stackglue.EX || c.writers == 0 || c.act >= actDown {
		return false
	}
	if c.hides == nil {
		c.hides = &cover{}
	}
	h := c.hides
	if len(h.hidden) > 2*h.unreal+16 {
		h.hidden = slices.DeleteFunc(h.hidden, func(o *Fresh) bool { return o.done.Load() })
	}
	h.hidden = append(h.hidden, f)
	if h.unreal++; h.unreal > c.mgr.tuning.Hidden && !h.trimming {
		h.trimming = true
		go c.trim()
	}
	f.covers = append(f.covers, c)
	return true
}

// left1 notes that one lock is real or dropped. No Resource.mu is held.
func (f *Fresh) left1() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left--; f.left == 0 {
		f.uncover()
	}
}

// uncover ends the object's hiding. f.mu held.
func (f *Fresh) uncover() {
	f.done.Store(true)
	f.closed = true
	for _, c := range f.covers {
		c.mu.Lock()
		h := c.hides
		if h.unreal--; h.unreal <= c.mgr.tuning.Hidden {
			h.trimming = false
		}
		if h.unreal == 0 {
			h.hidden = nil
			c.enqueue()
			c.changed()
		}
		c.mu.Unlock()
	}
	f.locks, f.covers = nil, nil // others may be kept in memory by this one
}

// failed tells the covers that a lock could not be made real.
func (f *Fresh) failed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.covers {
		c.mu.Lock()
		c.hides.err = err
		c.changed()
		c.mu.Unlock()
	}
}

// realise requests every lock that is not real, in one flight.
func (f *Fresh) realise() error {
	f.mu.Lock()
	f.closed = true
	locks := f.locks
	f.mu.Unlock()
	var err error
	for _, r := range locks {
		err = errors.Join(err, r.realise())
	}
	return err
}

// realise requests the lock at the level it has here.
func (r *Resource) realise() error {
	r.mu.Lock()
	var done *Fresh
	var err error
	switch {
	case r.flags&virtual == 0 || r.act != actNone:
	case r.props.bare && r.readers+r.writers+uint32(r.waiting.n) == 0:
		r.level = stackglue.IV
		done = r.real()
	default:
		err = r.request(r.level, NewObject, nil)
	}
	r.mu.Unlock()
	if done != nil {
		done.left1()
	}
	return err
}

// real ends the lock's life as one of this node only; the caller calls left1
// without the mutex. mu held.
func (r *Resource) real() *Fresh {
	f := r.fresh
	r.fresh = nil
	r.flags &^= virtual
	return f
}

// hidesSome reports whether the lock may not be given up yet because of new
// objects. mu held.
func (r *Resource) hidesSome() bool { return r.hides != nil && r.hides.unreal != 0 }

// reveal begins to make real what r hides; r is queued, and its waiters are
// told, when all of it is. mu held; released meanwhile.
func (r *Resource) reveal(n int) error {
	h := r.hides
	h.err = nil
	var list []*Fresh
	for _, f := range h.hidden {
		if len(list) == n {
			break
		}
		if !f.done.Load() {
			list = append(list, f)
		}
	}
	r.mu.Unlock()
	var err error
	for _, f := range list {
		err = errors.Join(err, f.realise())
	}
	r.mu.Lock()
	return err
}

// trim makes the oldest hidden objects real: those of a whole directory at
// once would keep another node waiting for too long.
func (r *Resource) trim() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.hides; h.trimming {
		_ = r.reveal(h.unreal - r.mgr.tuning.Hidden*3/4) // met again when r is given up
	}
}

// revealed waits until r hides nothing any more. mu held.
func (r *Resource) revealed(ctx context.Context) error {
	for r.hidesSome() && !r.mgr.fenced() {
		if err := r.reveal(r.hides.unreal); err != nil {
			return err
		}
		for r.hidesSome() && !r.mgr.fenced() {
			if r.hides.err != nil {
				return r.hides.err
			}
			if err := r.waitChange(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
