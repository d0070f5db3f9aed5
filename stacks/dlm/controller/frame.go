package controller

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ocfuse/ocfuse/stacks/dlm/view"
)

const (
	magic      = 0x4356464f // "OFVC"
	version    = 1
	headerLen  = 8
	maxPayload = 0xffff

	typeGreeting = 0
	typePing     = 1
	typeMessage  = 1 // plus view.Kind
)

// ErrFrame: a peer sent something that is no frame of this protocol.
var ErrFrame = errors.New("bad controller frame")

// greeting opens a connection.
type greeting struct {
	Group     string // volume uuid
	From      view.ID
	To        uint32
	PeriodMS  uint32 // heartbeat period
	Threshold uint32
}

// seal writes the header in front of payload p[headerLen:].
func seal(p []byte, typ byte) []byte {
	binary.LittleEndian.PutUint32(p, magic)
	p[4], p[5] = version, typ
	binary.LittleEndian.PutUint16(p[6:], uint16(len(p)-headerLen))
	return p
}

func appendID(p []byte, id view.ID) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(p, id.Node), id.Inc)
}

func (g *greeting) encode() []byte {
	p := appendID(make([]byte, headerLen, 64), g.From)
	p = binary.LittleEndian.AppendUint32(p, g.To)
	p = binary.LittleEndian.AppendUint32(p, g.PeriodMS)
	p = binary.LittleEndian.AppendUint32(p, g.Threshold)
	return seal(append(p, g.Group...), typeGreeting)
}

// encode makes the frame of a message. A view of 255 members and as many
// departures fits.
func encode(m *view.Message) ([]byte, error) {
	le := binary.LittleEndian
	p := appendID(make([]byte, headerLen, 128), m.From)
	p = append(p, byte(m.State))
	p = le.AppendUint64(p, m.Num)
	p = appendID(p, m.By)
	p = le.AppendUint64(p, m.Seen)
	p = appendID(p, m.About)
	if m.Kind == view.Propose || m.Kind == view.Commit {
		p = appendView(p, &m.View)
	}
	p = append(p, m.Reason...)
	if len(p)-headerLen > maxPayload {
		return nil, fmt.Errorf("%v of %d bytes does not fit a frame: %w", m.Kind, len(p), ErrFrame)
	}
	return seal(p, typeMessage+byte(m.Kind)), nil
}

func appendView(p []byte, v *view.View) []byte {
	le := binary.LittleEndian
	p = le.AppendUint64(p, v.Num)
	p = appendID(p, v.By)
	p = le.AppendUint64(p, v.Floor)
	p = le.AppendUint16(p, uint16(len(v.Members)))
	p = le.AppendUint16(p, uint16(len(v.Gone)))
	for _, id := range v.Members {
		p = appendID(p, id)
	}
	for _, g := range v.Gone {
		p = le.AppendUint64(append(appendID(p, g.ID), byte(g.How)), g.View)
	}
	return p
}

// cursor reads a payload; bad is set when it was too short.
type cursor struct {
	p   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if len(c.p) < n {
		c.bad, c.p = true, nil
		return make([]byte, n)
	}
	out := c.p[:n]
	c.p = c.p[n:]
	return out
}

func (c *cursor) u8() byte    { return c.take(1)[0] }
func (c *cursor) u16() int    { return int(binary.LittleEndian.Uint16(c.take(2))) }
func (c *cursor) u32() uint32 { return binary.LittleEndian.Uint32(c.take(4)) }
func (c *cursor) u64() uint64 { return binary.LittleEndian.Uint64(c.take(8)) }
func (c *cursor) id() view.ID { return view.ID{Node: c.u32(), Inc: c.u64()} }

// decodeGreeting reads the payload of a greeting.
func decodeGreeting(p []byte) (greeting, error) {
	c := cursor{p: p}
	g := greeting{From: c.id(), To: c.u32(), PeriodMS: c.u32(), Threshold: c.u32()}
	if c.bad {
		return g, fmt.Errorf("greeting of %d bytes: %w", len(p), ErrFrame)
	}
	g.Group = string(c.p)
	return g, nil
}

// decode reads the payload of a message of that type.
func decode(typ byte, p []byte) (view.Message, error) {
	kind := view.Kind(typ - typeMessage)
	if typ <= typeMessage || kind > view.Farewell {
		return view.Message{}, fmt.Errorf("frame type %d: %w", typ, ErrFrame)
	}
	c := cursor{p: p}
	m := view.Message{Kind: kind, From: c.id(), State: view.State(c.u8()), Num: c.u64(), By: c.id(), Seen: c.u64(), About: c.id()}
	if kind == view.Propose || kind == view.Commit {
		c.view(&m.View)
	}
	if c.bad {
		return m, fmt.Errorf("%v of %d bytes is too short: %w", kind, len(p), ErrFrame)
	}
	if len(c.p) > 0 {
		m.Reason = string(c.p)
	}
	return m, nil
}

func (c *cursor) view(v *view.View) {
	v.Num, v.By, v.Floor = c.u64(), c.id(), c.u64()
	members, gone := c.u16(), c.u16()
	if len(c.p) < members*12+gone*21 {
		c.bad = true
		return
	}
	for range members {
		v.Members = append(v.Members, c.id())
	}
	for range gone {
		v.Gone = append(v.Gone, view.Gone{ID: c.id(), How: view.How(c.u8()), View: c.u64()})
	}
}

// readFrame reads one frame; the payload is valid until the next call.
func readFrame(r io.Reader, buf *[]byte) (typ byte, payload []byte, err error) {
	var h [headerLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	if m := binary.LittleEndian.Uint32(h[:]); m != magic {
		return 0, nil, fmt.Errorf("magic %#x: the peer is no ocfuse controller: %w", m, ErrFrame)
	}
	if h[4] != version {
		return 0, nil, fmt.Errorf("the peer speaks version %d of the controller protocol, this node %d; run the same ocfuse on all nodes: %w", h[4], version, ErrFrame)
	}
	n := int(binary.LittleEndian.Uint16(h[6:]))
	if cap(*buf) < n {
		*buf = make([]byte, n)
	}
	payload = (*buf)[:n]
	_, err = io.ReadFull(r, payload)
	return h[5], payload, err
}
