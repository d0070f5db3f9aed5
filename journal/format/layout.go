package format

import (
	"fmt"
	"strings"
)

// Incompat is s_feature_incompat.
type Incompat uint32

// The incompatible features of JBD2.
const (
	IncompatRevoke      Incompat = 0x1
	Incompat64Bit       Incompat = 0x2
	IncompatAsyncCommit Incompat = 0x4
	IncompatCsumV2      Incompat = 0x8
	IncompatCsumV3      Incompat = 0x10
	IncompatFastCommit  Incompat = 0x20
)

var incompatNames = [...]string{"REVOKE", "64BIT", "ASYNC_COMMIT", "CSUM_V2", "CSUM_V3", "FAST_COMMIT"}

// String lists the names of the bits, "none" for 0.
func (f Incompat) String() string {
	if f == 0 {
		return "none"
	}
	var parts []string
	for i, name := range incompatNames {
		if f&(1<<i) != 0 {
			parts = append(parts, name)
		}
	}
	if rest := f &^ (1<<len(incompatNames) - 1); rest != 0 {
		parts = append(parts, fmt.Sprintf("0x%x", uint32(rest)))
	}
	return strings.Join(parts, "|")
}

// MinBlockSize and MaxBlockSize bound the log's block size in bytes. OCFS2 uses
// 512, 1024, 2048 and 4096.
const (
	MinBlockSize = 512
	MaxBlockSize = 65536
)

const (
	uuidSize = 16
	tailSize = 4 // checksum at the end of descriptor and revoke blocks, CSUM only
)

// Layout is how the blocks of one log are laid out; it follows from block size and
// features. Make it with NewLayout.
type Layout struct {
	BlockSize int
	Features  Incompat

	tagSize int // without the uuid
	end     int // where tags must end: block size, less the tail with CSUM
}

// NewLayout returns the layout for a block size (a power of two) and a set of features.
func NewLayout(blockSize int, features Incompat) (Layout, error) {
	if blockSize < MinBlockSize || blockSize > MaxBlockSize || blockSize&(blockSize-1) != 0 {
		return Layout{}, fmt.Errorf("%w: block size %d is not a power of two in %d..%d",
			ErrFormat, blockSize, MinBlockSize, MaxBlockSize)
	}
	if features&IncompatCsumV2 != 0 && features&IncompatCsumV3 != 0 {
		return Layout{}, fmt.Errorf("%w: features CSUM_V2 and CSUM_V3 exclude each other", ErrFormat)
	}
	l := Layout{BlockSize: blockSize, Features: features, end: blockSize}
	switch {
	case features&IncompatCsumV3 != 0:
		l.tagSize = 16
	default:
		l.tagSize = 8
		if features&Incompat64Bit != 0 {
			l.tagSize += 4
		}
		if features&IncompatCsumV2 != 0 {
			l.tagSize += 2 // never filled, but there (Linux journal_tag_bytes)
		}
	}
	if l.Checksums() {
		l.end -= tailSize
	}
	return l, nil
}

// Checksums tells whether the log's blocks carry CSUM_V2 or CSUM_V3 checksums.
func (l Layout) Checksums() bool { return l.Features&(IncompatCsumV2|IncompatCsumV3) != 0 }

// TagSize is the size of a tag in bytes, without the uuid of the first one.
func (l Layout) TagSize() int { return l.tagSize }

// TagsPerDescriptor is how many tags a descriptor block holds when only the first
// one carries a uuid.
func (l Layout) TagsPerDescriptor() int {
	return (l.end - HeaderSize - uuidSize) / l.tagSize
}

// LogBlocks is how many log blocks a transaction of n images takes: images,
// descriptors and the commit block.
func (l Layout) LogBlocks(n int) int {
	per := l.TagsPerDescriptor()
	return n + (n+per-1)/per + 1
}

// wide tells whether block numbers have 64 bits in tags and revoke records.
func (l Layout) wide() bool { return l.Features&Incompat64Bit != 0 }
