package fuse

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
	"github.com/ocfuse/ocfuse/fs/volume"
)

const estale = syscall.ESTALE

// GetAttr implements fuse.RawFileSystem.
func (f *FS) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	i := f.inode(in.NodeId)
	if i == nil {
		return fuse.Status(estale)
	}
	return f.status("getattr", f.v.GetAttr(ctxOf(cancel, &in.InHeader), i, f.giveAttr(out)))
}

func (f *FS) giveAttr(out *fuse.AttrOut) volume.Give {
	return func(i *volume.Inode, a *volume.Attr) {
		f.fillAttr(&out.Attr, i, a)
		f.engine.Attr(out, f.kernel(i))
	}
}

// Bits of SetAttrIn.Valid (FATTR_* of the FUSE protocol).
const (
	fattrMode        = 1 << 0
	fattrUID         = 1 << 1
	fattrGID         = 1 << 2
	fattrSize        = 1 << 3
	fattrAtime       = 1 << 4
	fattrMtime       = 1 << 5
	fattrAtimeNow    = 1 << 7
	fattrMtimeNow    = 1 << 8
	fattrCtime       = 1 << 10
	fattrKillSuidgid = 1 << 11
)

// SetAttr implements fuse.RawFileSystem.
func (f *FS) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	i := f.inode(in.NodeId)
	if i == nil {
		return fuse.Status(estale)
	}
	s := setAttrOf(in)
	give := f.giveAttr(out)
	if s.Size == nil {
		return f.status("setattr", f.v.SetAttr(ctxOf(cancel, &in.InHeader), i, s, give))
	}
	op := f.kernel(i).Begin(kcache.Direct, in.Size, 0)
	ended := false
	err := f.v.SetAttr(ctxOf(cancel, &in.InHeader), i, s, func(i *volume.Inode, a *volume.Attr) {
		op.End()
		ended = true
		give(i, a)
	})
	if !ended {
		op.End()
	}
	return f.status("setattr", err)
}

func setAttrOf(in *fuse.SetAttrIn) volume.SetAttr {
	var s volume.SetAttr
	has := func(bit uint32) bool { return in.Valid&bit != 0 }
	if has(fattrMode) {
		m := uint16(in.Mode)
		s.Mode = &m
	}
	if has(fattrUID) {
		s.UID = &in.Uid
	}
	if has(fattrGID) {
		s.GID = &in.Gid
	}
	if has(fattrSize) {
		s.Size = &in.Size
	}
	switch {
	case has(fattrAtimeNow):
		s.Atime = now()
	case has(fattrAtime):
		s.Atime = seconds(in.Atime, in.Atimensec)
	}
	switch {
	case has(fattrMtimeNow):
		s.Mtime = now()
	case has(fattrMtime):
		s.Mtime = seconds(in.Mtime, in.Mtimensec)
	}
	if has(fattrCtime) {
		s.Ctime = seconds(in.Ctime, in.Ctimensec)
	}
	s.KillPriv = has(fattrKillSuidgid)
	return s
}

// Access implements fuse.RawFileSystem: with default_permissions the kernel
// decides.
func (f *FS) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }
