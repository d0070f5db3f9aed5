package heartbeat

import (
	"encoding/binary"
	"hash/crc32"
)

// Sizes of a slot (struct o2hb_disk_heartbeat_block).
const (
	fieldsLen = 28 // bytes with a meaning; the rest of the block is zero
	MinBlock  = 512
	MaxBlock  = 4096
)

// Block is one slot of the heartbeat region, little-endian on disk:
//
//	00 u64 hb_seq         changes with every write; readers only compare
//	08 u8  hb_node        the writer's number
//	09     pad
//	0c u32 hb_cksum       over the whole block, this field as zero
//	10 u64 hb_generation  random per start of the writer; 0: it has left
//	18 u32 hb_dead_ms     the writer's dead threshold in milliseconds
//	1c     zero to the end of the sector
type Block struct {
	Seq        uint64
	Node       uint8
	Generation uint64
	DeadMS     uint32
}

// Encode fills the whole of p, one sector of at least MinBlock bytes.
func (b Block) Encode(p []byte) {
	clear(p)
	binary.LittleEndian.PutUint64(p[0:], b.Seq)
	p[8] = b.Node
	binary.LittleEndian.PutUint64(p[16:], b.Generation)
	binary.LittleEndian.PutUint32(p[24:], b.DeadMS)
	binary.LittleEndian.PutUint32(p[12:], Checksum(p))
}

// Decode reads a sector of at least 28 bytes. ok says whether the checksum fits;
// the fields are filled in either way, since a node that starts remembers them
// unchecked. A sector of zeros is ok.
func Decode(p []byte) (b Block, ok bool) {
	b = Block{Seq: binary.LittleEndian.Uint64(p), Node: p[8], Generation: binary.LittleEndian.Uint64(p[16:]), DeadMS: binary.LittleEndian.Uint32(p[24:])}
	return b, Checksum(p) == binary.LittleEndian.Uint32(p[12:])
}

var zero4 [4]byte

// Checksum is the kernel's crc32_le with seed 0 and without final inversion over
// the sector, with the checksum field taken as zero.
func Checksum(p []byte) uint32 {
	c := ^uint32(0) // crc32.Update inverts on the way in and out
	c = crc32.Update(c, crc32.IEEETable, p[:12])
	c = crc32.Update(c, crc32.IEEETable, zero4[:])
	return ^crc32.Update(c, crc32.IEEETable, p[16:])
}
