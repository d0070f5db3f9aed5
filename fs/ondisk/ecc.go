package ondisk

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
)

// Offsets of the 8-byte block check {crc32 u32, ecc u16, reserved u16} in each
// kind of block. Linux fs/ocfs2/blockcheck.c.
const (
	CheckOffDinode   = 0x80
	CheckOffExtent   = 0x08
	CheckOffGroup    = 0x30
	CheckOffXattr    = 0x18
	CheckOffBucket   = 0x08
	CheckOffDxRoot   = 0x08
	CheckOffDxLeaf   = 0x08
	CheckOffRefcount = 0x20

	checkSize = 8
)

// CheckOffTail is the block check's offset in blocks that keep it at their end:
// directory data blocks (in the trailer) and quota file blocks.
func CheckOffTail(blockSize int) int { return blockSize - checkSize }

// CheckOffset is the block check's offset in a block that begins with sig; false
// for an unknown signature.
func CheckOffset(sig string) (off int, ok bool) {
	switch sig {
	case SigSuper, SigDinode:
		return CheckOffDinode, true
	case SigExtent:
		return CheckOffExtent, true
	case SigGroup:
		return CheckOffGroup, true
	case SigXattr:
		return CheckOffXattr, true
	case SigDxRoot:
		return CheckOffDxRoot, true
	case SigDxLeaf:
		return CheckOffDxLeaf, true
	case SigRefcount:
		return CheckOffRefcount, true
	}
	return 0, false
}

// ComputeCheck writes the block check of block (a whole block, or a 4096-byte
// bucket) at off. len(block) is a multiple of 8 and at most 4096.
func ComputeCheck(block []byte, off int) {
	clear(block[off : off+checkSize])
	crc, ecc := ^crc32.ChecksumIEEE(block), eccOf(block)
	put32(block, off, crc)
	put16(block, off+4, ecc)
}

// ValidateCheck verifies the block check at off. A single flipped bit of the
// data is corrected in place; anything more is an error that matches
// [ErrCorrupt]. A good block is not written to.
func ValidateCheck(block []byte, off int) error {
	want := get32(block, off)
	if crcWithout(block, off) == want {
		return nil
	}
	var field [checkSize]byte
	copy(field[:], block[off:])
	clear(block[off : off+checkSize])
	bit := flippedBit(get16(field[:], 4)^eccOf(block), len(block)*8)
	if bit >= 0 {
		block[bit/8] ^= 1 << (bit % 8)
	}
	got := ^crc32.ChecksumIEEE(block)
	if got != want && bit >= 0 {
		block[bit/8] ^= 1 << (bit % 8)
	}
	copy(block[off:], field[:])
	if got != want {
		return &CheckError{Stored: want, Computed: crcWithout(block, off)}
	}
	return nil
}

// CheckError is a block check that does not match and can not be corrected. It
// matches [ErrCorrupt]; callers add block number and structure.
type CheckError struct{ Stored, Computed uint32 }

func (e *CheckError) Error() string {
	return fmt.Sprintf("block check failed: stored crc32 %#08x, computed %#08x", e.Stored, e.Computed)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CheckError) Is(target error) bool { return target == ErrCorrupt }

var zeroField [checkSize]byte

// crcWithout is the check's CRC with the field taken as zero: reflected
// CRC-32, initial value all ones, no final inversion.
func crcWithout(block []byte, off int) uint32 {
	crc := crc32.ChecksumIEEE(block[:off])
	crc = crc32.Update(crc, crc32.IEEETable, zeroField[:])
	return ^crc32.Update(crc, crc32.IEEETable, block[off+checkSize:])
}

// flippedBit is the data bit that the syndrome names, -1 for none (a flipped
// parity bit, or a position outside the data).
func flippedBit(syndrome uint16, nbits int) int {
	if syndrome == 0 || syndrome&(syndrome-1) == 0 {
		return -1
	}
	// Position c has bits.Len(c) powers of two at or below it, and data
	// positions count from 1.
	bit := int(syndrome) - 1 - bits.Len16(syndrome)
	if bit >= nbits {
		return -1
	}
	return bit
}

// eccOf is the Hamming code of all bits of block: the XOR of the code positions
// of its set bits, where data bits take the positions 3, 5, 6, 7, 9, ... that
// are no power of two.
//
// Position space is walked in words of 64. Within the word at position 64n the
// data bits are the block's bits from 64n-k-2 on, k = floor(log2(64n)): two
// neighbouring data words, shifted. The low six bits of the result come from
// the XOR of all words, the others from the parity of each word. Aligned groups
// of eight words share one parity by XOR-ing those words that have a given bit
// in their index first.
func eccOf(block []byte) uint16 {
	nwords := len(block) / 8
	s := eccSum{fold: firstWord(binary.LittleEndian.Uint64(block))}
	n := 1
	for k := 6; n <= nwords; k++ {
		end := min(1<<(k-5), nwords+1) // words up to the next power of two
		// The power of two itself is a parity position: cut its bit out.
		s.add(n, eccWord(block, n, k)&^1)
		n++
		for ; n < end && n%8 != 0; n++ {
			s.add(n, eccWord(block, n, k))
		}
		for ; n+8 <= end && n*8+64 <= len(block); n += 8 {
			s.addGroup(block[n*8-8:n*8+64], n, k)
		}
		for ; n < end; n++ {
			s.add(n, eccWord(block, n, k))
		}
	}
	return s.result()
}

// eccWord is the position word n of the range of k: the data words n-1 and n.
func eccWord(block []byte, n, k int) uint64 {
	w := binary.LittleEndian.Uint64(block[n*8-8:]) >> (62 - uint(k))
	if n*8 < len(block) {
		w |= binary.LittleEndian.Uint64(block[n*8:]) << (uint(k) + 2)
	}
	return w
}

// eccSum collects position words.
type eccSum struct {
	fold    uint64    // XOR of all words
	high    uint64    // XOR of the indexes of words (first of a group) with odd parity
	byIndex [3]uint64 // XOR of the words of groups with bit 0, 1, 2 of the index set
}

func (s *eccSum) add(n int, w uint64) {
	s.fold ^= w
	s.high ^= uint64(n) & -uint64(bits.OnesCount64(w)&1)
}

// addGroup adds the eight words from n on; data starts with data word n-1.
func (s *eccSum) addGroup(data []byte, n, k int) {
	down, up := (62-uint(k))&63, (uint(k)+2)&63
	_ = data[71]
	var d [9]uint64
	for i := range d {
		d[i] = binary.LittleEndian.Uint64(data[i*8:])
	}
	w0, w1 := d[0]>>down|d[1]<<up, d[1]>>down|d[2]<<up
	w2, w3 := d[2]>>down|d[3]<<up, d[3]>>down|d[4]<<up
	w4, w5 := d[4]>>down|d[5]<<up, d[5]>>down|d[6]<<up
	w6, w7 := d[6]>>down|d[7]<<up, d[7]>>down|d[8]<<up
	s.byIndex[0] ^= w1 ^ w3 ^ w5 ^ w7
	s.byIndex[1] ^= w2 ^ w3 ^ w6 ^ w7
	s.byIndex[2] ^= w4 ^ w5 ^ w6 ^ w7
	s.add(n, w0^w1^w2^w3^w4^w5^w6^w7)
}

func (s *eccSum) result() uint16 {
	high := s.high
	for j, w := range s.byIndex {
		high ^= uint64(bits.OnesCount64(w)&1) << j
	}
	return uint16(high<<6) | lowSyndrome(s.fold)
}

// firstWord spreads the first 57 data bits over positions 3..63.
func firstWord(d uint64) uint64 {
	w := (d & 0x1) << 3               // bit 0 -> 3
	w |= (d >> 1 & 0x7) << 5          // bits 1..3 -> 5..7
	w |= (d >> 4 & 0x7F) << 9         // bits 4..10 -> 9..15
	w |= (d >> 11 & 0x7FFF) << 17     // bits 11..25 -> 17..31
	w |= (d >> 26 & 0x7FFFFFFF) << 33 // bits 26..56 -> 33..63
	return w
}

// lowSyndrome is the XOR of the bit numbers of the set bits of w.
func lowSyndrome(w uint64) uint16 {
	masks := [6]uint64{
		0xAAAAAAAAAAAAAAAA, 0xCCCCCCCCCCCCCCCC, 0xF0F0F0F0F0F0F0F0,
		0xFF00FF00FF00FF00, 0xFFFF0000FFFF0000, 0xFFFFFFFF00000000,
	}
	var s uint16
	for j, m := range masks {
		s |= uint16(bits.OnesCount64(w&m)&1) << j
	}
	return s
}

// CheckMatches reports whether the block check at off is right as it stands,
// without correcting anything.
func CheckMatches(block []byte, off int) bool {
	return crcWithout(block, off) == get32(block, off) && eccMatches(block, off)
}

// eccMatches compares the stored ECC with that of the block, the field taken as
// zero. The code is linear: the field's own contribution is XOR-ed out.
func eccMatches(block []byte, off int) bool {
	ecc := eccOf(block)
	for bit := off * 8; bit < (off+checkSize)*8; bit++ {
		if block[bit/8]&(1<<(bit%8)) != 0 {
			ecc ^= codePosition(bit)
		}
	}
	return ecc == get16(block, off+4)
}

// codePosition is the position of a data bit: the bit-th number, from 0, of
// 3, 5, 6, 7, 9, ...: position c has bits.Len(c) powers of two at or below it.
func codePosition(bit int) uint16 {
	c := bit + 1 + bits.Len(uint(bit+1))
	for c-1-bits.Len(uint(c)) < bit {
		c++
	}
	return uint16(c)
}
