package core

import "github.com/ocfuse/ocfuse/dlm/wire"

// This file decides on the master what is granted and who must be asked to give way. (Linux fs/dlm/lock.c
// _can_be_granted, can_be_granted, grant_pending_locks, send_blocking_asts.)

func (c *Core) compat(a, b wire.Mode) bool {
	if c.cfg.Fault == FaultCompatPRCW && a == wire.PR && b == wire.CW {
		return true
	}
	return compatTable[a+1][b+1]
}

// conflicts reports another lock on q whose granted mode excludes l's requested mode.
func (c *Core) conflicts(q *lkbList, l *lkb) bool {
	for o := q.head; o != nil; o = o.next {
		if o != l && !c.compat(o.grmode, l.rqmode) {
			return true
		}
	}
	return false
}

// basicGrant applies modes and queue order. now: first attempt, in the context of the operation itself; recover: the
// resource is being recovered. (Linux _can_be_granted.)
func (c *Core) basicGrant(r *rsb, l *lkb, now, recover bool) bool {
	conv := l.grmode != wire.IV
	if l.has(wire.LKFExpedite) {
		return true
	}
	if c.conflicts(&r.granted, l) || c.conflicts(&r.convert, l) {
		return false
	}
	switch {
	case conv && recover:
		return true
	case now && conv:
		return !l.has(wire.LKFQueCvt) || r.convert.empty()
	case l.has(wire.LKFNoOrder):
		return true
	case conv:
		return r.convert.head == l
	case now:
		return r.convert.empty() && r.waiting.empty()
	}
	return r.convert.empty() && r.waiting.head == l
}

// deadlocked reports that converting l would wait for a conversion that waits for l. (Linux
// conversion_deadlock_detect.)
func (c *Core) deadlocked(r *rsb, l *lkb) bool {
	before := true // q stands before l, or l is not on the queue
	for q := r.convert.head; q != nil; q = q.next {
		if q == l {
			before = false
			continue
		}
		blocks := !c.compat(l.grmode, q.rqmode)
		if blocks && (before || !c.compat(q.grmode, l.rqmode)) {
			return true
		}
	}
	return false
}

// canGrant is the full decision: order, conversion deadlock, alternative modes. It may demote l (CONVDEADLK) or change
// its requested mode (ALTPR, ALTCW). (Linux can_be_granted.)
func (c *Core) canGrant(r *rsb, l *lkb, now, recover bool) (ok, deadlock bool) {
	if c.basicGrant(r, l, now, recover) {
		return true, false
	}
	if l.grmode != wire.IV && l.canQueue() && c.deadlocked(r, l) {
		if l.has(wire.LKFConvDeadlk) {
			l.grmode = wire.NL
			l.sbflags |= wire.SBFDemoted
			return false, false
		}
		return false, true
	}
	alt := wire.IV
	switch {
	case l.has(wire.LKFAltPR):
		// With both flags owners take ALTMODE for PR, so CW must not be tried for a PR request (Linux does).
		if l.rqmode != wire.PR {
			alt = wire.PR
		}
	case l.has(wire.LKFAltCW) && l.rqmode != wire.CW:
		alt = wire.CW
	}
	if alt == wire.IV {
		return false, false
	}
	want := l.rqmode
	l.rqmode = alt
	if c.basicGrant(r, l, now, false) {
		l.sbflags |= wire.SBFAltMode
		return true, false
	}
	l.rqmode = want
	return false, false
}

// grant makes the requested mode the granted one. (Linux grant_lock; unlike there a lock leaves the convert queue even
// if the mode stays the same, which happens after recovery of a middle conversion.)
func (c *Core) grant(r *rsb, l *lkb) {
	c.moveLVB(r, l)
	c.setGranted(r, l)
}

func (c *Core) setGranted(r *rsb, l *lkb) {
	l.grmode = l.rqmode
	if l.queue() != wire.StatusGranted {
		c.requeue(r, l, wire.StatusGranted)
	}
	l.rqmode = wire.IV
	l.highbast = 0
}

// grantLater grants a queued lock and tells its owner. (Linux grant_lock_pending.)
func (c *Core) grantLater(r *rsb, l *lkb) {
	c.grant(r, l)
	if l.masterCopy() {
		c.sendGrant(l)
	} else {
		c.complete(l, wire.ResultOK)
	}
}

// blocked collects what is still waiting after a pass over the queues.
type blocked struct {
	high wire.Mode
	cw   bool
}

func (b *blocked) add(rq wire.Mode) {
	b.high = max(b.high, rq)
	b.cw = b.cw || rq == wire.CW
}

// grantConverts is one pass over the convert queue, restarted whenever something changed. (Linux
// grant_pending_convert.)
func (c *Core) grantConverts(r *rsb, b *blocked) {
	recover := r.is(rfRecoverGrant)
	quit := false
	for {
		granted, demoted := false, false
		pass := blocked{high: wire.IV}
		for l := r.convert.head; l != nil; {
			next := l.next
			wasDemoted := l.sbflags&wire.SBFDemoted != 0
			ok, deadlock := c.canGrant(r, l, false, recover)
			switch {
			case ok:
				c.grantLater(r, l)
				granted = true
			case !wasDemoted && l.sbflags&wire.SBFDemoted != 0:
				demoted = true
			case deadlock:
				c.bastDeadlocked(l)
			default:
				pass.add(l.rqmode)
			}
			l = next
		}
		b.cw = b.cw || pass.cw
		if granted {
			continue
		}
		if demoted && !quit {
			quit = true
			continue
		}
		b.high = max(b.high, pass.high)
		return
	}
}

// bastDeadlocked asks the owner of a deadlocked conversion that forbade -EDEADLK to give way itself.
func (c *Core) bastDeadlocked(l *lkb) {
	if l.has(wire.LKFNoDlckWt) && l.highbast < l.rqmode && l.wantsBast() {
		c.bast(l, l.rqmode)
		l.highbast = l.rqmode
	}
}

// grantWaiters is the pass over the wait queue. (Linux grant_pending_wait.)
func (c *Core) grantWaiters(r *rsb, b *blocked) {
	for l := r.waiting.head; l != nil; {
		next := l.next
		if ok, _ := c.canGrant(r, l, false, false); ok {
			c.grantLater(r, l)
		} else {
			b.add(l.rqmode)
		}
		l = next
	}
}

// grantPending grants what can be granted now and asks those in the way of the rest. (Linux grant_pending_locks.)
func (c *Core) grantPending(r *rsb) {
	if !r.hasBlocked() {
		return
	}
	b := blocked{high: wire.IV}
	c.grantConverts(r, &b)
	c.grantWaiters(r, &b)
	if b.high == wire.IV {
		return
	}
	for l := r.granted.head; l != nil; l = l.next {
		if !l.wantsBast() || !c.mustGiveWay(l, b) {
			continue
		}
		mode := b.high
		if b.cw && b.high == wire.PR && l.grmode == wire.PR {
			mode = wire.CW
		}
		c.bast(l, mode)
		l.highbast = b.high
	}
}

// mustGiveWay: is a BAST due to a granted lock for the highest blocked mode? (Linux lock_requires_bast.)
func (c *Core) mustGiveWay(g *lkb, b blocked) bool {
	if g.grmode == wire.PR && b.cw {
		return g.highbast < wire.EX
	}
	return g.highbast < b.high && !compatTable[g.grmode+1][b.high+1]
}

// bastQueue sends BASTs to the locks on q that are in l's way. (Linux send_bast_queue, modes_require_bast.)
func (c *Core) bastQueue(q *lkbList, l *lkb) {
	for g := q.head; g != nil; g = g.next {
		if g == l || !g.wantsBast() {
			continue
		}
		due := g.highbast < l.rqmode && !compatTable[g.grmode+1][l.rqmode+1]
		if middle(g.grmode, l.rqmode) {
			due = g.highbast < wire.EX
		}
		if due {
			c.bast(g, l.rqmode)
			g.highbast = l.rqmode
		}
	}
}

// bast tells the owner of g that mode is blocked by it.
func (c *Core) bast(g *lkb, mode wire.Mode) {
	if g.masterCopy() {
		c.sendBast(g, mode)
	} else {
		c.block(g, mode)
	}
}
