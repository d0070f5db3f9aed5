package wire

import "strconv"

// Mode is a lock mode on the wire: 32-bit in MSG, 8-bit signed in rcom_lock.
type Mode int32

// Lock modes, weakest first (Linux DLM_LOCK_*).
const (
	IV Mode = -1 // none
	NL Mode = 0  // null
	CR Mode = 1  // concurrent read
	CW Mode = 2  // concurrent write
	PR Mode = 3  // protected read
	PW Mode = 4  // protected write
	EX Mode = 5  // exclusive
)

var modeNames = [...]string{"IV", "NL", "CR", "CW", "PR", "PW", "EX"}

// Valid reports whether m may be requested: NL..EX.
func (m Mode) Valid() bool { return m >= NL && m <= EX }

// String returns the two-letter name.
func (m Mode) String() string {
	if m < IV || m > EX {
		return "MODE(" + strconv.Itoa(int(m)) + ")"
	}
	return modeNames[m+1]
}

// LockStatus is the queue a lock is on: m_status (informational), rl_status (must be 1..3).
type LockStatus uint32

// Queues (Linux DLM_LKSTS_*).
const (
	StatusNone    LockStatus = 0
	StatusWaiting LockStatus = 1
	StatusGranted LockStatus = 2
	StatusConvert LockStatus = 3
)

var lockStatusNames = [...]string{"none", "waiting", "granted", "convert"}

// String returns the queue's name.
func (s LockStatus) String() string { return nameOf(lockStatusNames[:], uint32(s), "status") }

// Asts says which callbacks the owner of a lock has: m_asts, rl_asts.
type Asts uint32

// Callbacks.
const (
	AstCompletion Asts = 1
	AstBlocking   Asts = 2
)

var astNames = []flagName{{1, "cast"}, {2, "bast"}}

// String lists the callbacks.
func (a Asts) String() string { return flagString(astNames, uint32(a)) }

// SBF is the status block flags, m_sbflags.
type SBF uint32

// Status block flags (Linux DLM_SBF_*).
const (
	SBFDemoted     SBF = 0x01 // conversion deadlock: granted mode was lowered to NL
	SBFValNotValid SBF = 0x02 // content of the LVB is lost
	SBFAltMode     SBF = 0x04 // granted in the alternative mode
)

var sbfNames = []flagName{{1, "DEMOTED"}, {2, "VALNOTVALID"}, {4, "ALTMODE"}}

// String lists the flags.
func (f SBF) String() string { return flagString(sbfNames, uint32(f)) }

// IFL is the internal flags, m_flags and rl_flags. Only the low 16 bits have a meaning between nodes; the upper ones
// are the sender's private matter, are sent as 0 and ignored when received (Linux DLM_IFL_*).
type IFL uint32

// Internal flags.
const (
	IFLUser   IFL = 0x1    // lock of a user-space process; a master must echo it
	IFLOrphan IFL = 0x2    // its process is gone
	IFLMask   IFL = 0xFFFF // what crosses the wire
	// IFLStub marks a locally made reply inside the 6.1 kernel. It must never be sent: the receiver would skip its
	// locking.
	IFLStub IFL = 0x02000000
)

var iflNames = []flagName{{1, "USER"}, {2, "ORPHAN"}}

// String lists the flags; sender-private ones appear as a number.
func (f IFL) String() string { return flagString(iflNames, uint32(f)) }

// LKF is the flags of a lock operation, m_exflags and rl_exflags. Receivers tolerate unknown bits.
type LKF uint32

// Lock flags (Linux DLM_LKF_*).
const (
	LKFNoQueue     LKF = 0x00000001
	LKFCancel      LKF = 0x00000002
	LKFConvert     LKF = 0x00000004
	LKFValBlk      LKF = 0x00000008
	LKFQueCvt      LKF = 0x00000010
	LKFIVValBlk    LKF = 0x00000020
	LKFConvDeadlk  LKF = 0x00000040
	LKFPersistent  LKF = 0x00000080
	LKFNoDlckWt    LKF = 0x00000100
	LKFNoDlckBlk   LKF = 0x00000200
	LKFExpedite    LKF = 0x00000400
	LKFNoQueueBast LKF = 0x00000800
	LKFHeadQue     LKF = 0x00001000
	LKFNoOrder     LKF = 0x00002000
	LKFOrphan      LKF = 0x00004000
	LKFAltPR       LKF = 0x00008000
	LKFAltCW       LKF = 0x00010000
	LKFForceUnlock LKF = 0x00020000
	LKFTimeout     LKF = 0x00040000
	LKFLocal       LKF = 0x00100000 // set by ocfs2 on new inodes' locks, without effect in the DLM
)

var lkfNames = []flagName{
	{1, "NOQUEUE"}, {2, "CANCEL"}, {4, "CONVERT"}, {8, "VALBLK"}, {0x10, "QUECVT"}, {0x20, "IVVALBLK"},
	{0x40, "CONVDEADLK"}, {0x80, "PERSISTENT"}, {0x100, "NODLCKWT"}, {0x200, "NODLCKBLK"}, {0x400, "EXPEDITE"},
	{0x800, "NOQUEUEBAST"}, {0x1000, "HEADQUE"}, {0x2000, "NOORDER"}, {0x4000, "ORPHAN"}, {0x8000, "ALTPR"},
	{0x10000, "ALTCW"}, {0x20000, "FORCEUNLOCK"}, {0x40000, "TIMEOUT"}, {0x100000, "LOCAL"},
}

// String lists the flags.
func (f LKF) String() string { return flagString(lkfNames, uint32(f)) }

type flagName struct {
	bit  uint32
	name string
}

// appendFlags appends "A|B|0x40", or "0".
func appendFlags(dst []byte, names []flagName, v uint32) []byte {
	if v == 0 {
		return append(dst, '0')
	}
	n := len(dst)
	for _, f := range names {
		if v&f.bit == 0 {
			continue
		}
		if len(dst) > n {
			dst = append(dst, '|')
		}
		dst = append(dst, f.name...)
		v &^= f.bit
	}
	if v != 0 {
		if len(dst) > n {
			dst = append(dst, '|')
		}
		dst = strconv.AppendUint(append(dst, "0x"...), uint64(v), 16)
	}
	return dst
}

func flagString(names []flagName, v uint32) string { return string(appendFlags(nil, names, v)) }

// nameOf returns names[v], or "kind(v)" where there is none.
func nameOf(names []string, v uint32, kind string) string {
	if v < uint32(len(names)) && names[v] != "" {
		return names[v]
	}
	return kind + "(" + strconv.FormatUint(uint64(v), 10) + ")"
}
