package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocfuse/ocfuse/journal/format"
)

var errStopped = errors.New("journal: handle used after Stop")

// writeFeatures are the features a log may have for us to write it. fsck.ocfs2
// knows no others; REVOKE only allows revoke records, we write none.
const writeFeatures = format.IncompatRevoke | format.Incompat64Bit

// Journal is an open log.
type Journal struct {
	cfg        Config // immutable, defaults filled in
	layout     format.Layout
	log        logMap
	ring       ring
	maxTrans   int   // log blocks of the largest transaction: s_maxlen/4
	maxCredits int   // images of the largest transaction
	errno      int32 // s_errno found at Open
	foreign    bool  // s_uuid is not the volume's

	// sbMu serialises changes of the journal superblock and is held over its write.
	// Order: sbMu, then mu.
	sbMu     sync.Mutex
	super    format.Superblock // as last written; guarded by sbMu
	superBuf []byte            // log block 0; guarded by sbMu

	mu         sync.Mutex
	running    *transaction   // never nil; guarded by mu
	committing *transaction   // frozen, not yet durable; guarded by mu
	committed  []*transaction // durable, images not yet home, oldest first; guarded by mu
	head       uint32         // log block where the next transaction goes; guarded by mu
	used       int            // log blocks of committing, committed, and those whose space the tail has not freed; guarded by mu
	retained   int64          // bytes of committed transactions' buffers; guarded by mu
	commitTo   uint64         // commits are wanted up to this tid; guarded by mu
	spaceWant  bool           // a Start waits for log space; guarded by mu
	down       bool           // closed or aborted: no new handles; guarded by mu
	handleID   uint64         // last handle id given out; guarded by mu
	startWaits uint64         // guarded by mu
	changed    event          // running transaction opened, or log space freed; guarded by mu
	tailMoved  event          // guarded by mu
	timer      *time.Timer    // commit interval; guarded by mu
	timerOn    bool           // guarded by mu
	spare      [][]byte       // buffers for reuse; guarded by mu
	spareBytes int            // guarded by mu

	durable atomic.Uint64 // all transactions up to this tid are durable
	tail    atomic.Uint64 // a replay cannot see transactions before this tid

	kickCommit     chan struct{}
	kickCheckpoint chan struct{}
	stop           chan struct{} // closed by Close
	stopOnce       sync.Once
	aborted        chan struct{} // closed by the first abort
	abortErr       atomic.Pointer[error]
	threads        sync.WaitGroup

	count counters
}

// counters back Stats.
type counters struct {
	commits, commitBlocks, checkpoints, homeBlocks, homeWrites atomic.Uint64
	fullFlushes, fullFlushFree, flushes, fuas, superWrites     atomic.Uint64
}

// Open reads and validates the journal superblock and starts the journal. The log
// must be empty (s_start 0), else ErrNeedsReplay: call Replay for a dirty slot,
// Wipe for a clean one. Nothing is written before the first commit.
func Open(cfg Config) (*Journal, error) {
	cfg.fill()
	log, err := newLogMap(cfg.Extents, cfg.BlockSize)
	if err != nil {
		return nil, err
	}
	super, buf, err := readSuper(cfg.Dev, &log, cfg.AllocBuf)
	if err != nil {
		return nil, err
	}
	if bad := super.Incompat &^ writeFeatures; bad != 0 {
		return nil, fmt.Errorf("%w: log has %v, only REVOKE and 64BIT can be written", ErrUnsupported, bad)
	}
	if super.Start != 0 {
		return nil, fmt.Errorf("%w: it starts at log block %d with transaction %d", ErrNeedsReplay, super.Start, super.Sequence)
	}
	layout, err := format.NewLayout(cfg.BlockSize, super.Incompat)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	j := &Journal{
		cfg: cfg, layout: layout, log: log, errno: super.Errno,
		foreign: cfg.VolumeUUID != [16]byte{} && cfg.VolumeUUID != super.UUID,
		ring:    ring{first: super.First, end: super.MaxLen},
		super:   super, superBuf: buf, head: super.First,
		kickCommit:     make(chan struct{}, 1),
		kickCheckpoint: make(chan struct{}, 1),
		stop:           make(chan struct{}),
		aborted:        make(chan struct{}),
	}
	if err := j.sizes(); err != nil {
		return nil, err
	}
	// The high half makes tids start above 0 (an untouched Owner) and lets the
	// sequence on disk wrap while tids only grow.
	tid := 1<<32 | uint64(super.Sequence)
	j.running = newTransaction(tid)
	j.durable.Store(tid - 1)
	j.tail.Store(tid)
	j.threads.Add(2)
	go j.commitLoop()
	go j.checkpointLoop()
	return j, nil
}

// fill sets the defaults.
func (c *Config) fill() {
	if c.CommitInterval <= 0 {
		c.CommitInterval = DefaultCommitInterval
	}
	if c.AllocBuf == nil {
		c.AllocBuf = func(n int) []byte { return make([]byte, n) }
	}
	if c.HomeWriters <= 0 {
		c.HomeWriters = 8
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// sizes computes the largest transaction. A quarter of the log is JBD2's limit
// too; it guarantees that an empty log takes any transaction, and that one can
// run and one commit while half the log is being written home.
func (j *Journal) sizes() error {
	j.maxTrans = min(int(j.ring.end/4), j.ring.size())
	j.maxCredits = j.maxTrans - 1
	for j.maxCredits > 0 && j.layout.LogBlocks(j.maxCredits) > j.maxTrans {
		j.maxCredits--
	}
	if j.maxCredits < 1 {
		return fmt.Errorf("%w: a log of %d blocks is too small for any transaction", ErrCorrupt, j.ring.end)
	}
	return nil
}

// MaxCredits is the most blocks one handle can change.
func (j *Journal) MaxCredits() int { return j.maxCredits }

// Checkpointed tells whether no block of o waits for commit or home write, and a
// replay of the log could not write one: its images are home, durably, and the log
// tail is past them. Only then may the lock that covers o be given away.
func (j *Journal) Checkpointed(o *Owner) bool { return o.last.Load() < j.tail.Load() }

// LastTid returns the last transaction that changed a block of o; 0: none.
func (j *Journal) LastTid(o *Owner) uint64 { return o.last.Load() }

// Close flushes fully and stops the journal. New handles are refused from its
// beginning, open ones are waited for. If ctx ends first the journal stays
// refusing and Close can be called again. After an abort it returns that error.
func (j *Journal) Close(ctx context.Context) error {
	err := j.quiesce(ctx)
	if err == nil {
		err = j.FullFlush(ctx)
	}
	if err != nil && j.Err() == nil {
		return err
	}
	j.stopOnce.Do(func() { close(j.stop) })
	j.mu.Lock()
	if j.timer != nil {
		j.timer.Stop()
	}
	j.mu.Unlock()
	j.threads.Wait()
	return err
}

// quiesce refuses new handles and waits until the open ones have stopped.
func (j *Journal) quiesce(ctx context.Context) error {
	j.mu.Lock()
	j.down = true
	j.changed.fire()
	for j.running.handles > 0 {
		ch := j.changed.wait() // fired by Stop, and when a commit opens the next transaction
		j.mu.Unlock()
		select {
		case <-ch:
		case <-j.aborted:
			return j.Err()
		case <-ctx.Done():
			return fmt.Errorf("waiting for open journal handles: %w", context.Cause(ctx))
		}
		j.mu.Lock()
	}
	j.mu.Unlock()
	return nil
}

// Abort gives up because of err: nothing more is written to log or home, and all
// calls fail with ErrAborted from now on. Blocks stay pinned. Nothing is recorded
// in the log (s_errno): a node that must stop writing must not write that either.
func (j *Journal) Abort(err error) {
	wrapped := fmt.Errorf("%w: %w", ErrAborted, err)
	if !j.abortErr.CompareAndSwap(nil, &wrapped) {
		return
	}
	j.mu.Lock()
	j.down = true
	if j.timer != nil {
		j.timer.Stop()
	}
	j.mu.Unlock()
	close(j.aborted)
	j.emit(Event{Kind: EventAbort, Err: err})
	if j.cfg.OnAbort != nil {
		j.cfg.OnAbort(err)
	}
}

// Err returns nil, or the abort: an error that wraps ErrAborted and the reason.
func (j *Journal) Err() error {
	if p := j.abortErr.Load(); p != nil {
		return *p
	}
	return nil
}

// downErr says why no handle can be had. Precondition: mu held.
func (j *Journal) downErr() error {
	if err := j.Err(); err != nil {
		return err
	}
	if j.down {
		return ErrClosed
	}
	return nil
}

// emit reports an event. Precondition: no lock held.
func (j *Journal) emit(e Event) {
	if j.cfg.OnEvent != nil {
		j.cfg.OnEvent(e)
	}
}

// Stats returns counters and a picture of the log.
func (j *Journal) Stats() Stats {
	c := &j.count
	s := Stats{
		Commits: c.commits.Load(), CommitBlocks: c.commitBlocks.Load(),
		Checkpoints: c.checkpoints.Load(), HomeBlocks: c.homeBlocks.Load(), HomeWrites: c.homeWrites.Load(),
		FullFlushes: c.fullFlushes.Load(), FullFlushFree: c.fullFlushFree.Load(),
		Flushes: c.flushes.Load(), FUAs: c.fuas.Load(), SuperWrites: c.superWrites.Load(),
		DurableTid: j.durable.Load(), TailTid: j.tail.Load(),
		LogBlocks: j.ring.size(), RecordedErrno: j.errno, ForeignUUID: j.foreign,
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	s.Handles, s.StartWaits = j.handleID, j.startWaits
	s.RunningTid, s.LogUsed, s.RetainedBytes = j.running.tid, j.used, j.retained
	s.RunningBlocks, s.RunningHandles = j.running.declared, j.running.handles
	return s
}

// event is a broadcast: wait returns a channel that the next fire closes. All
// methods are called with Journal.mu held.
type event struct{ ch chan struct{} }

func (e *event) wait() <-chan struct{} {
	if e.ch == nil {
		e.ch = make(chan struct{})
	}
	return e.ch
}

func (e *event) fire() {
	if e.ch != nil {
		close(e.ch)
		e.ch = nil
	}
}

// kick wakes a goroutine that waits on a channel of capacity 1.
func kick(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
