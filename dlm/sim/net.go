package sim

import (
	"github.com/ocfuse/ocfuse/dlm/midcomms"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

// link is what connects two nodes: at most one connection at a time that both send on, and perhaps older ones of which
// the last frames are still under way.
type link struct {
	gen       int // current connection
	up        bool
	dialing   bool
	fenced    int      // connections up to this one were dropped by a fence: nothing of them arrives any more
	blockedTo int64    // stalled until
	last      [2]int64 // arrival of the last frame in each direction: order is kept
	cutoff    map[int][2]int64
}

func pair(a, b int32) [2]int32 { return [2]int32{min(a, b), max(a, b)} }

func dirOf(from, to int32) int {
	if from < to {
		return 0
	}
	return 1
}

func (s *Sim) link(a, b int32) *link {
	k := pair(a, b)
	l := s.links[k]
	if l == nil {
		l = &link{cutoff: map[int][2]int64{}}
		s.links[k] = l
	}
	return l
}

// assoc is one node's end of the association with another: a midcomms.Peer and what it wants.
type assoc struct {
	h     *host
	to    int32
	peer  *midcomms.Peer
	wants bool // a connection
	conn  int  // generation of the connection it sends on, 0 none
	inc   int  // incarnation of the other node it talked to last
}

// Write implements midcomms.Effects.
func (a *assoc) Write(frames []byte) {
	for len(frames) > 0 {
		n := int(uint16(frames[12]) | uint16(frames[13])<<8)
		a.h.s.transmit(a, append([]byte(nil), frames[:n]...))
		frames = frames[n:]
	}
}

// Deliver implements midcomms.Effects.
func (a *assoc) Deliver(cmd wire.Cmd, inner []byte) { a.h.deliver(a.to, cmd, inner) }

// Connect implements midcomms.Effects.
func (a *assoc) Connect() {
	a.wants = true
	a.h.s.dial(a.h.id, a.to)
}

// Abort implements midcomms.Effects.
func (a *assoc) Abort() {
	s := a.h.s
	a.wants = false
	if l := s.link(a.h.id, a.to); l.up {
		s.cut(a.h.id, a.to)
	}
}

// StateChanged implements midcomms.Effects.
func (a *assoc) StateChanged(from, to midcomms.State) {
	a.h.s.trace("%v link to %d: %v -> %v", a.h, a.to, from, to)
}

// Log implements midcomms.Effects: what it warns of must not happen here.
func (a *assoc) Log(ev midcomms.Event) {
	a.h.s.trace("%v link to %d: %v", a.h, a.to, ev)
	switch ev.Kind {
	case midcomms.EvStuckReset:
		// In LAST_ACK only the last ACK of a node that left is missing; a STATUS sent before the membership changed may
		// meet a node that leaves.
		if ev.State != midcomms.LastAck && !a.h.ending {
			a.h.s.fail("%v: %v", a.h, ev)
		}
	case midcomms.EvBadVersion, midcomms.EvMalformed, midcomms.EvBadNodeID, midcomms.EvUsers:
		a.h.s.fail("%v: %v", a.h, ev)
	}
}

// transmit puts a frame under way.
func (s *Sim) transmit(a *assoc, frame []byte) {
	from, to := a.h.id, a.to
	l := s.link(from, to)
	gen, d := a.conn, dirOf(from, to)
	at := max(s.now+s.between(50_000, 3*ms), l.last[d]+1, l.blockedTo)
	l.last[d] = at
	other := s.hosts[to]
	if other == nil {
		return
	}
	toInc := other.inc
	s.at(at, func() {
		if c, ok := l.cutoff[gen]; ok && at > c[d] || gen <= l.fenced {
			return
		}
		h := s.hosts[to]
		if h == nil || h.inc != toInc {
			return
		}
		h.receive(from, frame)
	})
}

// dial makes a connection if one side wants one and both are there; refused dials are repeated.
func (s *Sim) dial(a, b int32) {
	l := s.link(a, b)
	if l.dialing || l.up {
		return
	}
	l.dialing = true
	s.after(s.between(1*ms, 20*ms), func() {
		l.dialing = false
		x, y := s.hosts[a], s.hosts[b]
		if l.up || x == nil && y == nil {
			return
		}
		if x == nil || y == nil {
			h := firstHost(x, y)
			if h.wants(a, b) {
				s.after(s.between(20*ms, 200*ms), func() { s.dial(a, b) })
			}
			return
		}
		if !x.wants(a, b) && !y.wants(a, b) {
			return
		}
		l.gen++
		l.up = true
		s.trace("connection %d between %d and %d", l.gen, a, b)
		s.connUp(x, b, l.gen)
		s.connUp(y, a, l.gen)
	})
}

func firstHost(x, y *host) *host {
	if x != nil {
		return x
	}
	return y
}

// wants reports whether this end of the pair a, b asks for a connection.
func (h *host) wants(a, b int32) bool {
	to := a
	if h.id == a {
		to = b
	}
	as := h.peers[to]
	return as != nil && as.wants && (as.peer.State() != midcomms.Closed || as.peer.Users() > 0)
}

func (s *Sim) connUp(h *host, to int32, gen int) {
	a := h.assoc(to)
	a.wants = false
	a.conn = gen
	a.inc = s.hosts[to].inc
	a.peer.ConnUp()
	h.rearm()
}

// cut breaks the connection: of what is under way only a prefix arrives, in each direction.
func (s *Sim) cut(a, b int32) {
	l := s.link(a, b)
	if !l.up {
		return
	}
	s.count.Cuts++
	s.trace("cut between %d and %d", a, b)
	l.up = false
	gen := l.gen
	until := [2]int64{s.now + s.between(0, 4*ms), s.now + s.between(0, 4*ms)}
	l.cutoff[gen] = until
	for _, id := range [2]int32{a, b} {
		other := a + b - id
		h := s.hosts[id]
		if h == nil {
			continue
		}
		inc := h.inc
		s.at(until[dirOf(other, id)]+s.between(0, 5*ms), func() {
			if h := s.hosts[id]; h != nil && h.inc == inc && h.assoc(other).conn == gen {
				h.assoc(other).conn = 0
				h.assoc(other).peer.ConnDown()
				h.rearm()
			}
		})
	}
}
