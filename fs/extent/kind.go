package extent

import "github.com/ocfuse/ocfuse/fs/ondisk"

// kind is what differs between the trees: where the root list, the last leaf
// and the counter are, and what records mean. OCFS2 format: extent trees; Linux
// fs/ocfs2/alloc.c, struct ocfs2_extent_tree_operations. b is the root's block.
type kind interface {
	what() string
	isTree(b []byte) bool
	list(b []byte) ondisk.ExtentList
	setLastEb(b []byte, blkno uint64)
	lastEb(b []byte) uint64
	setClusters(b []byte, n uint32)
	clusters(b []byte) uint32
	merges() bool    // contiguous records may be joined
	metaUnits() bool // records count blocks, not clusters
}

type inodeKind struct{}

func (inodeKind) what() string { return "inode extent tree" }
func (inodeKind) isTree(b []byte) bool {
	d := ondisk.Dinode(b)
	const other = ondisk.InodeSuperBlock | ondisk.InodeLocalAlloc | ondisk.InodeChain | ondisk.InodeDealloc
	// A symlink without clusters may be a fast one or one about to get its first
	// cluster: its owner knows.
	return d.Flags()&other == 0 && !d.HasDyn(ondisk.DynInlineData)
}
func (inodeKind) list(b []byte) ondisk.ExtentList  { return ondisk.Dinode(b).Extents() }
func (inodeKind) setLastEb(b []byte, blkno uint64) { ondisk.Dinode(b).SetLastEbBlk(blkno) }
func (inodeKind) lastEb(b []byte) uint64           { return ondisk.Dinode(b).LastEbBlk() }
func (inodeKind) setClusters(b []byte, n uint32)   { ondisk.Dinode(b).SetClusters(n) }
func (inodeKind) clusters(b []byte) uint32         { return ondisk.Dinode(b).Clusters() }
func (inodeKind) merges() bool                     { return true }
func (inodeKind) metaUnits() bool                  { return false }

type dxKind struct{}

func (dxKind) what() string                     { return "dx tree" }
func (dxKind) isTree(b []byte) bool             { return !ondisk.DxRoot(b).IsInline() }
func (dxKind) list(b []byte) ondisk.ExtentList  { return ondisk.DxRoot(b).Extents() }
func (dxKind) setLastEb(b []byte, blkno uint64) { ondisk.DxRoot(b).SetLastEbBlk(blkno) }
func (dxKind) lastEb(b []byte) uint64           { return ondisk.DxRoot(b).LastEbBlk() }
func (dxKind) setClusters(b []byte, n uint32)   { ondisk.DxRoot(b).SetClusters(n) }
func (dxKind) clusters(b []byte) uint32         { return ondisk.DxRoot(b).Clusters() }
func (dxKind) merges() bool                     { return true }
func (dxKind) metaUnits() bool                  { return false }

// valueKind is the byte offset of an xattr value root in its block.
type valueKind int

func (k valueKind) root(b []byte) ondisk.XattrValueRoot { return ondisk.XattrValueRoot(b[k:]) }

func (valueKind) what() string                       { return "xattr value tree" }
func (k valueKind) isTree(b []byte) bool             { return int(k) > 0 && len(b)-int(k) >= 16+2*16 }
func (k valueKind) list(b []byte) ondisk.ExtentList  { return k.root(b).List() }
func (k valueKind) setLastEb(b []byte, blkno uint64) { k.root(b).SetLastEbBlk(blkno) }
func (k valueKind) lastEb(b []byte) uint64           { return k.root(b).LastEbBlk() }
func (k valueKind) setClusters(b []byte, n uint32)   { k.root(b).SetClusters(n) }
func (k valueKind) clusters(b []byte) uint32         { return k.root(b).Clusters() }
func (valueKind) merges() bool                       { return true }
func (valueKind) metaUnits() bool                    { return false }

type xattrKind struct{}

func (xattrKind) what() string                     { return "xattr bucket tree" }
func (xattrKind) isTree(b []byte) bool             { return ondisk.XattrBlock(b).IsIndexed() }
func (xattrKind) list(b []byte) ondisk.ExtentList  { return ondisk.XattrBlock(b).Root().List() }
func (xattrKind) setLastEb(b []byte, blkno uint64) { ondisk.XattrBlock(b).Root().SetLastEbBlk(blkno) }
func (xattrKind) lastEb(b []byte) uint64           { return ondisk.XattrBlock(b).Root().LastEbBlk() }
func (xattrKind) setClusters(b []byte, n uint32)   { ondisk.XattrBlock(b).Root().SetClusters(n) }
func (xattrKind) clusters(b []byte) uint32         { return ondisk.XattrBlock(b).Root().Clusters() }
func (xattrKind) merges() bool                     { return true }
func (xattrKind) metaUnits() bool                  { return false }

type refcountKind struct{}

func (refcountKind) what() string                     { return "refcount tree" }
func (refcountKind) isTree(b []byte) bool             { return ondisk.RefcountBlock(b).IsTree() }
func (refcountKind) list(b []byte) ondisk.ExtentList  { return ondisk.RefcountBlock(b).Extents() }
func (refcountKind) setLastEb(b []byte, blkno uint64) { ondisk.RefcountBlock(b).SetLastEbBlk(blkno) }
func (refcountKind) lastEb(b []byte) uint64           { return ondisk.RefcountBlock(b).LastEbBlk() }
func (refcountKind) setClusters(b []byte, n uint32)   { ondisk.RefcountBlock(b).SetClusters(n) }
func (refcountKind) clusters(b []byte) uint32         { return ondisk.RefcountBlock(b).Clusters() }
func (refcountKind) merges() bool                     { return false }
func (refcountKind) metaUnits() bool                  { return true }
