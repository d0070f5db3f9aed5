package blockdev

// zeroChunk is the size of one write of zeros.
const zeroChunk = 1 << 20

// zeros is read-only: every writer shares it.
var zeros = AlignedBuf(zeroChunk)

// ZeroRange makes [off, off+n) of dev read as zeros, without moving zeros where
// the device can (Zeroer), else by writing them. Durability as for WriteAt.
func ZeroRange(dev Device, off, n int64) error {
	if z, ok := dev.(Zeroer); ok {
		return z.ZeroRange(off, n)
	}
	return writeZeros(dev, off, n)
}

// Discard tells dev that [off, off+n) holds nothing of value; a device that
// cannot use the hint ignores it.
func Discard(dev Device, off, n int64) error {
	if z, ok := dev.(Zeroer); ok {
		return z.Discard(off, n)
	}
	return nil
}

// writeZeros writes n zeros at off, in chunks.
func writeZeros(dev Device, off, n int64) error {
	for n > 0 {
		k := min(n, zeroChunk)
		if _, err := dev.WriteAt(zeros[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}
