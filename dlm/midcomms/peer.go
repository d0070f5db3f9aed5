package midcomms

import (
	"errors"
	"time"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Errors of Send.
var (
	ErrNoVersion = errors.New("dlm: peer's protocol version is not known yet; it must answer a STATUS first")
	ErrClosing   = errors.New("dlm: association with the peer is ending, nothing can be sent")
	ErrMessage   = errors.New("dlm: not a message that can be sent")
	ErrBacklog   = errors.New("dlm: too many unreliable messages wait for a connection")
)

// Defaults of Config.
const (
	DefaultAckEvery        = 32
	DefaultAckDelay        = 10 * time.Millisecond
	DefaultShutdownTimeout = 3 * time.Minute // Linux 6.1; 5 s since about 6.12
)

// maxBare bounds what bare messages may occupy while no connection exists, bytes.
const maxBare = 256 << 10

// Config names the pair and its timing.
type Config struct {
	Self uint32 // our node id
	Peer uint32 // the other's
	// AckEvery is the number of delivered messages after which an ACK is due at the end of the receive pass; 1 is an
	// ACK for every pass, as Linux 6.1 does. 0 means DefaultAckEvery.
	AckEvery int
	// AckDelay is how long fewer messages may stay unacknowledged; 0 means DefaultAckDelay.
	AckDelay time.Duration
	// ShutdownTimeout bounds the FIN handshake, and the wait for the last ACK on the side that stays; 0 means DefaultShutdownTimeout.
	ShutdownTimeout time.Duration
}

// Effects is what a Peer does to the world. The calls come from inside the event methods, in order.
type Effects interface {
	// Write appends whole frames, one or more, to the output of the sending connection. Called only between ConnUp
	// and ConnDown. The bytes are valid during the call only.
	Write(frames []byte)
	// Deliver hands over a message of the peer, MSG or RCOM with its header, in order; it aliases what Receive got.
	Deliver(cmd wire.Cmd, inner []byte)
	// Connect asks for a connection because there is something to say; ConnUp follows some day. Asking again while
	// one is being made is normal.
	Connect()
	// Abort asks to drop all connections of the peer at once (RST), their content is void.
	Abort()
	// StateChanged reports every transition, resets included.
	StateChanged(from, to State)
	// Log reports an Event.
	Log(ev Event)
}

// Peer is the association with one node. Create it with New.
type Peer struct {
	cfg Config
	fx  Effects

	state   State
	version uint32 // 0 (unset), wire.Version, wire.Version31
	up      bool   // a sending connection exists
	users   int    // lockspaces the peer is a member of

	seqSend uint32 // next to use
	seqNext uint32 // next expected
	queue   queue  // wrapped, unacknowledged: seqSend-queue.count .. seqSend-1
	bare    queue  // bare messages waiting for a connection

	finSent bool // our FIN is in queue, with number finSeq
	finSeq  uint32
	stopTx  bool // our FIN was sent: nothing wrapped any more
	stopRx  bool // the peer's FIN came

	sinceAck    int   // delivered, not acknowledged
	dupAck      bool  // a duplicate asks for an ACK at the end of the pass
	ackDue      int64 // Tick time, 0 none
	shutdownDue int64 // Tick time, 0 none

	scratch [wire.HeaderSize]byte

	// acceptDuplicates is a planted bug: tests prove with it that they would notice.
	acceptDuplicates bool
}

// New returns the association with cfg.Peer in its initial state.
func New(cfg Config, fx Effects) *Peer {
	if cfg.AckEvery <= 0 {
		cfg.AckEvery = DefaultAckEvery
	}
	if cfg.AckDelay <= 0 {
		cfg.AckDelay = DefaultAckDelay
	}
	if cfg.ShutdownTimeout <= 0 {
		cfg.ShutdownTimeout = DefaultShutdownTimeout
	}
	return &Peer{cfg: cfg, fx: fx}
}

// State returns the state of the association.
func (p *Peer) State() State { return p.state }

// Ending reports whether a FIN was sent or received and the handshake is not complete.
func (p *Peer) Ending() bool { return p.state.closing() }

// Users returns the number of lockspaces the peer is a member of.
func (p *Peer) Users() int { return p.users }

// Version returns the peer's protocol version, 0 if not detected.
func (p *Peer) Version() uint32 { return p.version }

// Unacked returns the number of messages kept for a resend, and their bytes.
func (p *Peer) Unacked() (messages, bytes int) { return p.queue.count, p.queue.bytes }

// Seqs returns the next sequence number to use and the next expected one.
func (p *Peer) Seqs() (send, next uint32) { return p.seqSend, p.seqNext }

func (p *Peer) log(ev Event) {
	ev.Peer, ev.State = p.cfg.Peer, p.state
	p.fx.Log(ev)
}

func (p *Peer) setState(s State) {
	if s == p.state {
		return
	}
	from := p.state
	p.state = s
	p.fx.StateChanged(from, s)
}

// reset goes back to the initial state; users and the connection stay. (Linux midcomms_node_reset.)
func (p *Peer) reset() {
	p.log(Event{Kind: EvReset})
	p.version = 0
	p.seqSend, p.seqNext = 0, 0
	p.queue.clear()
	p.bare.clear()
	p.finSent, p.stopTx, p.stopRx = false, false, false
	p.sinceAck, p.dupAck = 0, false
	p.ackDue, p.shutdownDue = 0, 0
	p.setState(Closed)
}

// begin is member add and bare status traffic: CLOSED becomes ESTABLISHED, a closing state is reset first because the
// other side began anew. (Linux dlm_midcomms_add_member, dlm_midcomms_recv_node_lookup.)
func (p *Peer) begin() {
	if p.state.closing() {
		p.log(Event{Kind: EvStuckReset})
		p.reset()
	}
	p.setState(Established)
}

// MemberAdd tells that the peer became a member of one more lockspace.
func (p *Peer) MemberAdd() {
	if p.users++; p.users == 1 {
		p.begin()
	}
	if !p.up {
		p.fx.Connect()
	}
}

// MemberRemove tells that the peer left one lockspace. If it was the last, and the peer's FIN came already, ours
// follows. now as for Tick.
func (p *Peer) MemberRemove(now int64) {
	if p.users == 0 {
		p.log(Event{Kind: EvUsers})
		return
	}
	if p.users--; p.users == 0 && p.state == CloseWait {
		p.sendFin()
		p.setState(LastAck)
		p.limitLastAck(now)
	}
}

// limitLastAck bounds the wait for the last ACK on the side that stays: if it was lost with the connection and the
// peer is gone for good, we would keep our FIN, and dial, for ever.
func (p *Peer) limitLastAck(now int64) {
	if p.state == LastAck && p.shutdownDue == 0 {
		p.shutdownDue = now + int64(p.cfg.ShutdownTimeout)
	}
}

// Shutdown tells that our last lockspace is gone: the association is ended if it stands. It is complete when Ending is
// false, by the peer's FIN or by the timeout. now is any monotonic clock in nanoseconds, the same as for Tick. (Linux
// midcomms_shutdown: a peer never heard of, and a 3.1 peer, are left as they are; there is no handshake.)
func (p *Peer) Shutdown(now int64) {
	switch {
	case p.state == Closed || p.version != wire.Version:
		return
	case p.state == Established:
		if p.sinceAck > 0 {
			p.sendAck()
		}
		p.sendFin()
		p.setState(FinWait1)
	}
	p.shutdownDue = now + int64(p.cfg.ShutdownTimeout)
}

// Gone tells that the peer was fenced or its address removed: everything is forgotten, connections are dropped.
func (p *Peer) Gone() {
	p.reset()
	p.fx.Abort()
}

// ConnUp tells that there is a (new) sending connection: everything unacknowledged is written again, oldest first,
// then what waited. Also to be called when the sending connection was replaced by another.
func (p *Peer) ConnUp() {
	p.up = true
	if p.queue.count > 0 {
		p.log(Event{Kind: EvResend, Seq: uint32(p.queue.count)})
		p.queue.each(p.fx.Write)
	}
	p.bare.each(p.fx.Write)
	p.bare.clear()
	if p.dupAck || p.sinceAck > 0 && p.state == Established {
		p.sendAck()
	}
}

// ConnDown tells that no sending connection exists any more. A new one is asked for if the peer is a member we did not
// forget (Gone), or something is unacknowledged.
func (p *Peer) ConnDown() {
	p.up = false
	if p.state != Closed && p.users > 0 || p.queue.count > 0 {
		p.fx.Connect()
	}
}

// Deadline returns when Tick must be called next, ok false if there is no need.
func (p *Peer) Deadline() (at int64, ok bool) {
	switch {
	case p.ackDue == 0:
		at = p.shutdownDue
	case p.shutdownDue == 0:
		at = p.ackDue
	default:
		at = min(p.ackDue, p.shutdownDue)
	}
	return at, at != 0
}

// Tick lets time pass: a delayed ACK is sent, an association that does not end is reset.
func (p *Peer) Tick(now int64) {
	if p.ackDue != 0 && now >= p.ackDue {
		p.ackDue = 0
		if p.state == Established && p.sinceAck > 0 {
			p.sendAck()
		}
	}
	if p.shutdownDue != 0 && now >= p.shutdownDue {
		p.shutdownDue = 0
		p.log(Event{Kind: EvTimeout})
		p.reset()
		p.fx.Abort()
	}
}
