package wire

// RcomType is rc_type of a RCOM.
type RcomType uint32

// Recovery message types (Linux DLM_RCOM_*). Payload in brackets.
const (
	RcomStatus      RcomType = 1 // [StatusRequest] bare
	RcomNames       RcomType = 2 // [last name received] bare
	RcomLookup      RcomType = 3 // [name] wrapped
	RcomLock        RcomType = 4 // [RcomLockBuf] wrapped
	RcomStatusReply RcomType = 5 // [RcomConfig, slots] bare; wrapped when the lockspace is unknown
	RcomNamesReply  RcomType = 6 // [name list] bare
	RcomLookupReply RcomType = 7 // wrapped
	RcomLockReply   RcomType = 8 // [RcomLockBuf without LVB] wrapped
)

var rcomNames = [...]string{
	RcomStatus: "STATUS", RcomNames: "NAMES", RcomLookup: "LOOKUP", RcomLock: "LOCK",
	RcomStatusReply: "STATUS_REPLY", RcomNamesReply: "NAMES_REPLY", RcomLookupReply: "LOOKUP_REPLY",
	RcomLockReply: "LOCK_REPLY",
}

// String returns the kernel's name of the type.
func (t RcomType) String() string { return nameOf(rcomNames[:], uint32(t), "RCOM") }

// IsReply reports whether the type answers a request (and rc_seq_reply is therefore meaningful).
func (t RcomType) IsReply() bool { return t >= RcomStatusReply && t <= RcomLockReply }

// Bare reports whether a RCOM of this type travels outside the reliable wrapper between 3.2 nodes of Linux 6.1. The
// STATUS_REPLY to an unknown lockspace, which 6.1 wraps, is the sender's own decision.
func (t RcomType) Bare() bool {
	switch t {
	case RcomStatus, RcomStatusReply, RcomNames, RcomNamesReply:
		return true
	}
	return false
}

// Rcom is a recovery message, h_cmd RCOM (Linux struct dlm_rcom), 48 bytes and rc_buf. h_lockspace is Header.Union.
//
//	off size field
//	  0   16 rc_header
//	 16    4 rc_type
//	 20    4 rc_result     STATUS_REPLY: status bits or -3; LOOKUP_REPLY: master nodeid; else 0
//	 24    8 rc_id         request id, echoed in the reply
//	 32    8 rc_seq        sender's recovery sequence
//	 40    8 rc_seq_reply  replies: rc_seq of the request; else 0
//	 48    . rc_buf
type Rcom struct {
	Header   Header
	Type     RcomType
	Result   int32
	ID       uint64
	Seq      uint64
	SeqReply uint64
	Buf      []byte
}

// Append encodes r; h_length is 48 + len(r.Buf), which must not exceed MaxInner.
func (r *Rcom) Append(dst []byte) []byte {
	h := r.Header
	h.Cmd = CmdRcom
	h.Length = uint16(RcomSize + len(r.Buf))
	dst = h.Append(dst)
	dst = le.AppendUint32(dst, uint32(r.Type))
	dst = le.AppendUint32(dst, uint32(r.Result))
	dst = le.AppendUint64(dst, r.ID)
	dst = le.AppendUint64(dst, r.Seq)
	dst = le.AppendUint64(dst, r.SeqReply)
	return append(dst, r.Buf...)
}

// Decode reads the RCOM that fills b; r.Buf aliases b. The payload is decoded separately, by type.
func (r *Rcom) Decode(b []byte) error {
	if err := r.Header.decode(b, "rcom", CmdRcom, RcomSize); err != nil {
		return err
	}
	_ = b[47]
	r.Type = RcomType(le.Uint32(b[16:]))
	r.Result = int32(le.Uint32(b[20:]))
	r.ID = le.Uint64(b[24:])
	r.Seq = le.Uint64(b[32:])
	r.SeqReply = le.Uint64(b[40:])
	r.Buf = b[RcomSize:]
	return nil
}

// Lockspace returns the global id of the lockspace the message is for.
func (r *Rcom) Lockspace() uint32 { return r.Header.Union }
