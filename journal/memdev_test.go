package journal

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/ocfuse/ocfuse/journal/format"
)

// memDev is a device in memory that records every write and flush with the times
// of call and return, so that the state after a power cut at any time can be built.
type memDev struct {
	mu    sync.Mutex
	data  []byte
	base  []byte // contents when recording began
	ops   []devOp
	clock int
	fail  func(op devOp) error // called for writes and flushes, with mu held; may be nil
	delay func()               // called before each write and flush, without mu; may be nil
	reads int
}

type opKind uint8

const (
	opWrite opKind = iota
	opFUA
	opFlush
)

// devOp is a recorded operation. Times are values of memDev.clock.
type devOp struct {
	kind opKind
	off  int64
	data []byte
	call int
	ret  int // 0: has not returned
}

func newMemDev(data []byte) *memDev {
	return &memDev{data: data, base: append([]byte(nil), data...)}
}

func (d *memDev) now() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.clock
}

func (d *memDev) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads++
	if off < 0 || off+int64(len(p)) > int64(len(d.data)) {
		return 0, fmt.Errorf("memDev: read of %d bytes at %d is out of range", len(p), off)
	}
	return copy(p, d.data[off:]), nil
}

// do records one operation; its call and its return have different times, so that
// operations of several goroutines overlap as they really did.
func (d *memDev) do(kind opKind, p []byte, off int64) error {
	d.mu.Lock()
	if kind != opFlush && (off < 0 || off+int64(len(p)) > int64(len(d.data))) {
		d.mu.Unlock()
		return fmt.Errorf("memDev: write of %d bytes at %d is out of range", len(p), off)
	}
	d.clock++
	op := devOp{kind: kind, off: off, data: append([]byte(nil), p...), call: d.clock}
	if d.fail != nil {
		if err := d.fail(op); err != nil {
			d.mu.Unlock()
			return err
		}
	}
	i := len(d.ops)
	d.ops = append(d.ops, op)
	copy(d.data[off:], p)
	d.mu.Unlock()
	if d.delay != nil {
		d.delay()
	}
	d.mu.Lock()
	d.clock++
	d.ops[i].ret = d.clock
	d.mu.Unlock()
	return nil
}

func (d *memDev) WriteAt(p []byte, off int64) (int, error) { return len(p), d.do(opWrite, p, off) }
func (d *memDev) WriteFUA(p []byte, off int64) error       { return d.do(opFUA, p, off) }
func (d *memDev) Flush() error                             { return d.do(opFlush, nil, 0) }

// counts returns how many writes, FUA writes and flushes were recorded.
func (d *memDev) counts() (writes, fuas, flushes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, op := range d.ops {
		switch op.kind {
		case opWrite:
			writes++
		case opFUA:
			fuas++
		case opFlush:
			flushes++
		}
	}
	return
}

// cutMode says what a power cut does to writes that were not durable.
type cutMode int

const (
	cutLoseAll cutMode = iota
	cutKeepAll
	cutWhole // each write kept or lost
	cutTorn  // each sector kept or lost
	numCutModes
)

const testSector = 512

// crash returns the medium after a power cut at time cut.
func (d *memDev) crash(cut int, mode cutMode, rng *rand.Rand) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	img := append([]byte(nil), d.base...)
	for i, op := range d.ops {
		if op.kind == opFlush || op.call > cut {
			continue
		}
		if d.durable(i, cut) {
			copy(img[op.off:], op.data)
			continue
		}
		whole := mode == cutKeepAll || (mode == cutWhole && rng.IntN(2) == 0)
		for at := 0; at < len(op.data); at += testSector {
			if whole || (mode == cutTorn && rng.IntN(2) == 0) {
				copy(img[op.off+int64(at):], op.data[at:min(at+testSector, len(op.data))])
			}
		}
	}
	return img
}

// durable tells whether write i had to survive a cut at time cut.
func (d *memDev) durable(i, cut int) bool {
	w := d.ops[i]
	if w.ret == 0 || w.ret > cut {
		return false
	}
	if w.kind == opFUA {
		return true
	}
	for _, f := range d.ops[i+1:] {
		if f.kind == opFlush && f.call > w.ret && f.ret != 0 && f.ret <= cut {
			return true
		}
	}
	return false
}

// testVolume is the shape of a small volume for tests: a log in two extents, in
// reverse order on the device, and home blocks around it.
type testVolume struct {
	bs       int
	logLen   uint32
	blocks   int
	features format.Incompat
	seq      uint32
}

func (v testVolume) extents() []Extent {
	half := v.logLen / 2
	return []Extent{
		{Log: 0, Blkno: uint64(half) + 10, Len: v.logLen - half},
		{Log: v.logLen - half, Blkno: 4, Len: half},
	}
}

// home returns the number of the i-th home block.
func (v testVolume) home(i int) uint64 { return uint64(v.logLen) + 16 + uint64(i) }

func (v testVolume) format(t testing.TB) []byte {
	t.Helper()
	img := make([]byte, v.blocks*v.bs)
	s := format.New(uint32(v.bs), v.logLen, [16]byte{1, 2, 3}, v.features)
	if v.seq != 0 {
		s.Sequence = v.seq
	}
	s.Put(img[int(v.extents()[0].Blkno)*v.bs:][:v.bs])
	return img
}

func (v testVolume) config(dev Device) Config {
	return Config{Dev: dev, BlockSize: v.bs, Extents: v.extents(), CommitInterval: 1 << 40}
}

func (v testVolume) replayConfig(dev Device) ReplayConfig {
	return ReplayConfig{Dev: dev, BlockSize: v.bs, Extents: v.extents(), VolumeBlocks: uint64(v.blocks)}
}

// smallVolume has 1 KiB blocks and a log of 48.
var smallVolume = testVolume{bs: 1024, logLen: 48, blocks: 48 + 16 + 64}

// open opens a journal on a fresh small volume; it is closed when the test ends.
func openTest(t testing.TB, v testVolume, change func(*Config)) (*Journal, *memDev) {
	t.Helper()
	dev := newMemDev(v.format(t))
	cfg := v.config(dev)
	if change != nil {
		change(&cfg)
	}
	j, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close(t.Context()) })
	return j, dev
}
