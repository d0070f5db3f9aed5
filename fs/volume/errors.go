package volume

import "errors"

// Kinds of failure. fs/fuse turns them into errno; the names say which.
var (
	ErrNotDir      = errors.New("not a directory")                             // ENOTDIR
	ErrIsDir       = errors.New("is a directory")                              // EISDIR
	ErrExist       = errors.New("name exists")                                 // EEXIST
	ErrNotEmpty    = errors.New("directory is not empty")                      // ENOTEMPTY
	ErrTooManyLink = errors.New("too many links")                              // EMLINK
	ErrPerm        = errors.New("operation not permitted")                     // EPERM
	ErrInvalid     = errors.New("invalid argument")                            // EINVAL
	ErrLoop        = errors.New("directory would become its own ancestor")     // EINVAL
	ErrReadOnly    = errors.New("volume is mounted read-only")                 // EROFS
	ErrFileTooBig  = errors.New("beyond the largest file size of this volume") // EFBIG
	ErrUnsupported = errors.New("not supported")                               // EOPNOTSUPP
	ErrNoData      = errors.New("no data or hole beyond this offset")          // ENXIO
	ErrBusySlot    = errors.New("no free slot on the volume")                  // EBUSY
)
