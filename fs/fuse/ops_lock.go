package fuse

import (
	"context"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
	"github.com/ocfuse/ocfuse/fs/volume"
)

// flock is the flock(2) lock of a handle, made at first use.
type flock struct {
	mu sync.Mutex // one lock operation at a time
	l  *volume.Flock
}

// close gives the lock up; the file was closed by its last user.
func (l *flock) close(f *FS) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.l == nil {
		return
	}
	if err := l.l.Close(context.Background()); err != nil {
		f.logf("giving up a flock: %v", err)
	}
	l.l = nil
}

// lkFlock is FUSE_LK_FLOCK in LkIn.LkFlags.
const lkFlock = 1

// SetLk implements fuse.RawFileSystem: flock(2) without waiting.
func (f *FS) SetLk(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return f.setFlock(cancel, in, true)
}

// SetLkw implements fuse.RawFileSystem: flock(2) that waits; an interrupt
// cancels the cluster's request.
func (f *FS) SetLkw(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return f.setFlock(cancel, in, false)
}

func (f *FS) setFlock(cancel <-chan struct{}, in *fuse.LkIn, try bool) fuse.Status {
	if in.LkFlags&lkFlock == 0 {
		return fuse.ENOSYS // POSIX locks are the kernel's own here
	}
	x, ok := f.files.Load(in.Fh)
	if !ok {
		return fuse.EBADF
	}
	h := x.(*file)
	h.flock.mu.Lock()
	defer h.flock.mu.Unlock()
	if in.Lk.Typ == syscall.F_UNLCK {
		if h.flock.l != nil {
			h.flock.l.Unlock()
		}
		return fuse.OK
	}
	if h.flock.l == nil {
		h.flock.l = f.v.NewFlock(h.i)
	}
	ctx := kcache.Context(cancel, in.Pid, !try) // SETLKW may wait for ever
	err := h.flock.l.Lock(ctx, in.Lk.Typ == syscall.F_WRLCK, try)
	return f.status("flock", err)
}
