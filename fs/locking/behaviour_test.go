package locking

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
	"github.com/ocfuse/ocfuse/stackglue/fakestack"
)

// hookFuncs implements Hooks by functions; nil ones do nothing.
type hookFuncs struct {
	NopHooks
	down    func(*Resource, Pass) Verdict
	refresh func() error
}

func (h *hookFuncs) Downconvert(r *Resource, p Pass) Verdict {
	if h.down == nil {
		return Convert
	}
	return h.down(r, p)
}

func (h *hookFuncs) Refresh(*Resource, *[stackglue.LVBLen]byte, bool) error {
	if h.refresh == nil {
		return nil
	}
	return h.refresh()
}

// within fails the test if f takes longer than the watchdog allows.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: still waiting after 20 s", what)
	}
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// TestServedDuringRevoke: the revoke waits for a READ, which is served under
// the lock that is being revoked; a fair request waits for its turn.
func TestServedDuringRevoke(t *testing.T) {
	w := newWorld(t, 2, fakestack.Options{}, Config{})
	name := Name(Meta, 1, 0)
	inPass, readDone := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var passes []Pass
	a := w.ms[0].NewResource(Meta, name, &hookFuncs{down: func(_ *Resource, p Pass) Verdict {
		passes = append(passes, p)
		once.Do(func() { close(inPass); <-readDone })
		return Convert
	}})
	b := w.ms[1].NewResource(Meta, name, nil)
	must(t, a.Lock(bg, pr, 0))
	a.Unlock(pr)
	got := make(chan error, 1)
	go func() { got <- b.Lock(bg, ex, 0) }()
	<-inPass
	ctx, cancel := context.WithTimeout(bg, 20*time.Millisecond)
	if err := a.Lock(ctx, pr, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a fair request during the revoke: %v", err)
	}
	cancel()
	within(t, "served READ", func() { must(t, a.Lock(bg, pr, Served)) })
	a.Unlock(pr)
	close(readDone)
	within(t, "the other node", func() { must(t, <-got) })
	if len(passes) != 2 || passes[1].N != 2 || passes[0].To != nl || passes[0].Blocked != ex {
		t.Errorf("passes: %+v; the served READ must cause exactly one more", passes)
	}
	b.Unlock(ex)
	w.finish()
}

// TestStorm: readers on one node never pause; the writer of the other is not
// starved, and the number of passes is bounded even if every pass meets reads.
func TestStorm(t *testing.T) {
	tun := Tuning{}.withDefaults()
	w := newWorld(t, 2, fakestack.Options{}, Config{})
	name := Name(Meta, 1, 0)
	var most atomic.Int64
	a := w.ms[0].NewResource(Meta, name, &hookFuncs{down: func(r *Resource, p Pass) Verdict {
		most.Store(max(most.Load(), int64(p.N)))
		if !p.Closed { // wait until a reader got in, as a locked page would
			r.mu.Lock()
			n := r.grantsPR
			for end := time.Now().Add(5 * time.Millisecond); r.grantsPR == n && time.Now().Before(end); {
				r.mu.Unlock()
				time.Sleep(20 * time.Microsecond)
				r.mu.Lock()
			}
			r.mu.Unlock()
		}
		return Convert
	}})
	b := w.ms[1].NewResource(Meta, name, nil)
	stop, reads := make(chan struct{}), new(atomic.Int64)
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := a.Lock(bg, pr, Served); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(50 * time.Microsecond)
				reads.Add(1)
				a.Unlock(pr)
			}
		}()
	}
	var worst time.Duration
	within(t, "writer against a storm of readers", func() {
		for range 50 {
			t0 := time.Now()
			must(t, b.Lock(bg, ex, 0))
			worst = max(worst, time.Since(t0))
			b.Unlock(ex)
			time.Sleep(time.Millisecond)
		}
	})
	close(stop)
	wg.Wait()
	c := &w.ms[0].Counters
	t.Logf("longest wait of the writer %v; most passes %d; %d reads; passes %d, held %d, closed %d",
		worst, most.Load(), reads.Load(), c.Passes.Load(), c.HeldPasses.Load(), c.ClosedPasses.Load())
	if most.Load() > int64(tun.HoldPasses+1) {
		t.Errorf("%d passes, more than the bound %d", most.Load(), tun.HoldPasses+1)
	}
	if reads.Load() == 0 || most.Load() < 2 {
		t.Error("there was no storm")
	}
	w.finish()
}

// TestConvertDeadlock: all nodes hold PR and want EX.
func TestConvertDeadlock(t *testing.T) {
	for seed := range int64(20) {
		w := newWorld(t, 3, fakestack.Options{Seed: seed, CallbackDelay: 50 * time.Microsecond}, Config{})
		var wg sync.WaitGroup
		rs := make([]*Resource, len(w.ms))
		for i, m := range w.ms {
			rs[i] = m.NewResource(Meta, Name(Meta, 1, 0), nil)
			must(t, rs[i].Lock(bg, pr, 0))
			rs[i].Unlock(pr)
		}
		var inside atomic.Int64
		within(t, "upgrades", func() {
			for i := range rs {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for range 10 {
						if err := rs[i].Lock(bg, ex, 0); err != nil {
							t.Error(err)
							return
						}
						if inside.Add(1) != 1 {
							t.Error("two nodes in EX")
						}
						inside.Add(-1)
						rs[i].Unlock(ex)
					}
				}()
			}
			wg.Wait()
		})
		w.finish()
	}
}

// TestCancel: an interrupted wait sends a cancel and leaves the lock usable.
func TestCancel(t *testing.T) {
	w := newWorld(t, 2, fakestack.Options{CallDelay: 100 * time.Microsecond}, Config{})
	a, b := w.ms[0].NewResource(RW, Name(RW, 1, 7), nil), w.ms[1].NewResource(RW, Name(RW, 1, 7), nil)
	must(t, a.Lock(bg, ex, 0))
	for i := range 20 {
		ctx, cancel := context.WithTimeout(bg, time.Duration(i)*40*time.Microsecond)
		if err := b.Lock(ctx, pr, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("round %d: %v", i, err)
		}
		cancel()
	}
	eventually(t, "cancel", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.act == actNone && b.flags&cancelling == 0
	})
	if w.ms[1].Counters.Cancels.Load() == 0 {
		t.Error("no cancel was sent")
	}
	a.Unlock(ex)
	within(t, "lock after cancels", func() { must(t, b.Lock(bg, ex, 0)) })
	b.Unlock(ex)
	w.finish()
}

// TestNoQueue: refused while another node needs the lock, granted otherwise.
func TestNoQueue(t *testing.T) {
	w := newWorld(t, 2, fakestack.Options{}, Config{})
	a, b := w.ms[0].NewResource(Open, Name(Open, 1, 0), nil), w.ms[1].NewResource(Open, Name(Open, 1, 0), nil)
	must(t, a.Lock(bg, pr, 0))
	must(t, b.Lock(bg, pr, NoQueue))
	b.Unlock(pr)
	if err := b.Lock(bg, ex, NoQueue); !errors.Is(err, stackglue.ErrAgain) {
		t.Fatalf("EX against a holder: %v", err)
	}
	if b.Level() != pr {
		t.Errorf("level after a refusal: %v", b.Level())
	}
	a.Unlock(pr)
	if err := b.Lock(bg, ex, NoQueue); !errors.Is(err, stackglue.ErrAgain) {
		t.Fatalf("EX against a cached lock: %v", err)
	}
	if n := w.ms[0].Counters.Basts.Load(); n != 0 {
		t.Errorf("requests that do not queue caused %d blocking ASTs", n)
	}
	must(t, a.Drop(bg))
	must(t, b.Lock(bg, ex, NoQueue))
	b.Unlock(ex)
	w.finish()
}

// TestRecoveryWait: META waits for the recovery of a dead node, also when the
// grant came first, and so do refcount trees; the recovery's own requests and
// other types do not.
func TestRecoveryWait(t *testing.T) {
	w := newWorld(t, 3, fakestack.Options{}, Config{})
	name := Name(Meta, 1, 0)
	a, b := w.ms[0].NewResource(Meta, name, nil), w.ms[1].NewResource(Meta, name, nil)
	rw := w.ms[0].NewResource(RW, Name(RW, 1, 0), nil)
	must(t, b.Lock(bg, ex, 0))
	got := make(chan error, 1)
	go func() { got <- a.Lock(bg, ex, 0) }() // granted because its holder died
	eventually(t, "request", func() bool { return a.dump().InFlight == "raising" })
	w.c.Kill(2)
	eventually(t, "grant", func() bool { return a.Level() == ex })
	select {
	case err := <-got:
		t.Fatalf("lock of a dead node was used before its recovery: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if n := w.ms[0].Recovering(); len(n) != 1 || n[0] != 2 {
		t.Errorf("recovery map %v", n)
	}
	must(t, rw.Lock(bg, ex, 0))
	rw.Unlock(ex)
	must(t, a.Lock(bg, ex, Recovery))
	a.Unlock(ex)
	if err := a.Lock(bg, ex, NoQueue); !errors.Is(err, stackglue.ErrAgain) {
		t.Errorf("NoQueue during recovery: %v", err)
	}
	tree := w.ms[0].NewResource(Refcount, Name(Refcount, 7, 1), nil)
	if err := tree.Lock(bg, ex, NoQueue); !errors.Is(err, stackglue.ErrAgain) {
		t.Errorf("refcount tree during recovery: %v", err)
	}
	w.ms[0].Recovered(2)
	within(t, "lock after the recovery", func() { must(t, <-got) })
	a.Unlock(ex)
	must(t, a.Lock(bg, pr, 0))
	a.Unlock(pr)
	w.ms[2].Recovered(2)
	w.ms = append(w.ms[:1], w.ms[2])
	w.finish()
}

// TestEvicted: waiters and later callers fail with ErrFenced, cached or not.
func TestEvicted(t *testing.T) {
	reason := errors.New("lease lost")
	var told atomic.Bool
	w := newWorld(t, 2, fakestack.Options{}, Config{Evicted: func(error) { told.Store(true) }})
	a, b := w.ms[0].NewResource(Meta, Name(Meta, 1, 0), nil), w.ms[1].NewResource(Meta, Name(Meta, 1, 0), nil)
	mine := w.ms[1].NewResource(RW, Name(RW, 2, 0), nil)
	must(t, mine.Lock(bg, pr, 0))
	mine.Unlock(pr)
	must(t, a.Lock(bg, ex, 0))
	got := make(chan error, 1)
	go func() { got <- b.Lock(bg, pr, 0) }()
	eventually(t, "request", func() bool { return b.dump().InFlight == "raising" })
	w.c.Evict(2, reason)
	within(t, "waiter of the evicted node", func() {
		if err := <-got; !errors.Is(err, stackglue.ErrFenced) {
			t.Errorf("waiter got %v", err)
		}
	})
	if err := mine.Lock(bg, pr, 0); !errors.Is(err, stackglue.ErrFenced) {
		t.Errorf("cached lock of an evicted node: %v", err)
	}
	within(t, "Drop on an evicted node", func() { must(t, b.Drop(bg)); must(t, mine.Drop(bg)) })
	if !told.Load() {
		t.Error("Config.Evicted was not called")
	}
	a.Unlock(ex)
	w.ms[0].Recovered(2)
	w.finish()
}

// TestVerdicts: DropLock gives the lock back and Again waits for Retry.
func TestVerdicts(t *testing.T) {
	w := newWorld(t, 2, fakestack.Options{}, Config{})
	name := DentryName(5, 0x1234)
	var calls atomic.Int64
	a := w.ms[0].NewResource(Dentry, name, &hookFuncs{down: func(*Resource, Pass) Verdict {
		if calls.Add(1) == 1 {
			return Again
		}
		return DropLock
	}})
	b := w.ms[1].NewResource(Dentry, name, nil)
	must(t, a.Lock(bg, pr, 0))
	a.Unlock(pr)
	got := make(chan error, 1)
	go func() { got <- b.Lock(bg, ex, 0) }()
	eventually(t, "first pass", func() bool { return calls.Load() == 1 })
	time.Sleep(5 * time.Millisecond)
	if calls.Load() != 1 {
		t.Error("Again was not waited for")
	}
	a.Retry()
	within(t, "EX of the other node", func() { must(t, <-got) })
	eventually(t, "lock given back", func() bool { return a.Level() == stackglue.IV })
	b.Unlock(ex)
	must(t, a.Lock(bg, pr, 0))
	a.Unlock(pr)
	if got := a.NameString(); got != "N00000000000000050000000000001234" {
		t.Errorf("name for humans: %q", got)
	}
	w.finish()
}

// TestFlock: one resource per open file, two of them on one node; nothing is
// cached once unlocked.
func TestFlock(t *testing.T) {
	w := newWorld(t, 2, fakestack.Options{}, Config{})
	name := Name(Flock, 9, 9)
	a1, a2, b := w.ms[0].NewResource(Flock, name, nil), w.ms[0].NewResource(Flock, name, nil), w.ms[1].NewResource(Flock, name, nil)
	must(t, a1.Lock(bg, ex, NoQueue))
	for _, o := range []*Resource{a2, b} {
		if err := o.Lock(bg, pr, NoQueue); !errors.Is(err, stackglue.ErrAgain) {
			t.Errorf("another open file: %v", err)
		}
	}
	got := make(chan error, 1)
	go func() { got <- b.Lock(bg, pr, 0) }()
	a1.Unlock(ex)
	within(t, "waiter", func() { must(t, <-got) })
	must(t, a2.Lock(bg, pr, NoQueue))
	b.Unlock(pr)
	a2.Unlock(pr)
	eventually(t, "unlock everywhere", func() bool { return a1.Level() <= nl && a2.Level() <= nl && b.Level() <= nl })
	if n := w.ms[0].Counters.Basts.Load(); n > 2 {
		t.Errorf("%d BASTs for a lock that is not cached", n)
	}
	w.finish()
}

// TestNewObject: the creator of an object needs no refresh, the next one does.
func TestNewObject(t *testing.T) {
	w := newWorld(t, 2, fakestack.Options{}, Config{})
	name := Name(Meta, 77, 0)
	n := [2]int{}
	a := w.ms[0].NewResource(Meta, name, &hookFuncs{refresh: func() error { n[0]++; return nil }})
	b := w.ms[1].NewResource(Meta, name, &hookFuncs{refresh: func() error { n[1]++; return nil }})
	must(t, a.Lock(bg, ex, NewObject))
	a.Unlock(ex)
	must(t, a.Lock(bg, ex, 0))
	a.Unlock(ex)
	must(t, b.Lock(bg, pr, 0))
	b.Unlock(pr)
	must(t, a.Lock(bg, ex, 0)) // PR -> EX: content cannot have changed
	a.Unlock(ex)
	if n != [2]int{0, 1} {
		t.Errorf("refreshes %v, want [0 1]", n)
	}
	must(t, b.Lock(bg, pr, 0))
	b.Unlock(pr)
	if n != [2]int{0, 2} {
		t.Errorf("refreshes %v, want [0 2]", n)
	}
	w.finish()
}

// TestRefreshError: the Lock that needed it fails, the next one tries again.
func TestRefreshError(t *testing.T) {
	w := newWorld(t, 1, fakestack.Options{}, Config{})
	bad := errors.New("bad block")
	fail := true
	r := w.ms[0].NewResource(Meta, Name(Meta, 1, 0), &hookFuncs{refresh: func() error {
		if fail {
			return bad
		}
		return nil
	}})
	if err := r.Lock(bg, pr, 0); !errors.Is(err, bad) {
		t.Fatalf("got %v", err)
	}
	if a, b := r.Holders(); a+b != 0 {
		t.Error("a failed Lock left a holder")
	}
	fail = false
	must(t, r.Lock(bg, pr, 0))
	if err := r.Drop(bg); !errors.Is(err, ErrHeld) {
		t.Errorf("Drop with a holder: %v", err)
	}
	r.Unlock(pr)
	w.finish()
	if err := r.Lock(bg, pr, 0); !errors.Is(err, ErrFreed) {
		t.Errorf("Lock after Drop: %v", err)
	}
	must(t, r.Drop(bg))
}

// TestLockMany: the flights overlap; what comes out is held, or nothing is.
func TestLockMany(t *testing.T) {
	const delay = 20 * time.Millisecond
	w := newWorld(t, 2, fakestack.Options{}, Config{})
	var reqs []Request
	for i := range 5 {
		name := Name(Meta, uint64(i), 0)
		other := w.ms[1].NewResource(Meta, name, &hookFuncs{down: func(*Resource, Pass) Verdict { time.Sleep(delay); return Convert }})
		must(t, other.Lock(bg, ex, 0))
		other.Unlock(ex)
		reqs = append(reqs, Request{R: w.ms[0].NewResource(Meta, name, nil), Level: pr})
	}
	t0 := time.Now()
	must(t, w.ms[0].LockMany(bg, reqs...))
	if d := time.Since(t0); d > 3*delay {
		t.Errorf("5 locks whose holders take %v each took %v: not one flight", delay, d)
	}
	for _, q := range reqs {
		q.R.Unlock(pr)
	}
	w.ms[0].Close()
	if err := w.ms[0].LockMany(bg, reqs...); !errors.Is(err, stackglue.ErrShutdown) {
		t.Errorf("after Close: %v", err)
	}
	w.finish()
}

// TestParallelRevokes: revokes of different resources do not wait for each
// other, up to the number of workers.
func TestParallelRevokes(t *testing.T) {
	w := newWorld(t, 2, fakestack.Options{}, Config{Tuning: Tuning{Workers: 4}})
	var in atomic.Int64
	four := make(chan struct{})
	var rs []*Resource
	for i := range 12 {
		r := w.ms[0].NewResource(Meta, Name(Meta, uint64(i), 0), &hookFuncs{down: func(*Resource, Pass) Verdict {
			if n := in.Add(1); n == 4 {
				close(four)
			} else if n < 4 {
				<-four
			}
			return Convert
		}})
		must(t, r.Lock(bg, pr, 0))
		r.Unlock(pr)
		rs = append(rs, w.ms[1].NewResource(Meta, Name(Meta, uint64(i), 0), nil))
	}
	within(t, "12 revokes, 4 of which wait for each other", func() {
		for _, r := range rs {
			r.Prefetch(ex)
		}
		for _, r := range rs {
			must(t, r.Lock(bg, ex, 0))
			r.Unlock(ex)
		}
	})
	w.finish()
}

// TestNames: examples seen on two Linux nodes.
func TestNames(t *testing.T) {
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{Name(Meta, 0x5224, 0), "M000000000000000000522400000000"},
		{Name(Meta, 5, 0x655ebead), "M0000000000000000000005655ebead"},
		{Name(RW, 0x5224, 0x95ff5fc7), "W000000000000000000522495ff5fc7"},
		{Name(Open, 0x5224, 0), "O000000000000000000522400000000"},
		{Name(Refcount, 0x4212, 0xe2e39a40), "T0000000000000000004212e2e39a40"},
		{GlobalName(Super), "S000000000000000000000200000000"},
		{GlobalName(Rename), "R000000000000000000000000000000"},
		{DentryName(5, 0x1234), "N0000000000000005\x00\x00\x00\x00\x00\x00\x00\x12\x34\x00\x00\x00\x00\x00"},
	} {
		if string(c.got) != c.want || len(c.got) != NameLen {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}

// TestNoAllocation: a cached lock costs no memory.
func TestNoAllocation(t *testing.T) {
	w := newWorld(t, 1, fakestack.Options{}, Config{})
	r := w.ms[0].NewResource(Meta, Name(Meta, 1, 0), nil)
	must(t, r.Lock(bg, ex, 0))
	r.Unlock(ex)
	before := w.ms[0].Counters.Raises.Load()
	if n := testing.AllocsPerRun(1000, func() { _ = r.Lock(bg, pr, Served); r.Unlock(pr); _ = r.Lock(bg, ex, 0); r.Unlock(ex) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if w.ms[0].Counters.Raises.Load() != before {
		t.Error("a cached lock sent a request")
	}
	w.finish()
}

// TestUnreadLVB: a value block that a dead writer left and that the next EX
// holder never looked at does not become trusted by being passed on.
func TestUnreadLVB(t *testing.T) {
	w := newWorld(t, 3, fakestack.Options{}, Config{})
	name := Name(QInfo, 0, 0)
	valid := true
	var lvb [stackglue.LVBLen]byte
	a := w.ms[0].NewResource(QInfo, name, nil)
	b := w.ms[1].NewResource(QInfo, name, &lvbHooks{fill: 1})
	c := w.ms[2].NewResource(QInfo, name, &lvbHooks{seen: &lvb, valid: &valid})
	must(t, c.Lock(bg, pr, 0)) // keeps the name alive
	c.Unlock(pr)
	must(t, b.Lock(bg, ex, 0))
	b.Unlock(ex)
	eventually(t, "PR, for which b publishes 1", func() bool { a.Prefetch(pr); return a.Level() == pr })
	must(t, b.Lock(bg, ex, 0))
	w.c.Kill(2)
	w.ms[0].Recovered(2)
	w.ms[2].Recovered(2)
	// A prefetch is void while the level is still on its way down.
	eventually(t, "EX", func() bool { a.Prefetch(ex); return a.Level() == ex })
	must(t, c.Lock(bg, pr, 0))
	c.Unlock(pr)
	if valid && lvb[0] != 0 {
		t.Errorf("trusted %x", lvb)
	}
	w.ms = append(w.ms[:1], w.ms[2])
	w.finish()
}

type lvbHooks struct {
	NopHooks
	fill  byte
	seen  *[stackglue.LVBLen]byte
	valid *bool
}

func (h *lvbHooks) FillLVB(r *Resource) { r.LVB[0] = h.fill }

func (h *lvbHooks) Refresh(_ *Resource, lvb *[stackglue.LVBLen]byte, valid bool) error {
	if h.seen != nil {
		*h.seen, *h.valid = *lvb, valid
	}
	return nil
}
