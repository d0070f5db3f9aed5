package format

import "fmt"

// Offsets of the journal superblock (log block 0; with 512-byte blocks it takes
// blocks 0 and 1, and s_first is 2). Everything the journal uses is in its first
// 512 bytes, so one sector holds it and a write of it is atomic.
const (
	offBlockSize     = 0x0C
	offMaxLen        = 0x10
	offFirst         = 0x14
	offSequence      = 0x18
	offStart         = 0x1C
	offErrno         = 0x20
	offCompat        = 0x24
	offIncompat      = 0x28
	offROCompat      = 0x2C
	offUUID          = 0x30
	offUsers         = 0x40
	offMaxTrans      = 0x48
	offMaxTransData  = 0x4C
	offChecksumType  = 0x50
	offFastBlocks    = 0x54
	offSuperChecksum = 0xFC

	// superSize is the part that s_checksum covers.
	superSize = 1024
)

// ChecksumCRC32C is the value of s_checksum_type for crc32c.
const ChecksumCRC32C = 4

// Superblock is the journal superblock. s_dynsuper, s_head and s_users are not
// interpreted; Put leaves their bytes alone.
type Superblock struct {
	Type             BlockType // 04: TypeSuperblockV2, or V1, which ends at 0x24
	HeaderSequence   uint32    // 08
	BlockSize        uint32    // 0C s_blocksize, bytes
	MaxLen           uint32    // 10 s_maxlen: blocks in the log, this one included
	First            uint32    // 14 s_first: first log block of the ring (mkfs: 1; 2 with 512-byte blocks)
	Sequence         uint32    // 18 s_sequence: first transaction id expected in the log
	Start            uint32    // 1C s_start: log block of that transaction; 0: log empty
	Errno            int32     // 20 s_errno: recorded by an aborted journal
	Compat           uint32    // 24
	Incompat         Incompat  // 28
	ROCompat         uint32    // 2C
	UUID             [16]byte  // 30
	Users            uint32    // 40 s_nr_users
	MaxTransaction   uint32    // 48
	MaxTransData     uint32    // 4C
	ChecksumType     uint8     // 50
	FastCommitBlocks uint32    // 54
}

// ParseSuperblock decodes and validates log block 0. logBlocks is how many blocks
// the log's extents cover.
func ParseSuperblock(b []byte, blockSize int, logBlocks uint64) (Superblock, error) {
	h, ok := ParseHeader(b)
	if len(b) < MinBlockSize || !ok || (h.Type != TypeSuperblockV1 && h.Type != TypeSuperblockV2) {
		return Superblock{}, fmt.Errorf("%w: no journal superblock (%d bytes, first word %#x, want %#x; %v)",
			ErrFormat, len(b), first32(b), Magic, h.Type)
	}
	s := Superblock{
		Type: h.Type, HeaderSequence: h.Sequence,
		BlockSize: be.Uint32(b[offBlockSize:]), MaxLen: be.Uint32(b[offMaxLen:]),
		First: be.Uint32(b[offFirst:]), Sequence: be.Uint32(b[offSequence:]),
		Start: be.Uint32(b[offStart:]), Errno: int32(be.Uint32(b[offErrno:])),
	}
	if h.Type == TypeSuperblockV2 {
		s.Compat, s.Incompat = be.Uint32(b[offCompat:]), Incompat(be.Uint32(b[offIncompat:]))
		s.ROCompat = be.Uint32(b[offROCompat:])
		copy(s.UUID[:], b[offUUID:])
		s.Users = be.Uint32(b[offUsers:])
		s.MaxTransaction, s.MaxTransData = be.Uint32(b[offMaxTrans:]), be.Uint32(b[offMaxTransData:])
		s.ChecksumType, s.FastCommitBlocks = b[offChecksumType], be.Uint32(b[offFastBlocks:])
	}
	return s, s.validate(b, blockSize, logBlocks)
}

// first32 is the first word of b, 0 if it is too short.
func first32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return be.Uint32(b)
}

// validate checks the fields against each other and against the caller's facts.
func (s *Superblock) validate(b []byte, blockSize int, logBlocks uint64) error {
	switch {
	case int64(s.BlockSize) != int64(blockSize):
		return fmt.Errorf("%w: journal superblock has block size %d, volume has %d", ErrFormat, s.BlockSize, blockSize)
	case uint64(s.MaxLen) > logBlocks:
		return fmt.Errorf("%w: journal superblock claims %d blocks, the journal file has %d", ErrFormat, s.MaxLen, logBlocks)
	case s.First == 0 || s.First >= s.MaxLen:
		return fmt.Errorf("%w: journal superblock: first log block %d of %d", ErrFormat, s.First, s.MaxLen)
	case s.Start >= s.MaxLen: // below First it may be: mkfs.ocfs2 writes 1, with 512-byte blocks First is 2
		return fmt.Errorf("%w: journal superblock: log starts at block %d of %d", ErrFormat, s.Start, s.MaxLen)
	}
	l, err := NewLayout(blockSize, s.Incompat)
	if err != nil {
		return err
	}
	if !l.Checksums() {
		return nil
	}
	if s.ChecksumType != ChecksumCRC32C {
		return fmt.Errorf("%w: journal checksum type %d, only %d (crc32c) is known", ErrFormat, s.ChecksumType, ChecksumCRC32C)
	}
	if len(b) < superSize {
		return fmt.Errorf("%w: journal superblock with checksum needs %d bytes, has %d", ErrFormat, superSize, len(b))
	}
	if got, want := be.Uint32(b[offSuperChecksum:]), superChecksum(b); got != want {
		return fmt.Errorf("%w: journal superblock checksum %#x, computed %#x", ErrFormat, got, want)
	}
	return nil
}

// superChecksum is the checksum of the superblock, s_checksum taken as zero.
func superChecksum(b []byte) uint32 {
	var zero [4]byte
	c := Checksum(Checksum(^uint32(0), b[:offSuperChecksum]), zero[:])
	return Checksum(c, b[offSuperChecksum+4:superSize])
}

// Put encodes s into log block b, leaving bytes it does not know as they are, and
// renews s_checksum if the features have it. b has MinBlockSize bytes at least
// (superSize with checksums).
func (s *Superblock) Put(b []byte) {
	PutHeader(b, Header{Type: s.Type, Sequence: s.HeaderSequence})
	be.PutUint32(b[offBlockSize:], s.BlockSize)
	be.PutUint32(b[offMaxLen:], s.MaxLen)
	be.PutUint32(b[offFirst:], s.First)
	be.PutUint32(b[offSequence:], s.Sequence)
	be.PutUint32(b[offStart:], s.Start)
	be.PutUint32(b[offErrno:], uint32(s.Errno))
	if s.Type != TypeSuperblockV2 {
		return
	}
	be.PutUint32(b[offCompat:], s.Compat)
	be.PutUint32(b[offIncompat:], uint32(s.Incompat))
	be.PutUint32(b[offROCompat:], s.ROCompat)
	copy(b[offUUID:], s.UUID[:])
	be.PutUint32(b[offUsers:], s.Users)
	be.PutUint32(b[offMaxTrans:], s.MaxTransaction)
	be.PutUint32(b[offMaxTransData:], s.MaxTransData)
	b[offChecksumType] = s.ChecksumType
	be.PutUint32(b[offFastBlocks:], s.FastCommitBlocks)
	if s.Incompat&(IncompatCsumV2|IncompatCsumV3) != 0 {
		be.PutUint32(b[offSuperChecksum:], superChecksum(b))
	}
}

// New returns the superblock of a fresh, empty log of maxLen blocks with the
// values that mkfs.ocfs2 gives it, but s_start 0. 64BIT is needed for volumes of
// more than 2^32 blocks.
func New(blockSize, maxLen uint32, uuid [16]byte, features Incompat) Superblock {
	return Superblock{
		Type: TypeSuperblockV2, BlockSize: blockSize, MaxLen: maxLen, First: (superSize + blockSize - 1) / blockSize,
		Sequence: 1, Incompat: features, UUID: uuid, Users: 1,
	}
}
