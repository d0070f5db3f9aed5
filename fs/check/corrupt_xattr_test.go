package check

import (
	"testing"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// onBucket changes the bucket of record i of the attributes of a file.
func onBucket(name string, i int, change func(h ondisk.XattrHeader)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) { v.editBucket(v.bucket(t, name, i), change) }
}

// onXattrBlock changes the attribute block of a file.
func onXattrBlock(name string, change func(x ondisk.XattrBlock)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) {
		v.edit(ondisk.Dinode(v.get(v.lookup(t, v.g.RootBlkno, name))).XattrLoc(), func(b []byte) { change(b) })
	}
}

var xattrCorruptions = []corruption{
	{XattrBlockInvalid, "range", "", on("xa", func(d ondisk.Dinode) { d.SetXattrLoc(1 << 40) })},
	{XattrBlockInvalid, "generation", "", onXattrBlock("xa", func(x ondisk.XattrBlock) { x.SetFSGeneration(1) })},
	{XattrBlockInvalid, "clusters", "", onXattrBlock("xbucket", func(x ondisk.XattrBlock) { x.Root().SetClusters(1) })},
	{XattrCountInvalid, "block", "", onXattrBlock("xa", func(x ondisk.XattrBlock) { x.Header().SetCount(1000) })},
	{XattrCountInvalid, "bucket", "", onBucket("xbucket", 1, func(h ondisk.XattrHeader) { h.SetCount(300) })},
	{XattrCountInvalid, "inline size", "kernel-1024-crash", func(t testing.TB, v *volume) {
		v.inode(v.findInode(t, "inline attributes", func(d ondisk.Dinode) bool { return d.HasDyn(ondisk.DynInlineXattr) }),
			func(d ondisk.Dinode) { d.SetXattrInlineSize(5000) })
	}},
	{XattrEntryInvalid, "index", "", onXattrBlock("xa", func(x ondisk.XattrBlock) { x.Header().Entry(0).SetType(9, true) })},
	{XattrEntryInvalid, "ACL with a name", "", onXattrBlock("xa", func(x ondisk.XattrBlock) { x.Header().Entry(0).SetType(2, true) })},
	{XattrNameOffset, "end", "", onXattrBlock("xa", func(x ondisk.XattrBlock) { x.Header().Entry(0).SetNameOffset(500) })},
	{XattrNameOffset, "table", "", onBucket("xbucket", 0, func(h ondisk.XattrHeader) { h.Entry(0).SetNameOffset(4) })},
	{XattrNameOffset, "inline", "kernel-1024-crash", func(t testing.TB, v *volume) {
		v.inode(v.findInode(t, "inline attributes", func(d ondisk.Dinode) bool { return d.HasDyn(ondisk.DynInlineXattr) }),
			func(d ondisk.Dinode) { d.XattrArea().Entry(0).SetNameOffset(255) })
	}},
	{XattrLocation, "local", "", onXattrBlock("xa", func(x ondisk.XattrBlock) { x.Header().Entry(0).SetType(1, false) })},
	{XattrLocation, "outside", "", onXattrBlock("dir", func(x ondisk.XattrBlock) { x.Header().Entry(0).SetType(1, true) })},
	{XattrValueInvalid, "clusters", "", onXattrBlock("dir", func(x ondisk.XattrBlock) { x.Header().ValueRoot(x.Header().Entry(0)).SetClusters(4) })},
	{XattrValueInvalid, "size", "", onXattrBlock("dir", func(x ondisk.XattrBlock) { x.Header().Entry(0).SetValueSize(60000) })},
	{XattrHashInvalid, "hash", "", onXattrBlock("xa", func(x ondisk.XattrBlock) { x.Header().Entry(0).SetNameHash(1) })},
	{XattrFreeStart, "bucket", "", onBucket("xbucket", 0, func(h ondisk.XattrHeader) { h.SetFreeStart(h.FreeStart() + 4) })},
	{XattrValueLen, "bucket", "", onBucket("xbucket", 0, func(h ondisk.XattrHeader) { h.SetNameValueLen(1) })},
	{XattrBucketCount, "none", "", onBucket("xbucket", 0, func(h ondisk.XattrHeader) { h.SetNumBuckets(0) })},
	{XattrBucketCount, "many", "", onBucket("xbucket", 0, func(h ondisk.XattrHeader) { h.SetNumBuckets(2) })},
	{XattrOverlap, "same place", "", onXattrBlock("xa", func(x ondisk.XattrBlock) {
		x.Header().Entry(1).SetNameOffset(x.Header().Entry(0).NameOffset())
	})},
	{XattrOverlap, "straddles a block", "", onBucket("xbucket", 0, func(h ondisk.XattrHeader) {
		h.Entry(0).SetNameOffset(uint16(512*6 - 4))
	})},
	{XattrOrder, "in a bucket", "", onBucket("xbucket", 0, func(h ondisk.XattrHeader) {
		a, b := h.Entry(0), h.Entry(1)
		for i := range a {
			a[i], b[i] = b[i], a[i]
		}
	})},
	{XattrOrder, "below the record", "", onXattrBlock("xbucket", func(x ondisk.XattrBlock) { r := x.Root().List().Rec(1); r.SetCpos(r.Cpos() + 1000) })},
	{XattrFlags, "flag", "", on("xa", func(d ondisk.Dinode) { d.SetDynFeatures(ondisk.DynInlineData) })},
	{XattrFlags, "feature", "", setFeatures(func(f *ondisk.Features) { f.Incompat &^= ondisk.FeatureIncompatXattr })},
	{XattrDuplicate, "name", "", onXattrBlock("xa", func(x ondisk.XattrBlock) {
		h := x.Header()
		copy(h.Name(h.Entry(1)), h.Name(h.Entry(0)))
		h.Entry(1).SetNameHash(h.Entry(0).NameHash())
	})},
	{EBSuballoc, "attribute block", "", onXattrBlock("xa", func(x ondisk.XattrBlock) { x.SetSuballocSlot(1) })},
}

// refRootOf is the refcount tree of /frag, and one of its leaves.
func refRootOf(t testing.TB, v *volume) (root, leaf uint64) {
	t.Helper()
	root = ondisk.Dinode(v.get(v.lookup(t, v.g.RootBlkno, "frag"))).RefcountLoc()
	r := ondisk.RefcountBlock(v.get(root))
	if !r.IsTree() {
		t.Fatal("the refcount tree of /frag has no leaves")
	}
	return root, r.Extents().Rec(1).Blkno()
}

func onRefRoot(change func(r ondisk.RefcountBlock)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) {
		root, _ := refRootOf(t, v)
		v.edit(root, func(b []byte) { change(b) })
	}
}

func onRefLeaf(change func(r ondisk.RefcountBlock)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) {
		_, leaf := refRootOf(t, v)
		v.edit(leaf, func(b []byte) { change(b) })
	}
}

var refcountCorruptions = []corruption{
	{RefcountRootInvalid, "range", "", on("frag", func(d ondisk.Dinode) { d.SetRefcountLoc(1 << 40) })},
	{RefcountRootInvalid, "signature", "", onRefRoot(func(r ondisk.RefcountBlock) { r[0] = 'X' })},
	{RefcountRootInvalid, "flags", "", onRefRoot(func(r ondisk.RefcountBlock) { r.SetFlags(7) })},
	{RefcountBlockInvalid, "generation", "", onRefLeaf(func(r ondisk.RefcountBlock) { r.SetFSGeneration(1) })},
	{RefcountBlockInvalid, "flags", "", onRefLeaf(func(r ondisk.RefcountBlock) { r.SetFlags(0) })},
	{RBParent, "leaf", "", onRefLeaf(func(r ondisk.RefcountBlock) { r.SetParent(1) })},
	{RBParent, "root", "", onRefRoot(func(r ondisk.RefcountBlock) { r.SetParent(1) })},
	{RefcountGen, "leaf", "", onRefLeaf(func(r ondisk.RefcountBlock) { r.SetGeneration(1) })},
	{RefcountOrder, "cpos", "", onRefLeaf(func(r ondisk.RefcountBlock) { r.SetCpos(1) })},
	{RefcountOrder, "below the leaf", "", onRefLeaf(func(r ondisk.RefcountBlock) { r.Records().Rec(0).SetCpos(2) })},
	{RefcountListCount, "leaf", "", onRefLeaf(func(r ondisk.RefcountBlock) { r.Records().SetCount(99) })},
	{RefcountListUsed, "leaf", "", onRefLeaf(func(r ondisk.RefcountBlock) { r.Records().SetUsed(99) })},
	{RefcountListEmpty, "leaf", "", onRefLeaf(func(r ondisk.RefcountBlock) { r.Records().SetUsed(0) })},
	{RefcountRange, "off the volume", "", onRefLeaf(func(r ondisk.RefcountBlock) { r.Records().Rec(0).SetClusters(1 << 30) })},
	{RefcountRange, "empty", "", onRefLeaf(func(r ondisk.RefcountBlock) { r.Records().Rec(0).SetClusters(0) })},
	{RefcountCollision, "overlap", "", onRefLeaf(func(r ondisk.RefcountBlock) { r.Records().Rec(1).SetCpos(r.Records().Rec(0).Cpos()) })},
	{RefcountClusters, "leaves", "", onRefRoot(func(r ondisk.RefcountBlock) { r.SetClusters(1) })},
	{RefcountCount, "inodes", "", onRefRoot(func(r ondisk.RefcountBlock) { r.SetCount(9) })},
	{RefcountRedundant, "longer than what is shared", "", onRefLeaf(func(r ondisk.RefcountBlock) {
		last := r.Records().Rec(int(r.Records().Used()) - 1)
		last.SetClusters(last.Clusters() + 1)
	})},
	{RefcountRecCount, "count", "", onRefLeaf(func(r ondisk.RefcountBlock) { r.Records().Rec(0).SetRefcount(9) })},
	{RefcountRecCount, "missing record", "", onRefLeaf(func(r ondisk.RefcountBlock) { r.Records().SetUsed(r.Records().Used() - 1) })},
	{RefcountForeign, "two trees", "", func(t testing.TB, v *volume) {
		// /xblock has a tree of its own; let it point to a cluster of /frag.
		_, leaf := refRootOf(t, v)
		c := ondisk.RefcountBlock(v.get(leaf)).Records().Rec(0).Cpos()
		on("xblock", func(d ondisk.Dinode) { d.Extents().Rec(0).SetBlkno(v.g.ClustersToBlocks(uint32(c))) })(t, v)
	}},
	{EBSuballoc, "refcount leaf", "", onRefLeaf(func(r ondisk.RefcountBlock) { r.SetSuballocLoc(5) })},
}
