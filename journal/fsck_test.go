package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocfuse/ocfuse/journal/format"
)

// makeImage makes a local volume with one slot by mkfs.ocfs2.
func makeImage(t *testing.T, bs int, journal string) ocfs2Image {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volume.img")
	f, err := os.Create(path)
	must(t, err)
	must(t, f.Truncate(64<<20))
	must(t, f.Close())
	cmd := exec.Command(tool(t, "mkfs.ocfs2"), "-q", "-x", "-M", "local", "-b", fmt.Sprint(bs), "-C", "4096", "-N", "1",
		"-J", journal, "--fs-features=noindexed-dirs", path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ocfs2: %v\n%s", err, out)
	}
	return openImage(t, path)
}

// TestFsckReplaysOurLog writes transactions with this package into the journal of
// an mkfs.ocfs2 volume, "crashes", and has debugfs.ocfs2 print and fsck.ocfs2
// replay the log.
func TestFsckReplaysOurLog(t *testing.T) {
	for _, c := range []struct {
		bs      int
		journal string
		wide    bool
	}{
		{512, "size=4M", false}, {1024, "size=4M", false}, {4096, "size=4M", false}, {2048, "size=4M,block64", true},
	} {
		t.Run(fmt.Sprintf("%d,%s", c.bs, c.journal), func(t *testing.T) {
			im := makeImage(t, c.bs, c.journal)
			want, tids := writeAndCrash(t, im, c.wide)
			// A copy is for our own replay, which must give the same volume.
			ours := im.copyTo(t, "ours.img")

			dump := run(t, "debugfs.ocfs2", "-R", "logdump 0", im.path)
			checkDump(t, dump, tids, len(want))

			out := run(t, "fsck.ocfs2", "-fy", im.path)
			if !strings.Contains(out, "replayed successfully") {
				t.Fatalf("fsck.ocfs2 did not replay:\n%s", out)
			}
			dev := im.open(t)
			for blkno, data := range want {
				got := make([]byte, im.bs)
				_, err := dev.ReadAt(got, int64(blkno)*int64(im.bs))
				must(t, err)
				if !bytes.Equal(got, data) {
					t.Errorf("block %d is not what was committed: %x..., want %x...", blkno, got[:16], data[:16])
				}
			}
			if res := ours.replay(t); res.Written == 0 {
				t.Errorf("our replay: %+v", res)
			}
			if diff := differing(t, im, ours); len(diff) != 0 {
				t.Errorf("blocks %v differ between fsck.ocfs2's replay and ours", diff)
			}
			run(t, "fsck.ocfs2", "-fy", im.path)
			im.fsckClean(t)
		})
	}
}

// writeAndCrash fills the log so that it wraps, changing the root directory's mtime
// and free blocks. It returns what the blocks must be after a replay, and the
// transactions that are in the log.
func writeAndCrash(t *testing.T, im ocfs2Image, wide bool) (want map[uint64][]byte, tids [2]uint64) {
	t.Helper()
	dev, ctx := im.open(t), t.Context()
	res, err := Wipe(ctx, ReplayConfig{Dev: dev, BlockSize: im.bs, Extents: im.journal})
	must(t, err)
	if res.WasEmpty || res.Transactions != 0 || res.NextSequence != 2 {
		t.Errorf("wiping a log of mkfs: %+v", res)
	}
	j, err := Open(Config{Dev: dev, BlockSize: im.bs, Extents: im.journal, CommitInterval: 1 << 40})
	must(t, err)
	if got := j.layout.Features&format.Incompat64Bit != 0; got != wide {
		t.Fatalf("64BIT is %v, want %v", got, wide)
	}
	m := reInode.FindStringSubmatch(run(t, "debugfs.ocfs2", "-R", "stat /", im.path))
	var rootBlk uint64
	_, err = fmt.Sscan(m[1], &rootBlk)
	must(t, err)
	root := &Block{Blkno: rootBlk, Data: make([]byte, im.bs)}
	_, err = dev.ReadAt(root.Data, int64(rootBlk)*int64(im.bs))
	must(t, err)
	free := make([]*Block, 300) // at the end of the volume, where nothing is allocated
	for i := range free {
		free[i] = &Block{Blkno: uint64(60<<20/im.bs + 3*i), Data: make([]byte, im.bs)}
	}
	laps := 2 * j.ring.size() / 150
	for lap := range laps {
		h, err := j.Start(ctx, 130)
		must(t, err)
		must(t, h.Write(root))
		binary.LittleEndian.PutUint64(root.Data[0x40:], 1700000000+uint64(lap)) // i_mtime
		for i := range 129 {
			b := free[(lap*97+i)%len(free)]
			must(t, h.Write(b))
			for k := range b.Data {
				b.Data[k] = byte(lap + i + k)
			}
			if i%10 == 0 {
				binary.BigEndian.PutUint32(b.Data, format.Magic)
			}
		}
		must(t, h.Stop())
		must(t, j.CommitRunning(ctx))
		if lap == laps-4 {
			must(t, j.FullFlush(ctx))
			tids[0] = j.durable.Load() + 1
		}
	}
	tids[1] = j.durable.Load()
	want = map[uint64][]byte{root.Blkno: root.Data}
	for _, b := range free {
		want[b.Blkno] = b.Data
	}
	j.Abort(os.ErrDeadlineExceeded) // no checkpoint, no clean end
	wantIs(t, j.Close(ctx), ErrAborted)
	flags := make([]byte, im.bs) // ij_flags: DIRTY
	_, err = dev.ReadAt(flags, int64(im.inode)*int64(im.bs))
	must(t, err)
	flags[0xB8] |= 1
	_, err = dev.WriteAt(flags, int64(im.inode)*int64(im.bs))
	must(t, err)
	must(t, dev.Flush())
	return want, tids
}

// checkDump compares what debugfs.ocfs2 prints of the log with what was written.
func checkDump(t *testing.T, dump string, tids [2]uint64, blocks int) {
	t.Helper()
	if tids[1]-tids[0]+1 != 3 {
		t.Fatalf("transactions %d..%d in the log, want 3", tids[0], tids[1])
	}
	for tid := tids[0]; tid <= tids[1]; tid++ {
		for _, kind := range []string{"1 (JBD2_DESCRIPTOR_BLOCK)", "2 (JBD2_COMMIT_BLOCK)"} {
			if line := fmt.Sprintf("Seq: %d   Type: %s", uint32(tid), kind); !strings.Contains(dump, line) {
				t.Errorf("debugfs.ocfs2 logdump lacks %q", line)
			}
		}
	}
	if !strings.Contains(dump, "JBD2_FLAG_ESCAPE") || !strings.Contains(dump, "JBD2_FLAG_LAST_TAG") {
		t.Error("debugfs.ocfs2 logdump shows no escaped image or no last tag")
	}
	if t.Failed() {
		t.Logf("logdump of %d blocks:\n%.4000s", blocks, dump)
	}
}
