package blockdev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sharing says what Open claims against other users of the same device. Claims are
// advisory between programs that make them (flock); ClaimExclusive also asks the
// kernel (O_EXCL), which refuses a block device that is mounted or held by a driver.
type Sharing int

const (
	// ClaimNone looks at the device whoever uses it: debug, status, fsck -n.
	ClaimNone Sharing = iota
	// ClaimShared keeps exclusive users out, and lets other mounts in.
	ClaimShared
	// ClaimExclusive is for mkfs, a repairing fsck, and mounts without a cluster.
	ClaimExclusive
)

// Options tells Open how to open a device. The zero value opens it for reading and
// writing without a claim, with O_DIRECT where that can be had.
type Options struct {
	ReadOnly bool
	Claim    Sharing
	// Buffered asks for the page cache instead of O_DIRECT. Only for tests and for
	// volumes that a single host uses.
	Buffered bool
	// MinSize in bytes: a smaller device is refused with ErrTooSmall.
	MinSize int64
}

// File is a block device or an image file. See Open.
type File struct {
	f        *os.File // its own reference count makes Close safe against running I/O
	raw      syscall.RawConn
	path     string
	size     int64
	align    int     // offsets and lengths
	memAlign uintptr // memory
	block    bool
	readOnly bool
	protect  bool // opened for reading, and writing would be refused
	warning  string
	flushErr atomic.Pointer[error] // first failed flush
	c        counters
}

var (
	_ Device = (*File)(nil)
	_ Zeroer = (*File)(nil)
)

// Open opens the block device or regular file at path. Errors name the path and
// are of kind fs.ErrNotExist, fs.ErrPermission, ErrNotDevice, ErrBusy, ErrReadOnly
// or ErrTooSmall where that is what is wrong.
//
// A regular file on a filesystem without O_DIRECT (tmpfs) is opened through the
// page cache and Warning tells so. A block device never is: another host would not
// see what sits in this one's cache. A tail shorter than a sector is ignored.
func Open(path string, o Options) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, openError(path, err)
	}
	d := &File{path: path, readOnly: o.ReadOnly, align: SectorSize, memAlign: 1}
	switch m := st.Mode(); {
	case m.IsRegular():
	case m&fs.ModeDevice != 0 && m&fs.ModeCharDevice == 0:
		d.block = true
	case m.IsDir():
		return nil, fmt.Errorf("open %s: is a directory: %w", path, ErrNotDevice)
	default:
		return nil, fmt.Errorf("open %s: is a %s: %w", path, typeName(m), ErrNotDevice)
	}
	if err := d.open(o); err != nil {
		return nil, err
	}
	if err := d.setup(o); err != nil {
		d.f.Close()
		return nil, err
	}
	return d, nil
}

// typeName names what else a path can be.
func typeName(m fs.FileMode) string {
	switch {
	case m&fs.ModeCharDevice != 0:
		return "character device"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	}
	return "special file"
}

// openError turns an error of the system into one that says what to do.
func openError(path string, err error) error {
	cause := err
	var pe *fs.PathError
	if errors.As(err, &pe) {
		cause = pe.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("open %s: %w: check the name of the device", path, cause)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("open %s: %w: run as root or a member of the device's group", path, cause)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("open %s: %w: unmount it first (%w)", path, ErrBusy, cause)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("open %s: %w (%w)", path, ErrReadOnly, cause)
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENOMEDIUM):
		return fmt.Errorf("open %s: %w: the device is not there or holds no medium", path, cause)
	}
	return fmt.Errorf("open %s: %w", path, cause)
}

// open opens the file, with O_DIRECT first, and claims it.
func (d *File) open(o Options) error {
	flags := os.O_RDWR
	if o.ReadOnly {
		flags = os.O_RDONLY
	}
	if d.block && o.Claim == ClaimExclusive {
		flags |= os.O_EXCL
	}
	direct := unix.O_DIRECT
	if o.Buffered {
		direct, d.warning = 0, "opened through the page cache as asked"
	}
	f, err := os.OpenFile(d.path, flags|direct, 0)
	if errors.Is(err, unix.EINVAL) && direct != 0 && !d.block {
		direct = 0
		d.warning = "the filesystem below has no direct I/O; using its page cache, so only this host may use the volume"
		f, err = os.OpenFile(d.path, flags, 0)
	}
	if err != nil {
		return openError(d.path, err)
	}
	d.f = f
	if direct != 0 {
		d.memAlign = SectorSize
	}
	return nil
}

// setup learns size and alignment of the open file, and claims it.
func (d *File) setup(o Options) error {
	raw, err := d.f.SyscallConn()
	if err != nil {
		return openError(d.path, err)
	}
	d.raw = raw
	var inner error
	err = raw.Control(func(fd uintptr) {
		if inner = d.claim(int(fd), o.Claim); inner != nil {
			return
		}
		if d.block {
			inner = d.probeBlock(int(fd))
		} else {
			inner = d.probeFile(int(fd))
		}
	})
	if err = errors.Join(err, inner); err != nil {
		return err
	}
	d.size &^= int64(d.align - 1)
	if d.size < o.MinSize {
		return fmt.Errorf("open %s: %w: %d bytes, %d needed", d.path, ErrTooSmall, d.size, o.MinSize)
	}
	return nil
}

// claim takes the advisory lock that goes with s. It ends with the open file.
func (d *File) claim(fd int, s Sharing) error {
	how := unix.LOCK_SH
	switch s {
	case ClaimNone:
		return nil
	case ClaimExclusive:
		how = unix.LOCK_EX
	}
	err := unix.Flock(fd, how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("open %s: %w by another process: unmount it there first", d.path, ErrBusy)
	}
	if err != nil {
		return fmt.Errorf("open %s: lock: %w", d.path, err)
	}
	return nil
}

// probeBlock asks a block device for its size, logical sector size and state.
func (d *File) probeBlock(fd int) error {
	var size uint64
	if err := ioctlPtr(fd, unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
		return fmt.Errorf("open %s: ask for its size: %w", d.path, err)
	}
	d.size = int64(size)
	if ss, err := unix.IoctlGetInt(fd, unix.BLKSSZGET); err == nil && ss > SectorSize {
		d.align = ss
	}
	d.memAlign = max(d.memAlign, uintptr(d.align))
	ro, err := unix.IoctlGetInt(fd, unix.BLKROGET)
	d.protect = err == nil && ro != 0
	if d.protect && !d.readOnly {
		return fmt.Errorf("open %s: %w: open it read-only, or make it writable (blockdev --setrw)", d.path, ErrReadOnly)
	}
	return nil
}

// probeFile asks a regular file for its size and what direct I/O to it needs.
func (d *File) probeFile(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("open %s: stat: %w", d.path, err)
	}
	d.size = st.Size
	d.protect = d.readOnly && unix.Access(d.path, unix.W_OK) == unix.EROFS
	if d.memAlign == 1 {
		return nil
	}
	var sx unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &sx)
	if err == nil && sx.Mask&unix.STATX_DIOALIGN != 0 && sx.Dio_offset_align != 0 {
		d.memAlign = max(uintptr(sx.Dio_mem_align), 1)
		d.align = max(int(sx.Dio_offset_align), SectorSize)
	}
	return nil
}

// ioctlPtr is ioctl with a pointer argument.
func ioctlPtr(fd int, req uintptr, arg unsafe.Pointer) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(arg)); e != 0 {
		return e
	}
	return nil
}

// Path is the name the device was opened by.
func (d *File) Path() string { return d.path }

// Warning is a sentence for the user when the device could not be opened as it
// should be (no O_DIRECT), else empty.
func (d *File) Warning() string { return d.warning }

// IsBlock tells a block device from an image file.
func (d *File) IsBlock() bool { return d.block }

// Size implements Device.
func (d *File) Size() int64 { return d.size }

// BlockAlign implements Device.
func (d *File) BlockAlign() int { return d.align }

// Protected tells, of a device opened for reading, that it could not be opened for
// writing by anybody: it is write-protected, or lies on a read-only filesystem.
func (d *File) Protected() bool { return d.protect }

// ReadOnly implements Device.
func (d *File) ReadOnly() bool { return d.readOnly }

// Stats implements Device.
func (d *File) Stats() Stats { return d.c.stats() }

// Close implements Device. It waits for no I/O: operations that run finish first
// on their own reference; later ones fail with ErrClosed.
func (d *File) Close() error {
	if err := d.f.Close(); err != nil {
		return d.ioError("close", 0, 0, err)
	}
	return nil
}

// blkRange is one of the BLK* ioctls that take {offset, length} in bytes.
func blkRange(fd int, req uintptr, off, n int64) error {
	r := [2]uint64{uint64(off), uint64(n)}
	return ioctlPtr(fd, req, unsafe.Pointer(&r))
}
