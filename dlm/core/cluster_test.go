package core

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// A cluster of cores on a network without delays, for tests. Every message is judged by wire's CheckSend and goes
// through its encoding.

const (
	testLS  = "testls"
	testLVB = 32
)

type frame struct {
	from, to int32
	raw      []byte
	rcom     bool
}

type event struct {
	ast    bool
	status wire.Result
	flags  wire.SBF
	mode   wire.Mode
	gone   bool
	lvb    string
	id     LockID
}

func (e event) String() string {
	if !e.ast {
		return "BAST " + e.mode.String()
	}
	s := "AST " + e.status.String() + " " + e.mode.String()
	if e.flags != 0 {
		s += " " + e.flags.String()
	}
	return s
}

type node struct {
	t       *testing.T
	net     *cluster
	c       *Core
	id      int32
	events  map[LockID][]event
	byData  map[any][]event
	done    int // RecoverDone
	failed  error
	slots   []Slot
	ourSlot uint16
	gen     uint32
	slotsRe []Slot // RecoverSlot
	prep    int
	peers   []int32 // MemberAdded, and negative MemberRemoved
}

func (n *node) Send(to int32, m *wire.Message) {
	if err := m.CheckSend(); err != nil {
		n.t.Errorf("node %d sends to %d: %v", n.id, to, err)
	}
	n.net.put(frame{n.id, to, m.Append(nil), false})
}

func (n *node) SendRcom(to int32, m *wire.Rcom) {
	if err := m.CheckSend(); err != nil {
		n.t.Errorf("node %d sends to %d: %v", n.id, to, err)
	}
	n.net.put(frame{n.id, to, m.Append(nil), true})
}

func (n *node) Complete(cb *Completion) {
	e := event{ast: true, status: cb.Status, flags: cb.Flags, mode: cb.Mode, gone: cb.Gone, lvb: string(bytes.TrimRight(cb.LVB, "\x00")), id: cb.ID}
	n.events[cb.ID] = append(n.events[cb.ID], e)
	n.byData[cb.Data] = append(n.byData[cb.Data], e)
}

func (n *node) Block(cb *Blocking) {
	e := event{mode: cb.Mode, id: cb.ID}
	n.events[cb.ID] = append(n.events[cb.ID], e)
	n.byData[cb.Data] = append(n.byData[cb.Data], e)
}
func (n *node) MemberAdded(id int32)   { n.peers = append(n.peers, id) }
func (n *node) MemberRemoved(id int32) { n.peers = append(n.peers, -id) }
func (n *node) RecoverPrep()           { n.prep++ }
func (n *node) RecoverSlot(s Slot)     { n.slotsRe = append(n.slotsRe, s) }
func (n *node) RecoverDone(slots []Slot, our uint16, gen uint32) {
	n.done++
	n.slots, n.ourSlot, n.gen = append([]Slot(nil), slots...), our, gen
}
func (n *node) RecoverFailed(err error) { n.failed = err }

type cluster struct {
	t     *testing.T
	nodes map[int32]*node
	q     []frame
	hold  func(frame) bool // frames for which it is true stay in the queue
	log   []string
	now   int64
}

func newCluster(t *testing.T, ids ...int32) *cluster {
	cl := &cluster{t: t, nodes: map[int32]*node{}}
	for _, id := range ids {
		cl.add(id)
	}
	cl.start(ids...)
	for _, id := range ids {
		if cl.nodes[id].done != 1 {
			t.Fatalf("node %d did not join: %+v", id, cl.nodes[id].c.Membership())
		}
	}
	cl.log = nil
	return cl
}

func (cl *cluster) add(id int32) *node {
	n := &node{t: cl.t, net: cl, id: id, events: map[LockID][]event{}, byData: map[any][]event{}}
	c, err := New(Config{NodeID: id, Name: testLS, LVBLen: testLVB, RcomID: uint64(id) << 32}, n)
	if err != nil {
		cl.t.Fatal(err)
	}
	n.c = c
	cl.nodes[id] = n
	return n
}

func members(ids ...int32) []Member {
	var ms []Member
	for _, id := range ids {
		ms = append(ms, Member{NodeID: id, Weight: 1})
	}
	return ms
}

// start starts all of ids with each other as members and runs recovery to its end.
func (cl *cluster) start(ids ...int32) {
	for _, id := range ids {
		if err := cl.nodes[id].c.Start(members(ids...), nil); err != nil {
			cl.t.Fatal(err)
		}
	}
	cl.settle()
}

// change is a complete membership change.
func (cl *cluster) change(ids ...int32) {
	for _, id := range ids {
		n := cl.nodes[id]
		if !n.c.stopped {
			if err := n.c.Stop(); err != nil {
				cl.t.Fatal(err)
			}
		}
	}
	cl.pump()
	cl.start(ids...)
}

// kill takes a node away without a word, together with what it has in flight.
func (cl *cluster) kill(id int32) {
	delete(cl.nodes, id)
	kept := cl.q[:0]
	for _, f := range cl.q {
		if f.from != id && f.to != id {
			kept = append(kept, f)
		}
	}
	cl.q = kept
}

func (cl *cluster) put(f frame) { cl.q = append(cl.q, f) }

// pump delivers until nothing moves.
func (cl *cluster) pump() {
	for n := 0; ; n++ {
		if n > 200000 {
			cl.t.Fatalf("the network does not come to rest; last: %v", cl.log[len(cl.log)-10:])
		}
		i := 0
		for i < len(cl.q) && cl.hold != nil && cl.hold(cl.q[i]) {
			i++
		}
		if i == len(cl.q) {
			break
		}
		f := cl.q[i]
		cl.q = append(cl.q[:i:i], cl.q[i+1:]...)
		cl.deliver(f)
	}
	for _, n := range cl.nodes {
		if err := n.c.CheckInvariants(); err != nil {
			cl.t.Errorf("node %d: %v", n.id, err)
		}
	}
}

func (cl *cluster) deliver(f frame) {
	n := cl.nodes[f.to]
	if n == nil {
		return
	}
	if f.rcom {
		var m wire.Rcom
		if err := m.Decode(f.raw); err != nil {
			cl.t.Fatal(err)
		}
		cl.note(f, m.Type.String(), n.c.ReceiveRcom(f.from, &m))
		return
	}
	var m wire.Message
	if err := m.Decode(f.raw); err != nil {
		cl.t.Fatal(err)
	}
	what := m.Type.String()
	if m.Result != 0 {
		what += " " + m.Result.String()
	}
	cl.note(f, what, n.c.Receive(f.from, &m))
}

func (cl *cluster) note(f frame, what string, err error) {
	s := fmt.Sprintf("%d>%d %s", f.from, f.to, what)
	if err != nil {
		s += " (ignored)"
	}
	cl.log = append(cl.log, s)
}

// settle pumps and lets time pass until no node recovers any more.
func (cl *cluster) settle() {
	for i := 0; i < 2000; i++ {
		cl.pump()
		busy := false
		for _, n := range cl.nodes {
			busy = busy || n.c.rec.running
		}
		if !busy {
			return
		}
		cl.advance(10 * time.Millisecond)
	}
	for _, n := range cl.nodes {
		cl.t.Logf("node %d: %+v", n.id, n.c.Membership())
	}
	cl.t.Fatal("recovery does not end")
}

func (cl *cluster) advance(d time.Duration) {
	cl.now += int64(d)
	for id := int32(0); id < 100; id++ {
		if n := cl.nodes[id]; n != nil {
			n.c.Tick(cl.now)
		}
	}
	cl.pump()
}

// msgs returns the MSGs delivered since the last call, as one string.
func (cl *cluster) msgs() string {
	s := strings.Join(cl.log, ", ")
	cl.log = nil
	return s
}

func (cl *cluster) wantMsgs(want string) {
	cl.t.Helper()
	cl.pump()
	if got := cl.msgs(); got != want {
		cl.t.Errorf("messages:\n got %s\nwant %s", got, want)
	}
}

// lock requests and pumps.
func (n *node) lock(name string, mode wire.Mode, flags wire.LKF) LockID {
	n.t.Helper()
	id := n.lockOnly(name, mode, flags)
	n.net.pump()
	return id
}

func (n *node) lockOnly(name string, mode wire.Mode, flags wire.LKF) LockID {
	n.t.Helper()
	id, err := n.c.Lock(&LockReq{Name: []byte(name), Mode: mode, Flags: flags, Pid: 4242})
	if err != nil {
		n.t.Fatal(err)
	}
	return id
}

func (n *node) convert(id LockID, mode wire.Mode, flags wire.LKF, lvb string) {
	n.t.Helper()
	var b []byte
	if lvb != "" {
		b = []byte(lvb)
	}
	if err := n.c.Convert(id, mode, flags, b); err != nil {
		n.t.Fatal(err)
	}
	n.net.pump()
}

func (n *node) unlock(id LockID, flags wire.LKF, lvb string) {
	n.t.Helper()
	var b []byte
	if lvb != "" {
		b = []byte(lvb)
	}
	if err := n.c.Unlock(id, flags, b); err != nil {
		n.t.Fatal(err)
	}
	n.net.pump()
}

func (n *node) cancel(id LockID) {
	n.t.Helper()
	if err := n.c.Cancel(id); err != nil {
		n.t.Fatal(err)
	}
	n.net.pump()
}

// want compares the callbacks of a lock since the last call.
func (n *node) want(id LockID, want ...string) {
	n.t.Helper()
	var got []string
	for _, e := range n.events[id] {
		got = append(got, e.String())
	}
	delete(n.events, id)
	if strings.Join(got, "; ") != strings.Join(want, "; ") {
		n.t.Errorf("node %d lock %#x: callbacks %q, want %q", n.id, id, got, want)
	}
}

// lvb returns the LVB of the last completion of a lock.
func (n *node) lvb(id LockID) string {
	li, ok := n.c.LockInfo(id)
	if !ok {
		return "(no lock)"
	}
	return string(bytes.TrimRight(li.LVB, "\x00"))
}

// nameFor returns a resource name whose directory node is dir for the given members.
func (cl *cluster) nameFor(dir int32, prefix string) string {
	for i := 0; ; i++ {
		name := fmt.Sprintf("%s%d", prefix, i)
		for _, n := range cl.nodes {
			if !n.c.rec.running && n.c.dirNode(wire.ResourceHash([]byte(name))) == dir {
				return name
			}
			break
		}
	}
}
