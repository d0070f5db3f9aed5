package midcomms

import (
	"encoding/binary"
	"fmt"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Send sends a MSG or RCOM, complete with header, to the peer. Whether it is wrapped follows from its type. inner is
// copied. Without a connection a message is kept and a connection asked for.
//
// Errors: ErrMessage for bytes that are no such message, ErrNoVersion for a wrapped message before the peer's first,
// ErrClosing after our FIN (and for bare status traffic in every closing state, see the package comment), ErrBacklog.
func (p *Peer) Send(inner []byte) error {
	cmd, bare, err := classify(inner)
	if err != nil {
		return err
	}
	if bare || p.version == wire.Version31 {
		return p.sendBare(inner)
	}
	if p.version == 0 {
		return ErrNoVersion
	}
	if p.stopTx {
		return ErrClosing
	}
	p.sendWrapped(cmd, inner)
	return nil
}

// classify checks that b is one whole MSG or RCOM and says whether it travels bare.
func classify(b []byte) (cmd wire.Cmd, bare bool, err error) {
	if len(b) < wire.HeaderSize || len(b) > wire.MaxInner {
		return 0, false, fmt.Errorf("%w: %d bytes, want %d..%d", ErrMessage, len(b), wire.HeaderSize, wire.MaxInner)
	}
	if n := int(binary.LittleEndian.Uint16(b[12:])); n != len(b) {
		return 0, false, fmt.Errorf("%w: h_length %d of %d bytes", ErrMessage, n, len(b))
	}
	cmd = wire.Cmd(b[14])
	switch {
	case cmd == wire.CmdMsg && len(b) >= wire.MessageSize:
		return cmd, false, nil
	case cmd == wire.CmdRcom && len(b) >= wire.RcomSize:
		return cmd, rcomType(b).Bare(), nil
	}
	return 0, false, fmt.Errorf("%w: %v of %d bytes", ErrMessage, cmd, len(b))
}

func rcomType(b []byte) wire.RcomType {
	return wire.RcomType(binary.LittleEndian.Uint32(b[wire.HeaderSize:]))
}

func (p *Peer) sendBare(inner []byte) error {
	if p.state.closing() {
		return ErrClosing
	}
	if p.up {
		p.fx.Write(inner)
		return nil
	}
	if p.bare.bytes+len(inner) > maxBare {
		return ErrBacklog
	}
	copy(p.bare.push(len(inner)), inner)
	p.fx.Connect()
	return nil
}

func (p *Peer) sendWrapped(cmd wire.Cmd, inner []byte) {
	b := p.queue.push(wire.OptsSize + len(inner))
	wire.AppendOpts(b[:0], p.cfg.Self, p.seqSend, cmd, len(inner))
	copy(b[wire.OptsSize:], inner)
	p.seqSend++
	if p.up {
		p.fx.Write(b)
	} else {
		p.fx.Connect()
	}
}

// sendFin queues our FIN; nothing wrapped follows it.
func (p *Peer) sendFin() {
	p.finSent, p.finSeq, p.stopTx = true, p.seqSend, true
	p.sendWrapped(wire.CmdFin, wire.AppendFin(p.scratch[:0], p.cfg.Self))
}

// sendAck acknowledges everything received. Without a connection it stays due until ConnUp.
func (p *Peer) sendAck() {
	if !p.up {
		return
	}
	p.sinceAck, p.dupAck, p.ackDue = 0, false, 0
	p.fx.Write(wire.AppendAck(p.scratch[:0], p.cfg.Self, p.seqNext))
}

// sendFinAck acknowledges the peer's FIN. next is given because a reset may have come before: the ACK ends the peer's
// association, so it must not be lost with a connection that is just being made.
func (p *Peer) sendFinAck(next uint32) {
	p.sinceAck, p.dupAck, p.ackDue = 0, false, 0
	ack := wire.AppendAck(p.scratch[:0], p.cfg.Self, next)
	if p.up {
		p.fx.Write(ack)
		return
	}
	copy(p.bare.push(len(ack)), ack)
	p.fx.Connect()
}
