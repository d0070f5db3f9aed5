package core

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Message flows between nodes: dlm.md-style stories of Linux fs/dlm/lock.c send_* and receive_*.

// set_master, send_lookup; the directory node that is master takes a LOOKUP for a REQUEST.
func TestFindingTheMaster(t *testing.T) {
	cl := newCluster(t, 1, 2, 3)
	n1, n2, n3 := cl.nodes[1], cl.nodes[2], cl.nodes[3]
	name := cl.nameFor(3, "r")
	a := n1.lock(name, wire.PR, 0) // node 1 becomes master
	cl.wantMsgs("1>3 LOOKUP, 3>1 LOOKUP_REPLY")
	b := n2.lock(name, wire.PR, 0)
	cl.wantMsgs("2>3 LOOKUP, 3>2 LOOKUP_REPLY, 2>1 REQUEST, 1>2 REQUEST_REPLY")
	c := n3.lock(name, wire.PR, 0) // knows the master from its record
	cl.wantMsgs("3>1 REQUEST, 1>3 REQUEST_REPLY")
	for n, id := range map[*node]LockID{n1: a, n2: b, n3: c} {
		n.want(id, "AST 0 PR")
	}
	local := cl.nameFor(2, "s")
	d := n2.lock(local, wire.EX, 0)
	cl.wantMsgs("")
	e := n1.lock(local, wire.EX, 0)
	cl.wantMsgs("1>2 LOOKUP, 2>1 REQUEST_REPLY EINPROGRESS")
	n2.want(d, "AST 0 EX", "BAST EX")
	n2.unlock(d, 0, "")
	cl.wantMsgs("2>1 GRANT")
	n1.want(e, "AST 0 EX")
}

// Requests that come while the first one looks for the master are held (res_lookup), and end with it if need be.
func TestHeldLookups(t *testing.T) {
	cl := newCluster(t, 1, 2)
	n := cl.nodes[1]
	name := cl.nameFor(2, "r")
	a := n.lockOnly(name, wire.PR, 0)
	b := n.lockOnly(name, wire.PR, 0)
	c := n.lockOnly(name, wire.EX, 0)
	n.cancel(c) // never left
	n.want(c, "AST ECANCEL IV")
	n.want(a, "AST 0 PR")
	n.want(b, "AST 0 PR")
	cl.wantMsgs("1>2 LOOKUP, 2>1 LOOKUP_REPLY")
}

// The first request is cancelled while its LOOKUP is out: the next one takes over.
func TestCancelDuringLookup(t *testing.T) {
	cl := newCluster(t, 1, 2, 3)
	n := cl.nodes[1]
	name := cl.nameFor(3, "r")
	cl.nodes[2].lock(name, wire.NL, 0)
	a := n.lockOnly(name, wire.PR, 0)
	b := n.lockOnly(name, wire.PR, 0)
	n.cancel(a)
	n.want(a, "AST ECANCEL IV")
	n.want(b, "AST 0 PR")
	c := n.lockOnly(cl.nameFor(3, "x"), wire.PR, 0)
	if err := n.c.Unlock(c, force, nil); err != nil {
		t.Fatal(err)
	}
	cl.pump()
	n.want(c, "AST EUNLOCK IV")
	for _, m := range cl.nodes {
		if w, _ := m.c.Pending(); w != 0 {
			t.Errorf("node %d still waits", m.id)
		}
	}
}

func remotePair(t *testing.T) (cl *cluster, master, owner *node, name string) {
	cl = newCluster(t, 1, 2)
	name = cl.nameFor(1, "r")
	cl.nodes[1].lock(name, wire.NL, vb)
	cl.log = nil
	return cl, cl.nodes[1], cl.nodes[2], name
}

// send_convert: down conversions are not answered, all others are.
func TestRemoteConvert(t *testing.T) {
	cl, _, n, name := remotePair(t)
	id := n.lock(name, wire.EX, vb)
	cl.wantMsgs("2>1 LOOKUP, 1>2 REQUEST_REPLY")
	n.convert(id, wire.PR, vb, "v1")
	cl.wantMsgs("2>1 CONVERT")
	n.convert(id, wire.PR, vb, "")
	cl.wantMsgs("2>1 CONVERT, 1>2 CONVERT_REPLY")
	n.convert(id, wire.CW, vb, "") // middle
	cl.wantMsgs("2>1 CONVERT, 1>2 CONVERT_REPLY")
	n.convert(id, wire.EX, vb, "")
	cl.wantMsgs("2>1 CONVERT, 1>2 CONVERT_REPLY")
	if n.lvb(id) != "v1" {
		t.Errorf("LVB %q", n.lvb(id))
	}
	n.unlock(id, vb, "v2")
	cl.wantMsgs("2>1 UNLOCK, 1>2 UNLOCK_REPLY EUNLOCK")
	n.want(id, "AST 0 EX", "AST 0 PR", "AST 0 PR", "AST 0 CW", "AST 0 EX", "AST EUNLOCK IV")
	id = n.lock(name, wire.CR, vb)
	if n.lvb(id) != "v2" {
		t.Errorf("LVB %q after unlock", n.lvb(id))
	}
}

// receive_convert_reply with -EINPROGRESS, -EDEADLK, -EAGAIN; GRANT; BAST.
func TestRemoteBlockedConvert(t *testing.T) {
	cl, m, n, name := remotePair(t)
	a := m.lock(name, wire.PR, 0)
	b := n.lock(name, wire.PR, 0)
	n.convert(b, wire.EX, nq, "")
	n.want(b, "AST 0 PR", "AST EAGAIN PR")
	m.want(a, "AST 0 PR")
	n.convert(b, wire.EX, 0, "")
	m.want(a, "BAST EX")
	n.want(b)
	m.convert(a, wire.NL, 0, "")
	n.want(b, "AST 0 EX")
	n.convert(b, wire.PR, 0, "")
	m.convert(a, wire.PR, 0, "")
	m.convert(a, wire.EX, 0, "")
	n.convert(b, wire.EX, 0, "")
	n.want(b, "AST 0 PR", "BAST EX", "AST EDEADLK PR")
	cl.log = nil
	n.convert(b, wire.EX, wire.LKFConvDeadlk, "")
	cl.wantMsgs("2>1 CONVERT, 1>2 CONVERT_REPLY EINPROGRESS")
	m.want(a, "AST 0 NL", "AST 0 PR", "AST 0 EX", "BAST EX")
	m.unlock(a, 0, "")
	n.want(b, "AST 0 EX DEMOTED")
}

// ALTPR remotely: munge_altmode.
func TestRemoteAltMode(t *testing.T) {
	_, m, n, name := remotePair(t)
	m.lock(name, wire.PR, 0)
	b := n.lock(name, wire.EX, wire.LKFAltPR)
	n.want(b, "AST 0 PR ALTMODE")
	if li, _ := n.c.LockInfo(b); li.Granted != wire.PR {
		t.Errorf("owner holds %v", li.Granted)
	}
}

// Cancel of a queued request and of a queued conversion.
func TestRemoteCancel(t *testing.T) {
	cl, m, n, name := remotePair(t)
	a := m.lock(name, wire.PR, 0)
	b := n.lock(name, wire.EX, 0)
	cl.log = nil
	n.cancel(b)
	cl.wantMsgs("2>1 CANCEL, 1>2 CANCEL_REPLY ECANCEL")
	n.want(b, "AST ECANCEL IV")
	c := n.lock(name, wire.PR, 0)
	n.convert(c, wire.EX, 0, "")
	n.cancel(c)
	n.want(c, "AST 0 PR", "AST ECANCEL PR")
	m.want(a, "AST 0 PR", "BAST EX") // highbast stays until a's next grant
	n.unlock(c, 0, "")
	n.want(c, "AST EUNLOCK IV")
}

// Overlap, _remove_from_waiters: cancel and force-unlock while REQUEST or CONVERT is in flight.
func TestOverlap(t *testing.T) {
	cl, m, n, name := remotePair(t)
	a := m.lock(name, wire.PR, 0)
	cl.log = nil
	steal := func(mode wire.Mode) LockID { return n.lockOnly(name, mode, 0) }

	b := steal(wire.EX) // blocked; cancelled before the reply
	n.cancel(b)
	cl.wantMsgs("2>1 LOOKUP, 1>2 REQUEST_REPLY EINPROGRESS, 2>1 CANCEL, 1>2 CANCEL_REPLY ECANCEL")
	n.want(b, "AST ECANCEL IV")

	b = steal(wire.PR) // granted: the cancel is moot
	n.cancel(b)
	cl.wantMsgs("2>1 REQUEST, 1>2 REQUEST_REPLY")
	n.want(b, "AST 0 PR")

	c := steal(wire.PR)
	n.unlock(c, force, "")
	cl.wantMsgs("2>1 REQUEST, 1>2 REQUEST_REPLY, 2>1 UNLOCK, 1>2 UNLOCK_REPLY EUNLOCK")
	n.want(c, "AST 0 PR", "AST EUNLOCK IV")

	if err := n.c.Convert(b, wire.CR, 0, nil); err != nil { // down: answered at once, nothing in flight
		t.Fatal(err)
	}
	if err := n.c.Convert(b, wire.PR, 0, nil); err != nil {
		t.Fatal(err)
	}
	n.cancel(b) // two replies; the conversion is granted first
	cl.wantMsgs("2>1 CONVERT, 2>1 CONVERT, 2>1 CANCEL, 1>2 CONVERT_REPLY, 1>2 CANCEL_REPLY (ignored)")
	n.want(b, "AST 0 CR", "AST 0 PR")

	if err := n.c.Convert(b, wire.EX, 0, nil); err != nil {
		t.Fatal(err)
	}
	n.cancel(b)
	n.want(b, "AST ECANCEL PR")
	m.unlock(a, 0, "")

	if err := n.c.Convert(b, wire.EX, 0, nil); err != nil {
		t.Fatal(err)
	}
	n.unlock(b, force, "")
	n.want(b, "AST 0 EX", "AST EUNLOCK IV")
	if w, _ := n.c.Pending(); w != 0 {
		t.Error("something still waits")
	}
}

// A cancel that a GRANT overtakes leaves the lock usable at once, and its late reply is not taken for another's.
func TestCancelOvertakenByGrant(t *testing.T) {
	cl, m, n, name := remotePair(t)
	a := m.lock(name, wire.PR, 0)
	b := n.lock(name, wire.PR, 0)
	n.convert(b, wire.EX, 0, "")
	if err := m.c.Unlock(a, 0, nil); err != nil { // GRANT under way
		t.Fatal(err)
	}
	if err := n.c.Cancel(b); err != nil {
		t.Fatal(err)
	}
	cl.hold = func(f frame) bool { return f.from == 2 }
	cl.pump()
	n.want(b, "AST 0 PR", "AST 0 EX")
	if err := n.c.Convert(b, wire.NL, 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := n.c.Convert(b, wire.PR, 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := n.c.Cancel(b); err != nil {
		t.Fatal(err)
	}
	cl.hold = nil
	cl.pump()
	n.want(b, "AST 0 NL", "AST 0 PR")
	n.convert(b, wire.EX, 0, "")
	n.want(b, "AST 0 EX")
}

// shrink_bucket, receive_remove.
func TestRemove(t *testing.T) {
	cl := newCluster(t, 1, 2, 3)
	n1, n2 := cl.nodes[1], cl.nodes[2]
	name := cl.nameFor(3, "r")
	id := n1.lock(name, wire.PR, 0)
	n1.unlock(id, 0, "")
	cl.log = nil
	cl.advance(5 * time.Second)
	cl.wantMsgs("")
	n1.unlock(n1.lock(name, wire.PR, 0), 0, "") // used again: still master, no lookup
	cl.wantMsgs("")
	cl.advance(20 * time.Second)
	cl.wantMsgs("1>3 REMOVE")
	for _, n := range cl.nodes {
		if _, res := n.c.Counts(); res != 0 {
			t.Errorf("node %d remembers %d resources", n.id, res)
		}
	}
	n2.lock(name, wire.PR, 0)
	cl.wantMsgs("2>3 LOOKUP, 3>2 LOOKUP_REPLY")
	// The directory keeps the record of a master that still uses the resource.
	cl.advance(time.Minute)
	if _, res := cl.nodes[3].c.Counts(); res != 1 {
		t.Error("the directory record is gone")
	}
	cl.wantMsgs("")
}

// A cached master that is out of date: REQUEST, -EBADR, LOOKUP again (receive_request_reply).
func TestStaleMaster(t *testing.T) {
	cl := newCluster(t, 1, 2, 3)
	n1, n2 := cl.nodes[1], cl.nodes[2]
	name := cl.nameFor(3, "r")
	a := n1.lock(name, wire.PR, 0)
	n2.unlock(n2.lock(name, wire.PR, 0), 0, "") // node 2 caches master 1
	n1.unlock(a, 0, "")
	cl.now += int64(11 * time.Second)
	n1.c.Tick(cl.now) // node 1 forgets, node 2 does not
	cl.pump()
	cl.log = nil
	b := n2.lock(name, wire.EX, 0)
	cl.wantMsgs("2>1 REQUEST, 1>2 REQUEST_REPLY EBADR, 2>3 LOOKUP, 3>2 LOOKUP_REPLY")
	n2.want(b, "AST 0 EX")
}

// REMOVE crosses the directory node's own REQUEST: the former master creates the resource again (5.3 "F == D").
func TestRemoveRace(t *testing.T) {
	cl := newCluster(t, 1, 2)
	n1, n2 := cl.nodes[1], cl.nodes[2]
	name := cl.nameFor(2, "r")
	n1.unlock(n1.lock(name, wire.PR, 0), 0, "")
	cl.log = nil
	cl.now += int64(11 * time.Second)
	b := n2.lockOnly(name, wire.EX, 0)
	n1.c.Tick(cl.now)
	cl.wantMsgs("2>1 REQUEST, 1>2 REMOVE, 1>2 REQUEST_REPLY")
	n2.want(b, "AST 0 EX")
	if li := n1.c.table.find([]byte(name), wire.ResourceHash([]byte(name))); li == nil || li.master != 1 {
		t.Error("node 1 is not the master")
	}
}

// -ENOTBLK: a REQUEST reaches a node that does not know yet that it is the master.
func TestNotBlk(t *testing.T) {
	cl := newCluster(t, 1, 2, 3)
	n1, n2 := cl.nodes[1], cl.nodes[2]
	name := cl.nameFor(3, "r")
	a := n1.lockOnly(name, wire.PR, 0)
	rounds := 0
	cl.hold = func(f frame) bool { return f.from == 3 && f.to == 1 && rounds < 3 }
	b := n2.lockOnly(name, wire.PR, 0)
	for ; rounds < 3; rounds++ {
		for i := 0; i < 8 && len(cl.q) > 0; i++ { // some rounds of the storm
			for j, f := range cl.q {
				if !cl.hold(f) {
					cl.q = append(cl.q[:j:j], cl.q[j+1:]...)
					cl.deliver(f)
					break
				}
			}
		}
	}
	cl.pump()
	if log := cl.msgs(); !strings.Contains(log, "REQUEST_REPLY ENOTBLK") {
		t.Errorf("no -ENOTBLK in %s", log)
	}
	n1.want(a, "AST 0 PR")
	n2.want(b, "AST 0 PR")
}

// PURGE reaches the node named.
func TestRemotePurge(t *testing.T) {
	cl, m, n, name := remotePair(t)
	n.lock(name, wire.EX, wire.LKFPersistent)
	n.c.ClearOwner(4242)
	if err := m.c.Purge(2, 1); err != nil {
		t.Fatal(err)
	}
	cl.pump()
	b := m.lock(name, wire.PR, 0)
	m.want(b)
	if err := m.c.Purge(2, 4242); err != nil {
		t.Fatal(err)
	}
	cl.pump()
	m.want(b, "AST 0 PR")
}

// The master echoes the low flag bits of the owner in all it sends (Linux would crash on a missing USER), masked.
func TestFlagsEchoed(t *testing.T) {
	cl, m, _, name := remotePair(t)
	var replies []*wire.Message
	say := func(x wire.Message) {
		x.Header = wire.Header{Union: m.c.cfg.GlobalID, NodeID: 2}
		x.Flags = wire.IFLUser | 0x00f50000
		x.Hash = wire.ResourceHash([]byte(name))
		if err := m.c.Receive(2, &x); err != nil {
			t.Fatal(err)
		}
		for _, f := range cl.q {
			var r wire.Message
			if err := r.Decode(f.raw); err != nil {
				t.Fatal(err)
			}
			replies = append(replies, &r)
		}
		cl.q = nil
	}
	a := m.lock(name, wire.PR, 0)
	say(wire.Message{Type: wire.MsgRequest, LkID: 7, RqMode: wire.EX, Asts: 3, Extra: []byte(name)})
	id := replies[0].LkID
	m.unlock(a, 0, "")
	m.lock(name, wire.EX, 0)
	for _, f := range cl.q {
		_ = f
	}
	say(wire.Message{Type: wire.MsgConvert, LkID: 7, RemID: id, RqMode: wire.EX, ExFlags: vb | wire.LKFConvert})
	say(wire.Message{Type: wire.MsgCancel, LkID: 7, RemID: id})
	say(wire.Message{Type: wire.MsgUnlock, LkID: 7, RemID: id})
	say(wire.Message{Type: wire.MsgUnlock, LkID: 7, RemID: id}) // gone: -ENOENT
	if len(replies) < 5 {
		t.Fatalf("%d replies", len(replies))
	}
	for _, r := range replies {
		if r.Flags != wire.IFLUser {
			t.Errorf("%v has m_flags %#x", r.Type, uint32(r.Flags))
		}
	}
}

// The messages are byte for byte what a kernel sends (ids and numbers chosen as in the vectors).
func TestVectors(t *testing.T) {
	cl := newCluster(t, 1, 2)
	n := cl.nodes[2]
	for n.c.ids.n < 4 {
		n.c.ids.add(new(lkb))
	}
	hexOf := func() string {
		f := cl.q[0]
		cl.q = nil
		return hex.EncodeToString(f.raw)
	}
	check := func(what, got, want string) {
		t.Helper()
		if want = strings.ReplaceAll(want, " ", ""); got != want {
			t.Errorf("%s:\n got %s\nwant %s", what, got, want)
		}
	}
	// testres is mastered and registered on node 1: make node 2 know that.
	r := n.c.newRsb([]byte("testres"), wire.ResourceHash([]byte("testres")))
	r.master = 1
	n.c.inactive.push(r)
	id := n.lockOnly("testres", wire.EX, vb)
	check("REQUEST", hexOf(), "02000300 01efade5 02000000 5f000100 01000000 01000000 92100000 05000000 00000000 00000000 00000000 08000000 00000000 00000000 00000000 00d26291 00000000 ffffffff 05000000 00000000 03000000 00000000 74657374726573")
	reply := wire.Message{Header: wire.Header{Union: n.c.cfg.GlobalID, NodeID: 1}, Type: wire.MsgRequestReply, LkID: 1, RemID: uint32(id), LVBSeq: 0, Extra: make([]byte, 32)}
	if err := n.c.Receive(1, &reply); err != nil {
		t.Fatal(err)
	}
	if err := n.c.Convert(id, wire.PR, vb, []byte("LVB-from-node-2")); err != nil {
		t.Fatal(err)
	}
	check("CONVERT", hexOf(), "02000300 01efade5 02000000 78000100 02000000 01000000 92100000 05000000 01000000 00000000 00000000 0c000000 00000000 00000000 00000000 00d26291 02000000 05000000 03000000 00000000 03000000 00000000 4c56422d66726f6d2d6e6f64652d3200 00000000000000000000000000000000")
	n.lockOnly("res1", wire.PR, 0) // lkid 6; directory node 1
	check("LOOKUP", hexOf(), "02000300 01efade5 02000000 5c000100 0b000000 ffffffff 92100000 06000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 eb603ee5 00000000 ffffffff 03000000 00000000 03000000 00000000 72657331")
	look := wire.Message{Header: wire.Header{Union: n.c.cfg.GlobalID, NodeID: 1}, Type: wire.MsgRequestReply, LkID: 3, RemID: 6}
	if err := n.c.Receive(1, &look); err != nil {
		t.Fatal(err)
	}
	if err := n.c.Unlock(6, 0, nil); err != nil {
		t.Fatal(err)
	}
	check("UNLOCK", hexOf(), "02000300 01efade5 02000000 58000100 03000000 01000000 92100000 06000000 03000000 00000000 00000000 00000000 00000000 00000000 00000000 eb603ee5 02000000 03000000 ffffffff 00000000 03000000 00000000")
}

func TestVectorsOfMaster(t *testing.T) {
	cl := newCluster(t, 1, 2)
	n := cl.nodes[1]
	in := wire.Message{Header: wire.Header{Union: n.c.cfg.GlobalID, NodeID: 2}, Type: wire.MsgRequest, Pid: 4242, LkID: 5, ExFlags: vb, RqMode: wire.EX, Asts: 3, Extra: []byte("testres")}
	if err := n.c.Receive(2, &in); err != nil {
		t.Fatal(err)
	}
	want := strings.ReplaceAll("02000300 01efade5 01000000 78000100 05000000 02000000 92100000 01000000 05000000 00000000 00000000 08000000 00000000 00000000 00000000 00d26291 02000000 05000000 ffffffff 00000000 03000000 00000000", " ", "") + strings.Repeat("00", 32)
	if got := hex.EncodeToString(cl.q[0].raw); got != want {
		t.Errorf("REQUEST_REPLY:\n got %s\nwant %s", got, want)
	}
	cl.q = nil
	n.lockOnly("testres", wire.EX, 0)
	want = strings.ReplaceAll("02000300 01efade5 01000000 58000100 0a000000 02000000 92100000 01000000 05000000 00000000 00000000 08000000 00000000 00000000 00000000 00d26291 02000000 05000000 ffffffff 05000000 03000000 00000000", " ", "")
	if got := hex.EncodeToString(cl.q[0].raw); got != want {
		t.Errorf("BAST:\n got %s\nwant %s", got, want)
	}
}

// Section "what can crash, wedge or silently lose": what we must not do is checked on every message by CheckSend and the
// decoders; here is what hostile or confused peers may send us.
func TestHostileMessages(t *testing.T) {
	cl := newCluster(t, 1, 2, 3)
	n := cl.nodes[1]
	own := n.lock("own", wire.PR, 0)
	hdr := wire.Header{Union: n.c.cfg.GlobalID, NodeID: 2}
	for i, m := range []wire.Message{
		{Header: hdr, Type: 99},
		{Header: hdr, Type: wire.MsgRequest},
		{Header: hdr, Type: wire.MsgRequest, RqMode: 6, Extra: []byte("x")},
		{Header: hdr, Type: wire.MsgRequest, RqMode: -5, Extra: []byte("x")},
		{Header: hdr, Type: wire.MsgRequest, Extra: make([]byte, 65)},
		{Header: hdr, Type: wire.MsgLookup, Extra: make([]byte, 65)},
		{Header: hdr, Type: wire.MsgUnlock, RemID: uint32(own)},
		{Header: hdr, Type: wire.MsgCancel, RemID: uint32(own)},
		{Header: hdr, Type: wire.MsgGrant, RemID: uint32(own)},
		{Header: hdr, Type: wire.MsgGrant, RemID: 12345},
		{Header: hdr, Type: wire.MsgBast, RemID: uint32(own), BastMode: 9},
		{Header: hdr, Type: wire.MsgRequestReply, RemID: uint32(own), Result: -9999},
		{Header: hdr, Type: wire.MsgConvertReply, RemID: uint32(own)},
		{Header: hdr, Type: wire.MsgUnlockReply, RemID: uint32(own), Result: wire.ResultUnlock},
		{Header: hdr, Type: wire.MsgCancelReply, RemID: uint32(own), Result: wire.ResultCancel},
		{Header: hdr, Type: wire.MsgLookupReply, LkID: uint32(own), NodeID: 0},
		{Header: hdr, Type: wire.MsgRemove, Extra: []byte("x")},
		{Header: hdr, Type: wire.MsgPurge, NodeID: 3},
		{Header: wire.Header{Union: 1, NodeID: 2}, Type: wire.MsgPurge},
		{Header: wire.Header{Union: n.c.cfg.GlobalID, NodeID: 3}, Type: wire.MsgPurge},
	} {
		m := m
		err := n.c.Receive(2, &m)
		cl.pump()
		refused := m.Type == wire.MsgUnlock || m.Type == wire.MsgCancel // -ENOENT: m_lkid does not match
		if !errors.Is(err, ErrIgnored) && !refused {
			t.Errorf("message %d (%v): %v", i, m.Type, err)
		}
	}
	if err := n.c.Receive(9, &wire.Message{Header: wire.Header{Union: n.c.cfg.GlobalID, NodeID: 9}, Type: wire.MsgPurge}); !errors.Is(err, ErrIgnored) {
		t.Errorf("message of a stranger: %v", err)
	}
	n.want(own, "AST 0 PR")
	if li, ok := n.c.LockInfo(own); !ok || li.Granted != wire.PR {
		t.Errorf("own lock: %+v", li)
	}
}
