package journal

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Commit makes everything up to transaction tid durable; it returns at once if it
// is. Concurrent callers share one commit. If ctx ends first the commit goes on.
func (j *Journal) Commit(ctx context.Context, tid uint64) error {
	if tid <= j.durable.Load() {
		return nil
	}
	j.mu.Lock()
	if tid > j.running.tid {
		running := j.running.tid
		j.mu.Unlock()
		return fmt.Errorf("journal: commit of transaction %d asked for, the running one is %d", tid, running)
	}
	return j.commitTid(ctx, tid)
}

// CommitRunning makes everything durable that was stopped before the call.
func (j *Journal) CommitRunning(ctx context.Context) error {
	j.mu.Lock()
	return j.commitTid(ctx, j.running.tid)
}

// commitTid asks for the commit of tid and waits. Precondition: mu held; it is
// released.
func (j *Journal) commitTid(ctx context.Context, tid uint64) error {
	t := j.running
	if tid < t.tid || !t.dirty {
		t = j.committing // nothing to do for the running one; all older ones are durable
	} else {
		j.wantCommit(tid)
	}
	j.mu.Unlock()
	if t == nil {
		return j.Err()
	}
	select {
	case <-t.done:
		return nil
	default:
	}
	select {
	case <-t.done:
		return nil
	case <-j.aborted:
		return j.Err()
	case <-ctx.Done():
		return fmt.Errorf("waiting for the commit of transaction %d: %w", tid, context.Cause(ctx))
	}
}

// wantCommit asks the commit goroutine for tid. A transaction without changes is
// not committed before it gets some (setDirty). Precondition: mu held.
func (j *Journal) wantCommit(tid uint64) {
	j.commitTo = max(j.commitTo, tid)
	kick(j.kickCommit)
}

// setDirty notes that t has something to commit, and starts its commit interval.
// Precondition: mu held.
func (j *Journal) setDirty(t *transaction) {
	if t.dirty {
		return
	}
	t.dirty, t.born = true, time.Now()
	if t.tid <= j.commitTo {
		kick(j.kickCommit)
	}
	if j.timerOn || j.Err() != nil {
		return
	}
	j.timerOn = true
	if j.timer == nil {
		j.timer = time.AfterFunc(j.cfg.CommitInterval, j.onTimer)
	} else {
		j.timer.Reset(j.cfg.CommitInterval)
	}
}

// onTimer commits a transaction that is old enough. The timer is not reset by each
// commit; it finds out here, and sleeps for good when nothing is pending.
func (j *Journal) onTimer() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.timerOn = false
	t := j.running
	if !t.dirty || j.Err() != nil {
		return
	}
	if left := j.cfg.CommitInterval - time.Since(t.born); left > 0 {
		j.timerOn = true
		j.timer.Reset(left)
		return
	}
	j.wantCommit(t.tid)
}

// commitLoop is the commit goroutine.
func (j *Journal) commitLoop() {
	defer j.threads.Done()
	for {
		select {
		case <-j.kickCommit:
		case <-j.stop:
			return
		case <-j.aborted:
			return
		}
		for t := j.lockRunning(); t != nil; t = j.lockRunning() {
			if err := j.commit(t); err != nil {
				j.Abort(fmt.Errorf("commit of transaction %d: %w", t.tid, err))
				return
			}
		}
	}
}

// lockRunning closes the running transaction to new handles if its commit is
// wanted; nil if not.
func (j *Journal) lockRunning() *transaction {
	j.mu.Lock()
	defer j.mu.Unlock()
	t := j.running
	if t.tid > j.commitTo || !t.dirty {
		return nil
	}
	t.locked = true
	if t.handles > 0 {
		t.idle = make(chan struct{})
	}
	return t
}

// commit takes a locked transaction to durable. An error means that the journal
// must give up.
func (j *Journal) commit(t *transaction) error {
	begin := j.cfg.Now()
	if err := j.freeze(t); err != nil {
		return err
	}
	t.encode(j.layout, j.cfg.Finish, begin)
	for _, o := range t.ordered {
		if err := o.FlushOrdered(t.tid); err != nil {
			return fmt.Errorf("write ordered data: %w", err)
		}
	}
	if j.Err() != nil {
		return errGivenUp
	}
	written, err := j.startLog(t)
	if err != nil {
		return err
	}
	writes, err := j.writeLog(t, written)
	if err != nil {
		return err
	}
	j.emit(Event{Kind: EventCommit, Tid: t.tid, Blocks: t.images, Writes: writes, Took: j.cfg.Now().Sub(begin)})
	j.finishCommit(t)
	return nil
}

// errGivenUp ends a commit or checkpoint of a journal that was aborted meanwhile;
// the abort it causes is not the first.
var errGivenUp = errors.New("given up")

// freeze waits for the open handles, copies all images, gives t its place in the
// log, and opens the next transaction. Only the copying is done while no handle
// can be open; the rest of the commit works on the copies.
func (j *Journal) freeze(t *transaction) error {
	j.mu.Lock()
	idle := t.idle
	j.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-j.aborted:
			return errGivenUp
		}
	}
	dropped := t.sortEntries()
	t.images = len(t.entries)
	n := j.layout.LogBlocks(t.images)
	t.whole = j.getBuf((n + 1) * j.layout.BlockSize)
	t.buf = t.whole[j.layout.BlockSize:]
	for i := range t.entries {
		copy(t.image(j.layout, i), t.entries[i].b.Data)
	}

	j.mu.Lock()
	if n > j.ring.size()-j.used {
		used := j.used
		j.mu.Unlock()
		return fmt.Errorf("journal: transaction needs %d log blocks, %d of %d are used: space was not reserved", n, used, j.ring.size())
	}
	if j.used == 0 {
		j.head = j.ring.first // see writeLog
	}
	t.pos, t.logLen, t.frozen = j.head, uint32(n), true
	j.head = j.ring.add(j.head, uint32(n))
	j.used += n
	j.committing = t
	j.running = newTransaction(t.tid + 1)
	j.changed.fire()
	j.mu.Unlock()
	for _, e := range dropped {
		e.b.pins.Add(-1)
	}
	return nil
}

// writeLog writes t to the log: everything but the commit block, flush, commit
// block. written says that startLog has done the first of it.
//
// An empty log begins at its first block again, not where the last transaction
// ended: a node that hands locks on all the time empties its log each time, so it
// writes the same few blocks over and over. In an image file these exist already,
// while new ones would make the filesystem below commit its own journal in each of
// our flushes; and the superblock is next to them.
func (j *Journal) writeLog(t *transaction, written bool) (writes int, err error) {
	bs := uint32(j.layout.BlockSize)
	todo := t.logLen - 1
	if written {
		writes, todo = 1, 0
	}
	err = j.ring.each(&j.log, t.pos, todo, func(off int64, at, k uint32) error {
		writes++
		if _, err := j.cfg.Dev.WriteAt(t.buf[at*bs:(at+k)*bs], off); err != nil {
			return fmt.Errorf("write log at %d: %w", off, err)
		}
		return nil
	})
	if err != nil {
		return writes, err
	}
	// This flush is what makes the commit block mean something: log blocks, ordered
	// data and a new superblock are durable before it can be.
	if err := j.flush(); err != nil {
		return writes, err
	}
	off, _ := j.log.run(j.ring.add(t.pos, t.logLen-1), 1)
	if err := j.cfg.Dev.WriteFUA(t.commitBlock(j.layout), off); err != nil {
		return writes, fmt.Errorf("write commit block at %d: %w", off, err)
	}
	j.count.fuas.Add(1)
	return writes, nil
}

// flush flushes the device, unless the journal was aborted.
func (j *Journal) flush() error {
	if j.Err() != nil {
		return errGivenUp
	}
	j.count.flushes.Add(1)
	if err := j.cfg.Dev.Flush(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// finishCommit publishes that t is durable.
func (j *Journal) finishCommit(t *transaction) {
	t.unescape(j.layout)
	for _, fn := range t.onCommit {
		fn()
	}
	t.onCommit, t.ordered, t.orderSeen = nil, nil, nil
	j.count.commits.Add(1)
	j.count.commitBlocks.Add(uint64(t.images))
	j.mu.Lock()
	j.committing = nil
	j.committed = append(j.committed, t)
	j.retained += int64(cap(t.whole))
	if j.checkpointDue() {
		kick(j.kickCheckpoint)
	}
	j.durable.Store(t.tid)
	j.mu.Unlock()
	close(t.done)
}

// spareMax bounds the memory kept for reuse between commits, in bytes.
const spareMax = 8 << 20

// getBuf returns n bytes with undefined contents.
func (j *Journal) getBuf(n int) []byte {
	j.mu.Lock()
	for i, b := range j.spare {
		if cap(b) >= n && cap(b) <= 8*n {
			last := len(j.spare) - 1
			j.spare[i] = j.spare[last]
			j.spare[last] = nil
			j.spare = j.spare[:last]
			j.spareBytes -= cap(b)
			j.mu.Unlock()
			return b[:n]
		}
	}
	j.mu.Unlock()
	size := 4 << 10 // round up, so that buffers fit again
	for size < n && size < 1<<20 {
		size *= 2
	}
	if size < n {
		size = (n + 1<<20 - 1) &^ (1<<20 - 1)
	}
	return j.cfg.AllocBuf(size)[:n]
}

// putBuf keeps a buffer for reuse.
func (j *Journal) putBuf(b []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.spareBytes+cap(b) <= spareMax {
		j.spare = append(j.spare, b)
		j.spareBytes += cap(b)
	}
}
