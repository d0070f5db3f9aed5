package local

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/ocfuse/ocfuse/stackglue"
)

func init() { stackglue.Register(Plugin{}) }

// Plugin implements stackglue.Plugin.
type Plugin struct{}

// Name implements stackglue.Plugin.
func (Plugin) Name() string { return "local" }

// Labels implements stackglue.Plugin: no label on disk names this stack; the
// volume's feature bit does.
func (Plugin) Labels() []string { return nil }

// Connect implements stackglue.Plugin.
func (Plugin) Connect(_ context.Context, cfg stackglue.Config) (stackglue.Conn, error) {
	return &conn{node: cfg.Node, version: cfg.Protocol}, nil
}

type conn struct {
	node    uint32
	version stackglue.Version
	closed  atomic.Bool
	locks   atomic.Int64
	calls   atomic.Uint64
	ids     atomic.Uint64
}

// held is a Lksb.Handle.
type held struct {
	mode stackglue.Mode
	busy atomic.Bool // a call is in flight: its completion is running
	lvb  [stackglue.LVBLen]byte
}

// Version implements stackglue.Conn.
func (c *conn) Version() stackglue.Version { return c.version }

// ThisNode implements stackglue.Conn.
func (c *conn) ThisNode() uint32 { return c.node }

// Gate implements stackglue.Conn: nobody can fence the only node.
func (c *conn) Gate() stackglue.Gate { return nil }

// Lock implements stackglue.Conn.
func (c *conn) Lock(l *stackglue.Lksb, mode stackglue.Mode, flags stackglue.Flags) error {
	if c.closed.Load() {
		return stackglue.ErrShutdown
	}
	h, _ := l.Handle.(*held)
	if h == nil {
		h = &held{mode: stackglue.IV}
		l.Handle, l.ID = h, c.ids.Add(1)
	}
	if !h.busy.CompareAndSwap(false, true) {
		return fmt.Errorf("lock %q: %w", l.NameBytes(), stackglue.ErrBusy)
	}
	exists := h.mode != stackglue.IV
	if exists != (flags&stackglue.FlagConvert != 0) || mode < stackglue.NL || mode > stackglue.EX {
		h.busy.Store(false)
		return fmt.Errorf("lock %q at %v to %v, flags %#x: %w", l.NameBytes(), h.mode, mode, flags, stackglue.ErrInvalid)
	}
	if !exists {
		c.locks.Add(1)
		h.lvb = [stackglue.LVBLen]byte{}
	}
	if flags&stackglue.FlagValBlk != 0 {
		if h.mode >= stackglue.PW && mode < h.mode {
			h.lvb = l.LVB
		} else {
			l.LVB = h.lvb
		}
	}
	h.mode, l.LVBValid, l.Status = mode, true, nil
	c.calls.Add(1)
	h.busy.Store(false)
	l.Owner.LockAST(l)
	return nil
}

// Unlock implements stackglue.Conn.
func (c *conn) Unlock(l *stackglue.Lksb, flags stackglue.Flags) error {
	h, _ := l.Handle.(*held)
	switch {
	case c.closed.Load():
		return stackglue.ErrShutdown
	case flags&stackglue.FlagCancel != 0:
		// Every call has ended by the time it returns: nothing to cancel.
		l.Owner.UnlockAST(l, flags, nil)
		return nil
	case h == nil || h.mode == stackglue.IV:
		return fmt.Errorf("unlock %q, which is not locked: %w", l.NameBytes(), stackglue.ErrInvalid)
	}
	if !h.busy.CompareAndSwap(false, true) {
		return fmt.Errorf("unlock %q: %w", l.NameBytes(), stackglue.ErrBusy)
	}
	h.mode = stackglue.IV
	c.locks.Add(-1)
	c.calls.Add(1)
	h.busy.Store(false)
	l.Owner.UnlockAST(l, flags, nil)
	return nil
}

// Status implements stackglue.Conn.
func (c *conn) Status() stackglue.Status {
	return stackglue.Status{
		Stack: "local", Node: c.node, Protocol: c.version.String(), Membership: "none", View: 1,
		Members: []stackglue.Member{{Node: c.node, State: "self"}}, Fencing: "not needed: single node",
		Messages: stackglue.Counters{"calls": c.calls.Load()},
	}
}

// Dump implements stackglue.Conn. The stack keeps no table of locks: the one
// node's view is that of fs/locking.
func (c *conn) Dump(func(stackglue.LockDump)) {}

// Disconnect implements stackglue.Conn.
func (c *conn) Disconnect(context.Context) error {
	if n := c.locks.Load(); n != 0 && !c.closed.Load() {
		return fmt.Errorf("%d locks have not been dropped: %w", n, stackglue.ErrBusy)
	}
	c.closed.Store(true)
	return nil
}

// Abort implements stackglue.Conn.
func (c *conn) Abort() { c.closed.Store(true) }
