package format

import "fmt"

// TagFlags is t_flags.
type TagFlags uint16

// The flags of a tag.
const (
	FlagEscape   TagFlags = 0x1 // the image began with Magic; the log copy has zeros there
	FlagSameUUID TagFlags = 0x2 // no uuid follows the tag
	FlagDeleted  TagFlags = 0x4 // never written, ignored (as Linux does)
	FlagLast     TagFlags = 0x8 // last tag of the descriptor
)

// Tag says where the image that follows in the log belongs.
//
//	without CSUM_V3                      with CSUM_V3
//	00 t_blocknr                         00 t_blocknr
//	04 t_checksum u16 (CSUM_V2)          04 t_flags u32
//	06 t_flags u16                       08 t_blocknr_high
//	08 t_blocknr_high (64BIT)            0C t_checksum
//	   [2 bytes unused (CSUM_V2)]
//	then 16 bytes uuid unless SAME_UUID
type Tag struct {
	Blkno    uint64
	Flags    TagFlags
	Checksum uint32 // CSUM_V3: 32 bits; CSUM_V2: 16 bits; else 0
}

// DescriptorWriter fills a descriptor block. Reset it for each block.
type DescriptorWriter struct {
	l    Layout
	buf  []byte
	off  int
	last int // offset of the last tag; 0: none
}

// Reset starts a descriptor of transaction seq in buf, which has the layout's
// block size and is zeroed here.
func (w *DescriptorWriter) Reset(l Layout, buf []byte, seq uint32) {
	clear(buf[:l.BlockSize])
	PutHeader(buf, Header{Type: TypeDescriptor, Sequence: seq})
	*w = DescriptorWriter{l: l, buf: buf[:l.BlockSize], off: HeaderSize}
}

// Add appends a tag. FlagSameUUID is set as needed: the first tag has none and is
// followed by 16 zero bytes, as Linux writes it. It returns false if the block is
// full. The caller keeps block numbers of 2^32 and more away from logs without 64BIT.
func (w *DescriptorWriter) Add(t Tag) bool {
	need := w.l.tagSize
	if w.last == 0 {
		need += uuidSize
		t.Flags &^= FlagSameUUID
	} else {
		t.Flags |= FlagSameUUID
	}
	if w.off+need > w.l.end {
		return false
	}
	w.putTag(w.off, t)
	w.last = w.off
	w.off += need
	return true
}

// putTag encodes t at offset off.
func (w *DescriptorWriter) putTag(off int, t Tag) {
	b := w.buf[off:]
	be.PutUint32(b, uint32(t.Blkno))
	if w.l.Features&IncompatCsumV3 != 0 {
		be.PutUint32(b[4:], uint32(t.Flags))
		if w.l.wide() {
			be.PutUint32(b[8:], uint32(t.Blkno>>32))
		}
		be.PutUint32(b[12:], t.Checksum)
		return
	}
	be.PutUint16(b[4:], uint16(t.Checksum))
	be.PutUint16(b[6:], uint16(t.Flags))
	if w.l.wide() {
		be.PutUint32(b[8:], uint32(t.Blkno>>32))
	}
}

// Finish marks the last tag. With checksums SealBlock comes after it.
func (w *DescriptorWriter) Finish() {
	if w.last == 0 {
		return
	}
	at := 7 // low byte of t_flags, in both forms: 04+3 and 06+1
	w.buf[w.last+at] |= byte(FlagLast)
}

// AppendTags decodes the tags of descriptor block b and appends them to dst. The
// list ends at LAST_TAG, or where the block has no room for another tag.
func (l Layout) AppendTags(dst []Tag, b []byte) ([]Tag, error) {
	h, ok := ParseHeader(b)
	if !ok || h.Type != TypeDescriptor || len(b) < l.BlockSize {
		return dst, fmt.Errorf("%w: not a descriptor (%d bytes, %v)", ErrFormat, len(b), h.Type)
	}
	for off := HeaderSize; off+l.tagSize <= l.end; {
		t := l.tag(b[off:])
		dst = append(dst, t)
		off += l.tagSize
		if t.Flags&FlagSameUUID == 0 {
			off += uuidSize
		}
		if t.Flags&FlagLast != 0 {
			break
		}
	}
	return dst, nil
}

// tag decodes the tag at the start of b, which has tagSize bytes at least.
func (l Layout) tag(b []byte) Tag {
	t := Tag{Blkno: uint64(be.Uint32(b))}
	if l.Features&IncompatCsumV3 != 0 {
		t.Flags = TagFlags(be.Uint32(b[4:]))
		t.Checksum = be.Uint32(b[12:])
	} else {
		t.Flags = TagFlags(be.Uint16(b[6:]))
		if l.Features&IncompatCsumV2 != 0 {
			t.Checksum = uint32(be.Uint16(b[4:]))
		}
	}
	if l.wide() {
		t.Blkno |= uint64(be.Uint32(b[8:])) << 32
	}
	return t
}

// Escaped tells whether the log copy of image needs escaping: it begins with Magic.
func Escaped(image []byte) bool { return be.Uint32(image) == Magic }

// Escape zeroes the first four bytes of an image that begins with Magic.
func Escape(image []byte) { be.PutUint32(image, 0) }

// Unescape puts Magic back at the start of an escaped image.
func Unescape(image []byte) { be.PutUint32(image, Magic) }
