package ondisk

import (
	"errors"
	"testing"
)

// TestKindFlags: with two kinds flagged, one structure was checked and the other
// one used, with whatever counts it had.
func TestKindFlags(t *testing.T) {
	for _, c := range []struct {
		flags uint32
		blkno uint64
		good  bool
	}{
		{InodeValid, 100, true},
		{InodeValid | InodeSystem | InodeBitmap | InodeLocalAlloc, 100, true},
		{InodeValid | InodeSystem | InodeDealloc, 100, true},
		{InodeValid | InodeSuperBlock, SuperBlkno, true},
		{InodeValid | InodeSuperBlock, 100, false},
		{InodeValid | InodeDealloc, 100, false},
		{InodeValid | InodeSystem | InodeLocalAlloc | InodeChain, 100, false},
		{InodeValid | InodeSystem | InodeDealloc | InodeLocalAlloc, 100, false},
		{0xFFFFFFFF, 100, false},
	} {
		d := Dinode(make([]byte, 512))
		d.SetFlags(c.flags)
		if err := checkID2(d, c.blkno); errors.Is(err, ErrCorrupt) == c.good {
			t.Errorf("flags %#x at block %d: %v", c.flags, c.blkno, err)
		}
	}
}
