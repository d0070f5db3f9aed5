package ondisk

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// field is one setter with the bytes it must touch: the format's tables.
type field struct {
	name string
	off  int
	size int
	set  func(b []byte, v uint64)
	get  func(b []byte) uint64
}

func f16[V ~[]byte](name string, off int, get func(V) uint16, set func(V, uint16)) field {
	return field{name, off, 2, func(b []byte, v uint64) { set(V(b), uint16(v)) }, func(b []byte) uint64 { return uint64(get(V(b))) }}
}

func f32[V ~[]byte](name string, off int, get func(V) uint32, set func(V, uint32)) field {
	return field{name, off, 4, func(b []byte, v uint64) { set(V(b), uint32(v)) }, func(b []byte) uint64 { return uint64(get(V(b))) }}
}

func f64[V ~[]byte](name string, off int, get func(V) uint64, set func(V, uint64)) field {
	return field{name, off, 8, func(b []byte, v uint64) { set(V(b), v) }, func(b []byte) uint64 { return get(V(b)) }}
}

var fieldTable = []field{
	f32("i_generation", 0x08, Dinode.Generation, Dinode.SetGeneration),
	f16("i_suballoc_slot", 0x0C, Dinode.SuballocSlot, Dinode.SetSuballocSlot),
	f16("i_suballoc_bit", 0x0E, Dinode.SuballocBit, Dinode.SetSuballocBit),
	f16("i_xattr_inline_size", 0x12, Dinode.XattrInlineSize, Dinode.SetXattrInlineSize),
	f32("i_clusters", 0x14, Dinode.Clusters, Dinode.SetClusters),
	f32("i_uid", 0x18, Dinode.UID, Dinode.SetUID),
	f32("i_gid", 0x1C, Dinode.GID, Dinode.SetGID),
	f64("i_size", 0x20, Dinode.Size, Dinode.SetSize),
	f16("i_mode", 0x28, Dinode.Mode, Dinode.SetMode),
	f32("i_flags", 0x2C, Dinode.Flags, Dinode.SetFlags),
	f64("i_dtime", 0x48, Dinode.Dtime, Dinode.SetDtime),
	f64("i_blkno", 0x50, Dinode.Blkno, Dinode.SetBlkno),
	f64("i_last_eb_blk", 0x58, Dinode.LastEbBlk, Dinode.SetLastEbBlk),
	f32("i_fs_generation", 0x60, Dinode.FSGeneration, Dinode.SetFSGeneration),
	f32("i_attr", 0x70, Dinode.Attr, Dinode.SetAttr),
	f16("i_orphaned_slot", 0x74, Dinode.OrphanedSlot, Dinode.SetOrphanedSlot),
	f16("i_dyn_features", 0x76, Dinode.DynFeatures, Dinode.SetDynFeatures),
	f64("i_xattr_loc", 0x78, Dinode.XattrLoc, Dinode.SetXattrLoc),
	f64("i_dx_root", 0x88, Dinode.DxRoot, Dinode.SetDxRoot),
	f64("i_refcount_loc", 0x90, Dinode.RefcountLoc, Dinode.SetRefcountLoc),
	f64("i_suballoc_loc", 0x98, Dinode.SuballocLoc, Dinode.SetSuballocLoc),
	f16("i_dio_orphaned_slot", 0xA0, Dinode.DioOrphanedSlot, Dinode.SetDioOrphanedSlot),
	f64("i_rdev", 0xB8, Dinode.Rdev, Dinode.SetRdev),
	f32("i_used", 0xB8, Dinode.Used, Dinode.SetUsed),
	f32("i_total", 0xBC, Dinode.Total, Dinode.SetTotal),
	f32("ij_flags", 0xB8, Dinode.JournalFlags, Dinode.SetJournalFlags),
	f32("ij_recovery_generation", 0xBC, Dinode.RecoveryGeneration, Dinode.SetRecoveryGeneration),
	f16("l_tree_depth", 0, ExtentList.Depth, ExtentList.SetDepth),
	f16("l_count", 2, ExtentList.Count, ExtentList.SetCount),
	f16("l_next_free_rec", 4, ExtentList.NextFree, ExtentList.SetNextFree),
	f32("e_cpos", 0, ExtentRec.Cpos, ExtentRec.SetCpos),
	f16("e_leaf_clusters", 4, ExtentRec.Clusters, ExtentRec.SetClusters),
	f32("e_int_clusters", 4, ExtentRec.IntClusters, ExtentRec.SetIntClusters),
	f64("e_blkno", 8, ExtentRec.Blkno, ExtentRec.SetBlkno),
	f16("h_suballoc_slot", 0x10, ExtentBlock.SuballocSlot, ExtentBlock.SetSuballocSlot),
	f16("h_suballoc_bit", 0x12, ExtentBlock.SuballocBit, ExtentBlock.SetSuballocBit),
	f32("h_fs_generation", 0x14, ExtentBlock.FSGeneration, ExtentBlock.SetFSGeneration),
	f64("h_blkno", 0x18, ExtentBlock.Blkno, ExtentBlock.SetBlkno),
	f64("h_suballoc_loc", 0x20, ExtentBlock.SuballocLoc, ExtentBlock.SetSuballocLoc),
	f64("h_next_leaf_blk", 0x28, ExtentBlock.NextLeafBlk, ExtentBlock.SetNextLeafBlk),
	f16("cl_cpg", 0, ChainList.CPG, ChainList.SetCPG),
	f16("cl_bpc", 2, ChainList.BPC, ChainList.SetBPC),
	f16("cl_count", 4, ChainList.Count, ChainList.SetCount),
	f16("cl_next_free_rec", 6, ChainList.NextFree, ChainList.SetNextFree),
	f32("c_free", 0, ChainRec.Free, ChainRec.SetFree),
	f32("c_total", 4, ChainRec.Total, ChainRec.SetTotal),
	f64("c_blkno", 8, ChainRec.Blkno, ChainRec.SetBlkno),
	f16("bg_size", 0x08, GroupDesc.Size, GroupDesc.SetSize),
	f16("bg_bits", 0x0A, GroupDesc.Bits, GroupDesc.SetBits),
	f16("bg_free_bits_count", 0x0C, GroupDesc.FreeBitsCount, GroupDesc.SetFreeBitsCount),
	f16("bg_chain", 0x0E, GroupDesc.Chain, GroupDesc.SetChain),
	f32("bg_generation", 0x10, GroupDesc.Generation, GroupDesc.SetGeneration),
	f16("bg_contig_free_bits", 0x14, GroupDesc.ContigFreeBits, GroupDesc.SetContigFreeBits),
	f64("bg_next_group", 0x18, GroupDesc.NextGroup, GroupDesc.SetNextGroup),
	f64("bg_parent_dinode", 0x20, GroupDesc.ParentDinode, GroupDesc.SetParentDinode),
	f64("bg_blkno", 0x28, GroupDesc.Blkno, GroupDesc.SetBlkno),
	f64("dirent inode", 0, DirEntry.Inode, DirEntry.SetInode),
	f16("dirent rec_len", 8, DirEntry.RecLen, DirEntry.SetRecLen),
	f64("db_compat_inode", 0, DirTrailer.CompatInode, DirTrailer.SetCompatInode),
	f16("db_compat_rec_len", 8, DirTrailer.CompatRecLen, DirTrailer.SetCompatRecLen),
	f16("db_free_rec_len", 0x0E, DirTrailer.FreeRecLen, DirTrailer.SetFreeRecLen),
	f64("db_free_next", 0x20, DirTrailer.FreeNext, DirTrailer.SetFreeNext),
	f64("db_blkno", 0x28, DirTrailer.Blkno, DirTrailer.SetBlkno),
	f64("db_parent_dinode", 0x30, DirTrailer.ParentDinode, DirTrailer.SetParentDinode),
	f16("dr_suballoc_slot", 0x10, DxRoot.SuballocSlot, DxRoot.SetSuballocSlot),
	f16("dr_suballoc_bit", 0x12, DxRoot.SuballocBit, DxRoot.SetSuballocBit),
	f32("dr_fs_generation", 0x14, DxRoot.FSGeneration, DxRoot.SetFSGeneration),
	f64("dr_blkno", 0x18, DxRoot.Blkno, DxRoot.SetBlkno),
	f64("dr_last_eb_blk", 0x20, DxRoot.LastEbBlk, DxRoot.SetLastEbBlk),
	f32("dr_clusters", 0x28, DxRoot.Clusters, DxRoot.SetClusters),
	f64("dr_dir_blkno", 0x30, DxRoot.DirBlkno, DxRoot.SetDirBlkno),
	f32("dr_num_entries", 0x38, DxRoot.NumEntries, DxRoot.SetNumEntries),
	f64("dr_free_blk", 0x40, DxRoot.FreeBlk, DxRoot.SetFreeBlk),
	f64("dr_suballoc_loc", 0x48, DxRoot.SuballocLoc, DxRoot.SetSuballocLoc),
	f64("dl_blkno", 0x10, DxLeaf.Blkno, DxLeaf.SetBlkno),
	f32("dl_fs_generation", 0x18, DxLeaf.FSGeneration, DxLeaf.SetFSGeneration),
	f16("de_count", 4, DxEntryList.Count, DxEntryList.SetCount),
	f16("de_num_used", 6, DxEntryList.NumUsed, DxEntryList.SetNumUsed),
	f64("dx_dirent_blk", 8, DxEntry.DirentBlk, DxEntry.SetDirentBlk),
	f16("xh_count", 0, XattrHeader.Count, XattrHeader.SetCount),
	f16("xh_free_start", 2, XattrHeader.FreeStart, XattrHeader.SetFreeStart),
	f16("xh_name_value_len", 4, XattrHeader.NameValueLen, XattrHeader.SetNameValueLen),
	f16("xh_num_buckets", 6, XattrHeader.NumBuckets, XattrHeader.SetNumBuckets),
	f32("xe_name_hash", 0, XattrEntry.NameHash, XattrEntry.SetNameHash),
	f16("xe_name_offset", 4, XattrEntry.NameOffset, XattrEntry.SetNameOffset),
	f64("xe_value_size", 8, XattrEntry.ValueSize, XattrEntry.SetValueSize),
	f32("xr_clusters", 0, XattrValueRoot.Clusters, XattrValueRoot.SetClusters),
	f64("xr_last_eb_blk", 8, XattrValueRoot.LastEbBlk, XattrValueRoot.SetLastEbBlk),
	f16("xb_suballoc_slot", 0x08, XattrBlock.SuballocSlot, XattrBlock.SetSuballocSlot),
	f16("xb_suballoc_bit", 0x0A, XattrBlock.SuballocBit, XattrBlock.SetSuballocBit),
	f32("xb_fs_generation", 0x0C, XattrBlock.FSGeneration, XattrBlock.SetFSGeneration),
	f64("xb_blkno", 0x10, XattrBlock.Blkno, XattrBlock.SetBlkno),
	f16("xb_flags", 0x20, XattrBlock.Flags, XattrBlock.SetFlags),
	f64("xb_suballoc_loc", 0x28, XattrBlock.SuballocLoc, XattrBlock.SetSuballocLoc),
	f32("xt_clusters", 0, XattrTreeRoot.Clusters, XattrTreeRoot.SetClusters),
	f64("xt_last_eb_blk", 8, XattrTreeRoot.LastEbBlk, XattrTreeRoot.SetLastEbBlk),
	f16("rf_suballoc_slot", 0x08, RefcountBlock.SuballocSlot, RefcountBlock.SetSuballocSlot),
	f16("rf_suballoc_bit", 0x0A, RefcountBlock.SuballocBit, RefcountBlock.SetSuballocBit),
	f32("rf_fs_generation", 0x0C, RefcountBlock.FSGeneration, RefcountBlock.SetFSGeneration),
	f64("rf_blkno", 0x10, RefcountBlock.Blkno, RefcountBlock.SetBlkno),
	f64("rf_parent", 0x18, RefcountBlock.Parent, RefcountBlock.SetParent),
	f64("rf_last_eb_blk", 0x28, RefcountBlock.LastEbBlk, RefcountBlock.SetLastEbBlk),
	f32("rf_count", 0x30, RefcountBlock.Count, RefcountBlock.SetCount),
	f32("rf_flags", 0x34, RefcountBlock.Flags, RefcountBlock.SetFlags),
	f32("rf_clusters", 0x38, RefcountBlock.Clusters, RefcountBlock.SetClusters),
	f32("rf_cpos", 0x3C, RefcountBlock.Cpos, RefcountBlock.SetCpos),
	f32("rf_generation", 0x40, RefcountBlock.Generation, RefcountBlock.SetGeneration),
	f64("rf_suballoc_loc", 0x48, RefcountBlock.SuballocLoc, RefcountBlock.SetSuballocLoc),
	f16("rl_count", 0, RefcountList.Count, RefcountList.SetCount),
	f16("rl_used", 2, RefcountList.Used, RefcountList.SetUsed),
	f64("r_cpos", 0, RefcountRec.Cpos, RefcountRec.SetCpos),
	f32("r_clusters", 8, RefcountRec.Clusters, RefcountRec.SetClusters),
	f32("r_refcount", 12, RefcountRec.Refcount, RefcountRec.SetRefcount),
	f16("tl_count", 0, TruncLog.Count, TruncLog.SetCount),
	f16("tl_used", 2, TruncLog.Used, TruncLog.SetUsed),
	f32("t_start", 0, TruncRec.Start, TruncRec.SetStart),
	f32("t_clusters", 4, TruncRec.Clusters, TruncRec.SetClusters),
	f32("la_bm_off", 0, LocalAlloc.BmOff, LocalAlloc.SetBmOff),
	f16("la_size", 4, LocalAlloc.Size, LocalAlloc.SetSize),
	f16("id_count", 0, InlineData.Count, InlineData.SetCount),
	f16("s_major_rev_level", 0x00, SuperBlock.MajorRev, SuperBlock.SetMajorRev),
	f16("s_minor_rev_level", 0x02, SuperBlock.MinorRev, SuperBlock.SetMinorRev),
	f16("s_mnt_count", 0x04, SuperBlock.MntCount, SuperBlock.SetMntCount),
	f16("s_max_mnt_count", 0x06, SuperBlock.MaxMntCount, SuperBlock.SetMaxMntCount),
	f16("s_state", 0x08, SuperBlock.State, SuperBlock.SetState),
	f16("s_errors", 0x0A, SuperBlock.Errors, SuperBlock.SetErrors),
	f32("s_checkinterval", 0x0C, SuperBlock.CheckInterval, SuperBlock.SetCheckInterval),
	f64("s_lastcheck", 0x10, SuperBlock.LastCheck, SuperBlock.SetLastCheck),
	f32("s_creator_os", 0x18, SuperBlock.CreatorOS, SuperBlock.SetCreatorOS),
	f64("s_root_blkno", 0x28, SuperBlock.RootBlkno, SuperBlock.SetRootBlkno),
	f64("s_system_dir_blkno", 0x30, SuperBlock.SystemDirBlkno, SuperBlock.SetSystemDirBlkno),
	f32("s_blocksize_bits", 0x38, SuperBlock.BlocksizeBits, SuperBlock.SetBlocksizeBits),
	f32("s_clustersize_bits", 0x3C, SuperBlock.ClustersizeBits, SuperBlock.SetClustersizeBits),
	f16("s_max_slots", 0x40, SuperBlock.MaxSlots, SuperBlock.SetMaxSlots),
	f16("s_tunefs_flag", 0x42, SuperBlock.TunefsFlag, SuperBlock.SetTunefsFlag),
	f32("s_uuid_hash", 0x44, SuperBlock.UUIDHash, SuperBlock.SetUUIDHash),
	f64("s_first_cluster_group", 0x48, SuperBlock.FirstClusterGroup, SuperBlock.SetFirstClusterGroup),
	f16("s_xattr_inline_size", 0xB8, SuperBlock.XattrInlineSize, SuperBlock.SetXattrInlineSize),
	f32("dqi_bgrace", 0x08, QuotaHeader.Bgrace, QuotaHeader.SetBgrace),
	f32("dqi_igrace", 0x0C, QuotaHeader.Igrace, QuotaHeader.SetIgrace),
	f32("dqi_syncms", 0x10, QuotaHeader.SyncMs, QuotaHeader.SetSyncMs),
	f32("dqi_blocks", 0x14, QuotaHeader.Blocks, QuotaHeader.SetBlocks),
	f32("dqi_free_blk", 0x18, QuotaHeader.FreeBlk, QuotaHeader.SetFreeBlk),
	f32("dqi_free_entry", 0x1C, QuotaHeader.FreeEntry, QuotaHeader.SetFreeEntry),
	f32("local dqi_flags", 0x08, QuotaHeader.LocalFlags, QuotaHeader.SetLocalFlags),
	f32("local dqi_chunks", 0x0C, QuotaHeader.LocalChunks, QuotaHeader.SetLocalChunks),
	f32("local dqi_blocks", 0x10, QuotaHeader.LocalBlocks, QuotaHeader.SetLocalBlocks),
}

func TestFieldsAtTheirOffsets(t *testing.T) {
	const value = 0x1122334455667788
	for _, f := range fieldTable {
		b := bytes.Repeat([]byte{0xA5}, 512)
		want := bytes.Clone(b)
		var le [8]byte
		binary.LittleEndian.PutUint64(le[:], value)
		copy(want[f.off:f.off+f.size], le[:])
		f.set(b, value)
		if !bytes.Equal(b, want) {
			t.Errorf("%s: set changed other bytes than %#x..%#x", f.name, f.off, f.off+f.size)
		}
		if got, mask := f.get(b), uint64(1)<<(8*f.size-1)<<1-1; got != value&mask {
			t.Errorf("%s: read back %#x", f.name, got)
		}
	}
}

func TestAccessorsDoNotAllocate(t *testing.T) {
	gold := loadGolden(t, 4096)
	d := Dinode(gold.block(t, "file").data)
	e := ExtentBlock(gold.block(t, "extent").data)
	dir := DirBlock(gold.block(t, "dirblock").data)
	n := 0
	if got := testing.AllocsPerRun(100, func() {
		d.SetSize(d.Size())
		l := e.List()
		for i := range int(l.NextFree()) {
			n += int(l.Rec(i).Clusters())
		}
		it := DirEntries(dir.Area(true))
		for it.Next() {
			major, _ := gold.g.DxHashBytes(it.Entry().Name())
			n += int(major)
		}
		ComputeCheck(e, CheckOffExtent)
		if ValidateCheck(e, CheckOffExtent) != nil || CheckExtentBlock(e, e.Blkno(), gold.g) != nil {
			n++
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func TestLinksAndTimes(t *testing.T) {
	d := make(Dinode, 512)
	d.SetLinks(0x12345678)
	if d[0x10] != 0x34 || d[0x11] != 0x12 || d[0x2A] != 0x78 || d[0x2B] != 0x56 || d.Links() != 0x12345678 {
		t.Errorf("links %#x: % x", d.Links(), d[0x10:0x2C])
	}
	d.SetAtime(-5, 999999999)
	d.SetCtime(1<<33, 7)
	d.SetMtime(3, 8)
	for name, c := range map[string]struct {
		get  func() (int64, uint32)
		sec  int64
		nsec uint32
	}{"atime": {d.Atime, -5, 999999999}, "ctime": {d.Ctime, 1 << 33, 7}, "mtime": {d.Mtime, 3, 8}} {
		if s, n := c.get(); s != c.sec || n != c.nsec {
			t.Errorf("%s: %d.%d", name, s, n)
		}
	}
}

func TestExtentRecordForms(t *testing.T) {
	r := make(ExtentRec, 16)
	r.SetLeaf(0x01020304, 0xFFFE, 0x1122334455667788, ExtentUnwritten|ExtentRefcounted)
	if r.Cpos() != 0x01020304 || r.Clusters() != 0xFFFE || r.Flags() != 3 || r[6] != 0 || r.Blkno() != 0x1122334455667788 || r.Len(0) != 0xFFFE {
		t.Errorf("leaf record % x", r)
	}
	r.SetInterior(5, 0xAABBCCDD, 9)
	if r.IntClusters() != 0xAABBCCDD || r.Len(1) != 0xAABBCCDD || r.Blkno() != 9 {
		t.Errorf("interior record % x", r)
	}
	r.Clear()
	if !bytes.Equal(r, make([]byte, 16)) {
		t.Errorf("cleared record % x", r)
	}
}

func TestSlotMapForms(t *testing.T) {
	for _, ext := range []bool{true, false} {
		m := SlotMap{Data: make([]byte, 512), Extended: ext}
		for s := range 10 {
			m.Clear(s)
		}
		m.Set(3, 77)
		for s := range 10 {
			node, used := m.Node(s)
			if used != (s == 3) || used && node != 77 {
				t.Errorf("extended %v: slot %d: %d %v", ext, s, node, used)
			}
		}
		if m.Clear(3); m.Data[3*8] != 0 && ext {
			t.Error("slot not cleared")
		}
	}
	if m := (SlotMap{make([]byte, 512), true}); m.Slots() != 64 {
		t.Errorf("%d slots in 512 bytes", m.Slots())
	}
}

func TestDirectoryHoles(t *testing.T) {
	area := make([]byte, 448)
	e := DirEntry(area)
	e.SetRecLen(448)
	if n, err := LargestHole(area); n != 448 || err != nil {
		t.Errorf("empty block: hole %d, %v", n, err)
	}
	e.Set(5, "hello", FTRegular)
	if n, _ := LargestHole(area); n != 448-20 || e.Used() != 20 || DirRecLen(5) != 20 {
		t.Errorf("one entry: hole %d", n)
	}
	e.SetRecLen(36)
	DirEntry(area[36:]).SetRecLen(412)
	DirEntry(area[36:]).Set(6, string(bytes.Repeat([]byte{'x'}, 255)), FTDir)
	if n, _ := LargestHole(area); n != 412-DirRecLen(255) {
		t.Errorf("two entries: hole %d", n)
	}
	DirEntry(area[36:]).SetRecLen(411)
	if _, err := LargestHole(area); err == nil {
		t.Error("rec_len 411 accepted")
	}
}

func TestDiscontiguousGroup(t *testing.T) {
	g := make(GroupDesc, 1024)
	g.Init(1000, 7, 20, discontigSize)
	g.SetBits(40)
	if b, ok := g.BlockOfBit(39, 4); g.IsDiscontig() || !ok || b != 1039 {
		t.Errorf("contiguous group: bit 39 is block %d", b)
	}
	l := g.List()
	l.SetCount(uint16(l.Space()))
	l.SetNextFree(2)
	l.Rec(0).SetLeaf(0, 4, 1000, 0)
	l.Rec(1).SetLeaf(4, 6, 5000, 0)
	for bit, want := range map[int]uint64{0: 1000, 15: 1015, 16: 5000, 39: 5023} {
		b, ok := g.BlockOfBit(bit, 4)
		back, ok2 := g.BitOfBlock(want, 4)
		if !ok || b != want || !ok2 || back != bit {
			t.Errorf("bit %d is block %d, want %d; back %d", bit, b, want, back)
		}
	}
	if _, ok := g.BlockOfBit(40, 4); ok {
		t.Error("bit 40 has a block")
	}
	if _, ok := g.BitOfBlock(1016, 4); ok {
		t.Error("block 1016 has a bit")
	}
}
