package check

import (
	"bytes"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// dirInfo is a directory found in pass 1.
type dirInfo struct {
	ino    uint64
	size   uint64
	inline bool
	dyn    uint16
	runs   []run // data blocks in order
	index  *dxTree
	dotdot uint64 // inode of "..", from pass 2
	orphan int    // slot whose orphan directory this is, -1
}

// freeSlot is what a trailer says about a block's free space.
type freeSlot struct {
	recLen uint16
	next   uint64
}

// dirScan is the state of one directory in pass 2.
type dirScan struct {
	dir   *dirInfo
	rec   *inodeRec
	names map[string]struct{}
	n     int // entries seen, free ones included
	index *dxLookup
	free  map[uint64]freeSlot // by block; directories with trailers
}

// addDir records a directory for the later passes and claims its index.
func (c *checker) addDir(d ondisk.Dinode, runs []run) {
	dir := &dirInfo{
		ino: d.Blkno(), size: d.Size(), inline: d.HasDyn(ondisk.DynInlineData), dyn: d.DynFeatures(), runs: runs,
		orphan: c.slotOf(ondisk.SysOrphanDir, d.Blkno()),
	}
	c.dirs = append(c.dirs, dir)
	c.rep.Summary.Directories++
	switch indexed := d.HasDyn(ondisk.DynIndexedDir); {
	case indexed:
		dir.index = c.dxTree(d)
	case !dir.inline && c.g.HasIndexedDirs():
		c.problemIn("2", DxTreeMissing, dir.ino, "Directory %d is missing index", dir.ino)
	}
}

// problemIn is problem for another pass than the current one.
func (c *checker) problemIn(pass, code string, blkno uint64, format string, args ...any) {
	old := c.pass
	c.pass = pass
	c.problem(code, blkno, format, args...)
	c.pass = old
}

// pass2 reads every directory entry.
func (c *checker) pass2() {
	for i, dir := range c.dirs {
		if c.cancelled() {
			return
		}
		c.scanDir(dir)
		c.progress(uint64(i+1), uint64(len(c.dirs)))
	}
}

func (c *checker) scanDir(dir *dirInfo) {
	s := &dirScan{dir: dir, rec: c.inodes.find(dir.ino), names: map[string]struct{}{}}
	if s.rec == nil {
		return // an inode block seen twice
	}
	if dir.index != nil {
		s.index = c.loadIndex(dir)
	}
	if dir.inline {
		b, ok := c.block(dir.ino)
		if !ok {
			return
		}
		c.dropBadArea(b) // reported in pass 1
		data := ondisk.Dinode(b).Inline().Data()
		if uint64(len(data)) > dir.size {
			data = data[:dir.size]
		}
		c.scanArea(s, data, dir.ino)
	} else {
		c.scanDirBlocks(s)
	}
	if s.n < 2 {
		c.problem(DirentNotDotty, dir.ino, `Directory %d has no "." and ".."`, dir.ino)
	}
	if s.index != nil {
		c.finishIndex(s)
	}
}

func (c *checker) scanDirBlocks(s *dirScan) {
	dir := s.dir
	trailer := c.g.DirTrailers(dir.dyn)
	if trailer {
		s.free = map[uint64]freeSlot{}
	}
	left := c.g.BlocksForBytes(dir.size)
	for _, r := range dir.runs {
		for i := uint64(0); i < r.n && left > 0; i, left = i+1, left-1 {
			blkno := r.start + i
			b, ok := c.block(blkno)
			if !ok {
				continue
			}
			if trailer {
				c.trailer(s, ondisk.DirBlock(b), blkno)
			}
			c.scanArea(s, ondisk.DirBlock(b).Area(trailer), blkno)
		}
	}
}

// trailer checks the trailer of a directory block.
func (c *checker) trailer(s *dirScan, b ondisk.DirBlock, blkno uint64) {
	t, ino := b.Trailer(), s.dir.ino
	c.ecc("directory block", blkno, b, ondisk.CheckOffTail(c.g.BlockSize))
	if t.CompatInode() != 0 {
		c.problem(DirTrailerInode, blkno, "Trailer of block %d of directory %d has inode %d, want 0", blkno, ino, t.CompatInode())
	}
	if t.CompatNameLen() != 0 || !t.HasSignature() {
		c.problem(DirTrailerNameLen, blkno, "Trailer of block %d of directory %d has no signature, or name length %d", blkno, ino, t.CompatNameLen())
	}
	if t.CompatRecLen() != ondisk.DirTrailerSize {
		c.problem(DirTrailerRecLen, blkno, "Trailer of block %d of directory %d has record length %d", blkno, ino, t.CompatRecLen())
	}
	if t.Blkno() != blkno {
		c.problem(DirTrailerBlkno, blkno, "Trailer of block %d of directory %d says block %d", blkno, ino, t.Blkno())
	}
	if t.ParentDinode() != ino {
		c.problem(DirTrailerParent, blkno, "Trailer of block %d of directory %d says directory %d", blkno, ino, t.ParentDinode())
	}
	s.free[blkno] = freeSlot{t.FreeRecLen(), t.FreeNext()}
	if s.index == nil {
		if t.FreeRecLen() != 0 || t.FreeNext() != 0 {
			c.problem(DxFreeList, blkno, "Block %d of directory %d, which has no index, says %d bytes free, next %d", blkno, ino, t.FreeRecLen(), t.FreeNext())
		}
		return
	}
	switch hole, err := ondisk.LargestHole(b.Area(true)); {
	case err != nil: // reported with the entries
	case int(t.FreeRecLen()) > hole:
		c.problem(DxFreeLen, blkno, "Block %d of directory %d says its largest hole is %d, it is %d", blkno, ino, t.FreeRecLen(), hole)
	case int(t.FreeRecLen()) < hole:
		c.rep.Summary.UnderFree++ // wastes space only; Linux does it to new directories
	}
}

// scanArea looks at the entries of a block or of inline data.
func (c *checker) scanArea(s *dirScan, area []byte, blkno uint64) {
	it := ondisk.DirEntries(area)
	for it.Next() {
		e := it.Entry()
		n := s.n
		s.n++
		if n < 2 {
			c.dotEntry(s, e, n, blkno)
			continue
		}
		if e.Inode() != 0 {
			c.entry(s, e, blkno)
		}
	}
	if err := it.Err(); err != nil {
		c.problem(DirentLength, blkno, "Block %d of directory %d: %v", blkno, s.dir.ino, err)
	}
}

// dotEntry checks the first two entries.
func (c *checker) dotEntry(s *dirScan, e ondisk.DirEntry, n int, blkno uint64) {
	want := [2]string{".", ".."}[n]
	ino := s.dir.ino
	if e.Inode() == 0 || string(e.Name()) != want {
		c.problem(DirentNotDotty, blkno, "Entry %d of directory %d is %q of inode %d, want %q", n, ino, e.Name(), e.Inode(), want)
		if e.Inode() != 0 {
			c.entry(s, e, blkno)
		}
		return
	}
	c.rep.Summary.Names++
	c.lookUp(s, e.Name(), blkno)
	if e.FileType() != ondisk.FTDir {
		c.problem(DirentType, blkno, "Entry %q of directory %d has type %d", want, ino, e.FileType())
	}
	if n == 1 {
		s.dir.dotdot = e.Inode()
		return
	}
	if e.Inode() != ino {
		c.problem(DirentDotInode, blkno, `"." of directory %d points to inode %d`, ino, e.Inode())
	}
	if e.RecLen() != ondisk.DotRecLen {
		c.problem(DirentDotExcess, blkno, `"." of directory %d has record length %d`, ino, e.RecLen())
	}
}

// entry checks a used entry behind the first two.
func (c *checker) entry(s *dirScan, e ondisk.DirEntry, blkno uint64) {
	name, ino := e.Name(), s.dir.ino
	c.rep.Summary.Names++
	switch {
	case len(name) == 0:
		c.problem(DirentZero, blkno, "Directory %d has an entry without name for inode %d", ino, e.Inode())
		return
	case string(name) == "." || string(name) == "..":
		c.problem(DirentDottyDup, blkno, "Directory %d has a second %q", ino, name)
		return
	case bytes.IndexByte(name, '/') >= 0 || bytes.IndexByte(name, 0) >= 0:
		c.problem(DirentNameChars, blkno, "Directory %d has a name with invalid characters: %q", ino, name)
	}
	if _, dup := s.names[string(name)]; dup {
		c.problem(DirentDuplicate, blkno, "Directory %d has the name %q twice", ino, name)
	}
	s.names[string(name)] = struct{}{}
	c.lookUp(s, name, blkno)
	if !c.g.ValidBlock(e.Inode()) {
		c.problem(DirentInodeRange, blkno, "Entry %q of directory %d points to inode %d, out of the volume", name, ino, e.Inode())
		return
	}
	child := c.inodes.find(e.Inode())
	if child == nil {
		c.problem(DirentInodeFree, blkno, "Entry %q of directory %d points to inode %d, which is not in use", name, ino, e.Inode())
		return
	}
	if e.FileType() != child.ftype {
		c.problem(DirentType, blkno, "Entry %q of directory %d has type %d, inode %d is of type %d", name, ino, e.FileType(), child.blkno, child.ftype)
	}
	c.named(s, child, string(name), blkno)
}

// named counts a name of an inode.
func (c *checker) named(s *dirScan, child *inodeRec, name string, blkno uint64) {
	dio := false
	if s.dir.orphan >= 0 {
		dio = c.orphanEntry(s, child, name, blkno)
	} else {
		child.names++
	}
	if child.ftype != ondisk.FTDir || dio {
		return
	}
	s.rec.subs++
	if child.parent != 0 {
		c.problem(DirParentDup, blkno, "Directory %d is named in directory %d and, as %q, in %d", child.blkno, child.parent, name, s.dir.ino)
		return
	}
	child.parent = s.dir.ino
}

// orphanEntry checks an entry of an orphan directory; true if the inode is only
// in the middle of an appending direct write.
func (c *checker) orphanEntry(s *dirScan, child *inodeRec, name string, blkno uint64) bool {
	c.rep.Summary.Orphans++
	bad := func(what string) {
		c.problem(OrphanEntry, blkno, "Entry %q of orphan directory %d (slot %d) for inode %d: %s", name, s.dir.ino, s.dir.orphan, child.blkno, what)
	}
	if name == ondisk.DioOrphanPrefix+ondisk.OrphanName(child.blkno) {
		child.attr |= attrInDioOrphanDir
		if child.attr&attrDioOrphaned == 0 || int(child.slot) != s.dir.orphan {
			bad("the inode is not flagged so, or for another slot")
		}
		return true
	}
	if name != ondisk.OrphanName(child.blkno) {
		bad("the name is not that of the inode")
	}
	if child.attr&attrInOrphanDir != 0 {
		bad("the inode is in two orphan directories")
	}
	child.attr |= attrInOrphanDir
	if child.attr&attrOrphaned == 0 || int(child.slot) != s.dir.orphan {
		bad("the inode is not flagged as orphan, or for another slot")
	}
	return false
}
