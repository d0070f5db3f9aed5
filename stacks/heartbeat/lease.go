package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
)

// ErrLeaseExpired: the last confirmed heartbeat is too old. It is of kind
// stackglue.ErrFenced.
var ErrLeaseExpired = fmt.Errorf("the heartbeat lease has run out: %w", stackglue.ErrFenced)

// Lease is the right to write to the shared device, until a moment on
// CLOCK_BOOTTIME. It implements stackglue.Gate: Enter costs one atomic addition,
// two loads and one clock_gettime.
//
// States: no lease yet -> valid (Renew) -> closed (Close, or Renew after the end).
// Closed is final.
type Lease struct {
	end      atomic.Int64 // ns; 0: no lease yet
	inflight atomic.Int64
	closed   atomic.Pointer[error]
	drained  chan struct{} // closed when closed and inflight is 0
	isDrain  atomic.Bool
	clock    func() int64
}

var _ stackglue.Gate = (*Lease)(nil)

// NewLease makes a lease that allows nothing yet. clock returns nanoseconds of
// CLOCK_BOOTTIME; nil means the real one.
func NewLease(clock func() int64) *Lease {
	if clock == nil {
		clock = Boottime
	}
	return &Lease{clock: clock, drained: make(chan struct{})}
}

// Enter implements stackglue.Gate. An error is of kind stackglue.ErrFenced.
func (l *Lease) Enter() error {
	// First counted, then checked: Drain, which looks the other way round, either
	// sees this write or this write sees the closed gate.
	l.inflight.Add(1)
	if e := l.closed.Load(); e != nil {
		l.Leave()
		return *e
	}
	if l.clock() >= l.end.Load() {
		l.Leave()
		return ErrLeaseExpired
	}
	return nil
}

// Leave implements stackglue.Gate.
func (l *Lease) Leave() {
	if l.inflight.Add(-1) == 0 && l.closed.Load() != nil {
		l.signal()
	}
}

func (l *Lease) signal() {
	if l.isDrain.CompareAndSwap(false, true) {
		close(l.drained)
	}
}

// Renew moves the end to that moment. It refuses, and closes the lease for good,
// when the lease had run out before: others may have acted on that already.
func (l *Lease) Renew(end int64) error {
	if e := l.closed.Load(); e != nil {
		return *e
	}
	if old := l.end.Load(); old != 0 && l.clock() >= old {
		l.Close(ErrLeaseExpired)
		return ErrLeaseExpired
	}
	l.end.Store(end)
	return nil
}

// End returns when the lease runs out; 0 before the first Renew.
func (l *Lease) End() int64 { return l.end.Load() }

// Remaining returns how long the lease lasts from now.
func (l *Lease) Remaining() time.Duration {
	if l.closed.Load() != nil {
		return 0
	}
	return time.Duration(l.end.Load() - l.clock())
}

// Close refuses everything from now on, with reason; the first reason stays.
// Operations that have entered go on: see Drain.
func (l *Lease) Close(reason error) {
	if !errors.Is(reason, stackglue.ErrFenced) && !errors.Is(reason, stackglue.ErrShutdown) {
		reason = fmt.Errorf("%w: %w", stackglue.ErrFenced, reason)
	}
	l.closed.CompareAndSwap(nil, &reason)
	if l.inflight.Load() == 0 {
		l.signal()
	}
}

// Closed returns the reason given to Close, or nil.
func (l *Lease) Closed() error {
	if e := l.closed.Load(); e != nil {
		return *e
	}
	return nil
}

// Drain waits until nothing is in flight behind a closed gate. When it returns nil
// this process will not write to the device again.
func (l *Lease) Drain(ctx context.Context) error {
	select {
	case <-l.drained:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d device writes do not return: %w", l.inflight.Load(), ctx.Err())
	}
}
