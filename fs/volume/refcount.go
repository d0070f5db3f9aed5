package volume

import (
	"context"
	"fmt"
	"sync"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/fs/refcount"
	"github.com/ocfuse/ocfuse/journal"
	"github.com/ocfuse/ocfuse/stackglue"
)

// refTree is a refcount tree in memory: its blocks and its cluster lock. The
// inodes that use it find it by its root (Linux struct ocfs2_refcount_tree).
type refTree struct {
	v    *Volume
	root uint64
	gen  uint32 // rf_generation, part of the lock's name
	lock *locking.Resource
	meta buffer.Meta
	mu   sync.Mutex // orders the users of this node; taken after lock
	// Guarded by refTrees.mu:
	users int
	gone  bool // the tree was deleted, or its root is another tree's now
}

// refTrees are the trees in memory. A tree stays until unmount, or until it is
// deleted and its blocks are home.
type refTrees struct {
	mu   sync.Mutex // guards the rest; a leaf
	m    map[uint64]*refTree
	gone []*refTree // not in m, still with a lock
}

// get returns the tree with root block blkno, referenced. The caller holds META
// of an inode that uses it, so it exists, and its generation cannot change.
func (v *Volume) getRefTree(blkno uint64) (*refTree, error) {
	s := &v.refs
	s.mu.Lock()
	if t := s.m[blkno]; t != nil {
		t.users++
		s.mu.Unlock()
		return t, nil
	}
	s.mu.Unlock()
	gen, err := v.refGeneration(blkno)
	if err != nil {
		return nil, err
	}
	v.reapRefTrees()
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.m[blkno]; t != nil { // somebody was faster
		t.users++
		return t, nil
	}
	t := &refTree{v: v, root: blkno, gen: gen, users: 1}
	t.meta.Init(v.cache)
	t.lock = v.locks.NewResource(locking.Refcount, locking.Name(locking.Refcount, blkno, gen), (*refHooks)(t))
	t.lock.Data = t
	if s.m == nil {
		s.m = map[uint64]*refTree{}
	}
	s.m[blkno] = t
	return t, nil
}

// refGeneration reads the generation from the device: the lock's name needs it,
// so it cannot be read under the lock. It was written before any inode with the
// tree could be locked by another node.
func (v *Volume) refGeneration(blkno uint64) (uint32, error) {
	m := new(buffer.Meta)
	m.Init(v.cache)
	defer m.Invalidate()
	t, err := refcount.Open(m, blkno)
	if err != nil {
		return 0, err
	}
	defer t.Close()
	return t.Generation(), nil
}

// put gives a reference back.
func (t *refTree) put() {
	s := &t.v.refs
	s.mu.Lock()
	t.users--
	s.mu.Unlock()
}

// forget takes a tree out of the map that is no more.
func (t *refTree) forget() {
	s := &t.v.refs
	s.mu.Lock()
	if !t.gone {
		t.gone = true
		delete(s.m, t.root)
		s.gone = append(s.gone, t)
	}
	s.mu.Unlock()
}

// reapRefTrees gives up the locks of deleted trees whose blocks are home.
func (v *Volume) reapRefTrees() {
	s := &v.refs
	s.mu.Lock()
	var reap []*refTree
	keep := s.gone[:0]
	for _, t := range s.gone {
		if t.users == 0 && v.j.Checkpointed(&t.meta.Owner) {
			reap = append(reap, t)
		} else {
			keep = append(keep, t)
		}
	}
	clear(s.gone[len(keep):])
	s.gone = keep
	s.mu.Unlock()
	for _, t := range reap {
		t.drop()
	}
}

// drop gives a tree's lock and blocks back.
func (t *refTree) drop() {
	if err := t.lock.Drop(t.v.background); err != nil {
		t.v.logf("dropping the lock of refcount tree %d: %v", t.root, err)
	}
	t.meta.Invalidate()
}

// dropRefTrees gives all of them up; nobody uses any. For the unmount.
func (v *Volume) dropRefTrees() {
	for _, t := range v.refs.gone {
		t.drop()
	}
	for _, t := range v.refs.m {
		t.drop()
	}
	v.refs.gone, v.refs.m = nil, nil
}

// refHooks are the hooks of a tree's lock (Linux fs/ocfs2/dlmglue.c,
// ocfs2_refcount_block_lops): the next holder reads home blocks, and ours are
// forgotten as soon as it may change them.
type refHooks refTree

// Refresh implements locking.Hooks.
func (h *refHooks) Refresh(*locking.Resource, *[stackglue.LVBLen]byte, bool) error { return nil }

// Ready implements locking.Hooks.
func (h *refHooks) Ready(*locking.Resource, stackglue.Mode) bool {
	return h.v.j.Checkpointed(&h.meta.Owner)
}

// MakeReady implements locking.Hooks.
func (h *refHooks) MakeReady(*locking.Resource) { h.v.wantFlush() }

// Downconvert implements locking.Hooks. Nobody uses the blocks: all users hold
// the lock, and none gets it before the other node had its turn.
func (h *refHooks) Downconvert(_ *locking.Resource, p locking.Pass) locking.Verdict {
	if p.To < stackglue.PR {
		h.meta.Invalidate()
	}
	return locking.Convert
}

// FillLVB implements locking.Hooks.
func (h *refHooks) FillLVB(*locking.Resource) {}

// lockedTree is a refcount tree that is locked at EX and open; release it.
type lockedTree struct {
	t    *refTree
	tree refcount.Tree
}

// lockRefTree locks the tree of an inode, which is write-locked: after META,
// before the allocators.
func (i *Inode) lockRefTree(ctx context.Context) (lockedTree, error) {
	b, di, err := i.dinode()
	if err != nil {
		return lockedTree{}, err
	}
	loc := di.RefcountLoc()
	has := di.HasDyn(ondisk.DynHasRefcount)
	b.Put()
	if loc == 0 || !has {
		return lockedTree{}, ondisk.Corruptf("inode", i.blkno, "has shared clusters, but refcount tree %d and features %#x", loc, i.attr.Dyn)
	}
	for {
		t, err := i.v.getRefTree(loc)
		if err != nil {
			return lockedTree{}, fmt.Errorf("refcount tree of inode %d: %w", i.blkno, err)
		}
		if err := t.lock.Lock(ctx, stackglue.EX, 0); err != nil {
			t.put()
			return lockedTree{}, fmt.Errorf("lock of refcount tree %d: %w", loc, err)
		}
		t.mu.Lock()
		l := lockedTree{t: t}
		l.tree, err = refcount.Open(&t.meta, loc)
		if err != nil {
			l.release()
			return lockedTree{}, fmt.Errorf("refcount tree of inode %d: %w", i.blkno, err)
		}
		if l.tree.Generation() == t.gen {
			return l, nil
		}
		t.forget() // deleted, and its root block used for another tree
		l.release()
	}
}

// release closes and unlocks; after the transaction.
func (l *lockedTree) release() {
	if l.t == nil {
		return
	}
	l.tree.Close()
	l.t.mu.Unlock()
	l.t.lock.Unlock(stackglue.EX)
	l.t.put()
	l.t = nil
}

// sharedPart is a locked refcount tree and the part of one of its records that
// a transaction is about to count down: n clusters from the first or up to the
// last of a run. The zero value is for runs that are not shared.
type sharedPart struct {
	lockedTree
	first, n      uint32 // physical clusters
	count         uint32 // references, this one included
	meta, credits int    // what decrement takes
}

// lockShared locks the inode's tree and finds out how many clusters from the
// start of run r, which is REFCOUNTED, or, fromEnd, up to its end can be counted
// down at once.
func (i *Inode) lockShared(ctx context.Context, r extent.Run, fromEnd bool) (s sharedPart, err error) {
	if s.lockedTree, err = i.lockRefTree(ctx); err != nil {
		return s, err
	}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	first := i.v.geo.BlocksToClusters(r.Blkno)
	end := first + r.Clusters
	at := first
	if fromEnd {
		at = end - 1
	}
	rec, err := s.tree.Lookup(at)
	if err != nil {
		return s, fmt.Errorf("inode %d: %w", i.blkno, err)
	}
	if fromEnd {
		first = max(first, rec.Cluster)
	} else {
		end = min(end, rec.End())
	}
	s.first, s.n, s.count = first, end-first, rec.Count
	s.meta, s.credits, err = s.tree.Needs(at)
	return s, err
}

// decrement takes this inode's reference off run r, which is the part or the
// beginning of it. zero: nobody else has one.
func (s *sharedPart) decrement(tx *journal.Handle, res extent.MetaSource, sink extent.MetaSink, r extent.Run) (zero bool, err error) {
	if s.t == nil {
		return false, ondisk.Corruptf("extent", r.Blkno, "%v is shared, its inode has no refcount tree", r)
	}
	if c := s.t.v.geo.BlocksToClusters(r.Blkno); c != s.first || r.Clusters > s.n {
		return false, fmt.Errorf("volume: %d clusters from %d were planned to be released, not %v", s.n, s.first, r)
	}
	return s.tree.Decrement(tx, res, sink, s.first, r.Clusters)
}

// leaveRefTree takes an inode that is being deleted off the users of its tree,
// and deletes the tree with the last one.
func (v *Volume) leaveRefTree(ctx context.Context, i *Inode) error {
	l, err := i.lockRefTree(ctx)
	if err != nil {
		return err
	}
	defer l.release()
	d := v.alloc.Dealloc()
	if l.tree.Inodes() == 1 && !l.tree.Empty() {
		return ondisk.Corruptf("refcount tree", l.t.root, "counts clusters, and inode %d is the last one to use it", i.blkno)
	}
	err = v.transact(ctx, 1+refcount.DetachCredits, func(tx *journal.Handle) error {
		last, err := l.tree.Detach(tx, d)
		if err != nil {
			return err
		}
		if last {
			l.t.forget()
		}
		c, err := i.begin(tx)
		if err != nil {
			return err
		}
		c.di.SetRefcountLoc(0)
		c.di.SetDynFeatures(c.di.DynFeatures() &^ ondisk.DynHasRefcount)
		c.finish()
		return nil
	})
	if err != nil {
		return err
	}
	return d.Run(ctx)
}

// wiping is an inode being deleted, as fs/xattr sees it.
type wiping struct{ i *Inode }

// Unmap implements xattr.Volume.
func (w wiping) Unmap(ctx context.Context, t extent.Tree, cpos uint32, d *alloc.Dealloc, extra int, also func(*journal.Handle) error) error {
	u := unmapping{i: w.i, t: t, cpos: cpos, end: 1 << 32, d: d, extra: extra, finish: also}
	return u.run(ctx)
}

// Transact implements xattr.Volume.
func (w wiping) Transact(ctx context.Context, credits int, fn func(*journal.Handle) error) error {
	return w.i.v.transact(ctx, credits, fn)
}
