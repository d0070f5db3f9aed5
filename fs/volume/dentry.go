package volume

import (
	"context"

	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/stackglue"
)

// dentry is a dentry lock: it covers all names of one inode in one directory
// on this node (Linux fs/ocfs2/dcache.c). It is cached PR as long as the
// kernel may hold one of the names, that is, until the inode leaves memory;
// whoever removes a name takes it EX for a moment, which makes every other
// node forget the names and remember that the inode may be an orphan.
type dentry struct {
	i      *Inode
	parent uint64
	res    *locking.Resource
}

// dentry finds or makes the dentry lock of (parent, i).
func (i *Inode) dentry(parent uint64) *dentry {
	i.dentMu.Lock()
	defer i.dentMu.Unlock()
	for _, d := range i.dents {
		if d.parent == parent {
			return d
		}
	}
	d := &dentry{i: i, parent: parent}
	d.res = i.v.locks.NewResource(locking.Dentry, locking.DentryName(parent, i.blkno), (*dentryHooks)(d))
	d.res.Data = i
	i.dents = append(i.dents, d)
	return d
}

// attach makes sure that the dentry lock of a name just found or made is held
// PR. The caller holds the directory's META, and a reference of i.
func (i *Inode) attach(ctx context.Context, parent *Inode, f locking.Flags) error {
	if i.v.local {
		return nil
	}
	r := i.dentry(parent.blkno).res
	if err := r.Lock(ctx, stackglue.PR, f); err != nil {
		return err
	}
	r.Unlock(stackglue.PR)
	return nil
}

// attachNew is attach for a name that is being made. The caller holds both
// inodes' META EX. The locks of an inode that no other node knows must be
// there before one can read parent.
func (i *Inode) attachNew(ctx context.Context, parent *Inode) error {
	if i.v.local {
		return nil
	}
	if i.fresh.Join(parent.metaLock, i.dentry(parent.blkno).res, stackglue.PR) {
		return nil
	}
	return i.attach(ctx, parent, 0)
}

// detach tells every other node that a name of i in parent goes away
// (ocfs2_remote_dentry_delete). The caller holds both inodes' META EX.
func (i *Inode) detach(ctx context.Context, parent *Inode) error {
	if i.v.local {
		return nil
	}
	r := i.dentry(parent.blkno).res
	if err := r.Lock(ctx, stackglue.EX, 0); err != nil {
		return err
	}
	r.Unlock(stackglue.EX)
	return nil
}

// askDetach asks for META EX and for what detach takes in one flight.
func (i *Inode) askDetach(parent *Inode) {
	if i.v.local {
		return
	}
	i.metaLock.Prefetch(stackglue.EX)
	i.dentry(parent.blkno).res.Prefetch(stackglue.EX)
}

// dropDentries gives all dentry locks of an inode back; it leaves memory.
func (i *Inode) dropDentries() {
	i.dentMu.Lock()
	dents := i.dents
	i.dents = nil
	i.dentMu.Unlock()
	for _, d := range dents {
		if err := d.res.Drop(i.v.background); err != nil {
			i.v.logf("dropping a dentry lock of inode %d: %v", i.blkno, err)
		}
	}
}

// dentryHooks are the hooks of a dentry lock.
type dentryHooks dentry

// Refresh implements locking.Hooks.
func (*dentryHooks) Refresh(*locking.Resource, *[stackglue.LVBLen]byte, bool) error { return nil }

// Ready implements locking.Hooks.
func (*dentryHooks) Ready(*locking.Resource, stackglue.Mode) bool { return true }

// MakeReady implements locking.Hooks.
func (*dentryHooks) MakeReady(*locking.Resource) {}

// FillLVB implements locking.Hooks.
func (*dentryHooks) FillLVB(*locking.Resource) {}

// Downconvert implements locking.Hooks (ocfs2_dentry_convert_worker): only EX
// means that a name goes.
func (h *dentryHooks) Downconvert(_ *locking.Resource, p locking.Pass) locking.Verdict {
	if p.To > stackglue.NL {
		return locking.Convert
	}
	h.i.set(stateMaybeOrphaned)
	v := h.i.v.kernel.RevokeNames(h.parent, h.i, p)
	h.i.v.table.recheck(h.i)
	return v
}

// recheck runs the delete protocol for an inode that became a possible orphan
// while nobody used it.
func (t *table) recheck(i *Inode) {
	s := t.shard(i.blkno)
	s.mu.Lock()
	if i.refs == 0 && i.loading == nil && i.idle && s.m[i.blkno] == i {
		s.unlinkIdle(i)
		i.refs = 1 // the deleter's
		s.mu.Unlock()
		i.v.deleter.add(i)
		return
	}
	s.mu.Unlock()
}
