package kcache

import (
	"errors"
	"sync"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// errClosed: the mount is gone; nothing is cached any more.
var errClosed = errors.New("the mount is gone")

// outHeader is struct fuse_out_header; a notify has unique 0 and its code in
// the error field, positive (include/uapi/linux/fuse.h).
type outHeader struct {
	len    uint32
	code   int32
	unique uint64
}

type invalInode struct {
	outHeader
	ino      uint64
	off, len int64
}

type invalEntry struct {
	outHeader
	parent  uint64
	namelen uint32
	flags   uint32
}

type store struct {
	outHeader
	ino    uint64
	offset uint64
	size   uint32
	_      uint32
}

type prune struct {
	outHeader
	count uint32
	_     uint32
	_     uint64
}

// notifier writes notifies to a duplicate of the mount's /dev/fuse. The
// descriptor blocks and is never handed to Go's poller: a notify may sleep in
// write(2) for as long as a page is locked.
type notifier struct {
	mu     sync.Mutex // guards the rest
	fd     int
	users  int
	closed bool
	idle   chan struct{} // closed when closed && users == 0
}

func newNotifier(fd int) *notifier { return &notifier{fd: fd, idle: make(chan struct{})} }

// enter keeps the descriptor open until leave.
func (n *notifier) enter() (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return -1, errClosed
	}
	n.users++
	return n.fd, nil
}

func (n *notifier) leave() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.users--; n.users == 0 && n.closed {
		close(n.idle)
	}
}

// close refuses further notifies and closes the descriptor with the last one
// under way. The mount must be gone, so that these end.
func (n *notifier) close() {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return
	}
	n.closed = true
	if n.users == 0 {
		close(n.idle)
	}
	n.mu.Unlock()
	<-n.idle
	_ = unix.Close(n.fd) // nothing was buffered
}

// write sends one notify. It retries EINTR, which Go's preemption signals
// cause, and maps the errors of a mount that is gone.
func (n *notifier) write(iov ...[]byte) error {
	fd, err := n.enter()
	if err != nil {
		return err
	}
	defer n.leave()
	for {
		_, err := unix.Writev(fd, iov)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENOTCONN), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ECONNABORTED):
			return errClosed
		default:
			return err
		}
	}
}

func bytesOf[T any](p *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p))
}

// inode sends FUSE_NOTIFY_INVAL_INODE. off < 0: attributes only; length <= 0:
// to the end. Both drop the attributes.
func (n *notifier) inode(ino uint64, off, length int64) error {
	m := invalInode{outHeader{40, -fuse.NOTIFY_INVAL_INODE, 0}, ino, off, length}
	return n.write(bytesOf(&m))
}

// entry sends FUSE_NOTIFY_INVAL_ENTRY. It blocks while a request is pending in
// the directory.
func (n *notifier) entry(parent uint64, name string) error {
	m := invalEntry{outHeader{uint32(32 + len(name) + 1), -fuse.NOTIFY_INVAL_ENTRY, 0}, parent, uint32(len(name)), 0}
	return n.write(bytesOf(&m), append([]byte(name), 0))
}

// noBytes is memory that nobody may read.
var noBytes = sync.OnceValues(func() ([]byte, error) {
	return unix.Mmap(-1, 0, pageSize, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
})

// extend makes the kernel believe that a file is at least size bytes long,
// whatever it makes of attribute replies in flight. It is FUSE_NOTIFY_STORE of
// the last byte, which raises the size first (fuse_notify_store) and then
// cannot read the byte: no page changes. Where the page is locked it sleeps
// between the two.
func (n *notifier) extend(ino, size uint64) error {
	b, err := noBytes()
	if err != nil {
		return err
	}
	m := store{outHeader: outHeader{40 + 1, -fuse.NOTIFY_STORE_CACHE, 0}, ino: ino, offset: size - 1, size: 1}
	err = n.write(bytesOf(&m), b[:1])
	if errors.Is(err, syscall.EFAULT) {
		return nil
	}
	return err
}

// epoch sends FUSE_NOTIFY_INC_EPOCH: no name cached so far is believed again.
// It never blocks.
func (n *notifier) epoch() error {
	m := outHeader{16, -fuse.NOTIFY_INC_EPOCH, 0}
	return n.write(bytesOf(&m))
}

// prune sends FUSE_NOTIFY_PRUNE: the kernel forgets those inodes that nobody
// uses.
func (n *notifier) prune(ids []uint64) error {
	m := prune{outHeader: outHeader{uint32(32 + 8*len(ids)), -fuse.NOTIFY_PRUNE, 0}, count: uint32(len(ids))}
	return n.write(bytesOf(&m), unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(ids))), 8*len(ids)))
}
