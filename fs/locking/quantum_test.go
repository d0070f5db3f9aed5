package locking

import (
	"sync"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/stackglue/fakestack"
)

// quantumWorld is two nodes with one META resource each and a fair quantum.
func quantumWorld(t *testing.T, hold, linger time.Duration) (*world, [2]*Resource) {
	w := newWorld(t, 2, fakestack.Options{}, Config{Tuning: Tuning{MinHold: map[Type]time.Duration{Meta: hold}, Linger: linger}})
	var rs [2]*Resource
	for i, m := range w.ms {
		rs[i] = m.NewResource(Meta, Name(Meta, 7, 0), nil)
	}
	return w, rs
}

// TestQuantumSavesHandoffs: two nodes that both use a lock all the time hand it on
// once a quantum, not with each operation, and none starves.
func TestQuantumSavesHandoffs(t *testing.T) {
	const hold = 40 * time.Millisecond
	w, rs := quantumWorld(t, hold, hold/2)
	var ops [2]int
	var wg sync.WaitGroup
	begin := time.Now()
	for i, r := range rs {
		wg.Go(func() {
			for time.Since(begin) < 10*hold {
				if err := r.Lock(bg, ex, 0); err != nil {
					t.Error(err)
					return
				}
				ops[i]++
				r.Unlock(ex)
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	lowers := w.ms[0].Counters.Lowers.Load() + w.ms[1].Counters.Lowers.Load()
	if most := uint64(took/hold) + 2; lowers > most {
		t.Errorf("%d handoffs in %v, want at most %d", lowers, took, most)
	}
	if ops[0] == 0 || ops[1] == 0 || lowers == 0 {
		t.Errorf("operations %v, %d handoffs: one node starved", ops, lowers)
	}
	w.finish()
}

// TestQuantumEndsWhenIdle: nodes that take turns do not wait for each other's
// quantum, whether the request comes while the lock is unused or in use.
func TestQuantumEndsWhenIdle(t *testing.T) {
	w, rs := quantumWorld(t, time.Hour, time.Millisecond)
	within(t, "handoff of an unused lock", func() {
		for range 5 {
			for _, r := range rs {
				must(t, r.Lock(bg, ex, 0))
				r.Unlock(ex)
			}
		}
	})
	must(t, rs[0].Lock(bg, ex, 0))
	done := make(chan error, 1)
	go func() { done <- rs[1].Lock(bg, ex, 0) }()
	eventually(t, "blocking AST", func() bool {
		rs[0].mu.Lock()
		defer rs[0].mu.Unlock()
		return rs[0].keeper != nil && rs[0].flags&(blocked|queued) == blocked
	})
	rs[0].Unlock(ex)
	within(t, "handoff of a lock that was in use", func() { must(t, <-done) })
	rs[1].Unlock(ex)
	w.finish()
}
