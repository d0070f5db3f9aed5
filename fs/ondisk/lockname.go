package ondisk

import (
	"encoding/binary"
	"fmt"
	"strconv"
)

// LockNameLen is the length of every cluster lock name in bytes; the C string's
// NUL is not part of the name. Linux fs/ocfs2/ocfs2_lockid.h.
const LockNameLen = 31

// LockType is the kind of a cluster lock: the first character of its name.
type LockType byte

// Lock types.
const (
	LockMeta       LockType = 'M'
	LockData       LockType = 'D' // obsolete, never taken
	LockSuper      LockType = 'S'
	LockRename     LockType = 'R'
	LockRW         LockType = 'W'
	LockDentry     LockType = 'N'
	LockOpen       LockType = 'O'
	LockFlock      LockType = 'F'
	LockQinfo      LockType = 'Q'
	LockNFSSync    LockType = 'Y'
	LockOrphanScan LockType = 'P'
	LockRefcount   LockType = 'T'
	LockTrimFs     LockType = 'I'
)

var lockTypeNames = map[LockType]string{
	LockMeta: "Meta", LockData: "Data", LockSuper: "Super", LockRename: "Rename",
	LockRW: "Write/Read", LockDentry: "Dentry", LockOpen: "Open", LockFlock: "Flock",
	LockQinfo: "Quota", LockNFSSync: "NFSSync", LockOrphanScan: "OrphanScan",
	LockRefcount: "Refcount", LockTrimFs: "TrimFs",
}

// String is the kernel's name of the type.
func (t LockType) String() string {
	if s, ok := lockTypeNames[t]; ok {
		return s
	}
	return fmt.Sprintf("LockType(%q)", byte(t))
}

// HasLVB reports whether locks of the type carry a value block.
func (t LockType) HasLVB() bool {
	switch t {
	case LockMeta, LockQinfo, LockOrphanScan, LockTrimFs:
		return true
	}
	return false
}

// NeedsRefresh reports whether what the lock protects must be read again after
// the level rose from NL.
func (t LockType) NeedsRefresh() bool { return t == LockSuper || t.HasLVB() }

// LockName is the name of a cluster lock. It is binary: dentry lock names hold
// NULs.
type LockName [LockNameLen]byte

const (
	lockNamePad   = "000000"
	lockBlknoOff  = 1 + len(lockNamePad)
	lockGenOff    = lockBlknoOff + 16
	dentryInoOff  = 18
	hexDigitsLow  = "0123456789abcdef"
	hexDigits64   = 16
	dentryNameNUL = 17
)

// NewLockName builds the name of a lock of any type but [LockDentry]: type
// character, "000000", 16 hex digits of the block, 8 of the generation. What
// block and generation are depends on the type, see the constructors below.
func NewLockName(t LockType, blkno uint64, generation uint32) LockName {
	var n LockName
	n[0] = byte(t)
	copy(n[1:], lockNamePad)
	putHex(n[lockBlknoOff:lockGenOff], blkno)
	putHex(n[lockGenOff:], uint64(generation))
	return n
}

// putHex fills b with the low digits of v in lower-case hex.
func putHex(b []byte, v uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = hexDigitsLow[v&0xF]
		v >>= 4
	}
}

// MetaLockName names the META lock of an inode: generation 0 for ordinary
// inodes, the volume generation for system inodes, the system directory and
// the root directory (those with [InodeSystem]).
func (g *Geometry) MetaLockName(blkno uint64, system bool) LockName {
	if system {
		return NewLockName(LockMeta, blkno, g.FSGeneration)
	}
	return NewLockName(LockMeta, blkno, 0)
}

// RWLockName names the RW lock of an inode, by its i_generation.
func RWLockName(blkno uint64, generation uint32) LockName {
	return NewLockName(LockRW, blkno, generation)
}

// OpenLockName names the OPEN lock of an inode; its generation is always 0.
func OpenLockName(blkno uint64) LockName { return NewLockName(LockOpen, blkno, 0) }

// FlockName names the FLOCK lock of an inode, by its i_generation.
func FlockName(blkno uint64, generation uint32) LockName {
	return NewLockName(LockFlock, blkno, generation)
}

// SuperLockName names the superblock lock: block 2, generation 0.
func SuperLockName() LockName { return NewLockName(LockSuper, SuperBlkno, 0) }

// RefcountLockName names the lock of a refcount tree, by root block and
// rf_generation.
func RefcountLockName(root uint64, generation uint32) LockName {
	return NewLockName(LockRefcount, root, generation)
}

// QinfoLockName names the lock of the global quota file of [QuotaUser] or
// [QuotaGroup].
func QinfoLockName(quotaType int) LockName { return NewLockName(LockQinfo, uint64(quotaType), 0) }

// GlobalLockName names the locks that exist once per volume with block 0:
// RENAME, NFS_SYNC, ORPHAN_SCAN, TRIM_FS.
func GlobalLockName(t LockType) LockName { return NewLockName(t, 0, 0) }

// DentryLockName names the lock shared by all names of inode under parent: 'N',
// 16 hex digits of the parent directory's block, NUL, the inode number as 8
// bytes big-endian, 5 NULs. Linux fs/ocfs2/dlmglue.c,
// ocfs2_dentry_lock_res_init.
func DentryLockName(parent, inode uint64) LockName {
	var n LockName
	n[0] = byte(LockDentry)
	putHex(n[1:1+hexDigits64], parent)
	binary.BigEndian.PutUint64(n[dentryInoOff:], inode)
	return n
}

// LockInfo is a parsed lock name.
type LockInfo struct {
	Type       LockType
	Blkno      uint64 // block field; the inode of a dentry lock
	Generation uint32 // 0 for dentry locks
	Parent     uint64 // parent directory of a dentry lock, else 0
}

// ParseLockName decodes a lock name for display. It accepts only names that the
// constructors of this package make.
func ParseLockName(name []byte) (LockInfo, error) {
	bad := func() (LockInfo, error) { return LockInfo{}, fmt.Errorf("not an ocfs2 lock name: %q", name) }
	if len(name) != LockNameLen {
		return bad()
	}
	info := LockInfo{Type: LockType(name[0])}
	if _, ok := lockTypeNames[info.Type]; !ok {
		return bad()
	}
	var ok bool
	if info.Type == LockDentry {
		info.Parent, ok = parseHex(name[1 : 1+hexDigits64])
		info.Blkno = binary.BigEndian.Uint64(name[dentryInoOff:])
		if !ok || LockName(name) != DentryLockName(info.Parent, info.Blkno) {
			return bad()
		}
		return info, nil
	}
	info.Blkno, ok = parseHex(name[lockBlknoOff:lockGenOff])
	gen, ok2 := parseHex(name[lockGenOff:])
	info.Generation = uint32(gen)
	if !ok || !ok2 || LockName(name) != NewLockName(info.Type, info.Blkno, info.Generation) {
		return bad()
	}
	return info, nil
}

func parseHex(b []byte) (uint64, bool) {
	v, err := strconv.ParseUint(string(b), 16, 64)
	return v, err == nil
}

// String prints the name; a dentry lock as debugfs.ocfs2 does: the hex text and
// the inode number in hex.
func (n LockName) String() string {
	if LockType(n[0]) == LockDentry && n[dentryNameNUL] == 0 {
		return fmt.Sprintf("%s%08x", n[:dentryNameNUL], binary.BigEndian.Uint64(n[dentryInoOff:]))
	}
	for _, c := range n {
		if c < 0x20 || c >= 0x7F {
			return strconv.Quote(string(n[:]))
		}
	}
	return string(n[:])
}
