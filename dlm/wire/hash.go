package wire

import (
	"hash/crc32"
	"math/bits"
)

// GlobalID returns the 32-bit id of a lockspace on the wire: CRC-32 (IEEE) over "dlm:ls:", the name and one zero
// byte. The rule is dlm_controld's; the kernel takes whatever it is told, so all nodes must use the same.
func GlobalID(name string) uint32 {
	return crc32.ChecksumIEEE(append([]byte("dlm:ls:"+name), 0))
}

// ResourceHash returns m_hash of a resource name: Bob Jenkins' lookup3 "hashlittle" over the raw bytes with initval
// 0 (Linux include/linux/jhash.h).
func ResourceHash(name []byte) uint32 { return hashLittle(name, 0) }

func hashLittle(k []byte, initval uint32) uint32 {
	a := 0xdeadbeef + uint32(len(k)) + initval
	b, c := a, a
	for len(k) > 12 {
		a += le.Uint32(k)
		b += le.Uint32(k[4:])
		c += le.Uint32(k[8:])
		a = (a - c) ^ bits.RotateLeft32(c, 4)
		c += b
		b = (b - a) ^ bits.RotateLeft32(a, 6)
		a += c
		c = (c - b) ^ bits.RotateLeft32(b, 8)
		b += a
		a = (a - c) ^ bits.RotateLeft32(c, 16)
		c += b
		b = (b - a) ^ bits.RotateLeft32(a, 19)
		a += c
		c = (c - b) ^ bits.RotateLeft32(b, 4)
		b += a
		k = k[12:]
	}
	if len(k) == 0 {
		return c
	}
	var tail [12]byte
	copy(tail[:], k)
	a += le.Uint32(tail[0:])
	b += le.Uint32(tail[4:])
	c += le.Uint32(tail[8:])
	c = (c ^ b) - bits.RotateLeft32(b, 14)
	a = (a ^ c) - bits.RotateLeft32(c, 11)
	b = (b ^ a) - bits.RotateLeft32(a, 25)
	c = (c ^ b) - bits.RotateLeft32(b, 16)
	a = (a ^ c) - bits.RotateLeft32(c, 4)
	b = (b ^ a) - bits.RotateLeft32(a, 14)
	return (c ^ b) - bits.RotateLeft32(b, 24)
}

// Weight is one member of a lockspace for the directory function.
type Weight struct {
	NodeID uint32
	Weight uint32
}

// NodeArray appends the directory array of the members to dst: ascending node ids, each repeated weight times;
// members of weight 0 are left out unless all are 0, then each counts once. members must be in ascending order of
// NodeID. (Linux fs/dlm/member.c make_member_array.)
func NodeArray(dst []uint32, members []Weight) []uint32 {
	allZero := true
	for _, m := range members {
		allZero = allZero && m.Weight == 0
	}
	for _, m := range members {
		w := m.Weight
		if allZero {
			w = 1
		}
		for ; w > 0; w-- {
			dst = append(dst, m.NodeID)
		}
	}
	return dst
}

// DirNode returns the directory node of a resource with the given hash in a lockspace whose NodeArray is array: the
// upper 16 bits of the hash select. An empty array (no members) gives 0. (Linux fs/dlm/dir.c dlm_hash2nodeid. The
// kernel takes the member itself if there is exactly one, which is what a non-empty array of one node says too.)
func DirNode(array []uint32, hash uint32) uint32 {
	switch len(array) {
	case 0:
		return 0
	case 1:
		return array[0]
	}
	return array[(hash>>16)%uint32(len(array))]
}
