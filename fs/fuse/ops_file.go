package fuse

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
	"github.com/ocfuse/ocfuse/fs/volume"
)

// file is an open file of the kernel.
type file struct {
	i     *volume.Inode
	flags uint32
	flock flock
}

// open makes a handle. The kernel holds the inode by its lookup as long as the
// handle is open.
func (f *FS) open(i *volume.Inode, flags uint32, out *fuse.OpenOut) {
	fh := f.next.Add(1)
	f.files.Store(fh, &file{i: i, flags: flags})
	out.Fh = fh
	out.OpenFlags = f.engine.Open(f.kernel(i), flags)
}

// Open implements fuse.RawFileSystem.
func (f *FS) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	i := f.inode(in.NodeId)
	if i == nil {
		return fuse.Status(estale)
	}
	f.open(i, in.Flags, out)
	return fuse.OK
}

// Release implements fuse.RawFileSystem.
func (f *FS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	x, ok := f.files.LoadAndDelete(in.Fh)
	if !ok {
		return
	}
	h := x.(*file)
	f.kernel(h.i).Release(h.flags)
	h.flock.close(f)
}

// Read implements fuse.RawFileSystem.
func (f *FS) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	i := f.inode(in.NodeId)
	if i == nil {
		return nil, fuse.Status(estale)
	}
	k := f.kernel(i)
	kind := kcache.Read
	if in.Flags&(syscall.O_DIRECT) != 0 {
		kind = kcache.Direct
	}
	op := k.Begin(kind, in.Offset, in.Size)
	done := once(op.End)
	n, err := f.v.Read(ctxOf(cancel), i, buf[:in.Size], int64(in.Offset), k.ReadNeedsEX(), done)
	done()
	if err != nil {
		return nil, f.status("read", err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// once makes a function that runs fn the first time it is called.
func once(fn func()) func() {
	called := false
	return func() {
		if !called {
			called = true
			fn()
		}
	}
}

// Write implements fuse.RawFileSystem.
func (f *FS) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	i := f.inode(in.NodeId)
	if i == nil {
		return 0, fuse.Status(estale)
	}
	k := f.kernel(i)
	kind, flags := kcache.Write, volume.WriteFlags(0)
	appending := in.Flags&syscall.O_APPEND != 0
	switch {
	case in.WriteFlags&fuse.WRITE_CACHE != 0:
		kind, flags = kcache.WriteBack, volume.WriteCache
		appending = false
	case appending || in.Flags&syscall.O_DIRECT != 0:
		kind = kcache.Direct
	}
	if appending {
		flags |= volume.WriteAppend
	}
	if in.WriteFlags&writeKillSuidgid != 0 {
		flags |= volume.WriteKillPriv
	}
	op := k.Begin(kind, in.Offset, in.Size)
	done := once(op.End)
	at, n, err := f.v.Write(ctxOf(cancel), i, data, int64(in.Offset), flags, done)
	done()
	if err != nil && n == 0 {
		return 0, f.status("write", err)
	}
	if kind == kcache.Direct && n > 0 {
		f.engine.InvalidateRange(k, uint64(at), uint32(n))
	}
	if kind == kcache.WriteBack {
		n = len(data) // what lies behind the end of file is nobody's
	}
	return uint32(n), fuse.OK
}

// writeKillSuidgid is FUSE_WRITE_KILL_SUIDGID.
const writeKillSuidgid = 1 << 2

// Flush implements fuse.RawFileSystem: nothing is kept back that close(2)
// should wait for.
func (f *FS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// Fsync implements fuse.RawFileSystem.
func (f *FS) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	i := f.inode(in.NodeId)
	if i == nil {
		return fuse.Status(estale)
	}
	return f.status("fsync", f.v.Fsync(ctxOf(cancel), i, in.FsyncFlags&1 != 0))
}

// FsyncDir implements fuse.RawFileSystem.
func (f *FS) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return f.Fsync(cancel, in)
}

// Fallocate implements fuse.RawFileSystem.
func (f *FS) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	i := f.inode(in.NodeId)
	if i == nil {
		return fuse.Status(estale)
	}
	op := f.kernel(i).Begin(kcache.Direct, in.Offset, uint32(min(in.Length, 1<<32-1)))
	done := once(op.End)
	err := f.v.Fallocate(ctxOf(cancel), i, in.Mode, int64(in.Offset), int64(in.Length), done)
	done()
	return f.status("fallocate", err)
}

// Lseek implements fuse.RawFileSystem: SEEK_DATA and SEEK_HOLE.
func (f *FS) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	i := f.inode(in.NodeId)
	if i == nil {
		return fuse.Status(estale)
	}
	const seekData, seekHole = 3, 4
	if in.Whence != seekData && in.Whence != seekHole {
		return fuse.EINVAL
	}
	off, err := f.v.Seek(ctxOf(cancel), i, int64(in.Offset), in.Whence == seekHole)
	out.Offset = uint64(off)
	return f.status("lseek", err)
}
