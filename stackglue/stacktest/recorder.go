package stacktest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
)

// patience is how long the suite waits for something the contract promises.
const patience = 20 * time.Second

// Node is one connected node of a Factory.
type Node struct {
	Conn stackglue.Conn
	// Crash ends the node as kill -9 would; the others must notice. Nil if
	// the stack has one node.
	Crash func()
}

// Factory connects n nodes to a new, empty group. recs[i] is to be the
// recovery handler of node i. The test's Cleanup must end them all.
type Factory func(t *testing.T, recs []stackglue.RecoveryHandler) []Node

// lk is a lock of the suite: it records every callback.
type lk struct {
	stackglue.Lksb
	t    *testing.T
	conn stackglue.Conn

	mu      sync.Mutex // guards the rest
	cond    *sync.Cond
	inside  int // callbacks running
	asts    int
	status  error
	lvb     [stackglue.LVBLen]byte
	valid   bool
	unlocks int
	cancels int
	ulErr   error
	basts   []stackglue.Mode
	onBast  func(*lk, stackglue.Mode)
}

func newLock(t *testing.T, c stackglue.Conn, name string) *lk {
	k := &lk{t: t, conn: c}
	k.cond = sync.NewCond(&k.mu)
	k.SetName([]byte(name))
	k.Owner = k
	return k
}

func (k *lk) enter() {
	k.mu.Lock()
	if k.inside++; k.inside > 1 {
		k.t.Errorf("lock %q: two callbacks at once", k.NameBytes())
	}
}

func (k *lk) leave() {
	k.inside--
	k.cond.Broadcast()
	k.mu.Unlock()
}

// LockAST implements stackglue.LockOwner.
func (k *lk) LockAST(l *stackglue.Lksb) {
	k.enter()
	defer k.leave()
	k.asts++
	k.status, k.lvb, k.valid = l.Status, l.LVB, l.LVBValid
}

// BlockingAST implements stackglue.LockOwner.
func (k *lk) BlockingAST(_ *stackglue.Lksb, m stackglue.Mode) {
	k.enter()
	defer k.leave()
	if k.asts == 0 {
		k.t.Errorf("lock %q: BAST before any LockAST", k.NameBytes())
	}
	k.basts = append(k.basts, m)
	if k.onBast != nil {
		go k.onBast(k, m)
	}
}

// UnlockAST implements stackglue.LockOwner.
func (k *lk) UnlockAST(_ *stackglue.Lksb, f stackglue.Flags, err error) {
	k.enter()
	defer k.leave()
	if f&stackglue.FlagCancel != 0 {
		k.cancels++
	} else {
		k.unlocks++
	}
	k.ulErr = err
}

// wait waits until cond holds (called with mu held) and fails otherwise.
func (k *lk) wait(what string, cond func() bool) {
	k.t.Helper()
	timer := time.AfterFunc(patience, func() { k.mu.Lock(); k.cond.Broadcast(); k.mu.Unlock() })
	defer timer.Stop()
	end := time.Now().Add(patience)
	k.mu.Lock()
	defer k.mu.Unlock()
	for !cond() {
		if time.Now().After(end) {
			k.t.Fatalf("lock %q: %s did not happen within %v", k.NameBytes(), what, patience)
		}
		k.cond.Wait()
	}
}

// start issues a Lock and returns the number of the LockAST that will end it.
func (k *lk) start(mode stackglue.Mode, f stackglue.Flags) int {
	k.t.Helper()
	k.mu.Lock()
	n := k.asts + 1
	k.mu.Unlock()
	if err := k.conn.Lock(&k.Lksb, mode, f); err != nil {
		k.t.Fatalf("Lock(%q, %v, %#x): %v", k.NameBytes(), mode, f, err)
	}
	return n
}

// ended waits for completion n and returns its status.
func (k *lk) ended(n int) error {
	k.t.Helper()
	k.wait(fmt.Sprintf("completion %d", n), func() bool { return k.asts >= n })
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.asts != n {
		k.t.Fatalf("lock %q: %d completions for %d calls", k.NameBytes(), k.asts, n)
	}
	return k.status
}

// lock is start and ended, expecting the grant.
func (k *lk) lock(mode stackglue.Mode, f stackglue.Flags) {
	k.t.Helper()
	if err := k.ended(k.start(mode, f)); err != nil {
		k.t.Fatalf("lock %q to %v: %v", k.NameBytes(), mode, err)
	}
}

// unlock drops the lock and waits.
func (k *lk) unlock(f stackglue.Flags) {
	k.t.Helper()
	k.mu.Lock()
	n := k.unlocks + 1
	k.mu.Unlock()
	if err := k.conn.Unlock(&k.Lksb, f); err != nil {
		k.t.Fatalf("Unlock(%q): %v", k.NameBytes(), err)
	}
	k.wait("unlock", func() bool { return k.unlocks >= n })
	if k.ulErr != nil {
		k.t.Fatalf("unlock %q: %v", k.NameBytes(), k.ulErr)
	}
}

// quiet fails if the lock gets a completion soon.
func (k *lk) quiet(n int) {
	k.t.Helper()
	<-time.After(50 * time.Millisecond) // there is no event to wait for: nothing may happen
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.asts >= n {
		k.t.Fatalf("lock %q: completed (status %v) though another node holds it", k.NameBytes(), k.status)
	}
}

// downs is a recovery handler that records.
type downs struct {
	mu      sync.Mutex
	nodes   map[uint32]bool
	evicted error
}

func (d *downs) NodeDown(n uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.nodes == nil {
		d.nodes = map[uint32]bool{}
	}
	d.nodes[n] = true
}

func (d *downs) Evicted(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.evicted = err
}

func (d *downs) has(n uint32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.nodes[n]
}
