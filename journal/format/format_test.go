package format

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// golden returns a block of testdata/kernel.txt: the name, then its leading bytes
// in hex (the rest is zero), as a Linux 6.1 kernel wrote it.
func golden(t testing.TB, name string, size int) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/kernel.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			head, err := hex.DecodeString(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return append(head, make([]byte, size-len(head))...)
		}
	}
	t.Fatalf("no golden block %q", name)
	return nil
}

func layout(t testing.TB, bs int, f Incompat) Layout {
	t.Helper()
	l, err := NewLayout(bs, f)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestGoldenSuperblock(t *testing.T) {
	b := golden(t, "superblock", 1024)
	s, err := ParseSuperblock(b, 1024, 4096)
	if err != nil {
		t.Fatal(err)
	}
	want := New(1024, 4096, s.UUID, 0)
	want.Sequence, want.Start = 3, 175
	if s != want || s.UUID[0] != 0x3F || s.UUID[15] != 0x2F {
		t.Errorf("%+v", s)
	}
	out := make([]byte, 1024)
	s.Put(out)
	if !bytes.Equal(out, b) {
		t.Errorf("encoded:\n%x\nkernel:\n%x", out[:256], b[:256])
	}
}

func TestGoldenDescriptors(t *testing.T) {
	for name, c := range map[string]struct {
		features Incompat
		blknos   []uint64
	}{
		"descriptor-2":     {0, []uint64{0xF17F, 9}},
		"descriptor-64bit": {Incompat64Bit, []uint64{18, 6684, 6686, 9}},
	} {
		b, blknos := golden(t, name, 1024), c.blknos
		l := layout(t, 1024, c.features)
		tags, err := l.AppendTags(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		var got []uint64
		for _, tag := range tags {
			got = append(got, tag.Blkno)
		}
		if !slices.Equal(got, blknos) {
			t.Errorf("%s: %v", name, got)
		}
		h, _ := ParseHeader(b)
		out := make([]byte, 1024)
		var w DescriptorWriter
		w.Reset(l, out, h.Sequence)
		for _, n := range blknos {
			if !w.Add(Tag{Blkno: n}) {
				t.Fatal("descriptor is full")
			}
		}
		w.Finish()
		if !bytes.Equal(out, b) {
			t.Errorf("%s encoded:\n%x\nkernel:\n%x", name, out[:160], b[:160])
		}
	}
}

func TestGoldenCommit(t *testing.T) {
	b := golden(t, "commit", 4096)
	c, err := ParseCommit(b)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Commit{Sequence: 20, Sec: 0x6b00b4a2, Nsec: 0x1be3bb3f}); c != want {
		t.Errorf("%+v", c)
	}
	out := bytes.Repeat([]byte{0xFF}, 4096)
	c.Put(out)
	if !bytes.Equal(out, b) {
		t.Errorf("encoded %x", out[:64])
	}
}

// TestSizes: tag sizes and capacities of every variant (Linux journal_tag_bytes).
func TestSizes(t *testing.T) {
	for _, c := range []struct {
		bs        int
		f         Incompat
		tag, tags int
	}{
		{512, 0, 8, 60}, {1024, 0, 8, 124}, {4096, 0, 8, 508}, {4096, Incompat64Bit, 12, 339},
		{4096, IncompatCsumV2, 10, 406}, {4096, IncompatCsumV2 | Incompat64Bit, 14, 290},
		{4096, IncompatCsumV3, 16, 254}, {4096, IncompatCsumV3 | Incompat64Bit, 16, 254},
	} {
		l := layout(t, c.bs, c.f)
		if l.TagSize() != c.tag || l.TagsPerDescriptor() != c.tags {
			t.Errorf("%d %v: tags of %d bytes, %d in a descriptor; want %d, %d", c.bs, c.f, l.TagSize(), l.TagsPerDescriptor(), c.tag, c.tags)
		}
		if got, want := l.LogBlocks(c.tags+1), c.tags+1+2+1; got != want {
			t.Errorf("LogBlocks is %d, want %d", got, want)
		}
	}
	if layout(t, 512, 0).LogBlocks(0) != 1 {
		t.Error("a transaction without images takes its commit block only")
	}
	for _, bs := range []int{0, 256, 1000, 1 << 17, -512} {
		if _, err := NewLayout(bs, 0); !errors.Is(err, ErrFormat) {
			t.Errorf("block size %d accepted", bs)
		}
	}
	if _, err := NewLayout(4096, IncompatCsumV2|IncompatCsumV3); !errors.Is(err, ErrFormat) {
		t.Error("both CSUM features accepted")
	}
}

var allFeatures = []Incompat{
	0, IncompatRevoke, Incompat64Bit, IncompatCsumV2, IncompatCsumV2 | Incompat64Bit, IncompatCsumV3, IncompatCsumV3 | Incompat64Bit,
}

// TestDescriptorRoundTrip fills a descriptor of every variant to the last tag.
func TestDescriptorRoundTrip(t *testing.T) {
	for _, f := range allFeatures {
		l := layout(t, 1024, f)
		b := make([]byte, 1024)
		var w DescriptorWriter
		w.Reset(l, b, 7)
		var want []Tag
		for i := 0; ; i++ {
			tag := Tag{Blkno: uint64(i)*0x01234567 + 1, Flags: TagFlags(i) & FlagEscape}
			tag.Blkno &= 0xFFFFFFFF
			if f&Incompat64Bit != 0 {
				tag.Blkno |= uint64(i) << 32
			}
			switch {
			case f&IncompatCsumV3 != 0:
				tag.Checksum = 0xDEADBEEF + uint32(i)
			case f&IncompatCsumV2 != 0:
				tag.Checksum = 0xBE00 + uint32(i)
			}
			if !w.Add(tag) {
				break
			}
			if i > 0 {
				tag.Flags |= FlagSameUUID
			}
			want = append(want, tag)
		}
		w.Finish()
		want[len(want)-1].Flags |= FlagLast
		l.SealBlock(99, b)
		if len(want) != l.TagsPerDescriptor() {
			t.Errorf("%v: %d tags fitted, want %d", f, len(want), l.TagsPerDescriptor())
		}
		got, err := l.AppendTags(nil, b)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: %v\ngot  %v\nwant %v", f, err, got, want)
		}
		checkSealed(t, l, b)
	}
}

// checkSealed: a sealed block is valid, and with CSUM any changed byte is noticed.
func checkSealed(t *testing.T, l Layout, b []byte) {
	t.Helper()
	if !l.BlockValid(99, b) {
		t.Errorf("%v: sealed block is not valid", l.Features)
	}
	for i := 0; i < len(b) && l.Checksums(); i += 13 {
		b[i] ^= 0x40
		if l.BlockValid(99, b) {
			t.Errorf("%v: change of byte %d not noticed", l.Features, i)
		}
		b[i] ^= 0x40
	}
}

func TestRevokeRoundTrip(t *testing.T) {
	for _, f := range allFeatures {
		l := layout(t, 512, f)
		var blknos []uint64
		for i := range uint64(200) {
			n := i*77 + 5
			if f&Incompat64Bit != 0 {
				n |= i << 33
			}
			blknos = append(blknos, n)
		}
		b := make([]byte, 512)
		n := l.PutRevoke(b, 3, blknos)
		l.SealBlock(99, b)
		if want := (l.end - 16) / l.revokeSize(); n != want {
			t.Errorf("%v: %d records fitted, want %d", f, n, want)
		}
		got, err := l.AppendRevoked(nil, b)
		if err != nil || !slices.Equal(got, blknos[:n]) {
			t.Errorf("%v: %v %v", f, err, got)
		}
		checkSealed(t, l, b)
		for _, used := range []uint32{0, 15, uint32(l.end) + 1, 1 << 31} {
			be.PutUint32(b[12:], used)
			if _, err := l.AppendRevoked(nil, b); !errors.Is(err, ErrFormat) {
				t.Errorf("%v: r_count %d accepted", f, used)
			}
		}
	}
}

// TestChecksum: the check value of crc32c is E3069283 after the final inversion,
// which JBD2 leaves out.
func TestChecksum(t *testing.T) {
	if got := Checksum(^uint32(0), []byte("123456789")); got != ^uint32(0xE3069283) {
		t.Errorf("%#x", got)
	}
}

func TestSealCommit(t *testing.T) {
	l := layout(t, 512, IncompatCsumV3)
	b := make([]byte, 512)
	c := Commit{Sequence: 4, Sec: 5, Nsec: 6}
	c.Put(b)
	if l.CommitValid(1, b) {
		t.Error("unsealed commit block is valid")
	}
	l.SealCommit(1, b)
	if !l.CommitValid(1, b) || l.CommitValid(2, b) {
		t.Error("sealed commit block is not valid, or with any seed")
	}
}

func TestSuperblockRefused(t *testing.T) {
	for name, change := range map[string]func(*Superblock){
		"type":       func(s *Superblock) { s.Type = TypeCommit },
		"block size": func(s *Superblock) { s.BlockSize = 512 },
		"length":     func(s *Superblock) { s.MaxLen = 65 },
		"first 0":    func(s *Superblock) { s.First = 0 },
		"first":      func(s *Superblock) { s.First = 64 },
		"start":      func(s *Superblock) { s.Start = 64 },
		"both csums": func(s *Superblock) { s.Incompat = IncompatCsumV2 | IncompatCsumV3 },
		"csum type":  func(s *Superblock) { s.Incompat, s.ChecksumType = IncompatCsumV2, 1 },
	} {
		s := New(1024, 64, [16]byte{}, 0)
		b := make([]byte, 1024)
		change(&s)
		s.Put(b)
		if _, err := ParseSuperblock(b, 1024, 64); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := New(1024, 64, [16]byte{9}, IncompatCsumV3|Incompat64Bit)
	s.ChecksumType = ChecksumCRC32C
	b := make([]byte, 1024)
	s.Put(b)
	if got, err := ParseSuperblock(b, 1024, 64); err != nil || got != s {
		t.Errorf("%+v, %v", got, err)
	}
	b[1000]++
	if _, err := ParseSuperblock(b, 1024, 64); !errors.Is(err, ErrFormat) {
		t.Errorf("changed byte: %v", err)
	}
	if _, err := ParseSuperblock(b[:100], 1024, 64); !errors.Is(err, ErrFormat) {
		t.Errorf("short: %v", err)
	}
}

func TestNames(t *testing.T) {
	if s := (IncompatRevoke | IncompatFastCommit | 0x100).String(); s != "REVOKE|FAST_COMMIT|0x100" {
		t.Error(s)
	}
	if s := Incompat(0).String() + TypeRevoke.String() + BlockType(9).String(); s != "nonerevoketype 9" {
		t.Error(s)
	}
}

// FuzzBlock feeds any bytes to every parser; what a parser accepts must come out
// the same again when encoded and parsed.
func FuzzBlock(f *testing.F) {
	for _, name := range []string{"superblock", "descriptor-2", "descriptor-64bit", "commit"} {
		f.Add(golden(f, name, 512), uint32(0))
		f.Add(golden(f, name, 512), uint32(IncompatCsumV2|Incompat64Bit))
	}
	rv := make([]byte, 512)
	layout(f, 512, Incompat64Bit).PutRevoke(rv, 1, []uint64{1, 2, 3})
	f.Add(rv, uint32(Incompat64Bit))
	f.Fuzz(func(t *testing.T, b []byte, features uint32) {
		if s, err := ParseSuperblock(b, 512, 1000); err == nil {
			out := bytes.Clone(b)
			s.Put(out)
			if s2, err := ParseSuperblock(out, 512, 1000); err != nil || s2 != s {
				t.Errorf("superblock %+v became %+v, %v", s, s2, err)
			}
		}
		if c, err := ParseCommit(b); err == nil {
			out := make([]byte, len(b))
			c.Put(out)
			if c2, err := ParseCommit(out); err != nil || c2 != c {
				t.Errorf("commit %+v became %+v, %v", c, c2, err)
			}
		}
		l, err := NewLayout(512, Incompat(features))
		if err != nil {
			return
		}
		if _, err := l.AppendTags(nil, b); err == nil {
			l.BlockValid(1, b)
		}
		if blknos, err := l.AppendRevoked(nil, b); err == nil {
			out := make([]byte, 512)
			if n := l.PutRevoke(out, 1, blknos); n != len(blknos) {
				t.Errorf("%d of %d revoke records fit", n, len(blknos))
			}
		}
	})
}
