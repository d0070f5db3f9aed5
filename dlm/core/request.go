package core

import "github.com/ocfuse/ocfuse/dlm/wire"

// This file finds the master of a resource for a new lock. (Linux fs/dlm/lock.c find_rsb_dir with R_REQUEST,
// set_master, _request_lock, confirm_master.)

// findForUse returns the resource for a local request, made or activated if need be.
func (c *Core) findForUse(name []byte) *rsb {
	hash := wire.ResourceHash(name)
	r := c.table.find(name, hash)
	switch {
	case r == nil:
		r = c.newRsb(name, hash)
		if r.dir == c.cfg.NodeID {
			c.setRsbMaster(r, c.cfg.NodeID)
		}
		c.active.push(r)
	case !r.active():
		// We held no lock on it, so what we know of the master may be out of date, unless we are the master.
		if !c.isMaster(r) {
			r.flags |= rfUncertain
			r.first = 0
		}
		c.activate(r)
	}
	return r
}

// requestLock finds the master and requests l there. The caller must not use l afterwards: it may be gone. (Linux
// _request_lock.)
func (c *Core) requestLock(r *rsb, l *lkb) {
	if !c.setMaster(r, l) {
		return
	}
	if l.nodeid != 0 {
		c.sendToMaster(r, l, wire.MsgRequest)
		return
	}
	res := c.doRequest(r, l)
	c.requestEffects(r, l, res)
}

// setMaster sets l.nodeid; false means that l has to wait for a lookup, its own or another lock's. (Linux set_master.)
func (c *Core) setMaster(r *rsb, l *lkb) bool {
	switch {
	case r.is(rfUncertain):
		r.flags &^= rfUncertain
		r.first = l.id
		l.nodeid = c.nodeidOf(r)
		return true
	case r.first != 0 && r.first != l.id:
		l.lflags |= lfOnLookup
		r.lookup.pushBack(l)
		return false
	case r.master != 0:
		l.nodeid = c.nodeidOf(r)
		return true
	case r.dir == c.cfg.NodeID:
		c.setRsbMaster(r, c.cfg.NodeID)
		l.nodeid = 0
		return true
	}
	r.first = l.id
	l.nodeid = -1
	c.sendLookup(r, l)
	return false
}

// nodeidOf is the nodeid of our own locks on r: 0 if we are master, else the master, -1 if unknown.
func (c *Core) nodeidOf(r *rsb) int32 {
	switch r.master {
	case c.cfg.NodeID:
		return 0
	case 0:
		return -1
	}
	return r.master
}

// confirmMaster is called with the outcome of the request that was to tell the master: the held requests follow. ok
// means the master is known; otherwise the next held request takes over. (Linux confirm_master.)
func (c *Core) confirmMaster(r *rsb, ok bool) {
	if r.first == 0 {
		return
	}
	r.first = 0
	if ok {
		c.processLookups(r)
		return
	}
	if l := r.lookup.head; l != nil {
		r.lookup.remove(l)
		l.lflags &^= lfOnLookup
		r.first = l.id
		c.requestLock(r, l)
		if c.isMaster(r) {
			c.confirmMaster(r, true)
		}
	}
}

// confirmAfter is confirmMaster for the end of lock id, if it was the one that was to tell the master.
func (c *Core) confirmAfter(r *rsb, id LockID, ok bool) {
	if r.first == id {
		c.confirmMaster(r, ok)
	}
}

// processLookups requests what was held. (Linux process_lookup_list.)
func (c *Core) processLookups(r *rsb) {
	for r.lookup.head != nil && r.first == 0 {
		l := r.lookup.head
		r.lookup.remove(l)
		l.lflags &^= lfOnLookup
		c.requestLock(r, l)
	}
}

// leaveLookup ends a lock that only waited for another one's lookup.
func (c *Core) leaveLookup(l *lkb, res wire.Result) {
	l.res.lookup.remove(l)
	l.lflags &^= lfOnLookup
	c.complete(l, res)
	c.finish(l)
}
