package fuse

import (
	"errors"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/fs/volume"
)

// OpenDir implements fuse.RawFileSystem. Listings are not cached by the kernel.
// The handle is there for flock(2).
func (f *FS) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	i := f.inode(in.NodeId)
	if i == nil {
		return fuse.Status(estale)
	}
	out.Fh = f.next.Add(1)
	f.files.Store(out.Fh, &file{i: i})
	return fuse.OK
}

// ReleaseDir implements fuse.RawFileSystem.
func (f *FS) ReleaseDir(in *fuse.ReleaseIn) {
	if x, ok := f.files.LoadAndDelete(in.Fh); ok {
		x.(*file).flock.close(f)
	}
}

// modeOf converts a directory entry's type to mode bits.
func modeOf(ftype uint8) uint32 {
	switch ftype {
	case ondisk.FTRegular:
		return ondisk.ModeRegular
	case ondisk.FTDir:
		return ondisk.ModeDir
	case ondisk.FTChar:
		return ondisk.ModeChar
	case ondisk.FTBlock:
		return ondisk.ModeBlock
	case ondisk.FTFifo:
		return ondisk.ModeFifo
	case ondisk.FTSocket:
		return ondisk.ModeSocket
	case ondisk.FTSymlink:
		return ondisk.ModeSymlink
	}
	return 0
}

func direntOf(e volume.DirEntry) fuse.DirEntry {
	return fuse.DirEntry{Mode: modeOf(e.Type), Name: string(e.Name), Ino: e.Ino, Off: e.Next}
}

// ReadDir implements fuse.RawFileSystem.
func (f *FS) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	d := f.inode(in.NodeId)
	if d == nil {
		return fuse.Status(estale)
	}
	return f.status("readdir", f.v.ReadDir(ctxOf(cancel, &in.InHeader), d, in.Offset, func(e volume.DirEntry) bool {
		return out.AddDirEntry(direntOf(e))
	}))
}

// entryPlusMin is the least a name takes in a READDIRPLUS reply: struct
// fuse_direntplus and eight bytes of name.
const entryPlusMin = 160

// ReadDirPlus implements fuse.RawFileSystem: names with their inodes, as if
// each had been looked up.
func (f *FS) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	d := f.inode(in.NodeId)
	if d == nil {
		return fuse.Status(estale)
	}
	ctx := ctxOf(cancel, &in.InHeader)
	var bad error
	given := false
	err := f.v.ReadDirPlus(ctx, d, in.Offset, int(in.Size/entryPlusMin), func(e volume.DirEntry) bool {
		entry := direntOf(e)
		eo := out.AddDirLookupEntry(entry)
		if eo == nil {
			return false
		}
		if entry.Name == "." || entry.Name == ".." {
			return true // the kernel does not count these
		}
		if _, bad = f.v.Entry(ctx, d, e.Ino, f.give(eo, d, entry.Name, 0)); bad == nil {
			given = true
			return true
		}
		// Without an inode the kernel takes the name alone; a lookup will say what
		// is wrong with it.
		*eo = fuse.EntryOut{}
		if errors.Is(bad, volume.ErrStale) || errors.Is(bad, ondisk.ErrCorrupt) {
			bad = nil
		}
		return bad == nil
	})
	if given {
		// It is counted, so it must reach the kernel; who asks for more will meet
		// the error again.
		return fuse.OK
	}
	if err == nil {
		err = bad
	}
	return f.status("readdirplus", err)
}
