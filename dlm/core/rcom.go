package core

import (
	"fmt"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Recovery messages: sending, filtering, STATUS. (Linux fs/dlm/rcom.c.)

func (c *Core) fillRcom(t wire.RcomType) *wire.Rcom {
	m := &c.rcom
	*m = wire.Rcom{
		Header: wire.Header{Version: wire.Version, Union: c.cfg.GlobalID, NodeID: uint32(c.cfg.NodeID), Cmd: wire.CmdRcom},
		Type:   t,
		Seq:    c.seq,
	}
	return m
}

func (c *Core) sendRcom(to int32, m *wire.Rcom) {
	c.stats.RcomSent++
	c.out.SendRcom(to, m)
}

// newRequest gives m a fresh rc_id and notes that its answer is awaited.
func (c *Core) newRequest(to int32, m *wire.Rcom) {
	c.rec.rcomID++
	if c.rec.rcomID == 0 {
		c.rec.rcomID++
	}
	p := &c.rec.poll
	p.id, p.node, p.asked = c.rec.rcomID, to, true
	p.at = c.now + RecoverTime
	m.ID = p.id
	c.sendRcom(to, m)
}

func (c *Core) sendStatus(to int32, flags uint32) {
	m := c.fillRcom(wire.RcomStatus)
	req := wire.StatusRequest{Flags: flags}
	c.rbuf = req.Append(c.rbuf[:0])
	m.Buf = c.rbuf
	c.newRequest(to, m)
}

// ReceiveRcom handles a recovery message. An error (ErrIgnored, ErrProto) says that it was not acted upon and why.
// (Linux dlm_receive_rcom; filters as there.)
func (c *Core) ReceiveRcom(from int32, m *wire.Rcom) error {
	c.stats.RcomReceived++
	switch {
	case c.dead:
		return c.ignoredRcom(from, m, "the lockspace is released")
	case m.Header.Union != c.cfg.GlobalID:
		return c.ignoredRcom(from, m, "it is for another lockspace")
	case int32(m.Header.NodeID) != from || from == c.cfg.NodeID:
		return c.ignoredRcom(from, m, "h_nodeid is not the sender")
	case m.Type == wire.RcomStatus:
		return c.recvStatus(from, m)
	case c.stopped:
		return c.ignoredRcom(from, m, "this node is stopped")
	case m.Type.IsReply() && m.SeqReply != c.seq:
		return c.ignoredRcom(from, m, fmt.Sprintf("it answers recovery %d, this is %d", m.SeqReply, c.seq))
	case !c.isMember(from):
		return c.ignoredRcom(from, m, "the sender is not a member")
	}
	if err := c.checkPhase(from, m); err != nil {
		return err
	}
	return c.dispatchRcom(from, m)
}

// checkPhase: NAMES needs our own NODES, LOOKUP and LOCK need DIR as well.
func (c *Core) checkPhase(from int32, m *wire.Rcom) error {
	switch m.Type {
	case wire.RcomNames, wire.RcomNamesReply:
		if c.status&wire.RSNodes == 0 {
			return c.ignoredRcom(from, m, "the members are not complete here")
		}
	case wire.RcomLookup, wire.RcomLookupReply, wire.RcomLock, wire.RcomLockReply:
		if c.status&wire.RSNodes == 0 || c.status&wire.RSDir == 0 {
			return c.ignoredRcom(from, m, "the directory is not complete here")
		}
	}
	return nil
}

func (c *Core) dispatchRcom(from int32, m *wire.Rcom) error {
	switch m.Type {
	case wire.RcomStatusReply:
		return c.recvStatusReply(from, m)
	case wire.RcomNames:
		return c.recvNames(from, m)
	case wire.RcomNamesReply:
		return c.recvNamesReply(from, m)
	case wire.RcomLookup:
		return c.recvRecoverLookup(from, m)
	case wire.RcomLookupReply:
		return c.recvRecoverLookupReply(from, m)
	case wire.RcomLock:
		return c.recvLock(from, m)
	case wire.RcomLockReply:
		return c.recvLockReply(from, m)
	}
	return c.ignoredRcom(from, m, "unknown type")
}

func (c *Core) ignoredRcom(from int32, m *wire.Rcom, why string) error {
	return fmt.Errorf("%w: %v from node %d (rc_id %d) in %q: %s", ErrIgnored, m.Type, from, m.ID, c.cfg.Name, why)
}

// recvStatus answers at any time, also while stopped and after recovery. (Linux receive_rcom_status.)
func (c *Core) recvStatus(from int32, in *wire.Rcom) error {
	var req wire.StatusRequest
	if err := req.Decode(in.Buf); err != nil {
		return fmt.Errorf("%w: %w", ErrIgnored, err)
	}
	conf := wire.RcomConfig{LVBLen: uint32(c.cfg.LVBLen), LSFlags: c.cfg.LSFlags, OurSlot: c.slot, Generation: c.generation}
	withSlots := req.Flags&wire.NeedSlots != 0 && c.low == c.cfg.NodeID && c.status&wire.RSNodesAll != 0
	if withSlots {
		conf.NumSlots = uint16(len(c.slots))
	}
	b := conf.Append(c.rbuf[:0])
	if withSlots {
		for _, s := range c.slots {
			e := wire.RcomSlot{NodeID: uint32(s.NodeID), Slot: s.Slot}
			b = e.Append(b)
		}
	}
	c.rbuf = b
	m := c.fillRcom(wire.RcomStatusReply)
	m.Result = int32(c.status)
	m.ID, m.SeqReply, m.Buf = in.ID, in.Seq, b
	c.sendRcom(from, m)
	return nil
}

// UnknownLockspace makes the answer of node self to a STATUS for a lockspace it does not have; ok is false for every
// other message, which is to be dropped. The reply may be sent bare; it is appended to buf, which it aliases. (Linux
// dlm_send_ls_not_ready.)
func UnknownLockspace(self int32, in *wire.Rcom, buf []byte) (reply wire.Rcom, ok bool) {
	if in.Type != wire.RcomStatus {
		return reply, false
	}
	conf := wire.RcomConfig{LVBLen: wire.UnknownLVBLen}
	return wire.Rcom{
		Header:   wire.Header{Version: wire.Version, Union: in.Header.Union, NodeID: uint32(self), Cmd: wire.CmdRcom},
		Type:     wire.RcomStatusReply,
		Result:   int32(wire.ResultSrch),
		ID:       in.ID,
		SeqReply: in.Seq,
		Buf:      conf.Append(buf),
	}, true
}

// recvStatusReply takes the answer to our STATUS: check the peer's configuration, note its slot, and see whether it is
// where we wait for it to be. (Linux receive_sync_reply, check_rcom_config, wait_status_all, wait_status_low.)
func (c *Core) recvStatusReply(from int32, m *wire.Rcom) error {
	p := &c.rec.poll
	if !c.rec.running || !p.asked || p.id != m.ID || p.node != from {
		return c.ignoredRcom(from, m, "not the answer awaited")
	}
	p.asked, p.id = false, 0
	status := wire.RecoverStatus(0)
	var conf wire.RcomConfig
	var slots []byte
	if m.Result != int32(wire.ResultSrch) {
		var err error
		if slots, err = conf.Decode(m.Buf); err == nil {
			err = c.checkConfig(from, m, &conf)
		}
		if err != nil {
			c.failRecovery(err)
			return err
		}
		status = wire.RecoverStatus(m.Result)
	}
	if c.statusSuffices(from, status, &conf, slots) {
		p.tries, p.at = answered, deadlineNone
	} else {
		p.tries++
		p.at = c.now + c.pollPause(p.tries)
	}
	c.runRecovery()
	return nil
}

// pollPause is the pause after that many answers that did not suffice.
func (c *Core) pollPause(tries int64) int64 {
	for d := c.cfg.FirstPoll; d > 0 && d < pollStep; d *= 2 {
		if tries--; tries == 0 {
			return d
		}
	}
	return min(tries*pollStep, pollMax)
}

// statusSuffices tells whether the step we are in may go on, and takes over the slots that come with the answer.
func (c *Core) statusSuffices(from int32, status wire.RecoverStatus, conf *wire.RcomConfig, slots []byte) bool {
	var want wire.RecoverStatus
	switch c.rec.step {
	case stepPing:
		return true
	case stepNodes:
		want = wire.RSNodes
	case stepDir:
		want = wire.RSDir
	case stepLocksAll:
		want = wire.RSLocks
	case stepDone:
		want = wire.RSDone
	default:
		return false
	}
	low := c.low == c.cfg.NodeID
	if !low {
		want <<= 1
	}
	if status&want == 0 {
		return false
	}
	if want == wire.RSNodes {
		if m := c.member(from); m != nil {
			m.slot, m.generation = int(conf.OurSlot), conf.Generation
		}
	} else if want == wire.RSNodesAll {
		c.copySlots(conf, slots)
	}
	return true
}

// checkConfig: all nodes must have the same LVB length and lockspace flags. (Linux check_rcom_config.)
func (c *Core) checkConfig(from int32, m *wire.Rcom, conf *wire.RcomConfig) error {
	if v := m.Header.Version; v>>16 != wire.Version>>16 {
		return fmt.Errorf("%w: node %d speaks protocol version %#x, this node %#x", ErrProto, from, v, uint32(wire.Version))
	}
	if conf.LVBLen != uint32(c.cfg.LVBLen) || conf.LSFlags != c.cfg.LSFlags {
		return fmt.Errorf("%w: node %d has LVB length %d and flags %#x for lockspace %q, this node %d and %#x; "+
			"create the lockspace alike everywhere", ErrProto, from, conf.LVBLen, conf.LSFlags, c.cfg.Name, c.cfg.LVBLen, c.cfg.LSFlags)
	}
	return nil
}
