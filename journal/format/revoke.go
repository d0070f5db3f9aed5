package format

import "fmt"

// revokeHeaderSize is the header of a revoke block with r_count (0C, u32: bytes
// used, this header included).
const revokeHeaderSize = 16

// AppendRevoked decodes revoke block b and appends its block numbers to dst: no
// image of these blocks in this or an earlier transaction is to be replayed.
func (l Layout) AppendRevoked(dst []uint64, b []byte) ([]uint64, error) {
	h, ok := ParseHeader(b)
	if !ok || h.Type != TypeRevoke || len(b) < l.BlockSize {
		return dst, fmt.Errorf("%w: not a revoke block (%d bytes, %v)", ErrFormat, len(b), h.Type)
	}
	used := be.Uint32(b[HeaderSize:])
	if used < revokeHeaderSize || used > uint32(l.end) {
		return dst, fmt.Errorf("%w: revoke block uses %d bytes, of %d..%d possible",
			ErrFormat, used, revokeHeaderSize, l.end)
	}
	size := l.revokeSize()
	for off := revokeHeaderSize; off+size <= int(used); off += size {
		if size == 8 {
			dst = append(dst, be.Uint64(b[off:]))
		} else {
			dst = append(dst, uint64(be.Uint32(b[off:])))
		}
	}
	return dst, nil
}

// PutRevoke encodes a revoke block of transaction seq and returns how many of
// blknos fitted. The journal never writes one (fsck.ocfs2 reads them wrongly);
// this is for tests and tools.
func (l Layout) PutRevoke(b []byte, seq uint32, blknos []uint64) int {
	clear(b[:l.BlockSize])
	PutHeader(b, Header{Type: TypeRevoke, Sequence: seq})
	size, off, n := l.revokeSize(), revokeHeaderSize, 0
	for ; n < len(blknos) && off+size <= l.end; n++ {
		if size == 8 {
			be.PutUint64(b[off:], blknos[n])
		} else {
			be.PutUint32(b[off:], uint32(blknos[n]))
		}
		off += size
	}
	be.PutUint32(b[HeaderSize:], uint32(off))
	return n
}

// revokeSize is the size of one revoke record in bytes.
func (l Layout) revokeSize() int {
	if l.wide() {
		return 8
	}
	return 4
}
