package view

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ocfuse/ocfuse/stacks/heartbeat"
)

// peer is what is known of another node number.
type peer struct {
	connected bool
	hello     bool // a Hello came on this connection
	id        ID   // from the Hello
	state     State
	started   uint64
	acked     ballot
	cuts      int // quorum delays that passed without a connection
	timing    bool
	timer     uint64 // number of the timer that counts
}

// Core is one node's part of the agreement. It is not safe for concurrent use.
// Effects accumulate; the caller takes them with Effects after each event.
type Core struct {
	self  ID
	state State
	peers map[uint32]*peer

	cur     View        // last started; Num 0: none
	prop    View        // last acked or proposed, if its ballot is above cur's
	acked   ballot      // never acks below this
	owed    map[ID][]ID // by proposer: members of others' proposals acked since cur
	own     bool        // prop is mine and not committed
	acks    map[ID]bool // who acked my proposal
	need    []ID        // who must
	seen    uint64      // highest number heard of
	running bool        // lockspaces run with cur
	stop    bool        // Stop was sent, Stopped has not come

	dead     map[ID]bool // proven
	leavers  map[ID]bool // announced
	checked  map[ID]bool // verified joiners
	checking map[ID]bool
	others   map[uint32]ID // joining: incarnations on disk that may live
	scanned  bool          // others is complete
	stale    bool          // joining: somebody went since the slots were read
	scanning bool          // Rescan was sent

	quorum *heartbeat.Quorum
	out    []Effect
}

// New makes a Core that joins. Call Scanned once the heartbeat runs.
func New(self ID) *Core {
	return &Core{self: self, state: Joining, peers: map[uint32]*peer{}, dead: map[ID]bool{}, leavers: map[ID]bool{},
		checked: map[ID]bool{}, checking: map[ID]bool{}, others: map[uint32]ID{}, owed: map[ID][]ID{}, quorum: heartbeat.NewQuorum(int(self.Node))}
}

// Effects returns what to do and forgets it. The slice belongs to the caller.
func (c *Core) Effects() []Effect {
	out := c.out
	c.out = nil
	return out
}

// State returns where this node stands.
func (c *Core) State() State { return c.state }

// Current returns the view started last.
func (c *Core) Current() View { return c.cur }

// Pending describes what the next view waits for, or is empty.
func (c *Core) Pending() string {
	switch {
	case c.own:
		var miss []uint32
		for _, id := range c.need {
			if !c.acks[id] {
				miss = append(miss, id.Node)
			}
		}
		return fmt.Sprintf("view %d waits for nodes %v to stop", c.prop.Num, miss)
	case c.acked.num > c.cur.Num:
		return fmt.Sprintf("view %d waits for node %d to commit it", c.acked.num, c.acked.by.Node)
	case c.state == Joining && !c.scanned:
		return "the heartbeat is not running yet"
	case c.state == Joining:
		return c.joinWait()
	}
	return ""
}

// joinWait names what a joiner waits for.
func (c *Core) joinWait() string {
	for _, n := range slices.Sorted(maps.Keys(c.others)) {
		id := c.others[n]
		if c.dead[id] {
			continue
		}
		if !c.heard(id) {
			return fmt.Sprintf("node %d may be running: its heartbeat slot is in use, but it does not answer on its ip_port", n)
		}
	}
	return "waiting to be admitted"
}

func (c *Core) emit(e Effect) { c.out = append(c.out, e) }

func (c *Core) send(to uint32, m Message) {
	if p := c.peers[to]; p != nil && p.connected {
		m.From = c.self
		c.emit(Effect{Kind: Send, To: to, Msg: m})
	}
}

// broadcast sends to every connected node, ascending.
func (c *Core) broadcast(m Message) {
	for _, n := range slices.Sorted(maps.Keys(c.peers)) {
		c.send(n, m)
	}
}

func (c *Core) helloMsg() Message {
	return Message{Kind: Hello, State: c.state, Num: c.cur.Num, Seen: c.acked.num, By: c.acked.by}
}

// active says whether this node still takes part.
func (c *Core) active() bool { return c.state == Joining || c.state == Member || c.state == Leaving }

// Scanned tells which incarnations were found in other slots: once after this
// node's first heartbeat write, then in answer to Rescan. Until the first call
// nothing is formed and no Hello is sent.
func (c *Core) Scanned(found []ID) {
	for _, id := range found {
		c.seenOnDisk(id)
	}
	c.scanning = false
	if !c.scanned {
		c.scanned = true
		c.broadcast(c.helloMsg())
	}
	c.advance()
}

// fresh says whether a joiner knows everybody that is on disk. Members it knew may
// have admitted others before they went, so after every departure it looks again
// before it founds or coordinates anything.
func (c *Core) fresh() bool {
	if c.stale && !c.scanning {
		c.stale, c.scanning = false, true
		c.emit(Effect{Kind: Rescan})
	}
	return !c.scanning
}

// Seen tells that another incarnation showed up on disk.
func (c *Core) Seen(id ID) {
	c.seenOnDisk(id)
	c.advance()
}

func (c *Core) seenOnDisk(id ID) {
	// Even from a node that is connected: the connection may be a half-open one to
	// an incarnation that is long gone.
	if id.Inc != 0 && id.Node != c.self.Node && c.state == Joining && !c.dead[id] {
		c.others[id.Node] = id
	}
}

// heard tells whether an incarnation has said Hello on a connection that stands.
func (c *Core) heard(id ID) bool {
	p := c.peers[id.Node]
	return p != nil && p.hello && p.id == id
}

// Connected tells that messages can be exchanged with a node. Messages of an
// earlier connection are not delivered any more.
func (c *Core) Connected(node uint32) {
	p := c.peers[node]
	if p == nil {
		p = &peer{}
		c.peers[node] = p
	}
	p.connected, p.hello = true, false
	if c.scanned {
		c.send(node, c.helloMsg())
	}
}

// Disconnected tells that the connection to a node is lost.
func (c *Core) Disconnected(node uint32) {
	p := c.peers[node]
	if p == nil || !p.connected {
		return
	}
	p.connected, p.hello = false, false
	if !c.active() {
		return
	}
	c.quorum.ConnErr(int(node)) // never decides
	c.startTimer(node)
	c.advance()
}

// judge fences this node if o2quo says so.
func (c *Core) judge(fence bool) {
	if fence {
		c.fence("this node is not in the larger part of the cluster")
	}
}

// startTimer begins the quorum delay for a member without a connection.
func (c *Core) startTimer(node uint32) {
	p := c.peers[node]
	if id, ok := c.cur.Find(node); !ok || c.dead[id] || node == c.self.Node {
		return
	}
	if p == nil {
		p = &peer{}
		c.peers[node] = p
	}
	if !p.timing {
		p.timing = true
		p.timer++
		c.emit(Effect{Kind: Timer, To: node, Num: p.timer})
	}
}

// StillCut answers the Timer with that number, once the node's heartbeat has been
// seen to move lately (if it stands still, wait: a death may be about to show). A member that is alive and not connected for the quorum
// delay makes o2quo decide. If both ends of a cut link are quorate (a third node
// sees both), the higher one goes after patience delays, since the lock manager
// needs every link.
func (c *Core) StillCut(node uint32, timer uint64) {
	p := c.peers[node]
	if p == nil || !p.timing || p.timer != timer {
		return
	}
	p.timing = false
	id, ok := c.cur.Find(node)
	if !ok || c.dead[id] || p.connected && p.hello || !c.active() {
		p.cuts = 0
		return
	}
	p.cuts++
	if c.quorum.StillUp(int(node)) {
		c.fence(fmt.Sprintf("this node is cut off from node %d and not in the larger part of the cluster", node))
		return
	}
	if p.cuts >= patience && c.self.Node > node {
		c.fence(fmt.Sprintf("the link to node %d stays cut; the higher number of the two goes", node))
		return
	}
	c.startTimer(node)
	if p.cuts > patience {
		c.emit(Effect{Kind: GiveUp, About: id}) // it should have fenced itself by now
	}
}

// patience is how many quorum delays a link between two quorate nodes may be cut.
// The first is o2quo's; a node that o2quo condemns may need two more, because it
// first waits for proof of the death of others that went with it.
const patience = 4

func (c *Core) fence(reason string) {
	if !c.active() {
		return
	}
	c.state, c.own = Fenced, false
	c.emit(Effect{Kind: Fence, Reason: reason})
}

// Died tells that an incarnation is proven dead.
func (c *Core) Died(id ID) {
	if c.bury(id) {
		c.broadcast(Message{Kind: Proof, About: id})
	}
	c.advance()
}

// bury marks an incarnation dead; false if it was already.
func (c *Core) bury(id ID) bool {
	if id == c.self {
		c.fence("the others have proof that this node is dead")
		return false
	}
	if id.Inc == 0 || c.dead[id] {
		return false
	}
	c.dead[id] = true
	c.stale = true
	if c.others[id.Node] == id {
		delete(c.others, id.Node)
	}
	if m, ok := c.cur.Find(id.Node); ok && m == id {
		c.judge(c.quorum.HeartbeatDown(int(id.Node)))
	}
	return true
}

// Verified answers Verify; problem is empty if the node may join.
func (c *Core) Verified(id ID, problem string) {
	delete(c.checking, id)
	if problem == "" {
		c.checked[id] = true
		c.advance()
		return
	}
	if p := c.peers[id.Node]; p != nil && p.hello && p.id == id {
		c.send(id.Node, Message{Kind: Refuse, Reason: problem})
	}
}

// Leave starts this node's departure; Finished ends it. All locks must have been
// released.
func (c *Core) Leave() {
	switch c.state {
	case Joining:
		c.state = Away
		c.broadcast(c.helloMsg())
		c.emit(Effect{Kind: Finished})
	case Member:
		c.state = Leaving
		c.leavers[c.self] = true
		c.broadcast(c.helloMsg())
		c.advance()
	}
}

// Stopped answers Stop.
func (c *Core) Stopped() {
	if !c.stop {
		return
	}
	c.stop = false
	c.acknowledge()
	c.advance()
}
