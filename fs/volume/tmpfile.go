package volume

import (
	"context"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/dir"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// Tmpfile makes a file without a name in the file system of directory d
// (O_TMPFILE): an orphan from the start, deleted when it is let go, unless
// Link gives it a name.
func (v *Volume) Tmpfile(ctx context.Context, d *Inode, n NewInode, give Give) (*Inode, error) {
	if err := v.writable(); err != nil {
		return nil, err
	}
	if err := d.rlock(ctx, 0); err != nil {
		return nil, err
	}
	err := d.checkDir()
	inheritGroup(&d.attr, &n)
	d.runlock()
	if err != nil {
		return nil, err
	}
	// The entry's name is the inode's number, which is not known yet; all such
	// names have the same length, and so the same needs.
	var o orphaning
	if err := v.planOrphan(ctx, ^uint64(0), &o); err != nil {
		return nil, err
	}
	defer o.close()
	o.widen()
	req := v.newRequest(n)
	req.Meta += o.req.Meta
	req.Clusters += o.req.Clusters
	var i *Inode
	err = v.change(ctx, req, o.credits+createCredits, func(tx *journal.Handle, res *alloc.Reservation) error {
		var err error
		if i, err = v.makeInode(tx, res, d, o.dir, n, ondisk.InodeOrphaned); err != nil {
			return err
		}
		o.plan.SetName([]byte(ondisk.OrphanName(i.blkno)))
		return o.insert(tx, res, i)
	})
	if err != nil {
		return nil, err
	}
	i.set(stateMaybeOrphaned | stateTmpfile)
	return v.publish(i, give)
}

// tmpfile tells whether this node made the inode without a name: the only
// orphan that may get one (as with linkat(2) of an O_TMPFILE file).
func (i *Inode) tmpfile() bool { return i.has(stateTmpfile) }

// linkOrphan gives a nameless file its first name. d and i are write-locked.
func (v *Volume) linkOrphan(ctx context.Context, i, d *Inode, plan *dir.Plan) error {
	b, di, err := i.dinode()
	if err != nil {
		return err
	}
	defer b.Put()
	od, err := v.sysInode(ondisk.SysOrphanDir, int(di.OrphanedSlot()))
	if err != nil {
		return err
	}
	if err := od.wlock(ctx); err != nil {
		return err
	}
	defer od.wunlock()
	req := alloc.Request{Meta: plan.Meta, Clusters: uint32(plan.Clusters)}
	err = v.change(ctx, req, plan.Credits+dir.DeleteCredits+3, func(tx *journal.Handle, res *alloc.Reservation) error {
		if err := plan.Insert(tx, res, i.blkno, ondisk.FileTypeOfMode(i.attr.Mode)); err != nil {
			return err
		}
		c, err := i.begin(tx)
		if err != nil {
			return err
		}
		c.di.SetFlags(c.di.Flags() &^ ondisk.InodeOrphaned)
		i.attr.Links = 1
		i.attr.Ctime = now()
		c.finish()
		if err := od.deleteName(tx, []byte(ondisk.OrphanName(i.blkno))); err != nil {
			return err
		}
		if err := od.touchDir(tx, false); err != nil {
			return err
		}
		return d.touchDir(tx, false)
	})
	if err == nil {
		i.state.And(^uint32(stateMaybeOrphaned | stateTmpfile))
	}
	return err
}
