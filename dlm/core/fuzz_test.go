package core

import (
	"errors"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// FuzzPeer lets a member say anything: a byte string is cut into messages, each with the header of a real one, and fed
// to a node that masters and owns locks. Nothing may panic, and the node's own structures must stay sound. (That a
// lying master can hurt its owner's locks is in the nature of the protocol.)
func FuzzPeer(f *testing.F) {
	for t := 1; t <= 14; t++ {
		f.Add([]byte{0, byte(t), 3, 1, 5, 2, 0, 0, 8, 0, 1, byte(t), 1, 2, 3, 0, 0, 2, 9, 1})
	}
	for t := 1; t <= 8; t++ {
		f.Add([]byte{1, byte(t), 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 1, byte(t), 1, 1, 1, 1, 1, 1, 1, 1, 1, 1})
	}
	f.Add([]byte{2, 3, 0, 1, 4, 1, 1, 1, 1, 1, 1, 1, 1, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		cl := newCluster(t, 1, 2)
		n := cl.nodes[1]
		cl.nodes[2].c = nil
		delete(cl.nodes, 2)
		own := n.lockOnly("own", wire.PR, vb)
		n.lockOnly("own", wire.EX, 0)
		n.lockOnly("remote", wire.EX, 0)
		for len(in) >= 10 {
			feed(n, in[:10], own)
			in = in[10:]
			cl.q = nil
			// What a new master is told about granted locks it has to believe.
			if err := n.c.CheckInvariants(); err != nil && !errors.Is(err, errGrants) {
				t.Fatal(err)
			}
		}
	})
}

// feed makes one event of ten bytes: kind, type, and eight small numbers.
func feed(n *node, b []byte, own LockID) {
	c := n.c
	names := []string{"own", "remote", "x", ""}
	name := []byte(names[b[2]%4])
	ids := []uint32{uint32(own), 1, 2, 3, 4, uint32(b[3]), 0x01000001}
	modes := []wire.Mode{wire.IV, wire.NL, wire.CR, wire.CW, wire.PR, wire.PW, wire.EX, 77, -9}
	results := []wire.Result{0, wire.ResultInProgress, wire.ResultAgain, wire.ResultUnlock, wire.ResultCancel, wire.ResultBadR,
		wire.ResultNotBlk, wire.ResultDeadlk, wire.ResultNoEnt, -999}
	hdr := wire.Header{Union: c.cfg.GlobalID, NodeID: 2}
	switch b[0] % 4 {
	case 0:
		m := wire.Message{Header: hdr, Type: wire.MsgType(b[1] % 16), NodeID: int32(b[2]%4) - 1, LkID: ids[int(b[4])%len(ids)],
			RemID: ids[int(b[5])%len(ids)], ExFlags: wire.LKF(b[6]) | wire.LKF(b[7])<<10, SBFlags: wire.SBF(b[8]),
			RqMode: modes[int(b[9])%len(modes)], GrMode: modes[int(b[8])%len(modes)], BastMode: modes[int(b[7])%len(modes)],
			Asts: 3, Result: results[int(b[3])%len(results)], Extra: name, Hash: wire.ResourceHash(name)}
		_ = c.Receive(2, &m) // refusals are what is expected
	case 1:
		l := wire.RcomLockBuf{LkID: ids[int(b[4])%len(ids)], RemID: ids[int(b[5])%len(ids)], ExFlags: wire.LKF(b[6]),
			RqMode: modes[int(b[7])%len(modes)], GrMode: modes[int(b[8])%len(modes)], Status: wire.LockStatus(b[9] % 5),
			WaitType: wire.MsgType(b[3] % 4), Name: name, LVB: make([]byte, int(b[6])%48)}
		buf := l.Append(nil)
		if b[3]%3 == 0 {
			buf = append(name, b[2:]...)
		}
		m := wire.Rcom{Header: hdr, Type: wire.RcomType(b[1] % 10), Result: int32(b[8]), ID: c.rec.rcomID - uint64(b[9]%3), Seq: 3,
			SeqReply: c.seq, Buf: buf}
		_ = c.ReceiveRcom(2, &m) // as above
	case 2:
		_ = c.Stop()
		_ = c.Start(members(1, 2)[:1+b[1]%2], nil) // refused unless stopped by a failure
	case 3:
		n.net.now += int64(b[1]) * int64(100*time.Millisecond)
		c.Tick(n.net.now)
		_ = c.Convert(own, modes[1+int(b[2])%6], vb, nil) // busy is fine
		if b[3]%4 == 0 {
			_ = c.Unlock(own, force, nil) // as above
		}
		if b[3]%4 == 1 {
			_ = c.Cancel(own) // as above
		}
	}
}
