package mkfs

import (
	"fmt"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// dir is a directory being filled: inline, or in blocks of its extents.
type dir struct {
	b      *builder
	di     ondisk.Dinode
	inline bool
	blocks [][]byte // data blocks in use; nil when inline
	last   int      // offset of the last entry in the last block or inline area
	names  []dirName
}

// dirName is one entry, and the block it is in (0 when inline).
type dirName struct {
	name  string
	blkno uint64
}

// newSystemDirectory makes the root or the system directory: first the clusters,
// then the inode, as mkfs.ocfs2 does.
func (b *builder) newSystemDirectory(blocks bool, clusters int, what string) (*dir, error) {
	var c uint32
	var err error
	if blocks {
		if c, _, err = b.clusters.take(clusters, clusters, what); err != nil {
			return nil, err
		}
	}
	di, err := b.newInode(b.sysGroup, ondisk.SlotGlobal, ondisk.ModeDir|0o755, ondisk.InodeValid|ondisk.InodeSystem)
	if err != nil {
		return nil, err
	}
	d := b.newDir(di, !blocks)
	if blocks {
		d.give(c, clusters)
	}
	return d, nil
}

// newDir wraps an inode as an empty directory. Without inline it needs give.
func (b *builder) newDir(di ondisk.Dinode, inline bool) *dir {
	di.SetLinks(0)
	clear(di.ID2())
	if inline {
		di.SetDynFeatures(ondisk.DynInlineData)
		di.Inline().SetCount(uint16(b.g.InlineCount()))
		di.SetSize(uint64(b.g.InlineCount()))
	} else {
		di.Extents().SetCount(uint16(b.g.InodeExtents()))
	}
	return &dir{b: b, di: di, inline: inline}
}

// give hands a directory its only extent.
func (d *dir) give(cluster uint32, n int) {
	blkno := d.b.g.ClustersToBlocks(cluster)
	d.di.Extents().Rec(0).SetLeaf(0, uint16(n), blkno, 0)
	d.di.Extents().SetNextFree(1)
	d.di.SetClusters(uint32(n))
	d.b.zero = append(d.b.zero, extent{blkno, n})
}

// start adds "." and "..".
func (d *dir) start(parent uint64) {
	d.add(".", d.di.Blkno(), ondisk.FTDir)
	d.add("..", parent, ondisk.FTDir)
}

// blkno is the block number of data block i.
func (d *dir) blkno(i int) uint64 { return d.di.Extents().Rec(0).Blkno() + uint64(i) }

// area is the part of the last block that entries tile.
func (d *dir) area() []byte {
	if d.inline {
		return d.di.Inline().Data()
	}
	return ondisk.DirBlock(d.blocks[len(d.blocks)-1]).Area(d.trailers())
}

// trailers tells whether data blocks have trailers. mkfs.ocfs2 makes them before
// there is an index, if the volume has indexes.
func (d *dir) trailers() bool { return d.b.g.HasMetaECC() || d.b.g.HasIndexedDirs() }

// add appends an entry; a directory counts a link for each directory in it.
func (d *dir) add(name string, inode uint64, fileType uint8) {
	need := ondisk.DirRecLen(len(name))
	if len(d.names) > 0 {
		last := ondisk.DirEntry(d.area()[d.last:])
		if rest := int(last.RecLen()) - last.Used(); rest >= need {
			last.SetRecLen(uint16(last.Used()))
			d.put(d.last+last.Used(), rest, name, inode, fileType)
			return
		}
	}
	if !d.inline {
		d.grow()
	}
	d.put(0, len(d.area()), name, inode, fileType)
}

// put writes an entry at off, recLen long.
func (d *dir) put(off, recLen int, name string, inode uint64, fileType uint8) {
	e := ondisk.DirEntry(d.area()[off:])
	e.SetRecLen(uint16(recLen))
	e.Set(inode, name, fileType)
	d.last = off
	n := dirName{name: name}
	if !d.inline {
		n.blkno = d.blkno(len(d.blocks) - 1)
	}
	d.names = append(d.names, n)
	if fileType == ondisk.FTDir {
		d.di.SetLinks(d.di.Links() + 1)
	}
}

// grow adds a data block.
func (d *dir) grow() {
	g := d.b.g
	blkno := d.blkno(len(d.blocks))
	check := -1
	if d.trailers() {
		check = ondisk.CheckOffTail(g.BlockSize)
	}
	block := d.b.newBlock(blkno, check)
	d.blocks = append(d.blocks, block)
	if d.trailers() {
		ondisk.DirBlock(block).Trailer().Init(blkno, d.di.Blkno())
	}
	d.di.SetSize(uint64(len(d.blocks) * g.BlockSize))
}

// layoutOrphanDirs makes the orphan directories.
func (b *builder) layoutOrphanDirs() error {
	for slot, di := range b.inodes[ondisk.SysOrphanDir] {
		d := b.newDir(di, b.g.HasInlineData())
		if !d.inline {
			c, n, err := b.clusters.take(1, 1, fmt.Sprintf("orphan directory %d", slot))
			if err != nil {
				return err
			}
			d.give(c, n)
		}
		d.start(b.g.SystemDirBlkno)
		b.orphans = append(b.orphans, d)
	}
	return nil
}

// indexDirs gives the root and the orphan directories their index, where they are
// not inline.
func (b *builder) indexDirs() error {
	for _, d := range append([]*dir{b.root}, b.orphans...) {
		if err := d.index(); err != nil {
			return err
		}
	}
	return nil
}

// layoutLostFound makes /lost+found: the one ordinary inode of a new volume.
func (b *builder) layoutLostFound() error {
	alloc := b.inodes[ondisk.SysInodeAlloc][0]
	group, err := b.addGroup(alloc)
	if err != nil {
		return err
	}
	di, err := b.newInode(group, 0, ondisk.ModeDir|0o755, ondisk.InodeValid)
	if err != nil {
		return err
	}
	b.usedBit(alloc, group)
	di.SetSuballocLoc(b.suballocLoc(group))
	d := b.newDir(di, b.g.HasInlineData())
	b.lost = d
	if !d.inline {
		c, n, err := b.clusters.take(1, 1, "lost+found")
		if err != nil {
			return err
		}
		d.give(c, n)
	}
	d.start(b.g.RootBlkno)
	if err := d.index(); err != nil {
		return err
	}
	b.root.add("lost+found", di.Blkno(), ondisk.FTDir)
	return b.root.reindex()
}

// indexSystemDir gives the system directory the index that fsck wants, last, so
// that everything else is where mkfs.ocfs2 has it.
func (b *builder) indexSystemDir() error { return b.sysDir.index() }
