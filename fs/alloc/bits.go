package alloc

import (
	"encoding/binary"
	"math/bits"
)

// bitset is a bitmap as the format has it (bit n is byte n/8, mask 1<<(n%8)) and
// an overlay of bits that are clear but must not be handed out; busy may be nil.
type bitset struct {
	b, busy []byte
}

// word returns bits [64i, 64i+64); bits behind the end are 0.
func word(b []byte, i int) uint64 {
	if off := i * 8; off+8 <= len(b) {
		return binary.LittleEndian.Uint64(b[off:])
	} else if off < len(b) {
		var tail [8]byte
		copy(tail[:], b[off:])
		return binary.LittleEndian.Uint64(tail[:])
	}
	return 0
}

// nextClear returns the first bit in [from, to) that is clear in both, else to.
func (s bitset) nextClear(from, to int) int { return s.next(from, to, ^uint64(0)) }

// nextSet returns the first bit in [from, to) that is set in either, else to.
func (s bitset) nextSet(from, to int) int { return s.next(from, to, 0) }

func (s bitset) next(from, to int, flip uint64) int {
	mask := ^uint64(0) << (from & 63)
	for i := from >> 6; i<<6 < to; i++ {
		w := word(s.b, i)
		if s.busy != nil {
			w |= word(s.busy, i)
		}
		if w = (w ^ flip) & mask; w != 0 {
			return min(to, i<<6+bits.TrailingZeros64(w))
		}
		mask = ^uint64(0)
	}
	return to
}

// run returns the first run of at least want clear bits in [from, to), of which
// it counts want, or the longest shorter one. n is 0 when all are set.
func (s bitset) run(from, to, want int) (start, n int) {
	for at := s.nextClear(from, to); at < to; {
		end := s.nextSet(at, min(to, at+want))
		if end-at > n {
			start, n = at, end-at
		}
		if n >= want {
			break
		}
		at = s.nextClear(end, to)
	}
	return start, n
}

// count returns the number of set bits in [from, from+n) of b.
func count(b []byte, from, n int) (c int) {
	for i, end := from>>6, from+n; i<<6 < end; i++ {
		w := word(b, i)
		if lo := from - i<<6; lo > 0 {
			w &= ^uint64(0) << lo
		}
		if hi := end - i<<6; hi < 64 {
			w &= 1<<hi - 1
		}
		c += bits.OnesCount64(w)
	}
	return c
}

// set and reset change bits [from, from+n) of b.
func set(b []byte, from, n int)   { fill(b, from, n, 0xff) }
func reset(b []byte, from, n int) { fill(b, from, n, 0) }

func fill(b []byte, from, n int, v byte) {
	for n > 0 {
		i, sh := from>>3, from&7
		k := min(n, 8-sh)
		if k == 8 {
			for ; n >= 8; n, from, i = n-8, from+8, i+1 {
				b[i] = v
			}
			continue
		}
		mask := byte(1<<k-1) << sh
		b[i] = b[i]&^mask | v&mask
		from, n = from+k, n-k
	}
}
