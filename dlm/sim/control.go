package sim

import (
	"fmt"

	"github.com/ocfuse/ocfuse/dlm/core"
)

// controller is the membership controller: numbered views that all members agree on. It is one object here; that it
// is distributed in reality changes when nodes stop and start, not what they are told.
type controller struct {
	s       *Sim
	view    int
	acks    map[int32]bool // nodes that still have to stop
	members []int32        // of the committed view
	running bool           // a change is under way, not committed yet
	dead    map[int]bool   // incarnations that crashed, or left and are gone
	crashed map[int]bool   // of these, the former
}

// change begins a new view. Whatever view was under way is overtaken.
func (c *controller) change(why string) {
	s := c.s
	c.view++
	s.count.Views++
	c.running = true
	c.acks = map[int32]bool{}
	view := c.view
	s.trace("=== view %d: %s", view, why)
	for _, id := range s.ids {
		h := s.hosts[id]
		if h == nil || h.ending {
			continue
		}
		c.acks[id] = true
		inc := h.inc
		s.after(s.between(0, 60*ms), func() {
			if h := s.hosts[id]; h != nil && h.inc == inc && c.view == view {
				h.stopFor(view)
				s.after(s.between(1*ms, 10*ms), func() { c.ack(view, id) })
			}
		})
	}
	c.maybeCommit()
}

// stopFor stops a node and tells its transport who is dead.
func (h *host) stopFor(view int) {
	h.view = view
	fresh := len(h.started) == 0
	if !fresh && (!h.stopped || h.s.rng.IntN(2) == 0) {
		h.s.trace("%v stops for view %d", h, view)
		if err := h.core.Stop(); err != nil {
			h.s.fail("%v: %v", h, err)
		}
	}
	h.stopped = true
	for _, id := range h.s.ids {
		if a := h.peers[id]; a != nil && h.s.ctl.dead[a.inc] {
			h.fence(id)
		}
	}
	h.rearm()
}

// fence forgets everything about a dead node, once.
func (h *host) fence(id int32) {
	a := h.assoc(id)
	a.wants = false
	l := h.s.link(h.id, id)
	l.fenced = l.gen
	l.up = false
	a.conn = 0
	a.peer.ConnDown()
	a.peer.Gone()
	a.wants = false
	a.inc = 0
	h.sent[id] = nil
}

func (c *controller) ack(view int, id int32) {
	if view == c.view {
		delete(c.acks, id)
		c.maybeCommit()
	}
}

// maybeCommit starts everybody once all have stopped.
func (c *controller) maybeCommit() {
	s := c.s
	if !c.running || len(c.acks) > 0 {
		return
	}
	c.running = false
	if s.chaos && !s.cfg.Quiet && s.oneIn(4) {
		c.rejoinDead()
	}
	c.members = c.members[:0]
	incs := map[int32]int{}
	for _, id := range s.ids {
		h := s.hosts[id]
		switch {
		case h == nil || h.ending:
		case h.leaving:
			h.release()
		default:
			c.members = append(c.members, id)
			incs[id] = h.inc
		}
	}
	view := c.view
	s.trace("=== view %d committed: %v", view, c.members)
	for _, id := range c.members {
		inc := incs[id]
		members := append([]int32(nil), c.members...)
		s.after(s.between(0, 100*ms), func() {
			if h := s.hosts[id]; h != nil && h.inc == inc && c.view == view {
				h.startFor(view, members, incs)
			}
		})
	}
}

// rejoinDead lets dead nodes come back within the view that removes them.
func (c *controller) rejoinDead() {
	for _, id := range c.s.ids {
		if c.s.hosts[id] == nil && c.s.fenced(id) {
			c.s.newHost(id)
			c.s.count.Joins++
		}
	}
}

// startFor gives a node its member list.
func (h *host) startFor(view int, members []int32, incs map[int32]int) {
	s := h.s
	h.core.Tick(s.now)
	var ms []core.Member
	var failed []int32
	for id, inc := range h.started {
		if incs[id] != inc && s.ctl.crashed[inc] {
			failed = append(failed, id)
		}
	}
	for _, id := range members {
		old, was := h.started[id]
		ms = append(ms, core.Member{NodeID: id, Weight: uint32(1 + id%2), New: was && old != incs[id]})
	}
	h.started = map[int32]int{}
	for _, id := range members {
		h.started[id] = incs[id]
		if id != h.id && h.assoc(id).inc == 0 {
			h.assoc(id).inc = incs[id]
		}
	}
	h.view, h.stopped = view, false
	s.trace("%v starts view %d: %v", h, view, members)
	if err := h.core.Start(ms, failed); err != nil {
		s.fail("%v: %v", h, err)
	}
	h.rearm()
}

// release ends a node that leaves, after all have stopped.
func (h *host) release() {
	s := h.s
	s.trace("%v releases the lockspace", h)
	s.count.Leaves++
	s.deaths++
	h.dropLocks()
	if err := h.core.Release(true); err != nil {
		s.fail("%v: %v", h, err)
	}
	h.ending = true
	for _, id := range s.ids {
		if a := h.peers[id]; a != nil {
			a.peer.Shutdown(s.now)
		}
	}
	h.rearm()
	s.after(ms, h.checkEndedAlive)
}

func (h *host) checkEndedAlive() {
	if h.alive() {
		h.checkEnded()
	}
}

// crash takes a node away; the controller notices later.
func (s *Sim) crash(h *host) {
	s.trace("%v crashes", h)
	s.count.Crashes++
	s.deaths++
	h.dropLocks()
	s.remove(h)
	s.ctl.dead[h.inc], s.ctl.crashed[h.inc] = true, true
	id := h.id
	s.after(s.between(20*ms, 300*ms), func() { s.ctl.change(fmt.Sprintf("node %d is dead", id)) })
}

// live returns the nodes that are up and not on their way out.
func (s *Sim) live() []*host {
	var hs []*host
	for _, id := range s.ids {
		if h := s.hosts[id]; h != nil && !h.leaving && !h.ending {
			hs = append(hs, h)
		}
	}
	return hs
}

// nextFault makes one fault and plans the next.
func (s *Sim) nextFault() {
	if !s.chaos {
		return
	}
	s.after(s.between(20*ms, 700*ms), s.nextFault)
	live := s.live()
	kind := s.rng.IntN(8)
	if s.cfg.Quiet {
		kind = 5 + s.rng.IntN(3)
	}
	switch {
	case kind < 2 && len(live) > 1:
		s.crash(live[s.rng.IntN(len(live))])
	case kind == 2 && len(live) > 1:
		h := live[s.rng.IntN(len(live))]
		h.leaving = true
		s.trace("%v wants to leave", h)
		s.after(s.between(10*ms, 200*ms), func() {
			if h.alive() && !h.ending {
				s.ctl.change(h.String() + " leaves")
			}
		})
	case kind < 5:
		s.join()
	case kind == 5:
		s.stall()
	default:
		for i := 0; i <= s.rng.IntN(3); i++ {
			a, b := s.ids[s.rng.IntN(len(s.ids))], s.ids[s.rng.IntN(len(s.ids))]
			if a != b {
				s.cut(a, b)
			}
		}
	}
}

// join creates a node whose number is free and, if it died, fenced by everybody.
func (s *Sim) join() {
	if s.ctl.running {
		return
	}
	for _, i := range s.rng.Perm(len(s.ids)) {
		id := s.ids[i]
		if s.hosts[id] != nil || !s.fenced(id) {
			continue
		}
		s.newHost(id)
		s.count.Joins++
		s.ctl.change(fmt.Sprintf("node %d joins", id))
		return
	}
}

// fenced: no node still has an association with a dead incarnation of id.
func (s *Sim) fenced(id int32) bool {
	for _, h := range s.hosts {
		if a := h.peers[id]; a != nil && s.ctl.dead[a.inc] {
			return false
		}
	}
	return true
}

// stall delays everything between two nodes.
func (s *Sim) stall() {
	a, b := s.ids[s.rng.IntN(len(s.ids))], s.ids[s.rng.IntN(len(s.ids))]
	if a != b {
		s.link(a, b).blockedTo = s.now + s.between(10*ms, 500*ms)
	}
}
