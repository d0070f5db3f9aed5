package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// ID is one incarnation of a node: its number and the random generation of its
// heartbeat.
type ID struct {
	Node uint32
	Inc  uint64
}

// String returns node.incarnation, the latter shortened.
func (id ID) String() string { return fmt.Sprintf("%d.%04x", id.Node, id.Inc&0xffff) }

// How says in what way a member went.
type How uint8

// The ways.
const (
	Left How = iota + 1 // asked to, and released everything before
	Dead                // proven dead: what it held must be recovered
)

// String names the way.
func (h How) String() string {
	switch h {
	case Left:
		return "left"
	case Dead:
		return "dead"
	}
	return fmt.Sprintf("How(%d)", uint8(h))
}

// Gone is a member that is not in a view any more.
type Gone struct {
	ID   ID
	How  How
	View uint64 // the first proposal without it
}

// View is an agreed list. Members are sorted by node; node numbers are unique.
type View struct {
	Num     uint64
	By      ID // who proposed it
	Members []ID
	// Gone are the departures since view Floor, so that a member which missed
	// views learns of every one.
	Gone  []Gone
	Floor uint64
}

// Has tells whether an incarnation is a member.
func (v *View) Has(id ID) bool { return slices.Contains(v.Members, id) }

// Find returns the member with a node number.
func (v *View) Find(node uint32) (ID, bool) {
	for _, m := range v.Members {
		if m.Node == node {
			return m, true
		}
	}
	return ID{}, false
}

// String is a line for logs.
func (v *View) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "view %d:", v.Num)
	for _, m := range v.Members {
		fmt.Fprintf(&b, " %d", m.Node)
	}
	for _, g := range v.Gone {
		if g.View == v.Num {
			fmt.Fprintf(&b, ", %d %v", g.ID.Node, g.How)
		}
	}
	return b.String()
}

// ballot orders proposals: by number, then by the proposer.
type ballot struct {
	num uint64
	by  ID
}

func (v *View) ballot() ballot { return ballot{v.Num, v.By} }

func (b ballot) less(o ballot) bool {
	return cmp.Or(cmp.Compare(b.num, o.num), cmp.Compare(b.by.Node, o.by.Node)) < 0
}

// State is where a node stands; see the package comment.
type State uint8

// The states.
const (
	Joining State = iota + 1
	Member
	Leaving
	Away // has left
	Fenced
)

// String names the state.
func (s State) String() string {
	if s < Joining || s > Fenced {
		return fmt.Sprintf("State(%d)", uint8(s))
	}
	return [...]string{"joining", "member", "leaving", "left", "fenced"}[s-1]
}

// Kind is the type of a message.
type Kind uint8

// The messages.
const (
	Hello    Kind = iota + 1 // State, Num (started), Ballot acked: on connect and on change
	Propose                  // View
	Ack                      // Num, By
	Nack                     // Num, By of the refused proposal; Seen
	Commit                   // View
	Proof                    // About is dead
	Evicted                  // to a node that was declared dead
	Refuse                   // to a joiner: Reason
	Farewell                 // to a leaver: a view without it was committed
)

var kindNames = [...]string{"hello", "propose", "ack", "nack", "commit", "proof", "evicted", "refuse", "farewell"}

// String names the kind.
func (k Kind) String() string {
	if k < Hello || k > Farewell {
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
	return kindNames[k-1]
}

// Message is what nodes tell each other. Fields that a Kind does not name are
// zero.
type Message struct {
	Kind   Kind
	From   ID
	State  State  // Hello
	Num    uint64 // Hello: started view; Ack, Nack: the proposal
	By     ID     // Ack, Nack: the proposal's; Hello: of what was acked
	Seen   uint64 // Hello: number of what was acked; Nack: highest number seen
	About  ID     // Proof
	View   View   // Propose, Commit
	Reason string // Refuse
}

// EffectKind says what the shell must do.
type EffectKind uint8

// The effects.
const (
	// Send Msg to node To, in order per node, if connected.
	Send EffectKind = iota + 1
	// Stop the lockspaces and call Core.Stopped.
	Stop
	// Start the lockspaces with View; Joined and Departed are the differences to
	// the view this node started last.
	Start
	// Watch an incarnation: it may become a member, its death matters from now on.
	Watch
	// Verify that an incarnation heartbeats in its slot and call Core.Verified.
	Verify
	// Rescan: read all heartbeat slots now and call Core.Scanned.
	Rescan
	// Timer: call Core.StillCut(To, Num) after the quorum delay.
	Timer
	// GiveUp: About is cut off and will fence itself; if it runs on this host,
	// kill it and prove its death.
	GiveUp
	// Fence this node at once; Reason says why.
	Fence
	// Finished: Leave has ended, this node is out.
	Finished
	// Rejected: the cluster does not admit this node; Reason says why.
	Rejected
)

// Effect is something for the shell to do, in order.
type Effect struct {
	Kind     EffectKind
	To       uint32
	Num      uint64
	Msg      Message
	View     View
	Joined   []ID
	Departed []Gone
	About    ID
	Reason   string
}
