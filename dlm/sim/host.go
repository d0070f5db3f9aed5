package sim

import (
	"fmt"
	"hash/fnv"

	"github.com/ocfuse/ocfuse/dlm/core"
	"github.com/ocfuse/ocfuse/dlm/midcomms"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

// host is one incarnation of a node: a core, its associations, its clients' locks.
type host struct {
	s       *Sim
	id      int32
	inc     int
	core    *core.Core
	peers   map[int32]*assoc
	started map[int32]int // member list of the last Start, with incarnations
	view    int           // number of the last view it was told to stop or start for
	stopped bool
	joined  bool // RecoverDone was seen
	leaving bool
	ending  bool // released; only the FIN handshakes are left
	timer   int64
	locks   []*handle
	sent    map[int32][]uint64 // wrapped messages sent to each node's present incarnation, not delivered yet
	buf     []byte
}

func (h *host) String() string { return fmt.Sprintf("node %d.%d", h.id, h.inc) }

func (s *Sim) newHost(id int32) *host {
	s.inc++
	h := &host{s: s, id: id, inc: s.inc, peers: map[int32]*assoc{}, started: map[int32]int{}, stopped: true, timer: -1,
		sent: map[int32][]uint64{}}
	cfg := core.Config{NodeID: id, Name: "sim", LVBLen: 32, RcomID: uint64(s.inc) << 32, Fault: s.cfg.Fault}
	if s.cfg.Fast {
		cfg.FirstPoll = ms
	}
	c, err := core.New(cfg, h)
	if err != nil {
		s.fail("%v", err)
		return h
	}
	h.core = c
	s.hosts[id] = h
	s.trace("%v is created", h)
	s.after(s.between(1*ms, 20*ms), h.clientTimer)
	return h
}

func (h *host) alive() bool { return h.s.hosts[h.id] == h }

func (h *host) assoc(to int32) *assoc {
	a := h.peers[to]
	if a == nil {
		a = &assoc{h: h, to: to}
		a.peer = midcomms.New(midcomms.Config{Self: uint32(h.id), Peer: uint32(to)}, a)
		h.peers[to] = a
	}
	return a
}

// rearm schedules the next tick.
func (h *host) rearm() {
	at, ok := h.core.Deadline()
	for _, id := range h.s.ids {
		if a := h.peers[id]; a != nil {
			if t, want := a.peer.Deadline(); want && (!ok || t < at) {
				at, ok = t, true
			}
		}
	}
	if !ok || h.timer >= h.s.now && h.timer <= at {
		return
	}
	at = max(at, h.s.now)
	h.timer = at
	h.s.at(at, func() {
		if h.alive() && h.timer == at {
			h.timer = -1
			h.tick()
		}
	})
}

func (h *host) tick() {
	h.core.Tick(h.s.now)
	for _, id := range h.s.ids {
		if a := h.peers[id]; a != nil {
			a.peer.Tick(h.s.now)
		}
	}
	h.checkEnded()
	h.rearm()
}

// checkEnded removes a node that left once all its associations are ended.
func (h *host) checkEnded() {
	if !h.ending {
		return
	}
	for _, a := range h.peers {
		if a.peer.Ending() {
			return
		}
	}
	s := h.s
	s.trace("%v is gone", h)
	s.remove(h)
	// The controller says so to everybody, who forgets what is left of the association: if bare status traffic crossed
	// the FIN, the handshake did not end it.
	s.ctl.dead[h.inc] = true
	for _, id := range s.ids {
		s.after(s.between(1*ms, 100*ms), func() {
			if o := s.hosts[id]; o != nil && o.peers[h.id] != nil && o.peers[h.id].inc == h.inc {
				o.fence(h.id)
				o.rearm()
			}
		})
	}
}

// remove takes a host out, with its connections.
func (s *Sim) remove(h *host) {
	for _, id := range s.ids {
		if id != h.id && h.peers[id] != nil {
			s.cut(h.id, id)
		}
	}
	delete(s.hosts, h.id)
}

// receive is a frame of node from.
func (h *host) receive(from int32, frame []byte) {
	h.core.Tick(h.s.now)
	a := h.assoc(from)
	a.peer.Receive(frame)
	a.peer.EndPass(h.s.now)
	h.checkEnded()
	h.rearm()
}

// deliver is a message that midcomms let through.
func (h *host) deliver(from int32, cmd wire.Cmd, inner []byte) {
	s := h.s
	if cmd == wire.CmdRcom {
		var m wire.Rcom
		if err := m.Decode(inner); err != nil {
			s.fail("%v: %v", h, err)
			return
		}
		if !m.Type.Bare() {
			h.checkOrder(from, inner)
		}
		err := h.core.ReceiveRcom(from, &m)
		s.trace("%v <- %d %v id %d seq %d/%d result %d %s", h, from, m.Type, m.ID, m.Seq, m.SeqReply, m.Result, why(err))
		return
	}
	var m wire.Message
	if err := m.Decode(inner); err != nil {
		s.fail("%v: %v", h, err)
		return
	}
	h.checkOrder(from, inner)
	if s.cfg.Trace != nil {
		s.trace("%v <- %d %s", h, from, describe(&m))
	}
	if err := h.core.Receive(from, &m); err != nil && s.cfg.Trace != nil {
		s.trace("%v    %v", h, err)
	}
}

func why(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func describe(m *wire.Message) string {
	s := fmt.Sprintf("%v lkid %#x remid %#x gr %v rq %v %v", m.Type, m.LkID, m.RemID, m.GrMode, m.RqMode, m.ExFlags)
	if m.Result != 0 {
		s += " " + m.Result.String()
	}
	if m.Type.HasName() {
		s += " " + string(m.Extra)
	}
	if m.Type == wire.MsgBast {
		s += " for " + m.BastMode.String()
	}
	if m.Type == wire.MsgLookupReply {
		s += fmt.Sprintf(" master %d", m.NodeID)
	}
	return s
}

func sum(b []byte) uint64 {
	f := fnv.New64a()
	f.Write(b)
	return f.Sum64()
}

// checkOrder: reliable messages arrive once and in order.
func (h *host) checkOrder(from int32, inner []byte) {
	src := h.s.hosts[from]
	if src == nil {
		return // its log died with it
	}
	log := src.sent[h.id]
	if len(log) == 0 || log[0] != sum(inner) {
		h.s.fail("%v: a message of %v was lost, doubled or overtaken", h, src)
		return
	}
	src.sent[h.id] = log[1:]
}

func (h *host) transmit(to int32, inner []byte, wrapped bool) {
	a := h.assoc(to)
	if err := a.peer.Send(inner); err != nil {
		h.s.fail("%v: sending to %d: %v", h, to, err)
		return
	}
	if wrapped {
		h.sent[to] = append(h.sent[to], sum(inner))
	}
}

// Send implements core.Effects.
func (h *host) Send(to int32, m *wire.Message) {
	if err := m.CheckSend(); err != nil {
		h.s.fail("%v sends %v to %d: %v", h, m.Type, to, err)
	}
	h.buf = m.Append(h.buf[:0])
	h.transmit(to, h.buf, true)
}

// SendRcom implements core.Effects.
func (h *host) SendRcom(to int32, m *wire.Rcom) {
	if err := m.CheckSend(); err != nil {
		h.s.fail("%v sends %v to %d: %v", h, m.Type, to, err)
	}
	h.buf = m.Append(h.buf[:0])
	h.transmit(to, h.buf, !m.Type.Bare())
}

// MemberAdded implements core.Effects.
func (h *host) MemberAdded(id int32) { h.assoc(id).peer.MemberAdd() }

// MemberRemoved implements core.Effects.
func (h *host) MemberRemoved(id int32) { h.assoc(id).peer.MemberRemove(h.s.now) }

// RecoverPrep implements core.Effects.
func (h *host) RecoverPrep() { h.s.trace("%v: locking stops", h) }

// RecoverSlot implements core.Effects.
func (h *host) RecoverSlot(slot core.Slot) {
	h.s.trace("%v: node %d failed, slot %d", h, slot.NodeID, slot.Slot)
}

// RecoverFailed implements core.Effects.
func (h *host) RecoverFailed(err error) { h.s.fail("%v: recovery failed: %v", h, err) }

// RecoverDone implements core.Effects.
func (h *host) RecoverDone(slots []core.Slot, our uint16, gen uint32) {
	h.s.trace("%v: recovery done, generation %d, slot %d", h, gen, our)
	h.joined = true
	seen := map[uint16]bool{}
	for _, sl := range slots {
		if seen[sl.Slot] {
			h.s.fail("%v: slot %d is given twice: %v", h, sl.Slot, slots)
		}
		seen[sl.Slot] = true
		if sl.NodeID == h.id && sl.Slot != our {
			h.s.fail("%v: own slot is %d, the list says %v", h, our, slots)
		}
	}
	if len(slots) != len(h.started) || our == 0 {
		h.s.fail("%v: slots %v (own %d) for members %v", h, slots, our, h.started)
	}
}
