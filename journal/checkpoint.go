package journal

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// maxHomeWrite bounds one home write, in bytes.
const maxHomeWrite = 1 << 20

// maxRetained is how much memory committed images may take before a checkpoint is
// started, even if the log is less than half full, in bytes.
const maxRetained = 64 << 20

// FullFlush commits what was stopped before the call, writes it home, makes that
// durable and moves the log tail past it; with no other commit in flight the log
// is empty then (s_start 0). After it Checkpointed is true of every owner whose
// last change was before the call. Concurrent callers share the work; nothing
// changed since the last one costs no I/O. A full flush of one transaction is four
// waits for the device: log and superblock in one write, with a flush; the commit
// block, FUA; the home writes, with a flush (a single one: FUA); the superblock
// that moves the tail, FUA. None can be left out or overlap the next: each makes
// something durable that the next one relies on. If ctx ends first the flush goes on.
func (j *Journal) FullFlush(ctx context.Context) error {
	j.count.fullFlushes.Add(1)
	j.mu.Lock()
	t := j.newestDirty()
	if t == nil || j.Err() != nil {
		j.mu.Unlock()
		j.count.fullFlushFree.Add(1)
		return j.Err()
	}
	t.wantHome = true
	switch t {
	case j.running:
		j.wantCommit(t.tid)
	case j.committing: // finishCommit starts the checkpoint
	default:
		kick(j.kickCheckpoint)
	}
	for j.tail.Load() <= t.tid {
		ch := j.tailMoved.wait()
		j.mu.Unlock()
		select {
		case <-ch:
		case <-j.aborted:
			return j.Err()
		case <-ctx.Done():
			return fmt.Errorf("waiting for a full journal flush: %w", context.Cause(ctx))
		}
		j.mu.Lock()
	}
	j.mu.Unlock()
	return nil
}

// newestDirty is the newest transaction with changes that are not home; nil: none.
// Precondition: mu held.
func (j *Journal) newestDirty() *transaction {
	switch {
	case j.running.dirty:
		return j.running
	case j.committing != nil:
		return j.committing
	case len(j.committed) > 0:
		return j.committed[len(j.committed)-1]
	}
	return nil
}

// checkpointDue tells whether committed transactions should be written home now.
// Precondition: mu held.
func (j *Journal) checkpointDue() bool {
	if len(j.committed) == 0 {
		return false
	}
	if j.spaceWant || j.used > j.ring.size()/2 || j.retained > maxRetained {
		return true
	}
	return slices.ContainsFunc(j.committed, func(t *transaction) bool { return t.wantHome })
}

// checkpointLoop is the checkpoint goroutine.
func (j *Journal) checkpointLoop() {
	defer j.threads.Done()
	for {
		select {
		case <-j.kickCheckpoint:
		case <-j.stop:
			return
		case <-j.aborted:
			return
		}
		for {
			j.mu.Lock()
			var ts []*transaction
			if j.checkpointDue() {
				ts = slices.Clone(j.committed)
			}
			j.mu.Unlock()
			if ts == nil {
				break
			}
			if err := j.checkpoint(ts); err != nil {
				j.Abort(fmt.Errorf("checkpoint: %w", err))
				return
			}
		}
	}
}

// checkpoint writes the newest images of ts, the oldest committed transactions,
// home and moves the log tail past them. Taking all committed ones at once writes
// each block once, however many of them changed it.
func (j *Journal) checkpoint(ts []*transaction) error {
	images := newestImages(ts, j)
	writes, err := j.writeHome(images)
	if err != nil {
		return err
	}
	var freed int64
	for _, t := range ts {
		for _, e := range t.entries {
			e.b.pins.Add(-1)
		}
		freed += int64(cap(t.whole))
		j.putBuf(t.whole)
		t.entries, t.whole, t.buf = nil, nil, nil
	}
	if err := j.moveTail(ts, freed); err != nil {
		return err
	}
	j.count.checkpoints.Add(1)
	j.count.homeBlocks.Add(uint64(len(images)))
	j.count.homeWrites.Add(uint64(writes))
	j.emit(Event{Kind: EventCheckpoint, Tid: ts[len(ts)-1].tid, Blocks: len(images), Writes: writes})
	return nil
}

// homeImage is an image to be written home.
type homeImage struct {
	blkno uint64
	t     *transaction
	off   int // of the image in t.buf
}

// newestImages returns the newest image of each block in ts, by block number.
func newestImages(ts []*transaction, j *Journal) []homeImage {
	n := 0
	for _, t := range ts {
		n += len(t.entries)
	}
	images := make([]homeImage, 0, n)
	for _, t := range ts {
		for i := range t.entries {
			images = append(images, homeImage{t.entries[i].b.Blkno, t, imageOff(j.layout, i)})
		}
	}
	if len(ts) == 1 {
		return images // sorted and unique, see sortEntries
	}
	slices.SortFunc(images, func(a, b homeImage) int {
		if c := cmp.Compare(a.blkno, b.blkno); c != 0 {
			return c
		}
		return cmp.Compare(b.t.tid, a.t.tid) // newest first
	})
	return slices.CompactFunc(images, func(a, b homeImage) bool { return a.blkno == b.blkno })
}

// writeHome writes images, sorted by block number, durably, in as few writes as
// possible and several at once. A single write needs no flush of the whole device.
func (j *Journal) writeHome(images []homeImage) (writes int, err error) {
	runs := homeRuns(images, maxHomeWrite/j.layout.BlockSize)
	switch len(runs) {
	case 0:
		return 0, nil
	case 1:
		j.count.fuas.Add(1)
		return 1, j.writeRun(runs[0], j.cfg.Dev.WriteFUA)
	}
	if err := j.writeRuns(runs); err != nil {
		return len(runs), err
	}
	return len(runs), j.flush()
}

// writeRuns writes runs, HomeWriters of them at a time.
func (j *Journal) writeRuns(runs [][]homeImage) error {
	write := func(p []byte, off int64) error {
		_, err := j.cfg.Dev.WriteAt(p, off)
		return err
	}
	workers := min(j.cfg.HomeWriters, len(runs))
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1)) - 1
				if i >= len(runs) {
					return
				}
				errs[w] = j.writeRun(runs[i], write)
			}
		})
	}
	wg.Wait()
	for _, e := range errs {
		if e != nil {
			return e
		}
	}
	return nil
}

// homeRuns cuts images into runs of consecutive blocks, at most limit long.
func homeRuns(images []homeImage, limit int) [][]homeImage {
	var runs [][]homeImage
	for first, i := 0, 1; i <= len(images); i++ {
		if i == len(images) || images[i].blkno != images[i-1].blkno+1 || i-first == limit {
			runs = append(runs, images[first:i:i])
			first = i
		}
	}
	return runs
}

// writeRun writes consecutive blocks with one write, straight from the log buffer
// if they lie together there.
func (j *Journal) writeRun(run []homeImage, write func(p []byte, off int64) error) error {
	if j.Err() != nil {
		return errGivenUp
	}
	bs := j.layout.BlockSize
	n := len(run) * bs
	data := run[0].t.buf[run[0].off:]
	if together(run, bs) {
		data = data[:n]
	} else {
		data = j.getBuf(n)
		defer j.putBuf(data)
		for i, im := range run {
			copy(data[i*bs:(i+1)*bs], im.t.buf[im.off:])
		}
	}
	off := int64(run[0].blkno) * int64(bs)
	if err := write(data, off); err != nil {
		return fmt.Errorf("write %d blocks home at block %d: %w", len(run), run[0].blkno, err)
	}
	return nil
}

// together tells whether the images of a run are one stretch of memory.
func together(run []homeImage, bs int) bool {
	for i := 1; i < len(run); i++ {
		if run[i].t != run[0].t || run[i].off != run[i-1].off+bs {
			return false
		}
	}
	return true
}
