// Package mkfs makes an OCFS2 volume: what mkfs.ocfs2 makes with the same options,
// block by block.
//
// Who calls it: the mkfs command, and tests that need a volume (on a memory device
// Format of a small volume takes about a millisecond).
//
// It works in three steps. NewPlan turns options and device size into sizes, or
// refuses them; it is pure. A builder lays the volume out in memory: it allocates
// clusters and inodes in the order mkfs.ocfs2 does, and fills inodes, group
// descriptors and directories. Nothing is written until all of it fitted. Then it is
// written: first the old superblock is destroyed and that made durable, then the
// body, a flush, and the superblock and its copies last. A crash at any point leaves
// no volume or the whole one.
//
// Where the result differs from mkfs.ocfs2 1.8.7, that leaves a volume fsck.ocfs2
// finds fault with, or a fact that is wrong:
//
//   - The system directory has its index where it is not inline. (mkfs.ocfs2 omits it;
//     fsck.ocfs2 reports DX_TREE_MISSING.)
//   - i_size of lost+found is a whole block without inline-data. (mkfs.ocfs2 leaves
//     the trailer out of it.)
//   - db_free_rec_len of the root directory's block tells the space that is left.
//     (mkfs.ocfs2 leaves what it was before lost+found.)
//   - Quota counts lost+found as an inode of root, with its cluster where it has one.
//     (mkfs.ocfs2 makes it too late.)
//   - The header of a quota file tells its blocks and its block with free entries.
//     (mkfs.ocfs2 overwrites it with those of an empty file when it indexes
//     directories, that is without inline-data.)
//   - s_start of a journal with 512-byte blocks is 0, the empty log. (mkfs.ocfs2 has 1,
//     which is the second block of the journal superblock.)
//
// Source of the rules: behaviour of mkfs.ocfs2 1.8.7, compared byte for byte by the
// tests of this package, and the OCFS2 format.
//
// Locks: none; a builder belongs to one goroutine until it is written, and then is
// only read.
package mkfs
