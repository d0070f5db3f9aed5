package wire

import (
	"strconv"
	"syscall"
)

// Result is m_result (and rl_result): 0 or a negative code that means the same on every architecture (Linux
// fs/dlm/util.c to_dlm_errno). A Result other than 0 is an error; errors.Is(r, syscall.EAGAIN) works on it.
type Result int32

// Result codes.
const (
	ResultOK         Result = 0
	ResultNoEnt      Result = -2
	ResultSrch       Result = -3
	ResultAgain      Result = -11
	ResultNoMem      Result = -12
	ResultNotBlk     Result = -15
	ResultBusy       Result = -16
	ResultExist      Result = -17
	ResultInval      Result = -22
	ResultDeadlk     Result = -35
	ResultBadR       Result = -53
	ResultBadSlt     Result = -57
	ResultProto      Result = -71
	ResultOpNotSupp  Result = -95
	ResultTimedOut   Result = -110
	ResultInProgress Result = -115
	ResultCancel     Result = -0x10001 // DLM_ECANCEL: a cancel took effect
	ResultUnlock     Result = -0x10002 // DLM_EUNLOCK: an unlock is complete
)

// resultTable joins code, name and the native errno. DLM_ECANCEL and DLM_EUNLOCK have no errno.
var resultTable = []struct {
	code  Result
	name  string
	errno syscall.Errno
}{
	{ResultNoEnt, "ENOENT", syscall.ENOENT}, {ResultSrch, "ESRCH", syscall.ESRCH},
	{ResultAgain, "EAGAIN", syscall.EAGAIN}, {ResultNoMem, "ENOMEM", syscall.ENOMEM},
	{ResultNotBlk, "ENOTBLK", syscall.ENOTBLK}, {ResultBusy, "EBUSY", syscall.EBUSY},
	{ResultExist, "EEXIST", syscall.EEXIST}, {ResultInval, "EINVAL", syscall.EINVAL},
	{ResultDeadlk, "EDEADLK", syscall.EDEADLK}, {ResultBadR, "EBADR", syscall.EBADR},
	{ResultBadSlt, "EBADSLT", syscall.EBADSLT}, {ResultProto, "EPROTO", syscall.EPROTO},
	{ResultOpNotSupp, "EOPNOTSUPP", syscall.EOPNOTSUPP}, {ResultTimedOut, "ETIMEDOUT", syscall.ETIMEDOUT},
	{ResultInProgress, "EINPROGRESS", syscall.EINPROGRESS},
	{ResultCancel, "ECANCEL", 0}, {ResultUnlock, "EUNLOCK", 0},
}

// String returns the name of the code, "0" for success.
func (r Result) String() string {
	for i := range resultTable {
		if resultTable[i].code == r {
			return resultTable[i].name
		}
	}
	return strconv.Itoa(int(r))
}

// Error implements error.
func (r Result) Error() string { return "dlm: " + r.String() }

// Err returns nil for 0 and r itself otherwise.
func (r Result) Err() error {
	if r == 0 {
		return nil
	}
	return r
}

// Is makes errors.Is(r, syscall.EAGAIN) and the like work.
func (r Result) Is(target error) bool {
	e, ok := target.(syscall.Errno)
	if !ok {
		return false
	}
	n, ok := r.Errno()
	return ok && n == e
}

// Errno returns the native errno of r; ok is false for 0, DLM_ECANCEL, DLM_EUNLOCK and codes outside the table.
func (r Result) Errno() (e syscall.Errno, ok bool) {
	for i := range resultTable {
		if resultTable[i].code == r {
			return resultTable[i].errno, resultTable[i].errno != 0
		}
	}
	return 0, false
}

// ResultOf returns the wire code of a native errno; ok is false if the protocol has none for it.
func ResultOf(e syscall.Errno) (r Result, ok bool) {
	if e == 0 {
		return ResultOK, true
	}
	for i := range resultTable {
		if resultTable[i].errno == e {
			return resultTable[i].code, true
		}
	}
	return 0, false
}
