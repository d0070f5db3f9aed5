package check

import (
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// scanChunk is how much of an inode group is read at once, in bytes.
const scanChunk = 256 << 10

// pass1 looks at every block of every inode group, then at what all inodes
// together claim.
func (c *checker) pass1() {
	var total, done uint64
	for _, a := range c.allocs {
		if a.kind == allocInodes {
			total += uint64(len(a.groups))
		}
	}
	buf := make([]byte, max(scanChunk, c.g.BlockSize))
	for _, a := range c.allocs {
		if a.kind != allocInodes {
			continue
		}
		for _, g := range a.groups {
			for _, r := range g.runs {
				if c.cancelled() {
					return
				}
				c.scanRun(g, r, buf)
			}
			done++
			c.progress(done, total)
		}
	}
	c.inodes.sort()
	if r := c.inodes.find(c.g.RootBlkno); r == nil {
		c.problem(RootDirMissing, c.g.RootBlkno, "Root directory inode %d is missing", c.g.RootBlkno)
	} else if r.ftype != ondisk.FTDir {
		c.problem(RootNotDir, c.g.RootBlkno, "Root inode %d is not a directory", c.g.RootBlkno)
	}
	c.checkRefTrees()
	c.compareMeta()
	c.compareClusters()
	c.compareJournals()
}

// scanRun looks at the blocks of one run of an inode group.
func (c *checker) scanRun(g *group, r groupRun, buf []byte) {
	per := uint64(len(buf) >> c.g.BlockBits)
	for off := uint64(0); off < r.n; off += per {
		n := min(per, r.n-off)
		chunk := buf[:n<<c.g.BlockBits]
		if err := c.read(r.start+off, chunk); err != nil {
			c.problem(ReadError, r.start+off, "Blocks %d..%d of inode group %d can not be read: %v", r.start+off, r.start+off+n-1, g.blkno, err)
			continue
		}
		for i := range n {
			b := chunk[i<<c.g.BlockBits : (i+1)<<c.g.BlockBits]
			c.scanInode(g, r.start+off+i, r.bit+int(off+i), b)
		}
	}
}

// scanInode decides whether a block of an inode group is an inode in use, and
// whether the bitmap agrees.
func (c *checker) scanInode(g *group, blkno uint64, bit int, b []byte) {
	if bit == 0 {
		return // the group descriptor
	}
	d := ondisk.Dinode(b)
	valid := ondisk.HasSignature(b, ondisk.SigDinode) && d.FSGeneration() == c.g.FSGeneration && d.HasFlag(ondisk.InodeValid)
	set := testBit(g.bitmap, bit)
	if valid != set {
		if ondisk.HasSignature(b, ondisk.SigDinode) && d.FSGeneration() != c.g.FSGeneration && d.Blkno() == blkno && set {
			c.problem(InodeGen, blkno, "Inode %d has volume generation %#x, want %#x", blkno, d.FSGeneration(), c.g.FSGeneration)
		}
		c.problem(InodeAllocRepair, blkno, "Inode allocator %s: bit %d of group %d is %v, but block %d holds a valid inode: %v",
			g.a.name, bit, g.blkno, set, blkno, valid)
	}
	if !valid {
		return
	}
	c.ecc("inode", blkno, b, ondisk.CheckOffDinode)
	if d.SuballocSlot() != g.a.slot {
		c.problem(InodeSuballoc, blkno, "Inode %d says it is of slot %d, it is in %s", blkno, d.SuballocSlot(), g.a.name)
	}
	if int(d.SuballocBit()) != bit || !g.locOK(d.SuballocLoc()) {
		c.problem(InodeSuballocBit, blkno, "Inode %d says bit %d of group %d, it is bit %d of group %d", blkno, d.SuballocBit(), d.SuballocLoc(), bit, g.blkno)
	}
	if d.Blkno() != blkno {
		c.problem(InodeBlkno, blkno, "Inode at block %d says it is at %d", blkno, d.Blkno())
		return // a misplaced copy: what it points to belongs to another
	}
	c.inode(d)
}

// inode checks a valid inode and claims what it uses.
func (c *checker) inode(d ondisk.Dinode) {
	ino := d.Blkno()
	if d.Dtime() != 0 {
		c.problem(InodeNZDtime, ino, "Inode %d is in use but has deletion time %d", ino, d.Dtime())
	}
	rec := inodeRec{blkno: ino, links: d.Links(), ftype: ondisk.FileTypeOfMode(d.Mode()), slot: uint8(d.OrphanedSlot())}
	if d.HasFlag(ondisk.InodeSystem) {
		rec.attr |= attrSystem
	}
	if d.HasFlag(ondisk.InodeOrphaned) {
		rec.attr |= attrOrphaned
	}
	if d.HasFlag(ondisk.InodeDioOrphaned) {
		rec.attr |= attrDioOrphaned
		rec.slot = uint8(d.DioOrphanedSlot())
	}
	c.inodes = append(c.inodes, rec)
	c.rep.Summary.Inodes++
	ref := c.refcountLoc(d)
	if size, bad := c.dropBadArea(d); bad {
		c.problem(XattrCountInvalid, ino, "Inode %d has an inline attribute area of %d bytes", ino, size)
	}
	c.inodeXattrs(d, ref)
	switch {
	case d.HasFlag(ondisk.InodeSuperBlock) || d.HasFlag(ondisk.InodeChain):
		// Chains were pass 0; the superblock is in no group.
	case d.HasFlag(ondisk.InodeLocalAlloc):
		c.localAlloc(d)
	case d.HasFlag(ondisk.InodeDealloc):
		c.truncLog(d)
	case d.HasDyn(ondisk.DynInlineData):
		c.inlineData(d)
	case d.IsFastSymlink():
		c.fastSymlink(d)
	default:
		c.extentInode(d, ref)
	}
}

// refcountLoc checks flag and location of a refcount tree and registers the
// inode with it; nil without.
func (c *checker) refcountLoc(d ondisk.Dinode) *refTree {
	has, loc := d.HasDyn(ondisk.DynHasRefcount), d.RefcountLoc()
	switch {
	case !has && loc == 0:
		return nil
	case !has:
		c.problem(RefcountLocInvalid, d.Blkno(), "Inode %d has refcount tree %d but no refcount flag", d.Blkno(), loc)
		return nil
	case !c.g.HasRefcount() || !d.IsRegular():
		c.problem(RefcountFlagInvalid, d.Blkno(), "Inode %d has the refcount flag, but it or the volume can not share clusters", d.Blkno())
		return nil
	case !c.g.ValidBlock(loc):
		c.problem(RefcountRootInvalid, d.Blkno(), "Inode %d has its refcount tree at block %d, out of the volume", d.Blkno(), loc)
		return nil
	}
	t := c.trees[loc]
	if t == nil {
		t = &refTree{root: loc}
		c.trees[loc] = t
	}
	t.inodes = append(t.inodes, d.Blkno())
	return t
}

// inlineData checks an inode with inline data.
func (c *checker) inlineData(d ondisk.Dinode) {
	ino := d.Blkno()
	if !c.g.HasInlineData() {
		c.problem(InlineDataFlagInvalid, ino, "Inode %d has inline data, the volume has no such feature", ino)
	}
	want := c.g.InlineCount() - d.XattrAreaSize()
	if got := int(d.Inline().Count()); got != want {
		c.problem(InlineDataCount, ino, "Inode %d has inline capacity %d, want %d", ino, got, want)
	}
	if d.Size() > uint64(max(want, 0)) {
		c.problem(InodeInlineSize, ino, "Inode %d has %d bytes of inline data, room for %d", ino, d.Size(), want)
	}
	if d.Clusters() != 0 {
		c.problem(InodeInlineClusters, ino, "Inode %d has inline data and %d clusters", ino, d.Clusters())
	}
	if d.IsDir() {
		c.addDir(d, nil)
		return
	}
	data := d.Inline().Data()
	for i := min(d.Size(), uint64(len(data))); i < uint64(len(data)); i++ {
		if data[i] != 0 {
			c.problem(InlineTail, ino, "Inode %d: byte %d of its inline data, behind its size %d, is not zero", ino, i, d.Size())
			return
		}
	}
}

// fastSymlink checks a link whose text is in the inode.
func (c *checker) fastSymlink(d ondisk.Dinode) {
	ino, area := d.Blkno(), d.ID2()
	n := 0
	for n < len(area) && area[n] != 0 {
		n++
	}
	if n == len(area) {
		c.problem(LinkNullTerm, ino, "Link text of inode %d is not terminated", ino)
		return
	}
	if uint64(n) != d.Size() {
		c.problem(LinkSize, ino, "Link text of inode %d has %d bytes, its size is %d", ino, n, d.Size())
	}
}

// extentInode checks an inode with an extent list: files, directories, slow
// links, and the empty lists of devices.
func (c *checker) extentInode(d ondisk.Dinode, ref *refTree) {
	ino := d.Blkno()
	t := &tree{
		what: "Data", owner: ino, sys: d.HasFlag(ondisk.InodeSystem), dense: d.IsDir() || !c.g.HasSparse(),
		mayShare: ref != nil, shared: ref,
	}
	var runs []run
	if d.IsDir() || d.IsSymlink() {
		t.leaf = func(r ondisk.ExtentRec) {
			runs = append(runs, run{r.Blkno(), c.g.ClustersToBlocks(uint32(r.Clusters()))})
		}
	}
	c.walk(t, d.Extents(), ino, d.LastEbBlk())
	c.sizes(d, t)
	switch {
	case d.IsDir():
		if t.records == 0 && !t.bad {
			c.problem(DirZero, ino, "Directory %d has no blocks", ino)
		}
		c.addDir(d, runs)
	case d.IsSymlink():
		c.slowSymlink(d, runs)
	}
}

// sizes compares i_clusters and i_size with the tree.
func (c *checker) sizes(d ondisk.Dinode, t *tree) {
	if t.bad {
		return
	}
	ino, sparse := d.Blkno(), c.g.HasSparse()
	if uint64(d.Clusters()) != t.clusters {
		code := InodeSparseClusters
		if !sparse {
			code = InodeClusters
		}
		c.problem(code, ino, "Inode %d has i_clusters %d, its extents have %d", ino, d.Clusters(), t.clusters)
	}
	alloc := t.end << c.g.ClusterBits
	if d.IsDir() || !sparse {
		if d.Size() > alloc && !d.IsSymlink() {
			c.problem(InodeSize, ino, "Inode %d has size %d, %d bytes are allocated", ino, d.Size(), alloc)
		}
		if d.IsDir() && !c.dirSizeOK(d) {
			c.problem(InodeSize, ino, "Directory %d has size %d, no multiple of the block size", ino, d.Size())
		}
		return
	}
	if d.IsSymlink() || t.records == 0 {
		return
	}
	if d.Size() <= t.lastStart<<c.g.ClusterBits {
		c.problem(InodeSparseSize, ino, "Inode %d has size %d, its last cluster starts at %d", ino, d.Size(), t.lastStart<<c.g.ClusterBits)
	}
}

// dirSizeOK: the size of a block directory is a multiple of the block size. The
// lost+found that mkfs.ocfs2 makes without inline-data ends before the trailer
// of its block; readers round up.
func (c *checker) dirSizeOK(d ondisk.Dinode) bool {
	size := d.Size()
	if c.g.DirTrailers(d.DynFeatures()) && size+ondisk.DirTrailerSize == uint64(c.g.BlockSize) {
		return true
	}
	return size&uint64(c.g.BlockSize-1) == 0
}

// slowSymlink checks a link whose text is in clusters.
func (c *checker) slowSymlink(d ondisk.Dinode, runs []run) {
	ino := d.Blkno()
	blocks := c.g.BlocksForBytes(d.Size() + 1)
	var have uint64
	for _, r := range runs {
		have += r.n
	}
	if d.Size() >= 1<<16 || have < blocks {
		c.problem(LinkBlocks, ino, "Link text of inode %d has %d bytes in %d blocks", ino, d.Size(), have)
		return
	}
	text := make([]byte, 0, blocks<<c.g.BlockBits)
	for _, r := range runs {
		for i := uint64(0); i < r.n && len(text) < cap(text); i++ {
			b, ok := c.block(r.start + i)
			if !ok {
				return
			}
			text = append(text, b...)
		}
	}
	n := 0
	for n < len(text) && text[n] != 0 {
		n++
	}
	if uint64(n) != d.Size() {
		c.problem(LinkSize, ino, "Link text of inode %d has %d bytes, its size is %d", ino, n, d.Size())
	}
}
