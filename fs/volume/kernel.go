package volume

import "github.com/ocfuse/ocfuse/fs/locking"

// KernelCache is what caches inodes and names above the volume: the kernel,
// through fs/fuse. The volume tells it what it may no longer keep.
type KernelCache interface {
	// RevokeInode drops what p.To does not allow to be cached of the inode:
	// attributes, pages (dirty mapped pages come back as writes first),
	// names that are known not to be in a directory. It runs in a pass of
	// fs/locking.
	RevokeInode(i *Inode, p locking.Pass) locking.Verdict
	// RevokeNames drops every name of child in directory parent: another
	// node is about to remove one.
	RevokeNames(parent uint64, child *Inode, p locking.Pass) locking.Verdict
}

// NoKernel is a KernelCache for volumes used without one: nothing is cached
// above.
type NoKernel struct{}

// RevokeInode implements KernelCache.
func (NoKernel) RevokeInode(*Inode, locking.Pass) locking.Verdict { return locking.Convert }

// RevokeNames implements KernelCache.
func (NoKernel) RevokeNames(uint64, *Inode, locking.Pass) locking.Verdict { return locking.DropLock }
