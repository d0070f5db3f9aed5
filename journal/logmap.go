package journal

import (
	"fmt"
	"math"
)

// logMap maps log blocks to the device. It is immutable.
type logMap struct {
	exts   []Extent
	bs     int64
	blocks uint64 // log blocks the extents cover
}

// newLogMap validates the extents: sorted, from log block 0, no holes.
func newLogMap(exts []Extent, blockSize int) (logMap, error) {
	m := logMap{exts: exts, bs: int64(blockSize)}
	limit := uint64(math.MaxInt64) / uint64(blockSize)
	for i, e := range exts {
		if uint64(e.Log) != m.blocks || e.Len == 0 {
			return m, fmt.Errorf("%w: journal extent %d begins at log block %d with length %d, want %d and not 0",
				ErrCorrupt, i, e.Log, e.Len, m.blocks)
		}
		if e.Blkno > limit-uint64(e.Len) {
			return m, fmt.Errorf("%w: journal extent %d at device block %d is out of range", ErrCorrupt, i, e.Blkno)
		}
		m.blocks += uint64(e.Len)
	}
	if m.blocks < 2 || m.blocks > math.MaxUint32 {
		return m, fmt.Errorf("%w: journal has %d blocks", ErrCorrupt, m.blocks)
	}
	return m, nil
}

// run returns the device offset of log block pos and how many of the n blocks from
// there are contiguous on the device. pos must be inside the log.
func (m *logMap) run(pos, n uint32) (off int64, k uint32) {
	lo, hi := 0, len(m.exts)-1
	for lo < hi {
		mid := (lo + hi + 1) / 2
		if m.exts[mid].Log <= pos {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	e := m.exts[lo]
	in := pos - e.Log
	return (int64(e.Blkno) + int64(in)) * m.bs, min(n, e.Len-in)
}

// covers tells whether device block blkno is part of the log.
func (m *logMap) covers(blkno uint64) bool {
	for _, e := range m.exts {
		if blkno >= e.Blkno && blkno-e.Blkno < uint64(e.Len) {
			return true
		}
	}
	return false
}

// ring is the part of the log that transactions use: blocks first..end-1, cyclic.
type ring struct {
	first, end uint32
}

// size is the number of blocks in the ring.
func (r ring) size() int { return int(r.end - r.first) }

// add moves pos forward by n (at most the ring's size) blocks.
func (r ring) add(pos, n uint32) uint32 {
	if left := r.end - pos; n >= left {
		return r.first + (n - left)
	}
	return pos + n
}

// each calls fn for each contiguous device run of the n ring blocks from pos, with
// the index of the run's first block among them.
func (r ring) each(m *logMap, pos, n uint32, fn func(off int64, at, k uint32) error) error {
	for at := uint32(0); at < n; {
		off, k := m.run(pos, min(n-at, r.end-pos))
		if err := fn(off, at, k); err != nil {
			return err
		}
		at += k
		pos = r.add(pos, k)
	}
	return nil
}
