package ondisk

// ChainList is the id2 of an allocator inode: the chains of block groups.
// OCFS2 format: struct ocfs2_chain_list.
type ChainList []byte

// CPG is cl_cpg, clusters per group.
func (c ChainList) CPG() uint16     { return get16(c, 0) }
func (c ChainList) SetCPG(v uint16) { put16(c, 0, v) }

// BPC is cl_bpc, bits per cluster: 1 in the cluster bitmap, blocks per cluster
// in suballocators.
func (c ChainList) BPC() uint16     { return get16(c, 2) }
func (c ChainList) SetBPC(v uint16) { put16(c, 2, v) }

// Count is cl_count, the capacity in chains.
func (c ChainList) Count() uint16     { return get16(c, 4) }
func (c ChainList) SetCount(v uint16) { put16(c, 4, v) }

// NextFree is cl_next_free_rec, the number of chains in use.
func (c ChainList) NextFree() uint16     { return get16(c, 6) }
func (c ChainList) SetNextFree(v uint16) { put16(c, 6, v) }

// Rec is chain i.
func (c ChainList) Rec(i int) ChainRec {
	off := extHeaderSize + i*recSize
	return ChainRec(c[off : off+recSize : off+recSize])
}

// ChainRec is one 16-byte chain record.
type ChainRec []byte

// Free counts the clear bits of all groups of the chain.
func (r ChainRec) Free() uint32     { return get32(r, 0) }
func (r ChainRec) SetFree(v uint32) { put32(r, 0, v) }

// Total counts the bits of all groups of the chain.
func (r ChainRec) Total() uint32     { return get32(r, 4) }
func (r ChainRec) SetTotal(v uint32) { put32(r, 4, v) }

// Blkno is the first group descriptor of the chain.
func (r ChainRec) Blkno() uint64     { return get64(r, 8) }
func (r ChainRec) SetBlkno(v uint64) { put64(r, 8, v) }

// GroupDesc is a block group descriptor: exactly one block. OCFS2 format:
// struct ocfs2_group_desc.
type GroupDesc []byte

// Size is bg_size, the bitmap's bytes: 256 in suballocator groups of volumes
// with discontig-bg, else the block size less 0x40.
func (g GroupDesc) Size() uint16     { return get16(g, 0x08) }
func (g GroupDesc) SetSize(v uint16) { put16(g, 0x08, v) }

// Bits is bg_bits, the number of valid bits.
func (g GroupDesc) Bits() uint16     { return get16(g, 0x0A) }
func (g GroupDesc) SetBits(v uint16) { put16(g, 0x0A, v) }

// FreeBitsCount is the number of clear bits among the first Bits.
func (g GroupDesc) FreeBitsCount() uint16     { return get16(g, 0x0C) }
func (g GroupDesc) SetFreeBitsCount(v uint16) { put16(g, 0x0C, v) }

// Chain is the index of the chain the group hangs on.
func (g GroupDesc) Chain() uint16     { return get16(g, 0x0E) }
func (g GroupDesc) SetChain(v uint16) { put16(g, 0x0E, v) }

// Generation must equal the volume's [Geometry.FSGeneration].
func (g GroupDesc) Generation() uint32     { return get32(g, 0x10) }
func (g GroupDesc) SetGeneration(v uint32) { put32(g, 0x10, v) }

// ContigFreeBits is newer kernels' cache of the longest free run; 0 means
// unknown and must be written after every change of the bitmap.
func (g GroupDesc) ContigFreeBits() uint16     { return get16(g, 0x14) }
func (g GroupDesc) SetContigFreeBits(v uint16) { put16(g, 0x14, v) }

// NextGroup is the next descriptor of the chain or 0.
func (g GroupDesc) NextGroup() uint64     { return get64(g, 0x18) }
func (g GroupDesc) SetNextGroup(v uint64) { put64(g, 0x18, v) }

// ParentDinode is the allocator inode.
func (g GroupDesc) ParentDinode() uint64     { return get64(g, 0x20) }
func (g GroupDesc) SetParentDinode(v uint64) { put64(g, 0x20, v) }

// Blkno is the descriptor's own block.
func (g GroupDesc) Blkno() uint64     { return get64(g, 0x28) }
func (g GroupDesc) SetBlkno(v uint64) { put64(g, 0x28, v) }

// Bitmap is the bitmap of Size bytes (cut at the block's end). Bit n is byte
// n/8, mask 1<<(n%8).
func (g GroupDesc) Bitmap() []byte { return window(g, groupBitmap, groupBitmap+int(g.Size())) }

// List is bg_list, the runs of a discontiguous group; meaningful only when
// [GroupDesc.IsDiscontig].
func (g GroupDesc) List() ExtentList { return ExtentList(window(g, groupListOff, len(g))) }

// HasList reports whether the descriptor has a bg_list behind its bitmap
// (suballocator groups of volumes with discontig-bg, empty or not).
func (g GroupDesc) HasList() bool { return g.Size() == discontigSize }

// IsDiscontig reports whether the group consists of several runs: it has a
// list and the list is not empty (Linux fs/ocfs2/ocfs2_fs.h,
// ocfs2_gd_is_discontig).
func (g GroupDesc) IsDiscontig() bool { return g.HasList() && g.List().NextFree() != 0 }

// BlockOfBit is the block that bit of a suballocator group stands for; bpc is
// cl_bpc of the allocator. False when no run of a discontiguous group covers
// the bit.
func (g GroupDesc) BlockOfBit(bit, bpc int) (uint64, bool) {
	if !g.IsDiscontig() {
		return g.Blkno() + uint64(bit), true
	}
	l := g.List()
	for i := range min(int(l.NextFree()), l.Space()) {
		r := l.Rec(i)
		first := int(r.Cpos()) * bpc
		if bit >= first && bit < first+int(r.Clusters())*bpc {
			return r.Blkno() + uint64(bit-first), true
		}
	}
	return 0, false
}

// BitOfBlock is the inverse of [GroupDesc.BlockOfBit].
func (g GroupDesc) BitOfBlock(blkno uint64, bpc int) (int, bool) {
	if !g.IsDiscontig() {
		if blkno < g.Blkno() || blkno-g.Blkno() >= uint64(g.Bits()) {
			return 0, false
		}
		return int(blkno - g.Blkno()), true
	}
	l := g.List()
	for i := range min(int(l.NextFree()), l.Space()) {
		r := l.Rec(i)
		if blkno >= r.Blkno() && blkno-r.Blkno() < uint64(r.Clusters())*uint64(bpc) {
			return int(r.Cpos())*bpc + int(blkno-r.Blkno()), true
		}
	}
	return 0, false
}

// Init zeroes the block and writes signature, own block number, volume
// generation, parent and the bitmap's size in bytes.
func (g GroupDesc) Init(blkno uint64, fsGeneration uint32, parent uint64, size uint16) {
	clear(g)
	SetSignature(g, SigGroup)
	g.SetBlkno(blkno)
	g.SetGeneration(fsGeneration)
	g.SetParentDinode(parent)
	g.SetSize(size)
}
