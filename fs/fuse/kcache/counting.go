package kcache

import "github.com/hanwen/go-fuse/v2/fuse"

// counting counts the requests that the kernel sends to a filesystem. FORGET,
// BATCH_FORGET, RELEASE, RELEASEDIR and INTERRUPT are not counted: no
// application waits for them. Writev is not either, because go-fuse calls it
// before Write for the same request: it is counted there.
type counting struct {
	fuse.RawFileSystem
	n *Counters
}

// Kinds of requests, by the method of fuse.RawFileSystem.
const (
	reqLookup = iota
	reqGetAttr
	reqSetAttr
	reqMknod
	reqMkdir
	reqUnlink
	reqRmdir
	reqRename
	reqLink
	reqSymlink
	reqReadlink
	reqAccess
	reqGetXAttr
	reqListXAttr
	reqSetXAttr
	reqRemoveXAttr
	reqCreate
	reqTmpfile
	reqOpen
	reqRead
	reqLseek
	reqGetLk
	reqSetLk
	reqSetLkw
	reqWrite
	reqCopyFileRange
	reqIoctl
	reqFlush
	reqFsync
	reqFallocate
	reqOpenDir
	reqReadDir
	reqReadDirPlus
	reqFsyncDir
	reqStatFs
	reqStatx

	numRequests
)

var requestNames = [numRequests]string{
	reqLookup:        "lookup",
	reqGetAttr:       "getattr",
	reqSetAttr:       "setattr",
	reqMknod:         "mknod",
	reqMkdir:         "mkdir",
	reqUnlink:        "unlink",
	reqRmdir:         "rmdir",
	reqRename:        "rename",
	reqLink:          "link",
	reqSymlink:       "symlink",
	reqReadlink:      "readlink",
	reqAccess:        "access",
	reqGetXAttr:      "getxattr",
	reqListXAttr:     "listxattr",
	reqSetXAttr:      "setxattr",
	reqRemoveXAttr:   "removexattr",
	reqCreate:        "create",
	reqTmpfile:       "tmpfile",
	reqOpen:          "open",
	reqRead:          "read",
	reqLseek:         "lseek",
	reqGetLk:         "getlk",
	reqSetLk:         "setlk",
	reqSetLkw:        "setlkw",
	reqWrite:         "write",
	reqCopyFileRange: "copyfilerange",
	reqIoctl:         "ioctl",
	reqFlush:         "flush",
	reqFsync:         "fsync",
	reqFallocate:     "fallocate",
	reqOpenDir:       "opendir",
	reqReadDir:       "readdir",
	reqReadDirPlus:   "readdirplus",
	reqFsyncDir:      "fsyncdir",
	reqStatFs:        "statfs",
	reqStatx:         "statx",
}

func (c counting) Lookup(cancel <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) (status fuse.Status) {
	c.n.Requests[reqLookup].Add(1)
	return c.RawFileSystem.Lookup(cancel, header, name, out)
}

func (c counting) GetAttr(cancel <-chan struct{}, input *fuse.GetAttrIn, out *fuse.AttrOut) (code fuse.Status) {
	c.n.Requests[reqGetAttr].Add(1)
	return c.RawFileSystem.GetAttr(cancel, input, out)
}

func (c counting) SetAttr(cancel <-chan struct{}, input *fuse.SetAttrIn, out *fuse.AttrOut) (code fuse.Status) {
	c.n.Requests[reqSetAttr].Add(1)
	return c.RawFileSystem.SetAttr(cancel, input, out)
}

func (c counting) Mknod(cancel <-chan struct{}, input *fuse.MknodIn, name string, out *fuse.EntryOut) (code fuse.Status) {
	c.n.Requests[reqMknod].Add(1)
	return c.RawFileSystem.Mknod(cancel, input, name, out)
}

func (c counting) Mkdir(cancel <-chan struct{}, input *fuse.MkdirIn, name string, out *fuse.EntryOut) (code fuse.Status) {
	c.n.Requests[reqMkdir].Add(1)
	return c.RawFileSystem.Mkdir(cancel, input, name, out)
}

func (c counting) Unlink(cancel <-chan struct{}, header *fuse.InHeader, name string) (code fuse.Status) {
	c.n.Requests[reqUnlink].Add(1)
	return c.RawFileSystem.Unlink(cancel, header, name)
}

func (c counting) Rmdir(cancel <-chan struct{}, header *fuse.InHeader, name string) (code fuse.Status) {
	c.n.Requests[reqRmdir].Add(1)
	return c.RawFileSystem.Rmdir(cancel, header, name)
}

func (c counting) Rename(cancel <-chan struct{}, input *fuse.RenameIn, oldName string, newName string) (code fuse.Status) {
	c.n.Requests[reqRename].Add(1)
	return c.RawFileSystem.Rename(cancel, input, oldName, newName)
}

func (c counting) Link(cancel <-chan struct{}, input *fuse.LinkIn, filename string, out *fuse.EntryOut) (code fuse.Status) {
	c.n.Requests[reqLink].Add(1)
	return c.RawFileSystem.Link(cancel, input, filename, out)
}

func (c counting) Symlink(cancel <-chan struct{}, header *fuse.InHeader, pointedTo string, linkName string, out *fuse.EntryOut) (code fuse.Status) {
	c.n.Requests[reqSymlink].Add(1)
	return c.RawFileSystem.Symlink(cancel, header, pointedTo, linkName, out)
}

func (c counting) Readlink(cancel <-chan struct{}, header *fuse.InHeader) (out []byte, code fuse.Status) {
	c.n.Requests[reqReadlink].Add(1)
	return c.RawFileSystem.Readlink(cancel, header)
}

func (c counting) Access(cancel <-chan struct{}, input *fuse.AccessIn) (code fuse.Status) {
	c.n.Requests[reqAccess].Add(1)
	return c.RawFileSystem.Access(cancel, input)
}

func (c counting) GetXAttr(cancel <-chan struct{}, header *fuse.InHeader, attr string, dest []byte) (sz uint32, code fuse.Status) {
	c.n.Requests[reqGetXAttr].Add(1)
	return c.RawFileSystem.GetXAttr(cancel, header, attr, dest)
}

func (c counting) ListXAttr(cancel <-chan struct{}, header *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	c.n.Requests[reqListXAttr].Add(1)
	return c.RawFileSystem.ListXAttr(cancel, header, dest)
}

func (c counting) SetXAttr(cancel <-chan struct{}, input *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	c.n.Requests[reqSetXAttr].Add(1)
	return c.RawFileSystem.SetXAttr(cancel, input, attr, data)
}

func (c counting) RemoveXAttr(cancel <-chan struct{}, header *fuse.InHeader, attr string) (code fuse.Status) {
	c.n.Requests[reqRemoveXAttr].Add(1)
	return c.RawFileSystem.RemoveXAttr(cancel, header, attr)
}

func (c counting) Create(cancel <-chan struct{}, input *fuse.CreateIn, name string, out *fuse.CreateOut) (code fuse.Status) {
	c.n.Requests[reqCreate].Add(1)
	return c.RawFileSystem.Create(cancel, input, name, out)
}

func (c counting) Tmpfile(cancel <-chan struct{}, input *fuse.CreateIn, out *fuse.CreateOut) (code fuse.Status) {
	c.n.Requests[reqTmpfile].Add(1)
	return c.RawFileSystem.Tmpfile(cancel, input, out)
}

func (c counting) Open(cancel <-chan struct{}, input *fuse.OpenIn, out *fuse.OpenOut) (status fuse.Status) {
	c.n.Requests[reqOpen].Add(1)
	return c.RawFileSystem.Open(cancel, input, out)
}

func (c counting) Read(cancel <-chan struct{}, input *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	c.n.Requests[reqRead].Add(1)
	return c.RawFileSystem.Read(cancel, input, buf)
}

func (c counting) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	c.n.Requests[reqLseek].Add(1)
	return c.RawFileSystem.Lseek(cancel, in, out)
}

func (c counting) GetLk(cancel <-chan struct{}, input *fuse.LkIn, out *fuse.LkOut) (code fuse.Status) {
	c.n.Requests[reqGetLk].Add(1)
	return c.RawFileSystem.GetLk(cancel, input, out)
}

func (c counting) SetLk(cancel <-chan struct{}, input *fuse.LkIn) (code fuse.Status) {
	c.n.Requests[reqSetLk].Add(1)
	return c.RawFileSystem.SetLk(cancel, input)
}

func (c counting) SetLkw(cancel <-chan struct{}, input *fuse.LkIn) (code fuse.Status) {
	c.n.Requests[reqSetLkw].Add(1)
	return c.RawFileSystem.SetLkw(cancel, input)
}

func (c counting) Write(cancel <-chan struct{}, input *fuse.WriteIn, data []byte) (written uint32, code fuse.Status) {
	c.n.Requests[reqWrite].Add(1)
	return c.RawFileSystem.Write(cancel, input, data)
}

func (c counting) CopyFileRange(cancel <-chan struct{}, input *fuse.CopyFileRangeIn) (written uint32, code fuse.Status) {
	c.n.Requests[reqCopyFileRange].Add(1)
	return c.RawFileSystem.CopyFileRange(cancel, input)
}

func (c counting) Ioctl(cancel <-chan struct{}, input *fuse.IoctlIn, inbuf []byte, output *fuse.IoctlOut, outbuf []byte) (code fuse.Status) {
	c.n.Requests[reqIoctl].Add(1)
	return c.RawFileSystem.Ioctl(cancel, input, inbuf, output, outbuf)
}

func (c counting) Flush(cancel <-chan struct{}, input *fuse.FlushIn) fuse.Status {
	c.n.Requests[reqFlush].Add(1)
	return c.RawFileSystem.Flush(cancel, input)
}

func (c counting) Fsync(cancel <-chan struct{}, input *fuse.FsyncIn) (code fuse.Status) {
	c.n.Requests[reqFsync].Add(1)
	return c.RawFileSystem.Fsync(cancel, input)
}

func (c counting) Fallocate(cancel <-chan struct{}, input *fuse.FallocateIn) (code fuse.Status) {
	c.n.Requests[reqFallocate].Add(1)
	return c.RawFileSystem.Fallocate(cancel, input)
}

func (c counting) OpenDir(cancel <-chan struct{}, input *fuse.OpenIn, out *fuse.OpenOut) (status fuse.Status) {
	c.n.Requests[reqOpenDir].Add(1)
	return c.RawFileSystem.OpenDir(cancel, input, out)
}

func (c counting) ReadDir(cancel <-chan struct{}, input *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c.n.Requests[reqReadDir].Add(1)
	return c.RawFileSystem.ReadDir(cancel, input, out)
}

func (c counting) ReadDirPlus(cancel <-chan struct{}, input *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c.n.Requests[reqReadDirPlus].Add(1)
	return c.RawFileSystem.ReadDirPlus(cancel, input, out)
}

func (c counting) FsyncDir(cancel <-chan struct{}, input *fuse.FsyncIn) (code fuse.Status) {
	c.n.Requests[reqFsyncDir].Add(1)
	return c.RawFileSystem.FsyncDir(cancel, input)
}

func (c counting) StatFs(cancel <-chan struct{}, input *fuse.InHeader, out *fuse.StatfsOut) (code fuse.Status) {
	c.n.Requests[reqStatFs].Add(1)
	return c.RawFileSystem.StatFs(cancel, input, out)
}

func (c counting) Statx(cancel <-chan struct{}, input *fuse.StatxIn, out *fuse.StatxOut) (code fuse.Status) {
	c.n.Requests[reqStatx].Add(1)
	return c.RawFileSystem.Statx(cancel, input, out)
}

func (c counting) Writev(cancel <-chan struct{}, input *fuse.WriteIn, data [][]byte) (written uint32, code fuse.Status) {
	written, code = c.RawFileSystem.Writev(cancel, input, data)
	if code != fuse.ENOSYS { // else Write follows
		c.n.Requests[reqWrite].Add(1)
	}
	return written, code
}
