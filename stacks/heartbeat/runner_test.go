package heartbeat

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
)

// disk is a heartbeat region in memory, with faults.
type disk struct {
	mu    sync.Mutex
	p     []byte
	fail  error         // writes fail
	hang  chan struct{} // writes wait
	stale bool          // writes are acknowledged and lost
}

func newDisk() *disk { return &disk{p: make([]byte, 8*512)} }

func (d *disk) BlockSize() int { return 512 }
func (d *disk) Blocks() int    { return 8 }
func (d *disk) ReadBlocks(first int, p []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(p, d.p[first*512:])
	return nil
}
func (d *disk) WriteBlock(n int, p []byte) error {
	d.mu.Lock()
	fail, hang := d.fail, d.hang
	d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if fail == nil && !d.stale {
		copy(d.p[n*512:], p)
	}
	return fail
}
func (d *disk) set(fn func()) { d.mu.Lock(); fn(); d.mu.Unlock() }
func (d *disk) block(n int) Block {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, _ := Decode(d.p[n*512:])
	return b
}

// events collects what a Runner reports.
type events struct {
	ch   chan Event
	lost chan error
}

func newEvents() *events { return &events{make(chan Event, 100), make(chan error, 2)} }
func (e *events) Heartbeat(evs []Event) {
	for _, ev := range evs {
		e.ch <- ev
	}
}
func (e *events) LeaseLost(err error) { e.lost <- err }

// wait returns the next event of a kind about a node.
func (e *events) wait(t *testing.T, k EventKind, node int) Event {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case ev := <-e.ch:
			if ev.Kind == k && ev.Node == node {
				return ev
			}
		case <-limit:
			t.Fatalf("no event %v %d", k, node)
		}
	}
}

const testPeriod = 20 * time.Millisecond

func start(t *testing.T, d *disk, node int, gen uint64, h Handler) *Runner {
	t.Helper()
	r, err := Start(context.Background(), Config{Region: d, Node: node, Nodes: []int{1, 2, 3}, Threshold: 25, Period: testPeriod, Generation: gen, Handler: h})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Stop(context.Background(), stackglue.ErrShutdown, false) })
	return r
}

func TestRunnerLife(t *testing.T) {
	d := newDisk()
	e1, e2 := newEvents(), newEvents()
	r1 := start(t, d, 1, 11, e1)
	if err := r1.Lease().Enter(); err != nil {
		t.Fatalf("no lease after start: %v", err)
	}
	r1.Lease().Leave()
	r2 := start(t, d, 2, 22, e2)
	if b := r2.Found(1); b.Generation != 11 {
		t.Errorf("node 2 found %+v in slot 1", b)
	}
	e1.wait(t, Up, 2)
	e2.wait(t, Up, 1)
	if b, err := r1.ReadSlot(2); err != nil || b.Generation != 22 {
		t.Errorf("ReadSlot: %+v, %v", b, err)
	}
	if err := r2.Stop(context.Background(), stackglue.ErrShutdown, true); err != nil {
		t.Fatal(err)
	}
	if ev := e1.wait(t, Down, 2); ev.Cause != Left || ev.Generation != 22 {
		t.Errorf("leave seen as %+v", ev)
	}
	if err := r2.Lease().Enter(); !errors.Is(err, stackglue.ErrShutdown) {
		t.Errorf("gate after stop: %v", err)
	}
	// A successor of the same number needs no listening, and is seen as new.
	r2 = start(t, d, 2, 23, newEvents())
	if ev := e1.wait(t, Up, 2); ev.Generation != 23 {
		t.Errorf("successor: %+v", ev)
	}
	if s := r2.Status(); s.Lease <= 0 {
		t.Errorf("status: %+v", s)
	}
}

func TestRunnerRefusesADouble(t *testing.T) {
	d := newDisk()
	start(t, d, 1, 11, newEvents())
	_, err := Start(context.Background(), Config{Region: d, Node: 1, Nodes: []int{1}, Threshold: 25, Period: testPeriod, Generation: 99})
	if !errors.Is(err, ErrNodeInUse) {
		t.Fatalf("a double started: %v", err)
	}
	if b := d.block(1); b.Generation != 11 {
		t.Error("the double wrote before it listened")
	}
}

// TestRunnerListens: after a crash that nobody can prove the number is free only
// after the dead time; with a proof at once.
func TestRunnerListens(t *testing.T) {
	d := newDisk()
	Block{Seq: 5, Node: 1, Generation: 77}.Encode(d.p[512:1024])
	began := time.Now()
	cfg := Config{Region: d, Node: 1, Nodes: []int{1}, Threshold: 10, Period: testPeriod}
	r, err := Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 10*testPeriod {
		t.Errorf("listened for %v only", took)
	}
	_ = r.Stop(context.Background(), stackglue.ErrShutdown, false)
	cfg.Ended = func(n int, g uint64) bool { return n == 1 && g == r.Generation() }
	began = time.Now()
	if r, err = Start(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 5*testPeriod {
		t.Errorf("listened for %v in spite of the proof", took)
	}
	_ = r.Stop(context.Background(), stackglue.ErrShutdown, true)
}

// TestStopTwiceIsNoProofOfTheDrain: whoever fences and whoever unmounts stop at the
// same time. Neither may hear that all is written while a write is in flight.
func TestStopTwiceIsNoProofOfTheDrain(t *testing.T) {
	d := newDisk()
	r := start(t, d, 1, 11, newEvents())
	if err := r.Lease().Enter(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*testPeriod)
	defer cancel()
	var both sync.WaitGroup
	for range 8 {
		both.Go(func() {
			if r.Stop(ctx, stackglue.ErrShutdown, true) == nil {
				t.Error("stopped while a device write is in flight")
			}
		})
	}
	both.Wait()
	if b := d.block(1); b.Generation != 11 {
		t.Errorf("the slot says ended while a device write is in flight: %+v", b)
	}
	r.Lease().Leave()
	if err := r.Stop(context.Background(), stackglue.ErrShutdown, true); err != nil {
		t.Fatal(err)
	}
	if b := d.block(1); b.Generation != 0 {
		t.Errorf("slot after the stop: %+v", b)
	}
}

// TestFenceAfterStop: whoever fences may come after Stop has removed the dead man's
// timer; there is nothing to disarm then, and nothing to complain about.
func TestFenceAfterStop(t *testing.T) {
	r, err := Start(context.Background(), Config{Region: newDisk(), Node: 1, Nodes: []int{1}, Threshold: 500, Period: testPeriod, Deadman: true,
		Logf: func(f string, a ...any) { t.Errorf(f, a...) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(context.Background(), stackglue.ErrShutdown, true); err != nil {
		t.Fatal(err)
	}
	r.Fence(ErrLeaseExpired)
}

// TestStopLeavesAForeignSlotAlone: a double that has written its block there may
// hold a lease; "left" in its slot would pass for its end.
func TestStopLeavesAForeignSlotAlone(t *testing.T) {
	d := newDisk()
	r := start(t, d, 1, 11, newEvents())
	// The heartbeat has ended, so it does not write over the double's block.
	if err := r.Stop(context.Background(), stackglue.ErrShutdown, false); err != nil {
		t.Fatal(err)
	}
	foreign := Block{Seq: 5, Node: 1, Generation: 666}
	d.set(func() { foreign.Encode(d.p[512:1024]) })
	if err := r.writeLast(); err != nil {
		t.Fatal(err)
	}
	if b := d.block(1); b != foreign {
		t.Errorf("slot after the last block: %+v", b)
	}
}

// TestLeaseEndsBeforeOthersSeeDeath: whatever the disk does, the gate closes
// before an observer declares the node dead.
func TestLeaseEndsBeforeOthersSeeDeath(t *testing.T) {
	for name, fault := range map[string]func(*disk){
		"write errors": func(d *disk) { d.fail = errors.New("no such luck") },
		"lost writes":  func(d *disk) { d.stale = true },
		"intruder":     nil,
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			d := newDisk()
			e1, e2 := newEvents(), newEvents()
			r1 := start(t, d, 1, 11, e1)

			view := disk{p: d.p} // node 2 writes through a healthy path

			r2, err := Start(context.Background(), Config{Region: &shared{d, &view}, Node: 2, Nodes: []int{1, 2}, Threshold: 25, Period: testPeriod, Handler: e2})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r2.Stop(context.Background(), stackglue.ErrShutdown, false) }()
			e2.wait(t, Up, 1)
			if fault == nil {
				stop := make(chan struct{})
				defer close(stop)
				go func() {
					for i := uint64(1); ; i++ {
						select {
						case <-stop:
							return
						case <-time.After(testPeriod / 3):
							d.set(func() { Block{Seq: i, Node: 1, Generation: 666}.Encode(d.p[512:1024]) })
						}
					}
				}()
			} else {
				d.set(func() { fault(d) })
			}
			err = <-e1.lost
			if !errors.Is(err, stackglue.ErrFenced) {
				t.Errorf("lease lost: %v", err)
			}
			if fault != nil { // the intruder looks alive
				select {
				case ev := <-e2.ch:
					if ev.Kind == Down {
						t.Error("node 2 saw the death before the lease ended")
					}
				default:
				}
				e2.wait(t, Down, 1)
			}
			if err := r1.Lease().Enter(); err == nil {
				t.Error("the gate is open")
			}
		})
	}
}

// shared reads and writes d's bytes under its lock, without its faults.
type shared struct {
	d *disk
	*disk
}

func (s *shared) ReadBlocks(first int, p []byte) error { return s.d.ReadBlocks(first, p) }
func (s *shared) WriteBlock(n int, p []byte) error {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	copy(s.d.p[n*512:], p)
	return nil
}

func TestLease(t *testing.T) {
	now := int64(100)
	l := NewLease(func() int64 { return now })
	if err := l.Enter(); !errors.Is(err, stackglue.ErrFenced) {
		t.Errorf("without a lease: %v", err)
	}
	if err := l.Renew(200); err != nil {
		t.Fatal(err)
	}
	if err := l.Enter(); err != nil {
		t.Errorf("valid: %v", err)
	}
	now = 199
	if err := l.Renew(300); err != nil {
		t.Errorf("renew in time: %v", err)
	}
	now = 300
	if err := l.Enter(); !errors.Is(err, ErrLeaseExpired) {
		t.Errorf("at the end: %v", err)
	}
	if err := l.Renew(400); !errors.Is(err, ErrLeaseExpired) {
		t.Errorf("a lease came back: %v", err)
	}
	now = 250
	if err := l.Enter(); err == nil {
		t.Error("closed for good, but a write entered")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := l.Drain(ctx); err == nil || !strings.Contains(err.Error(), "1 device writes") {
		t.Errorf("drained with one in flight: %v", err)
	}
	l.Leave()
	if err := l.Drain(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestLeaseDrainRace: after Drain no Enter that succeeded is still inside.
func TestLeaseDrainRace(t *testing.T) {
	for range 300 {
		l := NewLease(func() int64 { return 1 })
		if err := l.Renew(2); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var inside sync.Map
		for g := range 4 {
			wg.Go(func() {
				for l.Enter() == nil {
					inside.Store(g, true)
					inside.Delete(g)
					l.Leave()
				}
			})
		}
		l.Close(stackglue.ErrShutdown)
		if err := l.Drain(context.Background()); err != nil {
			t.Fatal(err)
		}
		inside.Range(func(k, _ any) bool { t.Errorf("writer %v is inside a drained gate", k); return false })
		wg.Wait()
	}
}

func BenchmarkLease(b *testing.B) {
	l := NewLease(nil)
	_ = l.Renew(Boottime() + int64(time.Hour))
	b.ReportAllocs()
	for b.Loop() {
		if l.Enter() != nil {
			b.Fatal("closed")
		}
		l.Leave()
	}
}
