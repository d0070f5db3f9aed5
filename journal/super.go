package journal

import (
	"fmt"

	"github.com/ocfuse/ocfuse/journal/format"
)

// readSuper reads and validates the journal superblock; buf is log block 0.
func readSuper(dev Device, log *logMap, alloc func(int) []byte) (s format.Superblock, buf []byte, err error) {
	buf = alloc(int(log.bs))
	off, _ := log.run(0, 1)
	if _, err := dev.ReadAt(buf, off); err != nil {
		return s, nil, fmt.Errorf("read journal superblock at %d: %w", off, err)
	}
	s, err = format.ParseSuperblock(buf, int(log.bs), log.blocks)
	if err != nil {
		return s, nil, fmt.Errorf("%w: at offset %d: %w", ErrCorrupt, off, err)
	}
	return s, buf, nil
}

// startLog writes the superblock if the log on disk is empty, so that a replay
// finds t: s_start = its first block, s_sequence = its id. Where t comes right
// behind the superblock, one write takes both; written says that all of t but its
// commit block is written then.
//
// The write is not flushed by itself: the commit's one flush, before the commit
// block, covers it together with the log blocks. A crash before that flush is
// safe whichever of these writes survived. Superblock lost: s_start is still 0, a
// replay does nothing, and t was promised to nobody. Superblock there, log blocks
// lost or torn: the replay starts at t's place and expects t's id; t's commit block
// has not been written, and no older one carries that id (ids never go back, and a
// replay skips the id of a transaction that it found without its commit), so it
// finds no transaction and ends. All earlier transactions are home already, that is
// what an empty log means. The superblock itself cannot be torn: the fields are in
// one sector.
func (j *Journal) startLog(t *transaction) (written bool, err error) {
	j.sbMu.Lock()
	defer j.sbMu.Unlock()
	if j.super.Start != 0 {
		return false, nil
	}
	j.putSuper(t.pos, uint32(t.tid))
	off, k := j.log.run(0, t.logLen)
	what := j.superBuf
	if t.pos == 1 && k == t.logLen {
		bs := j.layout.BlockSize
		what, written = t.whole[:int(k)*bs], true
		copy(what[:bs], j.superBuf)
	}
	if _, err := j.cfg.Dev.WriteAt(what, off); err != nil {
		return false, fmt.Errorf("write journal superblock at %d: %w", off, err)
	}
	return written, nil
}

// moveTail makes the log begin after the transactions ts, which are home durably
// and are the oldest ones, and frees their log space when that is durable. freed is
// the memory their images took.
func (j *Journal) moveTail(ts []*transaction, freed int64) error {
	j.sbMu.Lock()
	defer j.sbMu.Unlock()
	// A commit that freezes a transaction after this decision will see, under sbMu,
	// whether the log on disk is empty and write the superblock again if it is.
	j.mu.Lock()
	next := j.oldestAfter(len(ts))
	start := uint32(0)
	if next.frozen {
		start = next.pos
	}
	j.mu.Unlock()
	j.putSuper(start, uint32(next.tid))
	off, _ := j.log.run(0, 1)
	if err := j.cfg.Dev.WriteFUA(j.superBuf, off); err != nil {
		return fmt.Errorf("write journal superblock at %d: %w", off, err)
	}
	j.count.fuas.Add(1)
	j.mu.Lock()
	for _, t := range ts {
		j.used -= int(t.logLen)
	}
	j.retained -= freed
	clear(j.committed[:len(ts)])
	j.committed = j.committed[len(ts):]
	if len(j.committed) == 0 {
		j.committed = nil
	}
	j.tail.Store(next.tid)
	j.spaceWant = false
	j.changed.fire()
	j.tailMoved.fire()
	j.mu.Unlock()
	return nil
}

// oldestAfter is the transaction after the n oldest committed ones.
// Precondition: mu held.
func (j *Journal) oldestAfter(n int) *transaction {
	switch {
	case len(j.committed) > n:
		return j.committed[n]
	case j.committing != nil:
		return j.committing
	}
	return j.running
}

// putSuper encodes a superblock with a new tail. Precondition: sbMu held.
func (j *Journal) putSuper(start, sequence uint32) {
	j.super.Start, j.super.Sequence = start, sequence
	j.super.Put(j.superBuf)
	j.count.superWrites.Add(1)
}
