package dlm

import (
	"context"
	"errors"

	"github.com/ocfuse/ocfuse/dlm/core"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Request asks for a new lock.
type Request struct {
	Name  []byte // 1..64 bytes, any; not kept
	Mode  Mode
	Flags Flags
	LVB   bool   // have a value block buffer even without ValBlk
	Pid   uint32 // for displays and orphans
	// Handler gets the callbacks. Without one the lock is never asked to give way, and only the waiting calls can be
	// used.
	Handler Handler
}

// Lock is a lock of this node. Its methods are safe for concurrent use, but only one operation may be in flight, except
// that Cancel and Unlock with ForceUnlock may overlap another one.
type Lock struct {
	ls      *Lockspace
	handler Handler

	// Guarded by ls.mu.
	id        core.LockID
	sync      bool // a waiting call is under way: its end goes to st, not to AST
	ended     bool // it came
	blocked   bool // the call sleeps on ch
	isNew     bool // the call is LockWait
	abandoned bool // LockWait gave up: unlock as soon as possible, tell nobody
	swallow   bool // ConvertWait or UnlockWait gave up: the end of the operation interests nobody
	gone      bool
	st        Status
	lvb       []byte
	ch        chan struct{} // capacity 1, made when a call really has to wait
}

// ID returns the lock's number on this node, as in dumps; 0 before it has one.
func (l *Lock) ID() uint32 {
	l.ls.mu.Lock()
	defer l.ls.mu.Unlock()
	return uint32(l.id)
}

// Mode returns the granted mode, IV if there is none (yet).
func (l *Lock) Mode() Mode {
	l.ls.mu.Lock()
	defer l.ls.mu.Unlock()
	li, ok := l.ls.core.LockInfo(l.id)
	if !ok {
		return IV
	}
	return li.Granted
}

// asts are the callbacks the peers are told of.
func asts(h Handler) wire.Asts {
	if h == nil {
		return wire.AstCompletion
	}
	return wire.AstCompletion | wire.AstBlocking
}

// Lock requests a new lock and returns at once; the outcome is the first AST. req.Handler is needed.
func (ls *Lockspace) Lock(req Request) (*Lock, error) {
	if req.Handler == nil {
		return nil, errorf(ErrInvalid, "a lock without Handler; use LockWait")
	}
	l := &Lock{ls: ls, handler: req.Handler}
	ls.enter()
	defer ls.leave()
	return l, l.request(&req)
}

// request: mu held.
func (l *Lock) request(req *Request) error {
	r := core.LockReq{Name: req.Name, Mode: req.Mode, Flags: req.Flags, Pid: req.Pid, Asts: asts(req.Handler), LVB: req.LVB, Data: l}
	id, err := l.ls.core.Lock(&r)
	if err == nil && !l.gone {
		l.id = id
	}
	return err
}

// LockWait requests a new lock and waits until it is granted or refused. err is nil if it was granted; otherwise there
// is no lock. When ctx ends first the request is taken back, in the background if a peer has to be asked.
func (ls *Lockspace) LockWait(ctx context.Context, req Request) (*Lock, Status, error) {
	l := &Lock{ls: ls, handler: req.Handler}
	l.isNew = true
	st, err := l.wait(ctx, func() error { return l.request(&req) })
	if err == nil {
		err = st.Result.Err()
	}
	if err != nil {
		return nil, st, err
	}
	return l, st, nil
}

// Convert changes the mode and returns at once; the outcome is the next AST. lvb is the value to write when leaving PW
// or EX with ValBlk; see core.Core.Convert.
func (l *Lock) Convert(mode Mode, flags Flags, lvb []byte) error {
	if l.handler == nil {
		return errorf(ErrInvalid, "the lock has no Handler; use ConvertWait")
	}
	l.ls.enter()
	defer l.ls.leave()
	return l.ls.core.Convert(l.id, mode, flags, lvb)
}

// ConvertWait changes the mode and waits for it. err is nil if the new mode is granted; otherwise st.Mode says what is.
// When ctx ends first the conversion is cancelled in the background and its end comes to nobody: Mode tells what is
// granted, and operations are refused with ErrBusy until then.
func (l *Lock) ConvertWait(ctx context.Context, mode Mode, flags Flags, lvb []byte) (Status, error) {
	st, err := l.wait(ctx, func() error { return l.ls.core.Convert(l.id, mode, flags, lvb) })
	if err == nil {
		err = st.Result.Err()
	}
	return st, err
}

// Unlock releases the lock and returns at once; the end is an AST with ErrUnlocked. See core.Core.Unlock.
func (l *Lock) Unlock(flags Flags, lvb []byte) error {
	l.ls.enter()
	defer l.ls.leave()
	return l.ls.core.Unlock(l.id, flags, lvb)
}

// UnlockWait releases the lock and waits until that is done. When ctx ends first the unlock still happens.
func (l *Lock) UnlockWait(ctx context.Context, flags Flags, lvb []byte) error {
	st, err := l.wait(ctx, func() error { return l.ls.core.Unlock(l.id, flags, lvb) })
	if err != nil || st.Result == wire.ResultUnlock {
		return err
	}
	return st.Result.Err()
}

// Cancel takes back a pending request or conversion. See core.Core.Cancel.
func (l *Lock) Cancel() error {
	l.ls.enter()
	defer l.ls.leave()
	return l.ls.core.Cancel(l.id)
}

// wait issues an operation and waits for its end.
func (l *Lock) wait(ctx context.Context, issue func() error) (Status, error) {
	ls := l.ls
	if err := ctx.Err(); err != nil {
		return Status{}, err
	}
	ls.enter()
	if l.sync {
		ls.leave()
		return Status{}, errorf(ErrBusy, "another call waits for this lock")
	}
	l.sync, l.ended, l.blocked = true, false, false
	err := issue()
	if err != nil || l.ended {
		l.sync, l.isNew = false, false
		st := l.st
		ls.leave()
		return st, err
	}
	l.blocked = true
	if l.ch == nil {
		l.ch = make(chan struct{}, 1)
	}
	ch := l.ch
	ls.leave()
	select {
	case <-ch:
		ls.mu.Lock()
		l.sync, l.isNew = false, false
		st := l.st
		ls.mu.Unlock()
		return st, nil
	case <-ctx.Done():
		return l.giveUp(ctx)
	case <-ls.done:
		return Status{}, errorf(ErrState, "the lockspace was released")
	}
}

// giveUp ends a waiting call whose context ended; if the operation ended as well, that counts.
func (l *Lock) giveUp(ctx context.Context) (Status, error) {
	l.ls.enter()
	defer l.ls.leave()
	l.sync, l.blocked = false, false
	isNew := l.isNew
	l.isNew = false
	if l.ended {
		<-l.ch
		return l.st, nil
	}
	l.abandoned, l.swallow = isNew, !isNew
	li, ok := l.ls.core.LockInfo(l.id)
	if ok && li.Status == wire.StatusGranted && li.WaitType == 0 {
		return Status{}, ctx.Err() // an unlock or conversion kept until recovery is over: it happens then
	}
	// The request or conversion may just have ended, or an unlock be in flight; both are fine.
	_ = l.ls.core.Cancel(l.id)
	return Status{}, ctx.Err()
}

// complete is the end of an operation. mu held; called from inside the core, which must not be called here.
func (l *Lock) complete(ls *Lockspace, cb *core.Completion) {
	l.id = cb.ID
	if cb.Gone {
		l.gone = true
		l.id = 0
	}
	st := Status{Result: cb.Status, Mode: cb.Mode, Invalid: cb.Flags&wire.SBFValNotValid != 0,
		Demoted: cb.Flags&wire.SBFDemoted != 0, AltMode: cb.Flags&wire.SBFAltMode != 0}
	switch {
	case l.abandoned:
		if !l.gone && cb.Status == wire.ResultOK {
			ls.disown(l)
		}
	case l.swallow:
		l.swallow = false
	case l.sync && !l.ended:
		if cb.LVB != nil {
			l.lvb = append(l.lvb[:0], cb.LVB...)
			st.LVB = l.lvb
		}
		l.st, l.ended = st, true
		if l.blocked {
			l.ch <- struct{}{} // one end per wait: there is room
		}
	case l.handler != nil:
		e := ls.post(cbAST)
		e.lock, e.st = l, st
		if cb.LVB != nil {
			e.lvb = append(e.lvb[:0], cb.LVB...)
			e.st.LVB = e.lvb
		}
	}
}

// disown unlocks a lock nobody waits for any more, from a goroutine of its own: the core is at work. mu held.
func (ls *Lockspace) disown(l *Lock) {
	go func() {
		ls.enter()
		defer ls.leave()
		if err := ls.core.Unlock(l.id, ForceUnlock, nil); err != nil && !errors.Is(err, ErrNoLock) && !errors.Is(err, ErrState) {
			ls.cfg.Logf("dlm: unlock of an abandoned lock: %v", err)
		}
	}()
}
