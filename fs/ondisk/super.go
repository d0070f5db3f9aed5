package ondisk

import "bytes"

// SuperBlock is the id2 of the dinode at block 2. OCFS2 format: struct
// ocfs2_super_block.
type SuperBlock []byte

func (s SuperBlock) MajorRev() uint16     { return get16(s, 0x00) }
func (s SuperBlock) SetMajorRev(v uint16) { put16(s, 0x00, v) }
func (s SuperBlock) MinorRev() uint16     { return get16(s, 0x02) }
func (s SuperBlock) SetMinorRev(v uint16) { put16(s, 0x02, v) }
func (s SuperBlock) MntCount() uint16     { return get16(s, 0x04) }
func (s SuperBlock) SetMntCount(v uint16) { put16(s, 0x04, v) }
func (s SuperBlock) MaxMntCount() uint16  { return get16(s, 0x06) }

func (s SuperBlock) SetMaxMntCount(v uint16) { put16(s, 0x06, v) }

// State holds [SuperStateError].
func (s SuperBlock) State() uint16             { return get16(s, 0x08) }
func (s SuperBlock) SetState(v uint16)         { put16(s, 0x08, v) }
func (s SuperBlock) Errors() uint16            { return get16(s, 0x0A) }
func (s SuperBlock) SetErrors(v uint16)        { put16(s, 0x0A, v) }
func (s SuperBlock) CheckInterval() uint32     { return get32(s, 0x0C) }
func (s SuperBlock) SetCheckInterval(v uint32) { put32(s, 0x0C, v) }

// LastCheck is in seconds since the epoch.
func (s SuperBlock) LastCheck() uint64     { return get64(s, 0x10) }
func (s SuperBlock) SetLastCheck(v uint64) { put64(s, 0x10, v) }
func (s SuperBlock) CreatorOS() uint32     { return get32(s, 0x18) }
func (s SuperBlock) SetCreatorOS(v uint32) { put32(s, 0x18, v) }

// Features is the three feature words.
func (s SuperBlock) Features() Features {
	return Features{Compat: get32(s, 0x1C), Incompat: get32(s, 0x20), ROCompat: get32(s, 0x24)}
}

// SetFeatures writes the three feature words.
func (s SuperBlock) SetFeatures(f Features) {
	put32(s, 0x1C, f.Compat)
	put32(s, 0x20, f.Incompat)
	put32(s, 0x24, f.ROCompat)
}

func (s SuperBlock) RootBlkno() uint64           { return get64(s, 0x28) }
func (s SuperBlock) SetRootBlkno(v uint64)       { put64(s, 0x28, v) }
func (s SuperBlock) SystemDirBlkno() uint64      { return get64(s, 0x30) }
func (s SuperBlock) SetSystemDirBlkno(v uint64)  { put64(s, 0x30, v) }
func (s SuperBlock) BlocksizeBits() uint32       { return get32(s, 0x38) }
func (s SuperBlock) SetBlocksizeBits(v uint32)   { put32(s, 0x38, v) }
func (s SuperBlock) ClustersizeBits() uint32     { return get32(s, 0x3C) }
func (s SuperBlock) SetClustersizeBits(v uint32) { put32(s, 0x3C, v) }
func (s SuperBlock) MaxSlots() uint16            { return get16(s, 0x40) }
func (s SuperBlock) SetMaxSlots(v uint16)        { put16(s, 0x40, v) }

// TunefsFlag says which tunefs.ocfs2 operation was interrupted.
func (s SuperBlock) TunefsFlag() uint16     { return get16(s, 0x42) }
func (s SuperBlock) SetTunefsFlag(v uint16) { put16(s, 0x42, v) }

// UUIDHash seeds the name hashes; see [UUIDHash].
func (s SuperBlock) UUIDHash() uint32              { return get32(s, 0x44) }
func (s SuperBlock) SetUUIDHash(v uint32)          { put32(s, 0x44, v) }
func (s SuperBlock) FirstClusterGroup() uint64     { return get64(s, 0x48) }
func (s SuperBlock) SetFirstClusterGroup(v uint64) { put64(s, 0x48, v) }

// Label is the volume label without its NUL padding.
func (s SuperBlock) Label() string { return cString(s[0x50:0x90]) }

// SetLabel writes the label, cut to 64 bytes.
func (s SuperBlock) SetLabel(v string) { putPadded(s[0x50:0x90], v) }

// UUID is the 16-byte binary uuid.
func (s SuperBlock) UUID() (u [16]byte) {
	copy(u[:], s[0x90:0xA0])
	return u
}

func (s SuperBlock) SetUUID(u [16]byte) { copy(s[0x90:0xA0], u[:]) }

// ClusterStack is ci_stack: 4 characters, or "" when all zero.
func (s SuperBlock) ClusterStack() string     { return cString(s[0xA0:0xA4]) }
func (s SuperBlock) SetClusterStack(v string) { putPadded(s[0xA0:0xA4], v) }

// StackFlags is ci_stackflags ([StackGlobalHeartbeat]).
func (s SuperBlock) StackFlags() uint8     { return s[0xA4] }
func (s SuperBlock) SetStackFlags(v uint8) { s[0xA4] = v }

// ClusterName is ci_cluster, at most 16 bytes.
func (s SuperBlock) ClusterName() string     { return cString(s[0xA8:0xB8]) }
func (s SuperBlock) SetClusterName(v string) { putPadded(s[0xA8:0xB8], v) }

// XattrInlineSize is the bytes a new inline xattr area takes; 0 without xattr.
func (s SuperBlock) XattrInlineSize() uint16     { return get16(s, 0xB8) }
func (s SuperBlock) SetXattrInlineSize(v uint16) { put16(s, 0xB8, v) }

// DxSeed is s_dx_seed[0..2].
func (s SuperBlock) DxSeed() [3]uint32 {
	return [3]uint32{get32(s, 0xBC), get32(s, 0xC0), get32(s, 0xC4)}
}

// SetDxSeed writes s_dx_seed[0..2].
func (s SuperBlock) SetDxSeed(v [3]uint32) {
	put32(s, 0xBC, v[0])
	put32(s, 0xC0, v[1])
	put32(s, 0xC4, v[2])
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func putPadded(b []byte, v string) { clear(b[copy(b, v):]) }
