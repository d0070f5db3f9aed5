package ondisk

// RefcountBlock is a root or leaf of a refcount tree: exactly one block. OCFS2
// format: struct ocfs2_refcount_block.
type RefcountBlock []byte

func (r RefcountBlock) SuballocSlot() uint16     { return get16(r, 0x08) }
func (r RefcountBlock) SetSuballocSlot(v uint16) { put16(r, 0x08, v) }
func (r RefcountBlock) SuballocBit() uint16      { return get16(r, 0x0A) }
func (r RefcountBlock) SetSuballocBit(v uint16)  { put16(r, 0x0A, v) }
func (r RefcountBlock) FSGeneration() uint32     { return get32(r, 0x0C) }
func (r RefcountBlock) SetFSGeneration(v uint32) { put32(r, 0x0C, v) }
func (r RefcountBlock) Blkno() uint64            { return get64(r, 0x10) }
func (r RefcountBlock) SetBlkno(v uint64)        { put64(r, 0x10, v) }

// Parent is the tree's root, in leaves.
func (r RefcountBlock) Parent() uint64        { return get64(r, 0x18) }
func (r RefcountBlock) SetParent(v uint64)    { put64(r, 0x18, v) }
func (r RefcountBlock) LastEbBlk() uint64     { return get64(r, 0x28) }
func (r RefcountBlock) SetLastEbBlk(v uint64) { put64(r, 0x28, v) }

// Count is the number of inodes that share the tree; root only.
func (r RefcountBlock) Count() uint32     { return get32(r, 0x30) }
func (r RefcountBlock) SetCount(v uint32) { put32(r, 0x30, v) }

// Flags is 0 (root with records), [RefcountLeaf] or [RefcountTree].
func (r RefcountBlock) Flags() uint32     { return get32(r, 0x34) }
func (r RefcountBlock) SetFlags(v uint32) { put32(r, 0x34, v) }

// Clusters is the number of leaf blocks of a tree root.
func (r RefcountBlock) Clusters() uint32     { return get32(r, 0x38) }
func (r RefcountBlock) SetClusters(v uint32) { put32(r, 0x38, v) }

// Cpos is the low half of the leaf's first r_cpos.
func (r RefcountBlock) Cpos() uint32     { return get32(r, 0x3C) }
func (r RefcountBlock) SetCpos(v uint32) { put32(r, 0x3C, v) }

// Generation is the same in the whole tree and part of its lock name.
func (r RefcountBlock) Generation() uint32     { return get32(r, 0x40) }
func (r RefcountBlock) SetGeneration(v uint32) { put32(r, 0x40, v) }

// SuballocLoc is the discontiguous group the block came from, else 0.
func (r RefcountBlock) SuballocLoc() uint64     { return get64(r, 0x48) }
func (r RefcountBlock) SetSuballocLoc(v uint64) { put64(r, 0x48, v) }

// IsTree reports whether the body is an extent list of leaves.
func (r RefcountBlock) IsTree() bool { return r.Flags()&RefcountTree != 0 }

// Records is the record list (not a tree root).
func (r RefcountBlock) Records() RefcountList {
	return RefcountList(window(r, refcountBody, len(r)))
}

// Extents is the tree of leaves; its records point to single blocks.
func (r RefcountBlock) Extents() ExtentList { return ExtentList(window(r, refcountBody, len(r))) }

// Init zeroes the block and writes signature, own block and volume generation.
func (r RefcountBlock) Init(blkno uint64, fsGeneration uint32) {
	clear(r)
	SetSignature(r, SigRefcount)
	r.SetBlkno(blkno)
	r.SetFSGeneration(fsGeneration)
}

// RefcountList is a 16-byte header and records. OCFS2 format: struct
// ocfs2_refcount_list.
type RefcountList []byte

// Count is rl_count, the capacity.
func (l RefcountList) Count() uint16     { return get16(l, 0) }
func (l RefcountList) SetCount(v uint16) { put16(l, 0, v) }

// Used is rl_used.
func (l RefcountList) Used() uint16     { return get16(l, 2) }
func (l RefcountList) SetUsed(v uint16) { put16(l, 2, v) }

// Rec is record i.
func (l RefcountList) Rec(i int) RefcountRec {
	off := rlHeaderSize + i*recSize
	return RefcountRec(l[off : off+recSize : off+recSize])
}

// Recs is the raw bytes of records [from, to), for moving several at once.
func (l RefcountList) Recs(from, to int) []byte {
	return l[rlHeaderSize+from*recSize : rlHeaderSize+to*recSize]
}

// Space is the number of records the view has room for.
func (l RefcountList) Space() int { return max(0, len(l)-rlHeaderSize) / recSize }

// RefcountRec is one 16-byte record: a run of clusters with equal count.
type RefcountRec []byte

// Cpos is the first physical cluster.
func (r RefcountRec) Cpos() uint64         { return get64(r, 0) }
func (r RefcountRec) SetCpos(v uint64)     { put64(r, 0, v) }
func (r RefcountRec) Clusters() uint32     { return get32(r, 8) }
func (r RefcountRec) SetClusters(v uint32) { put32(r, 8, v) }
func (r RefcountRec) Refcount() uint32     { return get32(r, 12) }
func (r RefcountRec) SetRefcount(v uint32) { put32(r, 12, v) }

// Set writes the whole record.
func (r RefcountRec) Set(cpos uint64, clusters, refcount uint32) {
	put64(r, 0, cpos)
	put32(r, 8, clusters)
	put32(r, 12, refcount)
}

// Clear zeroes the record.
func (r RefcountRec) Clear() { clear(r[:recSize]) }
