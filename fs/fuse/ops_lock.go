package fuse

import (
	"context"
	"errors"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/fs/volume"
	"github.com/ocfuse/ocfuse/stackglue"
)

// flock is the flock(2) lock of a handle, made at first use. Programs may share
// the handle (fork, dup) and use it while one of them waits for the lock, so
// nobody waits for turn without listening to signals.
type flock struct {
	mu   sync.Mutex    // guards turn
	turn chan struct{} // closed when the operation that is on is over; nil: none is
	long bool          // that operation may wait for another's lock; guarded by mu
	l    *volume.Flock // of whose turn it is
}

// begin waits for the turn. With try it fails with ErrAgain instead if who has
// it may wait for another's lock.
func (l *flock) begin(ctx context.Context, try bool) error {
	for {
		l.mu.Lock()
		other, long := l.turn, l.long
		if other == nil {
			l.turn, l.long = make(chan struct{}), !try
		}
		l.mu.Unlock()
		switch {
		case other == nil:
			return nil
		case try && long:
			return stackglue.ErrAgain
		}
		if err := locking.Await(ctx, other); err != nil {
			return err
		}
	}
}

func (l *flock) end() {
	l.mu.Lock()
	close(l.turn)
	l.turn = nil
	l.mu.Unlock()
}

// close gives the lock up; the file was closed by its last user.
func (l *flock) close(f *FS) {
	_ = l.begin(context.Background(), false) // that context does not end
	defer l.end()
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
	ctx := kcache.Context(cancel, in.Pid, !try) // SETLKW may wait for ever
	unlock := in.Lk.Typ == syscall.F_UNLCK
	switch err := h.flock.begin(ctx, try); {
	case unlock && errors.Is(err, stackglue.ErrAgain):
		return fuse.OK // who waits for a lock through this handle has given up what it held
	case err != nil:
		return f.status("flock", err)
	}
	defer h.flock.end()
	if unlock {
		if h.flock.l == nil {
			return fuse.OK
		}
		return f.status("flock", h.flock.l.Unlock(ctx))
	}
	if h.flock.l == nil {
		h.flock.l = f.v.NewFlock(h.i)
	}
	return f.status("flock", h.flock.l.Lock(ctx, in.Lk.Typ == syscall.F_WRLCK, try))
}
