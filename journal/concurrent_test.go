package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// worker drives a journal together with other workers.
type worker struct {
	t     *testing.T
	id    int
	rng   *rand.Rand
	j     *Journal
	v     testVolume
	model *sharedModel
}

// sharedModel is a crashModel that many goroutines add to.
type sharedModel struct {
	crashModel
	blocks []*Block
	owner  []*Owner
	lock   []sync.Mutex // per block: guards its Data and versions
	mu     sync.Mutex   // guards acks
	dev    *memDev
}

func (m *sharedModel) acked(tid uint64) {
	now := m.dev.now()
	m.mu.Lock()
	m.acks = append(m.acks, ack{now, tid})
	m.mu.Unlock()
}

// op is one operation: a handle with a few blocks, then perhaps a commit or flush.
func (w *worker) op() error {
	ctx, m := context.Background(), w.model
	n := 1 + w.rng.IntN(6)
	h, err := w.j.Start(ctx, n)
	if err != nil {
		return err
	}
	tid := h.Tid()
	for range n {
		i := w.rng.IntN(crashHome)
		m.lock[i].Lock()
		b := m.blocks[i]
		if err := h.Write(b); err != nil {
			m.lock[i].Unlock()
			_ = h.Stop()
			return err
		}
		binary.LittleEndian.PutUint64(b.Data[8*w.rng.IntN(8):], w.rng.Uint64())
		m.versions[i] = append(m.versions[i], version{tid: tid, data: bytes.Clone(b.Data)})
		m.lock[i].Unlock()
		if w.rng.IntN(4) == 0 {
			runtime.Gosched()
		}
	}
	h.OnCommit(func() {})
	if err := h.Stop(); err != nil {
		return err
	}
	return w.afterOp(tid)
}

func (w *worker) afterOp(tid uint64) error {
	ctx := context.Background()
	switch w.rng.IntN(10) {
	case 0, 1, 2:
		if err := w.j.Commit(ctx, tid); err != nil {
			return err
		}
		w.model.acked(tid)
	case 3:
		if err := w.j.CommitRunning(ctx); err != nil {
			return err
		}
		w.model.acked(tid)
	case 4:
		if err := w.j.FullFlush(ctx); err != nil {
			return err
		}
		w.model.acked(tid)
		if w.j.tail.Load() <= tid {
			w.t.Errorf("full flush returned, tail is at %d, not past %d", w.j.tail.Load(), tid)
		}
	case 5:
		w.j.Stats()
		w.j.Checkpointed(w.model.owner[w.rng.IntN(crashGroups)])
	}
	return nil
}

func newSharedModel(v testVolume, img []byte, dev *memDev) *sharedModel {
	m := &sharedModel{dev: dev, lock: make([]sync.Mutex, crashHome)}
	m.v, m.base, m.versions = v, bytes.Clone(img), make([][]version, crashHome)
	for range crashGroups {
		m.owner = append(m.owner, new(Owner))
	}
	for i := range crashHome {
		m.blocks = append(m.blocks, &Block{Blkno: v.home(i), Data: make([]byte, v.bs), Owner: m.owner[i%crashGroups]})
	}
	return m
}

// runWorkers runs workers until each did ops operations or the journal aborted.
func runWorkers(t *testing.T, seed uint64, j *Journal, m *sharedModel, workers, ops int) {
	var wg sync.WaitGroup
	for id := range workers {
		w := &worker{t: t, id: id, rng: rand.New(rand.NewPCG(seed, uint64(id))), j: j, v: m.v, model: m}
		wg.Go(func() {
			for range ops {
				if err := w.op(); err != nil {
					if !errors.Is(err, ErrAborted) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestConcurrent: many goroutines with handles, commits and full flushes on a small
// log, home writes in parallel; then power cuts of what the device saw.
func TestConcurrent(t *testing.T) {
	rounds := uint64(6)
	if s, err := strconv.ParseUint(os.Getenv("OCFUSE_CRASH_SEEDS"), 10, 64); err == nil {
		rounds = s
	}
	for seed := range rounds {
		v := crashVolume(1024, 0)
		dev := newMemDev(v.format(t))
		dev.delay = func() {
			if rand.IntN(3) == 0 {
				time.Sleep(time.Duration(rand.IntN(30)) * time.Microsecond)
			}
		}
		cfg := v.config(dev)
		cfg.CommitInterval = time.Millisecond
		j, err := Open(cfg)
		must(t, err)
		m := newSharedModel(v, dev.data, dev)
		m.firstTid = j.running.tid
		runWorkers(t, seed, j, m, 8, 60)
		m.lastTid = j.Stats().RunningTid
		must(t, j.Close(context.Background()))
		m.acked(m.lastTid)
		for _, b := range m.blocks {
			if b.Pinned() {
				t.Errorf("block %d is pinned after Close", b.Blkno)
			}
		}
		if s := j.Stats(); s.RetainedBytes != 0 || s.LogUsed != 0 {
			t.Errorf("after Close: %+v", s)
		}
		judgeCuts(t, m, seed)
	}
}

// judgeCuts cuts the power at random times and judges each state.
func judgeCuts(t *testing.T, m *sharedModel, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 5))
	end := m.dev.now()
	for i := range 60 {
		cut := rng.IntN(end + 1)
		if i == 0 {
			cut = end
		}
		mode := cutMode(rng.IntN(int(numCutModes)))
		dev := newMemDev(m.dev.crash(cut, mode, rng))
		if _, err := Replay(t.Context(), m.v.replayConfig(dev)); err != nil {
			t.Fatalf("seed %d, cut at %d of %d: %v", seed, cut, end, err)
		}
		if _, err := m.judge(dev.data, cut); err != nil {
			t.Fatalf("seed %d, cut at %d of %d, mode %d: %v", seed, cut, end, mode, err)
		}
	}
}

// TestConcurrentAbort: a device that fails in the middle of all that; nobody hangs.
func TestConcurrentAbort(t *testing.T) {
	for seed := range uint64(8) {
		v := crashVolume(512, 0)
		dev := newMemDev(v.format(t))
		rng := rand.New(rand.NewPCG(seed, 3))
		left := rng.IntN(300)
		dev.fail = func(devOp) error {
			if left--; left < 0 {
				return errInjected
			}
			return nil
		}
		aborts := 0
		cfg := v.config(dev)
		cfg.OnAbort = func(error) { aborts++ }
		j, err := Open(cfg)
		must(t, err)
		m := newSharedModel(v, dev.data, dev)
		m.firstTid = j.running.tid
		runWorkers(t, seed, j, m, 8, 1000)
		m.lastTid = j.Stats().RunningTid
		wantIs(t, j.Close(t.Context()), ErrAborted)
		if aborts != 1 {
			t.Errorf("OnAbort called %d times", aborts)
		}
		judgeCuts(t, m, seed)
	}
}

// TestGroupCommit: callers that wait at the same time share commits.
func TestGroupCommit(t *testing.T) {
	v := smallVolume
	j, dev := openTest(t, v, nil)
	dev.delay = func() { time.Sleep(200 * time.Microsecond) }
	const workers, ops = 16, 10
	bs := v.newBlocks(workers, nil)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for k := range ops {
				h, err := j.Start(context.Background(), 1)
				if err != nil {
					t.Error(err)
					return
				}
				if err := h.Write(bs[i]); err != nil {
					t.Error(err)
				}
				bs[i].Data[0] = byte(k)
				tid := h.Tid()
				_ = h.Stop()
				if err := j.Commit(context.Background(), tid); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := j.Stats().Commits; n > workers*ops/3 {
		t.Errorf("%d commits for %d fsyncs of %d goroutines", n, workers*ops, workers)
	}
}
