package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"math/rand"
	"testing"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// packet makes an Ethernet packet with a TCP segment from 10.0.0.a port pa to 10.0.0.b port pb.
func packet(a, b byte, pa, pb uint16, seq uint32, flags byte, data []byte) []byte {
	p := make([]byte, 14, 54+len(data))
	p[12] = 8
	ip := make([]byte, 20)
	ip[0], ip[9] = 0x45, 6
	binary.BigEndian.PutUint16(ip[2:], uint16(40+len(data)))
	copy(ip[12:], []byte{10, 0, 0, a, 10, 0, 0, b})
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, pa)
	binary.BigEndian.PutUint16(tcp[2:], pb)
	binary.BigEndian.PutUint32(tcp[4:], seq)
	tcp[12], tcp[13] = 5<<4, flags
	return append(append(append(p, ip...), tcp...), data...)
}

func pcap(packets [][]byte) []byte {
	out := make([]byte, 24)
	le := binary.LittleEndian
	le.PutUint32(out, 0xa1b2c3d4)
	le.PutUint32(out[20:], 1)
	for i, p := range packets {
		var h [16]byte
		le.PutUint32(h[0:], 100)
		le.PutUint32(h[4:], uint32(i))
		le.PutUint32(h[8:], uint32(len(p)))
		le.PutUint32(h[12:], uint32(len(p)))
		out = append(append(out, h[:]...), p...)
	}
	return out
}

// stream returns n frames of node and all their bytes.
func stream(node uint32, n int) (frames [][]byte, all []byte) {
	for i := range n {
		m := wire.Message{Header: wire.Header{NodeID: node}, Type: wire.MsgRequest, LkID: uint32(i), Extra: make([]byte, i%60)}
		f := m.Append(nil)
		frames, all = append(frames, f), append(all, f...)
	}
	return frames, all
}

// TestRead: segments cut anywhere, repeated, overlapping and swapped, in both directions and two connections of the
// same addresses, with TCP numbers that wrap around.
func TestRead(t *testing.T) {
	for seed := range int64(50) {
		rng := rand.New(rand.NewSource(seed))
		want, all := stream(1, 40)
		other, back := stream(2, 3)
		var ps [][]byte
		for conn := range 2 {
			isn := uint32(0xffffff00) + uint32(conn)*77777
			ps = append(ps, packet(1, 2, 5000, 21064, isn, flagSyn, nil), packet(2, 1, 21064, 5000, 9, flagSyn|0x10, nil))
			var segs [][]byte
			for p := 0; p < len(all); {
				n := min(1+rng.Intn(300), len(all)-p)
				segs = append(segs, packet(1, 2, 5000, 21064, isn+1+uint32(p), 0x18, all[p:p+n]))
				if rng.Intn(4) == 0 { // again, with a bit more or less
					q := min(len(all), max(p+n+rng.Intn(20)-10, p+1))
					segs = append(segs, packet(1, 2, 5000, 21064, isn+1+uint32(p), 0x18, all[p:q]))
				}
				p += n
			}
			for i := range segs[1:] {
				if rng.Intn(3) == 0 {
					segs[i], segs[i+1] = segs[i+1], segs[i]
				}
			}
			ps = append(append(ps, segs...), packet(2, 1, 21064, 5000, 10, 0x18, back), packet(1, 2, 5000, 22, 1, 0x18, []byte("other port")))
		}
		file := pcap(ps)
		if seed%2 == 0 {
			var z bytes.Buffer
			w := gzip.NewWriter(&z)
			_, _ = w.Write(file)
			_ = w.Close()
			file = z.Bytes()
		}
		got, err := Read(bytes.NewReader(file), 21064)
		if err != nil {
			t.Fatal(err)
		}
		check(t, got, 1, want)
		check(t, got, 2, other)
	}
}

// check compares the frames of one node, which sent want on each of two connections.
func check(t *testing.T, got []Frame, node byte, want [][]byte) {
	t.Helper()
	var n [3]int
	for _, f := range got {
		if f.From[3] != node {
			continue
		}
		if f.Conn < 1 || f.Conn > 2 || n[f.Conn] >= len(want) || !bytes.Equal(f.Data, want[n[f.Conn]]) {
			t.Fatalf("node %d, connection %d: message %d is not what was sent", node, f.Conn, n[f.Conn])
		}
		n[f.Conn]++
	}
	if n[1] != len(want) || n[2] != len(want) {
		t.Fatalf("node %d: %d and %d messages, want %d", node, n[1], n[2], len(want))
	}
}

// TestRefused: files that are no capture, and a stream that is no DLM stream.
func TestRefused(t *testing.T) {
	junk := pcap([][]byte{packet(1, 2, 5000, 21064, 1, 0x18, make([]byte, 20))})
	cut := pcap([][]byte{packet(1, 2, 5000, 21064, 1, 0x18, nil)})
	cut[24+12]++ // full length longer than captured
	link := pcap(nil)
	link[20] = 250
	for name, b := range map[string][]byte{"empty": nil, "text": []byte("hello, this is no capture at all"), "bad stream": junk,
		"cut packets": cut, "link type": link, "gzip": {0x1f, 0x8b, 1}} {
		if _, err := Read(bytes.NewReader(b), 21064); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzRead: no input brings it down.
func FuzzRead(f *testing.F) {
	_, all := stream(1, 3)
	f.Add(pcap([][]byte{packet(1, 2, 5000, 21064, 7, flagSyn, nil), packet(1, 2, 5000, 21064, 8, 0x18, all)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = Read(bytes.NewReader(b), 21064)
	})
}
