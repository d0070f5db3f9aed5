package locking

import (
	"context"
	"encoding/binary"
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

var bg = context.Background()

const (
	nl = stackglue.NL
	pr = stackglue.PR
	ex = stackglue.EX
)

// world is a fake cluster with one manager a node.
type world struct {
	t  *testing.T
	c  *fakestack.Cluster
	ms []*Manager
}

func newWorld(t *testing.T, nodes int, o fakestack.Options, cfg Config) *world {
	w := &world{t: t, c: fakestack.New(o)}
	for i := range nodes {
		cfg.Logf = t.Logf
		m := New(cfg)
		conn, err := w.c.Connect(uint32(i+1), m)
		if err != nil {
			t.Fatal(err)
		}
		m.Attach(conn)
		w.ms = append(w.ms, m)
	}
	return w
}

// finish drops everything and disconnects: nothing may be left behind.
func (w *world) finish() {
	w.t.Helper()
	for i, m := range w.ms {
		if m.fenced() {
			continue
		}
		for _, r := range m.resources() {
			ctx, cancel := context.WithTimeout(bg, 20*time.Second)
			if err := r.Drop(ctx); err != nil {
				w.t.Errorf("node %d: %v: %+v", i+1, err, r.dump())
			}
			cancel()
		}
		if m.Len() != 0 {
			w.t.Errorf("node %d: %d resources left", i+1, m.Len())
		}
		if err := m.Conn().Disconnect(bg); err != nil {
			w.t.Error(err)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// object is the in-memory copy of something shared, with a disk behind it.
type object struct {
	disk   *disk
	mu     sync.Mutex // guards the rest
	value  uint64
	cached bool
	dirty  bool  // not yet checkpointed
	kernel int64 // what the kernel caches of it; -1: nothing
	m      *Manager

	lvbUsed, diskUsed *atomic.Int64
	flushes           *atomic.Int64
	asyncFlush        time.Duration
}

// disk is what all nodes can read and write, and the truth to check against.
type disk struct {
	value   atomic.Uint64 // checkpointed
	truth   atomic.Uint64 // by the last EX holder
	readers atomic.Int64
	writers atomic.Int64
}

func (o *object) Refresh(r *Resource, lvb *[stackglue.LVBLen]byte, valid bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if valid && lvb[0] == 5 {
		o.value = binary.BigEndian.Uint64(lvb[8:])
		o.lvbUsed.Add(1)
	} else {
		o.value = o.disk.value.Load()
		o.diskUsed.Add(1)
	}
	o.cached = true
	return nil
}

func (o *object) Ready(*Resource, stackglue.Mode) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.dirty
}

func (o *object) MakeReady(*Resource) {
	o.flushes.Add(1)
	flush := func() {
		o.mu.Lock()
		if o.dirty {
			o.disk.value.Store(o.value)
			o.dirty = false
		}
		o.mu.Unlock()
		o.m.Flushed()
	}
	if o.asyncFlush == 0 {
		flush()
		return
	}
	time.AfterFunc(o.asyncFlush, flush)
}

func (o *object) Downconvert(r *Resource, p Pass) Verdict {
	if p.To == nl {
		o.mu.Lock()
		o.kernel = -1
		o.mu.Unlock()
	}
	return Convert
}

func (o *object) FillLVB(r *Resource) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r.LVB[0] = 5
	binary.BigEndian.PutUint64(r.LVB[8:], o.value)
}

func newObject(m *Manager, d *disk, flush time.Duration) *object {
	return &object{disk: d, m: m, kernel: -1, lvbUsed: new(atomic.Int64), diskUsed: new(atomic.Int64), flushes: new(atomic.Int64), asyncFlush: flush}
}

// TestRandom: nodes, resources and callers at random; what a holder sees is
// always what the last writer left, whether it came by LVB or disk.
func TestRandom(t *testing.T) {
	for seed := int64(1); seed <= 6; seed++ {
		for name, o := range map[string]fakestack.Options{
			"sync":    {Seed: seed, Sync: true},
			"async":   {Seed: seed},
			"delayed": {Seed: seed, CallDelay: 200 * time.Microsecond, CallbackDelay: 200 * time.Microsecond},
		} {
			t.Run(fmt.Sprintf("%s-%d", name, seed), func(t *testing.T) { t.Parallel(); randomRun(t, seed, o) })
		}
	}
}

func randomRun(t *testing.T, seed int64, o fakestack.Options) {
	const nodes, names, callers = 3, 3, 4
	w := newWorld(t, nodes, o, Config{Tuning: Tuning{MinHold: map[Type]time.Duration{Meta: time.Duration(seed%2) * 50 * time.Microsecond}}})
	var disks [names]disk
	var wrote [names]atomic.Uint64
	var wg sync.WaitGroup
	for i, m := range w.ms {
		var rs [names]*Resource
		var objs [names]*object
		for j := range rs {
			objs[j] = newObject(m, &disks[j], time.Duration(seed%3)*100*time.Microsecond)
			rs[j] = m.NewResource(Meta, Name(Meta, uint64(100+j), 0), objs[j])
		}
		var local [names]sync.RWMutex // the filesystem's own exclusion
		for c := range callers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				rng := rand.New(rand.NewSource(seed*1000 + int64(i*10+c)))
				for range 120 {
					j := rng.Intn(names)
					randomOp(t, rng, rs[j], objs[j], &disks[j], &wrote[j], &local[j])
				}
			}()
		}
	}
	wg.Wait()
	for j := range disks {
		if got, want := disks[j].truth.Load(), wrote[j].Load(); got != want {
			t.Errorf("object %d: counted %d, want %d", j, got, want)
		}
	}
	w.finish()
	for j := range disks {
		if disks[j].value.Load() != disks[j].truth.Load() {
			t.Errorf("object %d: %d on disk, %d written", j, disks[j].value.Load(), disks[j].truth.Load())
		}
	}
}

func randomOp(t *testing.T, rng *rand.Rand, r *Resource, o *object, d *disk, wrote *atomic.Uint64, local *sync.RWMutex) {
	before := int64(d.truth.Load())
	o.mu.Lock()
	if o.kernel >= 0 && o.kernel < before {
		t.Errorf("%s: the kernel caches %d, written was %d", r.NameString(), o.kernel, before)
	}
	o.mu.Unlock()
	level, flags := pr, Flags(0)
	if rng.Intn(3) == 0 {
		level = ex
	} else if rng.Intn(2) == 0 {
		flags |= Served
	}
	if rng.Intn(6) == 0 {
		flags |= NoQueue
	}
	ctx, cancel := bg, context.CancelFunc(func() {})
	if rng.Intn(6) == 0 {
		ctx, cancel = context.WithTimeout(bg, time.Duration(rng.Intn(300))*time.Microsecond)
	}
	defer cancel()
	if level == ex {
		local.Lock()
		defer local.Unlock()
	} else {
		local.RLock()
		defer local.RUnlock()
	}
	if err := r.Lock(ctx, level, flags); err != nil {
		if !errors.Is(err, stackglue.ErrAgain) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("lock: %v", err)
		}
		return
	}
	o.mu.Lock()
	if !o.cached || o.value != d.truth.Load() {
		t.Errorf("%s at %v: cached %v, value %d, want %d", r.NameString(), level, o.cached, o.value, d.truth.Load())
	}
	if level == ex {
		if d.writers.Add(1) != 1 || d.readers.Load() != 0 {
			t.Errorf("writer among %d writers, %d readers", d.writers.Load(), d.readers.Load())
		}
		o.value++
		o.kernel = int64(o.value)
		o.dirty = true
		d.truth.Store(o.value)
		wrote.Add(1)
	} else {
		o.kernel = int64(o.value)
		d.readers.Add(1)
		if d.writers.Load() != 0 {
			t.Error("reader among writers")
		}
	}
	o.mu.Unlock()
	if rng.Intn(20) == 0 {
		time.Sleep(time.Duration(rng.Intn(100)) * time.Microsecond)
	}
	if level == ex {
		d.writers.Add(-1)
	} else {
		d.readers.Add(-1)
	}
	r.Unlock(level)
}
