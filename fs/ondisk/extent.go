package ondisk

// ExtentList is an extent list: a 16-byte header and its records; the view
// spans the header and the whole capacity. OCFS2 format: struct
// ocfs2_extent_list.
type ExtentList []byte

// Depth is l_tree_depth: 0 in a leaf, whose records point to data.
func (l ExtentList) Depth() uint16     { return get16(l, 0) }
func (l ExtentList) SetDepth(v uint16) { put16(l, 0, v) }

// Count is l_count, the capacity in records.
func (l ExtentList) Count() uint16     { return get16(l, 2) }
func (l ExtentList) SetCount(v uint16) { put16(l, 2, v) }

// NextFree is l_next_free_rec, the number of used records.
func (l ExtentList) NextFree() uint16     { return get16(l, 4) }
func (l ExtentList) SetNextFree(v uint16) { put16(l, 4, v) }

// Rec is record i; it panics when i is beyond the view's space.
func (l ExtentList) Rec(i int) ExtentRec {
	off := extHeaderSize + i*recSize
	return ExtentRec(l[off : off+recSize : off+recSize])
}

// Space is the number of records the view has room for.
func (l ExtentList) Space() int { return max(0, len(l)-extHeaderSize) / recSize }

// Recs is the raw bytes of records [from, to), for moving several at once.
func (l ExtentList) Recs(from, to int) []byte {
	return l[extHeaderSize+from*recSize : extHeaderSize+to*recSize]
}

// ExtentRec is one 16-byte extent record.
type ExtentRec []byte

// Cpos is e_cpos, the first logical cluster (or hash value) covered.
func (r ExtentRec) Cpos() uint32     { return get32(r, 0) }
func (r ExtentRec) SetCpos(v uint32) { put32(r, 0, v) }

// Clusters is e_leaf_clusters, the length of a leaf record.
func (r ExtentRec) Clusters() uint16     { return get16(r, 4) }
func (r ExtentRec) SetClusters(v uint16) { put16(r, 4, v) }

// IntClusters is e_int_clusters, the length of an interior record.
func (r ExtentRec) IntClusters() uint32     { return get32(r, 4) }
func (r ExtentRec) SetIntClusters(v uint32) { put32(r, 4, v) }

// Flags is e_flags of a leaf record (Extent* bits).
func (r ExtentRec) Flags() uint8     { return r[7] }
func (r ExtentRec) SetFlags(v uint8) { r[7] = v }

// Blkno is the first data block (leaf) or the child extent block (interior).
func (r ExtentRec) Blkno() uint64     { return get64(r, 8) }
func (r ExtentRec) SetBlkno(v uint64) { put64(r, 8, v) }

// Len is the length in clusters of a record in a node of the given depth.
func (r ExtentRec) Len(depth uint16) uint32 {
	if depth > 0 {
		return r.IntClusters()
	}
	return uint32(r.Clusters())
}

// SetLeaf writes a whole leaf record, reserved byte included.
func (r ExtentRec) SetLeaf(cpos uint32, clusters uint16, blkno uint64, flags uint8) {
	put32(r, 0, cpos)
	put32(r, 4, uint32(clusters)|uint32(flags)<<24)
	put64(r, 8, blkno)
}

// SetInterior writes a whole interior record.
func (r ExtentRec) SetInterior(cpos, clusters uint32, child uint64) {
	put32(r, 0, cpos)
	put32(r, 4, clusters)
	put64(r, 8, child)
}

// Clear zeroes the record.
func (r ExtentRec) Clear() { clear(r[:recSize]) }

// ExtentBlock is a node of an extent tree below the root: exactly one block.
// OCFS2 format: struct ocfs2_extent_block.
type ExtentBlock []byte

func (e ExtentBlock) SuballocSlot() uint16     { return get16(e, 0x10) }
func (e ExtentBlock) SetSuballocSlot(v uint16) { put16(e, 0x10, v) }
func (e ExtentBlock) SuballocBit() uint16      { return get16(e, 0x12) }
func (e ExtentBlock) SetSuballocBit(v uint16)  { put16(e, 0x12, v) }
func (e ExtentBlock) FSGeneration() uint32     { return get32(e, 0x14) }
func (e ExtentBlock) SetFSGeneration(v uint32) { put32(e, 0x14, v) }
func (e ExtentBlock) Blkno() uint64            { return get64(e, 0x18) }
func (e ExtentBlock) SetBlkno(v uint64)        { put64(e, 0x18, v) }

// SuballocLoc is the discontiguous group the block came from, else 0.
func (e ExtentBlock) SuballocLoc() uint64     { return get64(e, 0x20) }
func (e ExtentBlock) SetSuballocLoc(v uint64) { put64(e, 0x20, v) }

// NextLeafBlk links the leaves of a tree left to right; 0 in the last one.
func (e ExtentBlock) NextLeafBlk() uint64     { return get64(e, 0x28) }
func (e ExtentBlock) SetNextLeafBlk(v uint64) { put64(e, 0x28, v) }

// List is the node's extent list.
func (e ExtentBlock) List() ExtentList { return ExtentList(window(e, extentBlkList, len(e))) }

// Init zeroes the block and writes signature, own block number, volume
// generation and the list's capacity.
func (e ExtentBlock) Init(blkno uint64, fsGeneration uint32) {
	clear(e)
	SetSignature(e, SigExtent)
	e.SetBlkno(blkno)
	e.SetFSGeneration(fsGeneration)
	e.List().SetCount(uint16(e.List().Space()))
}
