package midcomms

import (
	"fmt"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Receive takes one whole frame of the peer (as a wire.Framer yields it), from any of its connections. At most one
// message is delivered, in order. After the last frame that was at hand EndPass must be called. (Linux
// dlm_process_incoming_buffer, dlm_midcomms_receive_buffer_3_2.)
func (p *Peer) Receive(frame []byte) {
	var h wire.Header
	if err := h.Decode(frame); err != nil {
		p.log(Event{Kind: EvMalformed, Err: err})
		return
	}
	switch h.Version {
	case wire.Version:
		p.receive32(&h, frame)
	case wire.Version31:
		p.receive31(&h, frame)
	default:
		p.log(Event{Kind: EvBadVersion, Seq: h.Version, Want: p.version})
	}
}

func (p *Peer) receive32(h *wire.Header, frame []byte) {
	switch h.Cmd {
	case wire.CmdRcom:
		if p.acceptBare(h, frame) {
			p.deliver(wire.CmdRcom, h.NodeID, frame)
		}
	case wire.CmdOpts:
		if p.acceptable(h) {
			p.receiveOpts(frame)
		} else if p.state == Closed {
			p.repeatFinAck(frame)
		}
	case wire.CmdAck:
		if !p.acceptable(h) {
			return
		}
		if err := h.DecodeBare(frame, wire.CmdAck); err != nil {
			p.log(Event{Kind: EvMalformed, Cmd: h.Cmd, Err: err})
			return
		}
		p.receiveAck(h.Union)
	default:
		p.log(Event{Kind: EvUnexpected, Cmd: h.Cmd})
	}
}

// receive31 takes a message of a 3.1 peer: MSG and RCOM, bare. The first must be status traffic, as with 3.2.
func (p *Peer) receive31(h *wire.Header, frame []byte) {
	switch h.Cmd {
	case wire.CmdRcom:
		status := len(frame) >= wire.RcomSize && rcomType(frame).Bare()
		if status && p.acceptBare(h, frame) || !status && p.acceptable(h) {
			p.deliver(h.Cmd, h.NodeID, frame)
		}
	case wire.CmdMsg:
		if p.acceptable(h) {
			p.deliver(h.Cmd, h.NodeID, frame)
		}
	default:
		p.log(Event{Kind: EvUnexpected, Cmd: h.Cmd})
	}
}

// acceptBare lets status traffic in, which begins an association.
func (p *Peer) acceptBare(h *wire.Header, frame []byte) bool {
	if len(frame) < wire.RcomSize {
		p.log(Event{Kind: EvMalformed, Cmd: h.Cmd, Err: fmt.Errorf("RCOM of %d bytes, want %d", len(frame), wire.RcomSize)})
		return false
	}
	if !rcomType(frame).Bare() {
		p.log(Event{Kind: EvUnexpected, Cmd: h.Cmd})
		return false
	}
	p.begin()
	return p.agree(h.Version)
}

// acceptable lets any other message in: only in an association, and of the agreed version. (6.1 also takes messages
// in CLOSED once it knows the node; they can only be remains of an earlier association, and counting them would put
// the next one out of step.)
func (p *Peer) acceptable(h *wire.Header) bool {
	if p.state == Closed {
		p.log(Event{Kind: EvClosed, Cmd: h.Cmd})
		return false
	}
	return p.agree(h.Version)
}

// agree takes the version of the first message and holds the peer to it.
func (p *Peer) agree(v uint32) bool {
	switch p.version {
	case v:
		return true
	case 0:
		p.version = v
		p.log(Event{Kind: EvVersion, Seq: v})
		if v == wire.Version31 {
			p.log(Event{Kind: EvVersion31})
		}
		return true
	}
	p.log(Event{Kind: EvBadVersion, Seq: v, Want: p.version})
	return false
}

// deliver hands a MSG or RCOM over unless it names another node as its sender.
func (p *Peer) deliver(cmd wire.Cmd, node uint32, b []byte) {
	if node != p.cfg.Peer {
		p.log(Event{Kind: EvBadNodeID, Cmd: cmd, Seq: node})
		return
	}
	p.fx.Deliver(cmd, b)
}

// receiveOpts takes a wrapped message: in order it counts, below it is answered with an ACK, above it is dropped.
func (p *Peer) receiveOpts(frame []byte) {
	var o wire.Opts
	if err := o.Decode(frame); err != nil {
		p.log(Event{Kind: EvMalformed, Cmd: wire.CmdOpts, Err: err})
		return
	}
	seq := o.Seq()
	switch d := int32(seq - p.seqNext); {
	case d < 0 && !p.acceptDuplicates:
		p.log(Event{Kind: EvDuplicate, Seq: seq, Want: p.seqNext})
		p.dupAck = true
		return
	case d > 0:
		p.log(Event{Kind: EvGap, Seq: seq, Want: p.seqNext})
		return
	case d == 0:
		p.seqNext++
	}
	if o.NextCmd == wire.CmdFin {
		p.receiveFin()
		return
	}
	if p.stopRx {
		p.log(Event{Kind: EvAfterFin, Seq: seq})
	}
	p.sinceAck++
	var in wire.Header
	if err := in.Decode(o.Inner); err != nil {
		p.log(Event{Kind: EvMalformed, Cmd: o.NextCmd, Err: err})
		return
	}
	p.deliver(o.NextCmd, in.NodeID, o.Inner)
}

// receiveFin is the peer's FIN, in order. (Linux dlm_midcomms_receive_fin.)
func (p *Peer) receiveFin() {
	switch p.state {
	case Established:
		p.stopRx = true
		p.sendFinAck(p.seqNext)
		if p.users > 0 {
			p.setState(CloseWait)
			return
		}
		p.sendFin()
		p.setState(LastAck)
	case FinWait1:
		p.stopRx = true
		p.sendFinAck(p.seqNext)
		p.setState(Closing)
	case FinWait2:
		next := p.seqNext
		p.reset()
		p.sendFinAck(next)
	case LastAck:
		p.log(Event{Kind: EvFinRepeated})
	default:
		p.log(Event{Kind: EvFin})
	}
}

// repeatFinAck answers a FIN that comes again because our ACK, the last message of the association, was lost with its
// connection. Without the answer the peer would wait for its timeout. (Early 6.1 acknowledged a FIN in every state.)
func (p *Peer) repeatFinAck(frame []byte) {
	var o wire.Opts
	if o.Decode(frame) == nil && o.NextCmd == wire.CmdFin {
		p.sendFinAck(o.Seq() + 1)
	}
}

// receiveAck drops what is acknowledged: everything before next. (Linux dlm_receive_ack.)
func (p *Peer) receiveAck(next uint32) {
	if int32(next-p.seqSend) > 0 {
		p.log(Event{Kind: EvAckUnsent, Cmd: wire.CmdAck, Seq: next, Want: p.seqSend})
		return
	}
	n := int32(next - (p.seqSend - uint32(p.queue.count)))
	if n <= 0 {
		return
	}
	p.queue.pop(int(n))
	if !p.finSent || int32(next-p.finSeq) <= 0 {
		return
	}
	p.finSent = false
	switch p.state {
	case FinWait1:
		p.setState(FinWait2)
	case Closing, LastAck:
		if p.dupAck { // the peer lost our ACK of its FIN and sent it again in this very pass
			p.sendAck()
		}
		p.reset()
	}
}

// EndPass tells that no more frames are at hand: an ACK that is due is sent, or its time set. now as for Tick.
func (p *Peer) EndPass(now int64) {
	p.limitLastAck(now)
	switch {
	case p.dupAck, p.sinceAck >= p.cfg.AckEvery && p.state == Established:
		p.sendAck()
	case p.sinceAck > 0 && p.ackDue == 0 && p.state == Established:
		p.ackDue = now + int64(p.cfg.AckDelay)
	}
}
