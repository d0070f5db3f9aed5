package volume

import (
	"sync"
	"time"
)

// reaper takes inodes out of memory whose metadata is not home yet. Their META
// locks must be kept until it is (Linux: ocfs2_checkpoint_inode in
// ocfs2_clear_inode), and a journal flush for each would be far too dear: one
// flush serves a batch. An inode in its hands is not found by anybody; who
// wants its number waits, and hurries the reaper.
type reaper struct {
	v       *Volume
	mu      sync.Mutex // guards the rest
	batch   []*Inode
	running bool
	wake    chan struct{} // capacity 1
	done    sync.WaitGroup
}

const (
	reapDelay = 100 * time.Millisecond // the longest an inode waits
	reapBatch = 1024                   // inodes that are not waited for longer
)

func (r *reaper) init(v *Volume) { r.v, r.wake = v, make(chan struct{}, 1) }

// retire removes an inode from memory: at once if its metadata is home, else with
// the next batch: this node would read old blocks as well as another one, and
// find a deleted inode alive. The caller has taken the last reference and set
// i.loading.
func (v *Volume) retire(i *Inode) {
	v.leave(i)
	if v.j == nil || v.j.Checkpointed(&i.meta.Owner) {
		v.freeInode(i)
		v.unlist(i)
		return
	}
	r := &v.reaper
	r.mu.Lock()
	r.batch = append(r.batch, i)
	full := len(r.batch) >= reapBatch
	if !r.running {
		r.running = true
		r.done.Add(1)
		go r.run()
	}
	r.mu.Unlock()
	if full {
		r.hurry()
	}
}

// unlist takes an inode out of the table and lets those go on who wait for its
// number.
func (v *Volume) unlist(i *Inode) {
	s := v.table.shard(i.blkno)
	s.mu.Lock()
	delete(s.m, i.blkno)
	close(i.loading)
	s.mu.Unlock()
	if i.again && !v.unmounting.Load() {
		v.helpers.Go(func() { v.checkNumber(i.blkno) })
	}
}

// leave gives the locks back that tell other nodes that this one may use the
// inode, without waiting for the journal. If another node removed the last
// name since the decision to let the inode go, it may have left the deletion
// to us: it is looked at again once it is out of memory.
func (v *Volume) leave(i *Inode) {
	i.dropDentries()
	if err := i.dropOpen(v.background); err != nil {
		v.logf("dropping the open lock of inode %d: %v", i.blkno, err)
	}
	i.again = !v.local && i.has(stateMaybeOrphaned) && !i.has(stateDeleted|stateStale)
}

// hurry ends the wait for a fuller batch.
func (r *reaper) hurry() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run works until nothing is left.
func (r *reaper) run() {
	defer r.done.Done()
	for {
		t := time.NewTimer(reapDelay)
		select {
		case <-t.C:
		case <-r.wake:
			t.Stop()
		}
		r.mu.Lock()
		batch := r.batch
		r.batch = nil
		r.mu.Unlock()
		if err := r.v.j.FullFlush(r.v.background); err != nil {
			r.v.logf("%d inodes stay in memory, their metadata cannot be written: %v", len(batch), err)
			r.v.keep(batch)
			batch = nil
		}
		for _, i := range batch {
			r.v.freeInode(i)
			r.v.unlist(i)
		}
		r.mu.Lock()
		if len(r.batch) == 0 {
			r.running = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
	}
}

// stop returns when the last batch is done.
func (r *reaper) stop() {
	r.hurry()
	r.done.Wait()
}

// keep puts inodes back that cannot leave memory: the journal failed, and their
// locks may not be given up as long as its log could be replayed over what
// another node writes. The mount is read-only then.
func (v *Volume) keep(list []*Inode) {
	for _, i := range list {
		s := v.table.shard(i.blkno)
		s.mu.Lock()
		close(i.loading)
		i.loading, i.refs = nil, 0
		s.linkIdle(i)
		s.mu.Unlock()
	}
}

// freeInode gives an inode's locks and blocks back.
func (v *Volume) freeInode(i *Inode) {
	v.dropLocks(i)
	i.meta.Invalidate()
}
