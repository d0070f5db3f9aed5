package format

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Magic begins every metadata block of a log.
const Magic uint32 = 0xC03B3998

// HeaderSize is the size of the header of every metadata block, in bytes.
const HeaderSize = 12

// ErrFormat: bytes that are not what the format asks for.
var ErrFormat = errors.New("bad journal block")

var be = binary.BigEndian

// BlockType is h_blocktype.
type BlockType uint32

// The types of metadata blocks.
const (
	TypeDescriptor   BlockType = 1
	TypeCommit       BlockType = 2
	TypeSuperblockV1 BlockType = 3
	TypeSuperblockV2 BlockType = 4
	TypeRevoke       BlockType = 5
)

// String names the type.
func (t BlockType) String() string {
	switch t {
	case TypeDescriptor:
		return "descriptor"
	case TypeCommit:
		return "commit"
	case TypeSuperblockV1:
		return "superblock v1"
	case TypeSuperblockV2:
		return "superblock v2"
	case TypeRevoke:
		return "revoke"
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Header begins every metadata block.
type Header struct {
	// 00 h_magic
	Type     BlockType // 04 h_blocktype
	Sequence uint32    // 08 h_sequence: id of the transaction
}

// ParseHeader reads the header of a log block. ok is false if the block does not
// begin with the magic: it is not a metadata block.
func ParseHeader(b []byte) (h Header, ok bool) {
	if len(b) < HeaderSize || be.Uint32(b) != Magic {
		return Header{}, false
	}
	return Header{Type: BlockType(be.Uint32(b[4:])), Sequence: be.Uint32(b[8:])}, true
}

// PutHeader writes a header at the start of b, which must have HeaderSize bytes.
func PutHeader(b []byte, h Header) {
	be.PutUint32(b, Magic)
	be.PutUint32(b[4:], uint32(h.Type))
	be.PutUint32(b[8:], h.Sequence)
}
