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

// Cover is what keeps pages above the volume: it follows one Read or Write
// through its locks.
type Cover interface {
	// NeedsEX tells whether a Read must hold META EX instead of PR, because
	// the pages it fills may be dirtied without asking. It is asked before
	// every try.
	NeedsEX() bool
	// Covered is called once META is held, EX or PR, before the data is
	// touched. False makes a Read start over.
	Covered(ex bool) bool
	// Done is called with where the data is or went, how much of it there
	// was, and the error if it ended early, while META is still held. It is
	// not called if the locks were not had. For a Write it runs without the
	// inode's mutex, since it may wait for dirty pages to come back as Writes
	// with WriteCache.
	Done(at int64, n int, err error)
}

// NoKernel is a KernelCache for volumes used without one: nothing is cached
// above.
type NoKernel struct{}

// RevokeInode implements KernelCache.
func (NoKernel) RevokeInode(*Inode, locking.Pass) locking.Verdict { return locking.Convert }

// RevokeNames implements KernelCache.
func (NoKernel) RevokeNames(uint64, *Inode, locking.Pass) locking.Verdict { return locking.DropLock }
