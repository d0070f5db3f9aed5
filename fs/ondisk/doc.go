// Package ondisk is the OCFS2 on-disk format: typed views over raw blocks, the
// volume geometry decoded from the superblock, validators, the metadata block
// check (CRC-32 + ECC), the name hashes, cluster lock names and lock value
// blocks.
//
// # Who calls it
//
// Every package below fs/ and cmd/ that reads or writes a metadata block. It
// imports only the standard library and does no I/O of its own except
// [FindSuper], which probes an [io.ReaderAt].
//
// # Views
//
// A view (Dinode, ExtentBlock, GroupDesc, ...) is a named []byte that aliases
// the caller's buffer: it never copies, never allocates, and setters change
// only the bytes of their field, so unknown and reserved bytes survive a
// read-modify-write. A block view is exactly one block; an inner view (an
// ExtentList in a Dinode) spans its header and its whole capacity. All
// integers are little-endian on disk, except lock value blocks (big-endian).
//
// Field names are the format's names without their prefix: i_links_count is
// Links (both halves), i_last_eb_blk is LastEbBlk.
//
// # Invariants
//
// Accessors do not validate. A view over a block that its Check function
// accepted is safe: every count is within the capacity of the view, so code
// that indexes with the counts stays in range. On a block that was not checked,
// indexing beyond the capacity panics like any slice access; fixed fields
// never do, given a slice of the full block size.
//
// Nothing here holds state; [Geometry] is immutable after parsing and may be
// shared. Views are as safe for concurrent use as the bytes below them.
package ondisk
