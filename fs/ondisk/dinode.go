package ondisk

import "bytes"

// Dinode is a dinode: exactly one block. OCFS2 format: struct ocfs2_dinode.
type Dinode []byte

// Generation is the per-inode generation, new with each reuse of the block.
func (d Dinode) Generation() uint32     { return get32(d, 0x08) }
func (d Dinode) SetGeneration(v uint32) { put32(d, 0x08, v) }

// SuballocSlot is the slot whose inode_alloc owns the block, or [SlotGlobal].
func (d Dinode) SuballocSlot() uint16     { return get16(d, 0x0C) }
func (d Dinode) SetSuballocSlot(v uint16) { put16(d, 0x0C, v) }

// SuballocBit is the bit of the block in its suballocator group.
func (d Dinode) SuballocBit() uint16     { return get16(d, 0x0E) }
func (d Dinode) SetSuballocBit(v uint16) { put16(d, 0x0E, v) }

// Links combines i_links_count_hi and i_links_count.
func (d Dinode) Links() uint32 {
	return uint32(get16(d, 0x10))<<16 | uint32(get16(d, 0x2A))
}

// SetLinks writes both halves of the link count.
func (d Dinode) SetLinks(v uint32) {
	put16(d, 0x10, uint16(v>>16))
	put16(d, 0x2A, uint16(v))
}

// XattrInlineSize is the size in bytes of the inline xattr area at the block's
// end; valid with [DynInlineXattr]. [Dinode.XattrArea] applies that rule.
func (d Dinode) XattrInlineSize() uint16     { return get16(d, 0x12) }
func (d Dinode) SetXattrInlineSize(v uint16) { put16(d, 0x12, v) }

// Clusters counts the clusters of the data tree (not xattr or dx clusters).
func (d Dinode) Clusters() uint32     { return get32(d, 0x14) }
func (d Dinode) SetClusters(v uint32) { put32(d, 0x14, v) }

func (d Dinode) UID() uint32     { return get32(d, 0x18) }
func (d Dinode) SetUID(v uint32) { put32(d, 0x18, v) }

func (d Dinode) GID() uint32     { return get32(d, 0x1C) }
func (d Dinode) SetGID(v uint32) { put32(d, 0x1C, v) }

// Size is i_size in bytes.
func (d Dinode) Size() uint64     { return get64(d, 0x20) }
func (d Dinode) SetSize(v uint64) { put64(d, 0x20, v) }

// Mode holds file type and permission bits.
func (d Dinode) Mode() uint16     { return get16(d, 0x28) }
func (d Dinode) SetMode(v uint16) { put16(d, 0x28, v) }

// Flags holds the Inode* bits.
func (d Dinode) Flags() uint32     { return get32(d, 0x2C) }
func (d Dinode) SetFlags(v uint32) { put32(d, 0x2C, v) }

func (d Dinode) time(sec, nsec int) (int64, uint32) { return int64(get64(d, sec)), get32(d, nsec) }
func (d Dinode) setTime(secOff, nsecOff int, sec int64, nsec uint32) {
	put64(d, secOff, uint64(sec))
	put32(d, nsecOff, nsec)
}

// Atime is the access time: seconds since the epoch and nanoseconds.
func (d Dinode) Atime() (sec int64, nsec uint32) { return d.time(0x30, 0x64) }
func (d Dinode) SetAtime(sec int64, nsec uint32) { d.setTime(0x30, 0x64, sec, nsec) }
func (d Dinode) Ctime() (sec int64, nsec uint32) { return d.time(0x38, 0x68) }
func (d Dinode) SetCtime(sec int64, nsec uint32) { d.setTime(0x38, 0x68, sec, nsec) }
func (d Dinode) Mtime() (sec int64, nsec uint32) { return d.time(0x40, 0x6C) }
func (d Dinode) SetMtime(sec int64, nsec uint32) { d.setTime(0x40, 0x6C, sec, nsec) }

// Dtime is the deletion time in seconds, 0 while the inode is valid.
func (d Dinode) Dtime() uint64     { return get64(d, 0x48) }
func (d Dinode) SetDtime(v uint64) { put64(d, 0x48, v) }

// Blkno is the inode's own block number, which is its inode number.
func (d Dinode) Blkno() uint64     { return get64(d, 0x50) }
func (d Dinode) SetBlkno(v uint64) { put64(d, 0x50, v) }

// LastEbBlk is the rightmost leaf extent block of the data tree, 0 at depth 0.
func (d Dinode) LastEbBlk() uint64     { return get64(d, 0x58) }
func (d Dinode) SetLastEbBlk(v uint64) { put64(d, 0x58, v) }

// FSGeneration must equal the volume's [Geometry.FSGeneration].
func (d Dinode) FSGeneration() uint32     { return get32(d, 0x60) }
func (d Dinode) SetFSGeneration(v uint32) { put32(d, 0x60, v) }

// Attr holds the Attr* (chattr) bits.
func (d Dinode) Attr() uint32     { return get32(d, 0x70) }
func (d Dinode) SetAttr(v uint32) { put32(d, 0x70, v) }

// OrphanedSlot names the orphan directory, valid with [InodeOrphaned].
func (d Dinode) OrphanedSlot() uint16     { return get16(d, 0x74) }
func (d Dinode) SetOrphanedSlot(v uint16) { put16(d, 0x74, v) }

// DynFeatures holds the Dyn* bits.
func (d Dinode) DynFeatures() uint16     { return get16(d, 0x76) }
func (d Dinode) SetDynFeatures(v uint16) { put16(d, 0x76, v) }

// XattrLoc is the external xattr block or 0.
func (d Dinode) XattrLoc() uint64     { return get64(d, 0x78) }
func (d Dinode) SetXattrLoc(v uint64) { put64(d, 0x78, v) }

// DxRoot is the dx root block of an indexed directory, else 0.
func (d Dinode) DxRoot() uint64     { return get64(d, 0x88) }
func (d Dinode) SetDxRoot(v uint64) { put64(d, 0x88, v) }

// RefcountLoc is the refcount tree root; 0 without [DynHasRefcount].
func (d Dinode) RefcountLoc() uint64     { return get64(d, 0x90) }
func (d Dinode) SetRefcountLoc(v uint64) { put64(d, 0x90, v) }

// SuballocLoc is the group descriptor if the block came from a discontiguous
// group, else 0 (then the group is Blkno - SuballocBit).
func (d Dinode) SuballocLoc() uint64     { return get64(d, 0x98) }
func (d Dinode) SetSuballocLoc(v uint64) { put64(d, 0x98, v) }

// DioOrphanedSlot is valid with [InodeDioOrphaned].
func (d Dinode) DioOrphanedSlot() uint16     { return get16(d, 0xA0) }
func (d Dinode) SetDioOrphanedSlot(v uint16) { put16(d, 0xA0, v) }

// Rdev is the encoded device number of a character or block device (id1);
// see [EncodeRdev].
func (d Dinode) Rdev() uint64     { return get64(d, 0xB8) }
func (d Dinode) SetRdev(v uint64) { put64(d, 0xB8, v) }

// Used counts the set bits of a bitmap inode (id1 bitmap1.i_used).
func (d Dinode) Used() uint32     { return get32(d, 0xB8) }
func (d Dinode) SetUsed(v uint32) { put32(d, 0xB8, v) }

// Total counts all bits of a bitmap inode (id1 bitmap1.i_total).
func (d Dinode) Total() uint32     { return get32(d, 0xBC) }
func (d Dinode) SetTotal(v uint32) { put32(d, 0xBC, v) }

// JournalFlags holds [JournalDirty] (id1 journal1.ij_flags).
func (d Dinode) JournalFlags() uint32     { return get32(d, 0xB8) }
func (d Dinode) SetJournalFlags(v uint32) { put32(d, 0xB8, v) }

// RecoveryGeneration counts the replays of this slot's log (id1
// journal1.ij_recovery_generation).
func (d Dinode) RecoveryGeneration() uint32     { return get32(d, 0xBC) }
func (d Dinode) SetRecoveryGeneration(v uint32) { put32(d, 0xBC, v) }

// HasFlag reports whether all given Inode* bits are set.
func (d Dinode) HasFlag(f uint32) bool { return d.Flags()&f == f }

// HasDyn reports whether all given Dyn* bits are set.
func (d Dinode) HasDyn(f uint16) bool { return d.DynFeatures()&f == f }

// IsDir, IsRegular and IsSymlink look at the type bits of i_mode.
func (d Dinode) IsDir() bool     { return d.Mode()&ModeTypeMask == ModeDir }
func (d Dinode) IsRegular() bool { return d.Mode()&ModeTypeMask == ModeRegular }
func (d Dinode) IsSymlink() bool { return d.Mode()&ModeTypeMask == ModeSymlink }

// IsFastSymlink reports whether the link text is inside the dinode: a symlink
// without clusters (Linux fs/ocfs2/inode.h, ocfs2_inode_is_fast_symlink).
func (d Dinode) IsFastSymlink() bool {
	return d.IsSymlink() && d.Clusters() == 0 && !d.HasDyn(DynInlineData)
}

// XattrAreaSize is the number of bytes the inline xattr area takes at the end
// of the block: i_xattr_inline_size with [DynInlineXattr], else 0.
func (d Dinode) XattrAreaSize() int {
	if !d.HasDyn(DynInlineXattr) {
		return 0
	}
	return int(d.XattrInlineSize())
}

// XattrArea is the inline xattr area (empty without [DynInlineXattr]).
func (d Dinode) XattrArea() XattrHeader {
	return XattrHeader(window(d, len(d)-d.XattrAreaSize(), len(d)))
}

// ID2 is the area of the type-specific data, the inline xattr area excluded.
func (d Dinode) ID2() []byte { return window(d, dinodeID2, len(d)-d.XattrAreaSize()) }

// Extents is the root extent list of the data tree.
func (d Dinode) Extents() ExtentList { return ExtentList(d.ID2()) }

// Chains is the chain list of an allocator inode ([InodeChain]).
func (d Dinode) Chains() ChainList { return ChainList(d.ID2()) }

// Inline is the inline data of an inode with [DynInlineData].
func (d Dinode) Inline() InlineData { return InlineData(d.ID2()) }

// TruncLog is the record list of a truncate log ([InodeDealloc]).
func (d Dinode) TruncLog() TruncLog { return TruncLog(d.ID2()) }

// LocalAlloc is the window of a local alloc inode ([InodeLocalAlloc]).
func (d Dinode) LocalAlloc() LocalAlloc { return LocalAlloc(d.ID2()) }

// Super is the superblock area of the dinode at block 2.
func (d Dinode) Super() SuperBlock { return SuperBlock(window(d, dinodeID2, len(d))) }

// FastSymlink is the link text of a fast symlink without its NUL: i_size
// bytes, cut at the area's end and at the first NUL.
func (d Dinode) FastSymlink() []byte {
	area := d.ID2()
	if n := d.Size(); n < uint64(len(area)) {
		area = area[:n:n]
	}
	if i := bytes.IndexByte(area, 0); i >= 0 {
		area = area[:i:i]
	}
	return area
}

// Init zeroes the block and writes what every dinode has: signature, own block
// number, volume generation.
func (d Dinode) Init(blkno uint64, fsGeneration uint32) {
	clear(d)
	SetSignature(d, SigDinode)
	d.SetBlkno(blkno)
	d.SetFSGeneration(fsGeneration)
}

// InlineData is the id2 of an inode with [DynInlineData]: an 8-byte header and
// the data.
type InlineData []byte

// Count is id_count, the capacity in bytes.
func (i InlineData) Count() uint16     { return get16(i, 0) }
func (i InlineData) SetCount(v uint16) { put16(i, 0, v) }

// Data is the data area of Count bytes (cut at the view's end).
func (i InlineData) Data() []byte { return window(i, inlineHeader, inlineHeader+int(i.Count())) }

// TruncLog is the id2 of a truncate log inode. OCFS2 format: struct
// ocfs2_truncate_log.
type TruncLog []byte

// Count is tl_count, the capacity in records.
func (t TruncLog) Count() uint16     { return get16(t, 0) }
func (t TruncLog) SetCount(v uint16) { put16(t, 0, v) }

// Used is tl_used.
func (t TruncLog) Used() uint16     { return get16(t, 2) }
func (t TruncLog) SetUsed(v uint16) { put16(t, 2, v) }

// Rec is record i.
func (t TruncLog) Rec(i int) TruncRec {
	off := truncHeader + i*truncRecSize
	return TruncRec(t[off : off+truncRecSize : off+truncRecSize])
}

// TruncRec is one deferred free: 8 bytes.
type TruncRec []byte

// Start is the first cluster, 0 for a record to be ignored.
func (r TruncRec) Start() uint32     { return get32(r, 0) }
func (r TruncRec) SetStart(v uint32) { put32(r, 0, v) }

// Clusters is the length in clusters.
func (r TruncRec) Clusters() uint32     { return get32(r, 4) }
func (r TruncRec) SetClusters(v uint32) { put32(r, 4, v) }

// LocalAlloc is the id2 of a local alloc inode. OCFS2 format: struct
// ocfs2_local_alloc. The window's bit count is [Dinode.Total], its used bits
// [Dinode.Used].
type LocalAlloc []byte

// BmOff is la_bm_off, the first cluster of the window.
func (l LocalAlloc) BmOff() uint32     { return get32(l, 0) }
func (l LocalAlloc) SetBmOff(v uint32) { put32(l, 0, v) }

// Size is la_size, the bitmap capacity in bytes.
func (l LocalAlloc) Size() uint16     { return get16(l, 4) }
func (l LocalAlloc) SetSize(v uint16) { put16(l, 4, v) }

// Bitmap is the window bitmap of Size bytes (cut at the view's end).
func (l LocalAlloc) Bitmap() []byte { return window(l, lallocHeader, lallocHeader+int(l.Size())) }
