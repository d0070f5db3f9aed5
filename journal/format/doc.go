// Package format is the on-disk format of a JBD2 log: journal superblock,
// descriptor blocks and their tags, commit blocks, revoke blocks.
//
// All integers are BIG endian (the logged images of OCFS2 blocks are little
// endian and opaque here). Offsets in margins are hexadecimal bytes from the
// start of the block. Sources: Linux include/linux/jbd2.h and fs/jbd2.
//
// Called by package journal and by debugging tools. It has no state and does no
// I/O. Parsers accept any bytes: they return an error of kind ErrFormat, they
// never panic.
//
// A log, from block s_first to s_maxlen-1, is a ring of transactions:
//
//	( descriptor image... | revoke )... commit
//
// all metadata blocks of one transaction carry the same h_sequence, that of the
// next transaction is one higher (modulo 2^32).
package format
