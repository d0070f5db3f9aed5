package heartbeat

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Boottime returns CLOCK_BOOTTIME in nanoseconds: it goes on while the machine is
// suspended, which is when others would declare this node dead.
func Boottime() int64 {
	var ts unix.Timespec
	// The clock exists since Linux 2.6.39; the call cannot fail with it.
	_, _, _ = unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

// sigevent is struct sigevent of Linux on 64-bit systems.
type sigevent struct {
	value  uint64
	signo  int32
	notify int32 // SIGEV_SIGNAL is 0
	_      [48]byte
}

// Deadman is a kernel timer on CLOCK_BOOTTIME that sends SIGKILL to this process.
// It works for a process that is stopped or whose Go scheduler hangs.
type Deadman struct{ id int32 }

// NewDeadman creates the timer, disarmed.
func NewDeadman() (*Deadman, error) {
	ev := sigevent{signo: int32(unix.SIGKILL)}
	d := &Deadman{}
	if _, _, e := unix.RawSyscall(unix.SYS_TIMER_CREATE, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&ev)), uintptr(unsafe.Pointer(&d.id))); e != 0 {
		return nil, fmt.Errorf("timer_create(CLOCK_BOOTTIME) for the dead man's timer: %w", e)
	}
	return d, nil
}

// Arm sets the moment of death in nanoseconds of CLOCK_BOOTTIME; a moment in the
// past kills at once. 0 disarms.
func (d *Deadman) Arm(at int64) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(at)}
	const abstime = 1 // TIMER_ABSTIME
	if _, _, e := unix.RawSyscall6(unix.SYS_TIMER_SETTIME, uintptr(d.id), abstime, uintptr(unsafe.Pointer(&spec)), 0, 0, 0); e != 0 {
		return fmt.Errorf("timer_settime of the dead man's timer: %w", e)
	}
	return nil
}

// Remaining returns how long this process has to live; 0 when disarmed.
func (d *Deadman) Remaining() time.Duration {
	var spec unix.ItimerSpec
	if _, _, e := unix.RawSyscall(unix.SYS_TIMER_GETTIME, uintptr(d.id), uintptr(unsafe.Pointer(&spec)), 0); e != 0 {
		return 0
	}
	return time.Duration(spec.Value.Nano())
}

// Close removes the timer.
func (d *Deadman) Close() error {
	if _, _, e := unix.RawSyscall(unix.SYS_TIMER_DELETE, uintptr(d.id), 0, 0); e != 0 {
		return fmt.Errorf("timer_delete of the dead man's timer: %w", e)
	}
	return nil
}
