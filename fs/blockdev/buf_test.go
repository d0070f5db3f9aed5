package blockdev

import (
	"runtime"
	"testing"
)

// TestAlignedBufOnePage: a block costs its own size, not the size of its
// alignment in addition: the metadata cache is made of them.
func TestAlignedBufOnePage(t *testing.T) {
	const n = 1000
	keep := make([][]byte, n)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range keep {
		keep[i] = AlignedBuf(4096)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > n*4096*5/4 {
		t.Errorf("%d bytes allocated for %d", used, n*4096)
	}
	for _, size := range []int{1, 512, 4095, 4096, 4097, 8192, 12288, 20480, 36864, 1 << 20} {
		for range 20 {
			if b := AlignedBuf(size); len(b) != size || !aligned(b, BufAlign) {
				t.Fatalf("%d bytes of %d at %p", len(b), size, b)
			}
		}
	}
	runtime.KeepAlive(keep)
}
