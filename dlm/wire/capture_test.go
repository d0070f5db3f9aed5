package wire

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sort"
)

// A small pcap reader and TCP reassembler: enough for Ethernet/raw/cooked IPv4 captures without lost packets.

// captured is one message of a capture.
type captured struct {
	at       float64 // seconds since the first packet
	from, to byte    // last byte of the IP addresses, the nodes
	frame    []byte
}

type segment struct {
	at       float64
	src, dst string // "ip:port", 6 bytes
	seq      uint32
	flags    byte
	data     []byte
}

// half is one direction of one connection.
type half struct {
	next   uint32            // next TCP sequence number
	late   map[uint32][]byte // segments that do not fit yet
	framer Framer
}

// add takes a segment and returns the bytes that are in order now.
func (h *half) add(seq uint32, data []byte) (out []byte) {
	if len(data) > len(h.late[seq]) && int32(seq-h.next)+int32(len(data)) > 0 {
		h.late[seq] = data
	}
	for {
		var keys []uint32
		for k := range h.late {
			keys = append(keys, k)
		}
		sort.Slice(keys, func(i, j int) bool { return int32(keys[i]-h.next) < int32(keys[j]-h.next) })
		if len(keys) == 0 || int32(keys[0]-h.next) > 0 {
			return out
		}
		d := h.late[keys[0]]
		delete(h.late, keys[0])
		if skip := int(int32(h.next - keys[0])); skip < len(d) {
			out = append(out, d[skip:]...)
			h.next = keys[0] + uint32(len(d))
		}
	}
}

func readPcap(path string) ([]segment, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	d, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	if len(d) < 24 || !bytes.Contains([]byte("\xd4\xc3\xb2\xa1\x4d\x3c\xb2\xa1"), d[:4]) {
		return nil, fmt.Errorf("%s: not a little-endian pcap", path)
	}
	frac := 1e6
	if d[0] == 0x4d {
		frac = 1e9
	}
	ip := map[uint32]int{1: 14, 101: 0, 113: 16, 276: 20}[le.Uint32(d[20:])]
	var out []segment
	for p := 24; p+16 <= len(d); {
		at := float64(le.Uint32(d[p:])) + float64(le.Uint32(d[p+4:]))/frac
		n := int(le.Uint32(d[p+8:]))
		p += 16
		if n == 0 || p+n > len(d) {
			break
		}
		if s, ok := tcpSegment(d[p+ip : p+n]); ok {
			s.at = at
			out = append(out, s)
		}
		p += n
	}
	return out, nil
}

func tcpSegment(b []byte) (segment, bool) {
	if len(b) < 40 || b[0]>>4 != 4 || b[9] != 6 {
		return segment{}, false
	}
	t := b[int(b[0]&15)*4 : binary.BigEndian.Uint16(b[2:])]
	return segment{
		src: string(b[12:16]) + string(t[0:2]), dst: string(b[16:20]) + string(t[2:4]),
		seq: binary.BigEndian.Uint32(t[4:]), flags: t[13], data: t[int(t[12]>>4)*4:],
	}, true
}

// readCapture returns every complete DLM message of a capture in the order it was complete.
func readCapture(path string) ([]captured, error) {
	segs, err := readPcap(path)
	if err != nil {
		return nil, err
	}
	halves := map[string]*half{}
	var out []captured
	for _, s := range segs {
		key := s.src + s.dst
		if s.flags&2 != 0 { // SYN: a new connection, unless a repeated one
			if h := halves[key]; h == nil || h.next != s.seq+1 {
				halves[key] = &half{next: s.seq + 1, late: map[uint32][]byte{}}
			}
			continue
		}
		h := halves[key]
		if h == nil {
			h = &half{next: s.seq, late: map[uint32][]byte{}}
			halves[key] = h
		}
		for in := h.add(s.seq, s.data); len(in) > 0; {
			var frame []byte
			if frame, in, err = h.framer.Next(in); err != nil {
				return nil, fmt.Errorf("%s at %f: %w", path, s.at-segs[0].at, err)
			}
			if frame != nil {
				out = append(out, captured{s.at - segs[0].at, s.src[3], s.dst[3], bytes.Clone(frame)})
			}
		}
	}
	return out, nil
}
