package capture

import (
	"encoding/binary"
	"fmt"
	"io"
	"sort"
	"time"
)

// Of struct dlm_header, as in package wire, which this package does not import so that its tests may use it.
const (
	headerSize = 16
	lengthAt   = 12 // h_length, 16 bits, little-endian
	maxFrame   = 4096
)

// Frame is one message of a capture, wrapped or bare.
type Frame struct {
	At       time.Duration // since the first packet, when its last byte was seen
	From, To Addr
	Conn     int // number of the TCP connection, from 1
	Data     []byte
}

// Read returns every complete DLM message of a capture in the order it was complete. Only connections with port on
// one side are looked at. A stream that is no DLM stream is an error.
func Read(r io.Reader, port uint16) ([]Frame, error) {
	c := collector{port: port, halves: map[[2]endpoint]*half{}}
	err := readSegments(r, c.segment)
	return c.frames, err
}

// half is one direction of one connection.
type half struct {
	conn int
	next uint32            // next TCP sequence number
	late map[uint32][]byte // segments that do not fit yet
	buf  []byte            // bytes in order that are no whole message yet
}

type collector struct {
	port   uint16
	conns  int
	halves map[[2]endpoint]*half
	frames []Frame
}

func (c *collector) segment(s segment) error {
	if s.src.port != c.port && s.dst.port != c.port {
		return nil
	}
	h := c.half(s)
	if h == nil {
		return nil
	}
	h.buf = append(h.buf, h.add(s.seq, s.data)...)
	for len(h.buf) >= headerSize {
		n := int(binary.LittleEndian.Uint16(h.buf[lengthAt:]))
		if n < headerSize || n > maxFrame {
			return fmt.Errorf("%w: at %v, connection %d, %v to %v: h_length %d is not in %d..%d", ErrFormat, s.at, h.conn,
				s.src.addr, s.dst.addr, n, headerSize, maxFrame)
		}
		if len(h.buf) < n {
			break
		}
		c.frames = append(c.frames, Frame{At: s.at, From: s.src.addr, To: s.dst.addr, Conn: h.conn, Data: h.buf[:n:n]})
		h.buf = h.buf[n:]
	}
	return nil
}

// half finds the direction of a segment; a SYN begins a new one and has no data (nil).
func (c *collector) half(s segment) *half {
	key, back := [2]endpoint{s.src, s.dst}, [2]endpoint{s.dst, s.src}
	h := c.halves[key]
	if s.flags&flagSyn == 0 {
		if h == nil {
			h = c.begin(key, back, s.seq)
		}
		return h
	}
	if h == nil || h.next != s.seq+1 { // else a repeated SYN
		if h != nil {
			delete(c.halves, back)
		}
		c.begin(key, back, s.seq+1)
	}
	return nil
}

func (c *collector) begin(key, back [2]endpoint, next uint32) *half {
	h := &half{next: next, late: map[uint32][]byte{}}
	if o := c.halves[back]; o != nil {
		h.conn = o.conn
	} else {
		c.conns++
		h.conn = c.conns
	}
	c.halves[key] = h
	return h
}

// add takes a segment and returns the bytes that are in order now.
func (h *half) add(seq uint32, data []byte) (out []byte) {
	if len(data) > len(h.late[seq]) && int32(seq-h.next)+int32(len(data)) > 0 {
		h.late[seq] = data
	}
	for len(h.late) > 0 {
		keys := make([]uint32, 0, len(h.late))
		for k := range h.late {
			keys = append(keys, k)
		}
		sort.Slice(keys, func(i, j int) bool { return int32(keys[i]-h.next) < int32(keys[j]-h.next) })
		if int32(keys[0]-h.next) > 0 {
			break
		}
		d := h.late[keys[0]]
		delete(h.late, keys[0])
		if skip := int(h.next - keys[0]); skip < len(d) {
			out = append(out, d[skip:]...)
			h.next = keys[0] + uint32(len(d))
		}
	}
	return out
}
