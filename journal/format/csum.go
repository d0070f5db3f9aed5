package format

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is JBD2's crc32c: like the usual one, but without the inversions
// before and after; chains start from ^0 (Linux jbd2_chksum).
func Checksum(crc uint32, p []byte) uint32 { return ^crc32.Update(^crc, castagnoli, p) }

// Seed starts the checksums of all blocks but the superblock's: crc32c of s_uuid.
func Seed(uuid [16]byte) uint32 { return Checksum(^uint32(0), uuid[:]) }

// TagChecksum is the checksum of a log copy (after escaping) for its tag: over the
// sequence, then the image. CSUM_V2 keeps the low 16 bits.
func (l Layout) TagChecksum(seed, seq uint32, image []byte) uint32 {
	var s [4]byte
	be.PutUint32(s[:], seq)
	c := Checksum(Checksum(seed, s[:]), image)
	if l.Features&IncompatCsumV3 == 0 {
		c &= 0xFFFF
	}
	return c
}

// tailChecksum is the checksum of a descriptor or revoke block, its own field
// (the last 4 bytes) taken as zero.
func (l Layout) tailChecksum(seed uint32, b []byte) uint32 {
	var zero [tailSize]byte
	return Checksum(Checksum(seed, b[:l.end]), zero[:])
}

// SealBlock writes the tail checksum of a descriptor or revoke block, with CSUM only.
func (l Layout) SealBlock(seed uint32, b []byte) {
	if l.Checksums() {
		be.PutUint32(b[l.end:], l.tailChecksum(seed, b))
	}
}

// BlockValid verifies the tail checksum of a descriptor or revoke block; true
// without CSUM.
func (l Layout) BlockValid(seed uint32, b []byte) bool {
	return !l.Checksums() || be.Uint32(b[l.end:]) == l.tailChecksum(seed, b)
}

// commitChecksum is the checksum of a commit block, h_chksum[0] taken as zero.
func (l Layout) commitChecksum(seed uint32, b []byte) uint32 {
	var zero [4]byte
	c := Checksum(Checksum(seed, b[:0x10]), zero[:])
	return Checksum(c, b[0x14:l.BlockSize])
}

// SealCommit writes h_chksum[0] of a commit block, with CSUM only.
func (l Layout) SealCommit(seed uint32, b []byte) {
	if l.Checksums() {
		be.PutUint32(b[0x10:], l.commitChecksum(seed, b))
	}
}

// CommitValid verifies h_chksum[0] of a commit block; true without CSUM.
func (l Layout) CommitValid(seed uint32, b []byte) bool {
	return !l.Checksums() || be.Uint32(b[0x10:]) == l.commitChecksum(seed, b)
}
