package mkfs

import "github.com/ocfuse/ocfuse/fs/ondisk"

// addGroup gives an inode or extent allocator another group.
func (b *builder) addGroup(alloc ondisk.Dinode) (ondisk.GroupDesc, error) {
	list := alloc.Chains()
	cpg, bpc := int(list.CPG()), int(list.BPC())
	c, _, err := b.clusters.take(cpg, cpg, "an allocator group")
	if err != nil {
		return nil, err
	}
	chain := list.NextFree()
	if chain == list.Count() {
		chain = uint16(alloc.Clusters() / uint32(cpg) % uint32(list.Count()))
	} else {
		list.SetNextFree(chain + 1)
	}
	rec := list.Rec(int(chain))
	blkno := b.g.ClustersToBlocks(c)
	d := ondisk.GroupDesc(b.newBlock(blkno, ondisk.CheckOffGroup))
	d.Init(blkno, b.g.FSGeneration, alloc.Blkno(), uint16(b.g.SuballocGroupSize()))
	d.SetBits(uint16(cpg * bpc))
	d.SetFreeBitsCount(uint16(cpg*bpc - 1))
	d.SetChain(chain)
	d.SetNextGroup(rec.Blkno())
	setBits(d.Bitmap(), 0, 1)
	rec.SetBlkno(blkno)
	rec.SetTotal(rec.Total() + uint32(d.Bits()))
	rec.SetFree(rec.Free() + uint32(d.FreeBitsCount()))
	alloc.SetClusters(alloc.Clusters() + uint32(cpg))
	alloc.SetSize(uint64(alloc.Clusters()) << b.g.ClusterBits)
	alloc.SetTotal(alloc.Total() + uint32(d.Bits()))
	alloc.SetUsed(alloc.Used() + 1)
	return d, nil
}

// usedBit counts a bit just taken from group.
func (b *builder) usedBit(alloc ondisk.Dinode, group ondisk.GroupDesc) {
	alloc.SetUsed(alloc.Used() + 1)
	rec := alloc.Chains().Rec(int(group.Chain()))
	rec.SetFree(rec.Free() - 1)
}

// newMetaBlock takes a block of an extent allocator: of the lowest group with room,
// as libocfs2 does, or of a new one.
func (b *builder) newMetaBlock(alloc ondisk.Dinode) (blkno uint64, group ondisk.GroupDesc, err error) {
	list := alloc.Chains()
	for i := range int(list.NextFree()) {
		for at := list.Rec(i).Blkno(); at != 0; {
			d := ondisk.GroupDesc(b.blocks[at].data)
			if d.FreeBitsCount() != 0 && (group == nil || d.Blkno() < group.Blkno()) {
				group = d
			}
			at = d.NextGroup()
		}
	}
	if group == nil {
		if group, err = b.addGroup(alloc); err != nil {
			return 0, nil, err
		}
	}
	bit, _ := takeBit(group)
	b.usedBit(alloc, group)
	return group.Blkno() + uint64(bit), group, nil
}

// suballocLoc is what a block allocated from group stores about it: libocfs2 stores
// the group also where the block number and the bit would tell.
func (b *builder) suballocLoc(group ondisk.GroupDesc) uint64 { return group.Blkno() }

// layoutExtentAllocs gives every extent allocator its first groups.
func (b *builder) layoutExtentAllocs() error {
	for _, alloc := range b.inodes[ondisk.SysExtentAlloc] {
		for range b.plan.ExtentGroups {
			if _, err := b.addGroup(alloc); err != nil {
				return err
			}
		}
	}
	return nil
}

// finish writes what is known only when all is allocated: the allocators' own
// inodes, the group descriptors being written later one by one.
func (b *builder) finish() {
	alloc := b.inodes[ondisk.SysGlobalInodeAlloc][0]
	list := alloc.Chains()
	bits := uint32(b.sysGroup.Bits())
	list.SetCPG(uint16(bits / b.g.Bpc))
	list.SetNextFree(1)
	list.Rec(0).SetBlkno(b.sysGroup.Blkno())
	list.Rec(0).SetTotal(bits)
	list.Rec(0).SetFree(uint32(b.sysGroup.FreeBitsCount()))
	alloc.SetClusters(bits / b.g.Bpc)
	alloc.SetSize(uint64(alloc.Clusters()) << b.g.ClusterBits)
	alloc.SetTotal(bits)
	alloc.SetUsed(bits - uint32(b.sysGroup.FreeBitsCount()))

	bitmap := b.inodes[ondisk.SysGlobalBitmap][0]
	bitmap.Chains().SetCPG(uint16(b.g.CPG))
	bitmap.Chains().SetBPC(1)
	bitmap.SetUsed(b.clusters.chains(bitmap.Chains()))
	bitmap.SetTotal(b.g.TotalClusters)
	bitmap.SetClusters(b.g.TotalClusters)
	bitmap.SetSize(uint64(b.g.TotalClusters) << b.g.ClusterBits)
}
