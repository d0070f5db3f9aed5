package dlm

import (
	"errors"
	"fmt"
	"sync"

	"github.com/ocfuse/ocfuse/dlm"
	"github.com/ocfuse/ocfuse/stackglue"
)

// handle is a Lksb.Handle: the lock manager's lock and what is in flight for it.
// It is the Handler of its lock; callbacks come on one goroutine, in order.
type handle struct {
	conn *conn
	lksb *stackglue.Lksb

	mu      sync.Mutex
	lock    *dlm.Lock // nil: no lock exists; guarded by mu
	busy    bool      // an operation is in flight; guarded by mu
	unlock  bool      // it is an unlock; guarded by mu
	valBlk  bool      // it carries the value block; guarded by mu
	cancel  bool      // a cancel waits for its end; guarded by mu
	cflags  stackglue.Flags
	uflags  stackglue.Flags
	request bool // it is a request for a new lock; guarded by mu
}

var _ dlm.Handler = (*handle)(nil)

// lockFlags translates the flags of a Lock call. As in the kernel's user stack
// every lock waits out conversion deadlocks (NODLCKWT), because the filesystem
// resolves them itself (Linux fs/ocfs2/stack_user.c, user_dlm_lock).
func lockFlags(f stackglue.Flags) dlm.Flags {
	return dlm.Flags(f&(stackglue.FlagNoQueue|stackglue.FlagValBlk|stackglue.FlagLocal)) | dlm.NoDlckWt
}

// Lock implements stackglue.Conn.
func (c *conn) Lock(l *stackglue.Lksb, mode stackglue.Mode, flags stackglue.Flags) error {
	if err := c.usable(); err != nil {
		return err
	}
	h, _ := l.Handle.(*handle)
	if h == nil || h.conn != c {
		h = &handle{conn: c, lksb: l}
		l.Handle = h
	}
	convert := flags&stackglue.FlagConvert != 0
	lk, err := h.begin(convert, false, flags)
	if err != nil {
		return fmt.Errorf("lock %q to %v: %w", l.NameBytes(), mode, err)
	}
	if convert {
		var lvb []byte
		if flags&stackglue.FlagValBlk != 0 {
			lvb = l.LVB[:]
		}
		err = lk.Convert(dlm.Mode(mode), lockFlags(flags), lvb)
	} else {
		c.locks.Add(1)
		lk, err = c.space.Lock(dlm.Request{Name: l.NameBytes(), Mode: dlm.Mode(mode), Flags: lockFlags(flags), LVB: true, Handler: h})
		if err == nil {
			h.adopt(lk)
		} else {
			c.locks.Add(-1)
		}
	}
	if err != nil {
		h.abandon()
		return fmt.Errorf("lock %q to %v: %w", l.NameBytes(), mode, c.translate(err))
	}
	return nil
}

// Unlock implements stackglue.Conn.
func (c *conn) Unlock(l *stackglue.Lksb, flags stackglue.Flags) error {
	if err := c.usable(); err != nil {
		return err
	}
	h, _ := l.Handle.(*handle)
	if h == nil || h.conn != c {
		return fmt.Errorf("unlock %q, which is not locked: %w", l.NameBytes(), stackglue.ErrInvalid)
	}
	if flags&stackglue.FlagCancel != 0 {
		return h.cancelOp(flags)
	}
	lk, err := h.begin(true, true, flags)
	if err != nil {
		return fmt.Errorf("unlock %q: %w", l.NameBytes(), err)
	}
	var lvb []byte
	if flags&stackglue.FlagValBlk != 0 {
		lvb = l.LVB[:]
	}
	if err := lk.Unlock(dlm.Flags(flags&stackglue.FlagValBlk), lvb); err != nil {
		h.abandon()
		return fmt.Errorf("unlock %q: %w", l.NameBytes(), c.translate(err))
	}
	return nil
}

// begin marks an operation as in flight.
func (h *handle) begin(exists, unlock bool, flags stackglue.Flags) (*dlm.Lock, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.busy:
		return nil, stackglue.ErrBusy
	case exists != (h.lock != nil):
		return nil, stackglue.ErrInvalid
	}
	h.busy, h.unlock, h.request = true, unlock, !exists
	h.valBlk = flags&stackglue.FlagValBlk != 0
	h.uflags = flags
	return h.lock, nil
}

// abandon takes begin back: the call was refused.
func (h *handle) abandon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy = false
}

// adopt remembers a new lock, unless its request has ended already: then AST has
// seen to it.
func (h *handle) adopt(lk *dlm.Lock) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.busy && h.request && h.lock == nil {
		h.lock = lk
		h.lksb.ID = uint64(lk.ID())
	}
}

// cancelOp asks for the end of what is in flight. Its own completion comes after
// the one of the operation, whether that was cancelled or overtook the cancel.
func (h *handle) cancelOp(flags stackglue.Flags) error {
	h.mu.Lock()
	lk, busy := h.lock, h.busy && !h.unlock
	if busy && h.cancel {
		h.mu.Unlock()
		return fmt.Errorf("cancel of %q: %w", h.lksb.NameBytes(), stackglue.ErrBusy)
	}
	if busy && lk != nil {
		h.cancel, h.cflags = true, flags
	}
	h.mu.Unlock()
	if !busy || lk == nil {
		h.lksb.Owner.UnlockAST(h.lksb, flags, nil) // nothing to cancel
		return nil
	}
	err := lk.Cancel()
	if err == nil || errors.Is(err, dlm.ErrNoLock) {
		return nil // ErrNoLock: the request has just been refused; its AST is due
	}
	h.mu.Lock()
	mine := h.cancel
	h.cancel = false
	h.mu.Unlock()
	if !mine {
		return nil // its AST ran meanwhile and ended the cancel as well
	}
	return fmt.Errorf("cancel of %q: %w", h.lksb.NameBytes(), h.conn.translate(err))
}

// AST implements dlm.Handler: an operation has ended.
func (h *handle) AST(lk *dlm.Lock, st dlm.Status) {
	if h.conn.over() {
		return
	}
	l := h.lksb
	h.mu.Lock()
	unlock, uflags := h.unlock, h.uflags
	cancel, cflags := h.cancel, h.cflags
	request := h.request
	h.busy, h.unlock, h.cancel, h.request = false, false, false, false
	gone := unlock && st.Result == dlm.ErrUnlocked || request && st.Result != 0
	switch {
	case gone:
		h.lock = nil
	case request:
		h.lock = lk
	}
	if !unlock {
		l.Status = h.conn.translate(st.Result.Err())
		l.LVBValid = !st.Invalid
		if h.valBlk && st.Result == 0 && st.LVB != nil {
			copy(l.LVB[:], st.LVB)
		}
	}
	h.mu.Unlock()
	switch {
	case gone:
		h.conn.locks.Add(-1)
	case request:
		l.ID = uint64(lk.ID())
	}
	if unlock {
		var err error
		if st.Result != dlm.ErrUnlocked {
			err = h.conn.translate(st.Result.Err())
		}
		l.Owner.UnlockAST(l, uflags, err)
	} else {
		l.Owner.LockAST(l)
	}
	if cancel {
		l.Owner.UnlockAST(l, cflags, nil)
	}
}

// BAST implements dlm.Handler.
func (h *handle) BAST(_ *dlm.Lock, blocked dlm.Mode) {
	if !h.conn.over() {
		h.lksb.Owner.BlockingAST(h.lksb, stackglue.Mode(blocked))
	}
}

// translate gives an error of the lock manager its stackglue kind.
func (c *conn) translate(err error) error {
	if err == nil {
		return nil
	}
	for _, t := range []struct{ from, to error }{
		{dlm.ErrAgain, stackglue.ErrAgain}, {dlm.ErrCanceled, stackglue.ErrCanceled}, {dlm.ErrBusy, stackglue.ErrBusy},
		{dlm.ErrInvalid, stackglue.ErrInvalid}, {dlm.ErrNoLock, stackglue.ErrInvalid}, {dlm.ErrUnsupported, stackglue.ErrUnsupported},
	} {
		if errors.Is(err, t.from) {
			if err == t.from {
				return t.to // no allocation for the ordinary ends
			}
			return fmt.Errorf("%w: %w", t.to, err)
		}
	}
	if errors.Is(err, dlm.ErrState) {
		if e := c.usable(); e != nil {
			return e
		}
	}
	return err
}
