package volume

import (
	"context"
	"fmt"
	"sync"

	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/stackglue"
)

const shardCount = 64

// table is the inode table: every inode in memory, by number. Unreferenced
// inodes stay (with their cached locks and blocks) up to a limit, oldest out
// first.
type table struct {
	shards [shardCount]shard
	limit  int // unreferenced inodes kept per shard
}

type shard struct {
	mu   sync.Mutex // guards the shard and the marked fields of its inodes
	m    map[uint64]*Inode
	head Inode // ring of unreferenced inodes: head.lruNext is the newest
	idle int
}

func (t *table) init(keep int) {
	t.limit = max(keep/shardCount, 1)
	for n := range t.shards {
		s := &t.shards[n]
		s.m = map[uint64]*Inode{}
		s.head.lruNext, s.head.lruPrev = &s.head, &s.head
	}
}

func (t *table) shard(blkno uint64) *shard { return &t.shards[(blkno*0x9E3779B97F4A7C15)>>58] }

// mu held.
func (s *shard) linkIdle(i *Inode) {
	i.idle = true
	s.idle++
	i.lruNext, i.lruPrev = s.head.lruNext, &s.head
	i.lruNext.lruPrev, s.head.lruNext = i, i
}

// mu held.
func (s *shard) unlinkIdle(i *Inode) {
	if i.idle {
		i.idle = false
		s.idle--
		i.lruPrev.lruNext, i.lruNext.lruPrev = i.lruNext, i.lruPrev
		i.lruPrev, i.lruNext = nil, nil
	}
}

// igetFlags say how to get an inode.
type igetFlags uint8

const (
	igetSystem  igetFlags = 1 << iota // a system inode
	igetNoQueue                       // do not wait for a node that is deleting it (orphan recovery)
	igetServed                        // on behalf of a LOOKUP
)

// iget returns inode blkno with a reference: from memory, or loaded under its
// OPEN and META locks. ErrStale if it is not a live inode.
func (v *Volume) iget(ctx context.Context, blkno uint64, f igetFlags) (*Inode, error) {
	return v.igetIn(ctx, blkno, f, nil)
}

// igetIn is iget for a name in directory d: the dentry lock of an inode that must
// be loaded is asked for in the same flight as the others.
func (v *Volume) igetIn(ctx context.Context, blkno uint64, f igetFlags, d *Inode) (*Inode, error) {
	if !v.geo.ValidBlock(blkno) {
		return nil, fmt.Errorf("inode number %d is outside the volume", blkno)
	}
	if blkno == v.geo.RootBlkno {
		f |= igetSystem
	}
	s := v.table.shard(blkno)
	for {
		s.mu.Lock()
		i := s.m[blkno]
		if i == nil {
			i = v.newInode(blkno, f&igetSystem != 0)
			i.refs, i.loading = 1, make(chan struct{})
			s.m[blkno] = i
			s.mu.Unlock()
			return v.finishLoad(ctx, s, i, f, d)
		}
		if ch := i.loading; ch != nil {
			s.mu.Unlock()
			v.reaper.hurry()
			if err := locking.Await(ctx, ch); err != nil {
				return nil, err
			}
			continue
		}
		s.unlinkIdle(i)
		i.refs++
		s.mu.Unlock()
		if i.has(stateStale | stateDeleted) {
			i.Put()
			return nil, fmt.Errorf("inode %d: %w", blkno, ErrStale)
		}
		return i, nil
	}
}

// finishLoad loads an inode and publishes it, or takes it out again.
func (v *Volume) finishLoad(ctx context.Context, s *shard, i *Inode, f igetFlags, d *Inode) (*Inode, error) {
	err := v.load(ctx, i, f, d)
	if err != nil {
		v.dropLocks(i)
	}
	s.mu.Lock()
	close(i.loading)
	i.loading = nil
	if err != nil {
		delete(s.m, i.blkno)
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return i, nil
}

// load reads an inode under its locks (Linux fs/ocfs2/inode.c,
// ocfs2_read_locked_inode).
func (v *Volume) load(ctx context.Context, i *Inode, f igetFlags, d *Inode) error {
	if i.system {
		return v.loadSystem(i)
	}
	var lf locking.Flags
	if f&igetNoQueue != 0 {
		lf |= locking.NoQueue
	}
	if f&igetServed != 0 {
		lf |= locking.Served
	}
	i.metaLock.Prefetch(stackglue.PR)
	if d != nil && !v.local {
		i.dentry(d.blkno).res.Prefetch(stackglue.PR)
	}
	if err := i.openLock.Lock(ctx, stackglue.PR, lf); err != nil {
		return fmt.Errorf("open lock of inode %d: %w", i.blkno, err)
	}
	i.openHeld = true
	if err := i.metaLock.Lock(ctx, stackglue.PR, lf); err != nil {
		return err
	}
	i.makeRWLock()
	i.metaLock.Unlock(stackglue.PR)
	return nil
}

// loadSystem readies a system inode: its content is read when it is used.
// The generation of all of them is the volume's (OCFS2 format: superblock).
func (v *Volume) loadSystem(i *Inode) error {
	i.gen = v.geo.FSGeneration
	i.makeRWLock()
	return nil
}

// adopt enters an inode that this node just created, referenced.
func (v *Volume) adopt(i *Inode) error {
	s := v.table.shard(i.blkno)
	for {
		s.mu.Lock()
		old := s.m[i.blkno]
		if old == nil {
			i.refs = 1
			s.m[i.blkno] = i
			s.mu.Unlock()
			return nil
		}
		// A deleted inode of the same number is on its way out.
		ch := old.loading
		if ch == nil && old.refs == 0 {
			v.evictLocked(s, old)
			continue
		}
		s.mu.Unlock()
		if ch == nil {
			return fmt.Errorf("inode %d was allocated while it is in use", i.blkno)
		}
		v.reaper.hurry()
		<-ch
	}
}

// Put drops a reference. The last one of an inode without names deletes it in
// the background.
func (i *Inode) Put() { i.put(1) }

// PutN drops n references (FORGET).
func (i *Inode) PutN(n int) { i.put(n) }

func (i *Inode) put(n int) {
	v, s := i.v, i.v.table.shard(i.blkno)
	s.mu.Lock()
	i.refs -= n
	if i.refs < 0 {
		s.mu.Unlock()
		panic(fmt.Sprintf("volume: inode %d put too often", i.blkno)) // invariant
	}
	if i.refs > 0 || i.system {
		s.mu.Unlock()
		return
	}
	switch {
	case i.has(stateDeleted | stateStale):
		v.evictLocked(s, i)
	case i.has(stateMaybeOrphaned):
		i.refs = 1 // the deleter's
		s.mu.Unlock()
		v.deleter.add(i)
	default:
		s.linkIdle(i)
		if s.idle <= v.table.limit {
			s.mu.Unlock()
			return
		}
		v.evictLocked(s, s.head.lruPrev)
	}
}

// evictLocked begins to remove an unreferenced inode from memory: nobody gets
// it from now on. s.mu held; returns with it released.
func (v *Volume) evictLocked(s *shard, i *Inode) {
	s.unlinkIdle(i)
	i.loading = make(chan struct{})
	s.mu.Unlock()
	v.retire(i)
}

// dropLocks gives the inode's lock resources back to the stack.
func (v *Volume) dropLocks(i *Inode) {
	i.dropDentries()
	if i.openHeld {
		i.openHeld = false
		i.openLock.Unlock(stackglue.PR)
	}
	for _, r := range []*locking.Resource{i.rwLock, i.metaLock, i.openLock} {
		if r == nil {
			continue
		}
		if err := r.Drop(v.background); err != nil {
			v.logf("dropping %v lock of inode %d: %v", r.Type(), i.blkno, err)
		}
	}
}

// Held returns the inode with that number if somebody holds a reference: for
// callers that hold one themselves under another name (the kernel's lookups).
func (v *Volume) Held(blkno uint64) *Inode {
	s := v.table.shard(blkno)
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.m[blkno]
	if i == nil || i.refs == 0 {
		return nil
	}
	return i
}

// Ref takes another reference of an inode that the caller holds.
func (v *Volume) Ref(i *Inode) error {
	if i == v.root {
		return nil
	}
	s := v.table.shard(i.blkno)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i.refs == 0 {
		return fmt.Errorf("inode %d: %w", i.blkno, ErrStale)
	}
	i.refs++
	return nil
}
