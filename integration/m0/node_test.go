package m0

import (
	"context"
	"errors"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/stackglue"
)

const (
	pr     = stackglue.PR
	ex     = stackglue.EX
	served = locking.Served
)

// node is one mount.
type node struct {
	fuse.RawFileSystem
	disk   *disk
	k      *kcache.Engine
	m      *locking.Manager
	rename *locking.Resource
	faults *faults

	mu      sync.Mutex // guards inodes, dentries
	inodes  map[uint64]*inode
	dentrys map[[2]uint64]*locking.Resource
}

// inode is a node's view of a dnode.
type inode struct {
	locking.NopHooks
	n    *node
	dn   *dnode
	k    *kcache.Inode
	meta *locking.Resource
	rw   *locking.Resource
	mu   sync.RWMutex // guards dn against this node's own requests; META is held
}

func newNode(d *disk, m *locking.Manager, f *faults) *node {
	n := &node{RawFileSystem: fuse.NewDefaultRawFileSystem(), disk: d, m: m, faults: f,
		inodes: map[uint64]*inode{}, dentrys: map[[2]uint64]*locking.Resource{}}
	n.rename = m.NewResource(locking.Rename, locking.GlobalName(locking.Rename), nil)
	return n
}

func (n *node) String() string { return "m0" }

// get returns the view of a number that exists.
func (n *node) get(id uint64) *inode {
	dn := n.disk.get(id)
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := n.inodes[id]; i != nil {
		return i
	}
	i := &inode{n: n, dn: dn, k: kcache.NewInode(id, dn.gen, dn.isDir())}
	i.meta = n.m.NewResource(locking.Meta, locking.Name(locking.Meta, id, 0), i)
	i.meta.Data = i
	i.rw = n.m.NewResource(locking.RW, locking.Name(locking.RW, id, uint32(dn.gen)), nil)
	n.inodes[id] = i
	return i
}

// Downconvert implements locking.Hooks for META.
func (i *inode) Downconvert(_ *locking.Resource, p locking.Pass) locking.Verdict {
	return i.n.k.RevokeInode(i.k, p)
}

// dentry returns the lock of all names of c in d.
func (n *node) dentry(d, c *inode) *locking.Resource {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := [2]uint64{d.dn.id, c.dn.id}
	r := n.dentrys[key]
	if r == nil {
		r = n.m.NewResource(locking.Dentry, locking.DentryName(d.dn.id, c.dn.id), &dentryHooks{n: n, d: d, c: c})
		n.dentrys[key] = r
	}
	return r
}

type dentryHooks struct {
	locking.NopHooks
	n    *node
	d, c *inode
}

func (h *dentryHooks) Downconvert(_ *locking.Resource, p locking.Pass) locking.Verdict {
	if p.To > stackglue.NL {
		return locking.Convert
	}
	h.n.k.RevokeNames(h.d.k, h.c.k)
	return locking.DropLock
}

func ctxOf(cancel <-chan struct{}, h *fuse.InHeader) context.Context {
	return kcache.Context(cancel, h.Pid, false)
}

func errno(err error) fuse.Status {
	var e syscall.Errno
	switch {
	case err == nil:
		return fuse.OK
	case errors.As(err, &e):
		return fuse.Status(e)
	case errors.Is(err, context.Canceled):
		return fuse.EINTR
	}
	return fuse.EIO
}

// hold takes locks in order and returns what releases them.
type held struct {
	r     *locking.Resource
	level stackglue.Mode
}

type holds struct{ all []held }

func (h *holds) lock(ctx context.Context, r *locking.Resource, level stackglue.Mode, f locking.Flags) error {
	if err := r.Lock(ctx, level, f); err != nil {
		return err
	}
	h.all = append(h.all, held{r, level})
	return nil
}

func (h *holds) release() {
	for k := len(h.all) - 1; k >= 0; k-- {
		h.all[k].r.Unlock(h.all[k].level)
	}
	h.all = nil
}

// dropName makes every other node forget the names of c in d.
func (n *node) dropName(ctx context.Context, d, c *inode) error {
	r := n.dentry(d, c)
	if err := r.Lock(ctx, ex, 0); err != nil {
		return err
	}
	r.Unlock(ex)
	return nil
}

// Forget implements fuse.RawFileSystem.
func (n *node) Forget(id, count uint64) { n.get(id).k.Forget(count) }
