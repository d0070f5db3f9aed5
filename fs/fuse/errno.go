package fuse

import (
	"context"
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/dir"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/fs/volume"
	"github.com/ocfuse/ocfuse/journal"
	"github.com/ocfuse/ocfuse/stackglue"
)

// errnos maps kinds of failure to errno, the first that matches.
var errnos = []struct {
	err error
	no  syscall.Errno
}{
	{dir.ErrNotFound, syscall.ENOENT},
	{volume.ErrExist, syscall.EEXIST},
	{volume.ErrNotDir, syscall.ENOTDIR},
	{volume.ErrIsDir, syscall.EISDIR},
	{volume.ErrNotEmpty, syscall.ENOTEMPTY},
	{volume.ErrStale, syscall.ESTALE},
	{volume.ErrReadOnly, syscall.EROFS},
	{volume.ErrPerm, syscall.EPERM},
	{volume.ErrInvalid, syscall.EINVAL},
	{volume.ErrLoop, syscall.EINVAL},
	{volume.ErrTooManyLink, syscall.EMLINK},
	{volume.ErrFileTooBig, syscall.EFBIG},
	{volume.ErrUnsupported, syscall.EOPNOTSUPP},
	{volume.ErrNoData, syscall.ENXIO},
	{alloc.ErrNoSpace, syscall.ENOSPC},
	{dir.ErrIndexFull, syscall.ENOSPC},
	{dir.ErrNameTooLong, syscall.ENAMETOOLONG},
	{dir.ErrBadName, syscall.EINVAL},
	{context.Canceled, syscall.EINTR},
	{context.DeadlineExceeded, syscall.ETIMEDOUT},
	{stackglue.ErrAgain, syscall.EAGAIN},
	{stackglue.ErrFenced, syscall.EIO},
	{stackglue.ErrShutdown, syscall.EIO},
	{blockdev.ErrFenced, syscall.EIO},
	{journal.ErrAborted, syscall.EROFS},
	{ondisk.ErrCorrupt, syscall.EIO},
}

// status turns an error into what the kernel is told; what it cannot be told
// goes to the log.
func (f *FS) status(op string, err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	no := syscall.EIO
	for _, e := range errnos {
		if errors.Is(err, e.err) {
			no = e.no
			break
		}
	}
	if no == syscall.EIO || no == syscall.EROFS {
		f.logf("%s: %v", op, err)
	}
	return fuse.Status(no)
}
