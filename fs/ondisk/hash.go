package ondisk

// UUIDHash is s_uuid_hash of a uuid: h = (h<<5) ^ (h>>27) ^ byte.
func UUIDHash(uuid [16]byte) uint32 {
	var h uint32
	for _, b := range uuid {
		h = h<<5 ^ h>>27 ^ uint32(b)
	}
	return h
}

// CharSign says how a kernel's plain char treats name bytes of 0x80 and above:
// x86 kernels up to 6.1 and ocfs2-tools hash them as signed, kernels from 6.2
// on as unsigned. New names are hashed signed.
type CharSign bool

// The two signs.
const (
	SignedChar   CharSign = false
	UnsignedChar CharSign = true
)

// extend widens a name byte to 32 bits.
func (s CharSign) extend(c byte) uint32 {
	if s == UnsignedChar {
		return uint32(c)
	}
	return uint32(int32(int8(c)))
}

// IsASCII reports whether name hashes alike with both char signs.
func IsASCII[T ~string | ~[]byte](name T) bool {
	for i := range len(name) {
		if name[i] >= 0x80 {
			return false
		}
	}
	return true
}

// DxHash is the directory index hash of a name, signed char.
func (g *Geometry) DxHash(name string) (major, minor uint32) {
	return DxHash([4]uint32{g.DxSeed[0], g.DxSeed[1], g.DxSeed[2], g.UUIDHash}, name, SignedChar)
}

// DxHashBytes is [Geometry.DxHash] for a name in a buffer.
func (g *Geometry) DxHashBytes(name []byte) (major, minor uint32) {
	return DxHash([4]uint32{g.DxSeed[0], g.DxSeed[1], g.DxSeed[2], g.UUIDHash}, name, SignedChar)
}

// DxHashUnsigned is [Geometry.DxHash] as kernels from 6.2 on compute it: for a
// second lookup of a name that is not ASCII.
func (g *Geometry) DxHashUnsigned(name string) (major, minor uint32) {
	return DxHash([4]uint32{g.DxSeed[0], g.DxSeed[1], g.DxSeed[2], g.UUIDHash}, name, UnsignedChar)
}

// DxHash hashes a name for the directory index (Linux fs/ocfs2/dir.c,
// ocfs2_dx_dir_name_hash: the half-MD4-free TEA variant of ext3). "." and ".."
// hash to (0, 0).
func DxHash[T ~string | ~[]byte](seed [4]uint32, name T, sign CharSign) (major, minor uint32) {
	if len(name) == 1 && name[0] == '.' || len(name) == 2 && name[0] == '.' && name[1] == '.' {
		return 0, 0
	}
	buf := seed
	for pos := 0; pos < len(name); pos += 16 {
		in := dxPack(name, pos, sign)
		teaTransform(&buf, &in)
	}
	return buf[0], buf[1]
}

// dxPack turns the next 16 bytes of the name into four words, padded with the
// remaining length (str2hashbuf of Linux fs/ocfs2/dir.c).
func dxPack[T ~string | ~[]byte](name T, pos int, sign CharSign) (out [4]uint32) {
	left := len(name) - pos
	pad := uint32(left) | uint32(left)<<8
	pad |= pad << 16
	n := min(left, 16)
	for w := range out {
		val := pad
		for i := w * 4; i < min(w*4+4, n); i++ {
			val = sign.extend(name[pos+i]) + val<<8
		}
		out[w] = val
	}
	return out
}

// teaTransform is 16 rounds of TEA over the first two words of buf.
func teaTransform(buf, in *[4]uint32) {
	const delta = 0x9E3779B9
	var sum uint32
	b0, b1 := buf[0], buf[1]
	for range 16 {
		sum += delta
		b0 += (b1<<4 + in[0]) ^ (b1 + sum) ^ (b1>>5 + in[1])
		b1 += (b0<<4 + in[2]) ^ (b0 + sum) ^ (b0>>5 + in[3])
	}
	buf[0] += b0
	buf[1] += b1
}

// XattrHash is the hash of a stored xattr name (without prefix), signed char.
func (g *Geometry) XattrHash(name string) uint32 { return XattrHash(g.UUIDHash, name, SignedChar) }

// XattrHashBytes is [Geometry.XattrHash] for a name in a buffer.
func (g *Geometry) XattrHashBytes(name []byte) uint32 { return XattrHash(g.UUIDHash, name, SignedChar) }

// XattrHash hashes a stored xattr name (Linux fs/ocfs2/xattr.c,
// ocfs2_xattr_name_hash); the empty name of an ACL hashes to the seed.
func XattrHash[T ~string | ~[]byte](uuidHash uint32, name T, sign CharSign) uint32 {
	h := uuidHash
	for i := range len(name) {
		h = h<<5 ^ h>>27 ^ sign.extend(name[i])
	}
	return h
}
