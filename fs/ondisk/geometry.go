package ondisk

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Geometry is what the superblock says about the volume. Immutable after
// parsing; online resize makes a new one.
type Geometry struct {
	BlockSize   int
	BlockBits   uint
	ClusterSize int
	ClusterBits uint
	Bpc         uint32 // blocks per cluster
	BpcBits     uint   // log2 of Bpc

	TotalClusters uint32
	TotalBlocks   uint64 // TotalClusters * Bpc

	MaxSlots          int
	FSGeneration      uint32
	RootBlkno         uint64
	SystemDirBlkno    uint64
	FirstClusterGroup uint64 // block of cluster group descriptor 0
	CPG               uint32 // clusters (bits) per cluster group: (bs-0x40)*8

	Features // Compat, Incompat, ROCompat

	UUID            [16]byte
	UUIDHash        uint32
	Label           string
	DxSeed          [3]uint32
	ClusterStack    string // ci_stack; meaningful when HasClusterInfo
	ClusterName     string // ci_cluster
	StackFlags      uint8
	XattrInlineSize int
	State           uint16 // s_state as read
	TunefsFlag      uint16 // s_tunefs_flag as read
}

// ParseSuper decodes the superblock from block 2 of a volume, given the block
// size it was probed with. The block is not changed. Errors: [ErrNotOCFS2] when
// the signature is not there, a [CorruptError] otherwise. Feature bits are not
// judged here, see [Geometry.CheckFeatures]. Linux fs/ocfs2/super.c,
// ocfs2_verify_volume.
func ParseSuper(block []byte, blockSize int) (*Geometry, error) {
	return parseSuper(block, blockSize, SuperBlkno)
}

// ParseBackupSuper decodes a backup superblock read from block blkno.
func ParseBackupSuper(block []byte, blockSize int, blkno uint64) (*Geometry, error) {
	return parseSuper(block, blockSize, blkno)
}

func parseSuper(block []byte, blockSize int, blkno uint64) (*Geometry, error) {
	if len(block) != blockSize || blockSize&(blockSize-1) != 0 ||
		blockSize < 1<<MinBlockBits || blockSize > 1<<MaxBlockBits {
		return nil, Corruptf("superblock", blkno, "block of %d bytes with block size %d", len(block), blockSize)
	}
	if !HasSignature(block, SigSuper) {
		return nil, ErrNotOCFS2
	}
	d := Dinode(block)
	if d.Super().Features().Incompat&FeatureIncompatMetaECC != 0 {
		// Over a copy: validation may correct a flipped bit in place.
		d = Dinode(append([]byte(nil), block...))
		if err := ValidateCheck(d, CheckOffDinode); err != nil {
			return nil, Corruptf("superblock", blkno, "%v", err)
		}
	}
	if err := checkSuper(d, blockSize, blkno); err != nil {
		return nil, err
	}
	return newGeometry(d), nil
}

func checkSuper(d Dinode, blockSize int, blkno uint64) error {
	s := d.Super()
	bad := func(format string, args ...any) error { return Corruptf("superblock", blkno, format, args...) }
	switch bb, cb := s.BlocksizeBits(), s.ClustersizeBits(); {
	case bb < MinBlockBits || bb > MaxBlockBits || 1<<bb != blockSize:
		return bad("block size bits %d, want those of %d", bb, blockSize)
	case cb < MinClusterBits || cb > MaxClusterBits:
		return bad("cluster size bits %d, want %d..%d", cb, MinClusterBits, MaxClusterBits)
	case s.MajorRev() != MajorRev || s.MinorRev() != MinorRev:
		return bad("revision %d.%d, want %d.%d", s.MajorRev(), s.MinorRev(), MajorRev, MinorRev)
	case d.Blkno() != blkno:
		return bad("i_blkno %d is not its own block", d.Blkno())
	case d.Clusters() == 0:
		return bad("volume of 0 clusters")
	}
	total := uint64(d.Clusters()) << (s.ClustersizeBits() - s.BlocksizeBits())
	inside := func(b uint64) bool { return b > SuperBlkno && b < total }
	switch {
	case !inside(s.RootBlkno()):
		return bad("root directory at block %d, volume has %d blocks", s.RootBlkno(), total)
	case !inside(s.SystemDirBlkno()):
		return bad("system directory at block %d, volume has %d blocks", s.SystemDirBlkno(), total)
	case !inside(s.FirstClusterGroup()):
		return bad("first cluster group at block %d, volume has %d blocks", s.FirstClusterGroup(), total)
	case s.MaxSlots() == 0 || s.MaxSlots() > MaxSlots:
		return bad("%d slots, want 1..%d", s.MaxSlots(), MaxSlots)
	case int(s.XattrInlineSize()) > blockSize-dinodeRecs:
		return bad("inline xattr size %d does not fit a block", s.XattrInlineSize())
	}
	return nil
}

func newGeometry(d Dinode) *Geometry {
	s := d.Super()
	g := &Geometry{
		BlockBits: uint(s.BlocksizeBits()), ClusterBits: uint(s.ClustersizeBits()),
		BlockSize: 1 << s.BlocksizeBits(), ClusterSize: 1 << s.ClustersizeBits(),
		BpcBits:           uint(s.ClustersizeBits() - s.BlocksizeBits()),
		TotalClusters:     d.Clusters(),
		MaxSlots:          int(s.MaxSlots()),
		FSGeneration:      d.FSGeneration(),
		RootBlkno:         s.RootBlkno(),
		SystemDirBlkno:    s.SystemDirBlkno(),
		FirstClusterGroup: s.FirstClusterGroup(),
		Features:          s.Features(),
		UUID:              s.UUID(),
		UUIDHash:          s.UUIDHash(),
		Label:             s.Label(),
		DxSeed:            s.DxSeed(),
		ClusterStack:      s.ClusterStack(),
		ClusterName:       s.ClusterName(),
		StackFlags:        s.StackFlags(),
		XattrInlineSize:   int(s.XattrInlineSize()),
		State:             s.State(),
		TunefsFlag:        s.TunefsFlag(),
	}
	g.Bpc = 1 << g.BpcBits
	g.TotalBlocks = uint64(g.TotalClusters) << g.BpcBits
	g.CPG = uint32(g.BlockSize-groupBitmap) * 8
	return g
}

// FindSuper probes the four block sizes in ascending order and returns the
// geometry and the superblock's block. Errors: [ErrNotOCFS2], a [CorruptError]
// for a superblock that is damaged, or the reader's error.
func FindSuper(r io.ReaderAt) (*Geometry, []byte, error) {
	var damaged error
	for bits := MinBlockBits; bits <= MaxBlockBits; bits++ {
		bs := 1 << bits
		block := make([]byte, bs)
		if _, err := r.ReadAt(block, int64(SuperBlkno*bs)); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				break // smaller than the smallest volume of this block size
			}
			return nil, nil, fmt.Errorf("read superblock at byte %d: %w", SuperBlkno*bs, err)
		}
		g, err := ParseSuper(block, bs)
		if err == nil {
			return g, block, nil
		}
		if damaged == nil && !errors.Is(err, ErrNotOCFS2) {
			damaged = err
		}
	}
	if damaged != nil {
		return nil, nil, damaged
	}
	return nil, nil, ErrNotOCFS2
}

// UUIDString is the uuid as 32 upper-case hex digits: the name of the lock
// domain.
func (g *Geometry) UUIDString() string { return fmt.Sprintf("%X", g.UUID[:]) }

// IsLocal reports a volume that is mounted without cluster (mkfs -M local).
func (g *Geometry) IsLocal() bool { return g.Incompat&FeatureIncompatLocalMount != 0 }

// HasClusterInfo reports whether ClusterStack, ClusterName and StackFlags are
// valid; without them the stack is classic o2cb.
func (g *Geometry) HasClusterInfo() bool {
	return g.Incompat&(FeatureIncompatUserspaceStack|FeatureIncompatClusterInfo) != 0
}

// The Has methods spell feature tests.
func (g *Geometry) HasMetaECC() bool     { return g.Incompat&FeatureIncompatMetaECC != 0 }
func (g *Geometry) HasSparse() bool      { return g.Incompat&FeatureIncompatSparseAlloc != 0 }
func (g *Geometry) HasUnwritten() bool   { return g.ROCompat&FeatureROCompatUnwritten != 0 }
func (g *Geometry) HasInlineData() bool  { return g.Incompat&FeatureIncompatInlineData != 0 }
func (g *Geometry) HasXattr() bool       { return g.Incompat&FeatureIncompatXattr != 0 }
func (g *Geometry) HasIndexedDirs() bool { return g.Incompat&FeatureIncompatIndexedDirs != 0 }
func (g *Geometry) HasRefcount() bool    { return g.Incompat&FeatureIncompatRefcountTree != 0 }
func (g *Geometry) HasDiscontigBG() bool { return g.Incompat&FeatureIncompatDiscontigBG != 0 }
func (g *Geometry) HasAppendDio() bool   { return g.Incompat&FeatureIncompatAppendDio != 0 }

// HasExtendedSlotMap tells that slot map entries have 8 bytes.
func (g *Geometry) HasExtendedSlotMap() bool {
	return g.Incompat&FeatureIncompatExtendedSlotMap != 0
}
func (g *Geometry) HasUsrQuota() bool { return g.ROCompat&FeatureROCompatUsrQuota != 0 }
func (g *Geometry) HasGrpQuota() bool { return g.ROCompat&FeatureROCompatGrpQuota != 0 }

// String is a one-line description for logs.
func (g *Geometry) String() string {
	return fmt.Sprintf("ocfs2 %s label %q: %d clusters of %d, block %d, %d slots, features %s",
		g.UUIDString(), g.Label, g.TotalClusters, g.ClusterSize, g.BlockSize, g.MaxSlots,
		strings.Join(g.Features.Names(), ","))
}

// ClustersToBlocks is the first block of cluster c, or the length of c clusters
// in blocks.
func (g *Geometry) ClustersToBlocks(c uint32) uint64 { return uint64(c) << g.BpcBits }

// BlocksToClusters is the cluster that holds block b. The caller keeps b inside
// the volume.
func (g *Geometry) BlocksToClusters(b uint64) uint32 { return uint32(b >> g.BpcBits) }

// ClustersForBytes is the number of clusters that hold n bytes. It saturates:
// the result is larger than any volume when n is.
func (g *Geometry) ClustersForBytes(n uint64) uint64 {
	return n>>g.ClusterBits + (n&uint64(g.ClusterSize-1)+uint64(g.ClusterSize)-1)>>g.ClusterBits
}

// BlocksForBytes is the number of blocks that hold n bytes.
func (g *Geometry) BlocksForBytes(n uint64) uint64 {
	return n>>g.BlockBits + (n&uint64(g.BlockSize-1)+uint64(g.BlockSize)-1)>>g.BlockBits
}

// ByteOfBlock is the byte offset of block b on the volume.
func (g *Geometry) ByteOfBlock(b uint64) int64 { return int64(b << g.BlockBits) }

// ClusterAligned reports whether b is the first block of a cluster.
func (g *Geometry) ClusterAligned(b uint64) bool { return b&uint64(g.Bpc-1) == 0 }

// ValidBlock reports whether b may hold metadata: behind the superblock and
// inside the volume.
func (g *Geometry) ValidBlock(b uint64) bool { return b > SuperBlkno && b < g.TotalBlocks }

// GroupCount is the number of cluster groups.
func (g *Geometry) GroupCount() int {
	return int((uint64(g.TotalClusters) + uint64(g.CPG) - 1) / uint64(g.CPG))
}

// GroupBlkno is the descriptor's block of cluster group i: groups after the
// first begin with theirs.
func (g *Geometry) GroupBlkno(i int) uint64 {
	if i == 0 {
		return g.FirstClusterGroup
	}
	return (uint64(i) * uint64(g.CPG)) << g.BpcBits
}

// GroupBits is the number of clusters in cluster group i.
func (g *Geometry) GroupBits(i int) int {
	return int(min(uint64(g.CPG), uint64(g.TotalClusters)-uint64(i)*uint64(g.CPG)))
}

// GroupOfCluster is the descriptor's block and the bit of cluster c.
func (g *Geometry) GroupOfCluster(c uint32) (desc uint64, bit int) {
	return g.GroupBlkno(int(c / g.CPG)), int(c % g.CPG)
}

// Capacities of the structures in one block, in records unless noted.

// InodeExtents is the plain capacity of a dinode's extent (or chain) list, its
// inline xattr area not counted.
func (g *Geometry) InodeExtents() int { return (g.BlockSize - dinodeRecs) / recSize }

// EBExtents is the capacity of an extent block.
func (g *Geometry) EBExtents() int { return (g.BlockSize - extentBlkList - extHeaderSize) / recSize }

// InlineCount is the plain id_count in bytes.
func (g *Geometry) InlineCount() int { return g.BlockSize - dinodeID2 - inlineHeader }

// ChainCount is the capacity of a chain list.
func (g *Geometry) ChainCount() int { return g.InodeExtents() }

// TruncCount is the exact tl_count.
func (g *Geometry) TruncCount() int { return (g.BlockSize - dinodeID2 - truncHeader) / truncRecSize }

// LocalAllocSize is la_size in bytes.
func (g *Geometry) LocalAllocSize() int { return g.BlockSize - dinodeID2 - lallocHeader }

// FastSymlinkMax is the longest link text kept in the dinode without inline
// xattrs; one more byte holds the NUL.
func (g *Geometry) FastSymlinkMax() int { return g.BlockSize - dinodeID2 - 1 }

// DxRootEntries is the capacity of an inline dx root, DxRootExtents that of its
// extent list, DxLeafEntries that of a dx leaf.
func (g *Geometry) DxRootEntries() int { return (g.BlockSize - dxRootBody - dxListHeader) / recSize }
func (g *Geometry) DxRootExtents() int { return (g.BlockSize - dxRootBody - extHeaderSize) / recSize }
func (g *Geometry) DxLeafEntries() int { return (g.BlockSize - dxLeafBody - dxListHeader) / recSize }

// XattrTreeExtents is the capacity of an indexed xattr block's root list.
func (g *Geometry) XattrTreeExtents() int {
	return (g.BlockSize - xattrTreeList - extHeaderSize) / recSize
}

// RefcountRecs is the capacity of a refcount block, in records or (tree root)
// extents.
func (g *Geometry) RefcountRecs() int { return (g.BlockSize - refcountBody - rlHeaderSize) / recSize }

// ClusterGroupSize is bg_size of cluster groups in bytes.
func (g *Geometry) ClusterGroupSize() int { return g.BlockSize - groupBitmap }

// SuballocGroupSize is bg_size of new suballocator groups in bytes.
func (g *Geometry) SuballocGroupSize() int {
	if g.HasDiscontigBG() {
		return discontigSize
	}
	return g.BlockSize - groupBitmap
}

// GroupListRecs is the capacity of a discontiguous group's list.
func (g *Geometry) GroupListRecs() int { return (g.BlockSize - groupListOff - extHeaderSize) / recSize }

// LinkMax bounds the link count of a directory (EMLINK beyond).
func (g *Geometry) LinkMax() uint32 {
	if g.HasIndexedDirs() {
		return LinkMaxIndexed
	}
	return LinkMaxPlain
}

// DirTrailers reports whether the data blocks of a non-inline directory with
// these i_dyn_features have trailers.
func (g *Geometry) DirTrailers(dyn uint16) bool {
	return g.HasMetaECC() || dyn&DynIndexedDir != 0
}

// BackupSuperBlkno is the block of backup superblock i (byte offset 2^(30+2i));
// false when the volume is too small or the feature is off.
func (g *Geometry) BackupSuperBlkno(i int) (uint64, bool) {
	if g.Compat&FeatureCompatBackupSuper == 0 || i < 0 || i >= BackupSuperMax {
		return 0, false
	}
	b := uint64(1) << (30 + 2*uint(i) - g.BlockBits)
	return b, b < g.TotalBlocks
}
