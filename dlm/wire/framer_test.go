package wire

import (
	"bytes"
	"errors"
	"math/rand"
	"testing"
)

// feed gives the framer one piece of the stream and appends what it yields.
func feed(f *Framer, in []byte, got *[][]byte) error {
	for {
		frame, rest, err := f.Next(in)
		if frame == nil {
			return err
		}
		*got = append(*got, bytes.Clone(frame))
		in = rest
	}
}

// TestFramerCuts: however the stream is cut, the same messages come out.
func TestFramerCuts(t *testing.T) {
	var stream []byte
	want := readFrames(t, "testdata/kernel.txt")
	for _, n := range want {
		stream = append(stream, n.frame...)
	}
	sizes := []int{1, 2, 3, 15, 16, 17, 31, 100, 1448, 4095, 4096, 4097, len(stream)}
	rng := rand.New(rand.NewSource(1))
	for round := range 60 {
		var f Framer
		var got [][]byte
		for in := stream; len(in) > 0; {
			n := 1 + rng.Intn(300)
			if round < len(sizes) {
				n = sizes[round]
			}
			n = min(n, len(in))
			if err := feed(&f, in[:n], &got); err != nil {
				t.Fatal(err)
			}
			in = in[n:]
		}
		if f.Held() != 0 || len(got) != len(want) {
			t.Fatalf("round %d: %d messages, %d bytes held, want %d messages", round, len(got), f.Held(), len(want))
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i].frame) {
				t.Fatalf("round %d: message %d differs", round, i)
			}
		}
	}
}

// TestFramerBadLength: 15 and 4097 are refused, at once or split, and the error stays; 16 and 4096 pass.
func TestFramerBadLength(t *testing.T) {
	for _, c := range []struct {
		length uint16
		ok     bool
	}{{0, false}, {15, false}, {16, true}, {4096, true}, {4097, false}, {65535, false}} {
		h := Header{Length: c.length}
		in := append(h.Append(nil), make([]byte, 4080)...)
		for _, cut := range []int{0, 1, 12, 15, 16} {
			var f Framer
			var got [][]byte
			whole := in
			if c.ok {
				whole = in[:c.length]
			}
			err := feed(&f, whole[:cut], &got)
			if err == nil {
				err = feed(&f, whole[cut:], &got)
			}
			if c.ok {
				if err != nil || len(got) != 1 {
					t.Errorf("length %d cut at %d: %d messages, %v", c.length, cut, len(got), err)
				}
				continue
			}
			if !errors.Is(err, ErrLength) || len(got) != 0 {
				t.Errorf("length %d cut at %d: %d messages, %v", c.length, cut, len(got), err)
			}
			if _, _, again := f.Next(in); again != err {
				t.Errorf("length %d: error forgotten: %v", c.length, again)
			}
			if f.Reset(); feed(&f, AppendAck(nil, 1, 1), &got) != nil || len(got) != 1 {
				t.Errorf("length %d: Reset does not help", c.length)
			}
		}
	}
}

// FuzzFramer: no panic, at most one message held, and the cut does not matter.
func FuzzFramer(f *testing.F) {
	for _, n := range readFrames(f, "testdata/kernel.txt") {
		f.Add(n.frame, uint16(7))
	}
	f.Fuzz(func(t *testing.T, stream []byte, cut uint16) {
		var one, two Framer
		var a, b [][]byte
		errA := feed(&one, stream, &a)
		var errB error
		for in := stream; len(in) > 0 && errB == nil; {
			n := min(1+int(cut), len(in))
			errB = feed(&two, in[:n], &b)
			in = in[n:]
		}
		if (errA == nil) != (errB == nil) || len(a) != len(b) || one.Held() > MaxFrame {
			t.Fatalf("%d messages (%v) in one piece, %d (%v) in pieces of %d", len(a), errA, len(b), errB, cut+1)
		}
		for i := range a {
			if !bytes.Equal(a[i], b[i]) {
				t.Fatalf("message %d differs", i)
			}
		}
	})
}
