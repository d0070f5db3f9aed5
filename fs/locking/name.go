package locking

import "github.com/ocfuse/ocfuse/fs/ondisk"

// NameLen is the length of every lock name of the filesystem in bytes.
const NameLen = ondisk.LockNameLen

// Name builds the name of a lock from its type and two numbers (OCFS2 locking:
// names). What they are by type: Meta: inode block, 0 (system inodes and the
// root directory: the volume's generation); RW, Flock: inode block,
// i_generation; Open: inode block, 0; Refcount: root block, rf_generation;
// QInfo: quota type, 0. GlobalName and DentryName make the others.
func Name(t Type, blkno uint64, generation uint32) []byte {
	n := ondisk.NewLockName(ondisk.LockType(t), blkno, generation)
	return n[:]
}

// GlobalName is the name of the one lock of its type in the volume: Super,
// Rename, NFSSync, OrphanScan, TrimFS.
func GlobalName(t Type) []byte {
	if t == Super {
		n := ondisk.SuperLockName()
		return n[:]
	}
	return Name(t, 0, 0)
}

// DentryName is the binary name of the lock that covers all names of an inode
// in one directory.
func DentryName(parent, blkno uint64) []byte {
	n := ondisk.DentryLockName(parent, blkno)
	return n[:]
}
