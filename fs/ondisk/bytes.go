package ondisk

import "encoding/binary"

// The accessors below spell a field as (buffer, offset); they inline to one
// load or store each.

func get16(b []byte, off int) uint16 { return binary.LittleEndian.Uint16(b[off:]) }
func get32(b []byte, off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
func get64(b []byte, off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }

func put16(b []byte, off int, v uint16) { binary.LittleEndian.PutUint16(b[off:], v) }
func put32(b []byte, off int, v uint32) { binary.LittleEndian.PutUint32(b[off:], v) }
func put64(b []byte, off int, v uint64) { binary.LittleEndian.PutUint64(b[off:], v) }

// window returns b[from:to] with its capacity cut, so that an append by a
// careless caller can not run over the bytes behind it. Bounds outside b are
// pulled in: a view of a corrupt block becomes short instead of panicking.
func window(b []byte, from, to int) []byte {
	to = min(max(to, 0), len(b))
	from = min(max(from, 0), to)
	return b[from:to:to]
}

// HasSignature reports whether block b begins with the 8-byte signature sig.
func HasSignature(b []byte, sig string) bool {
	return len(b) >= signatureLen && string(b[:signatureLen]) == sig
}

// SetSignature writes the 8-byte signature sig at the start of block b.
func SetSignature(b []byte, sig string) { copy(b[:signatureLen], sig) }
