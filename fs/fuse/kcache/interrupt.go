package kcache

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// interruptible is the context of a request. See Context.
type interruptible struct {
	context.Context
	cancel <-chan struct{}
	pid    uint32 // 0: any signal ends it
}

// Context returns the context of a FUSE request with its cancel channel.
// INTERRUPT says that some signal has come to the thread that waits. Calls such
// as stat, open or chmod may not fail with EINTR for any signal (programs that
// use timers or are written in Go get many), so the context is over only if the
// thread is being killed: Err looks, and Done being closed means no more than
// that it is worth looking (fs/locking does so). For requests that may wait for
// ever by their nature (SETLKW) anySignal is true.
func Context(cancel <-chan struct{}, pid uint32, anySignal bool) context.Context {
	if anySignal {
		pid = 0
	}
	return &interruptible{context.Background(), cancel, pid}
}

// Done implements context.Context.
func (c *interruptible) Done() <-chan struct{} { return c.cancel }

// Err implements context.Context.
func (c *interruptible) Err() error {
	select {
	case <-c.cancel:
	default:
		return nil
	}
	if c.pid == 0 || dying(c.pid) {
		return context.Canceled
	}
	return nil
}

// sigkill is the bit of SIGKILL in the masks of /proc/PID/status. The kernel
// turns every fatal signal into a pending SIGKILL of all threads.
const sigkill = 1 << (9 - 1)

// dying reports whether a thread has a SIGKILL pending, or is gone.
func dying(pid uint32) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return os.IsNotExist(err)
	}
	return killPending(b)
}

// killPending looks for SIGKILL in the text of /proc/PID/status.
func killPending(status []byte) bool {
	for sc := bufio.NewScanner(bytes.NewReader(status)); sc.Scan(); {
		name, mask, _ := strings.Cut(sc.Text(), ":")
		if name != "SigPnd" && name != "ShdPnd" {
			continue
		}
		if v, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64); err == nil && v&sigkill != 0 {
			return true
		}
	}
	return false
}
