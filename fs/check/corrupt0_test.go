package check

import (
	"testing"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// onGroup changes the first group descriptor of an allocator.
func onGroup(kind ondisk.SystemFile, slot int, change func(g ondisk.GroupDesc)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) {
		v.edit(ondisk.Dinode(v.get(v.sys(t, kind, slot))).Chains().Rec(0).Blkno(), func(b []byte) { change(b) })
	}
}

// onRuns turns the inode group of slot 0 into a discontiguous one with one run
// and then changes its list.
func onRuns(change func(v *volume, g ondisk.GroupDesc, l ondisk.ExtentList)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) {
		onGroup(ondisk.SysInodeAlloc, 0, func(g ondisk.GroupDesc) {
			l := g.List()
			l.SetCount(uint16(l.Space()))
			l.SetNextFree(1)
			l.Rec(0).SetLeaf(0, 256, g.Blkno(), 0)
			change(v, g, l)
		})(t, v)
	}
}

var chainCorruptions = []corruption{
	{ChainCPG, "cluster bitmap", "", onSys(ondisk.SysGlobalBitmap, 0, func(d ondisk.Dinode) { d.Chains().SetCPG(100) })},
	{ChainCPG, "bits per cluster", "", onSys(ondisk.SysExtentAlloc, 0, func(d ondisk.Dinode) { d.Chains().SetBPC(1) })},
	{ChainCount, "capacity", "", onSys(ondisk.SysInodeAlloc, 0, func(d ondisk.Dinode) { d.Chains().SetCount(500) })},
	{ChainNextFree, "used", "", onSys(ondisk.SysInodeAlloc, 0, func(d ondisk.Dinode) { d.Chains().SetNextFree(20) })},
	{ChainEmpty, "record", "", onSys(ondisk.SysInodeAlloc, 0, func(d ondisk.Dinode) { d.Chains().SetNextFree(2) })},
	{ChainHeadLinkRange, "head", "", onSys(ondisk.SysInodeAlloc, 0, func(d ondisk.Dinode) { d.Chains().Rec(0).SetBlkno(1 << 50) })},
	{ChainLinkRange, "next", "", onGroup(ondisk.SysInodeAlloc, 0, func(g ondisk.GroupDesc) { g.SetNextGroup(1 << 60) })},
	{ChainLinkMagic, "next is no group", "", onGroup(ondisk.SysInodeAlloc, 0, func(g ondisk.GroupDesc) { g.SetNextGroup(g.Blkno() + 1) })},
	{ChainLinkGen, "generation", "", onGroup(ondisk.SysInodeAlloc, 0, func(g ondisk.GroupDesc) { g.SetGeneration(1) })},
	{ChainBits, "free", "", onSys(ondisk.SysInodeAlloc, 0, func(d ondisk.Dinode) { d.Chains().Rec(0).SetFree(1) })},
	{ChainBits, "total", "", onSys(ondisk.SysInodeAlloc, 0, func(d ondisk.Dinode) { d.Chains().Rec(0).SetTotal(1) })},
	{ChainGroupBits, "used", "", onSys(ondisk.SysGlobalBitmap, 0, func(d ondisk.Dinode) { d.SetUsed(d.Used() + 1) })},
	{ChainGroupBits, "total", "", onSys(ondisk.SysExtentAlloc, 0, func(d ondisk.Dinode) { d.SetTotal(0) })},
	{ChainIClusters, "i_clusters", "", onSys(ondisk.SysExtentAlloc, 0, func(d ondisk.Dinode) { d.SetClusters(3) })},
	{ChainISize, "i_size", "", onSys(ondisk.SysExtentAlloc, 0, func(d ondisk.Dinode) { d.SetSize(3) })},
	{GroupExpectedDesc, "chain dropped", "", onSys(ondisk.SysGlobalBitmap, 0, func(d ondisk.Dinode) {
		d.Chains().SetNextFree(d.Chains().NextFree() - 1)
	})},
	{GroupUnexpectedDesc, "inode group", "", func(t testing.TB, v *volume) {
		other := ondisk.Dinode(v.get(v.sys(t, ondisk.SysInodeAlloc, 0))).Chains().Rec(0).Blkno()
		onGroup(ondisk.SysGlobalBitmap, 0, func(g ondisk.GroupDesc) { g.SetNextGroup(other) })(t, v)
	}},
	{GroupParent, "parent", "", onGroup(ondisk.SysExtentAlloc, 0, func(g ondisk.GroupDesc) { g.SetParentDinode(17) })},
	{GroupBlkno, "blkno", "", onGroup(ondisk.SysExtentAlloc, 0, func(g ondisk.GroupDesc) { g.SetBlkno(9) })},
	{GroupChain, "chain", "", onGroup(ondisk.SysExtentAlloc, 0, func(g ondisk.GroupDesc) { g.SetChain(4) })},
	{GroupDuplicate, "two allocators", "", func(t testing.TB, v *volume) {
		blkno := ondisk.Dinode(v.get(v.sys(t, ondisk.SysExtentAlloc, 0))).Chains().Rec(0).Blkno()
		v.inode(v.sys(t, ondisk.SysExtentAlloc, 1), func(d ondisk.Dinode) { d.Chains().Rec(0).SetBlkno(blkno) })
	}},
	{GroupChainLoop, "itself", "", onGroup(ondisk.SysExtentAlloc, 0, func(g ondisk.GroupDesc) { g.SetNextGroup(g.Blkno()) })},
	{GroupFreeBits, "too many", "", onGroup(ondisk.SysExtentAlloc, 0, func(g ondisk.GroupDesc) { g.SetFreeBitsCount(g.FreeBitsCount() + 1) })},
	{GroupFreeBits, "too few", "", onGroup(ondisk.SysGlobalBitmap, 0, func(g ondisk.GroupDesc) { g.SetFreeBitsCount(g.FreeBitsCount() - 1) })},
	{GroupSize, "bits", "", onGroup(ondisk.SysExtentAlloc, 0, func(g ondisk.GroupDesc) { g.SetBits(65535) })},
	{GroupSize, "fewer bits", "", onGroup(ondisk.SysGlobalBitmap, 0, func(g ondisk.GroupDesc) { g.SetBits(8) })},
	{GroupSize, "bytes", "", onGroup(ondisk.SysGlobalBitmap, 0, func(g ondisk.GroupDesc) { g.SetSize(60000) })},
	{GroupBitsBeyond, "bit", "", func(t testing.TB, v *volume) {
		v.edit(v.g.GroupBlkno(v.g.GroupCount()-1), func(b []byte) { b[0x40+440] |= 1 })
	}},
	{GroupBitZero, "bit", "", onGroup(ondisk.SysExtentAlloc, 1, func(g ondisk.GroupDesc) { g.Bitmap()[0] &^= 1 })},
	{DiscontigDepth, "depth", "", onRuns(func(_ *volume, _ ondisk.GroupDesc, l ondisk.ExtentList) { l.SetDepth(1) })},
	{DiscontigCount, "count", "", onRuns(func(_ *volume, _ ondisk.GroupDesc, l ondisk.ExtentList) { l.SetCount(99) })},
	{DiscontigNextFree, "next free", "", onRuns(func(_ *volume, _ ondisk.GroupDesc, l ondisk.ExtentList) { l.SetNextFree(99) })},
	{DiscontigRecRange, "range", "", onRuns(func(v *volume, g ondisk.GroupDesc, l ondisk.ExtentList) {
		l.SetNextFree(2)
		l.Rec(0).SetLeaf(0, 255, g.Blkno(), 0)
		l.Rec(1).SetLeaf(255, 1, v.g.TotalBlocks, 0)
	})},
	{DiscontigClusters, "sum", "", onRuns(func(_ *volume, g ondisk.GroupDesc, l ondisk.ExtentList) { l.Rec(0).SetClusters(255) })},
	{DiscontigRecCorrupt, "cpos", "", onRuns(func(_ *volume, g ondisk.GroupDesc, l ondisk.ExtentList) { l.Rec(0).SetCpos(1) })},
	{DiscontigRecCorrupt, "empty", "", onRuns(func(_ *volume, g ondisk.GroupDesc, l ondisk.ExtentList) { l.Rec(0).SetClusters(0) })},
	{InodeSuballocBit, "group of a split group", "", onRuns(func(*volume, ondisk.GroupDesc, ondisk.ExtentList) {})},
	{ClusterAllocBit, "leak", "", func(t testing.TB, v *volume) { v.edit(v.g.GroupBlkno(3), func(b []byte) { b[0x60] = 0xF0 }) }},
	{ClusterAllocBit, "in use but free", "", onGroup(ondisk.SysGlobalBitmap, 0, func(g ondisk.GroupDesc) { g.Bitmap()[0] &^= 2 })},
}

func TestASplitGroupIsSound(t *testing.T) {
	v := loadVolume(t, "kernel-512")
	onRuns(func(*volume, ondisk.GroupDesc, ondisk.ExtentList) {})(t, v)
	if p := v.run(t).Except(DxTreeMissing, InodeSparseSize, InodeSuballocBit); len(p) > 0 {
		t.Errorf("%v", p)
	}
}
