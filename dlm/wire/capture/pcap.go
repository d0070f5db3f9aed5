package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrFormat is returned for a file that is no capture this package can read.
var ErrFormat = errors.New("not a usable capture")

// maxPacket bounds the length of one packet, bytes.
const maxPacket = 256 << 10

// Addr is an IPv4 address.
type Addr [4]byte

// String returns the dotted form.
func (a Addr) String() string { return fmt.Sprintf("%d.%d.%d.%d", a[0], a[1], a[2], a[3]) }

// endpoint is one side of a TCP connection.
type endpoint struct {
	addr Addr
	port uint16
}

// segment is a TCP segment.
type segment struct {
	at       time.Duration // since the first packet
	src, dst endpoint
	seq      uint32
	flags    byte
	data     []byte
}

const (
	flagFin = 1
	flagSyn = 2
	flagRst = 4
)

// linkHeader is the length of the link layer's header by pcap link type.
var linkHeader = map[uint32]int{1: 14, 101: 0, 113: 16, 276: 20}

// readSegments calls f for every TCP segment of the capture.
func readSegments(r io.Reader, f func(segment) error) error {
	r, err := maybeGzip(r)
	if err != nil {
		return err
	}
	var head [24]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("%w: file header: %v", ErrFormat, err)
	}
	var order binary.ByteOrder = binary.LittleEndian
	unit := time.Microsecond
	switch m := binary.LittleEndian.Uint32(head[:]); m {
	case 0xa1b2c3d4:
	case 0xa1b23c4d:
		unit = time.Nanosecond
	case 0xd4c3b2a1:
		order = binary.BigEndian
	case 0x4d3cb2a1:
		order, unit = binary.BigEndian, time.Nanosecond
	default:
		return fmt.Errorf("%w: magic %#x is not pcap's", ErrFormat, m)
	}
	link := order.Uint32(head[20:])
	skip, ok := linkHeader[link]
	if !ok {
		return fmt.Errorf("%w: link type %d", ErrFormat, link)
	}
	return readPackets(r, order, unit, link, skip, f)
}

func maybeGzip(r io.Reader) (io.Reader, error) {
	var two [2]byte
	n, err := io.ReadFull(r, two[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	r = io.MultiReader(bytes.NewReader(two[:n]), r)
	if two != [2]byte{0x1f, 0x8b} {
		return r, nil
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	return z, nil
}

func readPackets(r io.Reader, order binary.ByteOrder, unit time.Duration, link uint32, skip int, f func(segment) error) error {
	var first time.Duration
	for n := 0; ; n++ {
		var h [16]byte
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return nil // the end, or a cut tail
		}
		at := time.Duration(order.Uint32(h[:]))*time.Second + time.Duration(order.Uint32(h[4:]))*unit
		if n == 0 {
			first = at
		}
		size, full := order.Uint32(h[8:]), order.Uint32(h[12:])
		if size == 0 {
			return nil // padding
		}
		if size < full || size > maxPacket {
			return fmt.Errorf("%w: packet %d has %d of %d bytes; capture whole packets", ErrFormat, n, size, full)
		}
		b := make([]byte, size)
		if _, err := io.ReadFull(r, b); err != nil {
			return nil
		}
		if s, ok := tcpSegment(b, link, skip); ok {
			s.at = at - first
			if err := f(s); err != nil {
				return err
			}
		}
	}
}

// tcpSegment parses a packet; ok false if it is not TCP over IPv4.
func tcpSegment(b []byte, link uint32, skip int) (s segment, ok bool) {
	if link == 1 && len(b) > 14 && b[12] == 0x81 && b[13] == 0 {
		skip += 4
	}
	if len(b) < skip+40 {
		return s, false
	}
	b = b[skip:]
	hl, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if b[0]>>4 != 4 || b[9] != 6 || hl < 20 || total > len(b) || total < hl+20 || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
		return s, false
	}
	t := b[hl:total]
	off := int(t[12]>>4) * 4
	if off < 20 || off > len(t) {
		return s, false
	}
	s.src = endpoint{Addr(b[12:16]), binary.BigEndian.Uint16(t)}
	s.dst = endpoint{Addr(b[16:20]), binary.BigEndian.Uint16(t[2:])}
	s.seq, s.flags, s.data = binary.BigEndian.Uint32(t[4:]), t[13], t[off:]
	return s, true
}
