package volume_test

import (
	"testing"

	"github.com/ocfuse/ocfuse/fs/volume"
	"github.com/ocfuse/ocfuse/stackglue/fakestack"
)

// TestHandoffCost: what it costs when a file that one node has just written is
// read and then written on another, both with the file open for writing.
func TestHandoffCost(t *testing.T) {
	c := newCluster(t, 2, fakestack.Options{})
	a, b := c.nodes[1], c.nodes[2]
	if err := a.touch("/f"); err != nil {
		t.Fatal(err)
	}
	ia, _, err := a.lookup("/f")
	if err != nil {
		t.Fatal(err)
	}
	ib, _, err := b.lookup("/f")
	if err != nil {
		t.Fatal(err)
	}
	cover := &covering{ex: true, done: func(int64, int, error) {}}
	for turn := range 3 {
		if _, _, err := a.Write(bg, ia, []byte{byte(turn)}, 0, 0, nil); err != nil {
			t.Fatal(err)
		}
		before := a.dev.Stats()
		p := []byte{99}
		if _, err := b.Read(bg, ib, p, 0, cover); err != nil || p[0] != byte(turn) {
			t.Fatalf("read %d, %v; want %d", p[0], err, turn)
		}
		// One write of log and superblock with a flush; FUA: commit block, home, superblock.
		// Less if the commit interval ended just now.
		after := a.dev.Stats()
		flushes, fuas, writes := after.Flushes-before.Flushes, after.FUAs-before.FUAs, after.Writes-before.Writes
		if turn > 0 && (flushes > 1 || fuas > 3 || writes > 1) {
			t.Errorf("turn %d: %d flushes, %d FUA writes and %d others, want at most 1, 3, 1", turn, flushes, fuas, writes)
		}
		raises := b.Locks().Counters.Raises.Load()
		if _, _, err := b.Write(bg, ib, []byte{99}, 0, volume.WriteFlags(0), nil); err != nil {
			t.Fatal(err)
		}
		if n := b.Locks().Counters.Raises.Load() - raises; n != 0 {
			t.Errorf("turn %d: the write after the read asked for %d locks, want 0: RW comes along with META", turn, n)
		}
	}
	a.put(ia)
	b.put(ib)
	c.umount()
}
