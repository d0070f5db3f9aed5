package check

import (
	"encoding/binary"
	"testing"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// inlineFile is a file with inline data in /dir.
func inlineFile(change func(d ondisk.Dinode)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) {
		v.inode(v.findInode(t, "inline file", func(d ondisk.Dinode) bool {
			return d.IsRegular() && d.HasDyn(ondisk.DynInlineData) && !d.HasDyn(ondisk.DynHasXattr)
		}), change)
	}
}

var inodeCorruptions = []corruption{
	{InodeAllocRepair, "bit without inode", "", onGroup(ondisk.SysInodeAlloc, 0, func(g ondisk.GroupDesc) { g.Bitmap()[200] |= 1 })},
	{InodeAllocRepair, "inode without bit", "", onGroup(ondisk.SysInodeAlloc, 0, func(g ondisk.GroupDesc) { g.Bitmap()[0] &^= 4 })},
	{InodeSuballoc, "slot", "", on("frag", func(d ondisk.Dinode) { d.SetSuballocSlot(1) })},
	{InodeSuballocBit, "bit", "", on("frag", func(d ondisk.Dinode) { d.SetSuballocBit(1) })},
	{InodeGen, "generation", "", on("frag", func(d ondisk.Dinode) { d.SetFSGeneration(5) })},
	{InodeBlkno, "blkno", "", on("frag", func(d ondisk.Dinode) { d.SetBlkno(5) })},
	{InodeNZDtime, "dtime", "", on("frag", func(d ondisk.Dinode) { d.SetDtime(5) })},
	{RootNotDir, "mode", "", func(_ testing.TB, v *volume) {
		v.inode(v.g.RootBlkno, func(d ondisk.Dinode) { d.SetMode(ondisk.ModeRegular) })
	}},
	{RootDirMissing, "freed", "", func(_ testing.TB, v *volume) { v.inode(v.g.RootBlkno, func(d ondisk.Dinode) { d.SetFlags(0) }) }},
	{InlineDataFlagInvalid, "feature", "", setFeatures(func(f *ondisk.Features) { f.Incompat &^= ondisk.FeatureIncompatInlineData })},
	{InlineDataCount, "count", "", inlineFile(func(d ondisk.Dinode) { d.Inline().SetCount(d.Inline().Count() - 8) })},
	{InodeInlineSize, "size", "", inlineFile(func(d ondisk.Dinode) { d.SetSize(10000) })},
	{InodeInlineClusters, "clusters", "", inlineFile(func(d ondisk.Dinode) { d.SetClusters(1) })},
	{InlineTail, "tail", "", inlineFile(func(d ondisk.Dinode) { d.Inline().Data()[200] = 1 })},
	{RefcountFlagInvalid, "directory", "", on("dir", func(d ondisk.Dinode) {
		d.SetDynFeatures(d.DynFeatures() | ondisk.DynHasRefcount)
		d.SetRefcountLoc(100)
	})},
	{RefcountLocInvalid, "no flag", "", on("frag", func(d ondisk.Dinode) { d.SetDynFeatures(0) })},
	{LinkNullTerm, "no NUL", "", on("link", func(d ondisk.Dinode) {
		for i := range d.ID2() {
			d.ID2()[i] = 'x'
		}
	})},
	{LinkSize, "fast", "", on("link", func(d ondisk.Dinode) { d.SetSize(5) })},
	{LinkSize, "slow", "", on("longlink", func(d ondisk.Dinode) { d.SetSize(4000) })},
	{LinkBlocks, "slow", "", on("longlink", func(d ondisk.Dinode) { d.SetSize(9000) })},
	{DirZero, "no extents", "", on("dir", func(d ondisk.Dinode) { d.Extents().SetNextFree(0) })},
	{NoHoles, "hole", "", on("dir", func(d ondisk.Dinode) { d.Extents().Rec(0).SetCpos(1) })},
	{InodeSize, "beyond allocation", "", on("dir", func(d ondisk.Dinode) { d.SetSize(1 << 20) })},
	{InodeSize, "no multiple", "", on("dir", func(d ondisk.Dinode) { d.SetSize(1000) })},
	{InodeSize, "not sparse", "", func(t testing.TB, v *volume) {
		setFeatures(func(f *ondisk.Features) { f.Incompat &^= ondisk.FeatureIncompatSparseAlloc })(t, v)
		on("xblock", func(d ondisk.Dinode) { d.SetSize(1 << 30) })(t, v)
	}},
	{InodeClusters, "not sparse", "", func(t testing.TB, v *volume) {
		setFeatures(func(f *ondisk.Features) { f.Incompat &^= ondisk.FeatureIncompatSparseAlloc })(t, v)
		on("xblock", func(d ondisk.Dinode) { d.SetClusters(7) })(t, v)
	}},
	{InodeSparseSize, "short", "", on("frag", func(d ondisk.Dinode) { d.SetSize(100) })},
	{InodeSparseClusters, "count", "", on("frag", func(d ondisk.Dinode) { d.SetClusters(1) })},
	{DupClusters, "two files", "", func(t testing.TB, v *volume) {
		blkno := ondisk.Dinode(v.get(v.lookup(t, v.g.RootBlkno, "unwritten"))).Extents().Rec(0).Blkno()
		on("xbucket", func(d ondisk.Dinode) { d.Extents().Rec(0).SetBlkno(blkno) })(t, v)
	}},
	{DupClusters, "shared and not", "", func(t testing.TB, v *volume) {
		blkno := ondisk.Dinode(v.get(v.lookup(t, v.g.RootBlkno, "xblock"))).Extents().Rec(0).Blkno()
		on("xbucket", func(d ondisk.Dinode) { d.Extents().Rec(0).SetBlkno(blkno) })(t, v)
	}},
	{DupClustersSysfile, "journal", "", func(t testing.TB, v *volume) {
		blkno := ondisk.Dinode(v.get(v.sys(t, ondisk.SysJournal, 0))).Extents().Rec(0).Blkno()
		onSys(ondisk.SysJournal, 1, func(d ondisk.Dinode) { d.Extents().Rec(0).SetBlkno(blkno) })(t, v)
	}},
	{InodeCount, "file", "", on("frag", func(d ondisk.Dinode) { d.SetLinks(7) })},
	{InodeCount, "high half", "", on("frag", func(d ondisk.Dinode) { d.SetLinks(d.Links() | 1<<16) })},
	{InodeCount, "directory", "", on("dir", func(d ondisk.Dinode) { d.SetLinks(2) })},
}

// onLalloc opens a window of eight clusters that are free, and changes it.
func onLalloc(change func(d ondisk.Dinode)) func(testing.TB, *volume) {
	return onSys(ondisk.SysLocalAlloc, 0, func(d ondisk.Dinode) {
		d.SetTotal(8)
		d.LocalAlloc().SetBmOff(40000)
		change(d)
	})
}

// onTrunc adds a record to the truncate log.
func onTrunc(start, n uint32) func(testing.TB, *volume) {
	return onSys(ondisk.SysTruncateLog, 0, func(d ondisk.Dinode) {
		d.TruncLog().SetUsed(1)
		d.TruncLog().Rec(0).SetStart(start)
		d.TruncLog().Rec(0).SetClusters(n)
	})
}

// onJournalSuper changes the log superblock of slot 1.
func onJournalSuper(off int, v uint32) func(testing.TB, *volume) {
	return onSysBlock(ondisk.SysJournal, 1, 0, func(b []byte) { binary.BigEndian.PutUint32(b[off:], v) })
}

var slotFileCorruptions = []corruption{
	{LallocSize, "capacity", "", onSys(ondisk.SysLocalAlloc, 0, func(d ondisk.Dinode) { d.LocalAlloc().SetSize(9999) })},
	{LallocNZUsed, "used", "", onSys(ondisk.SysLocalAlloc, 0, func(d ondisk.Dinode) { d.SetUsed(1) })},
	{LallocNZBm, "start", "", onSys(ondisk.SysLocalAlloc, 0, func(d ondisk.Dinode) { d.LocalAlloc().SetBmOff(100) })},
	{LallocUsedCount, "bit in an empty one", "", onSys(ondisk.SysLocalAlloc, 0, func(d ondisk.Dinode) { d.LocalAlloc().Bitmap()[3] = 1 })},
	{LallocBmOverrun, "start", "", onLalloc(func(d ondisk.Dinode) { d.LocalAlloc().SetBmOff(1 << 30) })},
	{LallocBmSize, "bits", "", onLalloc(func(d ondisk.Dinode) { d.SetTotal(100000) })},
	{LallocBmStraddle, "end", "", onLalloc(func(d ondisk.Dinode) { d.LocalAlloc().SetBmOff(51195) })},
	{LallocUsedOverrun, "used", "", onLalloc(func(d ondisk.Dinode) { d.SetUsed(9) })},
	{LallocUsedCount, "used", "", onLalloc(func(d ondisk.Dinode) { d.SetUsed(3) })},
	{LallocFreeInUse, "window in use", "", onLalloc(func(d ondisk.Dinode) { d.LocalAlloc().SetBmOff(1) })},
	{ClusterAllocBit, "window not claimed", "", onLalloc(func(ondisk.Dinode) {})},
	{DeallocCount, "count", "", onSys(ondisk.SysTruncateLog, 1, func(d ondisk.Dinode) { d.TruncLog().SetCount(10) })},
	{DeallocUsed, "used", "", onSys(ondisk.SysTruncateLog, 1, func(d ondisk.Dinode) { d.TruncLog().SetUsed(100) })},
	{TruncateRecStart, "start", "", onTrunc(1<<30, 1)},
	{TruncateRecRange, "end", "", onTrunc(51199, 2)},
	{TruncateRecInUse, "in use", "", onTrunc(2, 1)},
	{ClusterAllocBit, "freed twice", "", onTrunc(40000, 4)},
	{JournalFileInvalid, "no superblock", "", onJournalSuper(0, 0)},
	{JournalFileInvalid, "block size", "", onJournalSuper(0x0C, 4096)},
	{JournalFileInvalid, "no blocks", "", onSys(ondisk.SysJournal, 0, func(d ondisk.Dinode) { d.Extents().SetNextFree(0) })},
	{JournalUnknown, "feature", "", onJournalSuper(0x28, 0x10)},
	{JournalMissing, "feature", "", onJournalSuper(0x28, 0x2)},
	{JournalTooSmall, "size", "", onSys(ondisk.SysJournal, 1, func(d ondisk.Dinode) { d.SetSize(1 << 23) })},
}

const deep = "kernel-512-deep"

// deepNode is the extent block at the given depth on the leftmost path of /deep.
func deepNode(t testing.TB, v *volume, depth uint16) uint64 {
	t.Helper()
	l := ondisk.Dinode(v.get(v.lookup(t, v.g.RootBlkno, "deep"))).Extents()
	for l.Depth() > depth {
		blkno := l.Rec(0).Blkno()
		l = ondisk.ExtentBlock(v.get(blkno)).List()
		if l.Depth() == depth {
			return blkno
		}
	}
	t.Fatalf("/deep has no node of depth %d", depth)
	return 0
}

func onNode(depth uint16, change func(e ondisk.ExtentBlock)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) { v.edit(deepNode(t, v, depth), func(b []byte) { change(b) }) }
}

var treeCorruptions = []corruption{
	{EBBlkno, "leaf", deep, onNode(0, func(e ondisk.ExtentBlock) { e.SetBlkno(1) })},
	{EBGen, "leaf", deep, onNode(0, func(e ondisk.ExtentBlock) { e.SetFSGeneration(1) })},
	{EBSuballoc, "bit", deep, onNode(1, func(e ondisk.ExtentBlock) { e.SetSuballocBit(1) })},
	{ExtentEBInvalid, "signature", deep, onNode(0, func(e ondisk.ExtentBlock) { e[0] = 'X' })},
	{ExtentBlknoRange, "child", deep, onNode(1, func(e ondisk.ExtentBlock) { e.List().Rec(3).SetBlkno(1) })},
	{ExtentBlknoRange, "data", deep, onNode(0, func(e ondisk.ExtentBlock) { e.List().Rec(3).SetBlkno(1 << 40) })},
	{ExtentBlknoRange, "empty record", deep, onNode(0, func(e ondisk.ExtentBlock) { e.List().Rec(3).SetClusters(0) })},
	{ExtentListDepth, "root", deep, on("deep", func(d ondisk.Dinode) { d.Extents().SetDepth(9) })},
	{ExtentListDepth, "child", deep, onNode(1, func(e ondisk.ExtentBlock) { e.List().SetDepth(2) })},
	{ExtentListCount, "leaf", deep, onNode(0, func(e ondisk.ExtentBlock) { e.List().SetCount(29) })},
	{ExtentListFree, "leaf", deep, onNode(0, func(e ondisk.ExtentBlock) { e.List().SetCount(20) })},
	{ExtentBlknoUnaligned, "leaf", deep, onNode(0, func(e ondisk.ExtentBlock) { r := e.List().Rec(0); r.SetBlkno(r.Blkno() + 1) })},
	{ExtentClustersOverrun, "leaf", deep, onNode(0, func(e ondisk.ExtentBlock) { e.List().Rec(0).SetClusters(60000) })},
	{ExtentOverlap, "leaf", deep, onNode(0, func(e ondisk.ExtentBlock) { e.List().Rec(2).SetCpos(e.List().Rec(1).Cpos()) })},
	{ExtentUnwritten, "no feature", deep, setFeatures(func(f *ondisk.Features) { f.ROCompat = 0 })},
	{ExtentUnwritten, "unknown flag", deep, onNode(0, func(e ondisk.ExtentBlock) { e.List().Rec(2).SetFlags(0x82) })},
	{ExtentRefcounted, "inode without tree", deep, on("deep", func(d ondisk.Dinode) { d.SetDynFeatures(0); d.SetRefcountLoc(0) })},
	{EBNextLeaf, "wrong", deep, onNode(0, func(e ondisk.ExtentBlock) { e.SetNextLeafBlk(e.NextLeafBlk() + 1) })},
	{EBNextLeaf, "last", deep, func(t testing.TB, v *volume) {
		d := ondisk.Dinode(v.get(v.lookup(t, v.g.RootBlkno, "deep")))
		v.edit(d.LastEbBlk(), func(b []byte) { ondisk.ExtentBlock(b).SetNextLeafBlk(99) })
	}},
	{TreeLastEB, "inode", deep, on("deep", func(d ondisk.Dinode) { d.SetLastEbBlk(d.LastEbBlk() - 1) })},
	{TreeLastEB, "flat", "", on("unwritten", func(d ondisk.Dinode) { d.SetLastEbBlk(1) })},
	{ExtentInterior, "gap", deep, onNode(1, func(e ondisk.ExtentBlock) { r := e.List().Rec(4); r.SetIntClusters(r.IntClusters() - 1) })},
	{ExtentInterior, "child outside", deep, func(t testing.TB, v *volume) {
		onNode(1, func(e ondisk.ExtentBlock) {
			a, b := e.List().Rec(4), e.List().Rec(5)
			end := b.Cpos() + b.IntClusters()
			cut := a.Cpos() + 1
			a.SetIntClusters(1)
			b.SetCpos(cut)
			b.SetIntClusters(end - cut)
		})(t, v)
	}},
	{ExtentInterior, "end", deep, on("deep", func(d ondisk.Dinode) {
		r := d.Extents().Rec(int(d.Extents().NextFree()) - 1)
		r.SetIntClusters(r.IntClusters() + 5)
	})},
	{ExtentEmptyNode, "leaf", deep, onNode(0, func(e ondisk.ExtentBlock) { e.List().SetNextFree(0) })},
	{ExtentEmptyNode, "interior", deep, onNode(1, func(e ondisk.ExtentBlock) { e.List().SetNextFree(0) })},
	{MetaDuplicate, "child twice", deep, onNode(1, func(e ondisk.ExtentBlock) { e.List().Rec(4).SetBlkno(e.List().Rec(3).Blkno()) })},
	{MetaAllocLeak, "bit", "", onGroup(ondisk.SysExtentAlloc, 0, func(g ondisk.GroupDesc) { g.Bitmap()[100] |= 1 })},
	{MetaAllocFree, "bit", "", onGroup(ondisk.SysExtentAlloc, 0, func(g ondisk.GroupDesc) { g.Bitmap()[0] &^= 2 })},
	{MetaAllocFree, "no group", "", func(t testing.TB, v *volume) {
		// A copy of the index root in a data cluster.
		ino := v.lookup(t, v.g.RootBlkno, "dir")
		from := ondisk.Dinode(v.get(ino)).DxRoot()
		to := fileBlock(t, v, v.lookup(t, v.g.RootBlkno, "unwritten"), 0)
		v.blocks[to] = v.get(from)
		v.edit(to, func(b []byte) { ondisk.DxRoot(b).SetBlkno(to) })
		v.inode(ino, func(d ondisk.Dinode) { d.SetDxRoot(to) })
	}},
}
