package check

import "math/bits"

// bitmap is one bit per cluster or block, 64 at a time.
type bitmap []uint64

func newBitmap(n uint64) bitmap { return make(bitmap, (n+63)/64) }

func (b bitmap) get(i uint64) bool { return b[i/64]>>(i%64)&1 != 0 }
func (b bitmap) set(i uint64)      { b[i/64] |= 1 << (i % 64) }

// setRun sets n bits from start and returns the first of them that was set
// before, and how many were.
func (b bitmap) setRun(start, n uint64) (first uint64, already uint64) {
	end := start + n
	for i := start; i < end; {
		w := i / 64
		hi := min(64, i%64+end-i)
		mask := ^uint64(0) << (i % 64)
		if hi < 64 {
			mask &= 1<<hi - 1
		}
		if old := b[w] & mask; old != 0 {
			if already == 0 {
				first = w*64 + uint64(bits.TrailingZeros64(old))
			}
			already += uint64(bits.OnesCount64(old))
		}
		b[w] |= mask
		i = (w + 1) * 64
	}
	return first, already
}

// testBit is bit n of a bitmap on disk.
func testBit(b []byte, n int) bool { return b[n/8]>>(n%8)&1 != 0 }

// setBits counts the set bits among the first n of a bitmap on disk.
func setBits(b []byte, n int) int {
	c := 0
	for _, v := range b[:n/8] {
		c += bits.OnesCount8(v)
	}
	if n%8 != 0 {
		c += bits.OnesCount8(b[n/8] & (1<<(n%8) - 1))
	}
	return c
}

// bitBeyond is the first set bit at or behind n, -1 if none.
func bitBeyond(b []byte, n int) int {
	for i := n; i < len(b)*8; i++ {
		if testBit(b, i) {
			return i
		}
	}
	return -1
}
