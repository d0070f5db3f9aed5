package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"
)

var errInjected = errors.New("injected I/O error")

// TestWriteErrors fails the n-th device operation of a fixed script, for every n:
// the journal aborts once, everything after that fails with ErrAborted, nothing
// hangs, and what was acknowledged is in the log.
func TestWriteErrors(t *testing.T) {
	for n := 1; ; n++ {
		if !writeErrorRun(t, n) {
			if n < 30 {
				t.Errorf("the script made only %d device operations", n)
			}
			return
		}
		if t.Failed() {
			return
		}
	}
}

// writeErrorRun returns false if the script ended before the n-th operation.
func writeErrorRun(t *testing.T, n int) bool {
	v := smallVolume
	dev := newMemDev(v.format(t))
	count := 0
	dev.fail = func(devOp) error {
		if count++; count >= n {
			return errInjected
		}
		return nil
	}
	aborts := 0
	cfg := v.config(dev)
	cfg.HomeWriters = 1
	cfg.OnAbort = func(err error) {
		aborts++
		wantIs(t, err, errInjected)
	}
	j, err := Open(cfg)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	bs := v.newBlocks(8, nil)
	acked, val := byte(0), byte(0)
	for val < 20 && err == nil {
		val++
		var h *Handle
		if h, err = j.Start(ctx, len(bs)); err != nil {
			break
		}
		for _, b := range bs {
			must(t, errorUnlessAborted(h.Write(b)))
			copy(b.Data, fill(val, v.bs))
		}
		tid := h.Tid()
		must(t, errorUnlessAborted(h.Stop()))
		if val%7 == 0 {
			err = j.FullFlush(ctx)
		} else {
			err = j.Commit(ctx, tid)
		}
		if err == nil {
			acked = val
		}
	}
	if err == nil {
		err = j.Close(ctx)
	}
	if err == nil {
		return false
	}
	wantIs(t, err, ErrAborted)
	wantIs(t, err, errInjected)
	checkAborted(t, j)
	if aborts != 1 {
		t.Errorf("operation %d: OnAbort was called %d times", n, aborts)
	}
	crashed := newMemDev(dev.crash(dev.now(), cutTorn, rand.New(rand.NewPCG(1, uint64(n)))))
	_, err = Replay(ctx, v.replayConfig(crashed))
	must(t, err)
	for i := range bs {
		got := v.homeData(crashed, i)
		if !bytes.Equal(got, fill(got[0], v.bs)) || got[0] < acked || got[0] > val || got[0] != v.homeData(crashed, 0)[0] {
			t.Errorf("operation %d: block %d has %d, acknowledged was %d", n, i, got[0], acked)
		}
	}
	return true
}

// errorUnlessAborted passes on errors other than ErrAborted.
func errorUnlessAborted(err error) error {
	if errors.Is(err, ErrAborted) {
		return nil
	}
	return err
}

// checkAborted: every call of an aborted journal says so.
func checkAborted(t *testing.T, j *Journal) {
	t.Helper()
	ctx := t.Context()
	_, err := j.Start(ctx, 1)
	wantIs(t, err, ErrAborted)
	wantIs(t, j.CommitRunning(ctx), ErrAborted)
	wantIs(t, j.Commit(ctx, j.Stats().RunningTid), ErrAborted)
	wantIs(t, j.FullFlush(ctx), ErrAborted)
	wantIs(t, j.Close(ctx), ErrAborted)
	wantIs(t, j.Err(), ErrAborted)
}

// TestAbortFromOutside: the fence falls while a handle is open and others wait.
func TestAbortFromOutside(t *testing.T) {
	v := smallVolume
	var aborts atomic.Int32
	j, dev := openTest(t, v, func(c *Config) { c.OnAbort = func(error) { aborts.Add(1) } })
	bs := v.newBlocks(2, nil)
	h, err := j.Start(t.Context(), j.MaxCredits())
	must(t, err)
	must(t, h.Write(bs[0]))
	results := make(chan error, 3)
	go func() { results <- j.CommitRunning(t.Context()) }()
	go func() { results <- j.FullFlush(t.Context()) }()
	go func() { _, err := j.Start(t.Context(), 5); results <- err }()
	time.Sleep(5 * time.Millisecond)
	reason := errors.New("fenced")
	j.Abort(reason)
	j.Abort(errors.New("again"))
	for range 3 {
		err := <-results
		wantIs(t, err, ErrAborted)
		wantIs(t, err, reason)
	}
	wantIs(t, h.Write(bs[1]), ErrAborted)
	wantIs(t, h.Extend(0), ErrAborted)
	wantIs(t, h.Stop(), ErrAborted)
	wantIs(t, j.Close(t.Context()), ErrAborted)
	if aborts.Load() != 1 {
		t.Errorf("OnAbort called %d times", aborts.Load())
	}
	if w, u, f := dev.counts(); w+u+f != 0 {
		t.Errorf("%d writes, %d FUA writes, %d flushes after an abort before the first commit", w, u, f)
	}
	if !bs[0].Pinned() {
		t.Error("a change that never became durable lost its pin")
	}
}

// TestOrderedError: data that could not be written must not become visible.
func TestOrderedError(t *testing.T) {
	v := smallVolume
	j, dev := openTest(t, v, nil)
	o := orderFunc(func(uint64) error { return fmt.Errorf("data: %w", errInjected) })
	h, err := j.Start(t.Context(), 1)
	must(t, err)
	must(t, h.Write(v.newBlocks(1, nil)[0]))
	h.Ordered(&o)
	must(t, h.Stop())
	err = j.CommitRunning(t.Context())
	wantIs(t, err, ErrAborted)
	wantIs(t, err, errInjected)
	if w, u, _ := dev.counts(); w+u != 0 {
		t.Error("something was written")
	}
}

// TestReplayErrors fails the n-th operation of a replay: it says so, and a later
// replay does the whole work.
func TestReplayErrors(t *testing.T) {
	for n := 1; n <= 4; n++ {
		b := newLogBuilder(t, smallVolume, 1)
		b.blocks(image{0, 1}, image{4, 2}).commit()
		dev := newMemDev(b.img)
		count := 0
		dev.fail = func(devOp) error {
			if count++; count == n {
				return errInjected
			}
			return nil
		}
		_, err := Replay(t.Context(), smallVolume.replayConfig(dev))
		wantIs(t, err, errInjected) // two home writes, flush, superblock
		dev.fail = nil
		res, err := Replay(t.Context(), smallVolume.replayConfig(dev))
		must(t, err)
		if res.Written != 2 || smallVolume.homeData(dev, 4)[0] != 2 {
			t.Errorf("after failure of operation %d: %+v", n, res)
		}
	}
}
