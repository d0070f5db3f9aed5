package core

import "github.com/ocfuse/ocfuse/dlm/wire"

// The directory: each name has one node that knows its master. (Linux fs/dlm/dir.c, lock.c dlm_master_lookup,
// receive_lookup, receive_lookup_reply, receive_remove, shrink_bucket.)

func (c *Core) dirNode(hash uint32) int32 { return int32(wire.DirNode(c.nodeArray, hash)) }

type lookupFlag uint8

const (
	lookupNormal        lookupFlag = iota // MSG LOOKUP: from wants to use the name
	lookupRecoverDir                      // NAMES: from masters the name
	lookupRecoverMaster                   // RCOM LOOKUP: from looks for the new master
)

// masterLookup answers who masters a name whose directory node we are; from becomes master if nobody is. ok is false if
// we are not the directory node. (Linux _dlm_master_lookup, __dlm_master_lookup.)
func (c *Core) masterLookup(from int32, name []byte, how lookupFlag) (master int32, ok bool) {
	hash := wire.ResourceHash(name)
	if c.dirNode(hash) != c.cfg.NodeID {
		return -1, false
	}
	r := c.table.find(name, hash)
	if r == nil {
		r = c.newRsb(name, hash)
		c.setRsbMaster(r, from)
		r.tossTime = c.now
		c.inactive.push(r)
		return from, true
	}
	if !r.active() {
		r.tossTime = c.now
		r.unlist()
		c.inactive.push(r)
	}
	lost := r.is(rfUnclaimed) || r.master != 0 && c.isRemoved(r.master, r.masterSeq)
	switch {
	case r.master == from && !(lost && how != lookupNormal):
		c.setRsbMaster(r, from) // confirmed
	case how == lookupRecoverMaster && lost:
		// The first to ask becomes master. NEW_MASTER makes our own recovery see that although the master is alive.
		c.setRsbMaster(r, from)
		r.flags |= rfNewMaster
	case how == lookupRecoverDir:
		// from became master in a recovery that was interrupted before we heard of it. We do not give up our own
		// mastership for it: that would be two masters either way, and the peers know us.
		if c.isMaster(r) {
			break
		}
		c.setRsbMaster(r, from)
		r.flags |= rfNewMaster
	case r.master == 0:
		c.setRsbMaster(r, from) // recovery came while we were looking it up ourselves
	}
	return r.master, true
}

// recvLookup: if we are the master too, the LOOKUP is taken for a REQUEST.
func (c *Core) recvLookup(from int32, m *wire.Message) error {
	if n := len(m.Extra); n == 0 || n > wire.ResNameMax {
		c.sendLookupReply(m, from, -1, wire.ResultInval)
		return c.checkName(from, m)
	}
	master, ok := c.masterLookup(from, m.Extra, lookupNormal)
	switch {
	case !ok:
		c.sendLookupReply(m, from, -1, wire.ResultInval)
		return nil
	case master == c.cfg.NodeID:
		return c.recvRequest(from, m)
	}
	c.sendLookupReply(m, from, master, wire.ResultOK)
	return nil
}

// recvLookupReply is located by m_lkid, the echo of ours. A master that is no member is not believed.
func (c *Core) recvLookupReply(from int32, m *wire.Message) error {
	l := c.ids.get(LockID(m.LkID))
	switch {
	case l == nil || l.masterCopy() || l.is(lfDead):
		return c.ignored(from, m, "no such lock")
	case from != l.waitNode:
		return c.ignored(from, m, "another node was asked")
	case m.NodeID != -1 && !c.isMember(m.NodeID):
		return c.ignored(from, m, "the master named is not a member")
	case !c.removeWaiter(l, m.Type, m.Result):
		return c.ignored(from, m, "no lookup waits for it")
	}
	r, id := l.res, l.id
	known := m.NodeID == c.cfg.NodeID
	switch {
	case known:
		c.setRsbMaster(r, c.cfg.NodeID)
		r.first = 0
	case m.NodeID == -1: // the node we asked does not think it is the directory node
		c.setRsbMaster(r, 0)
		l.nodeid = -1
	default:
		c.setRsbMaster(r, m.NodeID)
	}
	r.refs++ // l may be the last lock and end below
	if l.is(lfOverlap) {
		c.overlapped(l)
		if !known {
			c.confirmAfter(r, id, false)
		}
		c.finish(l)
	} else {
		c.requestLock(r, l)
	}
	if known {
		c.processLookups(r)
	}
	c.putRsb(r)
	return nil
}

// recvRemove: the master dropped the name. If we use the resource ourselves the REMOVE is ignored: our REQUEST makes
// the sender create it again.
func (c *Core) recvRemove(from int32, m *wire.Message) error {
	if err := c.checkName(from, m); err != nil {
		return err
	}
	if c.dirNode(m.Hash) != c.cfg.NodeID {
		return c.ignored(from, m, "this is not the directory node of m_hash")
	}
	r := c.table.find(m.Extra, wire.ResourceHash(m.Extra))
	switch {
	case r == nil:
		return c.ignored(from, m, "no record of the name")
	case r.master != from:
		return c.ignored(from, m, "the sender is not the master on record")
	case r.active():
		return nil
	}
	c.freeRsb(r)
	return nil
}

// scan drops resources that were not used for TossTime. (Linux dlm_scan_rsbs.)
func (c *Core) scan() {
	if c.lockingStopped {
		return
	}
	for r := c.inactive.head; r != nil && c.now-r.tossTime >= TossTime; r = c.inactive.head {
		switch {
		case r.dir == c.cfg.NodeID && !c.isMaster(r):
			r.unlist()
			c.dirRecs.push(r) // until its master says REMOVE
		case r.dir != c.cfg.NodeID && c.isMaster(r):
			c.sendRemove(r)
			c.freeRsb(r)
		default:
			c.freeRsb(r)
		}
	}
}
