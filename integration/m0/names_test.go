package m0

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
	"github.com/ocfuse/ocfuse/fs/locking"
)

func (n *node) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	defer n.faults.pause()
	ctx, d := ctxOf(cancel, h), n.get(h.NodeId)
	if err := d.meta.Lock(ctx, pr, served); err != nil {
		return errno(err)
	}
	defer d.meta.Unlock(pr)
	d.mu.RLock()
	e := d.dn.names[name]
	d.mu.RUnlock()
	if e == nil {
		return n.k.Negative(out, d.k, name)
	}
	return n.entry(ctx, d, name, n.get(e.id), out, 0)
}

// entry fills a reply that names c; d's META is held.
func (n *node) entry(ctx context.Context, d *inode, name string, c *inode, out *fuse.EntryOut, f kcache.EntryFlags) fuse.Status {
	var h holds
	defer h.release()
	err := n.m.LockMany(ctx, locking.Request{R: c.meta, Level: pr, Flags: served}, locking.Request{R: n.dentry(d, c), Level: pr, Flags: served})
	if err != nil {
		return errno(err)
	}
	h.all = []held{{c.meta, pr}, {n.dentry(d, c), pr}}
	c.mu.RLock()
	c.dn.attr(&out.Attr)
	n.k.Entry(out, d.k, name, c.k, f)
	c.mu.RUnlock()
	return fuse.OK
}

// create makes an object and its reply. The directory is locked EX.
func (n *node) create(ctx context.Context, d *inode, name string, dn *dnode, out *fuse.EntryOut) fuse.Status {
	c := n.get(dn.id)
	if err := c.meta.Lock(ctx, ex, locking.NewObject|locking.Nested); err != nil {
		return errno(err)
	}
	c.meta.Unlock(ex)
	d.mu.Lock()
	if dn.isDir() {
		dn.parent = d.dn.id
		d.dn.nlink++
	}
	d.dn.insert(name, dn)
	d.mu.Unlock()
	return n.entry(ctx, d, name, c, out, kcache.Created)
}

// make is MKNOD, MKDIR and SYMLINK.
func (n *node) make(cancel <-chan struct{}, h *fuse.InHeader, name string, mode uint32, target string, out *fuse.EntryOut) fuse.Status {
	defer n.faults.pause()
	ctx, d := ctxOf(cancel, h), n.get(h.NodeId)
	if err := d.meta.Lock(ctx, ex, 0); err != nil {
		return errno(err)
	}
	defer d.meta.Unlock(ex)
	if d.has(name) {
		return fuse.Status(syscall.EEXIST)
	}
	dn := n.disk.add(mode, h.Uid, h.Gid)
	dn.target = target
	return n.create(ctx, d, name, dn, out)
}

func (d *inode) has(name string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.dn.names[name] != nil
}

func (n *node) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	return n.make(cancel, &in.InHeader, name, in.Mode, "", out)
}

func (n *node) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return n.make(cancel, &in.InHeader, name, in.Mode|syscall.S_IFDIR, "", out)
}

func (n *node) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return n.make(cancel, h, name, syscall.S_IFLNK|0o777, target, out)
}

func (n *node) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	defer n.faults.pause()
	ctx, d := ctxOf(cancel, &in.InHeader), n.get(in.NodeId)
	if err := d.meta.Lock(ctx, ex, 0); err != nil {
		return errno(err)
	}
	defer d.meta.Unlock(ex)
	d.mu.RLock()
	e := d.dn.names[name]
	d.mu.RUnlock()
	var st fuse.Status
	var dn *dnode
	if e != nil {
		if in.Flags&syscall.O_EXCL != 0 {
			return fuse.Status(syscall.EEXIST)
		}
		dn = n.disk.get(e.id)
		st = n.entry(ctx, d, name, n.get(e.id), &out.EntryOut, kcache.Created)
	} else {
		dn = n.disk.add(in.Mode&0o7777|syscall.S_IFREG, in.Uid, in.Gid)
		st = n.create(ctx, d, name, dn, &out.EntryOut)
	}
	if st.Ok() {
		out.OpenFlags = n.k.Open(n.get(dn.id).k, in.Flags)
		out.Fh = uint64(in.Flags)
	}
	return st
}

func (n *node) Unlink(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return n.remove(ctxOf(cancel, h), n.get(h.NodeId), name, false)
}

func (n *node) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return n.remove(ctxOf(cancel, h), n.get(h.NodeId), name, true)
}

func (n *node) remove(ctx context.Context, d *inode, name string, dir bool) fuse.Status {
	defer n.faults.pause()
	var h holds
	defer h.release()
	if err := h.lock(ctx, d.meta, ex, 0); err != nil {
		return errno(err)
	}
	d.mu.RLock()
	e := d.dn.names[name]
	d.mu.RUnlock()
	if e == nil {
		return fuse.ENOENT
	}
	c := n.get(e.id)
	if err := h.lock(ctx, c.meta, ex, 0); err != nil {
		return errno(err)
	}
	if st := c.mayGo(dir); !st.Ok() {
		return st
	}
	if err := n.dropName(ctx, d, c); err != nil {
		return errno(err)
	}
	d.unlinkName(name, c)
	n.k.Removed(d.k, name, c.k)
	return fuse.OK
}

// mayGo checks what UNLINK and RMDIR check.
func (c *inode) mayGo(dir bool) fuse.Status {
	c.mu.RLock()
	defer c.mu.RUnlock()
	switch {
	case dir && !c.dn.isDir():
		return fuse.ENOTDIR
	case !dir && c.dn.isDir():
		return fuse.EISDIR
	case dir && len(c.dn.names) != 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	return fuse.OK
}

// unlinkName removes an entry; both META are held EX.
func (d *inode) unlinkName(name string, c *inode) {
	d.mu.Lock()
	d.dn.remove(name)
	if c.dn.isDir() {
		d.dn.nlink--
	}
	d.mu.Unlock()
	c.mu.Lock()
	if c.dn.isDir() {
		c.dn.nlink = 0
	} else {
		c.dn.nlink--
	}
	c.dn.touch()
	c.mu.Unlock()
}

func (n *node) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	defer n.faults.pause()
	ctx, d, c := ctxOf(cancel, &in.InHeader), n.get(in.NodeId), n.get(in.Oldnodeid)
	var h holds
	defer h.release()
	if err := h.lock(ctx, d.meta, ex, 0); err != nil {
		return errno(err)
	}
	if d.has(name) {
		return fuse.Status(syscall.EEXIST)
	}
	if err := h.lock(ctx, c.meta, ex, 0); err != nil {
		return errno(err)
	}
	if c.dn.nlink == 0 {
		return fuse.ENOENT
	}
	c.mu.Lock()
	c.dn.nlink++
	c.dn.touch()
	c.mu.Unlock()
	d.mu.Lock()
	d.dn.insert(name, c.dn)
	d.mu.Unlock()
	return n.entryNested(ctx, d, name, c, out)
}

// entryNested is entry for a caller that holds c's META.
func (n *node) entryNested(ctx context.Context, d *inode, name string, c *inode, out *fuse.EntryOut) fuse.Status {
	r := n.dentry(d, c)
	if err := r.Lock(ctx, pr, served); err != nil {
		return errno(err)
	}
	defer r.Unlock(pr)
	c.mu.RLock()
	c.dn.attr(&out.Attr)
	n.k.Entry(out, d.k, name, c.k, kcache.Created)
	c.mu.RUnlock()
	return fuse.OK
}

func (n *node) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	defer n.faults.pause()
	ctx, od, nd := ctxOf(cancel, &in.InHeader), n.get(in.NodeId), n.get(in.Newdir)
	const noReplace = 1
	if in.Flags&^noReplace != 0 {
		return fuse.EINVAL
	}
	var h holds
	defer h.release()
	first, second := od, nd
	if od != nd {
		if err := h.lock(ctx, n.rename, ex, 0); err != nil {
			return errno(err)
		}
		if n.above(nd, od) || !n.above(od, nd) && nd.dn.id < od.dn.id {
			first, second = nd, od
		}
	}
	if err := h.lock(ctx, first.meta, ex, 0); err != nil {
		return errno(err)
	}
	if od != nd {
		if err := h.lock(ctx, second.meta, ex, 0); err != nil {
			return errno(err)
		}
	}
	od.mu.RLock()
	src := od.dn.names[oldName]
	od.mu.RUnlock()
	if src == nil {
		return fuse.ENOENT
	}
	nd.mu.RLock()
	dst := nd.dn.names[newName]
	nd.mu.RUnlock()
	if dst != nil && dst.id == src.id {
		return fuse.OK
	}
	if dst != nil && in.Flags&noReplace != 0 {
		return fuse.Status(syscall.EEXIST)
	}
	return n.renameLocked(ctx, &h, od, oldName, src, nd, newName, dst)
}

// renameLocked does the work; the directories are locked.
func (n *node) renameLocked(ctx context.Context, h *holds, od *inode, oldName string, src *dent, nd *inode, newName string, dst *dent) fuse.Status {
	c := n.get(src.id)
	if c.dn.isDir() && (c == nd || n.above(c, nd)) {
		return fuse.EINVAL
	}
	if err := h.lock(ctx, c.meta, ex, 0); err != nil {
		return errno(err)
	}
	if dst != nil {
		t := n.get(dst.id)
		if err := h.lock(ctx, t.meta, ex, 0); err != nil {
			return errno(err)
		}
		if st := t.mayGo(c.dn.isDir()); !st.Ok() {
			return st
		}
		if err := n.dropName(ctx, nd, t); err != nil {
			return errno(err)
		}
		nd.unlinkName(newName, t)
		n.k.Removed(nd.k, newName, t.k)
	}
	if err := n.dropName(ctx, od, c); err != nil {
		return errno(err)
	}
	r := n.dentry(nd, c)
	if err := h.lock(ctx, r, pr, 0); err != nil {
		return errno(err)
	}
	od.mu.Lock()
	od.dn.remove(oldName)
	if c.dn.isDir() {
		od.dn.nlink--
	}
	od.mu.Unlock()
	nd.mu.Lock()
	nd.dn.insert(newName, c.dn)
	if c.dn.isDir() {
		nd.dn.nlink++
		c.dn.parent = nd.dn.id
	}
	nd.mu.Unlock()
	c.mu.Lock()
	c.dn.touch()
	c.mu.Unlock()
	n.k.Renamed(od.k, oldName, nd.k, newName, c.k)
	return fuse.OK
}

// above reports whether directory a is an ancestor of b. The rename lock is
// held, or a is the only directory that could be moved.
func (n *node) above(a, b *inode) bool {
	for dn := b.dn; dn.id != fuse.FUSE_ROOT_ID; {
		if dn = n.disk.get(dn.parent); dn.id == a.dn.id {
			return true
		}
	}
	return false
}

func (n *node) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.OK }

func (n *node) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	defer n.faults.pause()
	d := n.get(in.NodeId)
	if err := d.meta.Lock(ctxOf(cancel, &in.InHeader), pr, served); err != nil {
		return errno(err)
	}
	defer d.meta.Unlock(pr)
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, e := range d.dn.after(in.Offset) {
		if !out.AddDirEntry(fuse.DirEntry{Mode: e.mode, Name: e.name, Ino: e.id, Off: e.cookie}) {
			break
		}
	}
	return fuse.OK
}

func (n *node) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	defer n.faults.pause()
	ctx, d := ctxOf(cancel, &in.InHeader), n.get(in.NodeId)
	if err := d.meta.Lock(ctx, pr, served); err != nil {
		return errno(err)
	}
	defer d.meta.Unlock(pr)
	d.mu.RLock()
	list := d.dn.after(in.Offset)
	d.mu.RUnlock()
	for k, e := range list {
		eo := out.AddDirLookupEntry(fuse.DirEntry{Mode: e.mode, Name: e.name, Ino: e.id, Off: e.cookie})
		if eo == nil {
			break
		}
		if st := n.entry(ctx, d, e.name, n.get(e.id), eo, 0); !st.Ok() {
			if k == 0 {
				return st
			}
			*eo = fuse.EntryOut{} // the name alone
		}
	}
	return fuse.OK
}
