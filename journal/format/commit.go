package format

import "fmt"

// CommitSize is the part of a commit block that is used; the rest is zero.
const CommitSize = 0x3C

// Commit ends a transaction: it counts only if its commit block is in the log.
type Commit struct {
	Sequence     uint32    // 08
	ChecksumType uint8     // 0C h_chksum_type: 0, 1 crc32 (compat CHECKSUM), 4 crc32c
	ChecksumSize uint8     // 0D h_chksum_size
	Checksum     [8]uint32 // 10 h_chksum; [0] with CSUM_V2/V3
	Sec          uint64    // 30 h_commit_sec: seconds since 1970
	Nsec         uint32    // 38 h_commit_nsec
}

// Put encodes c into block b and zeroes the rest of it.
func (c *Commit) Put(b []byte) {
	clear(b)
	PutHeader(b, Header{Type: TypeCommit, Sequence: c.Sequence})
	b[0x0C], b[0x0D] = c.ChecksumType, c.ChecksumSize
	for i, v := range c.Checksum {
		be.PutUint32(b[0x10+4*i:], v)
	}
	be.PutUint64(b[0x30:], c.Sec)
	be.PutUint32(b[0x38:], c.Nsec)
}

// ParseCommit decodes a commit block.
func ParseCommit(b []byte) (Commit, error) {
	h, ok := ParseHeader(b)
	if !ok || h.Type != TypeCommit || len(b) < CommitSize {
		return Commit{}, fmt.Errorf("%w: not a commit block (%d bytes, %v)", ErrFormat, len(b), h.Type)
	}
	c := Commit{Sequence: h.Sequence, ChecksumType: b[0x0C], ChecksumSize: b[0x0D]}
	for i := range c.Checksum {
		c.Checksum[i] = be.Uint32(b[0x10+4*i:])
	}
	c.Sec, c.Nsec = be.Uint64(b[0x30:]), be.Uint32(b[0x38:])
	return c, nil
}
