package fakestack

import (
	"context"
	"fmt"
	"math/rand"
	"sync"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
)

// Options shape a Cluster.
type Options struct {
	Seed int64
	// CallDelay is the longest time a call takes to reach the lock manager.
	CallDelay time.Duration
	// CallbackDelay is the longest time an AST or BAST takes.
	CallbackDelay time.Duration
	// Sync runs completions of calls that end at once before the call
	// returns. It has no effect with delays.
	Sync bool
}

// Cluster is one group of nodes.
type Cluster struct {
	opts Options

	mu    sync.Mutex // guards everything below, and every lock and resource
	rng   *rand.Rand
	nodes map[uint32]*Conn
	names map[string]*resource
	ids   uint64
}

type resource struct {
	name     string
	granted  []*lock
	convert  []*lock
	waiting  []*lock
	lvb      [stackglue.LVBLen]byte
	lvbBad   bool // the last EX holder died with the only true copy
	lvbSeq   uint32
	lvbKnown bool // somebody has written it
}

// lock is a Lksb.Handle.
type lock struct {
	conn *Conn
	l    *stackglue.Lksb
	res  *resource // nil: no lock exists
	id   uint64
	mode stackglue.Mode // granted
	want stackglue.Mode // while converting or waiting
	flag stackglue.Flags

	busy       bool // a Lock or Unlock is in flight
	cancelling bool
	told       stackglue.Mode // highest mode a BAST was sent for

	calls      []func() // accepted, not yet with the lock manager
	calling    bool
	events     []event
	delivering bool // somebody runs the callbacks
}

type event struct {
	kind   eventKind
	status error
	mode   stackglue.Mode
	lvb    *[stackglue.LVBLen]byte
	valid  bool
}

type eventKind uint8

const (
	lockAST eventKind = iota
	unlockAST
	cancelAST
	bast
)

// New makes a cluster without nodes.
func New(o Options) *Cluster {
	return &Cluster{opts: o, rng: rand.New(rand.NewSource(o.Seed)), nodes: map[uint32]*Conn{}, names: map[string]*resource{}}
}

// Conn is one node's connection.
type Conn struct {
	c        *Cluster
	node     uint32
	recovery stackglue.RecoveryHandler
	closed   bool
	locks    map[*lock]bool // that exist
	running  int            // callbacks and delayed calls under way
	idle     *sync.Cond
	sent     stackglue.Counters
}

var _ stackglue.Conn = (*Conn)(nil)

// Connect adds a node. rec may be nil.
func (c *Cluster) Connect(node uint32, rec stackglue.RecoveryHandler) (*Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nodes[node] != nil {
		return nil, fmt.Errorf("fakestack: node %d is connected already: %w", node, stackglue.ErrInvalid)
	}
	n := &Conn{c: c, node: node, recovery: rec, locks: map[*lock]bool{}, sent: stackglue.Counters{}}
	n.idle = sync.NewCond(&c.mu)
	c.nodes[node] = n
	return n, nil
}

// Kill removes a node as a crash would: the others hear of it, and only then
// its locks go. The node's own calls fail with ErrShutdown, and no callback of
// it starts any more.
func (c *Cluster) Kill(node uint32) { c.remove(node, nil) }

// Evict is Kill of a node that is still running and is told so first.
func (c *Cluster) Evict(node uint32, reason error) { c.remove(node, reason) }

func (c *Cluster) remove(node uint32, reason error) {
	c.mu.Lock()
	n := c.nodes[node]
	if n == nil || n.closed {
		c.mu.Unlock()
		return
	}
	n.closed = true
	delete(c.nodes, node)
	var others []*Conn
	for _, o := range c.nodes {
		others = append(others, o)
	}
	c.mu.Unlock()
	if reason != nil && n.recovery != nil {
		n.recovery.Evicted(reason)
	}
	for _, o := range others {
		if o.recovery != nil {
			o.recovery.NodeDown(node)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range n.locks {
		r := k.res
		if k.mode == stackglue.EX || k.mode == stackglue.PW {
			r.lvbBad = true
		}
		c.detach(k)
		c.grantPending(r)
	}
}

func (c *Cluster) delay(limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return time.Duration(c.rng.Int63n(int64(limit)))
}

// Version implements stackglue.Conn.
func (n *Conn) Version() stackglue.Version { return stackglue.Version{Major: 1} }

// ThisNode implements stackglue.Conn.
func (n *Conn) ThisNode() uint32 { return n.node }

// Gate implements stackglue.Conn: there is no device to guard.
func (n *Conn) Gate() stackglue.Gate { return nil }

// Lock implements stackglue.Conn.
func (n *Conn) Lock(l *stackglue.Lksb, mode stackglue.Mode, flags stackglue.Flags) error {
	c := n.c
	c.mu.Lock()
	if n.closed {
		c.mu.Unlock()
		return stackglue.ErrShutdown
	}
	k, _ := l.Handle.(*lock)
	if k == nil {
		c.ids++
		k = &lock{conn: n, l: l, id: c.ids, mode: stackglue.IV, told: stackglue.IV}
		l.Handle, l.ID = k, k.id
	}
	if k.busy || k.cancelling {
		c.mu.Unlock()
		return fmt.Errorf("fakestack: %q: %w", l.NameBytes(), stackglue.ErrBusy)
	}
	if (flags&stackglue.FlagConvert != 0) != (k.res != nil) || mode < stackglue.NL || mode > stackglue.EX {
		c.mu.Unlock()
		return fmt.Errorf("fakestack: %q: mode %v flags %#x: %w", l.NameBytes(), mode, flags, stackglue.ErrInvalid)
	}
	k.busy = true
	if flags&stackglue.FlagConvert != 0 {
		n.sent["convert"]++
	} else {
		n.sent["request"]++
	}
	var lvb *[stackglue.LVBLen]byte
	if writesLVB(k.mode, mode, flags) {
		v := l.LVB
		lvb = &v
	}
	c.submit(k, func() { c.doLock(k, mode, flags, lvb) })
	return nil
}

// writesLVB: a convert that leaves EX (or PW) publishes the value block.
func writesLVB(from, to stackglue.Mode, f stackglue.Flags) bool {
	return f&stackglue.FlagValBlk != 0 && from >= stackglue.PW && to < from
}

// Unlock implements stackglue.Conn.
func (n *Conn) Unlock(l *stackglue.Lksb, flags stackglue.Flags) error {
	c := n.c
	c.mu.Lock()
	k, _ := l.Handle.(*lock)
	cancel := flags&stackglue.FlagCancel != 0
	var err error
	switch {
	case n.closed:
		err = stackglue.ErrShutdown
	case k == nil:
		err = stackglue.ErrInvalid
	case k.cancelling || k.busy && !cancel:
		err = stackglue.ErrBusy
	case !cancel && k.res == nil:
		err = stackglue.ErrInvalid
	}
	if err != nil {
		c.mu.Unlock()
		return fmt.Errorf("fakestack: unlock %q: %w", l.NameBytes(), err)
	}
	if cancel {
		k.cancelling = true
		n.sent["cancel"]++
		c.submit(k, func() { c.doCancel(k) })
		return nil
	}
	k.busy = true
	n.sent["unlock"]++
	var lvb *[stackglue.LVBLen]byte
	if writesLVB(k.mode, stackglue.IV, flags) {
		v := l.LVB
		lvb = &v
	}
	c.submit(k, func() { c.doUnlock(k, lvb) })
	return nil
}

// submit runs a call of k, in order, after its delay. mu held; released.
func (c *Cluster) submit(k *lock, call func()) {
	if c.opts.CallDelay <= 0 {
		inline := c.opts.Sync && c.opts.CallbackDelay <= 0 && !k.delivering
		if inline {
			k.delivering = true // keeps post from starting a goroutine
			k.conn.running++
		}
		call()
		c.mu.Unlock()
		if inline {
			c.deliver(k)
		}
		return
	}
	k.calls = append(k.calls, call)
	if !k.calling {
		k.calling = true
		k.conn.running++
		go c.runCalls(k)
	}
	c.mu.Unlock()
}

func (c *Cluster) runCalls(k *lock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(k.calls) != 0 && !k.conn.closed {
		d := c.delay(c.opts.CallDelay)
		c.mu.Unlock()
		time.Sleep(d)
		c.mu.Lock()
		if k.conn.closed {
			break
		}
		call := k.calls[0]
		k.calls = k.calls[1:]
		call()
	}
	k.calling = false
	k.conn.running--
	k.conn.idle.Broadcast()
}

// post queues a callback of k and sees that somebody delivers it. mu held.
func (c *Cluster) post(k *lock, e event) {
	if k.conn.closed {
		return
	}
	k.events = append(k.events, e)
	if !k.delivering {
		k.delivering = true
		k.conn.running++
		go c.deliver(k)
	}
}

// deliver runs the callbacks of k in order until there are none.
func (c *Cluster) deliver(k *lock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(k.events) != 0 && !k.conn.closed {
		if d := c.delay(c.opts.CallbackDelay); d > 0 {
			c.mu.Unlock()
			time.Sleep(d)
			c.mu.Lock()
			if k.conn.closed {
				break
			}
		}
		e := k.events[0]
		k.events = k.events[1:]
		c.finish(k, e)
		c.mu.Unlock()
		switch e.kind {
		case lockAST:
			k.l.Owner.LockAST(k.l)
		case unlockAST:
			k.l.Owner.UnlockAST(k.l, 0, e.status)
		case cancelAST:
			k.l.Owner.UnlockAST(k.l, stackglue.FlagCancel, e.status)
		case bast:
			k.l.Owner.BlockingAST(k.l, e.mode)
		}
		c.mu.Lock()
	}
	k.delivering = false
	k.conn.running--
	k.conn.idle.Broadcast()
}

// finish makes the Lksb show what the callback is about to tell. mu held.
func (c *Cluster) finish(k *lock, e event) {
	switch e.kind {
	case lockAST:
		k.busy = false
		k.l.Status = e.status
		if e.lvb != nil {
			k.l.LVB = *e.lvb
		}
		if e.status == nil {
			k.l.LVBValid = e.valid
		}
	case unlockAST:
		k.busy = false
	case cancelAST:
		k.cancelling = false
	}
}

// Disconnect implements stackglue.Conn.
func (n *Conn) Disconnect(ctx context.Context) error {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.closed {
		return nil
	}
	if len(n.locks) != 0 {
		return fmt.Errorf("fakestack: node %d leaves with %d locks: %w", n.node, len(n.locks), stackglue.ErrBusy)
	}
	n.closed = true
	delete(n.c.nodes, n.node)
	for n.running != 0 {
		n.idle.Wait()
	}
	return nil
}

// Abort implements stackglue.Conn.
func (n *Conn) Abort() {
	n.c.Kill(n.node)
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	for n.running != 0 {
		n.idle.Wait()
	}
}

// Status implements stackglue.Conn.
func (n *Conn) Status() stackglue.Status {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	s := stackglue.Status{Stack: "fake", Node: n.node, Protocol: n.Version().String(), Membership: "none", Fencing: "none",
		Messages: stackglue.Counters{}}
	for k, v := range n.sent {
		s.Messages[k] = v
		s.MessagesSent += v
	}
	for id := range n.c.nodes {
		s.Members = append(s.Members, stackglue.Member{Node: id, State: "member"})
	}
	return s
}

// Dump implements stackglue.Conn.
func (n *Conn) Dump(fn func(stackglue.LockDump)) {
	n.c.mu.Lock()
	var all []stackglue.LockDump
	for _, r := range n.c.names {
		d := stackglue.LockDump{Name: []byte(r.name), LVB: append([]byte(nil), r.lvb[:]...), LVBSeq: r.lvbSeq}
		for q, list := range map[string][]*lock{"granted": r.granted, "convert": r.convert, "waiting": r.waiting} {
			for _, k := range list {
				d.Locks = append(d.Locks, stackglue.LockRow{Node: k.conn.node, ID: k.id, Queue: q, Mode: k.mode, Want: k.want})
			}
		}
		all = append(all, d)
	}
	n.c.mu.Unlock()
	for _, d := range all {
		fn(d)
	}
}
