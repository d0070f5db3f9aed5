package check

// Problem codes. Those in the first group are fsck.ocfs2's, with its meaning;
// the rest are checks that fsck.ocfs2 does not make.
const (
	// Pass 0.
	ChainCPG            = "CHAIN_CPG"
	ChainCount          = "CHAIN_COUNT"
	ChainNextFree       = "CHAIN_NEXT_FREE"
	ChainEmpty          = "CHAIN_EMPTY"
	ChainHeadLinkRange  = "CHAIN_HEAD_LINK_RANGE"
	ChainLinkRange      = "CHAIN_LINK_RANGE"
	ChainLinkMagic      = "CHAIN_LINK_MAGIC"
	ChainLinkGen        = "CHAIN_LINK_GEN"
	ChainBits           = "CHAIN_BITS"
	ChainGroupBits      = "CHAIN_GROUP_BITS"
	ChainIClusters      = "CHAIN_I_CLUSTERS"
	ChainISize          = "CHAIN_I_SIZE"
	GroupExpectedDesc   = "GROUP_EXPECTED_DESC"
	GroupUnexpectedDesc = "GROUP_UNEXPECTED_DESC"
	GroupParent         = "GROUP_PARENT"
	GroupBlkno          = "GROUP_BLKNO"
	GroupChain          = "GROUP_CHAIN"
	GroupDuplicate      = "GROUP_DUPLICATE"
	GroupChainLoop      = "GROUP_CHAIN_LOOP"
	GroupFreeBits       = "GROUP_FREE_BITS" // fsck: only when too large
	DiscontigDepth      = "DISCONTIG_BG_DEPTH"
	DiscontigCount      = "DISCONTIG_BG_COUNT"
	DiscontigNextFree   = "DISCONTIG_BG_NEXT_FREE_REC"
	DiscontigRecRange   = "DISCONTIG_BG_REC_RANGE"
	DiscontigClusters   = "DISCONTIG_BG_CLUSTERS"
	DiscontigRecCorrupt = "DISCONTIG_BG_REC_CORRUPT"
	SuperblockClusters  = "SUPERBLOCK_CLUSTERS"

	// Pass 1: inodes.
	InodeAllocRepair      = "INODE_ALLOC_REPAIR"
	InodeSuballoc         = "INODE_SUBALLOC"
	InodeGen              = "INODE_GEN"
	InodeBlkno            = "INODE_BLKNO"
	InodeNZDtime          = "INODE_NZ_DTIME"
	RootNotDir            = "ROOT_NOTDIR"
	InlineDataFlagInvalid = "INLINE_DATA_FLAG_INVALID"
	InlineDataCount       = "INLINE_DATA_COUNT_INVALID"
	InodeInlineSize       = "INODE_INLINE_SIZE"
	InodeInlineClusters   = "INODE_INLINE_CLUSTERS"
	RefcountFlagInvalid   = "REFCOUNT_FLAG_INVALID"
	RefcountLocInvalid    = "REFCOUNT_LOC_INVALID"
	LallocSize            = "LALLOC_SIZE"
	LallocNZUsed          = "LALLOC_NZ_USED"
	LallocNZBm            = "LALLOC_NZ_BM"
	LallocBmOverrun       = "LALLOC_BM_OVERRUN"
	LallocBmSize          = "LALLOC_BM_SIZE"
	LallocBmStraddle      = "LALLOC_BM_STRADDLE"
	LallocUsedOverrun     = "LALLOC_USED_OVERRUN"
	DeallocCount          = "DEALLOC_COUNT"
	DeallocUsed           = "DEALLOC_USED"
	TruncateRecStart      = "TRUNCATE_REC_START_RANGE"
	TruncateRecRange      = "TRUNCATE_REC_RANGE"
	LinkNullTerm          = "LINK_NULLTERM"
	LinkSize              = "LINK_SIZE"
	LinkBlocks            = "LINK_BLOCKS"
	DirZero               = "DIR_ZERO"
	NoHoles               = "NO_HOLES"
	InodeSize             = "INODE_SIZE"
	InodeClusters         = "INODE_CLUSTERS"
	InodeSparseSize       = "INODE_SPARSE_SIZE"
	InodeSparseClusters   = "INODE_SPARSE_CLUSTERS"

	// Pass 1: trees.
	EBBlkno               = "EB_BLKNO"
	EBGen                 = "EB_GEN"
	ExtentEBInvalid       = "EXTENT_EB_INVALID"
	ExtentListDepth       = "EXTENT_LIST_DEPTH"
	ExtentListCount       = "EXTENT_LIST_COUNT"
	ExtentListFree        = "EXTENT_LIST_FREE"
	ExtentBlknoUnaligned  = "EXTENT_BLKNO_UNALIGNED"
	ExtentBlknoRange      = "EXTENT_BLKNO_RANGE"
	ExtentClustersOverrun = "EXTENT_CLUSTERS_OVERRUN"
	ExtentOverlap         = "EXTENT_OVERLAP"
	ExtentUnwritten       = "EXTENT_MARKED_UNWRITTEN"
	ExtentRefcounted      = "EXTENT_MARKED_REFCOUNTED"

	// Pass 1: xattrs, index, clusters, refcounts.
	XattrBlockInvalid    = "XATTR_BLOCK_INVALID"
	XattrCountInvalid    = "XATTR_COUNT_INVALID"
	XattrEntryInvalid    = "XATTR_ENTRY_INVALID"
	XattrNameOffset      = "XATTR_NAME_OFFSET_INVALID"
	XattrLocation        = "XATTR_LOCATION_INVALID"
	XattrValueInvalid    = "XATTR_VALUE_INVALID"
	XattrHashInvalid     = "XATTR_HASH_INVALID"
	XattrFreeStart       = "XATTR_FREE_START_INVALID"
	XattrValueLen        = "XATTR_VALUE_LEN_INVALID"
	XattrBucketCount     = "XATTR_BUCKET_COUNT_INVALID"
	DxTreeCorrupt        = "DX_TREE_CORRUPT"
	ClusterAllocBit      = "CLUSTER_ALLOC_BIT"
	RefcountRootInvalid  = "REFCOUNT_ROOT_BLOCK_INVALID"
	RefcountBlockInvalid = "REFCOUNT_BLOCK_INVALID"
	RBParent             = "RB_PARENT"
	RefcountListCount    = "REFCOUNT_LIST_COUNT"
	RefcountListUsed     = "REFCOUNT_LIST_USED"
	RefcountListEmpty    = "REFCOUNT_LIST_EMPTY"
	RefcountRange        = "REFCOUNT_CLUSTER_RANGE"
	RefcountCollision    = "REFCOUNT_CLUSTER_COLLISION"
	RefcountClusters     = "REFCOUNT_CLUSTERS"
	RefcountCount        = "REFCOUNT_COUNT"
	RefcountRedundant    = "REFCOUNT_REC_REDUNDANT"
	RefcountRecCount     = "REFCOUNT_COUNT_INVALID"
	DupClustersSysfile   = "DUP_CLUSTERS_SYSFILE_CLONE"
	DupClusters          = "DUP_CLUSTERS_CLONE"

	// Pass 2.
	DirentLength       = "DIRENT_LENGTH"
	DirentDotInode     = "DIRENT_DOT_INODE"
	DirentDotExcess    = "DIRENT_DOT_EXCESS"
	DirentNotDotty     = "DIRENT_NOT_DOTTY"
	DirentDottyDup     = "DIRENT_DOTTY_DUP"
	DirentZero         = "DIRENT_ZERO"
	DirentNameChars    = "DIRENT_NAME_CHARS"
	DirentInodeRange   = "DIRENT_INODE_RANGE"
	DirentInodeFree    = "DIRENT_INODE_FREE"
	DirentType         = "DIRENT_TYPE"
	DirParentDup       = "DIR_PARENT_DUP"
	DirentDuplicate    = "DIRENT_DUPLICATE"
	DirTrailerInode    = "DIR_TRAILER_INODE"
	DirTrailerNameLen  = "DIR_TRAILER_NAME_LEN"
	DirTrailerRecLen   = "DIR_TRAILER_REC_LEN"
	DirTrailerBlkno    = "DIR_TRAILER_BLKNO"
	DirTrailerParent   = "DIR_TRAILER_PARENT_INODE"
	DxLookupFailed     = "DX_LOOKUP_FAILED"
	DxTreeMissing      = "DX_TREE_MISSING"
	BadCRC32           = "BAD_CRC32" // in every pass
	LostFoundMissing   = "LOSTFOUND_MISSING"
	RootDirMissing     = "ROOT_DIR_MISSING"
	DirNotConnected    = "DIR_NOT_CONNECTED"
	DirDotDot          = "DIR_DOTDOT"
	OrphanDirMissing   = "ORPHAN_DIR_MISSING"
	InodeNotConnected  = "INODE_NOT_CONNECTED"
	InodeCount         = "INODE_COUNT"
	QMagicInvalid      = "QMAGIC_INVALID"
	QTreeBlkInvalid    = "QTREE_BLK_INVALID"
	DQBlkInvalid       = "DQBLK_INVALID"
	DupDQBlk           = "DUP_DQBLK_INVALID"
	JournalFileInvalid = "JOURNAL_FILE_INVALID"
	JournalUnknown     = "JOURNAL_UNKNOWN_FEATURE"
	JournalMissing     = "JOURNAL_MISSING_FEATURE"
	JournalTooSmall    = "JOURNAL_TOO_SMALL"
)

// Checks that fsck.ocfs2 does not make.
const (
	DeviceTooSmall     = "DEVICE_TOO_SMALL"     // the volume ends behind the device
	ReadError          = "READ_ERROR"           // a block could not be read
	SuperFeatures      = "SUPER_FEATURES"       // features this implementation does not know
	SuperState         = "SUPER_STATE"          // s_state has the error bit
	BackupSuper        = "BACKUP_SUPER"         // a backup superblock is bad or differs
	SystemInodeMissing = "SYSTEM_INODE_MISSING" // not in the system directory
	SystemDirInvalid   = "SYSTEM_DIR_INVALID"   // system directory unreadable
	SlotMapInvalid     = "SLOT_MAP_INVALID"     // slot map malformed, or a node twice
	GroupSize          = "GROUP_SIZE"           // bg_size or bg_bits beyond the block or the group
	GroupBitsBeyond    = "GROUP_BITS_BEYOND"    // bits set behind bg_bits
	GroupBitZero       = "GROUP_BIT_ZERO"       // the descriptor's own bit is clear
	InodeSuballocBit   = "INODE_SUBALLOC_BIT"   // i_suballoc_bit or _loc wrong
	EBSuballoc         = "EB_SUBALLOC"          // metadata block's slot, bit or loc wrong
	MetaAllocFree      = "META_ALLOC_FREE"      // metadata block in use, extent_alloc bit clear
	MetaAllocLeak      = "META_ALLOC_LEAK"      // extent_alloc bit set, nobody uses the block
	MetaDuplicate      = "META_DUPLICATE"       // metadata block used twice
	EBNextLeaf         = "EB_NEXT_LEAF"         // h_next_leaf_blk chain wrong
	TreeLastEB         = "TREE_LAST_EB"         // last_eb_blk is not the rightmost leaf
	ExtentInterior     = "EXTENT_INTERIOR"      // interior records with gaps, or not covering their child
	ExtentEmptyNode    = "EXTENT_EMPTY_NODE"    // node below the root without records
	InlineTail         = "INLINE_TAIL"          // bytes behind i_size of inline data not zero
	XattrOverlap       = "XATTR_OVERLAP"        // name and value regions overlap or straddle a block
	XattrOrder         = "XATTR_ORDER"          // bucket entries or buckets not sorted by hash
	XattrFlags         = "XATTR_FLAGS"          // dyn flags and xattr storage disagree
	XattrDuplicate     = "XATTR_DUPLICATE"      // same attribute of an inode twice
	TruncateRecInUse   = "TRUNCATE_REC_IN_USE"  // truncate log frees clusters in use or free
	LallocFreeInUse    = "LALLOC_FREE_IN_USE"   // local alloc calls clusters free that are in use
	LallocUsedCount    = "LALLOC_USED_COUNT"    // i_used is not the number of set bits
	DxEntryStale       = "DX_ENTRY_STALE"       // index entry without a name
	DxEntryCount       = "DX_ENTRY_COUNT"       // dr_num_entries, de_count wrong
	DxFreeList         = "DX_FREE_LIST"         // free-space list does not have exactly the blocks with space
	DxFreeLen          = "DX_FREE_LEN"          // db_free_rec_len promises more than the largest hole
	OrphanEntry        = "ORPHAN_ENTRY"         // orphan dir entry and inode disagree
	OrphanFlag         = "ORPHAN_FLAG"          // ORPHANED inode not in its orphan dir
	RefcountOrder      = "REFCOUNT_ORDER"       // records or rf_cpos not in order
	RefcountForeign    = "REFCOUNT_FOREIGN"     // clusters shared through two trees
	RefcountGen        = "REFCOUNT_GENERATION"  // rf_generation differs inside a tree
	QuotaInfo          = "QUOTA_INFO"           // quota file info disagrees with the file
)
