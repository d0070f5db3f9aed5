package ondisk

const (
	xattrHeaderSize = 16
	xattrEntrySize  = 16
	xattrRootSize   = 48
	xattrLocalBit   = 0x80
	xattrCheckOff   = 8
)

// Name indexes of xattr entries: the prefix that is not stored. ACLs have an
// empty stored name.
const (
	XattrIndexUser       = 1 // "user."
	XattrIndexACLAccess  = 2
	XattrIndexACLDefault = 3
	XattrIndexTrusted    = 4 // "trusted."
	XattrIndexSecurity   = 5 // "security."
)

// XattrHeader is a region of xattr entries and, growing from its end, their
// names and values: the inline area of a dinode, the body of an xattr block,
// or a whole bucket. OCFS2 format: struct ocfs2_xattr_header.
type XattrHeader []byte

// Count is xh_count, the number of entries.
func (h XattrHeader) Count() uint16     { return get16(h, 0) }
func (h XattrHeader) SetCount(v uint16) { put16(h, 0, v) }

// FreeStart is the lowest name offset; used in buckets only.
func (h XattrHeader) FreeStart() uint16     { return get16(h, 2) }
func (h XattrHeader) SetFreeStart(v uint16) { put16(h, 2, v) }

// NameValueLen is the sum of the name+value regions; used in buckets only.
func (h XattrHeader) NameValueLen() uint16     { return get16(h, 4) }
func (h XattrHeader) SetNameValueLen(v uint16) { put16(h, 4, v) }

// NumBuckets counts the buckets of an extent record; used in its first bucket.
func (h XattrHeader) NumBuckets() uint16     { return get16(h, 6) }
func (h XattrHeader) SetNumBuckets(v uint16) { put16(h, 6, v) }

// Entry is entry i.
func (h XattrHeader) Entry(i int) XattrEntry {
	off := xattrHeaderSize + i*xattrEntrySize
	return XattrEntry(h[off : off+xattrEntrySize : off+xattrEntrySize])
}

// Name is the stored name (without prefix) of entry e of this region.
func (h XattrHeader) Name(e XattrEntry) []byte {
	off := int(e.NameOffset())
	return window(h, off, off+int(e.NameLen()))
}

// Value is what follows the padded name of entry e: the value itself, padded to
// 4, when e is local, else the 48-byte [XattrValueRoot].
func (h XattrHeader) Value(e XattrEntry) []byte {
	off := int(e.NameOffset()) + Pad4(int(e.NameLen()))
	if !e.IsLocal() {
		return window(h, off, off+xattrRootSize)
	}
	return window(h, off, off+int(min(e.ValueSize(), XattrLocalMax)))
}

// ValueRoot is the value's tree root when e is not local.
func (h XattrHeader) ValueRoot(e XattrEntry) XattrValueRoot { return XattrValueRoot(h.Value(e)) }

// Pad4 rounds n up to a multiple of 4, the padding of xattr names and values.
func Pad4(n int) int { return (n + 3) &^ 3 }

// XattrRegionSize is the space that name and value of an entry take at the
// region's end.
func XattrRegionSize(nameLen int, valueSize uint64) int {
	if valueSize > XattrLocalMax {
		return Pad4(nameLen) + xattrRootSize
	}
	return Pad4(nameLen) + Pad4(int(valueSize))
}

// XattrEntry is one 16-byte xattr entry.
type XattrEntry []byte

// NameHash is [Geometry.XattrHash] of the stored name.
func (e XattrEntry) NameHash() uint32     { return get32(e, 0) }
func (e XattrEntry) SetNameHash(v uint32) { put32(e, 0, v) }

// NameOffset is the offset of name and value from the region's start.
func (e XattrEntry) NameOffset() uint16     { return get16(e, 4) }
func (e XattrEntry) SetNameOffset(v uint16) { put16(e, 4, v) }

// NameLen is the length of the stored name.
func (e XattrEntry) NameLen() uint8     { return e[6] }
func (e XattrEntry) SetNameLen(v uint8) { e[6] = v }

// Index is the name index (XattrIndex*).
func (e XattrEntry) Index() uint8 { return e[7] &^ xattrLocalBit }

// IsLocal reports whether the value follows the name.
func (e XattrEntry) IsLocal() bool { return e[7]&xattrLocalBit != 0 }

// SetType writes name index and local bit.
func (e XattrEntry) SetType(index uint8, local bool) {
	e[7] = index &^ xattrLocalBit
	if local {
		e[7] |= xattrLocalBit
	}
}

// ValueSize is the value's length in bytes.
func (e XattrEntry) ValueSize() uint64     { return get64(e, 8) }
func (e XattrEntry) SetValueSize(v uint64) { put64(e, 8, v) }

// XattrValueRoot is the 48-byte root of a value's extent tree: one record.
// OCFS2 format: struct ocfs2_xattr_value_root.
type XattrValueRoot []byte

func (r XattrValueRoot) Clusters() uint32      { return get32(r, 0) }
func (r XattrValueRoot) SetClusters(v uint32)  { put32(r, 0, v) }
func (r XattrValueRoot) LastEbBlk() uint64     { return get64(r, 8) }
func (r XattrValueRoot) SetLastEbBlk(v uint64) { put64(r, 8, v) }

// List is the root extent list with its single record.
func (r XattrValueRoot) List() ExtentList { return ExtentList(window(r, 16, xattrRootSize)) }

// XattrBlock is an external xattr block: exactly one block. OCFS2 format:
// struct ocfs2_xattr_block.
type XattrBlock []byte

func (x XattrBlock) SuballocSlot() uint16     { return get16(x, 0x08) }
func (x XattrBlock) SetSuballocSlot(v uint16) { put16(x, 0x08, v) }
func (x XattrBlock) SuballocBit() uint16      { return get16(x, 0x0A) }
func (x XattrBlock) SetSuballocBit(v uint16)  { put16(x, 0x0A, v) }
func (x XattrBlock) FSGeneration() uint32     { return get32(x, 0x0C) }
func (x XattrBlock) SetFSGeneration(v uint32) { put32(x, 0x0C, v) }
func (x XattrBlock) Blkno() uint64            { return get64(x, 0x10) }
func (x XattrBlock) SetBlkno(v uint64)        { put64(x, 0x10, v) }

// Flags holds [XattrIndexed].
func (x XattrBlock) Flags() uint16     { return get16(x, 0x20) }
func (x XattrBlock) SetFlags(v uint16) { put16(x, 0x20, v) }

// IsIndexed reports whether the block is the root of a bucket tree.
func (x XattrBlock) IsIndexed() bool { return x.Flags()&XattrIndexed != 0 }

// SuballocLoc is the discontiguous group the block came from, else 0.
func (x XattrBlock) SuballocLoc() uint64     { return get64(x, 0x28) }
func (x XattrBlock) SetSuballocLoc(v uint64) { put64(x, 0x28, v) }

// Header is the entry region of a block that is not indexed.
func (x XattrBlock) Header() XattrHeader { return XattrHeader(window(x, xattrBlkHeader, len(x))) }

// Root is the bucket tree root of an indexed block.
func (x XattrBlock) Root() XattrTreeRoot { return XattrTreeRoot(window(x, xattrBlkHeader, len(x))) }

// Init zeroes the block and writes signature, own block and volume generation.
func (x XattrBlock) Init(blkno uint64, fsGeneration uint32) {
	clear(x)
	SetSignature(x, SigXattr)
	x.SetBlkno(blkno)
	x.SetFSGeneration(fsGeneration)
}

// XattrTreeRoot is the body of an indexed xattr block. OCFS2 format: struct
// ocfs2_xattr_tree_root.
type XattrTreeRoot []byte

func (r XattrTreeRoot) Clusters() uint32      { return get32(r, 0) }
func (r XattrTreeRoot) SetClusters(v uint32)  { put32(r, 0, v) }
func (r XattrTreeRoot) LastEbBlk() uint64     { return get64(r, 8) }
func (r XattrTreeRoot) SetLastEbBlk(v uint64) { put64(r, 8, v) }

// List is the root extent list, keyed by name hash.
func (r XattrTreeRoot) List() ExtentList {
	return ExtentList(window(r, xattrTreeList-xattrBlkHeader, len(r)))
}
