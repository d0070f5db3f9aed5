package wire

// MsgType is m_type of a MSG.
type MsgType uint32

// Message types (Linux DLM_MSG_*). Direction and contents of m_extra in brackets.
const (
	MsgRequest      MsgType = 1  // owner -> master [name]
	MsgConvert      MsgType = 2  // owner -> master [LVB if the lock has a buffer]
	MsgUnlock       MsgType = 3  // owner -> master [LVB if the lock has a buffer]
	MsgCancel       MsgType = 4  // owner -> master
	MsgRequestReply MsgType = 5  // master -> owner [LVB if the master copy has a buffer]
	MsgConvertReply MsgType = 6  // master -> owner [LVB if ...]
	MsgUnlockReply  MsgType = 7  // master -> owner
	MsgCancelReply  MsgType = 8  // master -> owner
	MsgGrant        MsgType = 9  // master -> owner, unasked [LVB if ...]
	MsgBast         MsgType = 10 // master -> owner, unasked
	MsgLookup       MsgType = 11 // owner -> directory [name]
	MsgRemove       MsgType = 12 // master -> directory [name]; only m_hash and name are filled
	MsgLookupReply  MsgType = 13 // directory -> owner; only m_lkid, m_nodeid, m_result are filled
	MsgPurge        MsgType = 14 // any -> any; only m_nodeid, m_pid are filled
)

var msgNames = [...]string{
	MsgRequest: "REQUEST", MsgConvert: "CONVERT", MsgUnlock: "UNLOCK", MsgCancel: "CANCEL",
	MsgRequestReply: "REQUEST_REPLY", MsgConvertReply: "CONVERT_REPLY", MsgUnlockReply: "UNLOCK_REPLY",
	MsgCancelReply: "CANCEL_REPLY", MsgGrant: "GRANT", MsgBast: "BAST", MsgLookup: "LOOKUP", MsgRemove: "REMOVE",
	MsgLookupReply: "LOOKUP_REPLY", MsgPurge: "PURGE",
}

// String returns the kernel's name of the type.
func (t MsgType) String() string { return nameOf(msgNames[:], uint32(t), "MSG") }

// HasName reports whether m_extra of this type is a resource name.
func (t MsgType) HasName() bool { return t == MsgRequest || t == MsgLookup || t == MsgRemove }

// MayHaveLVB reports whether m_extra of this type may be a lock value block.
func (t MsgType) MayHaveLVB() bool {
	switch t {
	case MsgConvert, MsgUnlock, MsgRequestReply, MsgConvertReply, MsgGrant:
		return true
	}
	return false
}

// Message is a lock operation, h_cmd MSG (Linux struct dlm_message), 88 bytes and m_extra. h_lockspace is
// Header.Union.
//
//	off size field
//	  0   16 m_header
//	 16    4 m_type
//	 20    4 m_nodeid        LOOKUP_REPLY: master; PURGE: target; else informational
//	 24    4 m_pid           owner's process
//	 28    4 m_lkid          lock id at the sender (LOOKUP_REPLY: echo)
//	 32    4 m_remid         lock id at the receiver, 0 if unknown
//	 36    4 m_parent_lkid   0
//	 40    4 m_parent_remid  0
//	 44    4 m_exflags       LKF flags of the operation
//	 48    4 m_sbflags       SBF flags; 0 from owners
//	 52    4 m_flags         IFL flags, low 16 bits
//	 56    4 m_lvbseq
//	 60    4 m_hash          ResourceHash of the name
//	 64    4 m_status        queue the lock is on
//	 68    4 m_grmode
//	 72    4 m_rqmode        0..5 in REQUEST, LOOKUP, CONVERT
//	 76    4 m_bastmode
//	 80    4 m_asts          which callbacks the owner has
//	 84    4 m_result
//	 88    . m_extra         name or LVB
type Message struct {
	Header      Header
	Type        MsgType
	NodeID      int32
	Pid         uint32
	LkID        uint32
	RemID       uint32
	ParentLkID  uint32
	ParentRemID uint32
	ExFlags     LKF
	SBFlags     SBF
	Flags       IFL
	LVBSeq      uint32
	Hash        uint32
	Status      LockStatus
	GrMode      Mode
	RqMode      Mode
	BastMode    Mode
	Asts        Asts
	Result      Result
	Extra       []byte
}

// Append encodes m; h_length is 88 + len(m.Extra), which must not exceed MaxInner.
func (m *Message) Append(dst []byte) []byte {
	h := m.Header
	h.Cmd = CmdMsg
	h.Length = uint16(MessageSize + len(m.Extra))
	dst = h.Append(dst)
	n := len(dst)
	dst = append(dst, make([]byte, MessageSize-HeaderSize)...)
	b := dst[n:]
	_ = b[71]
	le.PutUint32(b[0:], uint32(m.Type))
	le.PutUint32(b[4:], uint32(m.NodeID))
	le.PutUint32(b[8:], m.Pid)
	le.PutUint32(b[12:], m.LkID)
	le.PutUint32(b[16:], m.RemID)
	le.PutUint32(b[20:], m.ParentLkID)
	le.PutUint32(b[24:], m.ParentRemID)
	le.PutUint32(b[28:], uint32(m.ExFlags))
	le.PutUint32(b[32:], uint32(m.SBFlags))
	le.PutUint32(b[36:], uint32(m.Flags))
	le.PutUint32(b[40:], m.LVBSeq)
	le.PutUint32(b[44:], m.Hash)
	le.PutUint32(b[48:], uint32(m.Status))
	le.PutUint32(b[52:], uint32(m.GrMode))
	le.PutUint32(b[56:], uint32(m.RqMode))
	le.PutUint32(b[60:], uint32(m.BastMode))
	le.PutUint32(b[64:], uint32(m.Asts))
	le.PutUint32(b[68:], uint32(m.Result))
	return append(dst, m.Extra...)
}

// Decode reads the MSG that fills b; m.Extra aliases b. Field values are not judged (see CheckSend and the core):
// the kernel does not judge them here either.
func (m *Message) Decode(b []byte) error {
	if err := m.Header.decode(b, "msg", CmdMsg, MessageSize); err != nil {
		return err
	}
	_ = b[87]
	m.Type = MsgType(le.Uint32(b[16:]))
	m.NodeID = int32(le.Uint32(b[20:]))
	m.Pid = le.Uint32(b[24:])
	m.LkID = le.Uint32(b[28:])
	m.RemID = le.Uint32(b[32:])
	m.ParentLkID = le.Uint32(b[36:])
	m.ParentRemID = le.Uint32(b[40:])
	m.ExFlags = LKF(le.Uint32(b[44:]))
	m.SBFlags = SBF(le.Uint32(b[48:]))
	m.Flags = IFL(le.Uint32(b[52:]))
	m.LVBSeq = le.Uint32(b[56:])
	m.Hash = le.Uint32(b[60:])
	m.Status = LockStatus(le.Uint32(b[64:]))
	m.GrMode = Mode(le.Uint32(b[68:]))
	m.RqMode = Mode(le.Uint32(b[72:]))
	m.BastMode = Mode(le.Uint32(b[76:]))
	m.Asts = Asts(le.Uint32(b[80:]))
	m.Result = Result(le.Uint32(b[84:]))
	m.Extra = b[MessageSize:]
	return nil
}

// Lockspace returns the global id of the lockspace the message is for.
func (m *Message) Lockspace() uint32 { return m.Header.Union }
