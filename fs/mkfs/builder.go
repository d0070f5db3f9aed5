package mkfs

import (
	"fmt"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// builder lays a volume out in memory.
type builder struct {
	plan *Plan
	g    *ondisk.Geometry
	now  uint64 // seconds since the epoch

	clusters *clusterMap
	blocks   map[uint64]metaBlock // what is to be written, by block number
	zero     []extent             // what must be zero but for blocks

	sysGroup ondisk.GroupDesc
	root     *dir
	sysDir   *dir
	orphans  []*dir
	inodes   [ondisk.NumSystemFiles][]ondisk.Dinode // by kind and slot
	backups  []uint64                               // blocks of the backup superblocks
	lost     *dir                                   // lost+found
}

// metaBlock is one block and where its check belongs, -1 for none.
type metaBlock struct {
	data  []byte
	check int
}

// extent is a range of clusters by its first block.
type extent struct {
	blkno    uint64
	clusters int
}

// newBuilder lays out the whole volume. Errors are of kind ErrTooSmall or ErrInvalid.
func newBuilder(p *Plan, id Identity) (*builder, error) {
	b, err := layout(p, id)
	if err != nil {
		return nil, err
	}
	if err := b.indexSystemDir(); err != nil {
		return nil, err
	}
	b.finish()
	return b, nil
}

// layout is newBuilder up to where mkfs.ocfs2 ends.
func layout(p *Plan, id Identity) (*builder, error) {
	b := &builder{plan: p, g: p.geometry(id), now: uint64(id.Time.Unix()), blocks: make(map[uint64]metaBlock)}
	b.clusters = newClusterMap(b.g)
	for _, step := range []func() error{
		b.layoutBase, b.layoutBackups, b.layoutJournals, b.layoutExtentAllocs, b.layoutSlotMap,
		b.layoutQuota, b.indexDirs, b.layoutLostFound,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// layoutBase places what exists before any other allocation: the first clusters,
// the system inodes, the first directories and the heartbeat area.
func (b *builder) layoutBase() error {
	g := b.g
	first := (3 + int(g.Bpc) - 1) / int(g.Bpc) // the cluster after the superblock's
	if first >= g.GroupBits(0) {
		return fmt.Errorf("%w: %d clusters", ErrTooSmall, g.TotalClusters)
	}
	g.FirstClusterGroup = uint64(first) << g.BpcBits
	b.clusters.mark(0, 1, first+1)
	if err := b.newSystemGroup(); err != nil {
		return err
	}
	var err error
	if b.root, err = b.newSystemDirectory(!g.HasInlineData(), 1, "the root directory"); err != nil {
		return err
	}
	g.RootBlkno = b.root.di.Blkno()
	b.root.di.SetUID(b.plan.Owner.UID)
	b.root.di.SetGID(b.plan.Owner.GID)
	entries := 7 + 8*b.plan.Slots // of all kinds, whatever the features
	inline := g.HasInlineData() && entries*ondisk.DirRecLen(40) <= g.InlineCount()
	perBlock := g.BlockSize / ondisk.DirRecLen(40)
	blocks := (entries + perBlock - 1) / perBlock
	if b.sysDir, err = b.newSystemDirectory(!inline, (blocks+int(g.Bpc)-1)/int(g.Bpc), "the system directory"); err != nil {
		return err
	}
	g.SystemDirBlkno = b.sysDir.di.Blkno()
	b.root.start(g.RootBlkno)
	b.sysDir.start(g.SystemDirBlkno)
	if err := b.newSystemInodes(); err != nil {
		return err
	}
	if err := b.layoutHeartbeat(); err != nil {
		return err
	}
	return b.layoutOrphanDirs()
}

// newSystemGroup makes the group of global_inode_alloc: room for the inodes of at
// least 32 slots.
func (b *builder) newSystemGroup() error {
	g := b.g
	blocks := 6 + 7 + 8*max(32, b.plan.Slots)
	n := (blocks + int(g.Bpc) - 1) / int(g.Bpc)
	bits := n * int(g.Bpc)
	if bits > 8*g.ClusterGroupSize() {
		return fmt.Errorf("%w: system inodes of %d slots do not fit one group of %d blocks of %d bytes: use larger blocks, smaller clusters or fewer slots",
			ErrInvalid, b.plan.Slots, 8*g.ClusterGroupSize(), g.BlockSize)
	}
	c, _, err := b.clusters.take(n, n, "system inodes")
	if err != nil {
		return err
	}
	blkno := g.ClustersToBlocks(c)
	b.sysGroup = b.newBlock(blkno, ondisk.CheckOffGroup)
	b.sysGroup.Init(blkno, g.FSGeneration, 0, uint16(g.ClusterGroupSize()))
	b.sysGroup.SetBits(uint16(bits))
	b.sysGroup.SetFreeBitsCount(uint16(bits - 1))
	setBits(b.sysGroup.Bitmap(), 0, 1)
	return nil
}

// newBlock adds a zero block that will be written.
func (b *builder) newBlock(blkno uint64, check int) []byte {
	data := make([]byte, b.g.BlockSize)
	b.blocks[blkno] = metaBlock{data, check}
	return data
}

// takeBit takes the next bit of a group whose bits are used from the front.
func takeBit(d ondisk.GroupDesc) (bit int, ok bool) {
	if d.FreeBitsCount() == 0 {
		return 0, false
	}
	bit = int(d.Bits() - d.FreeBitsCount())
	setBits(d.Bitmap(), bit, bit+1)
	d.SetFreeBitsCount(d.FreeBitsCount() - 1)
	return bit, true
}

// newInode makes an inode in group d.
func (b *builder) newInode(d ondisk.GroupDesc, slot uint16, mode uint16, flags uint32) (ondisk.Dinode, error) {
	bit, ok := takeBit(d)
	if !ok {
		return nil, fmt.Errorf("%w: the inode group at block %d is full", ErrTooSmall, d.Blkno())
	}
	di := ondisk.Dinode(b.newBlock(d.Blkno()+uint64(bit), ondisk.CheckOffDinode))
	di.Init(d.Blkno()+uint64(bit), b.g.FSGeneration)
	di.SetGeneration(b.g.FSGeneration)
	di.SetSuballocSlot(slot)
	di.SetSuballocBit(uint16(bit))
	di.SetMode(mode)
	di.SetFlags(flags)
	di.SetLinks(1)
	b.setTimes(di)
	return di, nil
}

// setTimes gives an inode the time of the format.
func (b *builder) setTimes(di ondisk.Dinode) {
	di.SetAtime(int64(b.now), 0)
	di.SetCtime(int64(b.now), 0)
	di.SetMtime(int64(b.now), 0)
}

// newSystemInodes makes the inodes of the system directory, and their names.
func (b *builder) newSystemInodes() error {
	for kind := range ondisk.NumSystemFiles {
		if !kind.Required(b.g) {
			continue
		}
		n := 1
		if kind.PerSlot() {
			n = b.plan.Slots
		}
		for slot := range n {
			di, err := b.newInode(b.sysGroup, ondisk.SlotGlobal, kind.Mode(), kind.Flags())
			if err != nil {
				return err
			}
			b.initBody(di)
			b.inodes[kind] = append(b.inodes[kind], di)
			b.sysDir.add(ondisk.SystemInodeName(kind, slot), di.Blkno(), ondisk.FileTypeOfMode(di.Mode()))
		}
	}
	b.sysGroup.SetParentDinode(b.inodes[ondisk.SysGlobalInodeAlloc][0].Blkno())
	return nil
}

// initBody sets up the part of a dinode that depends on its flags.
func (b *builder) initBody(di ondisk.Dinode) {
	switch {
	case di.HasFlag(ondisk.InodeLocalAlloc):
		di.LocalAlloc().SetSize(uint16(b.g.LocalAllocSize()))
	case di.HasFlag(ondisk.InodeDealloc):
		di.TruncLog().SetCount(uint16(b.g.TruncCount()))
	case di.HasFlag(ondisk.InodeChain):
		di.Chains().SetCount(uint16(b.g.ChainCount()))
		di.Chains().SetCPG(uint16(b.plan.groupClusters()))
		di.Chains().SetBPC(uint16(b.g.Bpc))
	default:
		di.Extents().SetCount(uint16(b.g.InodeExtents()))
	}
}

// extend appends n clusters to a file, in as few extents as the bitmap allows, and
// remembers them as zero. The first one is returned.
func (b *builder) extend(di ondisk.Dinode, n int, what string) (first uint64, err error) {
	list := di.Extents()
	for n > 0 {
		c, got, err := b.clusters.take(1, n, what)
		if err != nil {
			return 0, err
		}
		blkno := b.g.ClustersToBlocks(c)
		if err := b.append(list, di.Clusters(), got, blkno, what); err != nil {
			return 0, err
		}
		di.SetClusters(di.Clusters() + uint32(got))
		b.zero = append(b.zero, extent{blkno, got})
		n -= got
		if first == 0 {
			first = blkno
		}
	}
	return first, nil
}

// append adds a leaf record, or makes the last one longer.
func (b *builder) append(list ondisk.ExtentList, cpos uint32, n int, blkno uint64, what string) error {
	i := int(list.NextFree())
	if i > 0 {
		last := list.Rec(i - 1)
		end := last.Blkno() + b.g.ClustersToBlocks(uint32(last.Clusters()))
		if end == blkno && int(last.Clusters())+n <= ondisk.MaxLeafClusters {
			last.SetClusters(last.Clusters() + uint16(n))
			return nil
		}
	}
	if i == int(list.Count()) {
		return fmt.Errorf("%w: %s needs more than the %d extents an inode of %d bytes holds: use larger blocks or a smaller size",
			ErrInvalid, what, list.Count(), b.g.BlockSize)
	}
	list.Rec(i).SetLeaf(cpos, uint16(n), blkno, 0)
	list.SetNextFree(uint16(i + 1))
	return nil
}
