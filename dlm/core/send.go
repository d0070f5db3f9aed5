package core

import "github.com/ocfuse/ocfuse/dlm/wire"

// fill prepares the scratch message for lock l of resource r. (Linux create_message, send_args.)
func (c *Core) fill(r *rsb, l *lkb, t wire.MsgType) *wire.Message {
	m := &c.msg
	*m = wire.Message{
		Header:  wire.Header{Version: wire.Version, Union: c.cfg.GlobalID, NodeID: uint32(c.cfg.NodeID), Cmd: wire.CmdMsg},
		Type:    t,
		NodeID:  l.nodeid,
		Pid:     l.pid,
		LkID:    uint32(l.id),
		RemID:   l.remid,
		ExFlags: l.exflags,
		Flags:   wire.IFL(l.flags),
		LVBSeq:  l.lvbseq,
		Hash:    r.hash,
		Status:  l.queue(),
		GrMode:  l.grmode,
		RqMode:  l.rqmode,
		Asts:    wire.Asts(l.asts),
	}
	if l.masterCopy() {
		m.SBFlags = l.sbflags // an owner's would stick at the master
	}
	switch {
	case t.HasName():
		m.Extra = r.name()
	case t.MayHaveLVB() && l.lvb != nil:
		m.Extra = c.zeroLVB
		if l.has(wire.LKFValBlk) {
			m.Extra = l.lvb
		}
	}
	return m
}

func (c *Core) send(to int32, m *wire.Message) {
	c.stats.Sent++
	c.out.Send(to, m)
}

// sendToMaster sends an operation that is answered. It goes to the master that knows this lock (l.nodeid), which is
// the resource's master except in the middle of a search for it.
func (c *Core) sendToMaster(r *rsb, l *lkb, t wire.MsgType) {
	c.addWaiter(l, t, l.nodeid)
	c.send(l.nodeid, c.fill(r, l, t))
}

// sendConvert sends a conversion. A down conversion is not answered: it is done as soon as it is sent. (Linux
// send_convert.)
func (c *Core) sendConvert(r *rsb, l *lkb) {
	if !down(l.grmode, l.rqmode) {
		c.sendToMaster(r, l, wire.MsgConvert)
		return
	}
	c.send(l.nodeid, c.fill(r, l, wire.MsgConvert))
	if l.has(wire.LKFValBlk) {
		l.noteLVB(lvbTable[l.grmode+1][l.rqmode+1])
	}
	c.setGranted(r, l)
	c.complete(l, wire.ResultOK)
}

// sendLookup asks the directory node. A REMOVE for the same name left before, because effects are in order.
func (c *Core) sendLookup(r *rsb, l *lkb) {
	c.addWaiter(l, wire.MsgLookup, r.dir)
	c.send(r.dir, c.fill(r, l, wire.MsgLookup))
}

// reply answers the owner of master copy l.
func (c *Core) reply(r *rsb, l *lkb, t wire.MsgType, res wire.Result) {
	m := c.fill(r, l, t)
	m.Result = res
	c.send(l.nodeid, m)
}

// refuse answers a message for which there is no lock: only ids and the result count. (Linux setup_local_lkb.)
func (c *Core) refuse(in *wire.Message, from int32, t wire.MsgType, res wire.Result) {
	m := &c.msg
	*m = wire.Message{
		Header: wire.Header{Version: wire.Version, Union: c.cfg.GlobalID, NodeID: uint32(c.cfg.NodeID), Cmd: wire.CmdMsg},
		Type:   t,
		NodeID: from,
		RemID:  in.LkID,
		Flags:  in.Flags & wire.IFLMask,
		Result: res,
	}
	c.send(from, m)
}

func (c *Core) sendGrant(l *lkb) { c.reply(l.res, l, wire.MsgGrant, wire.ResultOK) }

func (c *Core) sendBast(l *lkb, mode wire.Mode) {
	m := c.fill(l.res, l, wire.MsgBast)
	m.BastMode = mode
	c.send(l.nodeid, m)
}

func (c *Core) sendLookupReply(in *wire.Message, from, master int32, res wire.Result) {
	m := &c.msg
	*m = wire.Message{
		Header: wire.Header{Version: wire.Version, Union: c.cfg.GlobalID, NodeID: uint32(c.cfg.NodeID), Cmd: wire.CmdMsg},
		Type:   wire.MsgLookupReply,
		LkID:   in.LkID,
		NodeID: master,
		Result: res,
	}
	c.send(from, m)
}

// sendRemove tells the directory node that nobody masters r any more.
func (c *Core) sendRemove(r *rsb) {
	m := &c.msg
	*m = wire.Message{
		Header: wire.Header{Version: wire.Version, Union: c.cfg.GlobalID, NodeID: uint32(c.cfg.NodeID), Cmd: wire.CmdMsg},
		Type:   wire.MsgRemove,
		Hash:   r.hash,
		Extra:  r.name(),
	}
	c.send(r.dir, m)
}
