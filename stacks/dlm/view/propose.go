package view

import (
	"cmp"
	"maps"
	"slices"
)

// sorted orders incarnations by node.
func sorted(ids []ID) []ID {
	slices.SortFunc(ids, func(a, b ID) int { return int(a.Node) - int(b.Node) })
	return ids
}

// base lists, by node, the incarnations that are or may be members and are not
// proven dead.
func (c *Core) base() []ID {
	var out []ID
	add := func(id ID) {
		if !c.dead[id] && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	for _, id := range c.cur.Members {
		add(id)
	}
	for _, id := range c.owing() {
		add(id)
	}
	return sorted(out)
}

// owing lists the members of others' proposals that may have been committed.
func (c *Core) owing() []ID {
	by := slices.SortedFunc(maps.Keys(c.owed), func(a, b ID) int { return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Inc, b.Inc)) })
	var out []ID
	for _, p := range by {
		out = append(out, c.owed[p]...)
	}
	return out
}

// coordinator is the lowest of ids that is a member and does not leave, else the
// lowest member, else the lowest: a joiner may not know that it was proposed.
func (c *Core) coordinator(ids []ID) ID {
	for _, fits := range []func(ID) bool{
		func(id ID) bool { return c.started(id) && !c.leavers[id] },
		c.started,
		func(ID) bool { return true },
	} {
		if i := slices.IndexFunc(ids, fits); i >= 0 {
			return ids[i]
		}
	}
	return ID{}
}

// started tells whether an incarnation is known to have started a view. Being in
// cur is not enough: its commit may have been lost with the node that sent it.
func (c *Core) started(id ID) bool {
	if p := c.peers[id.Node]; p != nil && p.hello && p.id == id {
		return p.state == Member || p.state == Leaving
	}
	return c.cur.Has(id)
}

// advance does what the state calls for; it runs after every event.
func (c *Core) advance() {
	if !c.active() || !c.scanned {
		return
	}
	base := c.base()
	if len(base) == 0 {
		if c.state == Joining {
			c.form()
		}
		return
	}
	if !slices.Contains(base, c.self) || c.coordinator(base) != c.self {
		if c.own {
			c.checkCommit() // a proposal of mine stands until another is acked
		}
		return
	}
	if c.state == Joining && !(c.knownAll(base) && c.fresh()) {
		return
	}
	c.coordinate(base)
}

// knownAll says whether a joiner that inherits a proposal has heard from everybody
// who may be alive, and met no member that the proposal did not list.
func (c *Core) knownAll(base []ID) bool {
	for _, id := range c.others {
		if c.dead[id] || slices.Contains(base, id) {
			continue
		}
		if !c.heard(id) || c.started(id) {
			return false
		}
	}
	return true
}

// form makes the first view, if the rules of the package comment allow it.
func (c *Core) form() {
	members := []ID{c.self}
	for _, n := range slices.Sorted(maps.Keys(c.others)) {
		if id := c.others[n]; !c.dead[id] && !c.heard(id) {
			return
		}
	}
	for _, n := range slices.Sorted(maps.Keys(c.peers)) {
		p := c.peers[n]
		if !p.hello || c.dead[p.id] || p.state == Away || p.state == Fenced {
			continue
		}
		if p.state != Joining || n < c.self.Node || !c.verified(p.id) {
			return
		}
		members = append(members, p.id)
	}
	members = sorted(members)
	if !c.fresh() {
		return
	}
	if c.own && slices.Equal(c.prop.Members, members) {
		c.checkCommit()
		return
	}
	c.propose(members, members, nil)
}

// verified asks for a check of a joiner's heartbeat once and says if it passed.
func (c *Core) verified(id ID) bool {
	if c.checked[id] {
		return true
	}
	if !c.checking[id] {
		c.checking[id] = true
		c.emit(Effect{Kind: Verify, About: id})
	}
	return false
}

// coordinate proposes what is due, as the coordinator of base.
func (c *Core) coordinate(base []ID) {
	var members, need []ID
	for _, id := range base {
		if c.leavers[id] {
			if id != c.self {
				need = append(need, id)
			}
			continue
		}
		members = append(members, id)
	}
	if len(members) == 0 {
		members = []ID{c.self} // everybody leaves: one goes last
		if len(need) == 0 {
			c.finishAlone()
			return
		}
	}
	members = c.addJoiners(members)
	need = sorted(append(need, members...))
	need = slices.Compact(need)
	if c.leavers[c.self] && !slices.Contains(need, c.self) {
		need = append(need, c.self)
	}
	if c.own && c.current(members, need) {
		c.checkCommit()
		return
	}
	if !c.own && c.acked == c.cur.ballot() && slices.Equal(c.cur.Members, members) {
		return // nothing to change
	}
	c.propose(members, need, c.gone(members))
}

// finishAlone ends the leave of the last member.
func (c *Core) finishAlone() {
	c.state = Away
	if c.running {
		c.running = false
	}
	c.broadcast(c.helloMsg())
	c.emit(Effect{Kind: Finished})
}

// addJoiners appends the newcomers that can be admitted.
func (c *Core) addJoiners(members []ID) []ID {
	for _, n := range slices.Sorted(maps.Keys(c.peers)) {
		p := c.peers[n]
		if !p.hello || p.state != Joining || c.dead[p.id] || slices.Contains(members, p.id) {
			continue
		}
		if slices.ContainsFunc(members, func(m ID) bool { return m.Node == n }) {
			continue // its former incarnation is not proven dead yet
		}
		if c.verified(p.id) {
			members = append(members, p.id)
		}
	}
	return sorted(members)
}

// current says whether my proposal in flight still fits: nobody in it is dead or
// unreachable for good, and nobody left it. More newcomers wait for the next one.
func (c *Core) current(members, need []ID) bool {
	for _, id := range c.need {
		if c.dead[id] || !slices.Contains(need, id) {
			return false
		}
	}
	for _, id := range c.prop.Members {
		if !slices.Contains(members, id) {
			return false
		}
	}
	return true
}

// gone lists the departures for the next proposal.
func (c *Core) gone(members []ID) []Gone {
	var out []Gone
	add := func(g Gone) {
		if !slices.ContainsFunc(out, func(o Gone) bool { return o.ID == g.ID }) && !slices.Contains(members, g.ID) {
			out = append(out, g)
		}
	}
	for _, v := range []*View{&c.cur, &c.prop} {
		for _, g := range v.Gone {
			if g.View > c.floor() {
				add(g)
			}
		}
	}
	former := append(slices.Clone(c.cur.Members), c.owing()...)
	for _, id := range former {
		how := Dead
		if c.leavers[id] {
			how = Left
		}
		add(Gone{ID: id, How: how, View: c.seen + 1})
	}
	slices.SortFunc(out, func(a, b Gone) int { return int(a.ID.Node) - int(b.ID.Node) })
	return out
}

// floor is the view that every member is known to have started: cur, if all of
// its members have said so, else cur's own floor.
func (c *Core) floor() uint64 {
	low := c.cur.Num
	for _, id := range c.cur.Members {
		if id == c.self || c.dead[id] {
			continue
		}
		if p := c.peers[id.Node]; p == nil || p.id != id || p.started < low {
			return c.cur.Floor
		}
	}
	return low
}

// propose sends a proposal and takes it up here.
func (c *Core) propose(members, need []ID, gone []Gone) {
	floor := c.floor()
	c.seen++
	v := View{Num: c.seen, By: c.self, Members: members, Gone: gone, Floor: floor}
	c.prop, c.acked, c.own = v, v.ballot(), true
	c.need, c.acks = need, map[ID]bool{}
	for _, id := range need {
		if id != c.self {
			c.send(id.Node, Message{Kind: Propose, View: v})
		}
	}
	c.halt()
}

// watch tells the shell of incarnations that may become members.
func (c *Core) watch(v View) {
	for _, id := range v.Members {
		if id != c.self && !c.cur.Has(id) {
			c.emit(Effect{Kind: Watch, About: id})
		}
	}
}

// halt stops the lockspaces for the pending proposal, then acks it.
func (c *Core) halt() {
	if c.running {
		c.running, c.stop = false, true
		c.emit(Effect{Kind: Stop, View: c.prop})
	}
	c.watch(c.prop) // after Stop: nothing is sent any more to an incarnation that is replaced
	c.acknowledge()
}

// acknowledge acks the pending proposal once everything is stopped.
func (c *Core) acknowledge() {
	if c.stop || c.acked.num <= c.cur.Num {
		return
	}
	if c.own {
		c.acks[c.self] = true
		c.checkCommit()
		return
	}
	c.send(c.acked.by.Node, Message{Kind: Ack, Num: c.acked.num, By: c.acked.by})
}

// checkCommit commits my proposal when all have acked.
func (c *Core) checkCommit() {
	if !c.own {
		return
	}
	for _, id := range c.need {
		if !c.acks[id] || c.dead[id] {
			return
		}
	}
	c.own = false
	v := c.prop
	for _, id := range c.need {
		if id != c.self {
			c.send(id.Node, Message{Kind: Commit, View: v})
		}
	}
	c.start(v)
}

// start takes a committed view into use.
func (c *Core) start(v View) {
	e := Effect{Kind: Start, View: v, Joined: c.joined(v), Departed: c.departed(v)}
	was := c.cur
	c.cur, c.prop, c.owed, c.own = v, View{}, map[ID][]ID{}, false
	c.others = map[uint32]ID{}
	if !v.Has(c.self) {
		c.state = Away
		c.emit(Effect{Kind: Finished})
		return
	}
	if c.state == Joining {
		c.state = Member
	}
	c.running = true
	c.emit(e)
	for _, g := range e.Departed {
		if g.How == Left {
			c.send(g.ID.Node, Message{Kind: Farewell, About: g.ID}) // its commit may be lost
		}
	}
	c.quorate(was, v)
	for id := range c.checked {
		if _, stay := v.Find(id.Node); stay {
			delete(c.checked, id)
		}
	}
	for id := range c.leavers {
		if id != c.self && !v.Has(id) {
			delete(c.leavers, id)
		}
	}
	c.broadcast(c.helloMsg())
	c.advance()
}

// quorate tells o2quo who counts from now on.
func (c *Core) quorate(was, v View) {
	for _, id := range was.Members {
		if m, ok := v.Find(id.Node); !ok || m != id {
			c.judge(c.quorum.HeartbeatDown(int(id.Node)))
		}
	}
	for _, id := range v.Members {
		if c.dead[id] {
			continue
		}
		c.judge(c.quorum.HeartbeatUp(int(id.Node)))
		if id == c.self {
			continue
		}
		if p := c.peers[id.Node]; p != nil && p.hello && p.id == id {
			c.judge(c.quorum.ConnUp(int(id.Node)))
			p.cuts = 0
		} else {
			c.quorum.ConnErr(int(id.Node))
			c.startTimer(id.Node)
		}
	}
}

// joined lists the members that are new to this node.
func (c *Core) joined(v View) []ID {
	var out []ID
	for _, id := range v.Members {
		if !c.cur.Has(id) {
			out = append(out, id)
		}
	}
	return out
}

// departed lists who is gone since the view this node started last. A node that
// starts its first view learns of the dead of the change that took it in.
func (c *Core) departed(v View) []Gone {
	var out []Gone
	if c.cur.Num == 0 {
		for _, g := range v.Gone {
			if _, back := v.Find(g.ID.Node); g.How == Dead && !back {
				out = append(out, g)
			}
		}
		return out
	}
	for _, id := range c.cur.Members {
		if v.Has(id) {
			continue
		}
		g := Gone{ID: id, How: Dead, View: v.Num}
		for _, o := range v.Gone {
			if o.ID == id {
				g = o
			}
		}
		out = append(out, g)
	}
	return out
}
