package ondisk

// Quota file magics and versions: index 0 user, 1 group.
var (
	QuotaGlobalMagic = [2]uint32{0x0cf52470, 0x0cf52471}
	QuotaLocalMagic  = [2]uint32{0x0cf524c0, 0x0cf524c1}
)

// Quota types.
const (
	QuotaUser  = 0
	QuotaGroup = 1

	// QuotaBlockTail is the space at the end of every quota block that the
	// block check takes.
	QuotaBlockTail = 8
	// QuotaLocalClean is the dqi_flags bit of a local file that was closed.
	QuotaLocalClean = 0x1
)

// QuotaHeader is block 0 of a quota file: magic, version, then the global or
// local info at offset 8. OCFS2 format: struct ocfs2_disk_dqheader,
// ocfs2_global_disk_dqinfo, ocfs2_local_disk_dqinfo.
type QuotaHeader []byte

func (q QuotaHeader) Magic() uint32       { return get32(q, 0) }
func (q QuotaHeader) SetMagic(v uint32)   { put32(q, 0, v) }
func (q QuotaHeader) Version() uint32     { return get32(q, 4) }
func (q QuotaHeader) SetVersion(v uint32) { put32(q, 4, v) }

// Global info. Grace times are seconds, SyncMs milliseconds; the rest are
// block numbers of the file.
func (q QuotaHeader) Bgrace() uint32        { return get32(q, 0x08) }
func (q QuotaHeader) SetBgrace(v uint32)    { put32(q, 0x08, v) }
func (q QuotaHeader) Igrace() uint32        { return get32(q, 0x0C) }
func (q QuotaHeader) SetIgrace(v uint32)    { put32(q, 0x0C, v) }
func (q QuotaHeader) SyncMs() uint32        { return get32(q, 0x10) }
func (q QuotaHeader) SetSyncMs(v uint32)    { put32(q, 0x10, v) }
func (q QuotaHeader) Blocks() uint32        { return get32(q, 0x14) }
func (q QuotaHeader) SetBlocks(v uint32)    { put32(q, 0x14, v) }
func (q QuotaHeader) FreeBlk() uint32       { return get32(q, 0x18) }
func (q QuotaHeader) SetFreeBlk(v uint32)   { put32(q, 0x18, v) }
func (q QuotaHeader) FreeEntry() uint32     { return get32(q, 0x1C) }
func (q QuotaHeader) SetFreeEntry(v uint32) { put32(q, 0x1C, v) }

// Local info: flags ([QuotaLocalClean]), chunks, blocks.
func (q QuotaHeader) LocalFlags() uint32      { return get32(q, 0x08) }
func (q QuotaHeader) SetLocalFlags(v uint32)  { put32(q, 0x08, v) }
func (q QuotaHeader) LocalChunks() uint32     { return get32(q, 0x0C) }
func (q QuotaHeader) SetLocalChunks(v uint32) { put32(q, 0x0C, v) }
func (q QuotaHeader) LocalBlocks() uint32     { return get32(q, 0x10) }
func (q QuotaHeader) SetLocalBlocks(v uint32) { put32(q, 0x10, v) }
