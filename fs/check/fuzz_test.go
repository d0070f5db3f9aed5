package check

import (
	"context"
	"encoding/binary"
	"maps"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// fuzzVolumes are the volumes that FuzzRun damages. The one with metaecc has
// its feature bit taken off, so that damage gets behind the block checks.
func fuzzVolumes(t testing.TB) []*volume {
	ecc := loadVolume(t, "kernel-512")
	plain := ecc.clone()
	setFeatures(func(f *ondisk.Features) { f.Incompat &^= ondisk.FeatureIncompatMetaECC })(t, plain)
	return []*volume{plain, loadVolume(t, "kernel-1024-crash"), loadVolume(t, "kernel-512-deep"), ecc}
}

// FuzzRun overwrites bytes of metadata blocks: each 12 bytes of the damage are a
// block (index among those that are not zero), an offset, and eight bytes for it
// of which a length says how many. The check must end, without panic, and give
// the same report twice.
func FuzzRun(f *testing.F) {
	vols := fuzzVolumes(f)
	index := make([][]uint64, len(vols))
	for i, v := range vols {
		index[i] = slices.Sorted(maps.Keys(v.blocks))
	}
	f.Add(uint8(0), uint32(0), []byte{0, 0, 0x20, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0})
	f.Add(uint8(1), uint32(1000), []byte{9, 0, 0x76, 0, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0})
	f.Add(uint8(2), uint32(0), []byte{50, 0, 0xC0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 60, 0, 0x30, 0, 1, 0, 0xFF, 0xFF, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, which uint8, cut uint32, damage []byte) {
		k := int(which) % len(vols)
		v := vols[k].clone()
		if cut > 0 {
			v.size -= int64(cut) * 512 % v.size
		}
		for ; len(damage) >= 12; damage = damage[12:] {
			blkno := index[k][int(binary.LittleEndian.Uint16(damage))%len(index[k])]
			b := slices.Clone(v.get(blkno))
			arg := binary.LittleEndian.Uint16(damage[2:])
			copy(b[int(arg&0xFFF)%len(b):], damage[4:12-int(arg>>13)])
			v.blocks[blkno] = b
		}
		r, err := Run(context.Background(), v, Options{MaxProblems: 500})
		if err != nil {
			return // no superblock any more
		}
		again, err := Run(context.Background(), v, Options{MaxProblems: 500})
		if err != nil || again.String() != r.String() || again.Summary != r.Summary {
			t.Errorf("second run differs: %v\n%s\nfirst:\n%s", err, again, r)
		}
	})
}

// TestRandomDamage is the fuzz test with fixed seeds: most inputs hit counts,
// pointers and flags.
func TestRandomDamage(t *testing.T) {
	vols := fuzzVolumes(t)
	rounds := 300
	if testing.Short() {
		rounds = 50
	}
	baseline := map[*volume]string{}
	noticed := 0
	for _, v := range vols {
		baseline[v] = v.run(t).String()
	}
	for seed := range rounds {
		r := rand.New(rand.NewSource(int64(seed)))
		good := vols[seed%len(vols)]
		v := good.clone()
		index := slices.Sorted(maps.Keys(v.blocks))
		for range 1 + r.Intn(30) {
			blkno := index[r.Intn(len(index))]
			b := slices.Clone(v.get(blkno))
			switch off := r.Intn(len(b)-8) &^ 1; r.Intn(4) {
			case 0: // another block's content
				copy(b, v.get(index[r.Intn(len(index))]))
			case 1:
				binary.LittleEndian.PutUint16(b[off:], uint16(r.Intn(1<<16)))
			case 2: // a pointer to some other metadata block
				binary.LittleEndian.PutUint64(b[off&^7:], index[r.Intn(len(index))])
			default:
				b[off] ^= 1 << r.Intn(8)
			}
			v.blocks[blkno] = b
		}
		start := time.Now()
		rep, err := Run(context.Background(), v, Options{})
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("seed %d: the check took %v", seed, d)
		}
		if err != nil || rep.String() != baseline[good] {
			noticed++
		}
	}
	// Times, owners and data of the journals may be damaged unnoticed.
	if noticed < rounds*9/10 {
		t.Errorf("only %d of %d damaged volumes were noticed", noticed, rounds)
	}
}
