package wire

// RcomLockSize is the size of struct rcom_lock without the LVB, bytes.
const RcomLockSize = 108

// RcomLockBuf is the payload of a LOCK and LOCK_REPLY (Linux struct rcom_lock): one lock on its way to a new master.
//
//	off size field
//	  0    4 rl_ownpid
//	  4    4 rl_lkid         lock id at the owner
//	  8    4 rl_remid        LOCK: 0; LOCK_REPLY: lock id at the master
//	 12    4 rl_parent_lkid  must be 0
//	 16    4 rl_parent_remid
//	 20    4 rl_exflags
//	 24    4 rl_flags        IFL, low 16 bits
//	 28    4 rl_lvbseq
//	 32    4 rl_result       LOCK_REPLY: 0 or negative errno
//	 36    1 rl_rqmode       int8
//	 37    1 rl_grmode       int8
//	 38    1 rl_status       1 waiting, 2 granted, 3 convert
//	 39    1 rl_asts
//	 40    2 rl_wait_type    MSG type the owner waits a reply for, else 0
//	 42    2 rl_namelen
//	 44   64 rl_name         zero padded
//	108    . rl_lvb          lvblen bytes if the owner's record has a buffer
type RcomLockBuf struct {
	OwnPid      uint32
	LkID        uint32
	RemID       uint32
	ParentLkID  uint32
	ParentRemID uint32
	ExFlags     LKF
	Flags       IFL
	LVBSeq      uint32
	Result      Result
	RqMode      Mode
	GrMode      Mode
	Status      LockStatus
	Asts        Asts
	WaitType    MsgType
	Name        []byte // at most 64 bytes
	LVB         []byte
}

// Append encodes the 108 bytes and the LVB. A name longer than 64 bytes is a bug of the caller and is cut.
func (l *RcomLockBuf) Append(dst []byte) []byte {
	n := len(dst)
	dst = append(dst, make([]byte, RcomLockSize)...)
	b := dst[n:]
	_ = b[107]
	le.PutUint32(b[0:], l.OwnPid)
	le.PutUint32(b[4:], l.LkID)
	le.PutUint32(b[8:], l.RemID)
	le.PutUint32(b[12:], l.ParentLkID)
	le.PutUint32(b[16:], l.ParentRemID)
	le.PutUint32(b[20:], uint32(l.ExFlags))
	le.PutUint32(b[24:], uint32(l.Flags))
	le.PutUint32(b[28:], l.LVBSeq)
	le.PutUint32(b[32:], uint32(l.Result))
	b[36], b[37], b[38], b[39] = byte(l.RqMode), byte(l.GrMode), byte(l.Status), byte(l.Asts)
	le.PutUint16(b[40:], uint16(l.WaitType))
	le.PutUint16(b[42:], uint16(copy(b[44:108], l.Name)))
	return append(dst, l.LVB...)
}

// Decode reads the payload; Name and LVB alias b. A rl_namelen above 64 is refused.
func (l *RcomLockBuf) Decode(b []byte) error {
	if len(b) < RcomLockSize {
		return bad(ErrShort, "rcom_lock", "rl_ownpid", 0, RcomLockSize, int64(len(b)))
	}
	l.OwnPid = le.Uint32(b)
	l.LkID = le.Uint32(b[4:])
	l.RemID = le.Uint32(b[8:])
	l.ParentLkID = le.Uint32(b[12:])
	l.ParentRemID = le.Uint32(b[16:])
	l.ExFlags = LKF(le.Uint32(b[20:]))
	l.Flags = IFL(le.Uint32(b[24:]))
	l.LVBSeq = le.Uint32(b[28:])
	l.Result = Result(le.Uint32(b[32:]))
	l.RqMode, l.GrMode = Mode(int8(b[36])), Mode(int8(b[37]))
	l.Status, l.Asts = LockStatus(b[38]), Asts(b[39])
	l.WaitType = MsgType(le.Uint16(b[40:]))
	n := int(le.Uint16(b[42:]))
	if n > ResNameMax {
		return bad(ErrLength, "rcom_lock", "rl_namelen", 42, ResNameMax, int64(n))
	}
	l.Name = b[44 : 44+n : 44+n]
	l.LVB = b[RcomLockSize:]
	return nil
}
