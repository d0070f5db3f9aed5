package volume

import (
	"context"

	"github.com/ocfuse/ocfuse/journal"
)

// SetAttr says which attributes to change; nil fields stay.
type SetAttr struct {
	Mode         *uint16 // permission bits; the type stays
	UID, GID     *uint32
	Size         *uint64
	Atime, Mtime *Time
	Ctime        *Time // nil: now
	KillPriv     bool  // clear set-id bits (a caller without CAP_FSETID)
}

// SetAttr changes attributes and gives the new ones.
func (v *Volume) SetAttr(ctx context.Context, i *Inode, s SetAttr, give Give) error {
	if err := v.writable(); err != nil {
		return err
	}
	if s.Size != nil {
		return v.setSizeAttr(ctx, i, s, give)
	}
	if err := i.wlock(ctx); err != nil {
		return err
	}
	defer i.wunlock()
	err := v.transact(ctx, 1, func(tx *journal.Handle) error {
		c, err := i.begin(tx)
		if err != nil {
			return err
		}
		i.applyAttr(s)
		c.finish()
		return nil
	})
	if err == nil {
		give.call(i, &i.attr)
	}
	return err
}

// setSizeAttr is SetAttr with a size: it takes the locks of a write.
func (v *Volume) setSizeAttr(ctx context.Context, i *Inode, s SetAttr, give Give) error {
	unlock, err := i.lockData(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	switch {
	case i.attr.IsDir():
		return ErrIsDir
	case !i.attr.IsRegular():
		return ErrInvalid
	}
	err = i.truncate(ctx, *s.Size, func() { i.applyAttr(s) })
	if err == nil {
		give.call(i, &i.attr)
	}
	return err
}

// applyAttr changes attr in memory; i is in a transaction.
func (i *Inode) applyAttr(s SetAttr) {
	a := &i.attr
	const perm = 0o7777
	if s.Mode != nil {
		a.Mode = a.Mode&^perm | *s.Mode&perm
	}
	if s.UID != nil {
		a.UID = *s.UID
	}
	if s.GID != nil {
		a.GID = *s.GID
	}
	if s.KillPriv {
		a.Mode = killPriv(a.Mode)
	}
	if s.Atime != nil {
		a.Atime = *s.Atime
	}
	if s.Mtime != nil {
		a.Mtime = *s.Mtime
	}
	if s.Ctime != nil {
		a.Ctime = *s.Ctime
	} else {
		a.Ctime = now()
	}
}

// Fsync makes what was written to the inode durable: with datasync only what
// is needed to read the data back.
func (v *Volume) Fsync(ctx context.Context, i *Inode, datasync bool) error {
	if v.opts.ReadOnly {
		return nil
	}
	if tid := v.j.LastTid(&i.meta.Owner); tid != 0 && !v.durable(tid) {
		return v.j.Commit(v.bounded(ctx), tid)
	}
	return v.dev.Flush()
}

// Sync makes everything durable.
func (v *Volume) Sync(ctx context.Context) error {
	if v.opts.ReadOnly {
		return nil
	}
	if err := v.j.CommitRunning(v.bounded(ctx)); err != nil {
		return err
	}
	return v.dev.Flush()
}

// durable tells whether a transaction has been committed.
func (v *Volume) durable(tid uint64) bool { return v.j.Stats().DurableTid >= tid }
