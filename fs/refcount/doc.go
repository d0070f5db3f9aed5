// Package refcount reads and changes refcount trees: which physical clusters
// are shared by reflink, and by how many extents. OCFS2 format: refcount trees;
// Linux fs/ocfs2/refcounttree.c.
//
// # Who calls it
//
// fs/volume, when extents with the REFCOUNTED flag are written (copy on write),
// cut off, punched or deleted, and when an inode that uses a tree goes. Nobody
// adds references yet: files are not cloned here.
//
// # Shape
//
// A root block holds the records itself or, with the TREE flag, an extent tree
// (fs/extent) whose records lead to one leaf block each. Records are runs of
// physical clusters with one count, sorted and disjoint. A leaf's boundary is
// the low half of a first cluster; as a volume has fewer than 2^32 clusters,
// that is the cluster number.
//
// # How a change is made
//
//	rec, err := t.Lookup(c)                  // what one change may cover
//	meta, credits, err := t.Needs(c)         // reserve, start the handle
//	zero, err := t.Decrement(tx, res, sink, c, n)
//
// A change covers a part of one record, so its cost is bounded: one leaf, at
// most one split or one removal of a leaf. The caller loops over records, each
// in the transaction that also changes the extent.
//
// # Locks
//
// None here. The caller holds the tree's cluster lock (type REFCOUNT) at EX, or
// at PR for Lookup, and a mutex that orders the users of this node. Lock order:
// META of the inode, tree, allocators, journal handle.
//
// # Invariants after every change
//
//  1. Records of a block are sorted and disjoint, with at least one cluster and a
//     count of at least 1; contiguous ones of equal count are merged.
//  2. No leaf is empty; a root that lost its last leaf holds records again.
//  3. rf_clusters is the number of leaves; all blocks have the root's
//     rf_generation, leaves name the root as rf_parent.
package refcount
