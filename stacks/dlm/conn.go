package dlm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocfuse/ocfuse/dlm"
	"github.com/ocfuse/ocfuse/dlm/lowcomms"
	"github.com/ocfuse/ocfuse/stackglue"
)

// membership is how a connection learns who is in.
type membership interface {
	// leave takes this node out of the group; the lockspace still exists.
	leave(ctx context.Context) error
	// closed ends it. ended says that this node writes no more.
	close(ctx context.Context, reason error, ended bool) error
	gate() stackglue.Gate
	// describe fills in Status.
	describe(s *stackglue.Status)
}

// conn implements stackglue.Conn.
type conn struct {
	cfg     stackglue.Config
	self    stackglue.ClusterNode
	node    *dlm.Node
	comms   *lowcomms.Node
	net     *countingNet
	space   *dlm.Lockspace
	members membership
	peers   *peerTable

	version   stackglue.Version
	versionLk *dlm.Lock

	locks atomic.Int64  // of the filesystem, requests included
	state atomic.Uint32 // connState
	fence atomic.Pointer[error]
	up    atomic.Bool // comms exists

	ready  chan struct{} // a round of recovery is complete: capacity 1
	fenced chan struct{} // closed when this node is out

	mu      sync.Mutex
	rounds  uint64 // completed rounds; guarded by mu
	failed  error  // recovery cannot go on; guarded by mu
	torn    bool   // teardown has run; guarded by mu
	evicted sync.Once
}

// connState says what a connection still takes.
type connState = uint32

const (
	stateOpen connState = iota
	stateClosing
	stateClosed
)

var _ stackglue.Conn = (*conn)(nil)

// usable returns why no lock call is taken any more, or nil.
func (c *conn) usable() error {
	if c.state.Load() != stateOpen {
		return stackglue.ErrShutdown
	}
	if e := c.fence.Load(); e != nil {
		return *e
	}
	return nil
}

// over says that no callback may run any more.
func (c *conn) over() bool { return c.state.Load() == stateClosed }

// Version implements stackglue.Conn.
func (c *conn) Version() stackglue.Version { return c.version }

// ThisNode implements stackglue.Conn.
func (c *conn) ThisNode() uint32 { return c.cfg.Node }

// Gate implements stackglue.Conn.
func (c *conn) Gate() stackglue.Gate { return c.members.gate() }

// events connects the lockspace to the connection. They run on its callback
// goroutine, in order with all ASTs.
func (c *conn) events() dlm.Events {
	return dlm.Events{
		Slot: func(s dlm.Slot) {
			if !c.over() {
				c.cfg.Logf("node %d has died; recovering", s.NodeID)
				c.cfg.Recovery.NodeDown(uint32(s.NodeID))
			}
		},
		Done: func(slots []dlm.Slot, _ uint16, gen uint32) {
			c.mu.Lock()
			c.rounds++
			c.failed = nil
			c.mu.Unlock()
			c.wake()
			c.cfg.Logf("lockspace runs with %d members, generation %d", len(slots), gen)
		},
		Failed: func(err error) {
			c.mu.Lock()
			c.failed = err
			c.mu.Unlock()
			c.wake()
			c.cfg.Logf("recovery of the lockspace failed: %v", err)
		},
	}
}

func (c *conn) wake() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// waitRound waits until a round after number n is complete.
func (c *conn) waitRound(ctx context.Context, n uint64, hangup <-chan error) error {
	for {
		c.mu.Lock()
		rounds, failed := c.rounds, c.failed
		c.mu.Unlock()
		switch {
		case failed != nil:
			return failed
		case rounds > n:
			return nil
		}
		select {
		case <-c.ready:
		case err := <-hangup:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Disconnect implements stackglue.Conn.
func (c *conn) Disconnect(ctx context.Context) error {
	if n := c.locks.Load(); n != 0 && c.usable() == nil {
		return fmt.Errorf("%d locks have not been dropped: %w", n, stackglue.ErrBusy)
	}
	if !c.state.CompareAndSwap(stateOpen, stateClosing) {
		return stackglue.ErrShutdown
	}
	if c.fence.Load() != nil {
		c.teardown(ctx, stackglue.ErrShutdown, false)
		return nil
	}
	err := c.depart(ctx)
	if err != nil {
		// Leaving in order did not work: go as a node that died would, so that
		// the others recover what we may have left behind.
		c.cfg.Logf("leaving the group: %v; the other nodes will recover this one", err)
		c.teardown(ctx, stackglue.ErrShutdown, false)
	}
	return err
}

// depart leaves in order.
func (c *conn) depart(ctx context.Context) error {
	if c.versionLk != nil {
		if err := c.versionLk.UnlockWait(ctx, 0, nil); err != nil {
			return fmt.Errorf("unlocking %s: %w", versionLock, err)
		}
	}
	if err := c.members.leave(ctx); err != nil {
		return err
	}
	c.teardown(ctx, stackglue.ErrShutdown, true)
	return nil
}

// Abort implements stackglue.Conn.
func (c *conn) Abort() {
	if c.state.Swap(stateClosed) == stateClosed {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), abortLimit)
	defer cancel()
	c.teardown(ctx, stackglue.ErrShutdown, false)
}

// abortLimit bounds how long Abort waits for device writes that do not return.
const abortLimit = 10 * time.Second

// teardown ends everything, once: gate, lockspace, transport, membership. orderly
// says that the peers have let us go.
func (c *conn) teardown(ctx context.Context, reason error, orderly bool) {
	c.state.Store(stateClosed)
	c.mu.Lock()
	torn := c.torn
	c.torn = true
	c.mu.Unlock()
	if torn {
		return
	}
	if l, ok := c.members.gate().(interface{ Close(error) }); ok {
		l.Close(reason)
	}
	if c.space != nil {
		// Forced: what is left (after an eviction, an abort) is not called back.
		if err := c.space.Release(true); err != nil && !errors.Is(err, dlm.ErrState) {
			c.cfg.Logf("releasing the lockspace: %v", err)
		}
	}
	if !orderly && c.comms != nil {
		_ = c.comms.Close() // nothing is owed to anybody
	}
	if err := c.members.close(ctx, reason, true); err != nil {
		c.cfg.Logf("ending the membership: %v", err)
	}
}

// evict is called when this node may not go on. The gate is closed by then.
func (c *conn) evict(reason error) {
	c.evicted.Do(func() {
		if !errors.Is(reason, stackglue.ErrFenced) {
			reason = fmt.Errorf("%w: %w", stackglue.ErrFenced, reason)
		}
		c.fence.Store(&reason)
		close(c.fenced)
		c.cfg.Logf("this node is out: %v", reason)
		go func() {
			if c.up.Load() {
				_ = c.comms.Close() // the peers must not hear from us again
			}
			if !c.over() {
				c.cfg.Recovery.Evicted(reason)
			}
		}()
	})
}
