package volume

import (
	"time"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// Time is a timestamp as the format keeps it.
type Time struct {
	Sec  int64
	Nsec uint32
}

// now returns the current time.
func now() Time {
	t := time.Now()
	return Time{t.Unix(), uint32(t.Nanosecond())}
}

// Less tells whether t is before u.
func (t Time) Less(u Time) bool { return t.Sec < u.Sec || t.Sec == u.Sec && t.Nsec < u.Nsec }

// Attr is what stat(2) shows, and what the META lock value block carries.
type Attr struct {
	Mode                uint16 // type and permission bits
	UID, GID            uint32
	Links               uint32
	Size                uint64
	Clusters            uint32
	Atime, Mtime, Ctime Time
	Flags               uint32 // i_attr, FS_*_FL
	Dyn                 uint16 // i_dyn_features
	Rdev                uint64 // as encoded on disk
	Generation          uint32
}

// IsDir tells whether the inode is a directory.
func (a *Attr) IsDir() bool { return a.Mode&ondisk.ModeTypeMask == ondisk.ModeDir }

// IsRegular tells whether the inode is a regular file.
func (a *Attr) IsRegular() bool { return a.Mode&ondisk.ModeTypeMask == ondisk.ModeRegular }

// IsSymlink tells whether the inode is a symbolic link.
func (a *Attr) IsSymlink() bool { return a.Mode&ondisk.ModeTypeMask == ondisk.ModeSymlink }

// loadAttr reads all attributes from a dinode.
func loadAttr(d ondisk.Dinode) Attr {
	var a Attr
	a.Mode, a.UID, a.GID, a.Links = d.Mode(), d.UID(), d.GID(), d.Links()
	a.Size, a.Clusters = d.Size(), d.Clusters()
	a.Atime.Sec, a.Atime.Nsec = d.Atime()
	a.Mtime.Sec, a.Mtime.Nsec = d.Mtime()
	a.Ctime.Sec, a.Ctime.Nsec = d.Ctime()
	a.Flags, a.Dyn, a.Generation = d.Attr(), d.DynFeatures(), d.Generation()
	if t := a.Mode & ondisk.ModeTypeMask; t == ondisk.ModeChar || t == ondisk.ModeBlock {
		a.Rdev = d.Rdev()
	}
	return a
}

// store writes what namespace and attribute operations change. Clusters and
// dyn features belong to the extent and directory code, which work on the
// dinode itself.
func (a *Attr) store(d ondisk.Dinode) {
	d.SetMode(a.Mode)
	d.SetUID(a.UID)
	d.SetGID(a.GID)
	d.SetLinks(a.Links)
	d.SetSize(a.Size)
	d.SetAtime(a.Atime.Sec, a.Atime.Nsec)
	d.SetMtime(a.Mtime.Sec, a.Mtime.Nsec)
	d.SetCtime(a.Ctime.Sec, a.Ctime.Nsec)
	d.SetAttr(a.Flags)
}

// fromLVB takes the attributes out of a META lock value block that is
// trusted. Link counts above 16 bits do not fit there: see Inode.refresh.
func (a *Attr) fromLVB(l *ondisk.MetaLVB) {
	a.Mode, a.UID, a.GID, a.Links = l.Mode(), l.UID(), l.GID(), uint32(l.Links())
	a.Size, a.Clusters = l.Size(), l.Clusters()
	a.Atime.Sec, a.Atime.Nsec = l.Atime()
	a.Mtime.Sec, a.Mtime.Nsec = l.Mtime()
	a.Ctime.Sec, a.Ctime.Nsec = l.Ctime()
	a.Flags, a.Dyn = l.Attr(), l.DynFeatures()
}

// toLVB fills a META lock value block.
func (a *Attr) toLVB(l *ondisk.MetaLVB) {
	*l = ondisk.MetaLVB{}
	l.SetVersion(ondisk.MetaLVBVersion)
	l.SetDynFeatures(a.Dyn)
	l.SetClusters(a.Clusters)
	l.SetUID(a.UID)
	l.SetGID(a.GID)
	l.SetAtime(a.Atime.Sec, a.Atime.Nsec)
	l.SetCtime(a.Ctime.Sec, a.Ctime.Nsec)
	l.SetMtime(a.Mtime.Sec, a.Mtime.Nsec)
	l.SetSize(a.Size)
	l.SetMode(a.Mode)
	l.SetLinks(uint16(min(a.Links, 0xFFFF)))
	l.SetAttr(a.Flags)
	l.SetGeneration(a.Generation)
}
