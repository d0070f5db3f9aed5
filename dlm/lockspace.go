package dlm

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ocfuse/ocfuse/dlm/core"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Config describes a lockspace. Name, LVBLen and LSFlags must be the same on all nodes.
type Config struct {
	Name    string
	LVBLen  int    // bytes, multiple of 8; 64 for ocfs2
	LSFlags uint32 // 0 for everything Linux uses
	User    bool   // locks carry USER: only for lockspaces that the kernel peers created from user space
	Events  Events
	// Logf gets a line for each message that was not acted upon, and for each that could not be sent; nil discards. It
	// is called with the lockspace locked and must not call back.
	Logf func(format string, args ...any)
}

// Lockspace is one lock domain on this node. Safe for concurrent use.
type Lockspace struct {
	node  *Node
	cfg   Config
	birth time.Time

	mu      sync.Mutex
	core    *core.Core
	timer   *time.Timer
	timerAt int64  // deadline the timer is set for, 0 none; guarded by mu
	sendBuf []byte // guarded by mu
	queue   []callback
	spare   []callback    // the other half of the double buffer
	wake    chan struct{} // capacity 1: queue is not empty
	done    chan struct{} // the callback goroutine has ended
	closed  bool          // guarded by mu
}

// callback is one call of a Handler or of Events that is due.
type callback struct {
	kind  cbKind
	lock  *Lock
	st    Status
	mode  Mode
	lvb   []byte // kept with the entry, to be used again
	slots []Slot
	slot  uint16
	gen   uint32
	err   error
}

type cbKind uint8

const (
	cbAST cbKind = iota
	cbBAST
	cbPrep
	cbSlot
	cbDone
	cbFailed
)

// firstPoll is how soon a node that is not as far as we are in a recovery is asked
// again: about a round trip, since ours move on at the same time.
const firstPoll = time.Millisecond

func newLockspace(n *Node, cfg Config) (*Lockspace, error) {
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	ls := &Lockspace{node: n, cfg: cfg, birth: time.Now(), wake: make(chan struct{}, 1), done: make(chan struct{})}
	c, err := core.New(core.Config{NodeID: int32(n.self), Name: cfg.Name, LVBLen: cfg.LVBLen, LSFlags: cfg.LSFlags,
		User: cfg.User, RcomID: uint64(ls.birth.UnixNano()), FirstPoll: int64(firstPoll)}, (*effects)(ls))
	if err != nil {
		return nil, err
	}
	ls.core = c
	ls.timer = time.AfterFunc(time.Hour, ls.onTimer)
	ls.timer.Stop()
	go ls.runCallbacks()
	return ls, nil
}

// enter locks the lockspace and tells the core the time.
func (ls *Lockspace) enter() {
	ls.mu.Lock()
	ls.core.Tick(int64(time.Since(ls.birth)))
}

// leave sets the timer and unlocks.
func (ls *Lockspace) leave() {
	if at, ok := ls.core.Deadline(); ok && (ls.timerAt == 0 || at < ls.timerAt) {
		ls.timerAt = max(at, 1)
		ls.timer.Reset(time.Duration(at) - time.Since(ls.birth))
	}
	ls.mu.Unlock()
}

func (ls *Lockspace) onTimer() {
	ls.mu.Lock()
	ls.timerAt = 0
	if !ls.closed {
		ls.core.Tick(int64(time.Since(ls.birth)))
	}
	ls.leave()
}

// Stop stops locking: when it returns no message of a peer is acted upon until the recovery after the next Start.
// Operations issued meanwhile wait for that.
func (ls *Lockspace) Stop() error {
	ls.enter()
	defer ls.leave()
	return ls.core.Stop()
}

// Start begins recovery with a new member list, which must include this node and be the same on all members, after all
// of them have stopped. failed names departed members that died. Locking runs when Events.Done is called.
func (ls *Lockspace) Start(members []Member, failed []int32) error {
	ls.enter()
	defer ls.leave()
	return ls.core.Start(members, failed)
}

// Release ends the lockspace on this node; the other members must be told to go on without it. Without force it fails
// with ErrBusy while locks of this node exist. With force they are forgotten: their owners get no more callbacks, and
// waiting calls end with ErrState. It returns when no callback runs any more, so it must not be called from one.
func (ls *Lockspace) Release(force bool) error {
	ls.enter()
	err := ls.core.Release(force)
	if err == nil {
		ls.node.remove(ls)
		ls.closeLocked()
	}
	ls.mu.Unlock()
	if err == nil {
		<-ls.done
	}
	return err
}

func (ls *Lockspace) close() {
	ls.mu.Lock()
	ls.closeLocked()
	ls.mu.Unlock()
	<-ls.done
}

// closeLocked: mu held.
func (ls *Lockspace) closeLocked() {
	ls.closed = true
	ls.timer.Stop()
	close(ls.wake)
}

// Membership returns the current membership and how far recovery is.
func (ls *Lockspace) Membership() core.Membership {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.core.Membership()
}

// Stats returns the counters of the core.
func (ls *Lockspace) Stats() core.Stats {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.core.Stats()
}

// Resources calls f for each resource (see core.Core.Resources) with the lockspace locked. Own locks carry their *Lock
// in LockInfo.Data.
func (ls *Lockspace) Resources(all bool, f func(*core.ResourceInfo) bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.core.Resources(all, f)
}

// receive is a message of a peer for this lockspace.
func (ls *Lockspace) receive(from uint32, cmd wire.Cmd, inner []byte) {
	ls.enter()
	defer ls.leave()
	if ls.closed {
		return
	}
	var err error
	switch cmd {
	case wire.CmdMsg:
		var m wire.Message
		if err = m.Decode(inner); err == nil {
			err = ls.core.Receive(int32(from), &m)
		}
	case wire.CmdRcom:
		var m wire.Rcom
		if err = m.Decode(inner); err == nil {
			err = ls.core.ReceiveRcom(int32(from), &m)
		}
	}
	if err != nil {
		ls.cfg.Logf("dlm: from node %d: %v", from, err)
	}
}

// runCallbacks is the goroutine that calls Handler and Events.
func (ls *Lockspace) runCallbacks() {
	defer close(ls.done)
	for range ls.wake {
		ls.mu.Lock()
		if ls.closed {
			ls.mu.Unlock()
			return
		}
		batch := ls.queue
		ls.queue, ls.spare = ls.spare[:0], nil
		ls.mu.Unlock()
		for i := range batch {
			ls.call(&batch[i])
		}
		ls.mu.Lock()
		ls.spare = batch
		ls.mu.Unlock()
	}
}

func (ls *Lockspace) call(cb *callback) {
	ev := &ls.cfg.Events
	switch cb.kind {
	case cbAST:
		if cb.st.LVB != nil {
			cb.st.LVB = cb.lvb
		}
		cb.lock.handler.AST(cb.lock, cb.st)
	case cbBAST:
		cb.lock.handler.BAST(cb.lock, cb.mode)
	case cbPrep:
		if ev.Prep != nil {
			ev.Prep()
		}
	case cbSlot:
		if ev.Slot != nil {
			ev.Slot(cb.slots[0])
		}
	case cbDone:
		if ev.Done != nil {
			ev.Done(cb.slots, cb.slot, cb.gen)
		}
	case cbFailed:
		if ev.Failed != nil {
			ev.Failed(cb.err)
		}
	}
	*cb = callback{lvb: cb.lvb[:0]}
}

// post returns a new entry at the end of the queue. mu held.
func (ls *Lockspace) post(kind cbKind) *callback {
	n := len(ls.queue)
	if n < cap(ls.queue) {
		ls.queue = ls.queue[:n+1]
	} else {
		ls.queue = append(ls.queue, callback{})
	}
	cb := &ls.queue[n]
	*cb = callback{kind: kind, lvb: cb.lvb}
	if !ls.closed {
		select {
		case ls.wake <- struct{}{}:
		default:
		}
	}
	return cb
}

// effects is the Lockspace as the core sees it. All methods run with mu held.
type effects Lockspace

// Send implements core.Effects.
func (e *effects) Send(to int32, m *wire.Message) {
	e.sendBuf = m.Append(e.sendBuf[:0])
	e.transmit(to, m.Type)
}

// SendRcom implements core.Effects.
func (e *effects) SendRcom(to int32, m *wire.Rcom) {
	e.sendBuf = m.Append(e.sendBuf[:0])
	e.transmit(to, m.Type)
}

// transmit: a message that the network refuses is lost. For STATUS and NAMES that is normal, they are repeated; the
// others are refused only to nodes that are on their way out.
func (e *effects) transmit(to int32, what fmt.Stringer) {
	net := e.node.network()
	if net == nil {
		e.cfg.Logf("dlm: %v to node %d: no network is attached", what, to)
		return
	}
	if err := net.Send(uint32(to), e.sendBuf); err != nil {
		e.cfg.Logf("dlm: %v to node %d: %v", what, to, err)
	}
}

// Complete implements core.Effects.
func (e *effects) Complete(cb *core.Completion) {
	cb.Data.(*Lock).complete((*Lockspace)(e), cb)
}

// Block implements core.Effects.
func (e *effects) Block(b *core.Blocking) {
	l := b.Data.(*Lock)
	if l.handler != nil && !l.abandoned {
		cb := (*Lockspace)(e).post(cbBAST)
		cb.lock, cb.mode = l, b.Mode
	}
}

// MemberAdded implements core.Effects.
func (e *effects) MemberAdded(id int32) {
	if net := e.node.network(); net != nil {
		if err := net.AddMember(uint32(id)); err != nil {
			e.cfg.Logf("dlm: adding node %d: %v", id, err)
		}
	}
}

// MemberRemoved implements core.Effects.
func (e *effects) MemberRemoved(id int32) {
	if net := e.node.network(); net != nil {
		if err := net.RemoveMember(uint32(id)); err != nil {
			e.cfg.Logf("dlm: removing node %d: %v", id, err)
		}
	}
}

// RecoverPrep implements core.Effects.
func (e *effects) RecoverPrep() { (*Lockspace)(e).post(cbPrep) }

// RecoverSlot implements core.Effects.
func (e *effects) RecoverSlot(s Slot) { (*Lockspace)(e).post(cbSlot).slots = []Slot{s} }

// RecoverDone implements core.Effects.
func (e *effects) RecoverDone(slots []Slot, our uint16, gen uint32) {
	cb := (*Lockspace)(e).post(cbDone)
	cb.slots, cb.slot, cb.gen = slices.Clone(slots), our, gen
}

// RecoverFailed implements core.Effects.
func (e *effects) RecoverFailed(err error) { (*Lockspace)(e).post(cbFailed).err = err }
