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

// opened returns the flags a handle was opened with; those of the request, now,
// for a handle that is not ours to know (a WRITE of dirty pages may name none).
func (f *FS) opened(fh uint64, now uint32) uint32 {
	if x, ok := f.files.Load(fh); ok {
		return x.(*file).flags
	}
	return now
}

// cover is the volume.Cover of one READ or WRITE.
type cover struct {
	e    *kcache.Engine
	k    *kcache.Inode
	op   *kcache.Op // nil once it has ended
	kind kcache.OpKind
	read bool
}

// NeedsEX implements volume.Cover.
func (c *cover) NeedsEX() bool { return c.kind == kcache.Read && c.k.ReadNeedsEX() }

// Covered implements volume.Cover.
func (c *cover) Covered(ex bool) bool { return c.op.Covered(ex) }

// Done implements volume.Cover. What is written counts after errors too.
func (c *cover) Done(at int64, n int, err error) {
	op := c.op
	c.op = nil
	switch {
	case c.read && err == nil:
		op.EndRead(n)
	case !c.read && n > 0 && c.kind != kcache.WriteBack:
		c.e.EndWrite(op, uint64(at), uint32(n))
	default:
		op.End()
	}
}

// end ends the Op of a request that did not come as far as its locks.
func (c *cover) end() {
	if c.op != nil {
		c.op.End()
		c.op = nil
	}
}

// Read implements fuse.RawFileSystem.
func (f *FS) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	i := f.inode(in.NodeId)
	if i == nil {
		return nil, fuse.Status(estale)
	}
	k := f.kernel(i)
	c := &cover{e: f.engine, k: k, kind: kcache.ReadKind(f.opened(in.Fh, in.Flags), in.Flags), read: true}
	c.op = k.Begin(c.kind, in.Offset, in.Size)
	n, err := f.v.Read(ctxOf(cancel, &in.InHeader), i, buf[:in.Size], int64(in.Offset), c)
	c.end()
	if err != nil {
		return nil, f.status("read", err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Write implements fuse.RawFileSystem.
func (f *FS) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	i := f.inode(in.NodeId)
	if i == nil {
		return 0, fuse.Status(estale)
	}
	k := f.kernel(i)
	c := &cover{e: f.engine, k: k, kind: kcache.WriteKind(f.opened(in.Fh, in.Flags), in.Flags, in.WriteFlags)}
	var flags volume.WriteFlags
	switch {
	case c.kind == kcache.WriteBack:
		flags = volume.WriteCache
	case in.Flags&syscall.O_APPEND != 0:
		flags = volume.WriteAppend
	}
	if c.kind == kcache.Write {
		flags |= volume.WriteBehind
	}
	if in.WriteFlags&writeKillSuidgid != 0 {
		flags |= volume.WriteKillPriv
	}
	c.op = k.Begin(c.kind, in.Offset, in.Size)
	_, n, err := f.v.Write(ctxOf(cancel, &in.InHeader), i, data, int64(in.Offset), flags, c)
	c.end()
	if err != nil && n == 0 {
		return 0, f.status("write", err)
	}
	if c.kind == kcache.WriteBack && err == nil {
		n = len(data) // what lies behind the end of file is nobody's
	}
	return uint32(n), fuse.OK
}

// writeKillSuidgid is FUSE_WRITE_KILL_SUIDGID.
const writeKillSuidgid = 1 << 2

// Flush implements fuse.RawFileSystem: close(2) hears of data that could not be
// written.
func (f *FS) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	i := f.inode(in.NodeId)
	if i == nil {
		return fuse.OK
	}
	return f.status("flush", f.v.Flush(i))
}

// Fsync implements fuse.RawFileSystem.
func (f *FS) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	i := f.inode(in.NodeId)
	if i == nil {
		return fuse.Status(estale)
	}
	return f.status("fsync", f.v.Fsync(ctxOf(cancel, &in.InHeader), i, in.FsyncFlags&1 != 0))
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
	k := f.kernel(i)
	// The pages go after errors too: some of the range may have changed.
	err := f.v.Fallocate(ctxOf(cancel, &in.InHeader), i, in.Mode, int64(in.Offset), int64(in.Length), func() {
		f.engine.InvalidateRange(k, in.Offset, in.Length)
	})
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
	off, err := f.v.Seek(ctxOf(cancel, &in.InHeader), i, int64(in.Offset), in.Whence == seekHole)
	out.Offset = uint64(off)
	return f.status("lseek", err)
}
