package locking

import (
	"encoding/binary"
	"fmt"
)

// NameLen is the length of every lock name of the filesystem: 31 bytes, the
// NUL of the C string not counted (OCFS2_LOCK_ID_MAX_LEN - 1).
const NameLen = 31

// superBlkno is where the superblock's dinode is (OCFS2_SUPER_BLOCK_BLKNO).
const superBlkno = 2

// Name builds the name of a lock (OCFS2 locking: names): the type, six zeros,
// blkno as 16 and generation as 8 lower-case hex digits. What the fields are
// by type: Meta: inode block, 0 (system inodes: the filesystem's generation);
// RW, Flock: inode block, i_generation; Open: inode block, 0; Refcount: root
// block, rf_generation; QInfo: quota type, 0. SuperName and the like give the
// fixed ones, DentryName that of a dentry lock.
func Name(t Type, blkno uint64, generation uint32) []byte {
	return fmt.Appendf(make([]byte, 0, NameLen), "%c000000%016x%08x", byte(t), blkno, generation)
}

// GlobalName is the name of the one lock of its type in the volume: Super,
// Rename, NFSSync, OrphanScan, TrimFS.
func GlobalName(t Type) []byte {
	if t == Super {
		return Name(t, superBlkno, 0)
	}
	return Name(t, 0, 0)
}

// DentryName is the binary name of the lock that covers all names of an inode
// in one directory (ocfs2_dentry_lock_res_init).
func DentryName(parent, blkno uint64) []byte {
	n := make([]byte, NameLen)
	copy(n, fmt.Appendf(nil, "%c%016x", byte(Dentry), parent))
	binary.BigEndian.PutUint64(n[18:], blkno)
	return n
}
