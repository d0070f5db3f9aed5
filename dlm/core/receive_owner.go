package core

import "github.com/ocfuse/ocfuse/dlm/wire"

// What a master tells the owner of a lock: replies, GRANT, BAST. (Linux receive_request_reply .. receive_bast.)

// recvAsOwner locates the lock by m_remid and checks that the sender may speak about it: it must be the master, or,
// for a REQUEST_REPLY, the master may still be unknown. (Linux validate_message.)
func (c *Core) recvAsOwner(from int32, m *wire.Message) error {
	l := c.ids.get(LockID(m.RemID))
	switch {
	case l == nil:
		return c.ignored(from, m, "no such lock")
	case l.masterCopy() || l.nodeid == 0:
		return c.ignored(from, m, "the lock is not mastered remotely")
	case l.nodeid != from && !(l.nodeid == -1 && m.Type == wire.MsgRequestReply):
		return c.ignored(from, m, "the sender is not the lock's master")
	}
	r := l.res
	switch m.Type {
	case wire.MsgGrant:
		return c.recvGrant(from, r, l, m)
	case wire.MsgBast:
		if !m.BastMode.Valid() {
			return c.ignored(from, m, "blocked mode "+m.BastMode.String())
		}
		if !l.is(lfDead) && l.wantsBast() {
			c.block(l, m.BastMode)
			l.highbast = m.BastMode
		}
		return nil
	}
	wasLookup := l.waitType == uint8(wire.MsgLookup)
	if !c.removeWaiter(l, m.Type, m.Result) {
		return c.ignored(from, m, "no operation waits for it")
	}
	if l.is(lfDead) {
		if l.waitCount == 0 {
			c.freeLkb(l)
		}
		return nil
	}
	switch m.Type {
	case wire.MsgRequestReply:
		if wasLookup {
			// Without a lock of ours there the sender may have forgotten the name since: if the directory is ours now,
			// its word must not go on record.
			if m.Result == wire.ResultOK || m.Result == wire.ResultInProgress || r.dir != c.cfg.NodeID {
				c.setRsbMaster(r, from)
			}
			l.nodeid = from
		}
		return c.recvRequestReply(from, r, l, m)
	case wire.MsgConvertReply:
		return c.recvConvertReply(from, r, l, m)
	case wire.MsgUnlockReply:
		return c.recvUnlockReply(from, r, l, m)
	}
	return c.recvCancelReply(from, r, l, m)
}

// takeReplyFlags: the status block flags and the low internal flags are the master's to say. (Linux
// receive_flags_reply.) Our own locks' USER bit does not change; the master echoes it.
func (c *Core) takeReplyFlags(l *lkb, m *wire.Message) {
	l.sbflags = m.SBFlags & (wire.SBFDemoted | wire.SBFValNotValid | wire.SBFAltMode)
	if l.is(lfDemoted) {
		l.sbflags |= wire.SBFDemoted
	}
}

// takeAltMode: the master granted the alternative mode. (Linux munge_altmode.)
func (l *lkb) takeAltMode() {
	if l.sbflags&wire.SBFAltMode == 0 {
		return
	}
	if l.has(wire.LKFAltPR) {
		l.rqmode = wire.PR
	} else if l.has(wire.LKFAltCW) {
		l.rqmode = wire.CW
	}
}

// grantOwned is the owner's side of a grant. (Linux grant_lock_pc.)
func (c *Core) grantOwned(r *rsb, l *lkb, m *wire.Message) {
	if l.is(lfLimbo) {
		l.lflags &^= lfLimbo
		l.limboMode = wire.IV
	}
	l.takeLVB(m)
	c.setGranted(r, l)
}

func (c *Core) recvRequestReply(from int32, r *rsb, l *lkb, m *wire.Message) error {
	id := l.id
	switch m.Result {
	case wire.ResultOK, wire.ResultInProgress:
		c.takeReplyFlags(l, m)
		l.remid = m.LkID
		if r.master == 0 || r.is(rfUnclaimed) {
			c.setRsbMaster(r, from) // known by this reply at the latest
		}
		l.takeAltMode()
		if m.Result == wire.ResultOK {
			c.grantOwned(r, l, m)
			c.complete(l, wire.ResultOK)
		} else {
			c.enqueue(r, l, wire.StatusWaiting)
		}
		c.overlapAfterReply(r, l, m.Result)
		c.confirmMaster(r, true)
	case wire.ResultAgain:
		l.lflags &^= lfOverlap
		c.complete(l, wire.ResultAgain)
		// Unlike the kernel we go by the id: a request that did not come to find the master decides nothing.
		c.confirmAfter(r, id, false)
		c.finish(l)
	case wire.ResultBadR, wire.ResultNotBlk:
		c.requestElsewhere(r, l)
	default:
		// Linux only logs it and the lock hangs. It cannot be granted; say so.
		l.lflags &^= lfOverlap
		c.complete(l, wire.ResultAgain)
		c.confirmAfter(r, id, false)
		c.finish(l)
		return c.ignored(from, m, "result "+m.Result.String()+"; the request has failed")
	}
	return nil
}

// overlapAfterReply sends the cancel or unlock that waited for the request's reply.
func (c *Core) overlapAfterReply(r *rsb, l *lkb, res wire.Result) {
	cancel, unlock := l.is(lfOverlapCancel), l.is(lfOverlapUnlock)
	l.lflags &^= lfOverlap
	switch {
	case unlock:
		// The value in the buffer is the one just read: writing it back could make an invalid one valid.
		l.exflags = l.exflags&^wire.LKFValBlk | wire.LKFForceUnlock
		c.sendToMaster(r, l, wire.MsgUnlock)
	case cancel && res == wire.ResultInProgress:
		l.exflags |= wire.LKFCancel
		c.sendToMaster(r, l, wire.MsgCancel)
	}
}

// requestElsewhere: the node we asked is not the master. Forget it and ask the directory, unless that is us.
func (c *Core) requestElsewhere(r *rsb, l *lkb) {
	if r.dir != c.cfg.NodeID && !c.isMaster(r) {
		c.setRsbMaster(r, 0)
		l.nodeid = -1
	}
	if l.is(lfOverlap) {
		id := l.id
		c.overlapped(l)
		c.confirmAfter(r, id, false)
		c.finish(l)
		return
	}
	c.requestLock(r, l)
	if c.isMaster(r) {
		c.confirmMaster(r, true)
	}
}

func (c *Core) recvConvertReply(from int32, r *rsb, l *lkb, m *wire.Message) error {
	switch m.Result {
	case wire.ResultOK, wire.ResultInProgress:
		c.takeReplyFlags(l, m)
		if l.sbflags&wire.SBFDemoted != 0 {
			l.grmode = wire.NL
		}
		if m.Result == wire.ResultInProgress {
			c.requeue(r, l, wire.StatusConvert)
			return nil
		}
		l.takeAltMode()
		c.grantOwned(r, l, m)
		c.complete(l, wire.ResultOK)
	case wire.ResultDeadlk:
		c.takeReplyFlags(l, m)
		c.revert(r, l)
		c.complete(l, wire.ResultDeadlk)
	case wire.ResultAgain:
		l.rqmode = wire.IV
		c.complete(l, wire.ResultAgain)
	default:
		return c.ignored(from, m, "result "+m.Result.String()+"; the conversion hangs")
	}
	return nil
}

func (c *Core) recvUnlockReply(from int32, r *rsb, l *lkb, m *wire.Message) error {
	switch m.Result {
	case wire.ResultUnlock:
		c.takeReplyFlags(l, m)
		c.unlockedOwned(r, l)
	case wire.ResultNoEnt:
		// A cancel that was processed first ended the lock; its completion was delivered.
	default:
		return c.ignored(from, m, "result "+m.Result.String())
	}
	return nil
}

// unlockedOwned ends a process copy. (Linux remove_lock_pc.)
func (c *Core) unlockedOwned(r *rsb, l *lkb) {
	c.dequeue(r, l)
	l.grmode = wire.IV
	l.lflags &^= lfLimbo | lfOverlap
	c.complete(l, wire.ResultUnlock)
	c.finish(l)
}

func (c *Core) recvCancelReply(from int32, r *rsb, l *lkb, m *wire.Message) error {
	switch m.Result {
	case wire.ResultCancel:
		c.takeReplyFlags(l, m)
		if l.is(lfLimbo) && m.GrMode.Valid() {
			l.grmode = m.GrMode // the master found out in recovery
		}
		if l.has(wire.LKFConvDeadlk) && m.GrMode == wire.NL && l.queue() == wire.StatusConvert {
			l.grmode = wire.NL // demoted while it waited; only a GRANT would have said so
			l.sbflags |= wire.SBFDemoted
		}
		c.cancelledOwned(r, l)
	case wire.ResultOK, wire.ResultNoEnt:
	default:
		return c.ignored(from, m, "result "+m.Result.String())
	}
	return nil
}

// cancelledOwned undoes a queued operation of a process copy. (Linux revert_lock_pc.)
func (c *Core) cancelledOwned(r *rsb, l *lkb) {
	if l.is(lfLimbo) && l.grmode == wire.IV {
		l.grmode = l.limboMode // nobody knows better
	}
	l.lflags &^= lfLimbo
	_, gone := c.revert(r, l)
	c.complete(l, wire.ResultCancel)
	if gone {
		c.finish(l)
	}
}

// recvGrant: a queued request or conversion is granted. (Linux receive_grant.) A GRANT for a lock that is not queued
// would damage its mode; it is refused.
func (c *Core) recvGrant(from int32, r *rsb, l *lkb, m *wire.Message) error {
	if l.is(lfDead) || l.queue() != wire.StatusWaiting && l.queue() != wire.StatusConvert {
		return c.ignored(from, m, "the lock waits for no grant")
	}
	if overlap := l.waitType == 0 && l.is(lfOverlapCancel); overlap || l.waitType == uint8(wire.MsgCancel) {
		// Granted before our CANCEL arrived there: its reply will say 0, and the owner need not wait for it.
		l.waitType = 0
		l.lflags &^= lfOverlapCancel
		l.moot++
		if l.waitCount--; l.waitCount == 0 {
			c.unwait(l)
		}
	}
	c.takeReplyFlags(l, m)
	if l.sbflags&wire.SBFDemoted != 0 && l.queue() == wire.StatusConvert {
		l.grmode = wire.NL // demoted while it waited: the LVB that comes with the grant is news (Linux misses that)
	}
	l.takeAltMode()
	c.grantOwned(r, l, m)
	c.complete(l, wire.ResultOK)
	return nil
}
