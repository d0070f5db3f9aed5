package core

import (
	"fmt"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Locks whose process ended. (Linux fs/dlm/lock.c dlm_clear_proc_locks, dlm_user_adopt_orphan, do_purge.)

// ClearOwner ends all locks of process pid: PERSISTENT ones become orphans, with a pending operation cancelled; the
// others are force-unlocked, which makes the LVB of a resource held PW or EX invalid.
func (c *Core) ClearOwner(pid uint32) {
	for i := range c.ids.slots {
		l := c.ids.slots[i].l
		if l == nil || l.masterCopy() || l.is(lfDead|lfOrphan) || l.pid != pid {
			continue
		}
		if !l.has(wire.LKFPersistent) {
			// ErrBusy: it is being unlocked already.
			_ = c.Unlock(l.id, wire.LKFForceUnlock|wire.LKFIVValBlk, nil)
			continue
		}
		id := l.id
		_ = c.Cancel(id)
		if c.ids.get(id) == l && !l.is(lfDead) {
			l.lflags |= lfOrphan
			l.flags |= uint16(wire.IFLOrphan)
			l.data = nil
			c.orphans++
		}
	}
}

// adopt takes over an orphan with the request's name and granted mode. ErrAgain: there are only others; ErrNoLock:
// there is none.
func (c *Core) adopt(req *LockReq) (LockID, error) {
	other := false
	for i := range c.ids.slots {
		l := c.ids.slots[i].l
		if l == nil || !l.is(lfOrphan) || l.res == nil || string(l.res.name()) != string(req.Name) {
			continue
		}
		if l.grmode != req.Mode || l.waitType != 0 || l.queue() != wire.StatusGranted {
			other = true
			continue
		}
		l.lflags &^= lfOrphan
		l.flags &^= uint16(wire.IFLOrphan)
		l.pid, l.data = req.Pid, req.Data
		l.exflags |= req.Flags & wire.LKFPersistent
		c.orphans--
		c.complete(l, wire.ResultOK)
		return l.id, nil
	}
	if other {
		return 0, fmt.Errorf("%w: %q", ErrAgain, req.Name)
	}
	return 0, fmt.Errorf("%w: no orphan on %q", ErrNoLock, req.Name)
}

// Purge releases the orphans of pid (0: all) on node nodeid, this one or a peer. (Linux dlm_user_purge.)
func (c *Core) Purge(nodeid int32, pid uint32) error {
	if nodeid == c.cfg.NodeID {
		c.purgeOrphans(pid)
		return nil
	}
	if !c.isMember(nodeid) || c.lockingStopped {
		return fmt.Errorf("%w: cannot purge on node %d now", ErrState, nodeid)
	}
	m := &c.msg
	*m = wire.Message{
		Header: wire.Header{Version: wire.Version, Union: c.cfg.GlobalID, NodeID: uint32(c.cfg.NodeID), Cmd: wire.CmdMsg},
		Type:   wire.MsgPurge, NodeID: nodeid, Pid: pid,
	}
	c.send(nodeid, m)
	return nil
}

func (c *Core) purgeOrphans(pid uint32) {
	for i := 0; c.orphans > 0 && i < len(c.ids.slots); i++ {
		l := c.ids.slots[i].l
		if l == nil || !l.is(lfOrphan) || pid != 0 && l.pid != pid {
			continue
		}
		l.lflags &^= lfOrphan
		c.orphans--
		_ = c.Unlock(l.id, wire.LKFForceUnlock|wire.LKFIVValBlk, nil)
	}
}

// recvPurge: with another target than us it is forwarded in the kernel; no kernel sends that.
func (c *Core) recvPurge(from int32, m *wire.Message) error {
	if m.NodeID != c.cfg.NodeID {
		return c.ignored(from, m, "PURGE is for another node")
	}
	c.purgeOrphans(m.Pid)
	return nil
}
