package core

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Membership and recovery (Linux fs/dlm/recoverd.c ls_recover and what it calls).

// A single member passes all steps without a message: slot 1, generation 1, all bits.
func TestFirstMount(t *testing.T) {
	n := single(t)
	if n.ourSlot != 1 || n.gen != 1 || n.c.status != 0xff || n.c.seq != 1 {
		t.Errorf("slot %d generation %d status %v seq %d", n.ourSlot, n.gen, n.c.status, n.c.seq)
	}
}

// dlm_slots_assign: slots are kept, newcomers get the lowest free ones; the generation counts.
func TestSlots(t *testing.T) {
	cl := newCluster(t, 5, 3)
	want := func(id int32, slot uint16, gen uint32) {
		t.Helper()
		if n := cl.nodes[id]; n.ourSlot != slot || n.gen != gen {
			t.Errorf("node %d: slot %d generation %d, want %d %d", id, n.ourSlot, n.gen, slot, gen)
		}
	}
	want(3, 1, 1)
	want(5, 2, 1)
	if cl.nodes[3].c.status != 0xff || cl.nodes[5].c.status != 0x55 {
		t.Errorf("final status %v %v", cl.nodes[3].c.status, cl.nodes[5].c.status)
	}
	cl.add(1)
	cl.change(1, 3, 5)
	want(1, 3, 2)
	want(3, 1, 2)
	cl.kill(3)
	cl.change(1, 5)
	want(1, 3, 3)
	cl.add(4)
	cl.change(1, 4, 5)
	want(4, 1, 4)
	if s := cl.nodes[5].slots; !reflect.DeepEqual(s, []Slot{{4, 1}, {5, 2}, {1, 3}}) {
		t.Errorf("slots %v", s)
	}
	if cl.nodes[5].c.seq != 1+3*2 {
		t.Errorf("recover_seq %d", cl.nodes[5].c.seq)
	}
}

// The kernel and our node at a join, as on the wire: traffic of the example in 7.8.
func TestJoinTraffic(t *testing.T) {
	cl := newCluster(t, 1)
	cl.add(2)
	cl.change(1, 2)
	log := cl.msgs()
	for _, want := range []string{"1>2 STATUS", "2>1 STATUS_REPLY", "2>1 NAMES", "1>2 NAMES_REPLY", "1>2 NAMES", "2>1 NAMES_REPLY"} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s in %s", want, log)
		}
	}
	if strings.Contains(log, "LOCK") || strings.Contains(log, "LOOKUP") {
		t.Errorf("locks moved at a join: %s", log)
	}
}

// check_rcom_config.
func TestConfigMismatch(t *testing.T) {
	cl := newCluster(t, 1)
	n := cl.add(2)
	n.c, _ = New(Config{NodeID: 2, Name: testLS, LVBLen: 64}, n)
	cl.nodes[1].c.Stop()
	for _, id := range []int32{1, 2} {
		if err := cl.nodes[id].c.Start(members(1, 2), nil); err != nil {
			t.Fatal(err)
		}
	}
	cl.pump()
	if !errors.Is(n.failed, ErrProto) || !strings.Contains(n.failed.Error(), "LVB length 32") {
		t.Errorf("node 2: %v", n.failed)
	}
	if !errors.Is(cl.nodes[1].failed, ErrProto) {
		t.Errorf("node 1: %v", cl.nodes[1].failed)
	}
}

// A member that does not answer, or does not know the lockspace yet (-ESRCH), is polled until it does.
func TestLateMember(t *testing.T) {
	cl := newCluster(t, 1)
	n1 := cl.nodes[1]
	n1.c.Stop()
	if err := n1.c.Start(members(1, 2), nil); err != nil {
		t.Fatal(err)
	}
	cl.pump() // lost: there is no node 2
	cl.advance(time.Duration(RecoverTime))
	cl.hold = func(frame) bool { return true }
	cl.advance(time.Duration(RecoverTime))
	if len(cl.q) != 1 {
		t.Fatalf("%d messages, want one STATUS after 5 s", len(cl.q))
	}
	var st wire.Rcom
	if err := st.Decode(cl.q[0].raw); err != nil {
		t.Fatal(err)
	}
	r, ok := UnknownLockspace(2, &st, nil)
	if !ok || r.Result != -3 || len(r.Append(nil)) != 80 {
		t.Fatalf("answer %+v", r)
	}
	cl.q, cl.hold = nil, nil
	cl.put(frame{2, 1, r.Append(nil), true})
	cl.pump()
	if n1.c.rec.step != stepNodes {
		t.Errorf("step %d, want the barrier after the ping", n1.c.rec.step)
	}
	if err := cl.add(2).c.Start(members(1, 2), nil); err != nil {
		t.Fatal(err)
	}
	cl.settle()
	if cl.nodes[2].done != 1 {
		t.Error("node 2 did not join")
	}
	if _, ok := UnknownLockspace(2, &wire.Rcom{Type: wire.RcomNames}, nil); ok {
		t.Error("NAMES for an unknown lockspace is answered")
	}
}

// dlm_recover_directory: after a pure join the directory comes from NAMES, in several chunks, and nothing moves.
func TestDirectoryRebuild(t *testing.T) {
	cl := newCluster(t, 1)
	n1 := cl.nodes[1]
	const many = 1000
	for i := 0; i < many; i++ {
		n1.lock(fmt.Sprintf("M%030d", i), wire.EX, 0)
	}
	cl.add(2)
	cl.change(1, 2)
	n2 := cl.nodes[2]
	if strings.Count(cl.msgs(), "2>1 NAMES") < 3 {
		t.Error("expected several chunks")
	}
	got := 0
	n2.c.Resources(true, func(ri *ResourceInfo) bool {
		if ri.Master != 1 || ri.Dir != 2 || ri.Active {
			t.Errorf("record %+v", ri)
		}
		got++
		return true
	})
	want := 0
	n1.c.Resources(false, func(ri *ResourceInfo) bool {
		if ri.Dir == 2 {
			want++
		}
		return true
	})
	if got != want || got < many/4 {
		t.Errorf("%d records, want %d", got, want)
	}
	id := n2.lock("M000000000000000000000000000007", wire.EX, nq)
	n2.want(id, "AST EAGAIN IV")
}

// Death of a master: granted, converting and waiting locks move to a new master, with the LVB, and go on.
func TestMasterDies(t *testing.T) {
	for _, dir := range []int32{1, 2, 3} {
		cl := newCluster(t, 1, 2, 3)
		name := cl.nameFor(dir, "r")
		keep := cl.nodes[3].lock(name, wire.NL, vb) // 3 becomes master
		w := cl.nodes[3].lock(name, wire.EX, vb)
		cl.nodes[3].unlock(w, vb, "value")
		a := cl.nodes[1].lock(name, wire.PR, vb)
		b := cl.nodes[2].lock(name, wire.PR, vb)
		c := cl.nodes[2].lock(name, wire.EX, vb)
		cl.nodes[1].convert(a, wire.PW, vb, "")
		_ = keep
		cl.kill(3)
		cl.change(1, 2)
		n1, n2 := cl.nodes[1], cl.nodes[2]
		n1.want(a, "AST 0 PR", "BAST EX")
		n2.want(b, "AST 0 PR", "BAST EX", "BAST EX")
		n2.unlock(b, 0, "")
		n1.want(a, "AST 0 PW", "BAST EX")
		if n1.lvb(a) != "value" {
			t.Errorf("directory %d: LVB %q", dir, n1.lvb(a))
		}
		n1.unlock(a, vb, "next")
		n2.want(c, "AST 0 EX")
		if n2.lvb(c) != "next" {
			t.Errorf("directory %d: LVB %q", dir, n2.lvb(c))
		}
	}
}

// recover_lvb, case by case: the value block when a node dies.
func TestLVBRecovery(t *testing.T) {
	type holder struct {
		node int32
		mode wire.Mode
	}
	for _, c := range []struct {
		what    string
		master  int32
		holders []holder
		invalid bool
	}{
		{"master survives, EX holder dies", 1, []holder{{3, wire.EX}, {2, wire.NL}}, true},
		{"master survives, PR holder dies", 1, []holder{{3, wire.PR}, {2, wire.PR}}, false},
		{"master dies, PR survives", 3, []holder{{2, wire.PR}}, false},
		{"master dies with EX, only NL survives", 3, []holder{{3, wire.EX}, {2, wire.NL}}, true},
		{"master dies, only CR survives", 3, []holder{{2, wire.CR}}, true},
		{"another than the master held EX and survives", 3, []holder{{2, wire.EX}}, false},
	} {
		cl := newCluster(t, 1, 2, 3)
		name := cl.nameFor(1, "r")
		m := cl.nodes[c.master]
		m.lock(name, wire.NL, vb)
		w := m.lock(name, wire.EX, vb)
		m.convert(w, wire.NL, vb, "value")
		ids := map[int32]LockID{}
		for _, h := range c.holders {
			ids[h.node] = cl.nodes[h.node].lock(name, wire.NL, vb)
		}
		for _, h := range c.holders {
			cl.nodes[h.node].convert(ids[h.node], h.mode, vb, "")
		}
		cl.kill(3)
		cl.change(1, 2)
		if id, ok := ids[2]; ok {
			cl.nodes[2].convert(id, wire.NL, vb, "")
		}
		p := cl.nodes[2].lock(name, wire.PR, vb)
		evs := cl.nodes[2].events[p]
		if len(evs) != 1 || (evs[0].flags&wire.SBFValNotValid != 0) != c.invalid {
			t.Errorf("%s: %v, invalid want %v", c.what, evs, c.invalid)
		}
		if !c.invalid && cl.nodes[2].lvb(p) != "value" && c.holders[0].mode != wire.EX {
			t.Errorf("%s: LVB %q", c.what, cl.nodes[2].lvb(p))
		}
	}
}

// dlm_recover_waiters_pre/_post: operations in flight to a node that dies.
func TestWaitersOfDeadMaster(t *testing.T) {
	cl := newCluster(t, 1, 2, 3)
	name := cl.nameFor(2, "r")
	n1, n3 := cl.nodes[1], cl.nodes[3]
	n3.lock(name, wire.NL, 0) // master
	up := n1.lock(name, wire.PR, 0)
	un := n1.lock(name, wire.CR, 0)
	ca := n1.lock(name, wire.PR, 0)
	upc := n1.lock(name, wire.CR, 0)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	cl.hold = func(f frame) bool { return f.from == 1 && f.to == 3 }
	must(n1.c.Unlock(un, 0, nil))
	must(n1.c.Convert(upc, wire.PR, 0, nil))
	must(n1.c.Cancel(upc))
	req := n1.lockOnly(name, wire.PR, 0)
	reqc := n1.lockOnly(name, wire.PR, 0)
	must(n1.c.Cancel(reqc))
	must(n1.c.Convert(ca, wire.CR, 0, nil)) // down: done at once, the message never arrives
	must(n1.c.Unlock(ca, 0, nil))
	cl.hold = nil
	cl.kill(3)
	cl.change(1, 2)
	n1.want(up, "AST 0 PR")
	n1.want(un, "AST 0 CR", "AST EUNLOCK IV")
	n1.want(upc, "AST 0 CR", "AST ECANCEL CR")
	n1.want(req, "AST 0 PR")
	n1.want(reqc, "AST ECANCEL IV")
	n1.want(ca, "AST 0 PR", "AST 0 CR", "AST EUNLOCK IV")
	x := cl.nodes[2].lock(name, wire.EX, nq)
	cl.nodes[2].want(x, "AST EAGAIN IV")
	for _, id := range []LockID{up, upc, req} {
		n1.unlock(id, 0, "")
	}
	x = cl.nodes[2].lock(name, wire.EX, nq)
	cl.nodes[2].want(x, "AST 0 EX")
}

// recover_convert_waiter, recover_conversion: PR->CW in flight when the master dies.
func TestMiddleConversionOfDeadMaster(t *testing.T) {
	for _, c := range []struct {
		other wire.Mode // what node 2 holds
		want  []string
	}{
		{wire.PR, []string{"AST 0 PR"}}, // not granted: waits for node 2
		{wire.NL, []string{"AST 0 PR", "AST 0 CW"}},
	} {
		for _, cancel := range []bool{false, true} {
			cl := newCluster(t, 1, 2, 3)
			name := cl.nameFor(1, "r")
			n1, n2 := cl.nodes[1], cl.nodes[2]
			cl.nodes[3].lock(name, wire.NL, 0)
			b := n2.lock(name, c.other, 0)
			a := n1.lock(name, wire.PR, 0)
			if err := n1.c.Convert(a, wire.CW, 0, nil); err != nil {
				t.Fatal(err)
			}
			if cancel {
				if err := n1.c.Cancel(a); err != nil {
					t.Fatal(err)
				}
			}
			cl.kill(3)
			cl.change(1, 2)
			want := c.want
			if cancel && c.other == wire.PR {
				want = []string{"AST 0 PR", "AST ECANCEL PR"}
			} else if cancel {
				want = []string{"AST 0 PR", "AST ECANCEL CW"}
			}
			n1.want(a, want...)
			n2.unlock(b, 0, "")
			if !cancel && c.other == wire.PR {
				n1.want(a, "AST 0 CW")
			}
			if w, _ := n1.c.Pending(); w != 0 {
				t.Error("something still waits")
			}
		}
	}
}

// Requests of the same lock made while stopped are kept and run afterwards; cancel and unlock reach them.
func TestDeferred(t *testing.T) {
	cl := newCluster(t, 1, 2)
	name := cl.nameFor(2, "r")
	n := cl.nodes[1]
	g := n.lock(name, wire.PR, vb)
	h := n.lock(name, wire.CR, vb)
	n.want(g, "AST 0 PR")
	n.want(h, "AST 0 CR")
	n.c.Stop()
	a := n.lockOnly(name, wire.PR, 0)
	b := n.lockOnly(name, wire.PR, 0)
	d := n.lockOnly(name, wire.PR, 0)
	n.cancel(b)
	n.unlock(d, force, "")
	n.convert(g, wire.EX, vb, "")
	if err := n.c.Convert(g, wire.NL, 0, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("second convert: %v", err)
	}
	n.cancel(g)
	n.unlock(h, 0, "")
	n.want(a)
	n.want(b, "AST ECANCEL IV")
	n.want(d, "AST EUNLOCK IV")
	n.want(g, "AST ECANCEL PR")
	n.want(h)
	cl.change(1, 2)
	n.want(a, "AST 0 PR")
	n.want(h, "AST EUNLOCK IV")
	if n.prep != 1 {
		t.Errorf("RecoverPrep %d times", n.prep)
	}
}

// dlm_add_requestqueue: what comes while stopped is handled afterwards, before anything new; a node that never joined
// drops it.
func TestRequestQueue(t *testing.T) {
	cl := newCluster(t, 1, 2)
	name := cl.nameFor(1, "r")
	n1, n2 := cl.nodes[1], cl.nodes[2]
	n1.lock(name, wire.NL, 0)
	warm := n2.lock(name, wire.NL, 0)
	n1.c.Stop()
	b := n2.lock(name, wire.PR, 0) // REQUEST, as the master is known
	n2.want(b)
	if n1.c.Stats().Queued != 1 {
		t.Errorf("%d messages queued", n1.c.Stats().Queued)
	}
	cl.change(1, 2)
	n2.want(b, "AST 0 PR")
	n2.want(warm, "AST 0 NL")
	fresh := cl.add(9)
	m := wire.Message{Header: wire.Header{Union: fresh.c.cfg.GlobalID, NodeID: 1}, Type: wire.MsgPurge}
	if err := fresh.c.Receive(1, &m); !errors.Is(err, ErrIgnored) {
		t.Errorf("message before the first recovery: %v", err)
	}
}

// A stop at every possible point of a recovery, then another death; nothing is lost.
func TestRecoveryInterrupted(t *testing.T) {
	for cut := 0; cut < 60; cut++ {
		cl := newCluster(t, 1, 2, 3, 4)
		var names []string
		for dir := int32(1); dir <= 4; dir++ {
			names = append(names, cl.nameFor(dir, "r"))
		}
		ids := map[string]LockID{}
		for i, name := range names {
			cl.nodes[int32(4-i%2)].lock(name, wire.NL, vb)
			ids[name] = cl.nodes[1].lock(name, wire.PR, vb)
			cl.nodes[2].lock(name, wire.EX, vb) // waits
		}
		cl.kill(4)
		for _, id := range []int32{1, 2, 3} {
			cl.nodes[id].c.Stop()
		}
		for _, id := range []int32{1, 2, 3} {
			if err := cl.nodes[id].c.Start(members(1, 2, 3), []int32{4}); err != nil {
				t.Fatal(err)
			}
		}
		for i := 0; i < cut; i++ {
			if len(cl.q) == 0 {
				cl.advanceOnly(20 * time.Millisecond)
			}
			if len(cl.q) > 0 {
				f := cl.q[0]
				cl.q = cl.q[1:]
				cl.deliver(f)
			}
		}
		if cut%2 == 0 {
			cl.kill(3)
			cl.change(1, 2)
		} else {
			cl.change(1, 2, 3)
		}
		n2 := cl.nodes[2]
		for _, name := range names {
			li, _ := cl.nodes[1].c.LockInfo(ids[name])
			if ev := cl.nodes[1].events[ids[name]]; len(ev) < 2 || li.Granted != wire.PR {
				t.Errorf("cut %d: %s: %v", cut, name, ev)
			}
			cl.nodes[1].unlock(ids[name], 0, "")
		}
		got := 0
		for id := range n2.events {
			for _, e := range n2.events[id] {
				if e.ast && e.mode == wire.EX {
					got++
				}
			}
		}
		if got != len(names) {
			t.Fatalf("cut %d: %d of %d waiting locks granted", cut, got, len(names))
		}
	}
}

func (cl *cluster) advanceOnly(d time.Duration) {
	cl.now += int64(d)
	for id := int32(0); id < 10; id++ {
		if n := cl.nodes[id]; n != nil {
			n.c.Tick(cl.now)
		}
	}
}

// A node that dies and comes back within one change counts as departed and as new (7.3).
func TestReAdded(t *testing.T) {
	cl := newCluster(t, 1, 2)
	name := cl.nameFor(1, "r")
	cl.nodes[1].lock(name, wire.NL, vb)
	w := cl.nodes[2].lock(name, wire.EX, vb)
	cl.nodes[2].convert(w, wire.NL, vb, "value")
	cl.nodes[2].convert(w, wire.EX, vb, "")
	x := cl.nodes[1].lock(name, wire.PR, vb)
	cl.kill(2)
	n2 := cl.add(2)
	n1 := cl.nodes[1]
	n1.c.Stop()
	ms := members(1, 2)
	ms[1].New = true
	if err := n1.c.Start(ms, []int32{2}); err != nil {
		t.Fatal(err)
	}
	if err := n2.c.Start(members(1, 2), nil); err != nil {
		t.Fatal(err)
	}
	cl.settle()
	n1.want(x, "AST 0 PR VALNOTVALID")
	if !reflect.DeepEqual(n1.peers, []int32{2, -2, 2}) {
		t.Errorf("member effects %v", n1.peers)
	}
	if !reflect.DeepEqual(n1.slotsRe, []Slot{{2, 2}}) {
		t.Errorf("RecoverSlot %v", n1.slotsRe)
	}
	y := n2.lock(name, wire.PR, 0)
	n2.want(y, "AST 0 PR")
}

// 7.2 and the checklist: what recovery refuses.
func TestHostileRcom(t *testing.T) {
	cl := newCluster(t, 1, 2)
	n := cl.nodes[1]
	hdr := wire.Header{Union: n.c.cfg.GlobalID, NodeID: 2}
	lock := wire.RcomLockBuf{LkID: 1, Status: 9, Name: []byte("r"), RqMode: wire.PR, GrMode: wire.IV}
	for i, m := range []wire.Rcom{
		{Header: hdr, Type: 77},
		{Header: hdr, Type: wire.RcomStatus},
		{Header: hdr, Type: wire.RcomStatusReply, SeqReply: n.c.seq},
		{Header: hdr, Type: wire.RcomStatusReply, SeqReply: n.c.seq + 1},
		{Header: hdr, Type: wire.RcomNames, Buf: make([]byte, 65)},
		{Header: hdr, Type: wire.RcomNames, Buf: []byte("unknown")},
		{Header: hdr, Type: wire.RcomNamesReply, SeqReply: n.c.seq},
		{Header: hdr, Type: wire.RcomLookup},
		{Header: hdr, Type: wire.RcomLookup, Buf: []byte(cl.nameFor(2, "x"))},
		{Header: hdr, Type: wire.RcomLookupReply, SeqReply: n.c.seq, ID: 1},
		{Header: hdr, Type: wire.RcomLock},
		{Header: hdr, Type: wire.RcomLock, Buf: lock.Append(nil)},
		{Header: hdr, Type: wire.RcomLockReply, SeqReply: n.c.seq, Buf: lock.Append(nil)},
		{Header: wire.Header{Union: 5, NodeID: 2}, Type: wire.RcomStatus},
		{Header: wire.Header{Union: n.c.cfg.GlobalID, NodeID: 1}, Type: wire.RcomStatus},
	} {
		m := m
		if err := n.c.ReceiveRcom(2, &m); !errors.Is(err, ErrIgnored) {
			t.Errorf("message %d (%v): %v", i, m.Type, err)
		}
	}
	for _, f := range cl.q {
		var r wire.Rcom
		if err := r.Decode(f.raw); err != nil || r.Type != wire.RcomLockReply {
			t.Errorf("answered with %v %v", r.Type, err)
		}
	}
	cl.q = nil
	dump := wire.Rcom{Header: hdr, Type: wire.RcomLookup, ID: 0xFFFFFFFF, Buf: []byte("x")}
	if err := n.c.ReceiveRcom(2, &dump); err != nil || len(cl.q) != 0 {
		t.Errorf("dump request: %v, %d answers", err, len(cl.q))
	}
	if err := n.c.Start(members(1), nil); !errors.Is(err, ErrState) {
		t.Errorf("start without stop: %v", err)
	}
	n.c.Stop()
	for _, ms := range [][]Member{members(2), members(1, 1), members(0, 1), nil} {
		if err := n.c.Start(ms, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("members %v: %v", ms, err)
		}
	}
}

// TestPollPauses: barriers are polled as Linux does, or, with FirstPoll, from there on doubling until Linux begins.
func TestPollPauses(t *testing.T) {
	const ms = int64(time.Millisecond)
	for first, want := range map[int64][]int64{
		0:       {20 * ms, 40 * ms, 60 * ms},
		-1:      {20 * ms, 40 * ms},
		1 * ms:  {1 * ms, 2 * ms, 4 * ms, 8 * ms, 16 * ms, 20 * ms, 40 * ms},
		30 * ms: {20 * ms, 40 * ms},
	} {
		c, _ := lone(t, 0)
		c.cfg.FirstPoll = first
		for i, w := range want {
			if got := c.pollPause(int64(i + 1)); got != w {
				t.Errorf("first %d: pause %d is %v, want %v", first, i+1, time.Duration(got), time.Duration(w))
			}
		}
		if got := c.pollPause(1000); got != pollMax {
			t.Errorf("first %d: pause 1000 is %v", first, time.Duration(got))
		}
	}
}
