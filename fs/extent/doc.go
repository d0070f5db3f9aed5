// Package extent is the one implementation of OCFS2 extent trees: which
// physical clusters hold a range of logical clusters (file data, xattr values)
// or of hash values (directory and xattr indexes). OCFS2 format: struct
// ocfs2_extent_list; Linux fs/ocfs2/alloc.c.
//
// # Who calls it
//
// The layers that own a root block: fs/volume for file data, fs/dir for dx
// trees, fs/xattr for values and buckets, fs/refcount for refcount trees. The
// root is a block of the caller's (OfInode, OfDxRoot, ...); the nodes below are
// extent blocks which the tree reads through the owner's buffer.Meta, claims
// from a MetaSource and gives back to a MetaSink.
//
// # Locks
//
// The package has none. Readers hold the owner's cluster lock at PR or better
// and its local lock shared; writers hold EX, the local lock, and an open
// journal handle. A Tree is a value that lives as long as its root buffer is
// held; it caches nothing.
//
// # How a change is made
//
// Every change is prepared first (blocks read and validated, declared to the
// journal, new nodes claimed) and applied after nothing can fail any more. An
// error from preparation leaves the tree as it was; it can only be a corrupt
// block, an aborted journal, a handle with too few credits or a MetaSource
// without blocks. Callers ask Needs before they reserve and start the handle.
//
// Remove, SetFlags and Replace do at most the part of the range that one leaf
// holds per call, so that their cost is bounded; the caller extends the handle
// or starts another one and goes on. After every single call the tree is
// consistent.
//
// # Invariants (after every call)
//
//  1. Leaf records are sorted, do not overlap and have 1..65535 clusters.
//  2. A node of l_tree_depth d has children of depth d-1; leaves have 0. No node
//     but the root is empty; an empty root has depth 0.
//  3. Interior records tile: record i ends where record i+1 begins, the records
//     of a child lie inside its parent's record, and the last one ends where the
//     last leaf record ends. A leaf other than the first begins exactly at the
//     boundary its parents name, so that the record with the largest e_cpos not
//     above a key is always in the leaf the key leads to.
//  4. h_next_leaf_blk links the leaves left to right; the root names the last.
//  5. The root's counter is the sum of all leaf records' clusters.
//
// Trees written by other implementations may begin a leaf after its boundary
// and may have one empty record in front of a leaf: both are read and mended.
//
// Where Linux rotates records between leaves to make room, a full leaf is split
// here; both keep the invariants.
package extent
