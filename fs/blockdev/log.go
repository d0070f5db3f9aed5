package blockdev

import (
	"fmt"
	"math/rand/v2"
	"sync"
)

// OpKind is the kind of an operation on a device.
type OpKind uint8

// Kinds of operation. Reads appear only in fault predicates, never in a Log.
const (
	OpWrite OpKind = iota + 1
	OpFUA
	OpZero
	OpFlush
	OpRead
	OpDiscard
)

// String gives the name used in transcripts.
func (k OpKind) String() string {
	switch k {
	case OpWrite:
		return "write"
	case OpFUA:
		return "fua"
	case OpZero:
		return "zero"
	case OpFlush:
		return "flush"
	case OpRead:
		return "read"
	case OpDiscard:
		return "discard"
	}
	return fmt.Sprintf("op(%d)", uint8(k))
}

// Op is one logged operation. Start and Done are positions on the log's own
// counter of begins and ends: a flush covers the writes whose Done is below its
// Start. Done is 0 while the operation runs, or when it failed (then it may have
// happened in part, and no flush is known to cover it).
type Op struct {
	Kind  OpKind
	Off   int64
	Len   int64
	Data  []byte // Len bytes for OpWrite and OpFUA; not to be changed
	Start uint64
	Done  uint64
}

// Log is the sequence of writes and flushes a device saw, in the order they began.
type Log struct {
	mu    sync.Mutex
	ops   []Op
	clock uint64
}

// begin appends an operation that starts now and returns its index. The
// log keeps data.
func (l *Log) begin(kind OpKind, off, n int64, data []byte) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	l.ops = append(l.ops, Op{Kind: kind, Off: off, Len: n, Data: data, Start: l.clock})
	return len(l.ops) - 1
}

// end marks operation i as completed with success.
func (l *Log) end(i int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock++
	l.ops[i].Done = l.clock
}

// Len is the number of operations begun so far.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ops)
}

// Ops returns the operations begun so far. Data is shared: do not change it.
func (l *Log) Ops() []Op {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Op(nil), l.ops...)
}

// CrashMode says what a power cut does to writes that no flush covered.
type CrashMode uint8

const (
	// KeepAll keeps all of them, as if the medium had been quick.
	KeepAll CrashMode = iota
	// DropAll loses all of them.
	DropAll
	// TearLast keeps all but the last, of which a random subset of sectors arrives.
	TearLast
	// Random keeps, drops or tears each one by itself.
	Random
)

// Crash is a power cut: the mode, and the seed for modes that choose. The same
// operations, mode and seed always give the same image.
type Crash struct {
	Mode CrashMode
	Seed uint64
}

// ImageAt returns base as a power cut leaves it just before operation n begins
// (n = Len: after all of them): operations [0, n) applied, those that are not
// durable by then kept, dropped or torn as c says. base is not changed.
func (l *Log) ImageAt(base *Mem, n int, c Crash) (*Mem, error) {
	ops := l.Ops()
	if n < 0 || n > len(ops) {
		return nil, fmt.Errorf("cut before operation %d: the log has %d", n, len(ops))
	}
	now := ^uint64(0)
	if n < len(ops) {
		now = ops[n].Start
	}
	m := base.Clone()
	applyCrash(m.pages, ops[:n], durableBefore(ops[:n], now), now, c)
	m.settle()
	return m, nil
}

// durableBefore returns the largest Start of a flush that was done before now: a
// write with Done below it is durable.
func durableBefore(ops []Op, now uint64) uint64 {
	var covered uint64
	for i := range ops {
		if o := &ops[i]; o.Kind == OpFlush && o.Done != 0 && o.Done < now {
			covered = max(covered, o.Start)
		}
	}
	return covered
}

// applyCrash applies ops in order to pages. Those done before covered, and FUA
// writes done before now, are durable; c decides about the others, those that were
// still running at now included.
func applyCrash(pages *pageTable, ops []Op, covered, now uint64, c Crash) {
	rng := rand.New(rand.NewPCG(c.Seed, 0x6f6366757365)) // "ocfuse"
	last := -1
	durable := func(o *Op) bool {
		return o.Done != 0 && (o.Done < covered || (o.Kind == OpFUA && o.Done < now))
	}
	for i := range ops {
		if ops[i].Kind != OpFlush && !durable(&ops[i]) {
			last = i
		}
	}
	for i := range ops {
		o := &ops[i]
		if o.Kind == OpFlush {
			continue
		}
		if durable(o) {
			pages.apply(o, nil)
			continue
		}
		applyVolatile(pages, o, i == last, c.Mode, rng)
	}
}

// applyVolatile applies one operation that a power cut may lose.
func applyVolatile(pages *pageTable, o *Op, last bool, mode CrashMode, rng *rand.Rand) {
	tear := func(int64) bool { return rng.Uint64()&1 == 0 }
	switch mode {
	case KeepAll:
		pages.apply(o, nil)
	case DropAll:
	case TearLast:
		if last {
			pages.apply(o, tear)
			return
		}
		pages.apply(o, nil)
	case Random:
		switch rng.IntN(3) {
		case 0:
			pages.apply(o, nil)
		case 1:
		case 2:
			pages.apply(o, tear)
		}
	}
}
