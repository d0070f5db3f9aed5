// Package check verifies the consistency of a whole OCFS2 volume without
// writing to it: every check of fsck.ocfs2 1.8.7 under its own problem code,
// and those that fsck.ocfs2 leaves out (extent_alloc bits against their users,
// orphan directories, free-space lists of indexed directories, interior extent
// records, exact group counts, block checks of every block).
//
// # Who calls it
//
// The fsck command, and every test that wrote to a volume: a volume written by
// this project or by a Linux kernel and cleanly unmounted has no problems. The
// three states that a kernel volume is known to show are described at
// [Report.Clean].
//
// # How it works
//
// One [Run] is one checker, single use, one goroutine. The passes are those of
// fsck.ocfs2:
//
//	super  superblock, backups, system directory, slot map
//	0a-0c  chains and groups of the cluster, inode and extent allocators
//	1      every inode: fields, extent trees, xattrs, index trees; claims of
//	       clusters and metadata blocks; refcount trees; both compared with
//	       the allocators' bitmaps
//	2      directory entries, trailers, indexes
//	3      connectivity, ".."
//	4      orphan directories, link counts
//	5      quota files
//
// Every cluster and every metadata block is claimed by its user exactly once
// (refcounted clusters excepted); a tree is descended only through blocks that
// could be claimed. So the work is bounded by the size of the volume even when
// pointers form loops.
//
// Memory: one bit per cluster (two when files share clusters), 40 bytes per
// inode, one record per directory extent and per refcounted extent, the names
// of one directory at a time.
//
// Nothing read from the volume is trusted: blocks go through the ondisk
// validators, or through checks of the same bounds with fsck's own codes,
// before counts in them are used.
package check
