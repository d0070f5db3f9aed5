package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/dir"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// Unlink removes a name that is not a directory's. give is called with the
// inode that lost it, under the locks.
func (v *Volume) Unlink(ctx context.Context, d *Inode, name []byte, give Give) error {
	return v.remove(ctx, d, name, false, give)
}

// Rmdir removes an empty directory.
func (v *Volume) Rmdir(ctx context.Context, d *Inode, name []byte, give Give) error {
	return v.remove(ctx, d, name, true, give)
}

// remove takes a name out of d (OCFS2 format: unlink; Linux fs/ocfs2/namei.c,
// ocfs2_unlink). An inode without names goes to the orphan directory of this
// node's slot and is wiped when the last user in the cluster is gone.
//
// On a full volume the orphan directory may have no room, and no cluster to grow
// by, until what was deleted before has left it.
func (v *Volume) remove(ctx context.Context, d *Inode, name []byte, isDir bool, give Give) error {
	for tries := 0; ; tries++ {
		wiped := v.deleter.wiped.Load()
		err := v.removeName(ctx, d, name, isDir, give)
		if !errors.Is(err, alloc.ErrNoSpace) || tries == maxRoomTries || !v.deleter.progress(ctx, wiped) {
			return err
		}
	}
}

// maxRoomTries bounds how often a removal waits for room.
const maxRoomTries = 100

// removeName is one try of remove.
func (v *Volume) removeName(ctx context.Context, d *Inode, name []byte, isDir bool, give Give) error {
	if err := v.writable(); err != nil {
		return err
	}
	if err := d.wlock(ctx); err != nil {
		return err
	}
	defer d.wunlock()
	e, err := d.lookup(name)
	if err != nil {
		return err
	}
	i, err := v.iget(ctx, e.Ino, 0)
	if err != nil {
		return err
	}
	defer i.Put()
	if !isDir { // a directory may turn out not to be empty
		i.askDetach(d)
	}
	if err := i.wlock(ctx); err != nil {
		return err
	}
	defer i.wunlock()
	if err := i.removable(isDir); err != nil {
		return err
	}
	if err := i.detach(ctx, d); err != nil {
		return err
	}
	o, err := v.orphaning(ctx, i)
	if err != nil {
		return err
	}
	defer o.close()
	err = v.change(ctx, o.req, o.credits+dir.DeleteCredits+2, func(tx *journal.Handle, res *alloc.Reservation) error {
		if err := d.deleteName(tx, name); err != nil {
			return err
		}
		if err := i.dropLink(tx, res, o); err != nil {
			return err
		}
		if isDir {
			d.attr.Links--
		}
		return d.touchDir(tx, false)
	})
	if err == nil {
		give.call(i, &i.attr)
	}
	return err
}

// removable checks what rmdir and unlink check. i is write-locked.
func (i *Inode) removable(isDir bool) error {
	switch {
	case isDir && !i.attr.IsDir():
		return ErrNotDir
	case !isDir && i.attr.IsDir():
		return ErrIsDir
	case i.attr.Links == 0:
		return ErrNotFound
	case i.attr.Flags&(attrImmutable|attrAppend) != 0:
		return ErrPerm
	}
	if !isDir {
		return nil
	}
	b, _, err := i.dinode()
	if err != nil {
		return err
	}
	defer b.Put()
	empty, err := i.dir(b).Empty()
	if err != nil {
		return err
	}
	if !empty || i.attr.Links > 2 {
		return ErrNotEmpty
	}
	return nil
}

// Attribute flags that forbid changes (FS_APPEND_FL, FS_IMMUTABLE_FL).
const (
	attrImmutable = 0x10
	attrAppend    = 0x20
)

// deleteName takes a name out of a directory in a transaction.
func (d *Inode) deleteName(tx *journal.Handle, name []byte) error {
	b, _, err := d.dinode()
	if err != nil {
		return err
	}
	defer b.Put()
	return d.dir(b).Delete(tx, name)
}

// orphaning is the preparation for an inode that may lose its last name: room
// for it in the orphan directory of this slot.
type orphaning struct {
	last    bool
	dir     *Inode
	plan    *dir.Plan
	name    []byte
	req     alloc.Request
	credits int
}

// orphaning prepares for the loss of one link of i. close must be called.
func (v *Volume) orphaning(ctx context.Context, i *Inode) (*orphaning, error) {
	o := &orphaning{last: i.attr.Links == 1 || i.attr.IsDir()}
	if !o.last {
		return o, nil
	}
	return o, v.planOrphan(ctx, i.blkno, o)
}

// planOrphan locks the own orphan directory and plans the entry of inode
// number ino.
func (v *Volume) planOrphan(ctx context.Context, ino uint64, o *orphaning) error {
	od, err := v.sysInode(ondisk.SysOrphanDir, v.slot)
	if err != nil {
		return err
	}
	if err := od.wlock(ctx); err != nil {
		return err
	}
	b, _, err := od.dinode()
	if err == nil {
		o.name = []byte(ondisk.OrphanName(ino))
		o.plan, err = od.dir(b).Plan(o.name)
		b.Put()
	}
	if err != nil {
		od.wunlock()
		return fmt.Errorf("orphan directory of slot %d: %w", v.slot, err)
	}
	o.dir = od
	o.req = alloc.Request{Meta: o.plan.Meta, Clusters: uint32(o.plan.Clusters)}
	o.credits = o.plan.Credits + 1
	return nil
}

// widen makes the preparation good for an inode whose number is not known yet.
func (o *orphaning) widen() {
	o.plan.Widen()
	o.req = alloc.Request{Meta: o.plan.Meta, Clusters: uint32(o.plan.Clusters)}
	o.credits = o.plan.Credits + 1
}

func (o *orphaning) close() {
	if o.dir != nil {
		o.plan.Close()
		o.dir.wunlock()
	}
}

// dropLink lowers the link count; the last one puts the inode into the orphan
// directory.
func (i *Inode) dropLink(tx *journal.Handle, res *alloc.Reservation, o *orphaning) error {
	c, err := i.begin(tx)
	if err != nil {
		return err
	}
	i.attr.Links--
	if i.attr.IsDir() {
		i.attr.Links = 0
	}
	i.attr.Ctime = now()
	if !o.last {
		c.finish()
		return nil
	}
	c.di.SetFlags(c.di.Flags() | ondisk.InodeOrphaned)
	c.di.SetOrphanedSlot(uint16(i.v.slot))
	c.finish()
	if err := o.insert(tx, res, i); err != nil {
		return err
	}
	i.set(stateMaybeOrphaned)
	return nil
}

// insert enters i into the orphan directory; a directory there counts as its
// subdirectory.
func (o *orphaning) insert(tx *journal.Handle, res *alloc.Reservation, i *Inode) error {
	i.fresh.Cover(o.dir.metaLock)
	if err := o.plan.Insert(tx, res, i.blkno, ondisk.FileTypeOfMode(i.attr.Mode)); err != nil {
		return err
	}
	return o.dir.touchDir(tx, i.attr.IsDir())
}
