package alloc

import (
	"bytes"
	"context"
	"testing"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/journal"
)

// reuse journals a change of a block in a cluster (as a directory does), frees the
// cluster, and writes file data to it when it is handed out again. It returns the
// device after a power cut and a replay, and the block.
func reuse(t *testing.T, fullFlush bool) (img *blockdev.Mem, blkno uint64) {
	v := open(t, mkfs(t, shape{1024, 4096, 2, 40, ""}), 0, -1)
	if !fullFlush {
		v.a.env.FullFlush = func(context.Context) error { return nil }
	}
	run, err := v.append(1, false)
	must(t, err)
	blkno = run.Blkno
	b := v.owner.Meta().New(blkno)
	v.tx(1, func(tx *journal.Handle) error {
		if err := tx.Write(&b.Block); err != nil {
			return err
		}
		copy(b.Data, "metadata")
		return nil
	})
	b.Put()
	must(t, v.j.CommitRunning(t.Context())) // in the log, not home
	v.punch(run.Cpos, 1)
	must(t, v.a.TruncLog().Flush(t.Context()))
	must(t, v.j.CommitRunning(t.Context())) // the cluster is free
	var again extent.Run
	for again.Blkno != blkno {
		again, err = v.append(1, false)
		must(t, err)
	}
	_, err = v.dev.WriteAt(bytes.Repeat([]byte("data"), 1024), int64(blkno)*1024)
	must(t, err)
	must(t, v.dev.Flush())
	must(t, v.j.CommitRunning(t.Context()))
	img = v.dev.Crash(blockdev.Crash{Mode: blockdev.KeepAll})
	replay(t, img, 0)
	return img, blkno
}

// TestNoReplayOverData: the flush of the truncate log empties the journal first,
// or else a replay brings old metadata back over new data.
func TestNoReplayOverData(t *testing.T) {
	for _, full := range []bool{true, false} {
		img, blkno := reuse(t, full)
		var got [1024]byte
		_, err := img.ReadAt(got[:], int64(blkno)*1024)
		must(t, err)
		if data := bytes.HasPrefix(got[:], []byte("data")); data != full {
			t.Errorf("full flush %v: the block begins with %q", full, got[:8])
		}
	}
}
