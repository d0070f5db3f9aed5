package ondisk

// Block signatures: 8 bytes, NUL padded, at offset 0 of the block, except
// SigDirTrailer (offset 0x10 of the trailer). OCFS2 format: signatures.
const (
	SigSuper      = "OCFSV2\x00\x00"
	SigDinode     = "INODE01\x00"
	SigExtent     = "EXBLK01\x00"
	SigGroup      = "GROUP01\x00"
	SigXattr      = "XATTR01\x00"
	SigDirTrailer = "DIRTRL1\x00"
	SigDxRoot     = "DXDIR01\x00"
	SigDxLeaf     = "DXLEAF1\x00"
	SigRefcount   = "REFCNT1\x00"

	signatureLen = 8
)

// Limits of the format (Linux fs/ocfs2/super.c and fs/ocfs2/ocfs2_fs.h).
const (
	// SuperBlkno is the block that holds the superblock, in every block size.
	SuperBlkno = 2

	MinBlockBits   = 9
	MaxBlockBits   = 12
	MinClusterBits = 12
	MaxClusterBits = 20
	MaxSlots       = 255

	MajorRev = 0
	MinorRev = 90

	// MaxTreeDepth is the largest l_tree_depth of a tree root: the kernel walks
	// paths of at most 5 nodes.
	MaxTreeDepth = 4
	// MaxLeafClusters is the longest leaf extent (16-bit length field).
	MaxLeafClusters = 65535

	// MaxNameLen is the longest directory entry name in bytes.
	MaxNameLen = 255
	// LinkMaxPlain and LinkMaxIndexed bound i_links_count without and with the
	// indexed-dirs feature.
	LinkMaxPlain   = 32000
	LinkMaxIndexed = 1<<31 - 1

	// SlotGlobal is the slot value of objects that belong to
	// global_inode_alloc, and of the superblock.
	SlotGlobal = 0xFFFF
	// SlotEmpty is the node number of a free entry in the old slot map.
	SlotEmpty = 0xFFFF

	// XattrBucketSize is the size of an xattr bucket in bytes, whatever the
	// block size.
	XattrBucketSize = 4096
	// XattrLocalMax is the largest value kept next to its name; larger ones
	// live in an extent tree of their own.
	XattrLocalMax = 80
	// XattrInlineDefault is s_xattr_inline_size of a volume with xattr.
	XattrInlineDefault = 256

	// BackupSuperMax is the number of possible backup superblocks: byte
	// offsets 1G, 4G, 16G, 64G, 256G, 1T.
	BackupSuperMax = 6

	// HeartbeatBlocks is the length of the heartbeat file in blocks: one per
	// node number 0..254, and one more.
	HeartbeatBlocks = 256
)

// Offsets and sizes of the variable parts, in bytes.
const (
	dinodeID2      = 0xC0 // id2 of a dinode
	extHeaderSize  = 16   // extent list and chain list header
	recSize        = 16   // extent, chain, refcount and dx records
	dinodeRecs     = dinodeID2 + extHeaderSize
	inlineHeader   = 8 // id_count and reserved, before the inline data
	truncHeader    = 8
	truncRecSize   = 8
	lallocHeader   = 16
	extentBlkList  = 0x30
	groupBitmap    = 0x40
	groupListOff   = 0x140
	discontigSize  = 0x100 // bg_size of a suballocator group with discontig-bg
	dxRootBody     = 0xC0
	dxListHeader   = 8
	dxLeafBody     = 0x28
	trailerSize    = 0x40
	xattrBlkHeader = 0x30
	xattrTreeList  = 0x40
	refcountBody   = 0x80
	rlHeaderSize   = 16
)

// i_flags of a dinode.
const (
	InodeValid       = 0x0001 // in use
	InodeOrphaned    = 0x0004 // in the orphan directory i_orphaned_slot
	InodeSystem      = 0x0010
	InodeSuperBlock  = 0x0020
	InodeLocalAlloc  = 0x0040
	InodeBitmap      = 0x0080
	InodeJournal     = 0x0100
	InodeHeartbeat   = 0x0200
	InodeChain       = 0x0400
	InodeDealloc     = 0x0800 // truncate log
	InodeQuota       = 0x1000
	InodeDioOrphaned = 0x2000 // in the orphan directory i_dio_orphaned_slot, still linked
)

// i_dyn_features of a dinode.
const (
	DynInlineData  = 0x01
	DynHasXattr    = 0x02
	DynInlineXattr = 0x04
	DynIndexedDir  = 0x08
	DynHasRefcount = 0x10
)

// e_flags of a leaf extent record.
const (
	ExtentUnwritten  = 0x01 // allocated, reads as zeros
	ExtentRefcounted = 0x02 // shared, copy before write
)

// JournalDirty is bit 0 of ij_flags: a node has the slot mounted or died with
// it.
const JournalDirty = 0x1

// DxInline is the dr_flags bit of a dx root that holds the entries itself.
const DxInline = 0x1

// XattrIndexed is the xb_flags bit of an xattr block that is the root of a
// bucket tree.
const XattrIndexed = 0x1

// rf_flags of a refcount block; 0 is a root with inline records.
const (
	RefcountLeaf = 0x1
	RefcountTree = 0x2
)

// s_state and s_tunefs_flag bits of the superblock.
const (
	SuperStateError      = 0x1
	TunefsRemoveSlot     = 0x1
	TunefsDirTrailer     = 0x2
	StackGlobalHeartbeat = 0x1 // ci_stackflags
)

// File types of directory entries.
const (
	FTUnknown = 0
	FTRegular = 1
	FTDir     = 2
	FTChar    = 3
	FTBlock   = 4
	FTFifo    = 5
	FTSocket  = 6
	FTSymlink = 7
)

// File type bits of i_mode (the Unix values, spelled here so that the format
// does not depend on the host).
const (
	ModeTypeMask = 0xF000
	ModeFifo     = 0x1000
	ModeChar     = 0x2000
	ModeDir      = 0x4000
	ModeBlock    = 0x6000
	ModeRegular  = 0x8000
	ModeSymlink  = 0xA000
	ModeSocket   = 0xC000
)

// i_attr bits (FS_*_FL of linux/fs.h) the filesystem acts upon.
const (
	AttrSecRm     = 0x1
	AttrUnrm      = 0x2
	AttrCompr     = 0x4
	AttrSync      = 0x8
	AttrImmutable = 0x10
	AttrAppend    = 0x20
	AttrNodump    = 0x40
	AttrNoatime   = 0x80
	AttrDirsync   = 0x10000
)

// FileTypeOfMode returns the directory entry file type for i_mode, FTUnknown
// for a mode with no known type bits.
func FileTypeOfMode(mode uint16) uint8 {
	switch mode & ModeTypeMask {
	case ModeRegular:
		return FTRegular
	case ModeDir:
		return FTDir
	case ModeChar:
		return FTChar
	case ModeBlock:
		return FTBlock
	case ModeFifo:
		return FTFifo
	case ModeSocket:
		return FTSocket
	case ModeSymlink:
		return FTSymlink
	}
	return FTUnknown
}

// EncodeRdev encodes a device number as stored in i_rdev (the kernel's
// new_encode_dev).
func EncodeRdev(major, minor uint32) uint64 {
	return uint64(minor&0xFF) | uint64(major)<<8 | uint64(minor&^0xFF)<<12
}

// DecodeRdev is the inverse of [EncodeRdev]: 12 bits of major, 20 of minor.
func DecodeRdev(rdev uint64) (major, minor uint32) {
	return uint32(rdev>>8) & 0xFFF, uint32(rdev&0xFF) | uint32(rdev>>12)&0xFFF00
}
