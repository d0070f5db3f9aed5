package heartbeat

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
)

// DefaultPeriod is the heartbeat period of o2hb (O2HB_REGION_TIMEOUT_MS). Kernel
// nodes know no other.
const DefaultPeriod = 2 * time.Second

// Handler is told what the heartbeat sees. It is called by the heartbeat thread,
// without locks, and must not block.
type Handler interface {
	// Heartbeat delivers the events of one sample, in slot order.
	Heartbeat(events []Event)
	// LeaseLost says that this node must not write any more; the gate is closed
	// already. Called once.
	LeaseLost(reason error)
}

// Config says what a Runner runs.
type Config struct {
	Region    stackglue.BlockRegion
	Node      int
	Nodes     []int         // configured nodes
	Threshold int           // dead threshold, in periods
	Period    time.Duration // DefaultPeriod if 0
	// Generation is this incarnation; 0 draws a random one.
	Generation uint64
	Handler    Handler
	// Ended tells whether an incarnation found in this node's own slot is known
	// to have ended; may be nil.
	Ended func(node int, generation uint64) bool
	// Deadman arms the timer that kills this process when the lease runs out.
	Deadman bool
	Logf    func(format string, args ...any)
}

// Runner heartbeats in one region.
type Runner struct {
	cfg    Config
	period time.Duration
	lease  *Lease
	dead   *Deadman
	wake   chan struct{}

	mu   sync.Mutex
	core *Core // guarded by mu

	found  []byte // the region as read right after the first write
	block  []byte // own block; heartbeat thread only
	region []byte // last sample; heartbeat thread only
	back   []byte

	timer *time.Timer // lease expiry
	stop  chan struct{}
	done  chan struct{}
	lost  sync.Once
	end   sync.Once // closes stop

	endMu sync.Mutex // after stop, lease and thread are through; before mu
	ended bool       // the last block is written or not due; guarded by endMu
	last  error      // of the last iteration; mu
	iters uint64
}

// NewGeneration draws a random incarnation, never 0.
func NewGeneration() uint64 {
	var p [8]byte
	_, _ = rand.Read(p[:]) // never fails (crypto/rand)
	return max(binary.LittleEndian.Uint64(p[:]), 1)
}

// Start listens to this node's slot as long as the package comment says, writes
// the first block and starts the thread. When it returns without an error the
// lease is valid and Found holds all slots as read after the first own write.
// It fails with ErrNodeInUse if another node writes this slot.
func Start(ctx context.Context, cfg Config) (*Runner, error) {
	if cfg.Period == 0 {
		cfg.Period = DefaultPeriod
	}
	if cfg.Generation == 0 {
		cfg.Generation = NewGeneration()
	}
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	blocks := min(cfg.Region.Blocks(), 255)
	size := cfg.Region.BlockSize()
	core, err := NewCore(CoreConfig{Self: cfg.Node, Nodes: cfg.Nodes, Blocks: blocks, BlockSize: size, Threshold: cfg.Threshold,
		DeadMS: uint32(int64(cfg.Threshold) * cfg.Period.Milliseconds()), Generation: cfg.Generation})
	if err != nil {
		return nil, err
	}
	r := &Runner{cfg: cfg, period: cfg.Period, core: core, lease: NewLease(nil), wake: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
		block: aligned(size), back: aligned(size), region: aligned(blocks * size), found: aligned(blocks * size)}
	if err := r.listen(ctx); err != nil {
		return nil, err
	}
	if cfg.Deadman {
		if r.dead, err = NewDeadman(); err != nil {
			return nil, err
		}
	}
	first := make(chan error, 1)
	go r.thread(first)
	select {
	case err = <-first:
	case <-ctx.Done():
		// The first write hangs. Its lease does not exist yet, so nothing else can
		// have been written; the thread ends when the write does.
		err = fmt.Errorf("the first heartbeat does not return: %w", ctx.Err())
		r.lease.Close(err)
		r.end.Do(func() { close(r.stop) })
		go r.forsake()
		return nil, err
	}
	if err != nil {
		<-r.done
		return nil, err
	}
	return r, nil
}

// forsake ends what a first beat that returned after all may have armed.
func (r *Runner) forsake() {
	<-r.done
	r.mu.Lock()
	if r.timer != nil {
		r.timer.Stop()
	}
	r.mu.Unlock()
	if r.dead != nil {
		if err := r.dead.Close(); err != nil {
			r.cfg.Logf("%v", err)
		}
	}
}

// listen waits until this node's slot is free.
func (r *Runner) listen(ctx context.Context) error {
	region := r.cfg.Region
	if err := region.ReadBlocks(0, r.region); err != nil {
		return fmt.Errorf("reading the heartbeat region: %w", err)
	}
	size, n := region.BlockSize(), r.cfg.Node
	b, _ := Decode(r.region[n*size:])
	if b.Generation == 0 || (r.cfg.Ended != nil && r.cfg.Ended(n, b.Generation)) {
		return nil
	}
	r.cfg.Logf("slot of node %d was not left cleanly; listening for %v to be sure that nobody runs it", n, time.Duration(r.cfg.Threshold)*r.period)
	tick := time.NewTicker(r.period)
	defer tick.Stop()
	for i := 0; i <= r.cfg.Threshold; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("listening to the slot of node %d: %w", n, ctx.Err())
		}
		if err := region.ReadBlocks(n, r.back); err != nil {
			return fmt.Errorf("reading the heartbeat slot of node %d: %w", n, err)
		}
		now, _ := Decode(r.back)
		switch {
		case now.Generation == 0:
			return nil // left while we listened
		case now.Seq != b.Seq || now.Generation != b.Generation:
			return fmt.Errorf("node %d of this volume heartbeats from another host; choose another --node: %w", n, ErrNodeInUse)
		case r.cfg.Ended != nil && r.cfg.Ended(n, b.Generation):
			return nil
		}
	}
	return nil
}

// thread is the heartbeat: it shares its OS thread with nothing.
func (r *Runner) thread(first chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(r.done)
	if err := r.begin(); err != nil {
		r.lease.Close(err)
		first <- err
		return
	}
	first <- nil
	next := time.NewTimer(r.period)
	defer next.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-next.C:
		}
		if r.lease.Closed() != nil {
			return // fenced: silence is what the others wait for
		}
		start := time.Now()
		ok := r.iterate()
		// An iteration that took longer is followed at once, never sooner than
		// a period after it began (observers count on it).
		next.Reset(max(0, r.period-time.Since(start)))
		if !ok && r.lease.Closed() != nil {
			return
		}
	}
}

// begin writes the first block and then reads all slots: of two nodes that do
// this at once, one at least sees the other.
func (r *Runner) begin() error {
	r.mu.Lock()
	r.core.Build(uint64(time.Now().Unix()), r.block)
	r.mu.Unlock()
	if err := r.beat(); err != nil {
		return err
	}
	if err := r.cfg.Region.ReadBlocks(0, r.found); err != nil {
		return fmt.Errorf("reading the heartbeat region: %w", err)
	}
	// What Found tells is what changes are counted from.
	r.mu.Lock()
	defer r.mu.Unlock()
	r.core.Begin(r.found)
	return nil
}

// iterate is one period (Linux o2hb_do_disk_heartbeat). It returns false when the
// lease was not renewed.
func (r *Runner) iterate() bool {
	err := r.cfg.Region.ReadBlocks(0, r.region)
	if err != nil {
		err = fmt.Errorf("reading the heartbeat region: %w", err)
		r.finish(err)
		return false
	}
	r.mu.Lock()
	own := r.core.CheckOwn(r.region)
	r.core.Build(uint64(time.Now().Unix()), r.block)
	events := r.core.Evaluate(r.region)
	r.mu.Unlock()
	if len(events) > 0 && r.cfg.Handler != nil {
		r.cfg.Handler.Heartbeat(events)
	}
	if own != nil {
		// Somebody else writes here. Keep writing, as the kernel does, so that
		// they notice too; but no lease comes from it.
		err = own
		if w := r.cfg.Region.WriteBlock(r.cfg.Node, r.block); w != nil {
			err = errors.Join(err, w)
		}
	} else {
		err = r.beat()
	}
	r.finish(err)
	return err == nil
}

// beat writes the block, reads it back and renews the lease.
func (r *Runner) beat() error {
	submitted := Boottime()
	if err := r.cfg.Region.WriteBlock(r.cfg.Node, r.block); err != nil {
		return fmt.Errorf("writing the heartbeat of node %d: %w", r.cfg.Node, err)
	}
	if err := r.cfg.Region.ReadBlocks(r.cfg.Node, r.back); err != nil {
		return fmt.Errorf("reading back the heartbeat of node %d: %w", r.cfg.Node, err)
	}
	r.mu.Lock()
	err := r.core.CheckBlock(r.back)
	r.mu.Unlock()
	if err != nil {
		return err
	}
	return r.renew(submitted)
}

// renew sets lease, timer and dead man's timer from the submit time of a beat.
func (r *Runner) renew(submitted int64) error {
	death := submitted + int64(r.cfg.Threshold-1)*int64(r.period)
	end := death - int64(r.margin())
	if err := r.lease.Renew(end); err != nil {
		return err
	}
	if r.dead != nil {
		if err := r.dead.Arm(death); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	left := time.Duration(end - Boottime())
	if r.timer == nil {
		r.timer = time.AfterFunc(left, r.expired)
	} else {
		r.timer.Reset(left)
	}
	return nil
}

// margin is between the end of the lease and the moment of death: time for what
// is in flight to return.
func (r *Runner) margin() time.Duration { return min(r.period/2, time.Second) }

// expired runs when the lease should have been renewed.
func (r *Runner) expired() {
	if left := r.lease.Remaining(); left > 0 && r.lease.Closed() == nil {
		r.mu.Lock()
		r.timer.Reset(left) // it was renewed meanwhile
		r.mu.Unlock()
		return
	}
	r.mu.Lock()
	err := r.last
	r.mu.Unlock()
	reason := ErrLeaseExpired
	if err != nil {
		reason = fmt.Errorf("%w (last heartbeat: %w)", ErrLeaseExpired, err)
	}
	r.Fence(reason)
}

// Fence closes the gate for good. If everything in flight returns before the dead
// man's timer, that is disarmed: the process may live on to say why it failed.
func (r *Runner) Fence(reason error) {
	r.lease.Close(reason)
	r.lost.Do(func() {
		if r.cfg.Handler != nil {
			r.cfg.Handler.LeaseLost(r.lease.Closed())
		}
	})
	if r.lease.Drain(deadline(r.margin())) != nil || r.dead == nil {
		return
	}
	r.endMu.Lock()
	defer r.endMu.Unlock()
	if r.ended {
		return // Stop has removed the timer
	}
	if err := r.dead.Arm(0); err != nil {
		r.cfg.Logf("%v", err)
	}
}

func (r *Runner) finish(err error) {
	r.mu.Lock()
	r.core.Done(err == nil)
	first := err != nil && r.last == nil
	r.last = err
	r.iters++
	r.mu.Unlock()
	if first {
		r.cfg.Logf("heartbeat: %v; the lease lasts %v more", err, r.lease.Remaining().Round(time.Millisecond))
	}
}

// Stop ends the heartbeat. The gate is closed with reason first and drained; only
// then, and if mark is set, a last block says that this incarnation has ended, so
// that nobody has to wait for it. If a write never returns there is no last block
// and the dead man's timer stays armed. There is none either when the lease ran out
// some time ago: the slot may be somebody else's by now. Stop may be called again,
// also at the same time: nil always means that nothing is in flight any more.
func (r *Runner) Stop(ctx context.Context, reason error, mark bool) error {
	r.lost.Do(func() {}) // nothing is lost: this is our own wish
	r.lease.Close(reason)
	r.end.Do(func() { close(r.stop) })
	r.mu.Lock()
	if r.timer != nil {
		r.timer.Stop()
	}
	r.mu.Unlock()
	err := r.lease.Drain(ctx)
	select {
	case <-r.done:
	case <-ctx.Done():
		return errors.Join(err, fmt.Errorf("the heartbeat thread does not end: %w", ctx.Err()))
	}
	if err != nil {
		return err
	}
	r.endMu.Lock()
	defer r.endMu.Unlock()
	if r.ended {
		return nil
	}
	r.ended = true
	if mark {
		err = r.writeLast()
	}
	if r.dead != nil {
		err = errors.Join(err, r.dead.Close())
	}
	return err
}

// writeLast says in the slot that this incarnation has ended, unless the slot may
// be, or is, somebody else's: what a double wrote there is not ours to end.
func (r *Runner) writeLast() error {
	if Boottime() >= r.lease.End()+int64(r.margin()) {
		return nil
	}
	if err := r.cfg.Region.ReadBlocks(r.cfg.Node, r.back); err != nil {
		return fmt.Errorf("reading the heartbeat slot of node %d: %w", r.cfg.Node, err)
	}
	r.mu.Lock()
	b, ok := Decode(r.back)
	foreign := ok && b.Generation != 0 && b.Generation != r.cfg.Generation
	if !foreign {
		r.core.BuildLast(r.block)
	}
	r.mu.Unlock()
	if foreign {
		return nil
	}
	if err := r.cfg.Region.WriteBlock(r.cfg.Node, r.block); err != nil {
		return fmt.Errorf("writing the last heartbeat block: %w", err)
	}
	return nil
}

// Lease returns the gate for device writes.
func (r *Runner) Lease() *Lease { return r.lease }

// Generation returns this incarnation.
func (r *Runner) Generation() uint64 { return r.cfg.Generation }

// Found returns slot n as read after this node's first write.
func (r *Runner) Found(n int) Block {
	b, _ := Decode(r.found[n*r.cfg.Region.BlockSize():])
	return b
}

// Slots returns how many slots the region has.
func (r *Runner) Slots() int { return len(r.found) / r.cfg.Region.BlockSize() }

// ReadSlot reads one slot now.
func (r *Runner) ReadSlot(n int) (Block, error) {
	p := aligned(r.cfg.Region.BlockSize())
	if n < 0 || n >= r.Slots() {
		return Block{}, fmt.Errorf("node %d has no heartbeat slot", n)
	}
	if err := r.cfg.Region.ReadBlocks(n, p); err != nil {
		return Block{}, fmt.Errorf("reading the heartbeat slot of node %d: %w", n, err)
	}
	b, ok := Decode(p)
	if !ok {
		return b, fmt.Errorf("the heartbeat block of node %d is damaged", n)
	}
	return b, nil
}

// ReadAll reads all slots now.
func (r *Runner) ReadAll() ([]Block, error) {
	size := r.cfg.Region.BlockSize()
	p := aligned(r.Slots() * size)
	if err := r.cfg.Region.ReadBlocks(0, p); err != nil {
		return nil, fmt.Errorf("reading the heartbeat region: %w", err)
	}
	out := make([]Block, r.Slots())
	for n := range out {
		out[n], _ = Decode(p[n*size : (n+1)*size])
	}
	return out, nil
}

// Moving tells whether a slot has changed within the last samples.
func (r *Runner) Moving(n int, samples int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return n < r.Slots() && r.core.Slot(n).Equal <= samples
}

// Admit watches a node from now on; see Core.Admit.
func (r *Runner) Admit(n int, generation uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.core.Admit(n, generation)
}

// Status is a Runner as an operator sees it.
type Status struct {
	Lease      time.Duration // 0 when lost
	Iterations uint64
	Live       []int
	LastError  error
	Steady     bool
}

// Status returns a snapshot.
func (r *Runner) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	steady, _ := r.core.Steady()
	return Status{Lease: r.lease.Remaining(), Iterations: r.iters, Live: r.core.Live(), LastError: r.last, Steady: steady}
}

// deadline is a context that ends by itself; nobody has to cancel it.
func deadline(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// Period returns the heartbeat period.
func (r *Runner) Period() time.Duration { return r.period }
