package ondisk

import "fmt"

const (
	direntHeader = 12
	// MinDirRec is the smallest rec_len: a one-byte name.
	MinDirRec = 16
	// DotRecLen is the rec_len of ".": ".." starts right behind it.
	DotRecLen = 16
	// DirTrailerSize is the size of the trailer at a directory block's end.
	DirTrailerSize = trailerSize
)

// DirRecLen is the space an entry with a name of n bytes needs (REC_LEN).
func DirRecLen(n int) int { return (n + direntHeader + 3) &^ 3 }

// DirEntry is a directory entry; the view begins at the entry and, from
// [DirIter], spans its rec_len. OCFS2 format: struct ocfs2_dir_entry.
type DirEntry []byte

// Inode is the inode number, 0 for a free entry.
func (e DirEntry) Inode() uint64     { return get64(e, 0) }
func (e DirEntry) SetInode(v uint64) { put64(e, 0, v) }

// RecLen is the distance to the next entry in bytes.
func (e DirEntry) RecLen() uint16     { return get16(e, 8) }
func (e DirEntry) SetRecLen(v uint16) { put16(e, 8, v) }

// NameLen is the length of the name in bytes.
func (e DirEntry) NameLen() uint8     { return e[0x0A] }
func (e DirEntry) SetNameLen(v uint8) { e[0x0A] = v }

// FileType is an FT* value.
func (e DirEntry) FileType() uint8     { return e[0x0B] }
func (e DirEntry) SetFileType(v uint8) { e[0x0B] = v }

// Name is the name, not NUL terminated; it aliases the block.
func (e DirEntry) Name() []byte {
	return window(e, direntHeader, direntHeader+int(e.NameLen()))
}

// Used is the space the entry itself needs: 0 for a free entry.
func (e DirEntry) Used() int {
	if e.Inode() == 0 {
		return 0
	}
	return DirRecLen(int(e.NameLen()))
}

// Set writes inode, name and file type; rec_len stays.
func (e DirEntry) Set(inode uint64, name string, fileType uint8) {
	put64(e, 0, inode)
	e[0x0A] = uint8(len(name))
	e[0x0B] = fileType
	copy(e[direntHeader:], name)
}

// DirIter walks the entries that tile an area (a directory block without its
// trailer, or inline data). It never leaves the area and always ends: each
// rec_len is validated before it is used.
//
//	it := ondisk.DirEntries(area)
//	for it.Next() {
//		e := it.Entry()
//	}
//	if err := it.Err(); err != nil { ... }
type DirIter struct {
	area []byte
	off  int // of the current entry; -1 before the first
	prev int // of the entry before it; -1 if none
	next int
	err  error
}

// DirEntries returns an iterator over area. Free entries are delivered too.
func DirEntries(area []byte) DirIter { return DirIter{area: area, off: -1, prev: -1} }

// Next advances to the next entry; false at the end or on corruption.
func (it *DirIter) Next() bool {
	if it.err != nil || it.next >= len(it.area) {
		return false
	}
	if err := checkDirent(it.area, it.next); err != nil {
		it.err = err
		return false
	}
	it.prev, it.off = it.off, it.next
	it.next += int(DirEntry(it.area[it.off:]).RecLen())
	return true
}

// Entry is the current entry, rec_len bytes long.
func (it *DirIter) Entry() DirEntry { return DirEntry(it.area[it.off:it.next:it.next]) }

// Offset is the current entry's offset in the area.
func (it *DirIter) Offset() int { return it.off }

// PrevOffset is the offset of the entry before the current one, -1 if none.
func (it *DirIter) PrevOffset() int { return it.prev }

// Err tells why the walk ended early: a [DirentError] or nil.
func (it *DirIter) Err() error { return it.err }

// DirentError is a bad directory entry at an offset of its area. It matches
// [ErrCorrupt]; callers add the block number.
type DirentError struct {
	Offset int
	Detail string
}

func (e *DirentError) Error() string {
	return fmt.Sprintf("corrupt directory entry at offset %d: %s", e.Offset, e.Detail)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *DirentError) Is(target error) bool { return target == ErrCorrupt }

// checkDirent applies the rules of Linux fs/ocfs2/dir.c
// (ocfs2_check_dir_entry) to the entry at off.
func checkDirent(area []byte, off int) error {
	left := len(area) - off
	if left < MinDirRec {
		return &DirentError{off, fmt.Sprintf("only %d bytes left in the area", left)}
	}
	e := DirEntry(area[off:])
	recLen, nameLen := int(e.RecLen()), int(e.NameLen())
	switch {
	case recLen < MinDirRec:
		return &DirentError{off, fmt.Sprintf("rec_len %d is smaller than %d", recLen, MinDirRec)}
	case recLen%4 != 0:
		return &DirentError{off, fmt.Sprintf("rec_len %d is not a multiple of 4", recLen)}
	case recLen > left:
		return &DirentError{off, fmt.Sprintf("rec_len %d crosses the area's end, %d bytes left", recLen, left)}
	case recLen < DirRecLen(nameLen):
		return &DirentError{off, fmt.Sprintf("rec_len %d is too small for a name of %d bytes", recLen, nameLen)}
	}
	return nil
}

// DirBlock is a directory data block: exactly one block.
type DirBlock []byte

// Trailer is the 64-byte trailer at the block's end; present iff the volume
// has metaecc or the directory is indexed.
func (b DirBlock) Trailer() DirTrailer { return DirTrailer(window(b, len(b)-trailerSize, len(b))) }

// Area is the part tiled by entries.
func (b DirBlock) Area(trailer bool) []byte {
	if trailer {
		return window(b, 0, len(b)-trailerSize)
	}
	return b
}

// DirTrailer is struct ocfs2_dir_block_trailer: 64 bytes that look like a free
// entry to code that does not know trailers.
type DirTrailer []byte

func (t DirTrailer) CompatInode() uint64     { return get64(t, 0x00) }
func (t DirTrailer) SetCompatInode(v uint64) { put64(t, 0x00, v) }

// CompatRecLen is always 64.
func (t DirTrailer) CompatRecLen() uint16     { return get16(t, 0x08) }
func (t DirTrailer) SetCompatRecLen(v uint16) { put16(t, 0x08, v) }
func (t DirTrailer) CompatNameLen() uint8     { return t[0x0A] }

// FreeRecLen is the largest hole of the block, 0 when below 16 or when the
// directory is not indexed.
func (t DirTrailer) FreeRecLen() uint16     { return get16(t, 0x0E) }
func (t DirTrailer) SetFreeRecLen(v uint16) { put16(t, 0x0E, v) }

// HasSignature reports whether the trailer's signature is right.
func (t DirTrailer) HasSignature() bool {
	return len(t) >= trailerSize && string(t[0x10:0x18]) == SigDirTrailer
}

// FreeNext is the next block of the directory's free list or 0.
func (t DirTrailer) FreeNext() uint64         { return get64(t, 0x20) }
func (t DirTrailer) SetFreeNext(v uint64)     { put64(t, 0x20, v) }
func (t DirTrailer) Blkno() uint64            { return get64(t, 0x28) }
func (t DirTrailer) SetBlkno(v uint64)        { put64(t, 0x28, v) }
func (t DirTrailer) ParentDinode() uint64     { return get64(t, 0x30) }
func (t DirTrailer) SetParentDinode(v uint64) { put64(t, 0x30, v) }

// Init zeroes the trailer and writes its constant fields, own block and
// directory inode.
func (t DirTrailer) Init(blkno, dir uint64) {
	clear(t)
	t.SetCompatRecLen(trailerSize)
	copy(t[0x10:], SigDirTrailer)
	t.SetBlkno(blkno)
	t.SetParentDinode(dir)
}

// LargestHole is the db_free_rec_len a block with this entry area must have:
// its largest free space, 0 when that is too small for any entry. The error is
// that of the iteration.
func LargestHole(area []byte) (int, error) {
	best := 0
	it := DirEntries(area)
	for it.Next() {
		e := it.Entry()
		best = max(best, int(e.RecLen())-e.Used())
	}
	if best < MinDirRec {
		best = 0
	}
	return best, it.Err()
}
