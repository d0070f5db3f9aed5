package mkfs

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// volume makes a small volume, and finds its system files.
func volume(t *testing.T, o Options) (*blockdev.Mem, reader, map[string]uint64) {
	t.Helper()
	m := blockdev.NewMem(64*mib, blockdev.MemOptions{})
	if err := Format(context.Background(), m, o); err != nil {
		t.Fatal(err)
	}
	_, g := identity(t, m)
	r := reader{m, g}
	names, err := r.list(g.SystemDirBlkno)
	if err != nil {
		t.Fatal(err)
	}
	return m, r, names
}

// change rewrites one block of m.
func change(t *testing.T, m *blockdev.Mem, g *ondisk.Geometry, blkno uint64, fn func(b []byte)) {
	t.Helper()
	b := readBlock(t, m, g, blkno)
	fn(b)
	if _, err := m.WriteAt(b, g.ByteOfBlock(blkno)); err != nil {
		t.Fatal(err)
	}
}

func TestInspectUse(t *testing.T) {
	for _, features := range []string{"", "noextended-slotmap"} {
		for _, bs := range []int{512, 4096} {
			m, r, names := volume(t, Options{BlockSize: bs, Slots: 3, Features: features})
			runs, _, err := r.extents(names, ondisk.SysSlotMap, 0)
			if err != nil {
				t.Fatal(err)
			}
			change(t, m, r.g, runs[0].blkno, func(b []byte) {
				ondisk.SlotMap{Data: b, Extended: r.g.HasExtendedSlotMap()}.Set(1, 77)
			})
			change(t, m, r.g, names["journal:0002"], func(b []byte) {
				ondisk.Dinode(b).SetJournalFlags(ondisk.JournalDirty)
			})
			e, err := Inspect(m)
			if err != nil || e.Unknown != nil {
				t.Fatalf("%v, %v", err, e.Unknown)
			}
			if len(e.Slots) != 1 || e.Slots[0] != (SlotUse{1, 77}) || len(e.DirtyJournals) != 1 || e.DirtyJournals[0] != 2 {
				t.Errorf("%d %q: slots %v, journals %v", bs, features, e.Slots, e.DirtyJournals)
			}
			if why := e.InUse(); !strings.Contains(why, "node 77 is in slot 1") || !strings.Contains(why, "slot 2") {
				t.Error(why)
			}
		}
	}
}

// TestInspectDamaged: whatever is broken is told; nothing panics.
func TestInspectDamaged(t *testing.T) {
	_, r, names := volume(t, Options{BlockSize: 1024, Slots: 2})
	blocks := []uint64{ondisk.SuperBlkno, r.g.SystemDirBlkno}
	for _, blkno := range names {
		blocks = append(blocks, blkno)
	}
	told := 0
	for _, blkno := range blocks {
		for off := 0; off < 0x100; off += 4 {
			m, r, _ := volume(t, Options{BlockSize: 1024, Slots: 2})
			change(t, m, r.g, blkno, func(b []byte) { copy(b[off:], "\xFF\xFE\xFD\xFC") })
			e, err := Inspect(m)
			if err != nil {
				t.Fatalf("block %d offset %#x: %v", blkno, off, err)
			}
			if e.Unknown != nil {
				told++
				if !strings.Contains(e.InUse(), "cannot be told") {
					t.Errorf("block %d offset %#x: %q", blkno, off, e.InUse())
				}
			}
		}
	}
	if told < 50 {
		t.Errorf("only %d kinds of damage were noticed", told)
	}
}

func TestInspectOthers(t *testing.T) {
	for _, c := range []struct {
		off  int64
		text string
		want string
	}{
		{0, "", ""}, {0x438, "\x53\xEF", "ext2/ext3/ext4"}, {0, "XFSB", "xfs"},
		{0x10040, "_BHRfS_M", "btrfs"}, {0xFF6, "SWAPSPACE2", "swap"}, {0, "LUKS\xBA\xBE", "LUKS"},
	} {
		for _, size := range []int64{mib, 64 * kib} {
			m := blockdev.NewMem(size, blockdev.MemOptions{})
			if c.off+8 > size {
				continue
			}
			b := make([]byte, 1024)
			copy(b[c.off%512:], c.text)
			if _, err := m.WriteAt(b, c.off&^511); err != nil {
				t.Fatal(err)
			}
			if e, err := Inspect(m); err != nil || e.Kind != c.want || e.InUse() != "" {
				t.Errorf("%q: %+v, %v", c.text, e, err)
			}
		}
	}
	boom := errors.New("medium error")
	m := blockdev.NewMem(mib, blockdev.MemOptions{})
	m.SetFault(blockdev.FailNth(blockdev.OpRead, 1, boom))
	if _, err := Inspect(m); !errors.Is(err, boom) {
		t.Errorf("unreadable device: %v", err)
	}
}

func TestBeating(t *testing.T) {
	ctx := context.Background()
	m, r, names := volume(t, Options{Slots: 2})
	e, err := Inspect(m)
	if err != nil {
		t.Fatal(err)
	}
	look := func() []int {
		t.Helper()
		nodes, err := e.Beating(ctx, m, 20*time.Millisecond, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		return nodes
	}
	if nodes := look(); nodes != nil {
		t.Errorf("nobody ever wrote: %v", nodes)
	}
	runs, _, err := r.extents(names, ondisk.SysHeartbeat, 0)
	if err != nil {
		t.Fatal(err)
	}
	beat := func(b []byte) { b[0]++ }
	change(t, m, r.g, runs[0].blkno+5, beat)
	if nodes := look(); nodes != nil {
		t.Errorf("node 5 stopped: %v", nodes)
	}
	done := make(chan []int)
	go func() {
		nodes, _ := e.Beating(ctx, m, time.Minute, time.Millisecond)
		done <- nodes
	}()
	for {
		select {
		case nodes := <-done:
			if len(nodes) != 1 || nodes[0] != 7 {
				t.Errorf("node 7 beats: %v", nodes)
			}
			return
		case <-time.After(2 * time.Millisecond):
			change(t, m, r.g, runs[0].blkno+7, beat)
		}
	}
}
