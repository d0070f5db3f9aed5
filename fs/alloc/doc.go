// Package alloc hands out and takes back space: clusters from the global bitmap
// (through this node's local alloc window), metadata blocks from extent_alloc and
// inodes from inode_alloc, and the deferred frees of the truncate log. OCFS2
// format: allocation; Linux fs/ocfs2/suballoc.c, localalloc.c, alloc.c.
//
// # Who calls it
//
// Every operation of fs/volume, fs/dir and fs/xattr that needs or frees space;
// mount, unmount, recovery and statfs.
//
// # How an operation takes space
//
//	hold, err := a.TruncLog().Prepare(ctx, n)      // only if it frees clusters
//	r, err := a.Reserve(ctx, alloc.Request{Inodes: 1, Meta: 2, Clusters: 1})
//	tx, err := j.Start(ctx, own+r.Credits()+hold.Credits())
//	r.ClaimInode(tx); r.ClaimMeta(tx); r.ClaimClusters(tx, 1, goal)
//	tx.Stop()
//	r.Release(); hold.Release()
//
// Reserve takes the locks, makes sure that the bits exist (it grows groups and
// slides the window in transactions of its own) and returns ErrNoSpace with
// nothing held. What a Reservation promises cannot fail for space afterwards.
//
// # Lock order
//
//	truncate_log:own (local) -> inode_alloc:any -> extent_alloc:any ->
//	local_alloc:own (local) -> global_bitmap -> journal handle -> pending.mu
//
// The first five are SysInodes, locked before a transaction and unlocked after
// it was stopped (not committed: a lock leaves the node only after the log was
// flushed). At most one inode_alloc and one extent_alloc is held at a time.
// The names after the arrow of the journal handle are leaves.
//
// # Invariants
//
//   - A group's bg_free_bits_count is the number of clear bits; c_free, c_total,
//     i_used and i_total are exact sums, in every transaction.
//   - A bit freed in a transaction is not handed out by this node before the
//     transaction is durable (the pending set); other nodes cannot see it
//     earlier, because the allocator's lock is kept until the log was flushed.
//   - Data clusters pass through the truncate log, whose flush empties the
//     journal first: no old metadata image can be replayed over new file data.
//   - The local alloc window's i_used is its popcount; the window lies inside one
//     cluster group and its bits are set in the global bitmap.
//
// Freeing a bit that is free, or a descriptor that contradicts its allocator, is
// ondisk.ErrCorrupt: the caller makes the mount read-only.
package alloc
