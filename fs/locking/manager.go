package locking

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
)

// Config configures a Manager.
type Config struct {
	Tuning Tuning
	// NodeDown is told of a node's death after the recovery map has it: it
	// starts the recovery, which ends with Manager.Recovered. It must not
	// block. May be nil.
	NodeDown func(node uint32)
	// Evicted is told that this node was given up: every lock of it is void.
	// It must not block. May be nil.
	Evicted func(reason error)
	// Logf receives what an operator should read; may be nil.
	Logf func(format string, args ...any)
}

// Counters are what the manager did since it was made.
type Counters struct {
	Raises       atomic.Uint64 // requests and converts up sent
	Lowers       atomic.Uint64 // converts down (and locks given back for another node)
	Drops        atomic.Uint64
	Cancels      atomic.Uint64
	Basts        atomic.Uint64
	Waits        atomic.Uint64 // Lock calls that were not granted at once
	Refreshes    atomic.Uint64
	Passes       atomic.Uint64 // runs of Hooks.Downconvert
	HeldPasses   atomic.Uint64 // of these, with Served requests held
	ClosedPasses atomic.Uint64 // of these, with nothing granted
}

// Bits of Manager.trouble.
const (
	troubleRecovery = 1 << iota
	troubleFenced
	troubleClosed
)

// Manager holds the lock resources of one mount and their connection. It
// implements stackglue.RecoveryHandler: pass it in stackglue.Config.
type Manager struct {
	Counters Counters

	cfg    Config
	tuning Tuning
	conn   atomic.Pointer[stackglue.Conn]
	// trouble is 0 while all is well: the one thing the fast path looks at.
	trouble atomic.Uint32

	recMu     sync.Mutex // guards dead, recovered, reason; changes of trouble
	dead      map[uint32]bool
	recovered chan struct{} // closed when trouble changes
	reason    error

	queueMu  sync.Mutex // guards the rest of the group
	backlog  []*Resource
	workers  int
	flushing map[*Resource]bool // wait for Flushed

	regMu  sync.Mutex // guards the list of resources
	first  *Resource
	nalive int
}

// New makes a manager without a connection; Attach gives it one.
func New(cfg Config) *Manager {
	return &Manager{
		cfg: cfg, tuning: cfg.Tuning.withDefaults(),
		dead: map[uint32]bool{}, recovered: make(chan struct{}), flushing: map[*Resource]bool{},
	}
}

// Attach gives the manager its connection; to be called once, before the
// first Lock.
func (m *Manager) Attach(c stackglue.Conn) { m.conn.Store(&c) }

// Conn returns the connection, nil before Attach.
func (m *Manager) Conn() stackglue.Conn {
	if c := m.conn.Load(); c != nil {
		return *c
	}
	return nil
}

func (m *Manager) now() time.Time { return time.Now() }

func (m *Manager) logf(format string, args ...any) {
	if m.cfg.Logf != nil {
		m.cfg.Logf(format, args...)
	}
}

// queue hands r to a worker. r.mu held.
func (m *Manager) queue(r *Resource) {
	m.queueMu.Lock()
	defer m.queueMu.Unlock()
	if m.workers >= m.tuning.Workers {
		m.backlog = append(m.backlog, r)
		return
	}
	m.workers++
	go m.work(r)
}

// work obeys revokes until there is none left.
func (m *Manager) work(r *Resource) {
	for {
		r.unblock()
		m.queueMu.Lock()
		if len(m.backlog) == 0 {
			m.workers--
			m.queueMu.Unlock()
			return
		}
		r = m.backlog[0]
		m.backlog[0] = nil
		m.backlog = m.backlog[1:]
		m.queueMu.Unlock()
	}
}

// waitFlush notes that r waits for the next Flushed. r.mu held.
func (m *Manager) waitFlush(r *Resource) {
	m.queueMu.Lock()
	m.flushing[r] = true
	m.queueMu.Unlock()
}

// waitsForFlush reports whether r has seen no Flushed since waitFlush.
func (m *Manager) waitsForFlush(r *Resource) bool {
	m.queueMu.Lock()
	defer m.queueMu.Unlock()
	return m.flushing[r]
}

// Flushed tells every resource that waits for the journal to ask Hooks.Ready
// again. The caller may hold no mutex that Hooks.Ready takes.
func (m *Manager) Flushed() {
	m.queueMu.Lock()
	if len(m.flushing) == 0 {
		m.queueMu.Unlock()
		return
	}
	was := m.flushing
	m.flushing = map[*Resource]bool{}
	m.queueMu.Unlock()
	for r := range was {
		r.mu.Lock()
		r.enqueue()
		r.changed()
		r.mu.Unlock()
	}
}

func (m *Manager) register(r *Resource) {
	m.regMu.Lock()
	defer m.regMu.Unlock()
	if r.next = m.first; m.first != nil {
		m.first.prev = r
	}
	m.first = r
	m.nalive++
}

// unregister is safe to call twice and with r.mu held: nobody takes a
// resource's mutex under regMu.
func (m *Manager) unregister(r *Resource) {
	m.regMu.Lock()
	defer m.regMu.Unlock()
	if r.prev == nil && m.first != r {
		return
	}
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		m.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	}
	r.prev, r.next = nil, nil
	m.nalive--
}

// resources is a snapshot of all resources.
func (m *Manager) resources() []*Resource {
	m.regMu.Lock()
	defer m.regMu.Unlock()
	all := make([]*Resource, 0, m.nalive)
	for r := m.first; r != nil; r = r.next {
		all = append(all, r)
	}
	return all
}

// Len returns how many resources there are.
func (m *Manager) Len() int {
	m.regMu.Lock()
	defer m.regMu.Unlock()
	return m.nalive
}

// Request is one lock of LockMany.
type Request struct {
	R     *Resource
	Level stackglue.Mode
	Flags Flags
}

// LockMany takes several locks in one flight of messages. All but the first
// are prefetched, which holds nothing, and then all are locked in the order
// given: that order must obey the lock order of the filesystem, and no other
// can arise. After an error none is held.
func (m *Manager) LockMany(ctx context.Context, reqs ...Request) error {
	for _, q := range reqs[min(1, len(reqs)):] {
		q.R.Prefetch(q.Level)
	}
	for i, q := range reqs {
		if err := q.R.Lock(ctx, q.Level, q.Flags); err != nil {
			for _, done := range reqs[:i] {
				done.R.Unlock(done.Level)
			}
			return err
		}
	}
	return nil
}

// Close fails every Lock from now on with stackglue.ErrShutdown. The
// resources can still be dropped.
func (m *Manager) Close() {
	m.recMu.Lock()
	m.setTrouble(m.trouble.Load() | troubleClosed)
	m.recMu.Unlock()
	m.failWaiters(stackglue.ErrShutdown)
}

// Reopen takes Close back: it is for a forced unmount, which ends what waits
// and then still leaves the cluster in order.
func (m *Manager) Reopen() {
	m.recMu.Lock()
	defer m.recMu.Unlock()
	m.setTrouble(m.trouble.Load() &^ troubleClosed)
}

// failWaiters ends every waiting Lock.
func (m *Manager) failWaiters(err error) {
	for _, r := range m.resources() {
		r.mu.Lock()
		for r.waiting.head != nil {
			r.end(r.waiting.head, fmt.Errorf("lock %s: %w", r.NameString(), err))
		}
		if r.act == actUp && r.flags&virtual == 0 {
			r.cancel()
		}
		r.changed()
		r.mu.Unlock()
	}
}
