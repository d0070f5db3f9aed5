package wire

import "encoding/binary"

// NamesBufSize is the rc_buf size of the kernel's NAMES_REPLY, whatever it holds (h_length 4072).
const NamesBufSize = MaxInner - RcomSize

const (
	namesMore = 0      // terminator: end of this buffer, more to come
	namesEnd  = 0xFFFF // terminator: end of all names
)

// NamesRoom is what one more name of n bytes needs in a NAMES_REPLY, the terminator that must still fit included.
func NamesRoom(n int) int { return 2 + n + 2 }

// AppendName appends one entry (16-bit big-endian length, name) of a NAMES_REPLY. The caller keeps NamesRoom.
func AppendName(dst, name []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(name)))
	return append(dst, name...)
}

// AppendNamesEnd terminates the list: last says that no names follow in a further reply.
func AppendNamesEnd(dst []byte, last bool) []byte {
	t := uint16(namesMore)
	if last {
		t = namesEnd
	}
	return binary.BigEndian.AppendUint16(dst, t)
}

// NamesCursor walks the names in the payload of a NAMES_REPLY. What follows the terminator (the kernel's zero fill)
// is not looked at.
type NamesCursor struct {
	buf  []byte
	off  int
	last bool
}

// NewNamesCursor returns a cursor at the beginning of buf, the rc_buf of a NAMES_REPLY.
func NewNamesCursor(buf []byte) NamesCursor { return NamesCursor{buf: buf} }

// Next returns the next name, which aliases the payload, or nil at the terminator; Last is valid then. A name longer
// than 64 bytes, one that does not fit, or a missing terminator is an error.
func (c *NamesCursor) Next() ([]byte, error) {
	if len(c.buf)-c.off < 2 {
		return nil, bad(ErrShort, "names", "terminator", c.off, 2, int64(len(c.buf)-c.off))
	}
	n := int(binary.BigEndian.Uint16(c.buf[c.off:]))
	switch {
	case n == namesMore:
		return nil, nil
	case n == namesEnd:
		c.last = true
		return nil, nil
	case n > ResNameMax:
		return nil, bad(ErrLength, "names", "name length", c.off, ResNameMax, int64(n))
	case n > len(c.buf)-c.off-2:
		return nil, bad(ErrShort, "names", "name", c.off+2, int64(n), int64(len(c.buf)-c.off-2))
	}
	name := c.buf[c.off+2 : c.off+2+n : c.off+2+n]
	c.off += 2 + n
	return name, nil
}

// Last reports, once Next returned nil without error, whether the list is complete; otherwise NAMES must be sent
// again with the last name as its payload.
func (c *NamesCursor) Last() bool { return c.last }
