package core

import "github.com/ocfuse/ocfuse/dlm/wire"

// The four operations as the master carries them out, each split in the decision and its effects on others, because
// the reply to a remote owner goes out between the two. (Linux do_request .. do_cancel_effects.)

func (c *Core) doRequest(r *rsb, l *lkb) wire.Result {
	if ok, _ := c.canGrant(r, l, true, false); ok {
		c.grant(r, l)
		c.complete(l, wire.ResultOK)
		return wire.ResultOK
	}
	if l.canQueue() {
		c.enqueue(r, l, wire.StatusWaiting)
		return wire.ResultInProgress
	}
	return wire.ResultAgain
}

func (c *Core) requestEffects(r *rsb, l *lkb, res wire.Result) {
	switch res {
	case wire.ResultInProgress:
		c.bastQueue(&r.granted, l)
	case wire.ResultAgain:
		c.failedTry(r, l)
		c.complete(l, res)
		c.finish(l)
	}
}

// failedTry: a NOQUEUE operation that failed sends BASTs only if NOQUEUEBAST asks for it.
func (c *Core) failedTry(r *rsb, l *lkb) {
	if l.has(wire.LKFNoQueueBast) {
		c.bastQueue(&r.granted, l)
		c.bastQueue(&r.convert, l)
	}
}

func (c *Core) doConvert(r *rsb, l *lkb) wire.Result {
	ok, deadlock := c.canGrant(r, l, true, false)
	if !ok && deadlock && !l.has(wire.LKFNoDlckWt) {
		c.revert(r, l)
		c.complete(l, wire.ResultDeadlk)
		return wire.ResultDeadlk
	}
	if !ok && l.sbflags&wire.SBFDemoted != 0 {
		c.grantConverts(r, &blocked{})
		ok = c.basicGrant(r, l, true, false)
	}
	if ok {
		c.grant(r, l)
		c.complete(l, wire.ResultOK)
		return wire.ResultOK
	}
	if l.canQueue() {
		c.requeue(r, l, wire.StatusConvert)
		return wire.ResultInProgress
	}
	return wire.ResultAgain
}

func (c *Core) convertEffects(r *rsb, l *lkb, res wire.Result) {
	switch res {
	case wire.ResultOK:
		c.grantPending(r)
	case wire.ResultInProgress:
		if c.cfg.Fault != FaultSkipBast {
			c.bastQueue(&r.granted, l)
		}
	case wire.ResultAgain:
		c.failedTry(r, l)
		l.rqmode = wire.IV
		c.complete(l, res)
	}
}

// doUnlock takes the lock off its queue. The caller sends the reply, runs unlockEffects, and only then frees l.
func (c *Core) doUnlock(r *rsb, l *lkb) wire.Result {
	c.unlockLVB(r, l)
	c.dequeue(r, l)
	l.grmode = wire.IV
	c.complete(l, wire.ResultUnlock)
	return wire.ResultUnlock
}

// unlockEffects grants what l's departure allows. The lock is freed last: it may hold the last reference to r.
func (c *Core) unlockEffects(r *rsb, l *lkb) {
	c.grantPending(r)
	c.finish(l)
}

// revert undoes a queued operation: a conversion returns to the granted queue, a request leaves its queue. gone is
// true for the latter, and the caller frees l. (Linux revert_lock.)
func (c *Core) revert(r *rsb, l *lkb) (undone, gone bool) {
	switch l.queue() {
	case wire.StatusConvert:
		if l.grmode == wire.IV {
			c.recoverConversions(r) // it came when recovery had settled the others already
		}
		l.rqmode = wire.IV
		c.requeue(r, l, wire.StatusGranted)
		return true, false
	case wire.StatusWaiting:
		c.dequeue(r, l)
		l.grmode, l.rqmode = wire.IV, wire.IV
		return true, true
	}
	l.rqmode = wire.IV
	return false, false
}

// doCancel returns ECANCEL if something was cancelled, 0 if there was nothing to cancel.
func (c *Core) doCancel(r *rsb, l *lkb) (res wire.Result, gone bool) {
	undone, gone := c.revert(r, l)
	if !undone {
		return wire.ResultOK, false
	}
	c.complete(l, wire.ResultCancel)
	return wire.ResultCancel, gone
}

func (c *Core) cancelEffects(r *rsb, l *lkb, res wire.Result, gone bool) {
	if res != wire.ResultOK {
		c.grantPending(r)
	}
	if gone {
		c.finish(l)
	}
}
