package core

import "github.com/ocfuse/ocfuse/dlm/wire"

// What happens in recovery to operations that wait for a reply, and to messages that came while locking was stopped.
// (Linux fs/dlm/lock.c dlm_recover_waiters_pre, dlm_recover_waiters_post; requestqueue.c.)

// waitersFirstPart settles, before masters are looked for, what departed nodes will not answer any more. Lookups are
// always repeated, since the directory changed.
func (c *Core) waitersFirstPart() {
	for l := c.waiters.head; l != nil; {
		next := l.wnext
		if l.waitType == uint8(wire.MsgLookup) {
			l.lflags |= lfResend
		} else if c.isRemoved(l.waitNode, l.waitSeq) {
			c.recoverWaiter(l)
		}
		l = next
	}
}

func (c *Core) recoverWaiter(l *lkb) {
	r := l.res
	if l.is(lfDead) {
		c.forgetWaits(l)
		c.freeLkb(l)
		return
	}
	op := wire.MsgType(l.waitType)
	moved := l.nodeid != l.waitNode // to a new master, in a run that was interrupted
	if l.is(lfOverlapUnlock) && op != wire.MsgRequest && !moved {
		// Also with a conversion in flight: the dead master may have unlocked the lock and granted others.
		op = wire.MsgUnlock
	} else if l.is(lfOverlapCancel) && op == 0 {
		op = wire.MsgCancel
	}
	switch op {
	case wire.MsgRequest:
		l.lflags |= lfResend
	case wire.MsgConvert:
		c.recoverConvertWaiter(r, l)
	case wire.MsgUnlock:
		c.forgetWaits(l)
		c.unlockedOwned(r, l)
	case wire.MsgCancel:
		c.forgetWaits(l)
		if l.queue() != wire.StatusGranted {
			c.cancelWaiter(r, l)
		}
	}
}

// cancelWaiter: a cancelled conversion whose granted mode is uncertain cannot simply fall back; it is asked of the new
// master.
func (c *Core) cancelWaiter(r *rsb, l *lkb) {
	if l.is(lfLimbo) {
		c.markCancelled(l)
		return
	}
	c.cancelledOwned(r, l)
}

// markCancelled makes waitersSecondPart cancel l once the locks are at their new master.
func (c *Core) markCancelled(l *lkb) {
	l.waitType = uint8(wire.MsgConvert)
	l.waitCount = 1
	l.waitNode, l.waitSeq = l.nodeid, uint32(c.seq)
	l.lflags |= lfOverlapCancel | lfResend
	if !l.is(lfOnWaiters) {
		l.lflags |= lfOnWaiters
		c.waiters.push(l)
	}
}

// recoverConvertWaiter: upward conversions are repeated. Of a middle one nobody knows whether the dead master granted
// it: it counts as queued, with an uncertain granted mode that the new master finds out. (Linux
// recover_convert_waiter.)
func (c *Core) recoverConvertWaiter(r *rsb, l *lkb) {
	if !middle(l.grmode, l.rqmode) || l.has(wire.LKFConvDeadlk) {
		l.assumeDemoted()
		l.lflags |= lfResend
		return
	}
	l.enterLimbo()
	c.requeue(r, l, wire.StatusConvert)
	r.flags |= rfRecoverConv
	if l.is(lfOverlap) {
		l.lflags |= lfResend // the cancel or unlock is sent to the new master
		return
	}
	c.forgetWaits(l)
}

// waitersSecondPart redoes, after locking is enabled, what was marked.
func (c *Core) waitersSecondPart() {
	for l := c.waiters.head; l != nil; {
		next := l.wnext
		if l.is(lfResend) {
			op := wire.MsgType(l.waitType)
			cancel, unlock := l.is(lfOverlapCancel), l.is(lfOverlapUnlock)
			c.forgetWaits(l)
			c.redo(l, op, cancel, unlock)
		}
		l = next
	}
}

func (c *Core) redo(l *lkb, op wire.MsgType, cancel, unlock bool) {
	r, id := l.res, l.id
	isRequest := op == wire.MsgLookup || op == wire.MsgRequest
	switch {
	case isRequest && (cancel || unlock):
		if unlock {
			l.lflags |= lfOverlapUnlock
		}
		c.overlapped(l)
		c.confirmAfter(r, id, false)
		c.finish(l)
	case isRequest:
		c.requestLock(r, l)
		if c.isMaster(r) {
			c.confirmMaster(r, true)
		}
	case unlock:
		l.exflags |= wire.LKFForceUnlock
		c.unlockLock(r, l)
	case cancel && l.queue() == wire.StatusConvert:
		c.startCancel(l)
	case cancel && l.rqmode != wire.IV: // the conversion never got anywhere
		l.rqmode = wire.IV
		c.complete(l, wire.ResultCancel)
	case cancel: // granted by what the request queue held
	default:
		c.convertLock(r, l)
	}
}

// purgeRequests drops from the queue what no longer makes sense: messages of the departed, and lookups, which are
// repeated. (Linux dlm_purge_requestqueue.)
func (c *Core) purgeRequests() {
	kept := c.requests[:0]
	for _, s := range c.requests {
		switch {
		case c.isRemoved(s.from, s.seq), !c.isMember(s.from):
		case s.m.Type == wire.MsgRemove, s.m.Type == wire.MsgLookup, s.m.Type == wire.MsgLookupReply:
		default:
			kept = append(kept, s)
		}
	}
	clear(c.requests[len(kept):])
	c.requests = kept
}

// processRequests handles what came meanwhile, in order. (Linux dlm_process_requestqueue.)
func (c *Core) processRequests() {
	for i := range c.requests {
		s := &c.requests[i]
		if err := c.dispatch(s.from, &s.m); err != nil {
			c.stats.Ignored++
		}
	}
	clear(c.requests)
	c.requests = c.requests[:0]
}
