package fuse

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/fs/volume"
	"github.com/ocfuse/ocfuse/stackglue"
)

// FS implements go-fuse's RawFileSystem over a volume.
type FS struct {
	fuse.RawFileSystem // ENOSYS for what is not served

	v      *volume.Volume
	engine *kcache.Engine
	logf   func(format string, args ...any)

	files sync.Map // handle -> *file
	next  atomic.Uint64
}

// ctxOf is the context of a request: it ends when the thread that waits for it
// is being killed, not for any signal.
func ctxOf(cancel <-chan struct{}, h *fuse.InHeader) context.Context {
	return kcache.Context(cancel, h.Pid, false)
}

// inode returns the inode of a node id that the kernel holds.
func (f *FS) inode(node uint64) *volume.Inode {
	if node == fuse.FUSE_ROOT_ID {
		return f.v.Root()
	}
	return f.v.Held(node)
}

// kernel returns what the engine keeps of an inode, made at first sight.
func (f *FS) kernel(i *volume.Inode) *kcache.Inode {
	if k, ok := i.Kernel.Load().(*kcache.Inode); ok {
		return k
	}
	id := i.Number()
	if id == f.v.Root().Number() {
		id = fuse.FUSE_ROOT_ID
	}
	i.Kernel.CompareAndSwap(nil, kcache.NewInode(id, uint64(i.Generation()), i.IsDir()))
	return i.Kernel.Load().(*kcache.Inode)
}

// known is kernel without making it: nil if the kernel never saw the inode.
func known(i *volume.Inode) *kcache.Inode {
	if i == nil {
		return nil
	}
	k, _ := i.Kernel.Load().(*kcache.Inode)
	return k
}

// revoker is the volume's KernelCache.
type revoker struct{ f *FS }

// RevokeInode implements volume.KernelCache.
func (r revoker) RevokeInode(i *volume.Inode, p locking.Pass) locking.Verdict {
	return r.f.engine.RevokeInode(known(i), p)
}

// RevokeNames implements volume.KernelCache.
func (r revoker) RevokeNames(parent uint64, child *volume.Inode, p locking.Pass) locking.Verdict {
	if p.To > stackglue.NL {
		return locking.Convert
	}
	d := r.f.v.Held(parent)
	if parent == r.f.v.Geometry().RootBlkno {
		d = r.f.v.Root()
	}
	r.f.engine.RevokeNames(known(d), known(child))
	return locking.DropLock
}

// fillAttr converts attributes.
func (f *FS) fillAttr(out *fuse.Attr, i *volume.Inode, a *volume.Attr) {
	g := f.v.Geometry()
	out.Ino = i.Number()
	out.Size = a.Size
	out.Blocks = uint64(a.Clusters) << (g.ClusterBits - 9)
	out.Atime, out.Atimensec = uint64(a.Atime.Sec), a.Atime.Nsec
	out.Mtime, out.Mtimensec = uint64(a.Mtime.Sec), a.Mtime.Nsec
	out.Ctime, out.Ctimensec = uint64(a.Ctime.Sec), a.Ctime.Nsec
	out.Mode = uint32(a.Mode)
	out.Nlink = a.Links
	out.Uid, out.Gid = a.UID, a.GID
	out.Blksize = uint32(g.ClusterSize)
	if a.Rdev != 0 {
		major, minor := ondisk.DecodeRdev(a.Rdev)
		out.Rdev = uint32(minor&0xFF | major<<8 | (minor&^0xFF)<<12)
	}
}

// String implements fuse.RawFileSystem.
func (f *FS) String() string { return "ocfuse" }

// StatFs implements fuse.RawFileSystem.
func (f *FS) StatFs(cancel <-chan struct{}, h *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	s, err := f.v.StatFS(ctxOf(cancel, h))
	if err != nil {
		return f.status("statfs", err)
	}
	out.Blocks, out.Bfree, out.Bavail = s.Blocks, s.Free, s.Free
	out.Files, out.Ffree = s.Files, s.FilesFree
	out.Bsize, out.Frsize = uint32(s.BlockSize), uint32(s.BlockSize)
	out.NameLen = uint32(s.NameMax)
	return fuse.OK
}

// Forget implements fuse.RawFileSystem.
func (f *FS) Forget(node, n uint64) {
	if node == fuse.FUSE_ROOT_ID {
		return
	}
	i := f.v.Held(node)
	if i == nil {
		return
	}
	if k := known(i); k != nil {
		k.Forget(n)
	}
	i.PutN(int(n))
}

// give returns the callback that hands an inode out as dir/name.
func (f *FS) give(out *fuse.EntryOut, d *volume.Inode, name string, flags kcache.EntryFlags) volume.Give {
	return func(i *volume.Inode, a *volume.Attr) {
		f.fillAttr(&out.Attr, i, a)
		f.engine.Entry(out, f.kernel(d), name, f.kernel(i), flags)
	}
}

// seconds converts a FUSE time.
func seconds(sec uint64, nsec uint32) *volume.Time {
	return &volume.Time{Sec: int64(sec), Nsec: nsec}
}

// now is the time for UTIME_NOW.
func now() *volume.Time {
	t := time.Now()
	return &volume.Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())}
}
