package wire

import "testing"

// TestGlobalID: ids of public lockspace names; the last one was seen on the wire.
func TestGlobalID(t *testing.T) {
	for name, want := range map[string]uint32{
		"clvmd": 0x4104eefa, "ocfs2test": 0x471259bf, "testls": 0xe5adef01, "lvm_global": 0x12aabd2d,
		"lvm_vg0": 0x28882963, "dlmtest": 0x4344969f, "gfs2vol": 0x525f3a0c,
		"632A924FDD844190BDA93C0DF6B94899": 0xa76a94b7, "8B8BF6BED25A4BADBEB09282C25E1558": 0x19de3180,
	} {
		if have := GlobalID(name); have != want {
			t.Errorf("%s: 0x%08x, want 0x%08x", name, have, want)
		}
	}
}

// TestResourceHash: the public lookup3 check values, and hashes with their directory nodes for three memberships.
func TestResourceHash(t *testing.T) {
	fs := []byte("Four score and seven years ago")
	if h := hashLittle(fs, 1); h != 0xcd628161 {
		t.Errorf("initval 1: 0x%08x, want 0xcd628161", h)
	}
	x64 := make([]byte, 64)
	for i := range x64 {
		x64[i] = 'x'
	}
	bin := make([]byte, 24)
	for i := range bin {
		bin[i] = byte(i)
	}
	a := NodeArray(nil, []Weight{{1, 1}, {2, 1}})
	b := NodeArray(nil, []Weight{{1, 1}, {2, 1}, {3, 1}})
	c := NodeArray(nil, []Weight{{1, 1}, {3, 2}, {5, 1}})
	for _, v := range []struct {
		name    string
		hash    uint32
		a, b, c uint32
	}{
		{"a", 0x58d68708, 1, 3, 3}, {"A", 0x01014ba1, 2, 3, 3}, {"res1", 0xe53e60eb, 1, 1, 3},
		{"res2", 0x6945e3ed, 2, 1, 3}, {"res3", 0xe1363859, 1, 1, 3}, {"testres", 0x9162d200, 1, 1, 3},
		{"version_lock", 0x8d9c554a, 1, 1, 1}, {"clvmd", 0xf7c2a9a1, 1, 1, 3}, {"VG_data", 0xd0facc96, 1, 3, 3},
		{"thirteenbytes", 0x42ec6563, 1, 3, 1}, {"M000000000000000000000500000000", 0x00697453, 2, 1, 3},
		{"W0000000000000000000052d4f7b1a2", 0xc00eddf0, 1, 3, 3},
		{"S000000000000000000000200000000", 0xb7dced95, 1, 2, 1}, {string(fs), 0x17770551, 2, 2, 5},
		{string(x64), 0x136c983a, 1, 2, 1}, {string(bin), 0x9c0add53, 1, 2, 3}, {"", 0xdeadbeef, 2, 2, 5},
	} {
		h := ResourceHash([]byte(v.name))
		if h != v.hash {
			t.Errorf("%q: 0x%08x, want 0x%08x", v.name, h, v.hash)
		}
		if v.name == "" {
			continue // no resource has an empty name
		}
		if x, y, z := DirNode(a, h), DirNode(b, h), DirNode(c, h); x != v.a || y != v.b || z != v.c {
			t.Errorf("%q: directory %d %d %d, want %d %d %d", v.name, x, y, z, v.a, v.b, v.c)
		}
	}
}

func TestNodeArray(t *testing.T) {
	for _, c := range []struct {
		in   []Weight
		want []uint32
	}{
		{nil, nil},
		{[]Weight{{4, 0}}, []uint32{4}},
		{[]Weight{{4, 3}}, []uint32{4, 4, 4}},
		{[]Weight{{1, 0}, {2, 0}}, []uint32{1, 2}},            // all 0: every member once
		{[]Weight{{1, 0}, {2, 1}, {7, 2}}, []uint32{2, 7, 7}}, // 0 among others: left out
	} {
		have := NodeArray(nil, c.in)
		if len(have) != len(c.want) {
			t.Errorf("%v: %v, want %v", c.in, have, c.want)
			continue
		}
		for i := range have {
			if have[i] != c.want[i] {
				t.Errorf("%v: %v, want %v", c.in, have, c.want)
			}
		}
	}
	if DirNode(nil, 5) != 0 || DirNode([]uint32{9}, 0xffffffff) != 9 {
		t.Error("DirNode of none or one node")
	}
}

func BenchmarkResourceHash31(b *testing.B) {
	name := []byte("M000000000000000000000500000000")
	for b.Loop() {
		ResourceHash(name)
	}
}
