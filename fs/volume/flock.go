package volume

import (
	"context"

	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/stackglue"
)

// Flock is the flock(2) lock of one open file: a cluster lock of its own, not
// cached (OCFS2 locking: flock; Linux fs/ocfs2/locks.c). Open files of this
// node exclude each other through it as well: each has a DLM lock of its own.
type Flock struct {
	r    *locking.Resource
	held stackglue.Mode
}

// NewFlock makes the lock of an open file.
func (v *Volume) NewFlock(i *Inode) *Flock {
	return &Flock{r: v.locks.NewResource(locking.Flock, locking.Name(locking.Flock, i.blkno, i.gen), nil), held: stackglue.NL}
}

// Lock takes the lock, shared or exclusive; with try it fails with
// stackglue.ErrAgain instead of waiting. A change of the mode gives the old
// lock up first, as flock(2) may.
func (f *Flock) Lock(ctx context.Context, exclusive, try bool) error {
	mode := stackglue.PR
	if exclusive {
		mode = stackglue.EX
	}
	if f.held == mode {
		return nil
	}
	f.Unlock()
	var lf locking.Flags
	if try {
		lf = locking.NoQueue
	}
	if err := f.r.Lock(ctx, mode, lf); err != nil {
		return err
	}
	f.held = mode
	return nil
}

// Unlock gives the lock up.
func (f *Flock) Unlock() {
	if f.held > stackglue.NL {
		f.r.Unlock(f.held)
		f.held = stackglue.NL
	}
}

// Close unlocks and retires the lock; the file was closed.
func (f *Flock) Close(ctx context.Context) error {
	f.Unlock()
	return f.r.Drop(ctx)
}
