package mkfs

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// FuzzLayout: any options are refused with a known kind, or give a layout in which
// everything is inside the volume, nothing lies on anything else, and all of it is
// marked in the bitmap.
func FuzzLayout(f *testing.F) {
	f.Add(uint32(300), uint8(0), uint8(0), uint8(0), uint8(0), uint16(0))
	f.Add(uint32(9), uint8(1), uint8(1), uint8(3), uint8(4), uint16(3))
	f.Add(uint32(2000), uint8(1), uint8(1), uint8(255), uint8(4), uint16(0xFFF))
	f.Add(uint32(5000), uint8(4), uint8(9), uint8(16), uint8(9), uint16(0x555))
	f.Add(uint32(70000), uint8(2), uint8(5), uint8(40), uint8(200), uint16(0xAAA))
	names := ondisk.UserFeatureNames()
	f.Fuzz(func(t *testing.T, mb uint32, bs, cs, slots, journal uint8, features uint16) {
		o := Options{Slots: int(slots), JournalSize: int64(journal) * mib, Identity: Identity{Generation: 1, Time: time.Unix(1, 0)}}
		if bs != 0 {
			o.BlockSize = 256 << (bs % 5)
		}
		if cs != 0 {
			o.ClusterSize = 2048 << (cs % 10)
		}
		for i, n := range names {
			if features>>(i%16)&1 != 0 {
				o.Features += ",no" + n
			}
		}
		o.Features = trimComma(o.Features)
		p, err := NewPlan(int64(mb%(64<<10))*mib, 512, o)
		if err == nil {
			var b *builder
			if b, err = newBuilder(p, o.Identity); err == nil {
				checkLayout(t, b)
				return
			}
		}
		if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooSmall) {
			t.Fatalf("%+v: %v", o, err)
		}
	})
}

func trimComma(s string) string {
	if s == "" {
		return s
	}
	return s[1:]
}

// checkLayout verifies what FuzzLayout promises.
func checkLayout(t *testing.T, b *builder) {
	t.Helper()
	used := func(blkno uint64) bool {
		c := b.g.BlocksToClusters(blkno)
		bit := int(c % b.g.CPG)
		return blkno < b.g.TotalBlocks && slices.ContainsFunc(b.clusters.runs(int(c/b.g.CPG)), func(r run) bool {
			return bit >= r.from && bit < r.to
		})
	}
	for blkno := range b.blocks {
		if !used(blkno) {
			t.Fatalf("block %d is not in the bitmap, or outside the volume", blkno)
		}
	}
	ends := slices.Clone(b.zero)
	slices.SortFunc(ends, func(x, y extent) int { return int(int64(x.blkno) - int64(y.blkno)) })
	var last uint64
	for _, e := range ends {
		end := e.blkno + b.g.ClustersToBlocks(uint32(e.clusters))
		if e.blkno < last || !used(e.blkno) || !used(end-1) || !b.g.ClusterAligned(e.blkno) {
			t.Fatalf("extent at block %d of %d clusters overlaps one before %d, or is outside", e.blkno, e.clusters, last)
		}
		last = end
	}
	for group := range b.clusters.groups {
		runs := b.clusters.runs(group)
		for i, r := range runs {
			if r.from >= r.to || r.to > b.g.GroupBits(group) || i > 0 && r.from <= runs[i-1].to || i == 0 && r.from != 0 {
				t.Fatalf("group %d: runs %v of %d bits", group, runs, b.g.GroupBits(group))
			}
		}
	}
}

// FuzzInspect: no contents of a device make Inspect panic or read outside. The input
// changes bytes of a volume: offset (3 bytes, inside the metadata) and value.
func FuzzInspect(f *testing.F) {
	base := blockdev.NewMem(16*mib, blockdev.MemOptions{})
	if err := Format(context.Background(), base, Options{BlockSize: 512, Slots: 2, Features: "metaecc"}); err != nil {
		f.Fatal(err)
	}
	plain := blockdev.NewMem(16*mib, blockdev.MemOptions{})
	if err := Format(context.Background(), plain, Options{BlockSize: 1024, Slots: 2}); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, true)
	f.Add([]byte{0, 8, 0, 0xFF}, false)
	f.Add([]byte{0, 0x24, 0xC0, 0x10, 0, 0x24, 0xD0, 0xFF}, false)
	f.Fuzz(func(t *testing.T, edits []byte, ecc bool) {
		m := plain.Clone()
		if ecc {
			m = base.Clone()
		}
		sector := make([]byte, 512)
		for ; len(edits) >= 4; edits = edits[4:] {
			off := (int64(edits[0])<<16 | int64(edits[1])<<8 | int64(edits[2])) % m.Size()
			if _, err := m.ReadAt(sector, off&^511); err != nil {
				t.Fatal(err)
			}
			sector[off%512] = edits[3]
			if _, err := m.WriteAt(sector, off&^511); err != nil {
				t.Fatal(err)
			}
		}
		e, err := Inspect(m)
		if err != nil {
			t.Fatalf("a good device gave an error: %v", err)
		}
		if _, err := e.Beating(context.Background(), m, 0, 0); err != nil {
			t.Fatalf("heartbeat: %v", err)
		}
	})
}
