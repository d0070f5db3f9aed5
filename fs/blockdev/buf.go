package blockdev

import (
	"math/bits"
	"sync"
	"unsafe"
)

// BufAlign is the alignment in bytes of memory from AlignedBuf and GetBuf: a page,
// which satisfies O_DIRECT on every device.
const BufAlign = 4096

const (
	minClass   = 12 // 4 KiB
	maxClass   = 22 // 4 MiB
	numClasses = maxClass - minClass + 1
)

// bufPools holds one pool per power of two from 4 KiB to 4 MiB. A pool stores the
// pointer to the first byte, which unlike a slice goes into an interface without
// an allocation.
var bufPools [numClasses]sync.Pool

// AlignedBuf allocates n zero bytes that begin on a BufAlign boundary.
func AlignedBuf(n int) []byte {
	if n <= 0 {
		return nil
	}
	if n&(BufAlign-1) == 0 { // the runtime aligns such sizes itself, without a second page
		if b := make([]byte, n); aligned(b, BufAlign) {
			return b
		}
	}
	b := make([]byte, n+BufAlign-1)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (BufAlign - 1))
	return b[skip : skip+n : skip+n]
}

// class returns the pool index for a buffer of n bytes, or -1 if n is too large.
func class(n int) int {
	if n <= 1<<minClass {
		return 0
	}
	if n > 1<<maxClass {
		return -1
	}
	return bits.Len(uint(n-1)) - minClass
}

// GetBuf returns n bytes of aligned memory with undefined contents, from a pool
// where n is at most 4 MiB. Give it back with PutBuf.
func GetBuf(n int) []byte {
	c := class(n)
	if c < 0 {
		return AlignedBuf(n)
	}
	if p, ok := bufPools[c].Get().(*byte); ok {
		return unsafe.Slice(p, 1<<(c+minClass))[:n]
	}
	return AlignedBuf(1 << (c + minClass))[:n]
}

// PutBuf returns memory of GetBuf to its pool. The slice must begin where GetBuf's
// did, and nobody may use it afterwards. Other memory is left to the collector.
func PutBuf(b []byte) {
	n := cap(b)
	c := class(n)
	if c < 0 || n != 1<<(c+minClass) || !aligned(b[:n], BufAlign) {
		return
	}
	bufPools[c].Put(unsafe.SliceData(b[:n]))
}

// aligned tells whether b begins on a multiple of align (a power of two).
func aligned(b []byte, align uintptr) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))&(align-1) == 0
}
