package check

import (
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// pass3 checks that every directory is reachable and its ".." is right.
func (c *checker) pass3() {
	c.lostFound()
	for _, dir := range c.dirs {
		rec := c.inodes.find(dir.ino)
		if rec == nil {
			continue
		}
		want := rec.parent
		if c.isTop(dir.ino) {
			want = dir.ino
		}
		if rec.attr&attrInOrphanDir != 0 {
			continue // ".." of an orphan is stale by design
		}
		if !c.connected(rec) {
			c.problem(DirNotConnected, dir.ino, "Directory %d is not connected to the root directory", dir.ino)
			continue
		}
		if dir.dotdot != 0 && dir.dotdot != want {
			c.problem(DirDotDot, dir.ino, `".." of directory %d points to inode %d, its parent is %d`, dir.ino, dir.dotdot, want)
		}
	}
}

// isTop reports the two directories that have no parent.
func (c *checker) isTop(ino uint64) bool { return ino == c.g.RootBlkno || ino == c.g.SystemDirBlkno }

// lostFound demands /lost+found.
func (c *checker) lostFound() {
	b, ok := c.block(c.g.RootBlkno)
	if !ok {
		return
	}
	var found uint64
	// A damaged root directory was reported in pass 2.
	_ = c.eachName(ondisk.Dinode(b), func(name string, ino uint64) {
		if name == "lost+found" {
			found = ino
		}
	})
	if r := c.inodes.find(found); r == nil || r.ftype != ondisk.FTDir {
		c.problem(LostFoundMissing, c.g.RootBlkno, "Directory /lost+found is missing")
	}
}

// connected follows the parents of a directory up to a top directory.
func (c *checker) connected(rec *inodeRec) bool {
	var path []*inodeRec
	ok := false
	for r := rec; r != nil && r.attr&attrVisiting == 0; r = c.inodes.find(r.parent) {
		if r.attr&attrConnected != 0 || c.isTop(r.blkno) {
			ok = true
			break
		}
		r.attr |= attrVisiting
		path = append(path, r)
	}
	for _, r := range path {
		r.attr &^= attrVisiting
		if ok {
			r.attr |= attrConnected
		}
	}
	return ok
}

// pass4 checks orphans and link counts.
func (c *checker) pass4() {
	for i := range c.inodes {
		r := &c.inodes[i]
		if i%4096 == 0 {
			c.progress(uint64(i), uint64(len(c.inodes)))
		}
		c.orphanFlags(r)
		inOrphans := r.attr&attrInOrphanDir != 0
		if r.names == 0 && !inOrphans && !c.isTop(r.blkno) {
			c.problem(InodeNotConnected, r.blkno, "Inode %d is in use but has no name", r.blkno)
			continue
		}
		want := r.names
		if r.ftype == ondisk.FTDir {
			want = 2 + r.subs
			if inOrphans {
				want = 0
			}
		}
		if r.links != want {
			c.problem(InodeCount, r.blkno, "Inode %d has link count %d, want %d", r.blkno, r.links, want)
		}
	}
	if n := c.rep.Summary.Orphans; n > 0 {
		c.note("%d entries in orphan directories", n)
	}
}

func (c *checker) orphanFlags(r *inodeRec) {
	if r.attr&attrOrphaned != 0 && r.attr&attrInOrphanDir == 0 {
		c.problem(OrphanFlag, r.blkno, "Inode %d is flagged as orphan of slot %d, but is not in its orphan directory", r.blkno, r.slot)
	}
	if r.attr&attrDioOrphaned != 0 && r.attr&attrInDioOrphanDir == 0 {
		c.problem(OrphanFlag, r.blkno, "Inode %d is flagged for an appending direct write of slot %d, but is not in its orphan directory", r.blkno, r.slot)
	}
}
