package volume

import (
	"context"

	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/stackglue"
)

// Flock is the flock(2) lock of one open file: a cluster lock of its own, not
// cached (OCFS2 locking: flock; Linux fs/ocfs2/locks.c). Open files of this
// node exclude each other through it as well: each has a DLM lock of its own.
// It is not safe for concurrent use.
type Flock struct {
	v    *Volume
	i    *Inode
	r    *locking.Resource // nil: the cluster knows of none
	held stackglue.Mode
}

// NewFlock makes the lock of an open file.
func (v *Volume) NewFlock(i *Inode) *Flock {
	return &Flock{v: v, i: i, held: stackglue.NL}
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
	if f.held > stackglue.NL {
		if err := f.Unlock(ctx); err != nil {
			return err
		}
	}
	if f.r == nil {
		f.r = f.v.locks.NewResource(locking.Flock, locking.Name(locking.Flock, f.i.blkno, f.i.gen), nil)
	}
	var lf locking.Flags
	if try {
		lf = locking.NoQueue
	}
	if err := f.r.Lock(ctx, mode, lf); err != nil {
		if ctx.Err() != nil {
			f.abandon() // a grant may have crossed the signal
		}
		return err
	}
	f.held = mode
	return nil
}

// Unlock gives the lock up. When it returns, another node gets it at once:
// lowering it in the background, as a lock that is cached is, would make the
// other one's LOCK_NB fail. After an error of ctx that happens a little later.
func (f *Flock) Unlock(ctx context.Context) error {
	if f.held > stackglue.NL {
		f.r.Unlock(f.held)
		f.held = stackglue.NL
	}
	if f.r == nil {
		return nil
	}
	if err := f.r.Drop(ctx); err != nil {
		f.abandon()
		return err
	}
	f.r = nil
	return nil
}

// abandon drops the lock in the background.
func (f *Flock) abandon() {
	v, r := f.v, f.r
	f.r = nil
	v.helpers.Go(func() {
		if err := r.Drop(v.background); err != nil {
			v.logf("giving up a flock: %v", err)
		}
	})
}

// Close unlocks and retires the lock; the file was closed.
func (f *Flock) Close(ctx context.Context) error { return f.Unlock(ctx) }
