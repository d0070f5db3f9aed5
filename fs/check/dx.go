package check

import (
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// dxTree is the index of a directory as found in pass 1.
type dxTree struct {
	root   uint64
	inline bool
	recs   []dxRec
	bad    bool // not to be used
}

// dxRec is one extent of index clusters.
type dxRec struct {
	cpos  uint32 // first hash value
	n     uint32 // clusters
	blkno uint64
}

type dxKey struct {
	major, minor uint32
	blkno        uint64
}

// dxLookup is the content of an index: how many entries point from a hash pair
// to a block.
type dxLookup struct {
	entries map[dxKey]int
	total   uint64
	numEnts uint32 // dr_num_entries
	freeBlk uint64 // dr_free_blk
	bad     bool   // incomplete: lookups would report the same damage again
}

// dxTree reads a directory's dx root and claims root, extent blocks and leaves.
func (c *checker) dxTree(d ondisk.Dinode) *dxTree {
	x := &dxTree{root: d.DxRoot(), bad: true}
	ino := d.Blkno()
	if !c.g.HasIndexedDirs() || d.HasDyn(ondisk.DynInlineData) || !c.g.ValidBlock(x.root) {
		c.problem(DxTreeCorrupt, ino, "Directory %d: index at block %d without feature, with inline data, or out of the volume", ino, x.root)
		return x
	}
	b, ok := c.block(x.root)
	if !ok {
		return x
	}
	r := ondisk.DxRoot(b)
	if !ondisk.HasSignature(b, ondisk.SigDxRoot) || r.FSGeneration() != c.g.FSGeneration || r.Blkno() != x.root || r.DirBlkno() != ino {
		c.problem(DxTreeCorrupt, x.root, "Directory %d: block %d is not its index root", ino, x.root)
		return x
	}
	c.ecc("dx root", x.root, b, ondisk.CheckOffDxRoot)
	if !c.claimMeta("Index root", x.root, suballocOf{r.SuballocSlot(), r.SuballocBit(), r.SuballocLoc()}) {
		return x
	}
	if x.inline = r.IsInline(); x.inline {
		x.bad = false
		if r.Clusters() != 0 || r.LastEbBlk() != 0 {
			c.problem(DxTreeCorrupt, x.root, "Inline index of directory %d has %d clusters", ino, r.Clusters())
		}
		return x
	}
	t := &tree{what: "Directory index", owner: ino, sys: d.HasFlag(ondisk.InodeSystem)}
	t.leaf = func(rec ondisk.ExtentRec) {
		x.recs = append(x.recs, dxRec{rec.Cpos(), uint32(rec.Clusters()), rec.Blkno()})
	}
	c.walk(t, r.Extents(), x.root, r.LastEbBlk())
	switch {
	case t.bad:
		return x
	case uint64(r.Clusters()) != t.clusters:
		c.problem(DxTreeCorrupt, x.root, "Index of directory %d has dr_clusters %d, its extents have %d", ino, r.Clusters(), t.clusters)
	case len(x.recs) == 0 || x.recs[0].cpos != 0:
		c.problem(DxTreeCorrupt, x.root, "Index of directory %d has no extent for hash 0", ino)
		return x
	}
	x.bad = false
	return x
}

// loadIndex reads all entries of an index.
func (c *checker) loadIndex(dir *dirInfo) *dxLookup {
	l := &dxLookup{entries: map[dxKey]int{}, bad: true}
	if dir.index.bad {
		return l
	}
	b, ok := c.block(dir.index.root)
	if !ok {
		return l
	}
	l.bad = false
	r := ondisk.DxRoot(b)
	l.numEnts, l.freeBlk = r.NumEntries(), r.FreeBlk()
	if dir.index.inline {
		c.indexEntries(l, dir, r.Entries(), dir.index.root, nil)
		return l
	}
	for i, rec := range dir.index.recs {
		next := uint64(1) << 32
		if i+1 < len(dir.index.recs) {
			next = uint64(dir.index.recs[i+1].cpos)
		}
		for k := range rec.n {
			lo := uint64(rec.cpos) + uint64(k)
			hi := lo + 1
			if k == rec.n-1 {
				hi = next
			}
			c.indexCluster(l, dir, rec.blkno+c.g.ClustersToBlocks(k), lo, hi)
		}
	}
	return l
}

// indexCluster reads the leaves of one cluster, which serves the major hashes
// [lo, hi); leaf k of it those minor hashes that are k modulo the number of
// leaves.
func (c *checker) indexCluster(l *dxLookup, dir *dirInfo, blkno, lo, hi uint64) {
	for k := range c.g.Bpc {
		at := blkno + uint64(k)
		b, ok := c.block(at)
		if !ok {
			l.bad = true
			continue
		}
		leaf := ondisk.DxLeaf(b)
		if !ondisk.HasSignature(b, ondisk.SigDxLeaf) || leaf.FSGeneration() != c.g.FSGeneration || leaf.Blkno() != at {
			c.problem(DxTreeCorrupt, at, "Directory %d: block %d is no index leaf of this volume", dir.ino, at)
			l.bad = true
			continue
		}
		c.ecc("dx leaf", at, b, ondisk.CheckOffDxLeaf)
		c.indexEntries(l, dir, leaf.Entries(), at, func(e ondisk.DxEntry) bool {
			return uint64(e.MajorHash()) >= lo && uint64(e.MajorHash()) < hi && e.MinorHash()&(c.g.Bpc-1) == k
		})
	}
}

// indexEntries reads one entry list; mine says whether an entry belongs there.
func (c *checker) indexEntries(l *dxLookup, dir *dirInfo, list ondisk.DxEntryList, at uint64, mine func(ondisk.DxEntry) bool) {
	if int(list.Count()) != list.Space() {
		c.problem(DxEntryCount, at, "Index block %d of directory %d has capacity %d, want %d", at, dir.ino, list.Count(), list.Space())
	}
	n := int(list.NumUsed())
	if n > min(int(list.Count()), list.Space()) {
		c.problem(DxTreeCorrupt, at, "Index block %d of directory %d uses %d entries of %d", at, dir.ino, n, list.Count())
		n, l.bad = min(n, list.Space()), true
	}
	for i := range n {
		e := list.Rec(i)
		l.total++
		if mine != nil && !mine(e) {
			c.problem(DxTreeCorrupt, at, "Index block %d of directory %d: entry %d with hash %#x %#x belongs elsewhere", at, dir.ino, i, e.MajorHash(), e.MinorHash())
			continue // a lookup would not find it either
		}
		l.entries[dxKey{e.MajorHash(), e.MinorHash(), e.DirentBlk()}]++
	}
}

// lookUp takes the index entry of a name found in block blkno.
func (c *checker) lookUp(s *dirScan, name []byte, blkno uint64) {
	if s.index == nil || s.index.bad {
		return
	}
	major, minor := c.g.DxHashBytes(name)
	if s.index.take(dxKey{major, minor, blkno}) {
		return
	}
	if !ondisk.IsASCII(name) {
		major, minor = c.g.DxHashUnsigned(string(name))
		if s.index.take(dxKey{major, minor, blkno}) {
			c.note("directory %d: name %q was hashed by a kernel with unsigned char (6.2 or newer)", s.dir.ino, name)
			return
		}
	}
	c.problem(DxLookupFailed, blkno, "Name %q in block %d of directory %d is not in the index", name, blkno, s.dir.ino)
}

func (l *dxLookup) take(k dxKey) bool {
	n := l.entries[k]
	switch n {
	case 0:
		return false
	case 1:
		delete(l.entries, k)
	default:
		l.entries[k] = n - 1
	}
	return true
}

// finishIndex checks what is left when all names have taken their entries, the
// count, and the free-space list.
func (c *checker) finishIndex(s *dirScan) {
	l, dir := s.index, s.dir
	if l.bad {
		return
	}
	if uint64(l.numEnts) != l.total {
		c.problem(DxEntryCount, dir.index.root, "Index of directory %d says %d entries, it has %d", dir.ino, l.numEnts, l.total)
	}
	left := 0
	for _, n := range l.entries {
		left += n
	}
	if left > 0 {
		c.problem(DxEntryStale, dir.index.root, "Index of directory %d has %d entries without a name", dir.ino, left)
	}
	prev := dir.index.root
	for blkno := l.freeBlk; blkno != 0; {
		f, ok := s.free[blkno]
		if !ok {
			c.problem(DxFreeList, prev, "Free-space list of directory %d: block %d links to %d, which is none of its blocks or on the list twice", dir.ino, prev, blkno)
			return
		}
		if f.recLen == 0 {
			c.problem(DxFreeList, blkno, "Free-space list of directory %d contains block %d, which is full", dir.ino, blkno)
		}
		delete(s.free, blkno)
		prev, blkno = blkno, f.next
	}
	missing, first := 0, uint64(0)
	for blkno, f := range s.free {
		if f.recLen != 0 {
			if missing++; first == 0 || blkno < first {
				first = blkno
			}
		}
	}
	if missing > 0 {
		c.problem(DxFreeList, first, "Free-space list of directory %d lacks %d blocks with space, one is %d", dir.ino, missing, first)
	}
}
