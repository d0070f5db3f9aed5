package check

import (
	"cmp"
	"slices"
)

// inodeRec is what the later passes need of a valid inode. 40 bytes.
type inodeRec struct {
	blkno  uint64
	parent uint64 // directory that names it, of directories
	links  uint32 // as on disk
	names  uint32 // counted in pass 2
	subs   uint32 // subdirectories named in it, of directories
	attr   uint16 // inodeAttr bits
	ftype  uint8  // FT* of the mode
	slot   uint8  // i_orphaned_slot, of orphans
}

// inodeAttr bits.
const (
	attrSystem = 1 << iota
	attrOrphaned
	attrDioOrphaned
	attrInOrphanDir    // an orphan directory names it
	attrInDioOrphanDir // an orphan directory names it as "dio-..."
	attrConnected      // pass 3: reaches the root
	attrVisiting       // pass 3: on the path being followed
)

// inodeTable is the valid inodes, sorted by block once pass 1 is done.
type inodeTable []inodeRec

// sort orders the table and drops blocks seen twice (overlapping groups).
func (t *inodeTable) sort() {
	slices.SortFunc(*t, func(a, b inodeRec) int { return cmp.Compare(a.blkno, b.blkno) })
	*t = slices.CompactFunc(*t, func(a, b inodeRec) bool { return a.blkno == b.blkno })
}

// find is the record of inode blkno, nil if it is not valid. The pointer is
// good until the table grows.
func (t inodeTable) find(blkno uint64) *inodeRec {
	i, ok := slices.BinarySearchFunc(t, blkno, func(r inodeRec, b uint64) int { return cmp.Compare(r.blkno, b) })
	if !ok {
		return nil
	}
	return &t[i]
}
