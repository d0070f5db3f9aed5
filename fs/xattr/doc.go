// Package xattr works on the extended attributes of an inode as a whole. So
// far it frees them when the inode is deleted; single attributes are not set or
// removed here. OCFS2 format: xattrs; Linux fs/ocfs2/xattr.c.
//
// # Who calls it
//
// fs/volume, when it wipes an orphan.
//
// # What attributes own
//
//	dinode ── inline area ── values of more than 80 bytes: extent trees
//	   └───── xattr block ── values likewise, or
//	             └── bucket tree (extent blocks) ── buckets in clusters ── values likewise
//
// Clusters of values and buckets are not in i_clusters. Those of values may be
// shared by reflink; buckets and blocks are not.
//
// # Order and crashes
//
// Values go before what their roots lie in; a bucket tree goes from the right,
// record by record, and the block last, when the dinode forgets it. Each
// transaction leaves a tree smaller and its root right, so that after a crash
// between any two the deletion of the orphan starts again with what is left. A
// crash may leak extent blocks and the xattr block (they are given back after
// the change that let go of them), never clusters.
//
// # Locks
//
// The caller holds the inode's META lock at EX and its mutex, and has no
// transaction open. The package takes no lock of its own; those of allocators
// and refcount trees are taken by the Volume it is given.
//
// # Bad input
//
// Every region is validated before it is used, buckets with their block check
// where the volume has them; what does not fit is ondisk.ErrCorrupt. A bucket
// is 4096 bytes with one block check for all of them, so its blocks are read
// without looking at their own; see fs/buffer, Meta.ReadPlain.
package xattr
