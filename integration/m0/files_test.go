package m0

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
)

func (n *node) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	defer n.faults.pause()
	i := n.get(in.NodeId)
	if err := i.meta.Lock(ctxOf(cancel, &in.InHeader), pr, served); err != nil {
		return errno(err)
	}
	defer i.meta.Unlock(pr)
	i.mu.RLock()
	i.dn.attr(&out.Attr)
	n.k.Attr(out, i.k)
	i.mu.RUnlock()
	return fuse.OK
}

func (n *node) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	defer n.faults.pause()
	ctx, i := ctxOf(cancel, &in.InHeader), n.get(in.NodeId)
	var h holds
	defer h.release()
	size, resize := in.GetSize()
	if resize {
		if err := h.lock(ctx, i.rw, ex, 0); err != nil {
			return errno(err)
		}
	}
	if err := h.lock(ctx, i.meta, ex, 0); err != nil {
		return errno(err)
	}
	i.mu.Lock()
	now := time.Now()
	if resize {
		i.dn.resize(size)
		i.dn.mtime = now
	}
	if m, ok := in.GetMode(); ok {
		i.dn.mode = i.dn.mode&syscall.S_IFMT | m&0o7777
	}
	if u, ok := in.GetUID(); ok {
		i.dn.uid = u
	}
	if g, ok := in.GetGID(); ok {
		i.dn.gid = g
	}
	if t, ok := in.GetATime(); ok {
		i.dn.atime = t
	}
	if t, ok := in.GetMTime(); ok {
		i.dn.mtime = t
	}
	i.dn.ctime = now
	i.dn.attr(&out.Attr)
	n.k.Attr(out, i.k)
	i.mu.Unlock()
	return fuse.OK
}

func (n *node) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = n.k.Open(n.get(in.NodeId).k, in.Flags)
	out.Fh = uint64(in.Flags) // READ and WRITE show what was opened
	return fuse.OK
}

func (n *node) Release(_ <-chan struct{}, in *fuse.ReleaseIn) { n.get(in.NodeId).k.Release(in.Flags) }

func (n *node) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	defer n.faults.pause()
	ctx, i := ctxOf(cancel, &in.InHeader), n.get(in.NodeId)
	op := i.k.Begin(kcache.ReadKind(uint32(in.Fh), in.Flags), in.Offset, in.Size)
	level := pr
	for {
		if i.k.ReadNeedsEX() {
			level = ex
		}
		if err := i.meta.Lock(ctx, level, served); err != nil {
			op.End()
			return nil, errno(err)
		}
		if op.Covered(level == ex) {
			break
		}
		i.meta.Unlock(level)
	}
	i.mu.RLock()
	got := 0
	if in.Offset < uint64(len(i.dn.data)) {
		got = copy(buf, i.dn.data[in.Offset:])
	}
	op.EndRead(got)
	i.mu.RUnlock()
	i.meta.Unlock(level)
	return fuse.ReadResultData(buf[:got]), fuse.OK
}

func (n *node) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	defer n.faults.pause()
	ctx, i := ctxOf(cancel, &in.InHeader), n.get(in.NodeId)
	kind, appends := kcache.WriteKind(uint32(in.Fh), in.Flags, in.WriteFlags), in.Flags&syscall.O_APPEND != 0
	if kind == kcache.WriteBack {
		return i.writeBack(in, data)
	}
	op := i.k.Begin(kind, in.Offset, in.Size)
	var h holds
	err := h.lock(ctx, i.rw, ex, 0)
	if err == nil {
		err = h.lock(ctx, i.meta, ex, 0)
	}
	if err != nil {
		op.End()
		h.release()
		return 0, errno(err)
	}
	op.Covered(true)
	off := in.Offset
	i.mu.Lock()
	if appends {
		off = uint64(len(i.dn.data))
	}
	i.dn.writeAt(data, off)
	i.dn.touch()
	i.mu.Unlock()
	n.k.EndWrite(op, off, in.Size)
	h.release()
	return uint32(len(data)), fuse.OK
}

// writeBack serves dirty mapped pages: under the EX that a revoke waits with.
func (i *inode) writeBack(in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	op := i.k.Begin(kcache.WriteBack, in.Offset, in.Size)
	defer op.End()
	i.mu.Lock()
	defer i.mu.Unlock()
	if size := uint64(len(i.dn.data)); in.Offset < size {
		i.dn.writeAt(data[:min(uint64(len(data)), size-in.Offset)], in.Offset)
		i.dn.touch()
	}
	return uint32(len(data)), fuse.OK
}

func (n *node) Readlink(cancel <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	defer n.faults.pause()
	i := n.get(h.NodeId)
	if err := i.meta.Lock(ctxOf(cancel, h), pr, served); err != nil {
		return nil, errno(err)
	}
	defer i.meta.Unlock(pr)
	i.k.SymlinkRead()
	return []byte(i.dn.target), fuse.OK
}

func (n *node) Fsync(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.OK }

func (n *node) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	*out = fuse.StatfsOut{Blocks: 1 << 20, Bfree: 1 << 19, Bavail: 1 << 19, Bsize: 4096, Frsize: 4096, NameLen: 255}
	return fuse.OK
}
