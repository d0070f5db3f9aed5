package ondisk

// DxRoot is the root block of a directory index: exactly one block. OCFS2
// format: struct ocfs2_dx_root_block.
type DxRoot []byte

func (r DxRoot) SuballocSlot() uint16     { return get16(r, 0x10) }
func (r DxRoot) SetSuballocSlot(v uint16) { put16(r, 0x10, v) }
func (r DxRoot) SuballocBit() uint16      { return get16(r, 0x12) }
func (r DxRoot) SetSuballocBit(v uint16)  { put16(r, 0x12, v) }
func (r DxRoot) FSGeneration() uint32     { return get32(r, 0x14) }
func (r DxRoot) SetFSGeneration(v uint32) { put32(r, 0x14, v) }
func (r DxRoot) Blkno() uint64            { return get64(r, 0x18) }
func (r DxRoot) SetBlkno(v uint64)        { put64(r, 0x18, v) }
func (r DxRoot) LastEbBlk() uint64        { return get64(r, 0x20) }
func (r DxRoot) SetLastEbBlk(v uint64)    { put64(r, 0x20, v) }

// Clusters counts the clusters of index leaves.
func (r DxRoot) Clusters() uint32     { return get32(r, 0x28) }
func (r DxRoot) SetClusters(v uint32) { put32(r, 0x28, v) }

// Flags holds [DxInline].
func (r DxRoot) Flags() uint8     { return r[0x2C] }
func (r DxRoot) SetFlags(v uint8) { r[0x2C] = v }

// IsInline reports whether the root holds the entries itself.
func (r DxRoot) IsInline() bool { return r.Flags()&DxInline != 0 }

// DirBlkno is the directory inode.
func (r DxRoot) DirBlkno() uint64     { return get64(r, 0x30) }
func (r DxRoot) SetDirBlkno(v uint64) { put64(r, 0x30, v) }

// NumEntries counts the names, "." and ".." included.
func (r DxRoot) NumEntries() uint32     { return get32(r, 0x38) }
func (r DxRoot) SetNumEntries(v uint32) { put32(r, 0x38, v) }

// FreeBlk heads the list of directory blocks with space.
func (r DxRoot) FreeBlk() uint64     { return get64(r, 0x40) }
func (r DxRoot) SetFreeBlk(v uint64) { put64(r, 0x40, v) }

// SuballocLoc is the discontiguous group the block came from, else 0.
func (r DxRoot) SuballocLoc() uint64     { return get64(r, 0x48) }
func (r DxRoot) SetSuballocLoc(v uint64) { put64(r, 0x48, v) }

// Extents is the tree of index leaves (root not inline).
func (r DxRoot) Extents() ExtentList { return ExtentList(window(r, dxRootBody, len(r))) }

// Entries is the entry list of an inline root.
func (r DxRoot) Entries() DxEntryList { return DxEntryList(window(r, dxRootBody, len(r))) }

// Init zeroes the block and writes signature, own block, volume generation and
// directory inode. The body is left zero: the caller sets it up as inline list
// or extent list.
func (r DxRoot) Init(blkno uint64, fsGeneration uint32, dir uint64) {
	clear(r)
	SetSignature(r, SigDxRoot)
	r.SetBlkno(blkno)
	r.SetFSGeneration(fsGeneration)
	r.SetDirBlkno(dir)
}

// DxLeaf is a leaf block of a directory index: exactly one block. OCFS2
// format: struct ocfs2_dx_leaf.
type DxLeaf []byte

func (l DxLeaf) Blkno() uint64            { return get64(l, 0x10) }
func (l DxLeaf) SetBlkno(v uint64)        { put64(l, 0x10, v) }
func (l DxLeaf) FSGeneration() uint32     { return get32(l, 0x18) }
func (l DxLeaf) SetFSGeneration(v uint32) { put32(l, 0x18, v) }

// Entries is the leaf's entry list.
func (l DxLeaf) Entries() DxEntryList { return DxEntryList(window(l, dxLeafBody, len(l))) }

// Init zeroes the block and writes signature, own block, volume generation and
// the list's capacity.
func (l DxLeaf) Init(blkno uint64, fsGeneration uint32) {
	clear(l)
	SetSignature(l, SigDxLeaf)
	l.SetBlkno(blkno)
	l.SetFSGeneration(fsGeneration)
	l.Entries().SetCount(uint16(l.Entries().Space()))
}

// DxEntryList is a list of index entries: an 8-byte header and its capacity.
// The entries are in no particular order. OCFS2 format: struct
// ocfs2_dx_entry_list.
type DxEntryList []byte

// Count is de_count, the capacity.
func (l DxEntryList) Count() uint16     { return get16(l, 4) }
func (l DxEntryList) SetCount(v uint16) { put16(l, 4, v) }

// NumUsed is de_num_used.
func (l DxEntryList) NumUsed() uint16     { return get16(l, 6) }
func (l DxEntryList) SetNumUsed(v uint16) { put16(l, 6, v) }

// Rec is entry i.
func (l DxEntryList) Rec(i int) DxEntry {
	off := dxListHeader + i*recSize
	return DxEntry(l[off : off+recSize : off+recSize])
}

// Recs is the raw bytes of entries [from, to), for moving several at once.
func (l DxEntryList) Recs(from, to int) []byte {
	return l[dxListHeader+from*recSize : dxListHeader+to*recSize]
}

// Space is the number of entries the view has room for.
func (l DxEntryList) Space() int { return max(0, len(l)-dxListHeader) / recSize }

// DxEntry maps a name hash to the directory block that holds the name: 16
// bytes.
type DxEntry []byte

func (e DxEntry) MajorHash() uint32 { return get32(e, 0) }
func (e DxEntry) MinorHash() uint32 { return get32(e, 4) }

// DirentBlk is the physical block of the directory data block.
func (e DxEntry) DirentBlk() uint64     { return get64(e, 8) }
func (e DxEntry) SetDirentBlk(v uint64) { put64(e, 8, v) }

// Set writes the whole entry.
func (e DxEntry) Set(major, minor uint32, direntBlk uint64) {
	put32(e, 0, major)
	put32(e, 4, minor)
	put64(e, 8, direntBlk)
}

// Clear zeroes the entry.
func (e DxEntry) Clear() { clear(e[:recSize]) }
