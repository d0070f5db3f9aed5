package ondisk

import "encoding/binary"

// LVBSize is the length of a lock value block in bytes. All its integers are
// big-endian. Linux fs/ocfs2/dlmglue.c.
const LVBSize = 64

// Versions of the lock value block contents; a block with another version (0:
// never set, or inode deleted) is not to be trusted.
const (
	MetaLVBVersion       = 5
	QinfoLVBVersion      = 1
	OrphanScanLVBVersion = 1
	TrimFsLVBVersion     = 1
)

const (
	lvbNsecBits = 30
	lvbMaxSec   = 1<<(64-lvbNsecBits) - 1
)

// PackLVBTime packs a time for a META LVB: 34 bits of unsigned seconds, 30 of
// nanoseconds. Seconds outside 0..2^34-1 are clamped, as the kernel does.
func PackLVBTime(sec int64, nsec uint32) uint64 {
	sec = min(max(sec, 0), lvbMaxSec)
	return uint64(sec)<<lvbNsecBits | uint64(nsec)&(1<<lvbNsecBits-1)
}

// UnpackLVBTime is the inverse of [PackLVBTime].
func UnpackLVBTime(v uint64) (sec int64, nsec uint32) {
	return int64(v >> lvbNsecBits), uint32(v & (1<<lvbNsecBits - 1))
}

// MetaLVB is the value block of an inode's META lock: the attributes other
// nodes need without reading the disk. OCFS2 format: struct ocfs2_meta_lvb.
type MetaLVB [LVBSize]byte

// lvbField reads and writes big-endian fields of a value block.
func lvb16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func lvb32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func lvb64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

func putLVB16(b []byte, v uint16) { binary.BigEndian.PutUint16(b, v) }
func putLVB32(b []byte, v uint32) { binary.BigEndian.PutUint32(b, v) }
func putLVB64(b []byte, v uint64) { binary.BigEndian.PutUint64(b, v) }

func (l *MetaLVB) Version() uint8     { return l[0] }
func (l *MetaLVB) SetVersion(v uint8) { l[0] = v }

func (l *MetaLVB) DynFeatures() uint16     { return lvb16(l[0x02:]) }
func (l *MetaLVB) SetDynFeatures(v uint16) { putLVB16(l[0x02:], v) }
func (l *MetaLVB) Clusters() uint32        { return lvb32(l[0x04:]) }
func (l *MetaLVB) SetClusters(v uint32)    { putLVB32(l[0x04:], v) }
func (l *MetaLVB) UID() uint32             { return lvb32(l[0x08:]) }
func (l *MetaLVB) SetUID(v uint32)         { putLVB32(l[0x08:], v) }
func (l *MetaLVB) GID() uint32             { return lvb32(l[0x0C:]) }
func (l *MetaLVB) SetGID(v uint32)         { putLVB32(l[0x0C:], v) }

func (l *MetaLVB) Atime() (sec int64, nsec uint32) { return UnpackLVBTime(lvb64(l[0x10:])) }
func (l *MetaLVB) SetAtime(sec int64, nsec uint32) { putLVB64(l[0x10:], PackLVBTime(sec, nsec)) }
func (l *MetaLVB) Ctime() (sec int64, nsec uint32) { return UnpackLVBTime(lvb64(l[0x18:])) }
func (l *MetaLVB) SetCtime(sec int64, nsec uint32) { putLVB64(l[0x18:], PackLVBTime(sec, nsec)) }
func (l *MetaLVB) Mtime() (sec int64, nsec uint32) { return UnpackLVBTime(lvb64(l[0x20:])) }
func (l *MetaLVB) SetMtime(sec int64, nsec uint32) { putLVB64(l[0x20:], PackLVBTime(sec, nsec)) }

func (l *MetaLVB) Size() uint64     { return lvb64(l[0x28:]) }
func (l *MetaLVB) SetSize(v uint64) { putLVB64(l[0x28:], v) }
func (l *MetaLVB) Mode() uint16     { return lvb16(l[0x30:]) }
func (l *MetaLVB) SetMode(v uint16) { putLVB16(l[0x30:], v) }

// Links holds 16 bits only; a larger count must be read from disk.
func (l *MetaLVB) Links() uint16     { return lvb16(l[0x32:]) }
func (l *MetaLVB) SetLinks(v uint16) { putLVB16(l[0x32:], v) }
func (l *MetaLVB) Attr() uint32      { return lvb32(l[0x34:]) }
func (l *MetaLVB) SetAttr(v uint32)  { putLVB32(l[0x34:], v) }

// Generation is i_generation; the block is trusted only if it equals that of
// the inode in memory.
func (l *MetaLVB) Generation() uint32     { return lvb32(l[0x38:]) }
func (l *MetaLVB) SetGeneration(v uint32) { putLVB32(l[0x38:], v) }

// Trusted reports whether the attributes may be taken for the inode with this
// generation; the lock manager must have said that the block is valid, too.
func (l *MetaLVB) Trusted(generation uint32) bool {
	return l.Version() == MetaLVBVersion && l.Generation() == generation
}

// QinfoLVB is the value block of a QINFO lock: the global quota file's info.
// OCFS2 format: struct ocfs2_qinfo_lvb.
type QinfoLVB [LVBSize]byte

func (l *QinfoLVB) Version() uint8        { return l[0] }
func (l *QinfoLVB) SetVersion(v uint8)    { l[0] = v }
func (l *QinfoLVB) Bgrace() uint32        { return lvb32(l[0x04:]) }
func (l *QinfoLVB) SetBgrace(v uint32)    { putLVB32(l[0x04:], v) }
func (l *QinfoLVB) Igrace() uint32        { return lvb32(l[0x08:]) }
func (l *QinfoLVB) SetIgrace(v uint32)    { putLVB32(l[0x08:], v) }
func (l *QinfoLVB) SyncMs() uint32        { return lvb32(l[0x0C:]) }
func (l *QinfoLVB) SetSyncMs(v uint32)    { putLVB32(l[0x0C:], v) }
func (l *QinfoLVB) Blocks() uint32        { return lvb32(l[0x10:]) }
func (l *QinfoLVB) SetBlocks(v uint32)    { putLVB32(l[0x10:], v) }
func (l *QinfoLVB) FreeBlk() uint32       { return lvb32(l[0x14:]) }
func (l *QinfoLVB) SetFreeBlk(v uint32)   { putLVB32(l[0x14:], v) }
func (l *QinfoLVB) FreeEntry() uint32     { return lvb32(l[0x18:]) }
func (l *QinfoLVB) SetFreeEntry(v uint32) { putLVB32(l[0x18:], v) }

// OrphanScanLVB is the value block of the ORPHAN_SCAN lock. OCFS2 format:
// struct ocfs2_orphan_scan_lvb.
type OrphanScanLVB [LVBSize]byte

func (l *OrphanScanLVB) Version() uint8     { return l[0] }
func (l *OrphanScanLVB) SetVersion(v uint8) { l[0] = v }

// Seqno counts the scans of all nodes.
func (l *OrphanScanLVB) Seqno() uint32     { return lvb32(l[0x04:]) }
func (l *OrphanScanLVB) SetSeqno(v uint32) { putLVB32(l[0x04:], v) }

// TrimFsLVB is the value block of the TRIM_FS lock: the last trim's arguments
// and result, in bytes. OCFS2 format: struct ocfs2_trim_fs_lvb.
type TrimFsLVB [LVBSize]byte

func (l *TrimFsLVB) Version() uint8        { return l[0] }
func (l *TrimFsLVB) SetVersion(v uint8)    { l[0] = v }
func (l *TrimFsLVB) Success() bool         { return l[1] != 0 }
func (l *TrimFsLVB) Node() uint32          { return lvb32(l[0x04:]) }
func (l *TrimFsLVB) SetNode(v uint32)      { putLVB32(l[0x04:], v) }
func (l *TrimFsLVB) Start() uint64         { return lvb64(l[0x08:]) }
func (l *TrimFsLVB) SetStart(v uint64)     { putLVB64(l[0x08:], v) }
func (l *TrimFsLVB) Length() uint64        { return lvb64(l[0x10:]) }
func (l *TrimFsLVB) SetLength(v uint64)    { putLVB64(l[0x10:], v) }
func (l *TrimFsLVB) MinLength() uint64     { return lvb64(l[0x18:]) }
func (l *TrimFsLVB) SetMinLength(v uint64) { putLVB64(l[0x18:], v) }
func (l *TrimFsLVB) Trimmed() uint64       { return lvb64(l[0x20:]) }
func (l *TrimFsLVB) SetTrimmed(v uint64)   { putLVB64(l[0x20:], v) }

// SetSuccess writes the success byte as 0 or 1.
func (l *TrimFsLVB) SetSuccess(v bool) {
	l[1] = 0
	if v {
		l[1] = 1
	}
}
