package ondisk

// The Check functions judge one block by itself: signature, own place, volume
// generation, and every count against the capacity of its list, so that code
// that indexes with the counts stays inside the block. What spans blocks (tree
// order, bitmaps, link counts) is the business of a whole-volume check. They do
// not look at the block check: [ValidateCheck] comes first. A nil error is the
// precondition of every view's safety.

// checkHead verifies signature, generation and own block number.
func checkHead(what string, b []byte, sig string, gen uint32, own, blkno uint64, g *Geometry) error {
	switch {
	case !HasSignature(b, sig):
		return Corruptf(what, blkno, "signature %q, want %q", b[:signatureLen], sig)
	case gen != g.FSGeneration:
		return Corruptf(what, blkno, "volume generation %#x, want %#x", gen, g.FSGeneration)
	case own != blkno:
		return Corruptf(what, blkno, "own block number says %d", own)
	}
	return nil
}

// checkLen refuses a buffer that is not one block: a caller's mistake, reported
// instead of an index panic.
func checkLen(what string, b []byte, blkno uint64, g *Geometry) error {
	if len(b) != g.BlockSize {
		return Corruptf(what, blkno, "%d bytes given, a block has %d", len(b), g.BlockSize)
	}
	return nil
}

// checkExtents verifies an extent list inside the block what at blkno: depth
// within the format, capacity within the room, used records within capacity.
func checkExtents(what string, blkno uint64, l ExtentList) error {
	if len(l) < extHeaderSize {
		return Corruptf(what, blkno, "no room for an extent list")
	}
	switch {
	case l.Depth() > MaxTreeDepth:
		return Corruptf(what, blkno, "tree depth %d, at most %d", l.Depth(), MaxTreeDepth)
	case int(l.Count()) > l.Space():
		return Corruptf(what, blkno, "extent list capacity %d, room for %d", l.Count(), l.Space())
	case l.NextFree() > l.Count():
		return Corruptf(what, blkno, "%d extent records used of %d", l.NextFree(), l.Count())
	case l.Depth() > 0 && l.NextFree() == 0:
		return Corruptf(what, blkno, "interior node of depth %d without records", l.Depth())
	}
	return nil
}

// CheckDinode validates a dinode read from blkno (Linux fs/ocfs2/inode.c,
// ocfs2_validate_inode_block, and the id2 part it is used with). A freed inode
// passes: callers that want one in use look at [InodeValid]. The superblock is
// accepted at its block.
func CheckDinode(b []byte, blkno uint64, g *Geometry) error {
	const what = "dinode"
	if err := checkLen(what, b, blkno, g); err != nil {
		return err
	}
	d := Dinode(b)
	sig := SigDinode
	if blkno == SuperBlkno {
		sig = SigSuper
	}
	if err := checkHead(what, b, sig, d.FSGeneration(), d.Blkno(), blkno, g); err != nil {
		return err
	}
	if err := checkInlineXattr(d, blkno, g); err != nil {
		return err
	}
	return checkID2(d, blkno)
}

func checkInlineXattr(d Dinode, blkno uint64, g *Geometry) error {
	if !d.HasDyn(DynInlineXattr) {
		return nil
	}
	size := int(d.XattrInlineSize())
	// Linux fs/ocfs2/xattr.c keeps room for the root of an extent list.
	if size < xattrHeaderSize || size%4 != 0 || size > g.BlockSize-dinodeRecs {
		return Corruptf("dinode", blkno, "inline xattr area of %d bytes", size)
	}
	return CheckXattrRegion("inline xattrs", d.XattrArea(), blkno)
}

// checkID2 picks the structure that flags and mode call for. Users of an inode
// look at the flag of the structure they expect, so that only one may be there,
// and on system inodes only.
func checkID2(d Dinode, blkno uint64) error {
	kind := d.Flags() & (InodeSuperBlock | InodeLocalAlloc | InodeChain | InodeDealloc)
	switch {
	case kind&(kind-1) != 0,
		kind == InodeSuperBlock && blkno != SuperBlkno,
		kind != 0 && kind != InodeSuperBlock && !d.HasFlag(InodeSystem):
		return Corruptf("dinode", blkno, "flags %#x do not go together", d.Flags())
	case d.HasFlag(InodeSuperBlock):
		return nil
	case d.HasFlag(InodeLocalAlloc):
		return checkLocalAlloc(d, blkno)
	case d.HasFlag(InodeChain):
		return checkChains(d, blkno)
	case d.HasFlag(InodeDealloc):
		return checkTruncLog(d, blkno)
	case d.HasDyn(DynInlineData):
		return checkInlineData(d, blkno)
	case d.IsFastSymlink():
		return checkFastSymlink(d, blkno)
	}
	return checkExtents("dinode", blkno, d.Extents())
}

func checkFastSymlink(d Dinode, blkno uint64) error {
	// A freed or never written link has size 0.
	if d.Size() >= uint64(len(d.ID2())) {
		return Corruptf("dinode", blkno, "fast symlink of %d bytes, room for %d", d.Size(), len(d.ID2())-1)
	}
	return nil
}

func checkInlineData(d Dinode, blkno uint64) error {
	room := len(d.ID2()) - inlineHeader
	switch n := int(d.Inline().Count()); {
	case n > room:
		return Corruptf("dinode", blkno, "inline data capacity %d, room for %d", n, room)
	case d.Size() > uint64(n):
		return Corruptf("dinode", blkno, "i_size %d with %d bytes of inline data", d.Size(), n)
	}
	return nil
}

func checkTruncLog(d Dinode, blkno uint64) error {
	t := d.TruncLog()
	room := (len(t) - truncHeader) / truncRecSize
	switch {
	case int(t.Count()) > room:
		return Corruptf("truncate log", blkno, "capacity %d, room for %d", t.Count(), room)
	case t.Used() > t.Count():
		return Corruptf("truncate log", blkno, "%d records used of %d", t.Used(), t.Count())
	}
	return nil
}

func checkLocalAlloc(d Dinode, blkno uint64) error {
	l := d.LocalAlloc()
	room := len(l) - lallocHeader
	switch {
	case int(l.Size()) > room:
		return Corruptf("local alloc", blkno, "bitmap of %d bytes, room for %d", l.Size(), room)
	case uint64(d.Total()) > uint64(l.Size())*8:
		return Corruptf("local alloc", blkno, "window of %d bits, bitmap has %d", d.Total(), int(l.Size())*8)
	case d.Used() > d.Total():
		return Corruptf("local alloc", blkno, "%d bits used of %d", d.Used(), d.Total())
	}
	return nil
}

func checkChains(d Dinode, blkno uint64) error {
	c := d.Chains()
	room := (len(c) - extHeaderSize) / recSize
	switch {
	case int(c.Count()) > room:
		return Corruptf("chain list", blkno, "capacity %d, room for %d", c.Count(), room)
	case c.NextFree() > c.Count():
		return Corruptf("chain list", blkno, "%d chains used of %d", c.NextFree(), c.Count())
	case c.BPC() == 0 || c.CPG() == 0:
		return Corruptf("chain list", blkno, "%d bits per cluster, %d clusters per group", c.BPC(), c.CPG())
	}
	return nil
}

// CheckExtentBlock validates an extent block read from blkno (Linux
// fs/ocfs2/alloc.c, ocfs2_validate_extent_block). The caller, who knows the
// node's height, compares the depth: [CheckTreeNode].
func CheckExtentBlock(b []byte, blkno uint64, g *Geometry) error {
	const what = "extent block"
	if err := checkLen(what, b, blkno, g); err != nil {
		return err
	}
	e := ExtentBlock(b)
	if err := checkHead(what, b, SigExtent, e.FSGeneration(), e.Blkno(), blkno, g); err != nil {
		return err
	}
	if err := checkExtents(what, blkno, e.List()); err != nil {
		return err
	}
	if e.List().Depth() >= MaxTreeDepth {
		return Corruptf(what, blkno, "depth %d below a root", e.List().Depth())
	}
	return nil
}

// CheckTreeNode is [CheckExtentBlock] plus the height the parent implies: a walk
// that calls it on every step ends.
func CheckTreeNode(b []byte, blkno uint64, depth uint16, g *Geometry) error {
	if err := CheckExtentBlock(b, blkno, g); err != nil {
		return err
	}
	if got := ExtentBlock(b).List().Depth(); got != depth {
		return Corruptf("extent block", blkno, "depth %d, its parent implies %d", got, depth)
	}
	return nil
}

// CheckGroupDesc validates a group descriptor read from blkno (Linux
// fs/ocfs2/suballoc.c, ocfs2_validate_gd_self). Parent and chain are the
// caller's to compare. It does not count bits.
func CheckGroupDesc(b []byte, blkno uint64, g *Geometry) error {
	const what = "group descriptor"
	if err := checkLen(what, b, blkno, g); err != nil {
		return err
	}
	d := GroupDesc(b)
	if err := checkHead(what, b, SigGroup, d.Generation(), d.Blkno(), blkno, g); err != nil {
		return err
	}
	switch {
	case int(d.Size()) > g.BlockSize-groupBitmap:
		return Corruptf(what, blkno, "bitmap of %d bytes, room for %d", d.Size(), g.BlockSize-groupBitmap)
	case int(d.Bits()) > int(d.Size())*8:
		return Corruptf(what, blkno, "%d bits, bitmap has %d", d.Bits(), int(d.Size())*8)
	case d.FreeBitsCount() > d.Bits():
		return Corruptf(what, blkno, "%d bits free of %d", d.FreeBitsCount(), d.Bits())
	}
	if g.HasDiscontigBG() && d.HasList() {
		return checkGroupList(d, blkno)
	}
	return nil
}

// checkGroupList verifies bg_list. An empty list (a contiguous group) may be
// all zero.
func checkGroupList(d GroupDesc, blkno uint64) error {
	const what = "group descriptor"
	l := d.List()
	switch {
	case l.Depth() != 0:
		return Corruptf(what, blkno, "run list of depth %d", l.Depth())
	case int(l.Count()) > l.Space():
		return Corruptf(what, blkno, "run list capacity %d, room for %d", l.Count(), l.Space())
	case l.NextFree() > l.Count():
		return Corruptf(what, blkno, "%d runs used of %d", l.NextFree(), l.Count())
	}
	return nil
}

func checkDxEntries(what string, blkno uint64, l DxEntryList) error {
	switch {
	case int(l.Count()) > l.Space():
		return Corruptf(what, blkno, "entry list capacity %d, room for %d", l.Count(), l.Space())
	case l.NumUsed() > l.Count():
		return Corruptf(what, blkno, "%d entries used of %d", l.NumUsed(), l.Count())
	}
	return nil
}

// CheckDxRoot validates a dx root read from blkno (Linux fs/ocfs2/dir.c,
// ocfs2_validate_dx_root). The directory inode it names is the caller's to
// compare.
func CheckDxRoot(b []byte, blkno uint64, g *Geometry) error {
	const what = "dx root"
	if err := checkLen(what, b, blkno, g); err != nil {
		return err
	}
	r := DxRoot(b)
	if err := checkHead(what, b, SigDxRoot, r.FSGeneration(), r.Blkno(), blkno, g); err != nil {
		return err
	}
	if r.IsInline() {
		return checkDxEntries(what, blkno, r.Entries())
	}
	return checkExtents(what, blkno, r.Extents())
}

// CheckDxLeaf validates a dx leaf read from blkno (Linux fs/ocfs2/dir.c,
// ocfs2_validate_dx_leaf).
func CheckDxLeaf(b []byte, blkno uint64, g *Geometry) error {
	const what = "dx leaf"
	if err := checkLen(what, b, blkno, g); err != nil {
		return err
	}
	l := DxLeaf(b)
	if err := checkHead(what, b, SigDxLeaf, l.FSGeneration(), l.Blkno(), blkno, g); err != nil {
		return err
	}
	return checkDxEntries(what, blkno, l.Entries())
}

// CheckDirBlock validates a directory data block of directory dir read from
// blkno: the entries tile the block up to the trailer, which is there iff
// trailer ([Geometry.DirTrailers]).
func CheckDirBlock(b []byte, blkno, dir uint64, g *Geometry, trailer bool) error {
	const what = "directory block"
	if err := checkLen(what, b, blkno, g); err != nil {
		return err
	}
	if trailer {
		if err := checkTrailer(DirBlock(b).Trailer(), blkno, dir); err != nil {
			return err
		}
	}
	return CheckDirArea(DirBlock(b).Area(trailer), blkno)
}

func checkTrailer(t DirTrailer, blkno, dir uint64) error {
	const what = "directory block trailer"
	switch {
	case !t.HasSignature():
		return Corruptf(what, blkno, "signature %q, want %q", t[0x10:0x18], SigDirTrailer)
	case t.Blkno() != blkno:
		return Corruptf(what, blkno, "own block number says %d", t.Blkno())
	case t.ParentDinode() != dir:
		return Corruptf(what, blkno, "belongs to directory %d, want %d", t.ParentDinode(), dir)
	case t.CompatInode() != 0 || t.CompatNameLen() != 0 || t.CompatRecLen() != trailerSize:
		return Corruptf(what, blkno, "does not look like a free entry: inode %d, rec_len %d, name_len %d",
			t.CompatInode(), t.CompatRecLen(), t.CompatNameLen())
	}
	return nil
}

// CheckDirArea validates that entries tile area (a block less its trailer, or
// inline data) of the block blkno.
func CheckDirArea(area []byte, blkno uint64) error {
	it := DirEntries(area)
	for it.Next() {
	}
	if err := it.Err(); err != nil {
		return Corruptf("directory block", blkno, "%v", err)
	}
	return nil
}

// CheckXattrBlock validates an external xattr block read from blkno (Linux
// fs/ocfs2/xattr.c, ocfs2_validate_xattr_block).
func CheckXattrBlock(b []byte, blkno uint64, g *Geometry) error {
	const what = "xattr block"
	if err := checkLen(what, b, blkno, g); err != nil {
		return err
	}
	x := XattrBlock(b)
	if err := checkHead(what, b, SigXattr, x.FSGeneration(), x.Blkno(), blkno, g); err != nil {
		return err
	}
	if x.IsIndexed() {
		return checkExtents(what, blkno, x.Root().List())
	}
	return CheckXattrRegion(what, x.Header(), blkno)
}

// CheckXattrBucket validates a 4096-byte bucket whose first block is blkno.
func CheckXattrBucket(b []byte, blkno uint64) error {
	const what = "xattr bucket"
	if len(b) != XattrBucketSize {
		return Corruptf(what, blkno, "%d bytes given, a bucket has %d", len(b), XattrBucketSize)
	}
	return CheckXattrRegion(what, XattrHeader(b), blkno)
}

// CheckXattrRegion validates the entries of a region in block blkno: the table
// fits, and name and value (or value root) of each entry lie inside, behind the
// table.
func CheckXattrRegion(what string, h XattrHeader, blkno uint64) error {
	if len(h) < xattrHeaderSize {
		return Corruptf(what, blkno, "region of %d bytes", len(h))
	}
	table := xattrHeaderSize + int(h.Count())*xattrEntrySize
	if table > len(h) {
		return Corruptf(what, blkno, "%d entries in a region of %d bytes", h.Count(), len(h))
	}
	for i := range int(h.Count()) {
		if err := checkXattrEntry(what, h, i, table, blkno); err != nil {
			return err
		}
	}
	return nil
}

func checkXattrEntry(what string, h XattrHeader, i, table int, blkno uint64) error {
	e := h.Entry(i)
	if e.IsLocal() && e.ValueSize() > XattrLocalMax {
		return Corruptf(what, blkno, "entry %d: local value of %d bytes", i, e.ValueSize())
	}
	off := int(e.NameOffset())
	size := Pad4(int(e.NameLen())) + xattrRootSize
	if e.IsLocal() {
		size = XattrRegionSize(int(e.NameLen()), e.ValueSize())
	}
	if off < table || off+size > len(h) {
		return Corruptf(what, blkno, "entry %d: name and value at %d..%d, region %d..%d", i, off, off+size, table, len(h))
	}
	if e.IsLocal() {
		return nil
	}
	if err := checkExtents(what, blkno, h.ValueRoot(e).List()); err != nil {
		return err
	}
	return nil
}

// CheckRefcountBlock validates a root or leaf of a refcount tree read from
// blkno (Linux fs/ocfs2/refcounttree.c, ocfs2_validate_refcount_block).
func CheckRefcountBlock(b []byte, blkno uint64, g *Geometry) error {
	const what = "refcount block"
	if err := checkLen(what, b, blkno, g); err != nil {
		return err
	}
	r := RefcountBlock(b)
	if err := checkHead(what, b, SigRefcount, r.FSGeneration(), r.Blkno(), blkno, g); err != nil {
		return err
	}
	if r.IsTree() {
		return checkExtents(what, blkno, r.Extents())
	}
	l := r.Records()
	switch {
	case int(l.Count()) > l.Space():
		return Corruptf(what, blkno, "record list capacity %d, room for %d", l.Count(), l.Space())
	case l.Used() > l.Count():
		return Corruptf(what, blkno, "%d records used of %d", l.Used(), l.Count())
	}
	return nil
}
