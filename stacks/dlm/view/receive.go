package view

import "slices"

// Receive takes a message of a connected node. Messages of incarnations that are
// proven dead are answered with Evicted and otherwise ignored.
func (c *Core) Receive(from uint32, m Message) {
	p := c.peers[from]
	if p == nil || !p.connected || m.From.Node != from || !c.active() {
		return
	}
	if c.dead[m.From] {
		c.send(from, Message{Kind: Evicted})
		return
	}
	if m.Kind == Hello {
		c.hello(p, m)
		c.advance()
		return
	}
	if !p.hello || p.id != m.From {
		return // nothing counts before the Hello
	}
	switch m.Kind {
	case Propose:
		c.proposed(m)
	case Ack:
		c.seen = max(c.seen, m.Num)
		if c.own && m.Num == c.prop.Num && m.By == c.self {
			c.acks[m.From] = true
			c.checkCommit()
		}
	case Nack:
		c.refused(m)
	case Commit:
		c.committed(m.View)
	case Proof:
		c.bury(m.About)
	case Evicted:
		c.fence("the other members have declared this node dead")
	case Farewell:
		if c.state == Leaving && m.About == c.self && !c.stop {
			c.state = Away
			c.emit(Effect{Kind: Finished})
		}
	case Refuse:
		if c.state == Joining {
			c.state = Away
			c.emit(Effect{Kind: Rejected, Reason: m.Reason})
		}
	}
	c.advance()
}

// hello learns who a peer is and brings it up to date.
func (c *Core) hello(p *peer, m Message) {
	first := !p.hello
	if first {
		c.supersede(m.From)
	}
	p.hello, p.id, p.state, p.started = true, m.From, m.State, m.Num
	p.acked = ballot{m.Seen, m.By}
	c.seen = max(c.seen, m.Seen, m.Num)
	if c.cur.Has(m.From) {
		c.judge(c.quorum.ConnUp(int(m.From.Node)))
	}
	p.cuts, p.timing = 0, false
	if c.state == Joining && (m.State == Joining || m.State == Member || m.State == Leaving) {
		c.others[m.From.Node] = m.From
	}
	switch m.State {
	case Leaving:
		c.leavers[m.From] = true
	case Away:
		c.stale = true
		if c.others[m.From.Node] == m.From {
			delete(c.others, m.From.Node)
		}
	}
	if first {
		c.resend(p)
	}
}

// supersede: a new incarnation vouches that all former ones of its node number
// have ended; it could not have taken the slot otherwise (package heartbeat).
func (c *Core) supersede(id ID) {
	for _, list := range [][]ID{c.cur.Members, c.owing(), c.prop.Members} {
		for _, m := range list {
			if m.Node == id.Node && m != id && c.bury(m) {
				c.broadcast(Message{Kind: Proof, About: m})
			}
		}
	}
	if o, ok := c.others[id.Node]; ok && o != id {
		c.bury(o)
	}
}

// resend repeats what a peer may have missed while it was not connected.
func (c *Core) resend(p *peer) {
	node := p.id.Node
	for _, id := range c.cur.Members {
		if c.dead[id] {
			c.send(node, Message{Kind: Proof, About: id})
		}
	}
	if c.own && !c.acks[p.id] {
		for _, id := range c.need {
			if id == p.id {
				c.send(node, Message{Kind: Propose, View: c.prop})
			}
		}
	}
	if p.state == Leaving && c.cur.Num > 0 && !slices.Contains(c.base(), p.id) {
		c.send(node, Message{Kind: Farewell, About: p.id})
	}
	if c.cur.Num > p.started && p.acked == c.cur.ballot() {
		c.send(node, Message{Kind: Commit, View: c.cur})
	}
}

// proposed answers a proposal.
func (c *Core) proposed(m Message) {
	v := m.View
	if v.By != m.From || !wellFormed(&v) {
		return
	}
	b := v.ballot()
	if b == c.acked && b.num > c.cur.Num {
		c.acknowledge() // repeated after a reconnect
		return
	}
	c.seen = max(c.seen, v.Num)
	if v.Num <= c.cur.Num || b.less(c.acked) {
		c.send(m.From.Node, Message{Kind: Nack, Num: v.Num, By: v.By, Seen: max(c.seen, c.acked.num)})
		return
	}
	for _, g := range v.Gone {
		if g.How == Dead {
			c.bury(g.ID)
		}
	}
	if !c.active() {
		return
	}
	leave := false
	for _, g := range v.Gone {
		leave = leave || g.ID == c.self && g.How == Left && c.state == Leaving
	}
	if !v.Has(c.self) && !leave {
		return
	}
	owed := slices.Clone(v.Members)
	for _, g := range v.Gone {
		if g.How == Left && g.View > c.cur.Num {
			owed = append(owed, g.ID) // a member until the commit; base drops the dead
		}
	}
	c.owed[v.By] = owed
	c.prop, c.acked, c.own = v, b, false
	c.halt()
}

// refused: somebody knows a higher number; propose again above it.
func (c *Core) refused(m Message) {
	c.seen = max(c.seen, m.Seen)
	if !c.own || m.Num != c.prop.Num || m.By != c.self {
		return
	}
	// Forget the proposal: it cannot be committed, since its ack is refused for
	// ever. acked stays, so advance makes a new one.
	c.own = false
}

// committed starts a view this node has acked.
func (c *Core) committed(v View) {
	c.seen = max(c.seen, v.Num)
	if v.ballot() != c.acked || v.Num <= c.cur.Num || c.stop {
		return
	}
	c.start(c.prop)
}

// wellFormed checks what the wire format cannot: sorted, unique, not empty.
func wellFormed(v *View) bool {
	for i, id := range v.Members {
		if id.Inc == 0 || i > 0 && v.Members[i-1].Node >= id.Node {
			return false
		}
	}
	return len(v.Members) > 0 && v.Num > 0
}
