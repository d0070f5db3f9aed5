package check

import (
	"cmp"
	"slices"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// xattrRegion is a region of entries being checked.
type xattrRegion struct {
	owner  uint64 // inode
	at     uint64 // first block of the region
	what   string
	shared *refTree
	bucket bool
	names  map[string]bool // of the inode, each with its index before it
}

// inodeXattrs checks all extended attributes of an inode.
func (c *checker) inodeXattrs(d ondisk.Dinode, shared *refTree) {
	ino := d.Blkno()
	inline, loc := d.HasDyn(ondisk.DynInlineXattr), d.XattrLoc()
	if !inline && loc == 0 {
		return
	}
	if !c.g.HasXattr() || !d.HasDyn(ondisk.DynHasXattr) {
		c.problem(XattrFlags, ino, "Inode %d has extended attributes, its flags %#x or the volume's features say no", ino, d.DynFeatures())
	}
	x := xattrRegion{owner: ino, at: ino, what: "inline attributes", shared: shared, names: map[string]bool{}}
	if inline {
		c.xattrEntries(x, d.XattrArea())
	}
	if loc != 0 {
		c.xattrBlock(x, loc)
	}
}

// dropBadArea makes the views of a dinode safe: an inline attribute area of an
// impossible size is taken off the copy in memory. It reports whether there was
// one.
func (c *checker) dropBadArea(d ondisk.Dinode) (size int, bad bool) {
	size = d.XattrAreaSize()
	if !d.HasDyn(ondisk.DynInlineXattr) || size >= 16 && size%4 == 0 && size <= c.g.BlockSize-0xD0 {
		return size, false
	}
	d.SetDynFeatures(d.DynFeatures() &^ ondisk.DynInlineXattr)
	return size, true
}

func (c *checker) xattrBlock(region xattrRegion, blkno uint64) {
	ino := region.owner
	if !c.g.ValidBlock(blkno) {
		c.problem(XattrBlockInvalid, ino, "Inode %d has its attribute block at %d, out of the volume", ino, blkno)
		return
	}
	b, ok := c.block(blkno)
	if !ok {
		return
	}
	x := ondisk.XattrBlock(b)
	if !ondisk.HasSignature(b, ondisk.SigXattr) || x.FSGeneration() != c.g.FSGeneration || x.Blkno() != blkno {
		c.problem(XattrBlockInvalid, blkno, "Inode %d: block %d is no attribute block of this volume", ino, blkno)
		return
	}
	c.ecc("attribute block", blkno, b, ondisk.CheckOffXattr)
	if !c.claimMeta("Attribute block", blkno, suballocOf{x.SuballocSlot(), x.SuballocBit(), x.SuballocLoc()}) {
		return
	}
	if !x.IsIndexed() {
		region.at, region.what = blkno, "attribute block"
		c.xattrEntries(region, x.Header())
		return
	}
	region.what, region.bucket = "attribute bucket", true
	w := bucketWalk{ino: ino, region: region}
	t := &tree{what: "Attribute tree", owner: ino}
	t.leaf = func(r ondisk.ExtentRec) { c.bucketRecord(&w, r) }
	c.walk(t, x.Root().List(), blkno, x.Root().LastEbBlk())
	if !t.bad && uint64(x.Root().Clusters()) != t.clusters {
		c.problem(XattrBlockInvalid, blkno, "Attribute tree of inode %d has xt_clusters %d, its extents have %d", ino, x.Root().Clusters(), t.clusters)
	}
}

// bucketWalk is the state between the buckets of a tree.
type bucketWalk struct {
	ino    uint64
	region xattrRegion
	hash   uint32 // of the last entry seen
	any    bool
}

// bucketRecord checks the buckets of one extent record.
func (c *checker) bucketRecord(w *bucketWalk, r ondisk.ExtentRec) {
	blkno := r.Blkno()
	most := int(r.Clusters()) << c.g.ClusterBits / ondisk.XattrBucketSize
	b := make([]byte, ondisk.XattrBucketSize)
	used := 1
	step := uint64(ondisk.XattrBucketSize >> c.g.BlockBits)
	for i := 0; i < used; i++ {
		at := blkno + uint64(i)*step
		if err := c.read(at, b); err != nil {
			c.problem(ReadError, at, "Attribute bucket at block %d of inode %d can not be read: %v", at, w.ino, err)
			return
		}
		h := ondisk.XattrHeader(b)
		c.ecc("attribute bucket", at, b, ondisk.CheckOffBucket)
		if i == 0 {
			if used = int(h.NumBuckets()); used < 1 || used > most {
				c.problem(XattrBucketCount, at, "Attribute buckets at block %d of inode %d: %d of them, want 1 to %d", at, w.ino, used, most)
				used = 1
			}
		}
		w.region.at = at
		if !c.xattrEntries(w.region, h) {
			continue
		}
		c.bucketOrder(w, h, at, r.Cpos())
	}
}

// bucketOrder checks that hashes rise through the buckets, with equal ones in
// one bucket, and fit the record.
func (c *checker) bucketOrder(w *bucketWalk, h ondisk.XattrHeader, at uint64, lower uint32) {
	for i := range int(h.Count()) {
		hash := h.Entry(i).NameHash()
		if hash < lower || w.any && (hash < w.hash || i == 0 && hash == w.hash) {
			c.problem(XattrOrder, at, "Bucket at block %d of inode %d: entry %d with hash %#x is out of order", at, w.ino, i, hash)
			return
		}
		w.hash, w.any = hash, true
	}
}

// xattrEntries checks the entries of a region; false if its table is unusable.
func (c *checker) xattrEntries(x xattrRegion, h ondisk.XattrHeader) bool {
	table := 16 + 16*int(h.Count())
	if table > len(h) {
		c.problem(XattrCountInvalid, x.at, "Inode %d: %s at block %d has %d entries in %d bytes", x.owner, x.what, x.at, h.Count(), len(h))
		return false
	}
	spans := make([]run, 0, h.Count())
	for i := range int(h.Count()) {
		e := h.Entry(i)
		if e.IsLocal() != (e.ValueSize() <= ondisk.XattrLocalMax) {
			c.problem(XattrLocation, x.at, "Inode %d: %s at block %d: entry %d has a value of %d bytes, local: %v", x.owner, x.what, x.at, i, e.ValueSize(), e.IsLocal())
			continue
		}
		off := uint64(e.NameOffset())
		size := uint64(ondisk.XattrRegionSize(int(e.NameLen()), e.ValueSize()))
		if off < uint64(table) || off+size > uint64(len(h)) {
			c.problem(XattrNameOffset, x.at, "Inode %d: %s at block %d: entry %d is at %d..%d, want %d..%d", x.owner, x.what, x.at, i, off, off+size, table, len(h))
			continue
		}
		spans = append(spans, run{off, size})
		c.xattrName(x, h, e, i)
		if !e.IsLocal() {
			c.xattrValue(x, h.ValueRoot(e), e.ValueSize(), i)
		}
	}
	c.xattrSpace(x, h, spans)
	return true
}

func (c *checker) xattrName(x xattrRegion, h ondisk.XattrHeader, e ondisk.XattrEntry, i int) {
	name := h.Name(e)
	acl := e.Index() == ondisk.XattrIndexACLAccess || e.Index() == ondisk.XattrIndexACLDefault
	if e.Index() < ondisk.XattrIndexUser || e.Index() > ondisk.XattrIndexSecurity || acl != (len(name) == 0) {
		c.problem(XattrEntryInvalid, x.at, "Inode %d: %s at block %d: entry %d %q has name index %d", x.owner, x.what, x.at, i, name, e.Index())
	}
	if hash := c.g.XattrHashBytes(name); hash != e.NameHash() {
		if ondisk.XattrHash(c.g.UUIDHash, name, ondisk.UnsignedChar) == e.NameHash() {
			c.note("inode %d: attribute %q was hashed by a kernel with unsigned char (6.2 or newer)", x.owner, name)
		} else {
			c.problem(XattrHashInvalid, x.at, "Inode %d: %s at block %d: entry %d %q has hash %#x, want %#x", x.owner, x.what, x.at, i, name, e.NameHash(), hash)
		}
	}
	key := string(append([]byte{e.Index()}, name...))
	if x.names[key] {
		c.problem(XattrDuplicate, x.at, "Inode %d: %s at block %d: entry %d %q is there twice", x.owner, x.what, x.at, i, name)
	}
	x.names[key] = true
}

// xattrValue checks the tree of a value kept outside.
func (c *checker) xattrValue(x xattrRegion, r ondisk.XattrValueRoot, size uint64, i int) {
	t := &tree{what: "Attribute value", owner: x.owner, mayShare: x.shared != nil, shared: x.shared}
	c.walk(t, r.List(), x.at, r.LastEbBlk())
	if t.bad {
		return
	}
	if uint64(r.Clusters()) != t.clusters || c.g.ClustersForBytes(size) > t.clusters {
		c.problem(XattrValueInvalid, x.at, "Inode %d: %s at block %d: value %d of %d bytes has xr_clusters %d, its extents have %d",
			x.owner, x.what, x.at, i, size, r.Clusters(), t.clusters)
	}
}

// xattrSpace checks how names and values lie in the region.
func (c *checker) xattrSpace(x xattrRegion, h ondisk.XattrHeader, spans []run) {
	slices.SortFunc(spans, func(a, b run) int { return cmp.Compare(a.start, b.start) })
	sum, bs := uint64(0), uint64(c.g.BlockSize)
	for i, s := range spans {
		if i > 0 && spans[i-1].end() > s.start {
			c.problem(XattrOverlap, x.at, "Inode %d: %s at block %d: names or values overlap at %d", x.owner, x.what, x.at, s.start)
		}
		if x.bucket && s.n > 0 && s.start/bs != (s.end()-1)/bs {
			c.problem(XattrOverlap, x.at, "Inode %d: %s at block %d: name and value at %d..%d straddle a block", x.owner, x.what, x.at, s.start, s.end())
		}
		sum += s.n
	}
	if !x.bucket || len(spans) != int(h.Count()) {
		return
	}
	if len(spans) > 0 && uint64(h.FreeStart()) != spans[0].start {
		c.problem(XattrFreeStart, x.at, "Inode %d: bucket at block %d has free start %d, the lowest name is at %d", x.owner, x.at, h.FreeStart(), spans[0].start)
	}
	if uint64(h.NameValueLen()) != sum {
		c.problem(XattrValueLen, x.at, "Inode %d: bucket at block %d has name and value length %d, they add up to %d", x.owner, x.at, h.NameValueLen(), sum)
	}
}
