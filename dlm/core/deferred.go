package core

import (
	"fmt"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// While locking is stopped the kernel lets callers sleep. A state machine cannot; it keeps their operations, in order,
// and starts them when locking runs. Until then nothing of the operation is visible in the lkb, so that recovery sends
// the lock as it is.

type opKind uint8

const (
	opNone opKind = iota // taken back
	opLock
	opConvert
	opUnlock
	opCancel
)

type deferredOp struct {
	kind  opKind
	l     *lkb
	id    LockID
	name  []byte
	mode  wire.Mode
	flags wire.LKF
	lvb   []byte
	// base replaces the lock's flags before an unlock adds its own: those of the conversion that the unlock took over.
	base    wire.LKF
	hasBase bool
}

// deferOp remembers op. A cancel may stand beside the operation it cancels and does not mark the lock.
func (c *Core) deferOp(op deferredOp) {
	op.id = op.l.id
	if op.kind != opCancel {
		op.l.lflags |= lfDeferred
	}
	c.deferred = append(c.deferred, op)
}

func (c *Core) findDeferred(l *lkb) *deferredOp {
	for i := range c.deferred {
		if op := &c.deferred[i]; op.l == l && op.id == l.id && op.kind != opNone && op.kind != opCancel {
			return op
		}
	}
	return nil
}

func (c *Core) dropDeferred(l *lkb) {
	if op := c.findDeferred(l); op != nil {
		*op = deferredOp{}
	}
	l.lflags &^= lfDeferred
}

// cancelDeferred takes back a request or conversion that never left.
func (c *Core) cancelDeferred(l *lkb) error {
	op := c.findDeferred(l)
	if op.kind == opUnlock {
		return fmt.Errorf("%w: lock %#x is being unlocked", ErrBusy, uint32(l.id))
	}
	isNew := op.kind == opLock
	c.dropDeferred(l)
	c.complete(l, wire.ResultCancel)
	if isNew {
		c.finish(l)
	}
	return nil
}

// forceDeferred turns what was kept into an unlock.
func (c *Core) forceDeferred(l *lkb, flags wire.LKF, lvb []byte) error {
	op := c.findDeferred(l)
	switch op.kind {
	case opUnlock:
		return fmt.Errorf("%w: lock %#x is already being unlocked", ErrBusy, uint32(l.id))
	case opLock:
		c.dropDeferred(l)
		c.complete(l, wire.ResultUnlock)
		c.finish(l)
	case opConvert:
		if lvbTable[l.grmode+1][op.mode+1] == lvbWrite && lvb == nil {
			lvb = op.lvb // what the conversion was to do to the value, the unlock does
		}
		*op = deferredOp{kind: opUnlock, l: l, id: l.id, flags: flags, lvb: append([]byte(nil), lvb...), base: op.flags, hasBase: true}
	}
	return nil
}

// runDeferred starts what was kept, in order. Nothing of it can be stopped half way: it is synchronous.
func (c *Core) runDeferred() {
	ops := c.deferred
	c.deferred = nil
	for i := range ops {
		op := &ops[i]
		if op.kind == opNone || c.ids.get(op.id) != op.l {
			continue
		}
		if op.kind != opCancel {
			op.l.lflags &^= lfDeferred
		}
		c.runOp(op)
	}
	if c.deferred == nil {
		clear(ops)
		c.deferred = ops[:0]
	}
}

func (c *Core) runOp(op *deferredOp) {
	l := op.l
	switch op.kind {
	case opLock:
		c.startLock(l, op.name)
	case opConvert:
		c.startConvert(l, op.mode, op.flags, op.lvb)
	case opUnlock:
		if l.is(lfDead) {
			return
		}
		if done, err := c.forceOverlap(l); done || err != nil {
			return
		}
		if op.hasBase && l.waitType == 0 && l.queue() == wire.StatusGranted {
			l.exflags = op.base
		}
		c.startUnlock(l, op.flags, op.lvb)
	case opCancel:
		if l.is(lfDead) || l.is(lfOverlap) || l.queue() == wire.StatusGranted && l.waitType == 0 {
			return // recovery or the master's reply decided meanwhile
		}
		if w := wire.MsgType(l.waitType); w == wire.MsgUnlock || w == wire.MsgCancel {
			return
		}
		if c.overlapRequest(l) {
			return
		}
		c.startCancel(l)
	}
}

// overlapRequest flags a cancel of a request that has no answer yet.
func (c *Core) overlapRequest(l *lkb) bool {
	if l.is(lfResend) || l.waitType == uint8(wire.MsgLookup) || l.waitType == uint8(wire.MsgRequest) {
		l.lflags |= lfOverlapCancel
		return true
	}
	return false
}
