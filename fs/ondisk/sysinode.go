package ondisk

import "fmt"

// SystemFile is a kind of file in the system directory.
type SystemFile int

// Kinds of system files, in the order mkfs creates them. Those from
// SysOrphanDir on exist once per slot.
const (
	SysBadBlocks SystemFile = iota
	SysGlobalInodeAlloc
	SysSlotMap
	SysHeartbeat
	SysGlobalBitmap
	SysQuotaUser
	SysQuotaGroup
	SysOrphanDir
	SysExtentAlloc
	SysInodeAlloc
	SysJournal
	SysLocalAlloc
	SysTruncateLog
	SysLocalQuotaUser
	SysLocalQuotaGroup

	// NumSystemFiles counts the kinds.
	NumSystemFiles
)

type systemFileInfo struct {
	name  string
	flags uint32 // in addition to VALID|SYSTEM
	mode  uint16
}

var systemFiles = [NumSystemFiles]systemFileInfo{
	SysBadBlocks:        {"bad_blocks", 0, ModeRegular | 0o644},
	SysGlobalInodeAlloc: {"global_inode_alloc", InodeBitmap | InodeChain, ModeRegular | 0o644},
	SysSlotMap:          {"slot_map", 0, ModeRegular | 0o644},
	SysHeartbeat:        {"heartbeat", InodeHeartbeat, ModeRegular | 0o644},
	SysGlobalBitmap:     {"global_bitmap", InodeBitmap | InodeChain, ModeRegular | 0o644},
	SysQuotaUser:        {"aquota.user", InodeQuota, ModeRegular | 0o644},
	SysQuotaGroup:       {"aquota.group", InodeQuota, ModeRegular | 0o644},
	SysOrphanDir:        {"orphan_dir", 0, ModeDir | 0o755},
	SysExtentAlloc:      {"extent_alloc", InodeBitmap | InodeChain, ModeRegular | 0o644},
	SysInodeAlloc:       {"inode_alloc", InodeBitmap | InodeChain, ModeRegular | 0o644},
	SysJournal:          {"journal", InodeJournal, ModeRegular | 0o644},
	SysLocalAlloc:       {"local_alloc", InodeBitmap | InodeLocalAlloc, ModeRegular | 0o644},
	SysTruncateLog:      {"truncate_log", InodeDealloc, ModeRegular | 0o644},
	SysLocalQuotaUser:   {"aquota.user", InodeQuota, ModeRegular | 0o644},
	SysLocalQuotaGroup:  {"aquota.group", InodeQuota, ModeRegular | 0o644},
}

// PerSlot reports whether the file exists once per slot.
func (s SystemFile) PerSlot() bool { return s >= SysOrphanDir && s < NumSystemFiles }

// Flags are the i_flags of the file, VALID and SYSTEM included.
func (s SystemFile) Flags() uint32 { return InodeValid | InodeSystem | systemFiles[s].flags }

// Mode is the i_mode mkfs gives the file.
func (s SystemFile) Mode() uint16 { return systemFiles[s].mode }

// String is the name without the slot suffix.
func (s SystemFile) String() string {
	if s < 0 || s >= NumSystemFiles {
		return fmt.Sprintf("SystemFile(%d)", int(s))
	}
	return systemFiles[s].name
}

// SystemInodeName is the name of a system file in the system directory; slot is
// ignored for files that exist once.
func SystemInodeName(s SystemFile, slot int) string {
	if !s.PerSlot() {
		return s.String()
	}
	return fmt.Sprintf("%s:%04d", s, slot)
}

// OrphanName is the name of an inode in an orphan directory (Linux
// fs/ocfs2/namei.c, ocfs2_blkno_stringify).
func OrphanName(blkno uint64) string { return fmt.Sprintf("%016x", blkno) }

// DioOrphanPrefix begins the orphan directory name of a file in the middle of
// an appending direct write; 16 hex digits follow.
const DioOrphanPrefix = "dio-"

// Required reports whether the features of the volume call for the file.
func (s SystemFile) Required(g *Geometry) bool {
	switch s {
	case SysQuotaUser, SysLocalQuotaUser:
		return g.ROCompat&FeatureROCompatUsrQuota != 0
	case SysQuotaGroup, SysLocalQuotaGroup:
		return g.ROCompat&FeatureROCompatGrpQuota != 0
	}
	return true
}
