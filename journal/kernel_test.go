package journal

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// fileDev is a Device over a volume image.
type fileDev struct{ *os.File }

func (f fileDev) WriteFUA(p []byte, off int64) error {
	if _, err := f.WriteAt(p, off); err != nil {
		return err
	}
	return f.Sync()
}

func (f fileDev) Flush() error { return f.Sync() }

// ocfs2Image is an OCFS2 volume image seen with the reference tools.
type ocfs2Image struct {
	path    string
	bs      int
	journal []Extent // of slot 0
	inode   uint64   // block of journal:0000
}

// tool returns the path of a reference program, or skips: without it there is
// nothing to compare with.
func tool(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/sbin/", "/usr/sbin/"} {
		if p, err := exec.LookPath(dir + name); err == nil {
			return p
		}
	}
	t.Skipf("%s is not installed (packages ocfs2-tools, e2fsprogs)", name)
	return ""
}

// run runs a tool and returns its output, whatever its exit status: those of
// fsck.ocfs2 mean nothing.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(tool(t, name), args...)
	cmd.Stdin = strings.NewReader("y\ny\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("%s %v: %v", name, args, err)
	}
	return string(out)
}

var (
	reInode  = regexp.MustCompile(`Inode: (\d+)`)
	reExtent = regexp.MustCompile(`(?m)^\s*\d+\s+(\d+)\s+(\d+)\s+(\d+)\s+0x`)
	reBlocks = regexp.MustCompile(`Block Size Bits: (\d+)\s+Cluster Size Bits: (\d+)`)
)

// openImage asks debugfs.ocfs2 where the journal of slot 0 is.
func openImage(t *testing.T, path string) ocfs2Image {
	t.Helper()
	im := ocfs2Image{path: path}
	m := reBlocks.FindStringSubmatch(run(t, "debugfs.ocfs2", "-R", "stats", path))
	if m == nil {
		t.Fatalf("%s: debugfs.ocfs2 shows no block size", path)
	}
	bsBits, _ := strconv.Atoi(m[1])
	csBits, _ := strconv.Atoi(m[2])
	im.bs = 1 << bsBits
	out := run(t, "debugfs.ocfs2", "-R", "stat //journal:0000", path)
	if m = reInode.FindStringSubmatch(out); m == nil {
		t.Fatalf("no journal inode in %q", out)
	}
	im.inode, _ = strconv.ParseUint(m[1], 10, 64)
	for _, m := range reExtent.FindAllStringSubmatch(out, -1) {
		cpos, _ := strconv.ParseUint(m[1], 10, 32)
		n, _ := strconv.ParseUint(m[2], 10, 32)
		blkno, _ := strconv.ParseUint(m[3], 10, 64)
		im.journal = append(im.journal, Extent{Log: uint32(cpos << (csBits - bsBits)), Blkno: blkno, Len: uint32(n << (csBits - bsBits))})
	}
	if len(im.journal) == 0 {
		t.Fatalf("no journal extents in %q", out)
	}
	return im
}

// copyTo copies the image, sparsely.
func (im ocfs2Image) copyTo(t *testing.T, name string) ocfs2Image {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("cp", "--sparse=always", im.path, path).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v %s", err, out)
	}
	im.path = path
	return im
}

// open opens the image as a device until the test ends.
func (im ocfs2Image) open(t *testing.T) fileDev {
	t.Helper()
	f, err := os.OpenFile(im.path, os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return fileDev{f}
}

func (im ocfs2Image) replay(t *testing.T) ReplayResult {
	t.Helper()
	st, err := os.Stat(im.path)
	must(t, err)
	res, err := Replay(t.Context(), ReplayConfig{
		Dev: im.open(t), BlockSize: im.bs, Extents: im.journal, VolumeBlocks: uint64(st.Size()) / uint64(im.bs),
	})
	must(t, err)
	return res
}

// differing returns the blocks in which two images differ.
func differing(t *testing.T, a, b ocfs2Image) []uint64 {
	t.Helper()
	da, err := os.ReadFile(a.path)
	must(t, err)
	db, err := os.ReadFile(b.path)
	must(t, err)
	if len(da) != len(db) {
		t.Fatalf("images have %d and %d bytes", len(da), len(db))
	}
	var diff []uint64
	for off := 0; off < len(da); off += a.bs {
		end := min(off+a.bs, len(da))
		if !bytes.Equal(da[off:end], db[off:end]) {
			diff = append(diff, uint64(off/a.bs))
		}
	}
	return diff
}

// fsckClean fails the test unless fsck.ocfs2 -fn runs all passes and finds nothing.
func (im ocfs2Image) fsckClean(t *testing.T) {
	t.Helper()
	out := run(t, "fsck.ocfs2", "-fn", im.path)
	if !strings.Contains(out, "Pass 4") || !strings.Contains(out, "All passes succeeded") {
		t.Errorf("fsck.ocfs2 did not finish:\n%s", out)
	}
	if strings.Contains(out, "\n[") {
		t.Errorf("fsck.ocfs2 found problems:\n%s", out)
	}
}

// TestKernelLog replays a log that a Linux kernel left behind and compares the
// whole image with what fsck.ocfs2 makes of a copy. It needs images of local
// volumes (mkfs.ocfs2 -M local) whose kernel was power-cut while they were
// mounted, named in OCFUSE_DIRTY_IMAGES, separated by colons.
func TestKernelLog(t *testing.T) {
	images := os.Getenv("OCFUSE_DIRTY_IMAGES")
	if images == "" {
		t.Skip("OCFUSE_DIRTY_IMAGES names no volumes")
	}
	for path := range strings.SplitSeq(images, ":") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			im := openImage(t, path)
			theirs, ours := im.copyTo(t, "theirs.img"), im.copyTo(t, "ours.img")
			out := run(t, "fsck.ocfs2", "-fy", theirs.path)
			if !strings.Contains(out, "replayed successfully") {
				t.Fatalf("fsck.ocfs2 replayed nothing:\n%s", out)
			}
			res := ours.replay(t)
			t.Logf("%+v; %d blocks changed", res, len(differing(t, im, ours)))
			if res.Transactions == 0 || res.Written == 0 {
				t.Error("nothing was replayed")
			}
			if diff := differing(t, theirs, ours); len(diff) != 0 {
				t.Errorf("blocks %v differ from fsck.ocfs2's replay", diff)
			}
			if again := ours.replay(t); !again.WasEmpty {
				t.Errorf("second replay: %+v", again)
			}
			run(t, "fsck.ocfs2", "-fy", ours.path) // slot recovery (DIRTY is still set)
			run(t, "fsck.ocfs2", "-fy", ours.path)
			ours.fsckClean(t)
		})
	}
}
