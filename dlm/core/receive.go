package core

import (
	"fmt"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// savedMsg is a message that waits for the end of recovery.
type savedMsg struct {
	from int32
	seq  uint32 // recover_seq when it came
	m    wire.Message
}

// Receive handles a lock operation from another node. While locking is stopped it is kept for later, or dropped if this
// node never finished a membership round. An error (always ErrIgnored) says that the message was not acted upon and
// why; it is for the log, the peer may have good reasons. Nothing of m is kept after the return. (Linux fs/dlm/lock.c
// dlm_receive_message.)
func (c *Core) Receive(from int32, m *wire.Message) error {
	c.stats.Received++
	switch {
	case c.dead:
		return c.ignored(from, m, "the lockspace is released")
	case m.Header.Union != c.cfg.GlobalID:
		return c.ignored(from, m, "it is for another lockspace")
	case int32(m.Header.NodeID) != from:
		return c.ignored(from, m, "h_nodeid is not the sender")
	case c.lockingStopped && c.generation == 0:
		return c.ignored(from, m, "this node has not joined yet")
	case c.lockingStopped:
		s := savedMsg{from: from, seq: uint32(c.seq), m: *m}
		s.m.Extra = append([]byte(nil), m.Extra...)
		c.requests = append(c.requests, s)
		c.stats.Queued++
		return nil
	}
	return c.dispatch(from, m)
}

// ignored makes the error for a message that is not acted upon.
func (c *Core) ignored(from int32, m *wire.Message, why string) error {
	return fmt.Errorf("%w: %v from node %d (lkid %#x, remid %#x) in %q: %s", ErrIgnored, m.Type, from, m.LkID, m.RemID, c.cfg.Name, why)
}

// dispatch is Linux _receive_message.
func (c *Core) dispatch(from int32, m *wire.Message) error {
	if !c.isMember(from) || from == c.cfg.NodeID {
		return c.ignored(from, m, "the sender is not a member")
	}
	switch m.Type {
	case wire.MsgRequest:
		return c.recvRequest(from, m)
	case wire.MsgConvert:
		return c.recvConvert(from, m)
	case wire.MsgUnlock:
		return c.recvUnlock(from, m)
	case wire.MsgCancel:
		return c.recvCancel(from, m)
	case wire.MsgRequestReply, wire.MsgConvertReply, wire.MsgUnlockReply, wire.MsgCancelReply, wire.MsgGrant, wire.MsgBast:
		return c.recvAsOwner(from, m)
	case wire.MsgLookup:
		return c.recvLookup(from, m)
	case wire.MsgLookupReply:
		return c.recvLookupReply(from, m)
	case wire.MsgRemove:
		return c.recvRemove(from, m)
	case wire.MsgPurge:
		return c.recvPurge(from, m)
	}
	return c.ignored(from, m, "unknown type")
}

// checkName refuses names no resource can have.
func (c *Core) checkName(from int32, m *wire.Message) error {
	if n := len(m.Extra); n == 0 || n > wire.ResNameMax {
		return c.ignored(from, m, fmt.Sprintf("resource name of %d bytes, want 1..%d", n, wire.ResNameMax))
	}
	return nil
}

// recvRequest makes a master copy for a lock of node from. (Linux receive_request.)
func (c *Core) recvRequest(from int32, m *wire.Message) error {
	if err := c.checkName(from, m); err != nil {
		return err
	}
	if !m.RqMode.Valid() {
		c.refuse(m, from, wire.MsgRequestReply, wire.ResultInval)
		return c.ignored(from, m, "requested mode "+m.RqMode.String())
	}
	r, res := c.findForRequest(from, m.Extra)
	if res != wire.ResultOK {
		c.refuse(m, from, wire.MsgRequestReply, res)
		return nil
	}
	l := c.newLkb(r)
	if l == nil {
		if !r.active() {
			r.refs++
			c.putRsb(r)
		}
		c.refuse(m, from, wire.MsgRequestReply, wire.ResultNoMem)
		return nil
	}
	c.takeFlags(l, m)
	l.lflags, l.seq = lfMaster, uint32(c.seq)
	l.nodeid, l.remid, l.pid = from, m.LkID, m.Pid
	l.rqmode = m.RqMode
	l.asts = uint8(m.Asts)
	if l.has(wire.LKFValBlk) {
		c.wantLVB(l)
	}
	res = c.doRequest(r, l)
	c.reply(r, l, wire.MsgRequestReply, res)
	c.requestEffects(r, l, res)
	return nil
}

// findForRequest finds the resource of a REQUEST: we must be its master, or become it because the directory node says
// so by asking us, or because we are the directory node. (Linux find_rsb_dir with R_RECEIVE_REQUEST,
// validate_master_nodeid.) The resource is on the active list afterwards.
func (c *Core) findForRequest(from int32, name []byte) (*rsb, wire.Result) {
	hash := wire.ResourceHash(name)
	r := c.table.find(name, hash)
	switch {
	case r == nil:
		dir := c.dirNode(hash)
		if from != dir && dir != c.cfg.NodeID {
			return nil, wire.ResultBadR
		}
		r = c.newRsb(name, hash)
		c.setRsbMaster(r, c.cfg.NodeID)
		c.active.push(r)
		return r, wire.ResultOK
	case c.isMaster(r):
	case from == r.dir:
		c.setRsbMaster(r, c.cfg.NodeID)
		r.flags &^= rfUncertain
		if !r.active() {
			r.first = 0
		}
	default:
		return nil, wire.ResultNotBlk
	}
	if !r.active() {
		c.activate(r)
	}
	return r, wire.ResultOK
}

// takeFlags: the flags of an owner's message replace the master copy's. (Linux receive_flags.) The low 16 bits are
// kept to be echoed in everything we send about the lock: a Linux owner copies them into its own record.
func (c *Core) takeFlags(l *lkb, m *wire.Message) {
	l.exflags = m.ExFlags
	l.sbflags = m.SBFlags & (wire.SBFDemoted | wire.SBFValNotValid | wire.SBFAltMode)
	l.flags = uint16(m.Flags & wire.IFLMask)
}

// findMasterCopy locates the lock of a CONVERT, UNLOCK or CANCEL. If there is none the sender is told ENOENT; if it is
// not the sender's the message is ignored. (Linux find_lkb, validate_message.)
func (c *Core) findMasterCopy(from int32, m *wire.Message, reply wire.MsgType, checkRem bool) (*lkb, error) {
	l := c.ids.get(LockID(m.RemID))
	if l == nil || l.is(lfDead) || checkRem && l.remid != m.LkID {
		c.refuse(m, from, reply, wire.ResultNoEnt)
		return nil, nil
	}
	if !l.masterCopy() || l.nodeid != from {
		return nil, c.ignored(from, m, "the lock is not the sender's")
	}
	return l, nil
}

func (c *Core) recvConvert(from int32, m *wire.Message) error {
	l, err := c.findMasterCopy(from, m, wire.MsgConvertReply, true)
	if l == nil {
		return err
	}
	r := l.res
	if !m.RqMode.Valid() {
		c.reply(r, l, wire.MsgConvertReply, wire.ResultInval)
		return c.ignored(from, m, "requested mode "+m.RqMode.String())
	}
	if l.queue() != wire.StatusGranted {
		c.reply(r, l, wire.MsgConvertReply, wire.ResultBusy)
		return nil
	}
	c.takeFlags(l, m)
	c.recvLVB(l, m)
	l.rqmode = m.RqMode
	l.lvbseq = m.LVBSeq
	answer := !down(l.grmode, l.rqmode)
	res := c.doConvert(r, l)
	if answer {
		c.reply(r, l, wire.MsgConvertReply, res)
	}
	c.convertEffects(r, l, res)
	return nil
}

func (c *Core) recvUnlock(from int32, m *wire.Message) error {
	l, err := c.findMasterCopy(from, m, wire.MsgUnlockReply, true)
	if l == nil {
		return err
	}
	r := l.res
	c.takeFlags(l, m)
	c.recvLVB(l, m)
	res := c.doUnlock(r, l)
	c.reply(r, l, wire.MsgUnlockReply, res)
	c.unlockEffects(r, l)
	return nil
}

func (c *Core) recvCancel(from int32, m *wire.Message) error {
	l, err := c.findMasterCopy(from, m, wire.MsgCancelReply, false)
	if l == nil {
		return err
	}
	r := l.res
	c.takeFlags(l, m)
	res, gone := c.doCancel(r, l)
	c.reply(r, l, wire.MsgCancelReply, res)
	c.cancelEffects(r, l, res, gone)
	return nil
}
