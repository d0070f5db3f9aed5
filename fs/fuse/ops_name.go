package fuse

import (
	"context"
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/fs/volume"
)

// Lookup implements fuse.RawFileSystem.
func (f *FS) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	d := f.inode(h.NodeId)
	if d == nil {
		return fuse.Status(estale)
	}
	ctx := ctxOf(cancel, h)
	switch name {
	case ".":
		return f.lookupSelf(ctx, d, out)
	case "..":
		return f.lookupParent(ctx, d, out)
	}
	st := fuse.ENOENT
	_, err := f.v.Lookup(ctx, d, []byte(name), func(i *volume.Inode, a *volume.Attr) {
		if i == nil {
			st = f.engine.Negative(out, f.kernel(d), name)
			return
		}
		f.give(out, d, name, 0)(i, a)
	})
	if errors.Is(err, volume.ErrNotFound) {
		return st
	}
	return f.status("lookup", err)
}

// lookupSelf and lookupParent serve file handles decoded by the kernel
// (NFS export of the mount, open_by_handle_at).
func (f *FS) lookupSelf(ctx context.Context, d *volume.Inode, out *fuse.EntryOut) fuse.Status {
	if err := f.v.Ref(d); err != nil {
		return f.status("lookup", err)
	}
	err := f.v.GetAttr(ctx, d, f.give(out, d, ".", kcache.NameUncached))
	if err != nil {
		d.Put()
	}
	return f.status("lookup", err)
}

func (f *FS) lookupParent(ctx context.Context, d *volume.Inode, out *fuse.EntryOut) fuse.Status {
	p, err := f.v.Parent(ctx, d)
	if err != nil {
		return f.status("lookup", err)
	}
	if err = f.v.GetAttr(ctx, p, f.give(out, d, "..", kcache.NameUncached)); err != nil {
		p.Put()
	}
	return f.status("lookup", err)
}

// create makes an inode for the requests that do.
func (f *FS) create(cancel <-chan struct{}, h *fuse.InHeader, name string, n volume.NewInode, out *fuse.EntryOut) (*volume.Inode, fuse.Status) {
	d := f.inode(h.NodeId)
	if d == nil {
		return nil, fuse.Status(estale)
	}
	i, err := f.v.Create(ctxOf(cancel, h), d, []byte(name), n, f.give(out, d, name, kcache.Created))
	return i, f.status("create", err)
}

func newInode(h *fuse.InHeader, mode uint32) volume.NewInode {
	return volume.NewInode{Mode: uint16(mode), UID: h.Uid, GID: h.Gid}
}

// Mknod implements fuse.RawFileSystem.
func (f *FS) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	n := newInode(&in.InHeader, in.Mode)
	if n.Mode&ondisk.ModeTypeMask == 0 {
		n.Mode |= ondisk.ModeRegular
	}
	major, minor := in.Rdev>>8&0xFFF, in.Rdev&0xFF|in.Rdev>>12&0xFFF00
	n.Rdev = ondisk.EncodeRdev(major, minor)
	_, st := f.create(cancel, &in.InHeader, name, n, out)
	return st
}

// Mkdir implements fuse.RawFileSystem.
func (f *FS) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	n := newInode(&in.InHeader, in.Mode&0o7777|ondisk.ModeDir)
	_, st := f.create(cancel, &in.InHeader, name, n, out)
	return st
}

// Symlink implements fuse.RawFileSystem.
func (f *FS) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	n := newInode(h, ondisk.ModeSymlink|0o777)
	n.Target = []byte(target)
	_, st := f.create(cancel, h, name, n, out)
	return st
}

// Create implements fuse.RawFileSystem.
func (f *FS) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	n := newInode(&in.InHeader, in.Mode&0o7777|ondisk.ModeRegular)
	i, st := f.create(cancel, &in.InHeader, name, n, &out.EntryOut)
	if st == fuse.Status(syscall.EEXIST) && in.Flags&syscall.O_EXCL == 0 {
		// Another node was faster. ESTALE makes the kernel walk the path
		// again and open what is there, with its own permission checks, which
		// it skips for a file it believes to be new.
		return fuse.Status(estale)
	}
	if st == fuse.OK {
		f.open(i, in.Flags, &out.OpenOut)
	}
	return st
}

// Tmpfile implements fuse.RawFileSystem.
func (f *FS) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	d := f.inode(in.NodeId)
	if d == nil {
		return fuse.Status(estale)
	}
	n := newInode(&in.InHeader, in.Mode&0o7777|ondisk.ModeRegular)
	i, err := f.v.Tmpfile(ctxOf(cancel, &in.InHeader), d, n, func(i *volume.Inode, a *volume.Attr) {
		f.give(&out.EntryOut, d, "", kcache.Created|kcache.NameUncached)(i, a)
		f.engine.Removed(f.kernel(d), "", f.kernel(i))
	})
	if err != nil {
		return f.status("tmpfile", err)
	}
	f.open(i, in.Flags, &out.OpenOut)
	return fuse.OK
}

// Link implements fuse.RawFileSystem.
func (f *FS) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	i, d := f.inode(in.Oldnodeid), f.inode(in.NodeId)
	if i == nil || d == nil {
		return fuse.Status(estale)
	}
	if err := f.v.Ref(i); err != nil {
		return f.status("link", err)
	}
	err := f.v.Link(ctxOf(cancel, &in.InHeader), i, d, []byte(name), f.give(out, d, name, kcache.Created))
	if err != nil {
		i.Put()
	}
	return f.status("link", err)
}

// Unlink implements fuse.RawFileSystem.
func (f *FS) Unlink(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return f.remove(cancel, h, name, f.v.Unlink)
}

// Rmdir implements fuse.RawFileSystem.
func (f *FS) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return f.remove(cancel, h, name, f.v.Rmdir)
}

type removeFunc func(ctx context.Context, d *volume.Inode, name []byte, give volume.Give) error

func (f *FS) remove(cancel <-chan struct{}, h *fuse.InHeader, name string, fn removeFunc) fuse.Status {
	d := f.inode(h.NodeId)
	if d == nil {
		return fuse.Status(estale)
	}
	return f.status("remove", fn(ctxOf(cancel, h), d, []byte(name), func(i *volume.Inode, _ *volume.Attr) {
		if k := known(i); k != nil {
			f.engine.Removed(f.kernel(d), name, k)
		}
	}))
}

// Rename implements fuse.RawFileSystem.
func (f *FS) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	od, nd := f.inode(in.NodeId), f.inode(in.Newdir)
	if od == nil || nd == nil {
		return fuse.Status(estale)
	}
	moved := func(m volume.Moved) {
		okd, nkd := f.kernel(od), f.kernel(nd)
		if t := known(m.Target); t != nil {
			if m.Exchanged {
				f.engine.Renamed(nkd, newName, okd, oldName, t)
			} else {
				f.engine.Removed(nkd, newName, t)
			}
		}
		if o := known(m.Object); o != nil {
			f.engine.Renamed(okd, oldName, nkd, newName, o)
		}
	}
	err := f.v.Rename(ctxOf(cancel, &in.InHeader), od, []byte(oldName), nd, []byte(newName), in.Flags, moved)
	return f.status("rename", err)
}

// Readlink implements fuse.RawFileSystem.
func (f *FS) Readlink(cancel <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	i := f.inode(h.NodeId)
	if i == nil {
		return nil, fuse.Status(estale)
	}
	p, err := f.v.Readlink(ctxOf(cancel, h), i, f.kernel(i).SymlinkRead)
	return p, f.status("readlink", err)
}
