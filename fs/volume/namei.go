package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/dir"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
	"github.com/ocfuse/ocfuse/stackglue"
)

// ErrNotFound: no such name.
var ErrNotFound = dir.ErrNotFound

// Give is called with an inode and its attributes, or with nil for a name that
// does not exist, while the locks that cover them are still held: what the
// kernel will cache must be on record before it can be revoked. The inode's
// mutex is held, which keeps local changes of the attributes away. It must not
// block and may be nil.
type Give func(i *Inode, a *Attr)

func (g Give) call(i *Inode, a *Attr) {
	if g != nil {
		g(i, a)
	}
}

// Lookup finds name in directory d. The inode comes with a reference and a
// dentry lock that keeps the name valid here. For a name that does not exist
// give is called with nil and the error is ErrNotFound.
func (v *Volume) Lookup(ctx context.Context, d *Inode, name []byte, give Give) (*Inode, error) {
	if err := d.rlock(ctx, locking.Served); err != nil {
		return nil, err
	}
	defer d.runlock()
	e, err := d.lookup(name)
	if err != nil {
		if errors.Is(err, dir.ErrNotFound) {
			give.call(nil, nil)
		}
		return nil, err
	}
	return v.Entry(ctx, d, e.Ino, give)
}

// Entry gets an inode that a name in d refers to, with a reference, a dentry
// lock and its attributes. The caller holds d: it is Lookup, or runs inside the
// callback of ReadDir.
func (v *Volume) Entry(ctx context.Context, d *Inode, ino uint64, give Give) (*Inode, error) {
	i, err := v.igetIn(ctx, ino, igetServed, d)
	if err != nil {
		return nil, err
	}
	err = i.attach(ctx, d, locking.Served)
	if err == nil {
		err = v.GetAttr(ctx, i, give)
	}
	if err != nil {
		i.Put()
		return nil, err
	}
	return i, nil
}

// lookup finds a name; d is locked.
func (d *Inode) lookup(name []byte) (dir.Entry, error) {
	if err := d.checkDir(); err != nil {
		return dir.Entry{}, err
	}
	b, _, err := d.dinode()
	if err != nil {
		return dir.Entry{}, err
	}
	defer b.Put()
	return d.dir(b).Lookup(name)
}

// Parent returns the directory that ".." of d names, with a reference.
func (v *Volume) Parent(ctx context.Context, d *Inode) (*Inode, error) {
	if err := d.rlock(ctx, locking.Served); err != nil {
		return nil, err
	}
	e, err := d.lookup([]byte(".."))
	d.runlock()
	if err != nil {
		return nil, err
	}
	return v.iget(ctx, e.Ino, igetServed)
}

// GetAttr gives the current attributes.
func (v *Volume) GetAttr(ctx context.Context, i *Inode, give Give) error {
	if err := i.rlock(ctx, locking.Served); err != nil {
		return err
	}
	give.call(i, &i.attr)
	i.runlock()
	return nil
}

// DirEntry is one name of a listing.
type DirEntry struct {
	Name []byte // valid during the callback only
	Ino  uint64
	Type uint8  // ondisk.FT*
	Next uint64 // position behind it
}

// ReadDir calls fn for the names of d from position pos on until it returns
// false. Directory d is locked meanwhile.
func (v *Volume) ReadDir(ctx context.Context, d *Inode, pos uint64, fn func(DirEntry) bool) error {
	return d.listing(ctx, func(l dir.Dir) error { return each(l, pos, fn) })
}

// listing runs fn with the content of a directory, locked for a request that the
// kernel waits for.
func (d *Inode) listing(ctx context.Context, fn func(dir.Dir) error) error {
	if err := d.rlock(ctx, locking.Served); err != nil {
		return err
	}
	defer d.runlock()
	if err := d.checkDir(); err != nil {
		return err
	}
	b, _, err := d.dinode()
	if err != nil {
		return err
	}
	defer b.Put()
	return fn(d.dir(b))
}

// each calls fn for the names from position pos on until it returns false.
func each(l dir.Dir, pos uint64, fn func(DirEntry) bool) error {
	return l.Each(pos, func(name []byte, e dir.Entry, next uint64) bool {
		return fn(DirEntry{name, e.Ino, e.Type, next})
	})
}

// NewInode says what to create.
type NewInode struct {
	Mode     uint16 // type and permission bits, umask applied
	UID, GID uint32
	Rdev     uint64 // ondisk.EncodeRdev, for device nodes
	Target   []byte // symlink
}

// maxSymlink is the longest symlink target (PATH_MAX - 1).
const maxSymlink = 4095

// Create makes a file, directory, symlink or special file called name in d.
// The inode comes with a reference.
func (v *Volume) Create(ctx context.Context, d *Inode, name []byte, n NewInode, give Give) (*Inode, error) {
	if err := v.writable(); err != nil {
		return nil, err
	}
	if len(n.Target) > maxSymlink {
		return nil, fmt.Errorf("symlink target of %d bytes: %w", len(n.Target), dir.ErrNameTooLong)
	}
	if err := d.wlock(ctx); err != nil {
		return nil, err
	}
	defer d.wunlock()
	plan, err := d.planNew(name)
	if err != nil {
		return nil, err
	}
	defer plan.Close()
	inheritGroup(&d.attr, &n)
	isDir := n.Mode&ondisk.ModeTypeMask == ondisk.ModeDir
	if isDir && d.attr.Links >= v.geo.LinkMax() {
		return nil, ErrTooManyLink
	}
	req := v.newRequest(n)
	req.Meta += plan.Meta
	req.Clusters += uint32(plan.Clusters)
	var i *Inode
	err = v.change(ctx, req, plan.Credits+createCredits, func(tx *journal.Handle, res *alloc.Reservation) error {
		var err error
		if i, err = v.makeInode(tx, res, d, d, n, 0); err != nil {
			return err
		}
		if err := plan.Insert(tx, res, i.blkno, ondisk.FileTypeOfMode(n.Mode)); err != nil {
			return err
		}
		return d.touchDir(tx, isDir)
	})
	if err != nil {
		return nil, err
	}
	return v.publish(i, give)
}

// createCredits: new dinode, its first blocks, the directory's dinode.
const createCredits = 4

// planNew checks that name can be added to d and plans it. d is write-locked.
func (d *Inode) planNew(name []byte) (*dir.Plan, error) {
	if err := d.checkDir(); err != nil {
		return nil, err
	}
	if d.attr.Links == 0 {
		return nil, ErrNotFound // the directory itself was removed
	}
	b, _, err := d.dinode()
	if err != nil {
		return nil, err
	}
	defer b.Put()
	dd := d.dir(b)
	if _, err := dd.Lookup(name); err == nil {
		return nil, ErrExist
	} else if !errors.Is(err, dir.ErrNotFound) {
		return nil, err
	}
	return dd.Plan(name)
}

// inheritGroup applies the set-group-id bit of the parent.
func inheritGroup(parent *Attr, n *NewInode) {
	const setgid = 0o2000
	if parent.Mode&setgid == 0 {
		return
	}
	n.GID = parent.GID
	if n.Mode&ondisk.ModeTypeMask == ondisk.ModeDir {
		n.Mode |= setgid
	}
}

// newRequest is what the new inode itself needs.
func (v *Volume) newRequest(n NewInode) alloc.Request {
	req := alloc.Request{Inodes: 1}
	switch n.Mode & ondisk.ModeTypeMask {
	case ondisk.ModeDir:
		meta, clusters, _ := dir.NewNeeds(v.geo)
		req.Meta, req.Clusters = meta, uint32(clusters)
	case ondisk.ModeSymlink:
		if len(n.Target) > v.geo.FastSymlinkMax() {
			req.Clusters = 1
		}
	}
	return req
}

// makeInode creates the inode in a transaction (Linux fs/ocfs2/namei.c,
// __ocfs2_mknod_locked). flags are added to VALID. where is the directory that
// will list it, d or the orphan directory, write-locked. The inode is not yet
// in the table: nobody else can know it before where is unlocked.
func (v *Volume) makeInode(tx *journal.Handle, res *alloc.Reservation, d, where *Inode, n NewInode, flags uint32) (*Inode, error) {
	bit, err := res.ClaimInode(tx)
	if err != nil {
		return nil, err
	}
	i := v.newInode(bit.Blkno, false)
	i.gen, i.typ = v.nextGeneration(), n.Mode&ondisk.ModeTypeMask
	if err := v.hide(i, where, int(bit.Slot)); err != nil {
		return nil, err
	}
	b := i.meta.New(bit.Blkno)
	if err := tx.Write(&b.Block); err != nil {
		b.Put()
		return nil, err
	}
	di := ondisk.Dinode(b.Data)
	di.Init(bit.Blkno, v.geo.FSGeneration)
	di.SetGeneration(i.gen)
	di.SetSuballocSlot(bit.Slot)
	di.SetSuballocBit(bit.Bit)
	di.SetSuballocLoc(bit.Loc)
	di.SetFlags(ondisk.InodeValid | flags)
	if flags&ondisk.InodeOrphaned != 0 {
		di.SetOrphanedSlot(uint16(v.slot))
	}
	t := now()
	i.attr = Attr{Mode: n.Mode, UID: n.UID, GID: n.GID, Links: 1, Atime: t, Mtime: t, Ctime: t, Generation: i.gen, Rdev: n.Rdev}
	if i.attr.IsDir() {
		i.attr.Links = 2
	}
	if flags&ondisk.InodeOrphaned != 0 {
		i.attr.Links = 0
	}
	c := change{i, b, di}
	if err := i.initContent(tx, res, c, d, n); err != nil {
		b.Put()
		return nil, err
	}
	c.finish()
	return i, nil
}

// initContent fills the part of a new dinode that depends on its type.
func (i *Inode) initContent(tx *journal.Handle, res *alloc.Reservation, c change, d *Inode, n NewInode) error {
	switch n.Mode & ondisk.ModeTypeMask {
	case ondisk.ModeDir:
		return dir.InitNew(tx, res, &i.meta, c.b, d.blkno)
	case ondisk.ModeSymlink:
		return i.initSymlink(tx, res, c, n.Target)
	case ondisk.ModeChar, ondisk.ModeBlock:
		c.di.SetRdev(n.Rdev)
	}
	l := c.di.Extents()
	l.SetCount(uint16(l.Space()))
	return nil
}

// initSymlink stores the target: in the dinode if it fits with a NUL, else in
// one cluster of data.
func (i *Inode) initSymlink(tx *journal.Handle, res *alloc.Reservation, c change, target []byte) error {
	i.attr.Size = uint64(len(target))
	if len(target) <= i.v.geo.FastSymlinkMax() {
		copy(c.di.ID2(), target)
		return nil
	}
	l := c.di.Extents()
	l.SetCount(uint16(l.Space()))
	blkno, n, err := res.ClaimClusters(tx, 1, 0)
	if err != nil {
		return err
	}
	data := make([]byte, i.v.geo.ClusterSize)
	copy(data, target)
	if err := i.v.writeData(data, blkno); err != nil {
		return err
	}
	t := i.tree(c.b)
	return t.Insert(tx, res, extent.Run{Clusters: n, Blkno: blkno})
}

// touchDir updates a directory after a name was added or removed; subdir: a
// subdirectory was added.
func (d *Inode) touchDir(tx *journal.Handle, subdir bool) error {
	c, err := d.begin(tx)
	if err != nil {
		return err
	}
	d.attr.Mtime = now()
	d.attr.Ctime = d.attr.Mtime
	if subdir {
		d.attr.Links++
	}
	c.finish()
	return nil
}

// publish enters an inode just created into the table. Its directory is still
// locked, so no other node has heard of it.
func (v *Volume) publish(i *Inode, give Give) (*Inode, error) {
	if err := v.adopt(i); err != nil {
		return nil, err
	}
	i.mu.RLock()
	give.call(i, &i.attr)
	i.mu.RUnlock()
	return i, nil
}

// hide makes RW EX, META EX, OPEN PR and the dentry lock of a new inode on this
// node only (Linux requests them: ocfs2_create_new_inode_locks). Its number
// can be found in the directory where, and by a kernel node that decodes a file
// handle of an earlier user of the number: that one asks the inode allocator of
// the slot first (ocfs2_test_inode_bit). Both are locked EX.
func (v *Volume) hide(i, where *Inode, slot int) error {
	ai, err := v.sysInode(ondisk.SysInodeAlloc, slot)
	if err != nil {
		return err
	}
	i.makeRWLock()
	reqs := [4]locking.Request{{R: i.rwLock, Level: stackglue.EX}, {R: i.metaLock, Level: stackglue.EX}, {R: i.openLock, Level: stackglue.PR}}
	n := 3
	if !v.local && (!where.system || where.isRoot()) {
		reqs[n] = locking.Request{R: i.dentry(where.blkno).res, Level: stackglue.PR}
		n++
	}
	i.fresh = v.locks.Hide([]*locking.Resource{where.metaLock, ai.metaLock}, reqs[:n]...)
	if i.fresh == nil {
		return fmt.Errorf("new inode %d: its directory or its allocator is not locked", i.blkno)
	}
	return nil
}

// Done is called when an operation has its result, before the lock that covers
// it is released. It must not block and may be nil.
type Done func()

func (d Done) call() {
	if d != nil {
		d()
	}
}

// Readlink returns a symlink's target.
func (v *Volume) Readlink(ctx context.Context, i *Inode, done Done) ([]byte, error) {
	if err := i.rlock(ctx, locking.Served); err != nil {
		return nil, err
	}
	defer i.runlock()
	defer done.call()
	if !i.attr.IsSymlink() {
		return nil, ErrInvalid
	}
	b, di, err := i.dinode()
	if err != nil {
		return nil, err
	}
	defer b.Put()
	if di.IsFastSymlink() {
		return append([]byte(nil), di.FastSymlink()...), nil
	}
	if i.attr.Size > maxSymlink {
		return nil, &ondisk.CorruptError{What: "symlink", Blkno: i.blkno, Detail: fmt.Sprintf("target of %d bytes", i.attr.Size)}
	}
	p := make([]byte, i.attr.Size)
	_, err = i.readData(p, 0)
	return p, err
}

// Link adds the name newName in d for inode i.
func (v *Volume) Link(ctx context.Context, i, d *Inode, newName []byte, give Give) error {
	if err := v.writable(); err != nil {
		return err
	}
	if err := d.wlock(ctx); err != nil {
		return err
	}
	defer d.wunlock()
	plan, err := d.planNew(newName)
	if err != nil {
		return err
	}
	defer plan.Close()
	if err := i.wlock(ctx); err != nil {
		return err
	}
	defer i.wunlock()
	switch {
	case i.attr.IsDir():
		return ErrPerm
	case i.attr.Links == 0 && !i.tmpfile():
		return ErrNotFound
	case i.attr.Links >= v.geo.LinkMax():
		return ErrTooManyLink
	}
	if err := i.attachNew(ctx, d); err != nil {
		return err
	}
	if i.attr.Links == 0 {
		err := v.linkOrphan(ctx, i, d, plan)
		if err == nil {
			give.call(i, &i.attr)
		}
		return err
	}
	req := alloc.Request{Meta: plan.Meta, Clusters: uint32(plan.Clusters)}
	err = v.change(ctx, req, plan.Credits+2, func(tx *journal.Handle, res *alloc.Reservation) error {
		c, err := i.begin(tx)
		if err != nil {
			return err
		}
		i.attr.Links++
		i.attr.Ctime = now()
		c.finish()
		if err := plan.Insert(tx, res, i.blkno, ondisk.FileTypeOfMode(i.attr.Mode)); err != nil {
			return err
		}
		return d.touchDir(tx, false)
	})
	if err == nil {
		give.call(i, &i.attr)
	}
	return err
}
