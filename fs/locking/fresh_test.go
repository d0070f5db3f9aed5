package locking

import (
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
	"github.com/ocfuse/ocfuse/stackglue/fakestack"
)

// fresh makes the locks of object k on m, hidden by c, which is held EX.
func fresh(m *Manager, c *Resource, k uint64) (*Fresh, []*Resource) {
	rs := []*Resource{
		m.NewResource(RW, Name(RW, k, 7), nil), m.NewResource(Meta, Name(Meta, k, 0), nil),
		m.NewResource(Open, Name(Open, k, 0), nil), m.NewResource(Dentry, DentryName(1, k), nil),
	}
	f := m.Hide([]*Resource{c}, Request{R: rs[0], Level: ex}, Request{R: rs[1], Level: ex}, Request{R: rs[2], Level: pr}, Request{R: rs[3], Level: pr})
	return f, rs
}

// calls is how often the manager went to its stack.
func calls(m *Manager) uint64 {
	return m.Counters.Raises.Load() + m.Counters.Lowers.Load() + m.Counters.Drops.Load() + m.Counters.Cancels.Load()
}

// TestFreshCostsNothing: objects made, used and removed behind one lock cost
// no call of the stack.
func TestFreshCostsNothing(t *testing.T) {
	w := newWorld(t, 2, fakestack.Options{}, Config{})
	m := w.ms[0]
	d := m.NewResource(Meta, Name(Meta, 1, 0), nil)
	must(t, d.Lock(bg, ex, 0))
	before := calls(m)
	for k := range uint64(500) {
		_, rs := fresh(m, d, 100+k)
		must(t, rs[0].Lock(bg, ex, 0))
		must(t, rs[1].Lock(bg, ex, 0))
		must(t, rs[2].Lock(bg, ex, NoQueue)) // the deleter asks whether others use it
		must(t, rs[3].Lock(bg, ex, 0))       // and tells them that the name goes
		for _, r := range rs {
			r.Unlock(ex)
		}
		for _, r := range rs {
			must(t, r.Drop(bg))
		}
	}
	if n := calls(m) - before; n != 0 {
		t.Errorf("%d calls of the stack, want none", n)
	}
	if n := len(d.hides.hidden); n > 100 {
		t.Errorf("%d objects that are gone are still remembered", n)
	}
	d.Unlock(ex)
	w.finish()
}

// TestCoverWaitsForFresh: when another node gets the lock that hid new objects, their
// own locks are there, at every level of a tree of covers in turn, and the one
// that guards no cache is gone.
func TestCoverWaitsForFresh(t *testing.T) {
	for _, o := range []fakestack.Options{{Sync: true}, {}, {Seed: 3, CallDelay: time.Millisecond, CallbackDelay: time.Millisecond}} {
		w := newWorld(t, 2, o, Config{})
		m := w.ms[0]
		d, sub := m.NewResource(Meta, Name(Meta, 1, 0), nil), m.NewResource(Meta, Name(Meta, 2, 0), nil)
		must(t, d.Lock(bg, ex, 0))
		if m.Hide([]*Resource{d}, Request{R: sub, Level: ex}) == nil {
			t.Fatal("not hidden")
		}
		must(t, sub.Lock(bg, ex, 0))
		var in, below [20][]*Resource
		for k := range in {
			_, in[k] = fresh(m, d, 100+uint64(k))
			_, below[k] = fresh(m, sub, 200+uint64(k))
		}
		sub.Unlock(ex)
		d.Unlock(ex)
		must(t, w.ms[1].NewResource(Meta, Name(Meta, 1, 0), nil).Lock(bg, pr, 0))
		want := func(rs []*Resource, flag state) {
			t.Helper()
			for _, r := range rs[1:] {
				r.mu.Lock()
				if r.flags&(attached|virtual) != flag {
					t.Errorf("%+v: another node can find the object", r.NameString())
				}
				r.mu.Unlock()
			}
			if flag == attached && rs[0].Level() != stackglue.IV {
				t.Errorf("RW kept at %v", rs[0].Level())
			}
		}
		for k := range in {
			want(in[k], attached)
			want(below[k], virtual)
		}
		must(t, w.ms[1].NewResource(Meta, Name(Meta, 2, 0), nil).Lock(bg, ex, 0))
		for k := range below {
			want(below[k], attached)
		}
		for _, r := range w.ms[1].resources() {
			r.Unlock(r.Level())
		}
		w.finish()
	}
}

// TestFreshSecondCover: an object that got a name elsewhere is known as soon as
// one of both places is.
func TestFreshSecondCover(t *testing.T) {
	w := newWorld(t, 2, fakestack.Options{}, Config{})
	m := w.ms[0]
	d, e := m.NewResource(Meta, Name(Meta, 1, 0), nil), m.NewResource(Meta, Name(Meta, 2, 0), nil)
	must(t, d.Lock(bg, ex, 0))
	must(t, e.Lock(bg, ex, 0))
	f, rs := fresh(m, d, 100)
	link := m.NewResource(Dentry, DentryName(2, 100), nil)
	if !f.Join(e, link, pr) || link.Level() != pr {
		t.Fatal("the second name's lock was not hidden")
	}
	e.Unlock(ex)
	must(t, w.ms[1].NewResource(Meta, Name(Meta, 2, 0), nil).Lock(bg, pr, 0))
	for _, r := range append(rs[1:], link) {
		if r.flags&attached == 0 {
			t.Errorf("%s is not real", r.NameString())
		}
	}
	late := m.NewResource(Dentry, DentryName(3, 100), nil)
	if f.Join(d, late, pr) {
		t.Error("a lock of a known object was hidden")
	}
	d.Unlock(ex)
	w.ms[1].first.Unlock(pr)
	w.finish()
}

// TestFreshWhileBecomingReal: NOQUEUE means another node, not the request that
// is in flight for ourselves; and a lock is usable meanwhile.
func TestFreshWhileBecomingReal(t *testing.T) {
	w := newWorld(t, 2, fakestack.Options{Seed: 1, CallDelay: 30 * time.Millisecond}, Config{})
	m := w.ms[0]
	d := m.NewResource(Meta, Name(Meta, 1, 0), nil)
	must(t, d.Lock(bg, ex, 0))
	f, rs := fresh(m, d, 100)
	must(t, f.realise())
	must(t, rs[1].Lock(bg, ex, NoQueue))
	must(t, rs[2].Lock(bg, ex, NoQueue))
	rs[1].Unlock(ex)
	rs[2].Unlock(ex)
	d.Unlock(ex)
	w.finish()
}

// TestFreshBound: no more than Tuning.Hidden objects stay behind one lock for
// long, and the youngest of them are those.
func TestFreshBound(t *testing.T) {
	w := newWorld(t, 1, fakestack.Options{}, Config{Tuning: Tuning{Hidden: 40}})
	m := w.ms[0]
	d := m.NewResource(Meta, Name(Meta, 1, 0), nil)
	must(t, d.Lock(bg, ex, 0))
	var all [][]*Resource
	for k := range uint64(200) {
		_, rs := fresh(m, d, 100+k)
		all = append(all, rs)
		if k%10 == 9 {
			eventually(t, "the bound", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.hides.unreal <= 40 })
		}
	}
	for k, rs := range all {
		rs[1].mu.Lock()
		if hidden := rs[1].flags&virtual != 0; k < 140 && hidden || k >= 190 && !hidden {
			t.Errorf("object %d: hidden %v", k, hidden)
		}
		rs[1].mu.Unlock()
	}
	d.Unlock(ex)
	w.finish()
}

// TestFreshStorm: all nodes make objects in one directory, and use and remove
// each other's; what a holder sees is what the last writer left.
func TestFreshStorm(t *testing.T) {
	for seed := int64(1); seed <= 6; seed++ {
		for name, o := range map[string]fakestack.Options{
			"sync":    {Seed: seed, Sync: true},
			"async":   {Seed: seed},
			"delayed": {Seed: seed, CallDelay: 100 * time.Microsecond, CallbackDelay: 100 * time.Microsecond},
		} {
			t.Run(fmt.Sprintf("%s-%d", name, seed), func(t *testing.T) { t.Parallel(); freshStorm(t, seed, o) })
		}
	}
}

// shelf is the shared directory: its entries are guarded by a cluster lock and,
// for the nodes that share this process, by a mutex.
type shelf struct {
	mu   sync.Mutex
	list []*stored
	next uint64
}

type stored struct {
	k     uint64
	disk  disk
	wrote atomic.Uint64
}

// shopper is one node of a storm.
type shopper struct {
	m     *Manager
	d     *Resource
	local sync.RWMutex // the filesystem's own exclusion
	mu    sync.Mutex   // guards known
	known map[uint64]*book
}

type book struct {
	r *Resource
	o *object
}

func freshStorm(t *testing.T, seed int64, o fakestack.Options) {
	w := newWorld(t, 3, o, Config{Tuning: Tuning{Hidden: 8}})
	s := &shelf{next: 100}
	var wg sync.WaitGroup
	for n, m := range w.ms {
		p := &shopper{m: m, d: m.NewResource(Meta, Name(Meta, 1, 0), nil), known: map[uint64]*book{}}
		for c := range 3 {
			wg.Go(func() {
				rng := rand.New(rand.NewSource(seed*100 + int64(10*n+c)))
				for range 100 {
					if err := p.step(t, rng, s); err != nil {
						t.Errorf("node %d: %v", n+1, err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	for _, k := range s.list {
		if got, want := k.disk.truth.Load(), k.wrote.Load(); got != want {
			t.Errorf("object %d: counted %d, want %d", k.k, got, want)
		}
	}
	if w.ms[0].Counters.Raises.Load() == 0 {
		t.Error("nobody met anybody")
	}
	w.finish()
}

// step makes an object, or uses one, and sometimes forgets it.
func (p *shopper) step(t *testing.T, rng *rand.Rand, s *shelf) error {
	if rng.Intn(4) == 0 {
		return p.put(s)
	}
	if err := p.d.Lock(bg, pr, Served); err != nil {
		return err
	}
	s.mu.Lock()
	var k *stored
	if len(s.list) > 0 {
		k = s.list[rng.Intn(len(s.list))]
	}
	s.mu.Unlock()
	p.d.Unlock(pr)
	if k == nil {
		return nil
	}
	b := p.get(k)
	randomOp(t, rng, b.r, b.o, &k.disk, &k.wrote, &p.local)
	return nil
}

// put makes an object, writes it a few times, and lists it.
func (p *shopper) put(s *shelf) error {
	if err := p.d.Lock(bg, ex, 0); err != nil {
		return err
	}
	defer p.d.Unlock(ex)
	s.mu.Lock()
	s.next++
	k := &stored{k: s.next}
	s.mu.Unlock()
	o := newObject(p.m, &k.disk, 0)
	o.cached = true
	r := p.m.NewResource(Meta, Name(Meta, k.k, 0), o)
	if p.m.Hide([]*Resource{p.d}, Request{R: r, Level: ex}) == nil {
		return errors.New("not hidden")
	}
	p.mu.Lock()
	p.known[k.k] = &book{r, o}
	p.mu.Unlock()
	s.mu.Lock()
	s.list = append(s.list, k)
	s.mu.Unlock()
	return nil
}

// get finds or makes this node's resource of an object.
func (p *shopper) get(k *stored) *book {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.known[k.k]
	if b == nil {
		b = &book{o: newObject(p.m, &k.disk, 0)}
		b.r = p.m.NewResource(Meta, Name(Meta, k.k, 0), b.o)
		p.known[k.k] = b
	}
	return b
}

// TestFreshDeath: objects of a node that died before anybody could know them
// leave nothing that keeps the directory from the others.
func TestFreshDeath(t *testing.T) {
	w := newWorld(t, 2, fakestack.Options{Seed: 5, CallDelay: time.Millisecond}, Config{})
	a, b := w.ms[0], w.ms[1]
	d := a.NewResource(Meta, Name(Meta, 1, 0), nil)
	must(t, d.Lock(bg, ex, 0))
	for k := range uint64(50) {
		fresh(a, d, 100+k)
	}
	d.Unlock(ex)
	got := make(chan error, 1)
	e := b.NewResource(Meta, Name(Meta, 1, 0), nil)
	go func() { got <- e.Lock(bg, ex, Recovery) }()
	time.Sleep(2 * time.Millisecond) // its locks are on their way
	w.c.Kill(1)
	a.Evicted(errors.New("killed"))
	within(t, "lock after the death", func() { must(t, <-got) })
	for k := range uint64(50) {
		r := b.NewResource(Meta, Name(Meta, 100+k, 0), nil)
		within(t, "lock of a dead node's object", func() { must(t, r.Lock(bg, ex, Recovery)) })
		r.Unlock(ex)
	}
	e.Unlock(ex)
	for _, r := range a.resources() {
		within(t, "drop on the dead node", func() { must(t, r.Drop(bg)) })
	}
	b.Recovered(1)
	w.finish()
}
