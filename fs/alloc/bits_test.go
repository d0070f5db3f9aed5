package alloc

import (
	"math/rand/v2"
	"testing"
)

// naive answers bitset's questions bit by bit.
func naive(b, busy []byte, i int) bool {
	get := func(b []byte) bool { return i/8 < len(b) && b[i/8]>>(i%8)&1 != 0 }
	return get(b) || get(busy)
}

func TestBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		size := 1 + rng.IntN(40)
		b, busy := make([]byte, size), []byte(nil)
		dense := rng.IntN(4)
		for i := range b {
			b[i] = byte(rng.Uint32())
			if dense > 1 {
				b[i] |= byte(rng.Uint32()) | byte(rng.Uint32()>>8)
			}
			if dense == 3 {
				b[i] = 0xff &^ (b[i] & byte(rng.Uint32()) & byte(rng.Uint32()>>8))
			}
		}
		if rng.IntN(2) == 0 {
			busy = make([]byte, size)
			for i := range busy {
				busy[i] = byte(rng.Uint32()) & byte(rng.Uint32()>>8)
			}
		}
		from := rng.IntN(size * 8)
		to := from + rng.IntN(size*8-from+1)
		checkBits(t, bitset{b, busy}, from, to, 1+rng.IntN(20))
		n := to - from
		want := append([]byte(nil), b...)
		v := rng.IntN(2) == 0
		for i := from; i < to; i++ {
			want[i/8] &^= 1 << (i % 8)
			if v {
				want[i/8] |= 1 << (i % 8)
			}
		}
		if v {
			set(b, from, n)
		} else {
			reset(b, from, n)
		}
		if string(b) != string(want) {
			t.Fatalf("fill %d+%d %v: %x, want %x", from, n, v, b, want)
		}
	}
}

func checkBits(t *testing.T, s bitset, from, to, want int) {
	t.Helper()
	clearAt, setAt, sum := to, to, 0
	bestAt, best := 0, 0
	for i := to - 1; i >= from; i-- {
		if naive(s.b, s.busy, i) {
			setAt = i
		} else {
			clearAt = i
		}
		if naive(s.b, nil, i) {
			sum++
		}
	}
	for i := from; i < to && best < want; {
		k := i
		for k < to && k-i < want && !naive(s.b, s.busy, k) {
			k++
		}
		if k-i > best {
			bestAt, best = i, k-i
		}
		i = max(k, i+1)
	}
	if got := s.nextClear(from, to); got != clearAt {
		t.Fatalf("nextClear(%d, %d) of %x = %d, want %d", from, to, s, got, clearAt)
	}
	if got := s.nextSet(from, to); got != setAt {
		t.Fatalf("nextSet(%d, %d) of %x = %d, want %d", from, to, s, got, setAt)
	}
	if got := count(s.b, from, to-from); got != sum {
		t.Fatalf("count(%d, %d) of %x = %d, want %d", from, to-from, s.b, got, sum)
	}
	if at, n := s.run(from, to, want); at != bestAt || n != best {
		t.Fatalf("run(%d, %d, %d) of %x = %d+%d, want %d+%d", from, to, want, s, at, n, bestAt, best)
	}
}
