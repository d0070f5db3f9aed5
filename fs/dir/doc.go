// Package dir reads and changes directories: inline, linear and indexed ones
// (Linux fs/ocfs2/dir.c; OCFS2 format: directory entries, trailers, dx root and
// dx leaf blocks).
//
// A Dir is a view of one directory inode. The caller (fs/volume) holds the
// inode's cluster lock and local lock: shared for Lookup, Each, Empty; exclusive
// with an open journal handle for everything that changes. Names are raw bytes.
//
// # Adding a name
//
// What an insertion needs depends on where the name will go, so it is planned
// first: Plan finds the place and says how many metadata blocks, clusters and
// journal credits are needed; the caller reserves them, starts a handle, and
// calls Plan.Insert. Between the two the directory must not change (the
// exclusive lock is held throughout).
//
//	inline area has room ........ rewrite the dinode
//	inline area full ............ data block(s), with the index feature a dx root
//	a block has a hole .......... that block, the free list, the index
//	no hole ..................... next block of the last cluster, or a new cluster
//	index leaf full ............. its cluster is split by hash in two
//
// # What is kept exact
//
// The free list of indexed directories (blocks whose largest hole is >= 16
// bytes, linked through the trailers) and the entry counts: fsck does not look
// at the list, but the kernel allocates from it.
package dir
