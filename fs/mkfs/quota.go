package mkfs

import (
	"encoding/binary"
	"fmt"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

const (
	quotaGrace  = 604800 // seconds: a week
	quotaSyncMs = 10000
	dqblkSize   = 88
	dqHeader    = 16
)

var le = binary.LittleEndian

// layoutQuota makes the quota files of users, then of groups; then the entries of
// root in both.
func (b *builder) layoutQuota() error {
	kinds := []struct {
		global, local ondisk.SystemFile
		typ           int
	}{
		{ondisk.SysQuotaUser, ondisk.SysLocalQuotaUser, ondisk.QuotaUser},
		{ondisk.SysQuotaGroup, ondisk.SysLocalQuotaGroup, ondisk.QuotaGroup},
	}
	var files []*quotaFile
	for _, k := range kinds {
		if !k.global.Required(b.g) {
			continue
		}
		q, err := b.newQuotaFile(b.inodes[k.global][0], k.typ)
		if err != nil {
			return err
		}
		files = append(files, q)
		for slot, di := range b.inodes[k.local] {
			if err := b.newLocalQuota(di, slot, k.typ); err != nil {
				return err
			}
		}
	}
	for _, q := range files {
		if err := q.addRoot(); err != nil {
			return err
		}
	}
	return nil
}

// quotaFile is a global quota file. OCFS2 format: block 0 is header and info, block
// 1 the root of a radix tree over ids, whose leaves are blocks of entries.
type quotaFile struct {
	b      *builder
	di     ondisk.Dinode
	blocks uint32 // blocks in use
}

func (b *builder) newQuotaFile(di ondisk.Dinode, typ int) (*quotaFile, error) {
	q := &quotaFile{b: b, di: di}
	h, _, err := q.grow()
	if err != nil {
		return nil, err
	}
	head := ondisk.QuotaHeader(h)
	head.SetMagic(ondisk.QuotaGlobalMagic[typ])
	head.SetBgrace(quotaGrace)
	head.SetIgrace(quotaGrace)
	head.SetSyncMs(quotaSyncMs)
	if _, _, err = q.grow(); err != nil {
		return nil, err
	}
	return q, nil
}

// grow adds a block to the file.
func (q *quotaFile) grow() (block []byte, n uint32, err error) {
	if uint64(q.blocks) == q.b.g.ClustersToBlocks(q.di.Clusters()) {
		clusters := 1
		if q.blocks == 0 { // header and root come together
			clusters = int(q.b.g.ClustersForBytes(2 << q.b.g.BlockBits))
		}
		if _, err := q.b.extend(q.di, clusters, "a quota file"); err != nil {
			return nil, 0, err
		}
	}
	n = q.blocks
	q.blocks++
	q.di.SetSize(uint64(q.blocks) << q.b.g.BlockBits)
	return q.b.newBlock(q.block(n), ondisk.CheckOffTail(q.b.g.BlockSize)), n, nil
}

// block is the block number of block n of the file.
func (q *quotaFile) block(n uint32) uint64 {
	list := q.di.Extents()
	c, within := n>>q.b.g.BpcBits, uint64(n)&uint64(q.b.g.Bpc-1)
	for i := range int(list.NextFree()) {
		if r := list.Rec(i); c < r.Cpos()+uint32(r.Clusters()) {
			return r.Blkno() + q.b.g.ClustersToBlocks(c-r.Cpos()) + within
		}
	}
	panic(fmt.Sprintf("mkfs: quota block %d of %d clusters", n, q.di.Clusters())) // invariant: grow extends first
}

// addRoot inserts the entry of id 0, which owns the root directory and lost+found.
func (q *quotaFile) addRoot() error {
	g := q.b.g
	perBlock := uint64(g.BlockSize-ondisk.QuotaBlockTail) / 4
	depth := 1
	for reach := perBlock; reach < 1<<32; reach *= perBlock {
		depth++
	}
	// The tree below id 0 uses reference 0 of every node. Nodes are allocated on the
	// way down.
	node := q.b.blocks[q.block(1)].data
	var leaf []byte
	var n uint32
	for range depth {
		block, at, err := q.grow()
		if err != nil {
			return err
		}
		le.PutUint32(node, at)
		node, leaf, n = block, block, at
	}
	le.PutUint16(leaf[8:], 1) // dqdh_entries
	entry := leaf[dqHeader : dqHeader+dqblkSize]
	inodes, clusters := uint64(2), q.b.root.di.Clusters()
	if !g.HasInlineData() {
		clusters++ // lost+found, made later
	}
	le.PutUint64(entry[0x18:], inodes)
	le.PutUint64(entry[0x30:], uint64(clusters)<<g.ClusterBits)
	head := ondisk.QuotaHeader(q.b.blocks[q.block(0)].data)
	head.SetBlocks(q.blocks)
	head.SetFreeEntry(n)
	return nil
}

// newLocalQuota makes the local file of a slot: closed, one empty chunk.
func (b *builder) newLocalQuota(di ondisk.Dinode, slot, typ int) error {
	n := int(b.g.ClustersForBytes(2 << b.g.BlockBits))
	first, err := b.extend(di, n, fmt.Sprintf("the quota file of slot %d", slot))
	if err != nil {
		return err
	}
	di.SetSize(2 << b.g.BlockBits)
	tail := ondisk.CheckOffTail(b.g.BlockSize)
	head := ondisk.QuotaHeader(b.newBlock(first, tail))
	head.SetMagic(ondisk.QuotaLocalMagic[typ])
	head.SetLocalFlags(ondisk.QuotaLocalClean)
	head.SetLocalChunks(1)
	head.SetLocalBlocks(2)
	second := first + 1
	if b.g.Bpc == 1 { // one block per cluster: the second may be elsewhere
		r := di.Extents().Rec(0)
		if r.Clusters() == 1 {
			second = di.Extents().Rec(1).Blkno()
		}
	}
	b.newBlock(second, tail)
	return nil
}
