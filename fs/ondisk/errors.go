package ondisk

import (
	"errors"
	"fmt"
)

// Kinds of errors, for errors.Is.
var (
	// ErrCorrupt: a block does not hold what its place says it holds.
	ErrCorrupt = errors.New("corrupt metadata")
	// ErrNotOCFS2: no OCFS2 superblock was found.
	ErrNotOCFS2 = errors.New("no OCFS2 superblock found")
	// ErrUnsupported: the volume uses something this implementation refuses.
	ErrUnsupported = errors.New("unsupported volume")
)

// CorruptError says which structure is bad, where, and how. It matches
// [ErrCorrupt].
type CorruptError struct {
	What   string // structure, e.g. "extent block"
	Blkno  uint64 // block number from the start of the volume
	Detail string // what is wrong: field, value found, value wanted
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("corrupt %s at block %d: %s (run fsck)", e.What, e.Blkno, e.Detail)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Corruptf builds a [CorruptError].
func Corruptf(what string, blkno uint64, format string, args ...any) error {
	return &CorruptError{What: what, Blkno: blkno, Detail: fmt.Sprintf(format, args...)}
}
