package mkfs

import (
	"fmt"

	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal/format"
)

// layoutHeartbeat makes the heartbeat area: one block per node.
func (b *builder) layoutHeartbeat() error {
	di := b.inodes[ondisk.SysHeartbeat][0]
	size := uint64(ondisk.HeartbeatBlocks) << b.g.BlockBits
	n := int(b.g.ClustersForBytes(size))
	c, _, err := b.clusters.take(n, n, "the heartbeat area")
	if err != nil {
		return err
	}
	blkno := b.g.ClustersToBlocks(c)
	di.Extents().Rec(0).SetLeaf(0, uint16(n), blkno, 0)
	di.Extents().SetNextFree(1)
	di.SetClusters(uint32(n))
	di.SetSize(size)
	b.zero = append(b.zero, extent{blkno, n})
	return nil
}

// backupBlocks lists where the volume has backup superblocks: 1G, 4G, 16G, ... 1T.
func backupBlocks(g *ondisk.Geometry) []uint64 {
	var all []uint64
	for i := range ondisk.BackupSuperMax {
		blkno := uint64(1) << (30 + 2*i) >> g.BlockBits
		if blkno < g.TotalBlocks {
			all = append(all, blkno)
		}
	}
	return all
}

// layoutBackups takes the clusters of the backup superblocks.
func (b *builder) layoutBackups() error {
	if b.g.Compat&ondisk.FeatureCompatBackupSuper == 0 {
		return nil
	}
	b.backups = backupBlocks(b.g)
	for _, blkno := range b.backups {
		c := b.g.BlocksToClusters(blkno)
		if !b.clusters.takeCluster(c) {
			return fmt.Errorf("%w: cluster %d of the backup superblock at block %d is in use: use other slots or cluster size, or nobackup-super",
				ErrInvalid, c, blkno)
		}
		b.zero = append(b.zero, extent{b.g.ClustersToBlocks(c), 1})
	}
	return nil
}

// layoutJournals makes the journals: an empty log each. The journal superblock has
// 1024 bytes. s_start is 1, as mkfs.ocfs2 writes it; the inode's flags say that
// there is nothing to replay.
func (b *builder) layoutJournals() error {
	n := int(b.plan.JournalSize / int64(b.g.ClusterSize))
	var features format.Incompat
	if b.plan.Journal64 {
		features = format.Incompat64Bit
	}
	sb := format.New(uint32(b.g.BlockSize), uint32(b.plan.JournalSize/int64(b.g.BlockSize)), b.g.UUID, features)
	sb.Start = 1
	if b.g.BlockSize < 1024 {
		sb.First, sb.Start = 2, 0
	}
	for slot, di := range b.inodes[ondisk.SysJournal] {
		first, err := b.extend(di, n, fmt.Sprintf("journal %d", slot))
		if err != nil {
			return err
		}
		di.SetSize(uint64(b.plan.JournalSize))
		sb.Put(b.newBlock(first, -1))
	}
	return nil
}

// layoutSlotMap makes an empty slot map, formatted to the end of its clusters.
func (b *builder) layoutSlotMap() error {
	di := b.inodes[ondisk.SysSlotMap][0]
	entry := 2
	if b.g.HasExtendedSlotMap() {
		entry = 8
	}
	n := int(b.g.ClustersForBytes(uint64(b.plan.Slots * entry)))
	first, err := b.extend(di, n, "the slot map")
	if err != nil {
		return err
	}
	di.SetSize(uint64(n) << b.g.ClusterBits)
	if b.g.HasExtendedSlotMap() {
		return nil
	}
	for i := range b.g.ClustersToBlocks(uint32(n)) {
		m := ondisk.SlotMap{Data: b.newBlock(first+i, -1)}
		for slot := range m.Slots() {
			m.Clear(slot)
		}
	}
	return nil
}

// superblock is the superblock for block blkno: 2, or a backup's.
func (b *builder) superblock(blkno uint64) []byte {
	g := b.g
	di := ondisk.Dinode(make([]byte, g.BlockSize))
	di.Init(blkno, g.FSGeneration)
	ondisk.SetSignature(di, ondisk.SigSuper)
	di.SetGeneration(g.FSGeneration)
	di.SetSuballocSlot(ondisk.SlotGlobal)
	di.SetSuballocBit(0xFFFF)
	di.SetCtime(int64(b.now), 0)
	di.SetMtime(int64(b.now), 0)
	di.SetFlags(ondisk.InodeValid | ondisk.InodeSystem | ondisk.InodeSuperBlock)
	di.SetClusters(g.TotalClusters)
	s := di.Super()
	s.SetMajorRev(ondisk.MajorRev)
	s.SetMinorRev(ondisk.MinorRev)
	s.SetMaxMntCount(20)
	s.SetLastCheck(b.now)
	s.SetFeatures(g.Features)
	s.SetRootBlkno(g.RootBlkno)
	s.SetSystemDirBlkno(g.SystemDirBlkno)
	s.SetBlocksizeBits(uint32(g.BlockBits))
	s.SetClustersizeBits(uint32(g.ClusterBits))
	s.SetMaxSlots(uint16(g.MaxSlots))
	s.SetUUIDHash(g.UUIDHash)
	s.SetFirstClusterGroup(g.FirstClusterGroup)
	s.SetLabel(g.Label)
	s.SetUUID(g.UUID)
	s.SetClusterStack(g.ClusterStack)
	s.SetClusterName(g.ClusterName)
	s.SetStackFlags(g.StackFlags)
	s.SetXattrInlineSize(uint16(g.XattrInlineSize))
	if g.HasIndexedDirs() {
		s.SetDxSeed(g.DxSeed)
	}
	if g.HasMetaECC() {
		ondisk.ComputeCheck(di, ondisk.CheckOffDinode)
	}
	return di
}
