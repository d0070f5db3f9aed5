// Package buffer is the metadata cache: blocks in memory, each owned by the
// metadata cache (Meta) of one inode, allocator or index, and valid only as
// long as the cluster lock that covers the owner is held.
//
// It plays the part of fs/ocfs2/uptodate.c and buffer_head_io.c: a block
// belongs to exactly one Meta; dropping the owner's lock invalidates the whole
// Meta at once; a Meta knows (through its journal.Owner) the last transaction
// that changed one of its blocks, so that a downconvert can tell whether the
// log must be flushed first.
//
// # Who guards what
//
// The contents of a Buf are guarded by the owner's locks: readers hold the
// inode's cluster lock at PR or better and its local lock shared; writers hold
// EX, the local lock, and an open journal handle on which Handle.Write was
// called before the first change. The package itself guards only its tables.
// Lock order: Meta.mu, then Cache.mu. No I/O is done under either.
//
// # Memory
//
// Unpinned blocks nobody uses are evicted by a clock when the cache holds more
// than its limit. Blocks that the journal has not written home are pinned
// (journal.Block.Pinned) and stay: re-reading them from the device would give
// the old image. The journal bounds how many those can be.
package buffer
