package ondisk

import (
	"bytes"
	"errors"
	"hash/crc32"
	"math/bits"
	"math/rand"
	"testing"
)

// slowECC is the definition, bit by bit.
func slowECC(block []byte) uint16 {
	var ecc uint32
	for i := range len(block) * 8 {
		if block[i/8]&(1<<(i%8)) == 0 {
			continue
		}
		b := uint32(i) + 1
		for p := uint32(0); 1<<p < b+1; p++ {
			b++
		}
		ecc ^= b
	}
	return uint16(ecc)
}

// TestECCEqualsDefinition: a bit of a large block costs the slow definition a pass over
// it, so only every eleventh is taken there, and those around the powers of two, where
// positions are skipped.
func TestECCEqualsDefinition(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for _, size := range []int{8, 16, 64, 72, 512, 1024, 2048, 4096} {
		for range 20 {
			b := make([]byte, size)
			r.Read(b)
			if got, want := eccOf(b), slowECC(b); got != want {
				t.Fatalf("size %d: ecc %#x, want %#x", size, got, want)
			}
		}
		for bit := range size * 8 {
			if size > 512 && bit%11 != 0 && bits.OnesCount(uint(bit)) > 2 && bits.OnesCount(uint(bit+1)) > 2 {
				continue
			}
			b := make([]byte, size)
			b[bit/8] = 1 << (bit % 8)
			if got, want := eccOf(b), slowECC(b); got != want {
				t.Fatalf("size %d bit %d: position %#x, want %#x", size, bit, got, want)
			}
			if got := codePosition(bit); got != slowECC(b) {
				t.Fatalf("position of bit %d is %#x", bit, got)
			}
			if got := flippedBit(eccOf(b), size*8); got != bit {
				t.Fatalf("size %d: syndrome of bit %d names bit %d", size, bit, got)
			}
		}
	}
}

func TestGoldenBlockChecks(t *testing.T) {
	checked := 0
	for _, bs := range []int{512, 4096} { // the metaecc volumes
		for _, gb := range loadGolden(t, bs).blocks {
			b := append([]byte(nil), gb.data...)
			off := gb.checkOff()
			if !CheckMatches(b, off) {
				t.Errorf("%d: %s %d: check does not match", bs, gb.kind, gb.blkno)
			}
			if err := ValidateCheck(b, off); err != nil || !bytes.Equal(b, gb.data) {
				t.Errorf("%d: %s %d: %v", bs, gb.kind, gb.blkno, err)
			}
			clear(b[off : off+8])
			ComputeCheck(b, off)
			if !bytes.Equal(b, gb.data) {
				t.Errorf("%d: %s: computed % x, the kernel wrote % x", bs, gb.kind, b[off:off+8], gb.data[off:off+8])
			}
			checked++
		}
	}
	if checked < 40 {
		t.Errorf("only %d blocks checked", checked)
	}
}

func TestValidateCorrectsOneBit(t *testing.T) {
	gb := loadGolden(t, 512).block(t, "journal")
	off := gb.checkOff()
	for bit := range len(gb.data) * 8 {
		b := append([]byte(nil), gb.data...)
		b[bit/8] ^= 1 << (bit % 8)
		if reserved := bit/8-off >= 6 && bit/8-off < 8; CheckMatches(b, off) != reserved {
			t.Fatalf("bit %d flipped: match %v", bit, !reserved)
		}
		err := ValidateCheck(b, off)
		switch inField := bit/8 - off; {
		case inField >= 0 && inField < 4: // the stored CRC itself: nothing to compare with
			if err == nil {
				t.Fatalf("bit %d of the stored crc flipped: accepted", bit)
			}
		case inField >= 4 && inField < 8: // stored ECC and reserved: the CRC still matches
			if err != nil {
				t.Fatalf("bit %d of the stored ecc flipped: %v", bit, err)
			}
		default:
			if err != nil || !bytes.Equal(b, gb.data) {
				t.Fatalf("bit %d flipped: not corrected: %v", bit, err)
			}
		}
	}
}

func TestValidateRefusesTwoBits(t *testing.T) {
	gb := loadGolden(t, 512).block(t, "journal")
	off := gb.checkOff()
	r := rand.New(rand.NewSource(2))
	for range 2000 {
		b := append([]byte(nil), gb.data...)
		i, j := r.Intn(off*8), r.Intn(off*8)
		if i == j {
			continue
		}
		b[i/8] ^= 1 << (i % 8)
		b[j/8] ^= 1 << (j % 8)
		bad := append([]byte(nil), b...)
		err := ValidateCheck(b, off)
		if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("bits %d and %d flipped: %v", i, j, err)
		}
		if !bytes.Equal(b, bad) {
			t.Fatalf("bits %d and %d flipped: refused block was changed", i, j)
		}
	}
}

func TestCRCConvention(t *testing.T) {
	b := make([]byte, 512)
	b[17] = 1
	ComputeCheck(b, 0x80)
	stored := get32(b, 0x80)
	clear(b[0x80:0x88])
	if stored != ^crc32.ChecksumIEEE(b) {
		t.Errorf("stored crc %#x", stored)
	}
}

func BenchmarkComputeCheck4K(b *testing.B) {
	block := make([]byte, 4096)
	rand.New(rand.NewSource(1)).Read(block)
	b.SetBytes(4096)
	for b.Loop() {
		ComputeCheck(block, CheckOffDinode)
	}
}

func BenchmarkValidateCheck4K(b *testing.B) {
	block := make([]byte, 4096)
	rand.New(rand.NewSource(1)).Read(block)
	ComputeCheck(block, CheckOffDinode)
	b.SetBytes(4096)
	for b.Loop() {
		if err := ValidateCheck(block, CheckOffDinode); err != nil {
			b.Fatal(err)
		}
	}
}
