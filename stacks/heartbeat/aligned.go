package heartbeat

import "unsafe"

// aligned returns n bytes at an address that direct I/O takes.
func aligned(n int) []byte {
	const a = 4096
	p := make([]byte, n+a)
	off := -int(uintptr(unsafe.Pointer(&p[0]))) & (a - 1)
	return p[off : off+n : off+n]
}
