package volume

import (
	"context"
	"errors"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/dir"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
	"github.com/ocfuse/ocfuse/stackglue"
)

// Flags of Rename, the numbers of renameat2(2).
const (
	RenameNoReplace = 1
	RenameExchange  = 2
)

// rename is one rename in progress.
type rename struct {
	v            *Volume
	od, nd       *Inode // parents, write-locked
	oname, nname []byte
	obj, target  *Inode // write-locked; target nil if the new name is free
	plan         *dir.Plan
	orphan       *orphaning
}

// Moved is what a rename did.
type Moved struct {
	Object    *Inode // now called by the new name
	Target    *Inode // what the new name was before; nil if nothing
	Exchanged bool   // Target has the old name now; else it lost a link
}

// Rename moves od/oname to nd/nname (Linux fs/ocfs2/namei.c, ocfs2_rename),
// with NOREPLACE and EXCHANGE (which Linux' ocfs2 does not offer; on disk an
// exchange is two entries rewritten).
func (v *Volume) Rename(ctx context.Context, od *Inode, oname []byte, nd *Inode, nname []byte, flags uint32, moved func(Moved)) error {
	if err := v.writable(); err != nil {
		return err
	}
	if flags&^(RenameNoReplace|RenameExchange) != 0 || flags == RenameNoReplace|RenameExchange {
		return ErrInvalid
	}
	if err := dir.CheckName(nname); err != nil {
		return err
	}
	if od != nd {
		unlock, err := v.renameLock(ctx, od, oname, nd, nname, flags)
		if err != nil {
			return err
		}
		defer unlock()
	}
	r := &rename{v: v, od: od, nd: nd, oname: oname, nname: nname}
	unlock, err := v.lockParents(ctx, od, nd)
	if err != nil {
		return err
	}
	defer unlock()
	defer r.release()
	if err := r.find(ctx, flags); err != nil {
		return err
	}
	if r.obj == r.target {
		return nil // two names of one file
	}
	exchange := flags&RenameExchange != 0
	if exchange {
		err = r.exchange(ctx)
	} else {
		err = r.move(ctx)
	}
	if err == nil && moved != nil {
		moved(Moved{r.obj, r.target, exchange})
	}
	return err
}

// renameLock takes the cluster-wide rename lock if a directory may change its
// parent, and checks under it that no directory would end below itself. The
// lock is what keeps the ancestry still.
func (v *Volume) renameLock(ctx context.Context, od *Inode, oname []byte, nd *Inode, nname []byte, flags uint32) (func(), error) {
	moves, err := v.movesDir(ctx, od, oname, nd, nname, flags)
	if err != nil || !moves {
		return func() {}, err
	}
	v.renameMu.Lock()
	if err := v.renameRes.Lock(ctx, stackglue.EX, 0); err != nil {
		v.renameMu.Unlock()
		return nil, err
	}
	unlock := func() {
		v.renameRes.Unlock(stackglue.EX)
		v.renameMu.Unlock()
	}
	err = v.notBelow(ctx, od, oname, nd)
	if err == nil && flags&RenameExchange != 0 {
		err = v.notBelow(ctx, nd, nname, od)
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// movesDir tells whether the rename moves a directory to another parent.
func (v *Volume) movesDir(ctx context.Context, od *Inode, oname []byte, nd *Inode, nname []byte, flags uint32) (bool, error) {
	isDir := func(d *Inode, name []byte) (bool, error) {
		if err := d.rlock(ctx, 0); err != nil {
			return false, err
		}
		defer d.runlock()
		e, err := d.lookup(name)
		return e.Type == ondisk.FTDir, err
	}
	moves, err := isDir(od, oname)
	if err != nil || moves || flags&RenameExchange == 0 {
		return moves, err
	}
	return isDir(nd, nname)
}

// notBelow checks that directory d is not at or below od/name: it walks up the
// ".." entries. The rename lock is held.
func (v *Volume) notBelow(ctx context.Context, od *Inode, name []byte, d *Inode) error {
	if err := od.rlock(ctx, 0); err != nil {
		return err
	}
	e, err := od.lookup(name)
	od.runlock()
	if err != nil {
		return err
	}
	if e.Type != ondisk.FTDir {
		return nil
	}
	return v.walkUp(ctx, d, func(ino uint64) error {
		if ino == e.Ino {
			return ErrLoop
		}
		return nil
	})
}

// maxDepth bounds a walk to the root.
const maxDepth = 1 << 16

// walkUp calls fn for d and each of its ancestors until the root or an error.
func (v *Volume) walkUp(ctx context.Context, d *Inode, fn func(ino uint64) error) error {
	ino := d.blkno
	for range maxDepth {
		if err := fn(ino); err != nil {
			return err
		}
		if ino == v.geo.RootBlkno {
			return nil
		}
		i, err := v.iget(ctx, ino, 0)
		if err != nil {
			return err
		}
		err = i.rlock(ctx, 0)
		if err == nil {
			var e dir.Entry
			e, err = i.lookup([]byte(".."))
			ino = e.Ino
			i.runlock()
		}
		i.Put()
		if err != nil {
			return err
		}
	}
	return &ondisk.CorruptError{What: "directory tree", Blkno: d.blkno, Detail: "the chain of \"..\" entries does not end at the root"}
}

// lockParents write-locks one or two directories, an ancestor before its
// descendant, else the lower number first.
func (v *Volume) lockParents(ctx context.Context, a, b *Inode) (func(), error) {
	if a == b {
		if err := a.wlock(ctx); err != nil {
			return nil, err
		}
		return a.wunlock, nil
	}
	first, second, err := v.orderParents(ctx, a, b)
	if err != nil {
		return nil, err
	}
	if err := first.wlock(ctx); err != nil {
		return nil, err
	}
	if err := second.wlock(ctx); err != nil {
		first.wunlock()
		return nil, err
	}
	return func() { second.wunlock(); first.wunlock() }, nil
}

// errAncestor ends a walk that found what it looked for.
var errAncestor = errors.New("ancestor")

func (v *Volume) orderParents(ctx context.Context, a, b *Inode) (first, second *Inode, err error) {
	above := func(x, y *Inode) (bool, error) { // x above y?
		err := v.walkUp(ctx, y, func(ino uint64) error {
			if ino == x.blkno {
				return errAncestor
			}
			return nil
		})
		if errors.Is(err, errAncestor) {
			return true, nil
		}
		return false, err
	}
	if up, err := above(a, b); err != nil || up {
		return a, b, err
	}
	if up, err := above(b, a); err != nil || up {
		return b, a, err
	}
	if a.blkno < b.blkno {
		return a, b, nil
	}
	return b, a, nil
}

// find looks both names up and locks their inodes: a directory before what is
// in it cannot apply to siblings, so the lower number first.
func (r *rename) find(ctx context.Context, flags uint32) error {
	for _, d := range []*Inode{r.od, r.nd} {
		if err := d.checkDir(); err != nil {
			return err
		}
	}
	if r.nd.attr.Links == 0 {
		return ErrNotFound
	}
	oe, err := r.od.lookup(r.oname)
	if err != nil {
		return err
	}
	ne, err := r.nd.lookup(r.nname)
	free := errors.Is(err, dir.ErrNotFound)
	switch {
	case err != nil && !free:
		return err
	case free && flags&RenameExchange != 0:
		return ErrNotFound
	case !free && flags&RenameNoReplace != 0:
		return ErrExist
	}
	if r.obj, err = r.v.iget(ctx, oe.Ino, 0); err != nil {
		return err
	}
	if !free {
		if r.target, err = r.v.iget(ctx, ne.Ino, 0); err != nil {
			r.obj.Put()
			r.obj = nil
			return err
		}
	}
	return r.lockBoth(ctx)
}

// lockBoth write-locks the object and the target in order. A target that is
// also a parent (rename d/x over d) is locked already; it cannot be empty.
func (r *rename) lockBoth(ctx context.Context) error {
	obj, target := r.obj, r.target
	if target == obj {
		return nil
	}
	for _, i := range []*Inode{obj, target} {
		if i == r.od || i == r.nd {
			r.obj, r.target = nil, nil
			obj.Put()
			if target != nil {
				target.Put()
			}
			if i == target {
				return ErrNotEmpty
			}
			return ErrLoop
		}
	}
	r.obj, r.target = nil, nil // not locked yet: release must not unlock them
	first, second := obj, target
	if second != nil && second.blkno < first.blkno {
		first, second = second, first
	}
	put := func() {
		obj.Put()
		if target != nil {
			target.Put()
		}
	}
	if err := first.wlock(ctx); err != nil {
		put()
		return err
	}
	if second != nil {
		if err := second.wlock(ctx); err != nil {
			first.wunlock()
			put()
			return err
		}
	}
	r.obj, r.target = obj, target
	return nil
}

// release unlocks and puts the inodes; the parents are the caller's.
func (r *rename) release() {
	if r.plan != nil {
		r.plan.Close()
	}
	if r.orphan != nil {
		r.orphan.close()
	}
	if r.obj == r.target {
		if r.obj != nil {
			r.obj.Put()
			r.target.Put()
		}
		return
	}
	for _, i := range []*Inode{r.target, r.obj} {
		if i != nil {
			i.wunlock()
			i.Put()
		}
	}
}

// move renames onto a free name or over a target.
func (r *rename) move(ctx context.Context) error {
	if err := r.check(); err != nil {
		return err
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	req, credits := alloc.Request{}, 2*dir.DeleteCredits+6
	if r.plan != nil {
		req.Meta += r.plan.Meta
		req.Clusters += uint32(r.plan.Clusters)
		credits += r.plan.Credits
	}
	if r.orphan != nil {
		req.Meta += r.orphan.req.Meta
		req.Clusters += r.orphan.req.Clusters
		credits += r.orphan.credits
	}
	return r.v.change(ctx, req, credits, r.apply)
}

// check applies the rules of rename(2). All four inodes are write-locked.
func (r *rename) check() error {
	obj, target := r.obj, r.target
	switch {
	case obj.attr.Flags&(attrImmutable|attrAppend) != 0:
		return ErrPerm
	case target == nil:
	case obj.attr.IsDir() && !target.attr.IsDir():
		return ErrNotDir
	default:
		if err := target.removable(obj.attr.IsDir()); err != nil {
			return err
		}
	}
	if obj.attr.IsDir() && r.od != r.nd && target == nil && r.nd.attr.Links >= r.v.geo.LinkMax() {
		return ErrTooManyLink
	}
	return nil
}

// prepare takes the dentry locks and plans what must be added.
func (r *rename) prepare(ctx context.Context) error {
	if err := r.obj.detach(ctx, r.od); err != nil {
		return err
	}
	if err := r.obj.attachNew(ctx, r.nd); err != nil {
		return err
	}
	if r.target != nil {
		if err := r.target.detach(ctx, r.nd); err != nil {
			return err
		}
		o, err := r.v.orphaning(ctx, r.target)
		if err != nil {
			return err
		}
		r.orphan = o
		return nil
	}
	b, _, err := r.nd.dinode()
	if err != nil {
		return err
	}
	defer b.Put()
	r.plan, err = r.nd.dir(b).Plan(r.nname)
	return err
}

// apply is the transaction of move.
func (r *rename) apply(tx *journal.Handle, res *alloc.Reservation) error {
	obj, target := r.obj, r.target
	isDir := obj.attr.IsDir()
	ftype := ondisk.FileTypeOfMode(obj.attr.Mode)
	if target == nil {
		if err := r.plan.Insert(tx, res, obj.blkno, ftype); err != nil {
			return err
		}
	} else {
		if err := r.nd.rewrite(tx, r.nname, obj.blkno, ftype); err != nil {
			return err
		}
		if err := target.dropLink(tx, res, r.orphan); err != nil {
			return err
		}
	}
	if err := r.od.deleteName(tx, r.oname); err != nil {
		return err
	}
	if isDir && r.od != r.nd {
		if err := obj.setDotDot(tx, r.nd.blkno); err != nil {
			return err
		}
	}
	if isDir && (r.od != r.nd || target != nil) {
		r.od.attr.Links--
		if r.od != r.nd && target == nil {
			r.nd.attr.Links++
		}
	}
	return r.touchAll(tx, obj)
}

// touchAll writes the new times of the parents and of the moved inodes.
func (r *rename) touchAll(tx *journal.Handle, moved ...*Inode) error {
	for _, i := range moved {
		c, err := i.begin(tx)
		if err != nil {
			return err
		}
		i.attr.Ctime = now()
		c.finish()
	}
	if err := r.od.touchDir(tx, false); err != nil || r.od == r.nd {
		return err
	}
	return r.nd.touchDir(tx, false)
}

// rewrite points a name at another inode.
func (d *Inode) rewrite(tx *journal.Handle, name []byte, ino uint64, ftype uint8) error {
	b, _, err := d.dinode()
	if err != nil {
		return err
	}
	defer b.Put()
	return d.dir(b).Rewrite(tx, name, ino, ftype)
}

// setDotDot changes the parent that directory i names.
func (i *Inode) setDotDot(tx *journal.Handle, parent uint64) error {
	return i.rewrite(tx, []byte(".."), parent, ondisk.FTDir)
}

// exchange swaps two names.
func (r *rename) exchange(ctx context.Context) error {
	for _, i := range []*Inode{r.obj, r.target} {
		if i.attr.Flags&(attrImmutable|attrAppend) != 0 {
			return ErrPerm
		}
	}
	for _, m := range []struct{ i, from, to *Inode }{{r.obj, r.od, r.nd}, {r.target, r.nd, r.od}} {
		if err := m.i.detach(ctx, m.from); err != nil {
			return err
		}
		if err := m.i.attachNew(ctx, m.to); err != nil {
			return err
		}
	}
	return r.v.transact(ctx, 10, func(tx *journal.Handle) error {
		obj, target := r.obj, r.target
		if err := r.nd.rewrite(tx, r.nname, obj.blkno, ondisk.FileTypeOfMode(obj.attr.Mode)); err != nil {
			return err
		}
		if err := r.od.rewrite(tx, r.oname, target.blkno, ondisk.FileTypeOfMode(target.attr.Mode)); err != nil {
			return err
		}
		if r.od != r.nd {
			for _, m := range []struct{ i, from, to *Inode }{{obj, r.od, r.nd}, {target, r.nd, r.od}} {
				if !m.i.attr.IsDir() {
					continue
				}
				if err := m.i.setDotDot(tx, m.to.blkno); err != nil {
					return err
				}
				m.from.attr.Links--
				m.to.attr.Links++
			}
		}
		return r.touchAll(tx, obj, target)
	})
}
