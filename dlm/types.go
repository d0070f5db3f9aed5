package dlm

import (
	"github.com/ocfuse/ocfuse/dlm/core"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Mode is a lock mode.
type Mode = wire.Mode

// Lock modes, weakest first. (Linux DLM_LOCK_*.)
const (
	IV = wire.IV
	NL = wire.NL
	CR = wire.CR
	CW = wire.CW
	PR = wire.PR
	PW = wire.PW
	EX = wire.EX
)

// Flags modify an operation. (Linux DLM_LKF_*.)
type Flags = wire.LKF

// Flags in common use; wire has all of them.
const (
	NoQueue     = wire.LKFNoQueue     // EAGAIN instead of waiting
	ValBlk      = wire.LKFValBlk      // read or write the lock value block
	IVValBlk    = wire.LKFIVValBlk    // mark the value block invalid when leaving PW or EX
	NoDlckWt    = wire.LKFNoDlckWt    // wait even in a conversion deadlock
	ForceUnlock = wire.LKFForceUnlock // unlock whatever is in flight
)

// Results of operations that are errors; test with errors.Is, also against the syscall.Errno.
const (
	ErrAgain    = wire.ResultAgain  // NoQueue and not grantable
	ErrCanceled = wire.ResultCancel // Cancel took effect
	ErrUnlocked = wire.ResultUnlock // the lock was unlocked before the operation came to its end
	ErrDeadlock = wire.ResultDeadlk // two conversions wait for each other
)

// Errors of calls; see package core for the meaning.
var (
	ErrInvalid     = core.ErrInvalid
	ErrUnsupported = core.ErrUnsupported
	ErrBusy        = core.ErrBusy
	ErrNoLock      = core.ErrNoLock
	ErrState       = core.ErrState
	ErrProto       = core.ErrProto
)

// Member is a node of a lockspace.
type Member = core.Member

// Slot is a member's number.
type Slot = core.Slot

// Status is the end of an operation.
type Status struct {
	// Result: 0, or one of the Err results; ErrUnlocked is the regular end of an unlock.
	Result wire.Result
	Mode   Mode // granted mode now, IV: the lock is gone
	// Invalid: the value block's content is not known to be the last written (DLM_SBF_VALNOTVALID).
	Invalid bool
	Demoted bool // the granted mode was lowered to NL on the way (CONVDEADLK)
	AltMode bool // granted in the alternative mode
	// LVB is the lock's value block, nil if it has none. In AST it is valid during the call; from the waiting calls
	// until the next operation on the lock.
	LVB []byte
}

// Handler receives the callbacks of a lock. See the package comment for what they may do.
type Handler interface {
	// AST: an operation of Lock, Convert, Unlock or Cancel ended.
	AST(l *Lock, st Status)
	// BAST: a request for blocked waits for l to give way.
	BAST(l *Lock, blocked Mode)
}

// Events receives what happens to a lockspace. Nil functions are not called.
type Events struct {
	Prep func()       // locking stops
	Slot func(s Slot) // a member failed; before any of its locks is granted to others here
	// Done: a membership round is complete and locking runs. slots is the callee's to keep.
	Done   func(slots []Slot, our uint16, generation uint32)
	Failed func(err error) // recovery cannot go on (ErrProto); locking stays stopped until the next Stop and Start
}

// Network is what a lockspace needs of the transport; *lowcomms.Node is one. Send must not block, must keep the order
// per node, and must not call back.
type Network interface {
	Send(node uint32, inner []byte) error
	AddMember(node uint32) error
	RemoveMember(node uint32) error
}
