package wire

import (
	"bytes"
	"testing"
)

const testlsID = 0xe5adef01

type appender interface{ Append([]byte) []byte }

func lvb32(s string) []byte { return append([]byte(s), make([]byte, 32-len(s))...) }

func opts(node, seq uint32, next Cmd, inner appender) []byte {
	return (&Opts{Header: Header{Union: seq, NodeID: node}, NextCmd: next, Inner: inner.Append(nil)}).Append(nil)
}

func head(node uint32) Header { return Header{Union: testlsID, NodeID: node} }

type encoded []byte

func (e encoded) Append(dst []byte) []byte { return append(dst, e...) }

// vectors builds every frame of testdata/vectors.txt, in its order, from structs.
func vectors() [][]byte {
	const hTestres, hRes1 = 0x9162d200, 0xe53e60eb
	unknown := (&RcomConfig{LVBLen: UnknownLVBLen}).Append(nil)
	low := (&RcomConfig{LVBLen: 32, OurSlot: 1, NumSlots: 2, Generation: 1}).Append(nil)
	low = (&RcomSlot{NodeID: 1, Slot: 1}).Append(low)
	low = (&RcomSlot{NodeID: 2, Slot: 2}).Append(low)
	names := AppendNamesEnd(AppendName(AppendName(nil, []byte("res1")), []byte("res2")), true)
	names = append(names, make([]byte, NamesBufSize-len(names))...)
	both := AstCompletion | AstBlocking
	return [][]byte{
		AppendAck(nil, 2, 7),
		opts(2, 9, CmdFin, encoded(AppendFin(nil, 2))),
		(&Rcom{Header: head(2), Type: RcomStatus, ID: 0x1122334455667788, Seq: 1,
			Buf: (&StatusRequest{Flags: NeedSlots}).Append(nil)}).Append(nil),
		(&Rcom{Header: head(2), Type: RcomStatusReply, Result: int32(RSNodes), ID: 0xa1b2c3d4e5f60718, Seq: 1, SeqReply: 3,
			Buf: (&RcomConfig{LVBLen: 32}).Append(nil)}).Append(nil),
		(&Rcom{Header: head(1), Type: RcomStatusReply, Result: int32(RSNodes | RSNodesAll), ID: 0x1122334455667788, Seq: 3,
			SeqReply: 1, Buf: low}).Append(nil),
		opts(1, 0, CmdRcom, &Rcom{Header: head(1), Type: RcomStatusReply, Result: int32(ResultSrch),
			ID: 0x1122334455667788, SeqReply: 1, Buf: unknown}),
		(&Rcom{Header: head(2), Type: RcomNames, ID: 0x1122334455667789, Seq: 1}).Append(nil),
		(&Rcom{Header: head(1), Type: RcomNamesReply, ID: 0x1122334455667789, Seq: 3, SeqReply: 1, Buf: names}).Append(nil),
		opts(2, 0, CmdMsg, &Message{Header: head(2), Type: MsgRequest, NodeID: 1, Pid: 4242, LkID: 5, ExFlags: LKFValBlk,
			Hash: hTestres, GrMode: IV, RqMode: EX, Asts: both, Extra: []byte("testres")}),
		opts(1, 0, CmdMsg, &Message{Header: head(1), Type: MsgRequestReply, NodeID: 2, Pid: 4242, LkID: 1, RemID: 5,
			ExFlags: LKFValBlk, Flags: 0x10000, Hash: hTestres, Status: StatusGranted, GrMode: EX, RqMode: IV, Asts: both,
			Extra: make([]byte, 32)}),
		opts(2, 1, CmdMsg, &Message{Header: head(2), Type: MsgLookup, NodeID: -1, Pid: 4242, LkID: 6, Hash: hRes1,
			GrMode: IV, RqMode: PR, Asts: both, Extra: []byte("res1")}),
		opts(1, 1, CmdMsg, &Message{Header: head(1), Type: MsgLookupReply, NodeID: 3, LkID: 6}),
		opts(2, 2, CmdMsg, &Message{Header: head(2), Type: MsgConvert, NodeID: 1, Pid: 4242, LkID: 5, RemID: 1,
			ExFlags: LKFConvert | LKFValBlk, Hash: hTestres, Status: StatusGranted, GrMode: EX, RqMode: PR, Asts: both,
			Extra: lvb32("LVB-from-node-2")}),
		opts(1, 2, CmdMsg, &Message{Header: head(1), Type: MsgBast, NodeID: 2, Pid: 4242, LkID: 1, RemID: 5,
			ExFlags: LKFConvert | LKFValBlk, Flags: 0x10000, LVBSeq: 1, Hash: hTestres, Status: StatusGranted, GrMode: PR,
			RqMode: IV, BastMode: EX, Asts: both}),
		opts(2, 3, CmdMsg, &Message{Header: head(2), Type: MsgUnlock, NodeID: 1, Pid: 4242, LkID: 7, RemID: 3, Hash: hRes1,
			Status: StatusGranted, GrMode: PR, RqMode: IV, Asts: both}),
		opts(1, 3, CmdMsg, &Message{Header: head(1), Type: MsgUnlockReply, NodeID: 2, Pid: 4242, LkID: 3, RemID: 7,
			Flags: 0x10000, Hash: hRes1, GrMode: IV, RqMode: IV, Asts: both, Result: ResultUnlock}),
		opts(2, 4, CmdMsg, &Message{Header: head(2), Type: MsgRemove, Hash: hRes1, Extra: []byte("res1")}),
		opts(2, 5, CmdRcom, &Rcom{Header: head(2), Type: RcomLock, ID: 0x0000c00012345678, Seq: 5,
			Buf: (&RcomLockBuf{OwnPid: 4242, LkID: 5, ExFlags: LKFValBlk, LVBSeq: 1, RqMode: IV, GrMode: PR, Status: StatusGranted,
				Asts: both, Name: []byte("testres"), LVB: lvb32("LVB-from-node-2")}).Append(nil)}),
		opts(2, 6, CmdRcom, &Rcom{Header: head(2), Type: RcomLookup, ID: 1, Seq: 5, Buf: []byte("res1")}),
		opts(1, 5, CmdRcom, &Rcom{Header: head(1), Type: RcomLookupReply, Result: 2, ID: 1, Seq: 7, SeqReply: 5}),
	}
}

// TestVectors compares encoded structs with the bytes of Linux 6.1, and reads the bytes back.
func TestVectors(t *testing.T) {
	want, have := readFrames(t, "testdata/vectors.txt"), vectors()
	if len(want) != len(have) {
		t.Fatalf("%d vectors, %d structs", len(want), len(have))
	}
	for i, w := range want {
		if !bytes.Equal(have[i], w.frame) {
			t.Errorf("%s\nhave %x\nwant %x", w.name, have[i], w.frame)
		}
		checkFrame(t, w.name, w.frame)
	}
}

// TestSizes is the size table of the protocol.
func TestSizes(t *testing.T) {
	lock := RcomLockBuf{Name: make([]byte, 64)}
	for _, c := range []struct {
		what string
		have int
		want int
	}{
		{"header", len((&Header{}).Append(nil)), 16},
		{"OPTS", len((&Opts{}).Append(nil)), 24},
		{"OPTS header only", len(AppendOpts(nil, 1, 2, CmdMsg, 88)), 24},
		{"MSG", len((&Message{}).Append(nil)), 88},
		{"RCOM", len((&Rcom{}).Append(nil)), 48},
		{"rcom_status", len((&StatusRequest{}).Append(nil)), 16},
		{"rcom_config", len((&RcomConfig{}).Append(nil)), 32},
		{"rcom_slot", len((&RcomSlot{}).Append(nil)), 16},
		{"rcom_lock", len(lock.Append(nil)), 108},
		{"ACK", len(AppendAck(nil, 1, 2)), 16},
		{"FIN", len(AppendFin(nil, 1)), 16},
		{"NAMES_REPLY", RcomSize + NamesBufSize, 4072},
		{"largest wrapped message", OptsSize + MaxInner, 4096},
		{"most slots", MaxSlots, 249},
	} {
		if c.have != c.want {
			t.Errorf("%s: %d bytes, want %d", c.what, c.have, c.want)
		}
	}
}

// TestNoAllocation: encoding into a buffer with room and decoding allocate nothing.
func TestNoAllocation(t *testing.T) {
	buf := make([]byte, 0, MaxFrame)
	m := Message{Header: head(2), Type: MsgRequest, Extra: []byte("testres")}
	r := Rcom{Header: head(2), Type: RcomLock}
	l := RcomLockBuf{Name: []byte("testres"), LVB: make([]byte, 64)}
	lb := make([]byte, 0, 256)
	frame := opts(2, 5, CmdMsg, &m)
	var o Opts
	var f Framer
	n := testing.AllocsPerRun(100, func() {
		r.Buf = l.Append(lb)
		b := r.Append(m.Append(AppendOpts(buf, 2, 5, CmdMsg, MessageSize)))
		if r.Decode(b[len(b)-int(RcomSize+len(r.Buf)):]) != nil || l.Decode(r.Buf) != nil {
			t.Fatal("does not decode")
		}
		got, _, err := f.Next(frame)
		if err != nil || o.Decode(got) != nil || m.Decode(o.Inner) != nil {
			t.Fatal("does not decode")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
