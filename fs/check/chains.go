package check

import (
	"cmp"
	"slices"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// allocKind says what the bits of a chain allocator stand for.
type allocKind int

const (
	allocClusters allocKind = iota // global_bitmap
	allocInodes                    // inode_alloc, global_inode_alloc
	allocMeta                      // extent_alloc
)

// allocator is one chain allocator and its groups.
type allocator struct {
	kind   allocKind
	name   string
	slot   uint16 // SlotGlobal for the global ones
	ino    uint64
	bpc    uint32 // cl_bpc
	cpg    uint32 // cl_cpg
	groups []*group
}

// group is a block group whose descriptor is sound.
type group struct {
	a      *allocator
	blkno  uint64
	bits   int
	split  bool   // discontiguous
	bitmap []byte // as on disk; suballocators only
	users  []byte // bits claimed in pass 1; extent allocators only
	runs   []groupRun
}

// locOK judges the *_suballoc_loc of an object in the group: it names a
// discontiguous group; for others kernels store 0, ocfs2-tools the group.
func (g *group) locOK(loc uint64) bool { return loc == g.blkno || loc == 0 && !g.split }

// groupRun is a run of blocks and the first bit it stands for.
type groupRun struct {
	run
	bit int
	g   *group
}

// groupIndex finds suballocator groups by block: sorted by start, not
// overlapping.
type groupIndex []groupRun

// find is the group and bit of a block.
func (x groupIndex) find(blkno uint64) (*group, int, bool) {
	i, found := slices.BinarySearchFunc(x, blkno, func(r groupRun, b uint64) int { return cmp.Compare(r.start, b) })
	if !found {
		i--
	}
	if i < 0 || blkno >= x[i].end() {
		return nil, 0, false
	}
	return x[i].g, x[i].bit + int(blkno-x[i].start), true
}

func (c *checker) pass0a() {
	c.chainAllocator(allocClusters, ondisk.SysGlobalBitmap, 0)
}

func (c *checker) pass0b() {
	c.chainAllocator(allocInodes, ondisk.SysGlobalInodeAlloc, 0)
	for s := range c.g.MaxSlots {
		c.chainAllocator(allocInodes, ondisk.SysInodeAlloc, s)
	}
}

func (c *checker) pass0c() {
	for s := range c.g.MaxSlots {
		c.chainAllocator(allocMeta, ondisk.SysExtentAlloc, s)
	}
	for _, a := range c.allocs {
		for _, g := range a.groups {
			c.groups = append(c.groups, g.runs...)
		}
	}
	slices.SortFunc(c.groups, func(a, b groupRun) int { return cmp.Compare(a.start, b.start) })
	// Groups that overlap were reported as duplicate clusters; keep the first.
	var end uint64
	c.groups = slices.DeleteFunc(c.groups, func(r groupRun) bool {
		if r.start < end {
			return true
		}
		end = r.end()
		return false
	})
}

// chainSums is what the groups add up to.
type chainSums struct{ total, free uint64 }

func (c *checker) chainAllocator(kind allocKind, file ondisk.SystemFile, slot int) {
	name := ondisk.SystemInodeName(file, slot)
	ino := c.sys[name]
	if ino == 0 {
		return // reported as missing
	}
	d, ok := c.dinodeAt(ino, name)
	if !ok {
		return
	}
	a := &allocator{kind: kind, name: name, slot: uint16(slot), ino: ino}
	if !file.PerSlot() {
		a.slot = ondisk.SlotGlobal
	}
	c.allocs = append(c.allocs, a)
	if !d.HasFlag(ondisk.InodeChain | ondisk.InodeBitmap) {
		c.problem(SystemInodeMissing, ino, "Inode %d (%s) is not a chain allocator, flags %#x", ino, name, d.Flags())
		return
	}
	l := d.Chains()
	a.bpc, a.cpg = uint32(l.BPC()), uint32(l.CPG())
	if !c.chainHeader(a, l) {
		return
	}
	seen := map[uint64]int{}
	var sum chainSums
	for i := range min(int(l.NextFree()), int(l.Count()), c.g.ChainCount()) {
		s := c.chain(a, l.Rec(i), i, seen)
		sum.total += s.total
		sum.free += s.free
	}
	c.chainTotals(a, d, sum)
	if kind == allocClusters {
		c.missingGroups(a, seen)
	}
}

// chainHeader checks the list's header; false if it can not be walked.
func (c *checker) chainHeader(a *allocator, l ondisk.ChainList) bool {
	if int(l.Count()) > c.g.ChainCount() {
		c.problem(ChainCount, a.ino, "Allocator %s has a chain list of %d records, a block has room for %d", a.name, l.Count(), c.g.ChainCount())
	}
	if l.NextFree() > l.Count() {
		c.problem(ChainNextFree, a.ino, "Allocator %s uses %d of %d chain records", a.name, l.NextFree(), l.Count())
	}
	if a.kind == allocClusters {
		if uint32(l.CPG()) != c.g.CPG || l.BPC() != 1 {
			c.problem(ChainCPG, a.ino, "Cluster bitmap has %d clusters per group and %d bits per cluster, want %d and 1", l.CPG(), l.BPC(), c.g.CPG)
		}
		a.cpg, a.bpc = c.g.CPG, 1
		return true
	}
	if a.bpc != c.g.Bpc || a.cpg == 0 {
		c.problem(ChainCPG, a.ino, "Allocator %s has %d bits per cluster, want %d, and %d clusters per group", a.name, a.bpc, c.g.Bpc, a.cpg)
		return false
	}
	return true
}

// chain walks one chain.
func (c *checker) chain(a *allocator, rec ondisk.ChainRec, idx int, seen map[uint64]int) (sum chainSums) {
	if rec.Blkno() == 0 {
		c.problem(ChainEmpty, a.ino, "Allocator %s has an empty chain %d", a.name, idx)
		return sum
	}
	prev := a.ino
	rangeCode := ChainHeadLinkRange
	for blkno := rec.Blkno(); blkno != 0; {
		if !c.g.ValidBlock(blkno) {
			c.problem(rangeCode, prev, "Chain %d of %s links to block %d, out of the volume", idx, a.name, blkno)
			break
		}
		if other, dup := seen[blkno]; dup {
			c.problem(GroupChainLoop, blkno, "Chain %d of %s reaches group %d again, first seen in chain %d", idx, a.name, blkno, other)
			break
		}
		seen[blkno] = idx
		d, ok := c.groupDesc(a, blkno, idx)
		if !ok {
			break
		}
		sum.total += uint64(d.Bits())
		sum.free += uint64(d.FreeBitsCount())
		prev, blkno, rangeCode = blkno, d.NextGroup(), ChainLinkRange
	}
	if uint64(rec.Free()) != sum.free || uint64(rec.Total()) != sum.total {
		c.problem(ChainBits, a.ino, "Chain %d of %s has %d bits free of %d, its groups add up to %d of %d",
			idx, a.name, rec.Free(), rec.Total(), sum.free, sum.total)
	}
	return sum
}

// groupDesc reads and checks one descriptor; false if it is none. A sound one
// joins the allocator.
func (c *checker) groupDesc(a *allocator, blkno uint64, idx int) (ondisk.GroupDesc, bool) {
	b, ok := c.block(blkno)
	if !ok {
		return nil, false
	}
	d := ondisk.GroupDesc(b)
	switch {
	case !ondisk.HasSignature(b, ondisk.SigGroup):
		c.problem(ChainLinkMagic, blkno, "Chain %d of %s links to block %d, which is no group descriptor", idx, a.name, blkno)
		return nil, false
	case d.Generation() != c.g.FSGeneration:
		c.problem(ChainLinkGen, blkno, "Group %d of %s has generation %#x, want %#x", blkno, a.name, d.Generation(), c.g.FSGeneration)
		return nil, false
	}
	c.ecc("group descriptor", blkno, b, ondisk.CheckOffGroup)
	if d.Blkno() != blkno {
		c.problem(GroupBlkno, blkno, "Group descriptor at block %d says it is at %d", blkno, d.Blkno())
	}
	if int(d.Chain()) != idx {
		c.problem(GroupChain, blkno, "Group %d of %s is on chain %d but says %d", blkno, a.name, idx, d.Chain())
	}
	if d.ParentDinode() != a.ino {
		c.problem(GroupParent, blkno, "Group %d of %s says its allocator is inode %d, want %d", blkno, a.name, d.ParentDinode(), a.ino)
	}
	if c.groupBits(a, d, blkno) {
		c.addGroup(a, d, blkno)
	}
	return d, true
}

// groupBits checks sizes and counts; false if the bitmap can not be used.
func (c *checker) groupBits(a *allocator, d ondisk.GroupDesc, blkno uint64) bool {
	room := c.g.ClusterGroupSize()
	want := uint64(a.cpg) * uint64(a.bpc)
	if a.kind == allocClusters {
		i := int(c.g.BlocksToClusters(blkno) / c.g.CPG)
		if c.g.GroupBlkno(i) != blkno {
			c.problem(GroupUnexpectedDesc, blkno, "Cluster group descriptor at block %d, none belongs there", blkno)
			return false
		}
		want = uint64(c.g.GroupBits(i))
	}
	if int(d.Size()) > room || int(d.Bits()) > int(d.Size())*8 || uint64(d.Bits()) != want {
		c.problem(GroupSize, blkno, "Group %d of %s has %d bits in %d bytes, want %d bits, room for %d bytes",
			blkno, a.name, d.Bits(), d.Size(), want, room)
		return false
	}
	bits := int(d.Bits())
	if free := bits - setBits(d.Bitmap(), bits); free != int(d.FreeBitsCount()) {
		c.problem(GroupFreeBits, blkno, "Group %d of %s says %d bits are free, its bitmap has %d", blkno, a.name, d.FreeBitsCount(), free)
	}
	if i := bitBeyond(d.Bitmap(), bits); i >= 0 {
		c.problem(GroupBitsBeyond, blkno, "Group %d of %s has bit %d set behind its %d bits", blkno, a.name, i, bits)
	}
	if !testBit(d.Bitmap(), 0) {
		c.problem(GroupBitZero, blkno, "Group %d of %s calls its own descriptor free", blkno, a.name)
	}
	return true
}

// addGroup records a group and claims its clusters.
func (c *checker) addGroup(a *allocator, d ondisk.GroupDesc, blkno uint64) {
	if other, dup := c.groupOwner[blkno]; dup {
		c.problem(GroupDuplicate, blkno, "Group %d belongs to %s and to %s", blkno, other.name, a.name)
		return
	}
	c.groupOwner[blkno] = a
	g := &group{a: a, blkno: blkno, bits: int(d.Bits())}
	if a.kind == allocClusters {
		a.groups = append(a.groups, g)
		return
	}
	g.bitmap = slices.Clone(d.Bitmap())
	if a.kind == allocMeta {
		g.users = make([]byte, len(g.bitmap))
		g.users[0] = 1 // the descriptor
	}
	if !c.g.HasDiscontigBG() || !d.IsDiscontig() {
		if !c.g.ClusterAligned(blkno) || blkno+uint64(g.bits) > c.g.TotalBlocks {
			c.problem(DiscontigRecRange, blkno, "Group %d of %s does not start a cluster or ends off the volume", blkno, a.name)
			return
		}
		g.runs = []groupRun{{run{blkno, uint64(g.bits)}, 0, g}}
	} else if g.split = true; !c.discontig(a, g, d.List()) {
		return
	}
	a.groups = append(a.groups, g)
	for _, r := range g.runs {
		c.claimClusters(a.ino, true, run{r.start >> c.g.BpcBits, r.n >> c.g.BpcBits}, false)
	}
}

// discontig checks the run list of a discontiguous group and fills g.runs.
func (c *checker) discontig(a *allocator, g *group, l ondisk.ExtentList) bool {
	if l.Depth() != 0 {
		c.problem(DiscontigDepth, g.blkno, "Discontiguous group %d has a list of depth %d", g.blkno, l.Depth())
	}
	if int(l.Count()) > l.Space() {
		c.problem(DiscontigCount, g.blkno, "Discontiguous group %d has a list of %d records, room for %d", g.blkno, l.Count(), l.Space())
	}
	n := min(int(l.NextFree()), l.Space())
	if l.NextFree() > l.Count() {
		c.problem(DiscontigNextFree, g.blkno, "Discontiguous group %d uses %d of %d records", g.blkno, l.NextFree(), l.Count())
	}
	next := uint64(0)
	for i := range n {
		r := l.Rec(i)
		blocks := c.g.ClustersToBlocks(uint32(r.Clusters()))
		if r.Clusters() == 0 || uint64(r.Cpos()) != next || i == 0 && r.Blkno() != g.blkno {
			c.problem(DiscontigRecCorrupt, g.blkno, "Discontiguous group %d: record %d covers %d clusters from %d at block %d", g.blkno, i, r.Clusters(), r.Cpos(), r.Blkno())
			return false
		}
		if !c.g.ValidBlock(r.Blkno()) || r.Blkno()+blocks > c.g.TotalBlocks || !c.g.ClusterAligned(r.Blkno()) {
			c.problem(DiscontigRecRange, g.blkno, "Discontiguous group %d: record %d at block %d is out of the volume or unaligned", g.blkno, i, r.Blkno())
			return false
		}
		g.runs = append(g.runs, groupRun{run{r.Blkno(), blocks}, int(next) * int(a.bpc), g})
		next += uint64(r.Clusters())
	}
	if next != uint64(a.cpg) {
		c.problem(DiscontigClusters, g.blkno, "Discontiguous group %d has %d clusters, want %d", g.blkno, next, a.cpg)
		return false
	}
	return true
}

// chainTotals compares the inode with the sums.
func (c *checker) chainTotals(a *allocator, d ondisk.Dinode, sum chainSums) {
	if uint64(d.Total()) != sum.total || uint64(d.Used()) != sum.total-sum.free {
		c.problem(ChainGroupBits, a.ino, "Allocator %s says %d bits used of %d, its chains add up to %d of %d",
			a.name, d.Used(), d.Total(), sum.total-sum.free, sum.total)
	}
	clusters := sum.total / uint64(a.bpc)
	if uint64(d.Clusters()) != clusters {
		c.problem(ChainIClusters, a.ino, "Allocator %s has i_clusters %d, its groups have %d", a.name, d.Clusters(), clusters)
	}
	if d.Size() != clusters<<c.g.ClusterBits {
		c.problem(ChainISize, a.ino, "Allocator %s has i_size %d, want %d", a.name, d.Size(), clusters<<c.g.ClusterBits)
	}
	if a.kind == allocClusters {
		c.rep.Summary.UsedClusters = sum.total - sum.free
		if sum.total != uint64(c.g.TotalClusters) {
			c.problem(SuperblockClusters, ondisk.SuperBlkno, "Superblock says %d clusters, the cluster bitmap has %d", c.g.TotalClusters, sum.total)
		}
	}
}

// missingGroups reports cluster groups that no chain reaches.
func (c *checker) missingGroups(a *allocator, seen map[uint64]int) {
	for i := range c.g.GroupCount() {
		if _, ok := seen[c.g.GroupBlkno(i)]; !ok {
			c.problem(GroupExpectedDesc, c.g.GroupBlkno(i), "Cluster group descriptor at block %d is on no chain", c.g.GroupBlkno(i))
		}
	}
	slices.SortFunc(a.groups, func(x, y *group) int { return cmp.Compare(x.blkno, y.blkno) })
}
