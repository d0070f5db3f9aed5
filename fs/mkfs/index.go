package mkfs

import (
	"fmt"
	"slices"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// hashed is one name of an index.
type hashed struct {
	major, minor uint32
	blkno        uint64
}

// index builds the directory's index, unless it is inline or the volume has none.
// OCFS2 format: the root holds the entries while they fit; else they are in leaf
// blocks, a cluster of them per range of the major hash, leaf by the minor one.
func (d *dir) index() error {
	if d.inline || !d.b.g.HasIndexedDirs() {
		return nil
	}
	alloc := d.b.inodes[ondisk.SysExtentAlloc][0]
	blkno, group, err := d.b.newMetaBlock(alloc)
	if err != nil {
		return err
	}
	root := ondisk.DxRoot(d.b.newBlock(blkno, ondisk.CheckOffDxRoot))
	root.Init(blkno, d.b.g.FSGeneration, d.di.Blkno())
	root.SetSuballocSlot(0)
	root.SetSuballocBit(uint16(blkno - group.Blkno()))
	root.SetSuballocLoc(d.b.suballocLoc(group))
	d.di.SetDxRoot(blkno)
	d.di.SetDynFeatures(d.di.DynFeatures() | ondisk.DynIndexedDir)
	return d.fillIndex(root)
}

// reindex writes the index anew after names were added.
func (d *dir) reindex() error {
	if d.di.DxRoot() == 0 {
		return nil
	}
	return d.fillIndex(ondisk.DxRoot(d.b.blocks[d.di.DxRoot()].data))
}

// fillIndex writes the entries and the list of blocks with space.
func (d *dir) fillIndex(root ondisk.DxRoot) error {
	d.linkFree(root)
	names := make([]hashed, len(d.names))
	for i, n := range d.names {
		major, minor := d.b.g.DxHash(n.name)
		names[i] = hashed{major, minor, n.blkno}
	}
	root.SetNumEntries(uint32(len(names)))
	if len(names) <= d.b.g.DxRootEntries() {
		root.SetFlags(ondisk.DxInline)
		root.Entries().SetCount(uint16(d.b.g.DxRootEntries()))
		fillList(root.Entries(), names)
		return nil
	}
	slices.SortStableFunc(names, func(a, b hashed) int {
		switch {
		case a.major < b.major:
			return -1
		case a.major > b.major:
			return 1
		}
		return 0
	})
	root.Extents().SetCount(uint16(d.b.g.DxRootExtents()))
	return d.addRange(root, 0, names)
}

// fillList writes names into an empty entry list.
func fillList(l ondisk.DxEntryList, names []hashed) {
	for i, n := range names {
		l.Rec(i).Set(n.major, n.minor, n.blkno)
	}
	l.SetNumUsed(uint16(len(names)))
}

// addRange puts names, sorted by major hash, into leaves of hash cpos on: one
// cluster if each of its leaves can hold its part, else halves.
func (d *dir) addRange(root ondisk.DxRoot, cpos uint32, names []hashed) error {
	g := d.b.g
	leaves := make([][]hashed, g.Bpc)
	most := 0
	for _, n := range names {
		k := n.minor & (g.Bpc - 1)
		leaves[k] = append(leaves[k], n)
		most = max(most, len(leaves[k]))
	}
	if most <= g.DxLeafEntries() {
		return d.addLeaves(root, cpos, leaves)
	}
	cut := len(names) / 2
	for cut < len(names) && names[cut].major <= names[0].major {
		cut++
	}
	for cut < len(names) && cut > 0 && names[cut].major == names[cut-1].major {
		cut++
	}
	if cut == len(names) {
		return fmt.Errorf("%w: %d names of directory %d have one hash", ErrInvalid, len(names), d.di.Blkno())
	}
	if err := d.addRange(root, cpos, names[:cut]); err != nil {
		return err
	}
	return d.addRange(root, names[cut].major, names[cut:])
}

// addLeaves makes a cluster of leaf blocks.
func (d *dir) addLeaves(root ondisk.DxRoot, cpos uint32, leaves [][]hashed) error {
	list := root.Extents()
	i := int(list.NextFree())
	if i == int(list.Count()) {
		return fmt.Errorf("%w: the index of directory %d needs more than %d clusters: use larger blocks or fewer slots",
			ErrInvalid, d.di.Blkno(), list.Count())
	}
	c, _, err := d.b.clusters.take(1, 1, "a directory index")
	if err != nil {
		return err
	}
	blkno := d.b.g.ClustersToBlocks(c)
	for k, names := range leaves {
		leaf := ondisk.DxLeaf(d.b.newBlock(blkno+uint64(k), ondisk.CheckOffDxLeaf))
		leaf.Init(blkno+uint64(k), d.b.g.FSGeneration)
		fillList(leaf.Entries(), names)
	}
	list.Rec(i).SetLeaf(cpos, 1, blkno, 0)
	list.SetNextFree(uint16(i + 1))
	root.SetClusters(root.Clusters() + 1)
	return nil
}

// linkFree makes the list of data blocks that have space for an entry.
func (d *dir) linkFree(root ondisk.DxRoot) {
	var head uint64
	for i := len(d.blocks) - 1; i >= 0; i-- {
		block := ondisk.DirBlock(d.blocks[i])
		free, err := ondisk.LargestHole(block.Area(true))
		if err != nil {
			panic(fmt.Sprintf("mkfs: directory block %d: %v", d.blkno(i), err)) // invariant: put tiles every block
		}
		t := block.Trailer()
		t.SetFreeRecLen(uint16(free))
		t.SetFreeNext(0)
		if free != 0 {
			t.SetFreeNext(head)
			head = d.blkno(i)
		}
	}
	root.SetFreeBlk(head)
}
