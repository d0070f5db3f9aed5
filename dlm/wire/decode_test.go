package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"syscall"
	"testing"
)

// TestRefused: every length check, with the structure and field the error must name.
func TestRefused(t *testing.T) {
	msg := (&Message{Header: head(1), Type: MsgBast}).Append(nil)
	rcom := (&Rcom{Header: head(1), Type: RcomNames}).Append(nil)
	set := func(b []byte, off int, v ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[off:], v)
		return b
	}
	wrap := func(next Cmd, inner []byte) []byte {
		return append(AppendOpts(nil, 1, 0, next, len(inner)), inner...)
	}
	var (
		m Message
		r Rcom
		o Opts
		h Header
		s StatusRequest
		c RcomConfig
		l RcomLockBuf
	)
	ack := func(b []byte) error { return h.DecodeBare(b, CmdAck) }
	config := func(b []byte) error { _, err := c.Decode(b); return err }
	names := func(b []byte) error { return checkNames(b) }
	lock := (&RcomLockBuf{Name: []byte("x"), Status: StatusGranted}).Append(nil)
	for _, x := range []struct {
		what   string
		decode func([]byte) error
		in     []byte
		kind   error
		field  string
	}{
		{"empty", m.Decode, nil, ErrShort, "header.h_version"},
		{"15 bytes", m.Decode, msg[:15], ErrShort, "header.h_version"},
		{"version 4.2", m.Decode, set(msg, 0, 2, 0, 4, 0), ErrVersion, "msg.h_version"},
		{"version 3.3", m.Decode, set(msg, 0, 3), ErrVersion, "msg.h_version"},
		{"rcom as msg", m.Decode, rcom, ErrCmd, "msg.h_cmd"},
		{"msg as rcom", r.Decode, msg, ErrCmd, "rcom.h_cmd"},
		{"msg 87", m.Decode, set(msg[:87], 12, 87), ErrShort, "msg.h_length"},
		{"msg length 89 of 88", m.Decode, set(msg, 12, 89), ErrLength, "msg.h_length"},
		{"msg 5000", m.Decode, append(set(msg, 12, 0x88, 0x13), make([]byte, 4912)...), ErrLength, "msg.h_length"},
		{"rcom 47", r.Decode, set(rcom[:47], 12, 47), ErrShort, "rcom.h_length"},
		{"ack 17", ack, append(set(AppendAck(nil, 1, 1), 12, 17), 0), ErrLength, "ACK.h_length"},
		{"opts 23", o.Decode, set(wrap(CmdMsg, msg)[:23], 12, 23), ErrShort, "opts.h_length"},
		{"opts of opts", o.Decode, wrap(CmdOpts, wrap(CmdMsg, msg)), ErrCmd, "opts.o_nextcmd"},
		{"opts of ack", o.Decode, wrap(CmdAck, AppendAck(nil, 1, 1)), ErrCmd, "opts.o_nextcmd"},
		{"opts of 200", o.Decode, wrap(200, msg), ErrCmd, "opts.o_nextcmd"},
		{"optlen too long", o.Decode, set(wrap(CmdMsg, msg), 18, 89), ErrLength, "opts.o_optlen"},
		{"optlen eats msg", o.Decode, set(wrap(CmdMsg, msg), 18, 8), ErrShort, "opts.inner"},
		{"inner fin 15", o.Decode, wrap(CmdFin, AppendFin(nil, 1)[:15]), ErrShort, "opts.inner"},
		{"inner rcom 47", o.Decode, wrap(CmdRcom, rcom[:47]), ErrShort, "opts.inner"},
		{"inner cmd differs", o.Decode, wrap(CmdRcom, msg), ErrCmd, "opts.inner h_cmd"},
		{"inner length less", o.Decode, wrap(CmdMsg, set(msg, 12, 87)), ErrLength, "opts.inner h_length"},
		{"inner length more", o.Decode, wrap(CmdMsg, set(msg, 12, 89)), ErrLength, "opts.inner h_length"},
		{"status 15", s.Decode, make([]byte, 15), ErrShort, "rcom_status.rs_flags"},
		{"config 31", config, make([]byte, 31), ErrShort, "rcom_config.rf_lvblen"},
		{"slot missing", config, set(make([]byte, 47), 14, 1), ErrLength, "rcom_config.rf_num_slots"},
		{"lock 107", l.Decode, lock[:107], ErrShort, "rcom_lock.rl_ownpid"},
		{"lock name 65", l.Decode, set(lock, 42, 65), ErrLength, "rcom_lock.rl_namelen"},
		{"names empty", names, nil, ErrShort, "names.terminator"},
		{"names 1 byte", names, []byte{0}, ErrShort, "names.terminator"},
		{"name 65", names, append([]byte{0, 65}, make([]byte, 70)...), ErrLength, "names.name length"},
		{"name cut", names, []byte{0, 4, 'r', 'e', 's'}, ErrShort, "names.name"},
		{"names without end", names, []byte{0, 1, 'r'}, ErrShort, "names.terminator"},
	} {
		err := x.decode(x.in)
		if !errors.Is(err, x.kind) || !strings.Contains(err.Error(), x.field) {
			t.Errorf("%s: %v, want %v in %s", x.what, err, x.kind, x.field)
		}
	}
}

// TestCheckSend: each line is one thing a Linux 6.1 peer would not survive or would misunderstand.
func TestCheckSend(t *testing.T) {
	good := Message{Header: head(2), Type: MsgRequest, Hash: 0x9162d200, GrMode: IV, RqMode: EX, Extra: []byte("testres")}
	if err := good.CheckSend(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		field string
		spoil func(*Message)
	}{
		{"h_version", func(m *Message) { m.Header.Version = Version31 }},
		{"m_type", func(m *Message) { m.Type = 0 }},
		{"m_type", func(m *Message) { m.Type = 15 }},
		{"m_flags", func(m *Message) { m.Flags = IFLStub }},
		{"m_flags", func(m *Message) { m.Flags = 0x10000 }},
		{"m_parent_lkid", func(m *Message) { m.ParentLkID = 1 }},
		{"m_parent_remid", func(m *Message) { m.ParentRemID = 1 }},
		{"name", func(m *Message) { m.Extra = nil }},
		{"name", func(m *Message) { m.Extra = make([]byte, 65) }},
		{"m_hash", func(m *Message) { m.Hash++ }},
		{"m_rqmode", func(m *Message) { m.RqMode = IV }},
		{"m_rqmode", func(m *Message) { m.RqMode = 6 }},
		{"m_sbflags", func(m *Message) { m.SBFlags = SBFDemoted }},
		{"m_result", func(m *Message) { m.Result = -5 }},
		{"m_extra", func(m *Message) { m.Type = MsgBast }},
		{"LVB", func(m *Message) { m.Type, m.Extra = MsgGrant, make([]byte, MaxExtra+1) }},
		{"m_grmode", func(m *Message) { m.Type, m.Extra = MsgGrant, nil }},
		{"m_bastmode", func(m *Message) { m.Type, m.Extra, m.Asts, m.BastMode = MsgBast, nil, 3, IV }},
		{"m_asts", func(m *Message) { m.Type, m.Extra, m.Asts, m.BastMode = MsgBast, nil, AstCompletion, EX }},
		{"m_nodeid", func(m *Message) { m.Type, m.Extra, m.NodeID = MsgLookupReply, nil, 0 }},
		{"m_nodeid", func(m *Message) { m.Type, m.Extra, m.NodeID = MsgLookupReply, nil, -2 }},
	} {
		m := good
		c.spoil(&m)
		if err := m.CheckSend(); err == nil || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s: %v", c.field, err)
		}
	}
	lock := func(f func(*RcomLockBuf)) []byte {
		l := RcomLockBuf{Status: StatusGranted, GrMode: PR, RqMode: IV, Name: []byte("x")}
		f(&l)
		return l.Append(nil)
	}
	for _, c := range []struct {
		field string
		r     Rcom
	}{
		{"rc_type", Rcom{}},
		{"h_version", Rcom{Header: Header{Version: Version31}, Type: RcomNames}},
		{"rc_buf", Rcom{Type: RcomNames, Buf: make([]byte, 65)}},
		{"rc_buf", Rcom{Type: RcomNames, Buf: make([]byte, MaxRcomBuf+1)}},
		{"rc_buf", Rcom{Type: RcomLookup}},
		{"rc_result", Rcom{Type: RcomLookupReply}},
		{"rc_result", Rcom{Type: RcomLookupReply, Result: -3}},
		{"rs_flags", Rcom{Type: RcomStatus}},
		{"rf_lvblen", Rcom{Type: RcomStatusReply}},
		{"terminator", Rcom{Type: RcomNamesReply}},
		{"rl_status", Rcom{Type: RcomLock, Buf: lock(func(l *RcomLockBuf) { l.Status = 0 })}},
		{"rl_status", Rcom{Type: RcomLock, Buf: lock(func(l *RcomLockBuf) { l.Status = 4 })}},
		{"rl_rqmode", Rcom{Type: RcomLock, Buf: lock(func(l *RcomLockBuf) { l.RqMode = 6 })}},
		{"rl_grmode", Rcom{Type: RcomLockReply, Buf: lock(func(l *RcomLockBuf) { l.GrMode = -2 })}},
		{"rl_parent_lkid", Rcom{Type: RcomLock, Buf: lock(func(l *RcomLockBuf) { l.ParentLkID = 1 })}},
		{"rl_flags", Rcom{Type: RcomLock, Buf: lock(func(l *RcomLockBuf) { l.Flags = 0x10000 })}},
	} {
		if err := c.r.CheckSend(); err == nil || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s: %v", c.field, err)
		}
	}
}

func TestResult(t *testing.T) {
	for e, want := range map[syscall.Errno]Result{
		syscall.ENOENT: -2, syscall.ESRCH: -3, syscall.EAGAIN: -11, syscall.ENOMEM: -12, syscall.ENOTBLK: -15,
		syscall.EBUSY: -16, syscall.EEXIST: -17, syscall.EINVAL: -22, syscall.EDEADLK: -35, syscall.EBADR: -53,
		syscall.EBADSLT: -57, syscall.EPROTO: -71, syscall.EOPNOTSUPP: -95, syscall.ETIMEDOUT: -110,
		syscall.EINPROGRESS: -115, 0: 0,
	} {
		have, ok := ResultOf(e)
		if !ok || have != want {
			t.Errorf("%v: %d, want %d", e, have, want)
		}
		if e != 0 && (!errors.Is(have.Err(), e) || errors.Is(have.Err(), syscall.EIO)) {
			t.Errorf("errors.Is(%v, %v)", have, e)
		}
	}
	if _, ok := ResultOf(syscall.EIO); ok {
		t.Error("EIO has no wire code")
	}
	if ResultCancel != -65537 || ResultUnlock != -65538 || ResultOK.Err() != nil {
		t.Error("codes of cancel, unlock, success")
	}
	if _, ok := ResultUnlock.Errno(); ok {
		t.Error("EUNLOCK is no errno")
	}
}

func TestStrings(t *testing.T) {
	for have, want := range map[string]string{
		EX.String(): "EX", IV.String(): "IV", Mode(9).String(): "MODE(9)", Mode(-2).String(): "MODE(-2)",
		(LKFConvert | LKFValBlk | 0x80000000).String(): "CONVERT|VALBLK|0x80000000", LKF(0).String(): "0",
		MsgType(99).String(): "MSG(99)", RcomType(0).String(): "RCOM(0)", Result(-5).String(): "-5",
		(RSNodes | RSNodesAll).String(): "NODES|NODES_ALL", LockStatus(7).String(): "status(7)",
		string(AppendFrame(nil, []byte{1, 2})): "bad frame of 2 bytes: dlm wire: message too short: " +
			"header.h_version at offset 0: want 16, have 2",
	} {
		if have != want {
			t.Errorf("%q, want %q", have, want)
		}
	}
}

// FuzzDecode: no panic on any bytes; what decodes re-encodes to the same bytes (headers, MSG, RCOM, OPTS) and
// payloads to an equal struct; printing and CheckSend always come back.
func FuzzDecode(f *testing.F) {
	for _, file := range []string{"testdata/kernel.txt", "testdata/vectors.txt"} {
		for _, n := range readFrames(f, file) {
			f.Add(n.frame)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		AppendFrame(nil, b)
		var o Opts
		if o.Decode(b) == nil {
			if again := o.Append(nil); !bytes.Equal(again, b) {
				t.Fatalf("OPTS\n%x\n%x", b, again)
			}
			b = o.Inner
		}
		var m Message
		if m.Decode(b) == nil {
			_ = m.CheckSend()
			if again := m.Append(nil); !bytes.Equal(again, b) {
				t.Fatalf("MSG\n%x\n%x", b, again)
			}
		}
		var r Rcom
		if r.Decode(b) == nil {
			_ = r.CheckSend()
			if again := r.Append(nil); !bytes.Equal(again, b) {
				t.Fatalf("RCOM\n%x\n%x", b, again)
			}
			fuzzPayload(t, r.Buf)
		}
	})
}

// fuzzPayload reads a payload as every structure.
func fuzzPayload(t *testing.T, b []byte) {
	_ = checkNames(b)
	var c, c2 RcomConfig
	if _, err := c.Decode(b); err == nil {
		if _, err := c2.Decode(append(c.Append(nil), b[RcomConfigSize:]...)); err != nil || c != c2 {
			t.Fatalf("rcom_config %v %+v %+v", err, c, c2)
		}
	}
	var l, l2 RcomLockBuf
	if l.Decode(b) == nil {
		if err := l2.Decode(l.Append(nil)); err != nil {
			t.Fatal(err)
		}
		x, _ := json.Marshal(l)
		y, _ := json.Marshal(l2)
		if !bytes.Equal(x, y) {
			t.Fatalf("rcom_lock\n%s\n%s", x, y)
		}
	}
}

func BenchmarkMessage(b *testing.B) {
	m := Message{Header: head(2), Type: MsgRequest, Extra: []byte("M000000000000000000000500000000")}
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Decode(m.Append(buf)); err != nil {
			b.Fatal(err)
		}
	}
}
