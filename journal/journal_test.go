package journal

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/journal/format"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantIs(t testing.TB, err, kind error) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("error is %v, want %v", err, kind)
	}
}

// newBlocks returns n live blocks with the numbers of the first home blocks.
func (v testVolume) newBlocks(n int, o *Owner) []*Block {
	bs := make([]*Block, n)
	for i := range bs {
		bs[i] = &Block{Blkno: v.home(i), Data: make([]byte, v.bs), Owner: o}
	}
	return bs
}

// change sets all bytes of the blocks in one handle and returns its tid.
func change(t testing.TB, j *Journal, val byte, blocks ...*Block) uint64 {
	t.Helper()
	h, err := j.Start(context.Background(), len(blocks))
	must(t, err)
	tid := h.Tid()
	for _, b := range blocks {
		must(t, h.Write(b))
		for i := range b.Data {
			b.Data[i] = val
		}
	}
	must(t, h.Stop())
	return tid
}

func (v testVolume) homeData(dev *memDev, i int) []byte {
	dev.mu.Lock()
	defer dev.mu.Unlock()
	return bytes.Clone(dev.data[int(v.home(i))*v.bs:][:v.bs])
}

func fill(v byte, n int) []byte { return bytes.Repeat([]byte{v}, n) }

// TestCosts: what an fsync and a handoff cost in flushes and FUA writes.
func TestCosts(t *testing.T) {
	v := smallVolume
	j, dev := openTest(t, v, nil)
	ctx := t.Context()
	var o Owner
	bs := v.newBlocks(4, &o)
	step := func(name string, writes, fuas, flushes int, fn func()) {
		t.Helper()
		w0, u0, f0 := dev.counts()
		fn()
		w, u, f := dev.counts()
		if w-w0 != writes || u-u0 != fuas || f-f0 != flushes {
			t.Errorf("%s: %d writes, %d FUA writes, %d flushes; want %d, %d, %d", name, w-w0, u-u0, f-f0, writes, fuas, flushes)
		}
	}
	step("full flush of nothing", 0, 0, 0, func() { must(t, j.FullFlush(ctx)) })
	tid := change(t, j, 1, bs[0])
	step("first commit (superblock and log)", 1, 1, 1, func() { must(t, j.Commit(ctx, tid)) })
	step("commit again", 0, 0, 0, func() { must(t, j.Commit(ctx, tid)); must(t, j.CommitRunning(ctx)) })
	tid = change(t, j, 2, bs[0], bs[1])
	step("second commit (log)", 1, 1, 1, func() { must(t, j.Commit(ctx, tid)) })
	step("full flush after commit (home)", 0, 2, 0, func() { must(t, j.FullFlush(ctx)) })
	step("full flush again", 0, 0, 0, func() { must(t, j.FullFlush(ctx)) })
	change(t, j, 3, bs...)
	if j.Checkpointed(&o) {
		t.Error("owner counts as checkpointed while its blocks are in the running transaction")
	}
	step("handoff (superblock and log)", 1, 3, 1, func() { must(t, j.FullFlush(ctx)) })
	if !j.Checkpointed(&o) || bs[0].Pinned() {
		t.Error("owner not checkpointed, or block pinned, after a full flush")
	}
	for i := range bs {
		if !bytes.Equal(v.homeData(dev, i), fill(3, v.bs)) {
			t.Errorf("block %d is not home", i)
		}
	}
	change(t, j, 4, bs[0], bs[2])
	step("handoff of blocks apart (superblock and log, two home)", 3, 2, 2, func() { must(t, j.FullFlush(ctx)) })
}

// TestEmptyLogBeginsAgain: handoffs write the same log blocks over and over. A log
// that wandered on made an image file grow in every flush.
func TestEmptyLogBeginsAgain(t *testing.T) {
	v := smallVolume
	j, dev := openTest(t, v, nil)
	bs := v.newBlocks(1, nil)
	for i := range byte(20) {
		change(t, j, i, bs[0])
		must(t, j.FullFlush(t.Context()))
	}
	at := map[int64]bool{}
	for _, op := range dev.ops {
		if op.kind != opFlush {
			at[op.off] = true
		}
	}
	if len(at) != 3 {
		t.Errorf("20 full flushes wrote at %d places, want 3: superblock with log, commit block, home", len(at))
	}
}

func TestCredits(t *testing.T) {
	v := smallVolume
	j, _ := openTest(t, v, nil)
	ctx := t.Context()
	// 48/4 log blocks: 10 images, a descriptor, a commit block.
	if j.MaxCredits() != 10 {
		t.Fatalf("MaxCredits is %d, want 10", j.MaxCredits())
	}
	_, err := j.Start(ctx, 11)
	wantIs(t, err, ErrCredits)
	_, err = j.Start(ctx, -1)
	wantIs(t, err, ErrCredits)
	bs := v.newBlocks(11, nil)
	h, err := j.Start(ctx, 2)
	must(t, err)
	for range 3 {
		must(t, h.Write(bs[0]))
	}
	must(t, h.Write(bs[1]))
	wantIs(t, h.Write(bs[2]), ErrCredits)
	must(t, h.Extend(1))
	must(t, h.Write(bs[2]))
	wantIs(t, h.Extend(8), ErrCredits)

	// A second handle: a block of the transaction costs it a credit, but takes no room.
	h2, err := j.Start(ctx, 3)
	must(t, err)
	for _, b := range bs[:3] {
		must(t, h2.Write(b))
	}
	must(t, h.Write(bs[0])) // declared by h before, by h2 last
	if h.Left() != 0 || h2.Left() != 0 {
		t.Fatalf("credits left: %d and %d, want none", h.Left(), h2.Left())
	}
	wantIs(t, h2.Write(bs[3]), ErrCredits)
	must(t, h2.Stop())
	wantIs(t, h2.Stop(), errStopped)
	must(t, h.Extend(7))
	for _, b := range bs[3:10] {
		must(t, h.Write(b))
	}
	must(t, h.Stop())
	if s := j.Stats(); s.RunningBlocks != 10 || s.RunningHandles != 0 {
		t.Fatalf("running transaction has %d blocks, %d handles", s.RunningBlocks, s.RunningHandles)
	}
	// Full: the next Start commits it and joins the next one.
	h3, err := j.Start(ctx, 1)
	must(t, err)
	if h3.Tid() != h.j.durable.Load()+1 && h3.Tid() != h.j.durable.Load()+2 {
		t.Fatalf("tid %d", h3.Tid())
	}
	must(t, h3.Write(bs[10]))
	must(t, h3.Stop())
}

func TestStartWaitsAndContext(t *testing.T) {
	v := smallVolume
	j, _ := openTest(t, v, nil)
	h, err := j.Start(t.Context(), j.MaxCredits())
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = j.Start(ctx, 1)
	wantIs(t, err, context.DeadlineExceeded)
	wantIs(t, func() error { must(t, h.Write(v.newBlocks(1, nil)[0])); return j.CommitRunning(ctx) }(), context.DeadlineExceeded)
	wantIs(t, j.FullFlush(ctx), context.DeadlineExceeded)
	wantIs(t, j.Close(ctx), context.DeadlineExceeded)
	_, err = j.Start(t.Context(), 1)
	wantIs(t, err, ErrClosed)
	must(t, h.Stop())
	must(t, j.Close(t.Context()))
	must(t, j.Close(t.Context()))
}

// TestDuplicateBlkno: a block freed by one owner and allocated by another in the
// same transaction has two Blocks; the later one is written.
func TestDuplicateBlkno(t *testing.T) {
	v := smallVolume
	j, dev := openTest(t, v, nil)
	a, b, c := v.newBlocks(3, nil), v.newBlocks(1, nil)[0], v.newBlocks(3, nil)[2]
	change(t, j, 1, a[2], a[0], a[1])
	change(t, j, 2, b, c)
	must(t, j.CommitRunning(t.Context()))
	if a[0].Pinned() || a[2].Pinned() || !a[1].Pinned() || !b.Pinned() {
		t.Error("a superseded block must not stay pinned, the others must")
	}
	must(t, j.FullFlush(t.Context()))
	for i, want := range []byte{2, 1, 2} {
		if got := v.homeData(dev, i); got[0] != want {
			t.Errorf("home block %d has %d, want %d", i, got[0], want)
		}
	}
}

// TestEscape: an image that begins with the magic survives log, home and replay.
func TestEscape(t *testing.T) {
	v := smallVolume
	j, dev := openTest(t, v, nil)
	b := v.newBlocks(1, nil)[0]
	h, err := j.Start(t.Context(), 1)
	must(t, err)
	must(t, h.Write(b))
	copy(b.Data, []byte{0xC0, 0x3B, 0x39, 0x98, 5, 6, 7})
	must(t, h.Stop())
	must(t, j.CommitRunning(t.Context()))
	crashed := newMemDev(dev.crash(dev.now(), cutLoseAll, nil))
	res, err := Replay(t.Context(), v.replayConfig(crashed))
	must(t, err)
	if res.Written != 1 || !bytes.Equal(v.homeData(crashed, 0), b.Data) {
		t.Errorf("replay: %+v, data %x", res, v.homeData(crashed, 0)[:8])
	}
	must(t, j.FullFlush(t.Context()))
	if !bytes.Equal(v.homeData(dev, 0), b.Data) {
		t.Errorf("home: %x", v.homeData(dev, 0)[:8])
	}
}

// TestFrozenImage: a block changed again after its commit goes home as committed.
func TestFrozenImage(t *testing.T) {
	v := smallVolume
	finished := 0
	j, dev := openTest(t, v, func(c *Config) {
		c.Finish = func(blkno uint64, image []byte) { image[v.bs-1] = 0xEE; finished++ }
	})
	bs := v.newBlocks(2, nil)
	must(t, j.Commit(t.Context(), change(t, j, 1, bs...)))
	h, err := j.Start(t.Context(), 1)
	must(t, err)
	must(t, h.Write(bs[0]))
	bs[0].Data[0] = 77
	j.mu.Lock()
	j.spaceWant = true // a checkpoint now
	j.mu.Unlock()
	kick(j.kickCheckpoint)
	for j.Stats().Checkpoints == 0 {
		time.Sleep(time.Millisecond)
	}
	want := fill(1, v.bs)
	want[v.bs-1] = 0xEE
	if !bytes.Equal(v.homeData(dev, 0), want) {
		t.Error("home has not the committed, finished image")
	}
	if bs[0].Data[v.bs-1] == 0xEE {
		t.Error("Finish touched live data")
	}
	if !bs[0].Pinned() || bs[1].Pinned() {
		t.Error("the block in the running transaction must be pinned, the other not")
	}
	must(t, h.Stop())
	if finished != 2 {
		t.Errorf("Finish called %d times, want 2", finished)
	}
}

type orderFunc func(tid uint64) error

func (f *orderFunc) FlushOrdered(tid uint64) error { return (*f)(tid) }

func TestOrderedAndOnCommit(t *testing.T) {
	v := smallVolume
	j, dev := openTest(t, v, nil)
	var calls []string
	o := orderFunc(func(tid uint64) error {
		if w, _, _ := dev.counts(); w != 0 {
			t.Error("log was written before the ordered data")
		}
		calls = append(calls, "ordered")
		return nil
	})
	h, err := j.Start(t.Context(), 0)
	must(t, err)
	for range 3 {
		h.Ordered(&o)
	}
	h.OnCommit(func() { calls = append(calls, "one") })
	h.OnCommit(func() { calls = append(calls, "two") })
	tid := h.Tid()
	must(t, h.Stop())
	must(t, j.Commit(t.Context(), tid))
	if len(calls) != 3 || calls[0] != "ordered" || calls[1] != "one" || calls[2] != "two" {
		t.Errorf("calls: %v", calls)
	}
	must(t, j.FullFlush(t.Context()))
	dev2 := newMemDev(dev.data)
	res, err := Replay(t.Context(), v.replayConfig(dev2))
	must(t, err)
	if !res.WasEmpty {
		t.Errorf("log is not empty: %+v", res)
	}
}

func TestOrderedMany(t *testing.T) {
	v := smallVolume
	j, _ := openTest(t, v, nil)
	n := 0
	os := make([]orderFunc, 40)
	h, err := j.Start(t.Context(), 0)
	must(t, err)
	for range 2 {
		for i := range os {
			os[i] = func(uint64) error { n++; return nil }
			h.Ordered(&os[i])
		}
	}
	must(t, h.Stop())
	must(t, j.CommitRunning(t.Context()))
	if n != len(os) {
		t.Errorf("%d calls for %d orderers", n, len(os))
	}
}

func TestCommitInterval(t *testing.T) {
	v := smallVolume
	j, _ := openTest(t, v, func(c *Config) { c.CommitInterval = 5 * time.Millisecond })
	for i := range 3 {
		tid := change(t, j, byte(i), v.newBlocks(1, nil)[0])
		for deadline := time.Now().Add(5 * time.Second); j.durable.Load() < tid; {
			if time.Now().After(deadline) {
				t.Fatalf("transaction %d was not committed by the timer", tid)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// TestSequenceWrap: the sequence on disk passes 2^32, tids go on growing.
func TestSequenceWrap(t *testing.T) {
	v := smallVolume
	v.seq = 0xFFFFFFFE
	j, dev := openTest(t, v, nil)
	bs := v.newBlocks(1, nil)
	last := uint64(0)
	for i := range 6 {
		tid := change(t, j, byte(i+1), bs[0])
		if tid <= last {
			t.Fatalf("tid %d after %d", tid, last)
		}
		last = tid
		must(t, j.Commit(t.Context(), tid))
		crashed := newMemDev(dev.crash(dev.now(), cutLoseAll, nil))
		res, err := Replay(t.Context(), v.replayConfig(crashed))
		must(t, err)
		if res.Transactions != i+1 || res.LastSequence != v.seq+uint32(i) || v.homeData(crashed, 0)[0] != byte(i+1) {
			t.Fatalf("after %d commits: %+v", i+1, res)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	v := smallVolume
	open := func(change func(s *format.Superblock), cfgs ...func(*Config)) error {
		img := v.format(t)
		off := int(v.extents()[0].Blkno) * v.bs
		s, err := format.ParseSuperblock(img[off:], v.bs, uint64(v.logLen))
		must(t, err)
		change(&s)
		s.Put(img[off:][:v.bs])
		cfg := v.config(newMemDev(img))
		for _, c := range cfgs {
			c(&cfg)
		}
		j, err := Open(cfg)
		if err == nil {
			must(t, j.Close(t.Context()))
		}
		return err
	}
	must(t, open(func(*format.Superblock) {}))
	must(t, open(func(s *format.Superblock) { s.Incompat = format.IncompatRevoke | format.Incompat64Bit }))
	wantIs(t, open(func(s *format.Superblock) { s.Start = 1 }), ErrNeedsReplay)
	wantIs(t, open(func(s *format.Superblock) { s.Incompat = format.IncompatFastCommit }), ErrUnsupported)
	wantIs(t, open(func(s *format.Superblock) { s.Incompat, s.ChecksumType = format.IncompatCsumV3, 4 }), ErrUnsupported)
	wantIs(t, open(func(s *format.Superblock) { s.BlockSize = 4096 }), ErrCorrupt)
	wantIs(t, open(func(s *format.Superblock) { s.MaxLen = 1000 }), ErrCorrupt)
	wantIs(t, open(func(s *format.Superblock) { s.First = 0 }), ErrCorrupt)
	wantIs(t, open(func(s *format.Superblock) { s.Start = 48 }), ErrCorrupt)
	wantIs(t, open(func(s *format.Superblock) { s.MaxLen = 8 }), ErrCorrupt)
	ok := func(*format.Superblock) {}
	must(t, open(ok, func(c *Config) { c.VolumeUUID = [16]byte{7} })) // tunefs.ocfs2 -U leaves journals so
	wantIs(t, open(ok, func(c *Config) { c.Extents = c.Extents[1:] }), ErrCorrupt)
	wantIs(t, open(ok, func(c *Config) { c.Extents = nil }), ErrCorrupt)
	wantIs(t, open(ok, func(c *Config) { c.Extents[0].Blkno++ }), ErrCorrupt)
}

// Test64Bit: block numbers of 2^32 and more need the feature.
func Test64Bit(t *testing.T) {
	v := smallVolume
	j, _ := openTest(t, v, nil)
	h, err := j.Start(t.Context(), 1)
	must(t, err)
	b := &Block{Blkno: 1 << 32, Data: make([]byte, v.bs)}
	wantIs(t, h.Write(b), ErrUnsupported)
	must(t, h.Stop())
	if b.Pinned() {
		t.Error("refused block is pinned")
	}
	v.features = format.Incompat64Bit
	j, dev := openTest(t, v, nil)
	blocks := v.newBlocks(2, nil)
	must(t, j.Commit(t.Context(), change(t, j, 9, blocks...)))
	crashed := newMemDev(dev.crash(dev.now(), cutLoseAll, nil))
	res, err := Replay(t.Context(), v.replayConfig(crashed))
	must(t, err)
	if res.Written != 2 || v.homeData(crashed, 1)[0] != 9 {
		t.Errorf("%+v", res)
	}
}

// TestEventsAndRefusals: what is reported, and what Write and Commit refuse.
func TestEventsAndRefusals(t *testing.T) {
	v := smallVolume
	events := make(chan Event, 16)
	j, _ := openTest(t, v, func(c *Config) { c.OnEvent = func(e Event) { events <- e } })
	wantKind := func(kind EventKind, tid uint64, blocks int) {
		t.Helper()
		if e := <-events; e.Kind != kind || e.Tid != tid || e.Blocks != blocks {
			t.Errorf("event %v: %+v", e.Kind, e)
		}
	}
	var o Owner
	bs := v.newBlocks(3, &o)
	if j.LastTid(&o) != 0 || !j.Checkpointed(&o) || bs[0].Tid() != 0 {
		t.Error("an untouched owner or block has a transaction")
	}
	tid := change(t, j, 1, bs...)
	if j.LastTid(&o) != tid || bs[2].Tid() != tid {
		t.Errorf("last tid of the owner is %d, of a block %d; want %d", j.LastTid(&o), bs[2].Tid(), tid)
	}
	if err := j.Commit(t.Context(), tid+1); err == nil {
		t.Error("commit of a transaction that does not exist")
	}
	must(t, j.FullFlush(t.Context()))
	wantKind(EventCommit, tid, 3)
	wantKind(EventCheckpoint, tid, 3)

	h, err := j.Start(t.Context(), 2)
	must(t, err)
	for _, b := range []*Block{
		{Blkno: v.home(0), Data: make([]byte, v.bs-1)},
		{Blkno: 1 << 60, Data: make([]byte, v.bs)},
	} {
		if h.Write(b) == nil || b.Pinned() {
			t.Errorf("block %d with %d bytes accepted", b.Blkno, len(b.Data))
		}
	}
	must(t, h.Stop())
	j.Abort(errInjected)
	if e := <-events; e.Kind != EventAbort || !errors.Is(e.Err, errInjected) || e.Kind.String() != "abort" {
		t.Errorf("event %+v", e)
	}
}

// TestCloseWaitsForHandles: a handle that has changed nothing yet when Close begins.
func TestCloseWaitsForHandles(t *testing.T) {
	v := smallVolume
	j, dev := openTest(t, v, nil)
	h, err := j.Start(t.Context(), 1)
	must(t, err)
	closed := make(chan error)
	go func() { closed <- j.Close(context.Background()) }()
	for err == nil { // until Close has begun
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		var extra *Handle
		if extra, err = j.Start(ctx, 1); err == nil {
			must(t, extra.Stop())
		}
		cancel()
	}
	wantIs(t, err, ErrClosed)
	b := v.newBlocks(1, nil)[0]
	must(t, h.Write(b))
	b.Data[0] = 42
	must(t, h.Stop())
	must(t, <-closed)
	if v.homeData(dev, 0)[0] != 42 {
		t.Error("the change of an open handle is not home after Close")
	}
}
