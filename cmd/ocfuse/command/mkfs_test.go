package command

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// newImage makes an empty image file of mb MiB.
func newImage(t *testing.T, mb int64) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "vol.img")
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, mb<<20); err != nil {
		t.Fatal(err)
	}
	return img
}

// super reads the geometry of an image.
func super(t *testing.T, img string) *ondisk.Geometry {
	t.Helper()
	f, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, _, err := ondisk.FindSuper(f)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestMkfsLikeReference runs both programs with the same flags and compares what
// debugfs.ocfs2 says of the superblock, but for what is random.
func TestMkfsLikeReference(t *testing.T) {
	for _, flags := range []string{
		"", "-b 1K -C 8K -N 3 -L label", "-b 4096 -C 1M -M local -J size=12M,block64", "-T mail -N 1",
		"--fs-feature-level=max-features", "--fs-features=metaecc,noinline-data -U 2a4d1c58-1faa-42a1-a41d-26efc90c1315",
		"--cluster-stack=pcmk --cluster-name=kp", "--cluster-stack o2cb --cluster-name kp --global-heartbeat", "--no-backup-super",
	} {
		show := func(img string) string {
			out, err := exec.Command("debugfs.ocfs2", "-R", "stats -h", img).CombinedOutput()
			if err != nil {
				t.Fatalf("debugfs.ocfs2: %v\n%s", err, out)
			}
			var s strings.Builder
			for line := range strings.Lines(string(out)) {
				random := strings.Contains(line, "UUID:") || strings.Contains(line, "Hash:")
				if !strings.Contains(line, "Last Check") && !strings.Contains(line, "DX Seeds") && (!random || strings.Contains(flags, "-U")) {
					s.WriteString(line)
				}
			}
			return s.String()
		}
		ours, ref := newImage(t, 300), newImage(t, 300)
		if code, out, errs := run(t, "", append(append([]string{"mkfs"}, strings.Fields(flags)...), ours)...); code != ExitOK {
			t.Fatalf("%q: exit %d: %s%s", flags, code, out, errs)
		}
		if out, err := exec.Command("mkfs.ocfs2", append(append([]string{"-x", "-q"}, strings.Fields(flags)...), ref)...).CombinedOutput(); err != nil {
			t.Fatalf("mkfs.ocfs2 %q: %v\n%s", flags, err, out)
		}
		if a, b := show(ours), show(ref); a != b {
			t.Errorf("%q:\nours:\n%s\nreference:\n%s", flags, a, b)
		}
	}
}

func TestMkfsAsks(t *testing.T) {
	img := newImage(t, 100)
	if code, out, errs := run(t, "", "mkfs", "-L", "first", img); code != ExitOK || !strings.Contains(out, "mkfs successful") ||
		!strings.Contains(errs, "Writing superblock: done") || strings.Contains(errs, "Proceed") {
		t.Fatalf("empty image: exit %d, %s%s", code, out, errs)
	}
	for _, c := range []struct {
		stdin, flags string
		code         int
	}{
		{"", "", ExitFailure}, {"n\n", "", ExitFailure}, {"no", "", ExitFailure}, {"", "-F", ExitFailure},
		{"y\n", "", ExitOK}, {"yes", "", ExitOK}, {"Y\n", "-F", ExitOK}, {"", "-x", ExitOK}, {"", "-xq", ExitOK},
	} {
		before := super(t, img).UUID
		code, out, errs := run(t, c.stdin, append(append([]string{"mkfs"}, strings.Fields(c.flags)...), img)...)
		if changed := super(t, img).UUID != before; code != c.code || changed != (code == ExitOK) {
			t.Errorf("answer %q flags %q: exit %d, changed %v\n%s%s", c.stdin, c.flags, code, changed, out, errs)
		}
		if asked := strings.Contains(errs, `holds data (ocfs2, label "`); asked != !strings.Contains(c.flags, "x") {
			t.Errorf("answer %q flags %q: asked %v", c.stdin, c.flags, asked)
		}
		if strings.Contains(c.flags, "q") && out+errs != "" {
			t.Errorf("not quiet: %q", out+errs)
		}
	}
	if err := os.WriteFile(img, bytes.Repeat([]byte("XFSB"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := run(t, "", "mkfs", img); code != ExitFailure || !strings.Contains(errs, "holds data (xfs)") {
		t.Errorf("another filesystem: exit %d, %s", code, errs)
	}
}

// TestMkfsInUse: a volume that a node may have mounted is not formatted.
func TestMkfsInUse(t *testing.T) {
	img := newImage(t, 100)
	if code, _, errs := run(t, "", "mkfs", "-b", "4K", "-N", "2", img); code != ExitOK {
		t.Fatal(errs)
	}
	journal, _ := findInode(t, img, ondisk.InodeJournal)
	journal.SetJournalFlags(ondisk.JournalDirty)
	writeInode(t, img, journal)
	code, _, errs := run(t, "y\n", "mkfs", img)
	if code != ExitFailure || !strings.Contains(errs, "the journal of slot 0 is in use or was not recovered") || !strings.Contains(errs, "--force") {
		t.Errorf("dirty journal: exit %d, %s", code, errs)
	}
	if code, _, errs := run(t, "", "mkfs", "-x", "-F", "-b", "4K", img); code != ExitOK {
		t.Errorf("forced: exit %d, %s", code, errs)
	}

	_, area := findInode(t, img, ondisk.InodeHeartbeat)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // node 3 beats
		defer close(done)
		f, err := os.OpenFile(img, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		for i := byte(1); ; i++ {
			if _, err := f.WriteAt(bytes.Repeat([]byte{i | 1}, 512), area+3*4096); err != nil {
				t.Error(err)
			}
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				i++
			}
		}
	}()
	code, _, errs = run(t, "y\n", "mkfs", img)
	close(stop)
	<-done
	if code != ExitFailure || !strings.Contains(errs, "node 3 writes its heartbeat") {
		t.Errorf("live heartbeat: exit %d, %s", code, errs)
	}
}

// findInode finds the first inode with a flag, and where its data begins in bytes.
func findInode(t *testing.T, img string, flag uint32) (ondisk.Dinode, int64) {
	t.Helper()
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	for off := 0; off+4096 <= len(b); off += 4096 {
		if d := ondisk.Dinode(b[off : off+4096]); ondisk.HasSignature(d, ondisk.SigDinode) && d.HasFlag(flag) {
			return d, int64(d.Extents().Rec(0).Blkno()) * 4096
		}
	}
	t.Fatalf("no inode with flag %#x", flag)
	return nil, 0
}

func writeInode(t *testing.T, img string, d ondisk.Dinode) {
	t.Helper()
	f, err := os.OpenFile(img, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(d, int64(d.Blkno())*4096); err != nil {
		t.Fatal(err)
	}
}

// TestMkfsBusy: what this host mounts, attaches or has open as a volume.
func TestMkfsBusy(t *testing.T) {
	img := newImage(t, 100)
	held, err := blockdev.Open(img, blockdev.Options{Claim: blockdev.ClaimShared})
	if err != nil {
		t.Fatal(err)
	}
	if code, _, errs := run(t, "", "mkfs", "-x", "-F", img); code != ExitFailure || !strings.Contains(errs, "in use by another process") {
		t.Errorf("open volume: exit %d, %s", code, errs)
	}
	held.Close()
	if syscall.Getuid() != 0 {
		t.Skip("a loop device needs root")
	}
	out, err := exec.Command("losetup", "--find", "--show", img).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	defer exec.Command("losetup", "--detach", dev).Run()
	if code, _, errs := run(t, "", "mkfs", "-x", "-F", img); code != ExitFailure || !strings.Contains(errs, "is attached to "+dev) {
		t.Errorf("attached image: exit %d, %s", code, errs)
	}
	if code, _, errs := run(t, "", "mkfs", "-M", "local", dev); code != ExitOK {
		t.Errorf("loop device: exit %d, %s", code, errs)
	}
}

func TestMkfsDryRun(t *testing.T) {
	img := newImage(t, 100)
	code, out, _ := run(t, "", "mkfs", "-n", "--json", "-M", "local", img)
	var v struct {
		DryRun bool `json:"dry_run"`
		Volume struct {
			BlockSize int `json:"block_size"`
			Slots     int
			Features  []string
		}
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != ExitOK || !v.DryRun || v.Volume.BlockSize != 1024 ||
		v.Volume.Slots != 1 || !strings.Contains(strings.Join(v.Volume.Features, ","), "local") {
		t.Errorf("exit %d, %v, %s", code, err, out)
	}
	if b, err := os.ReadFile(img); err != nil || bytes.ContainsFunc(b, func(r rune) bool { return r != 0 }) {
		t.Errorf("a dry run wrote (%v)", err)
	}
}

func TestMkfsRefusals(t *testing.T) {
	img := newImage(t, 100)
	for _, c := range []struct{ flags, text string }{
		{"-b 4Q", `--block-size "4Q"`}, {"-b -1", "--block-size"}, {"-b 3K", "block size 3072"}, {"-C 2K", "cluster size 2048"},
		{"-J size=x", "--journal-options size"}, {"-J fast", `--journal-options "fast"`}, {"-J size=1M", "at least 4194304"},
		{"-M remote", "--mount"}, {"-U 12", "--uuid"}, {"-U 00000000000000000000000000000000", "not all zeros"},
		{"--root-owner me", "--root-owner"}, {"--root-owner=1:-1", "--root-owner"}, {"-N 300", "300 node slots"}, {"-N x", "invalid argument"}, {"-T fast", "use mail"}, {"--nosuch", "unknown flag"},
		{"--fs-features=sparkle", "sparkle"}, {"--cluster-stack=o2cb", "cluster name missing"}, {"--fs-feature-level=x", "max-compat"},
	} {
		code, _, errs := run(t, "", append(append([]string{"mkfs"}, strings.Fields(c.flags)...), img)...)
		if code != ExitFailure || !strings.Contains(errs, c.text) {
			t.Errorf("%s: exit %d, %s", c.flags, code, errs)
		}
	}
	for _, c := range []struct {
		args []string
		text string
	}{
		{[]string{"mkfs"}, "Try 'ocfuse mkfs --help'"}, {[]string{"mkfs", img, "many"}, "BLOCKS"}, {[]string{"mkfs", img, "0"}, "BLOCKS"},
		{[]string{"mkfs", img, "99999999"}, "the device has"}, {[]string{"mkfs", img + ".no"}, "check the name"},
		{[]string{"mkfs", filepath.Dir(img)}, "is a directory"}, {[]string{"mkfs", "/dev/null"}, "character device"},
	} {
		if code, _, errs := run(t, "", c.args...); code != ExitFailure || !strings.Contains(errs, c.text) {
			t.Errorf("%q: exit %d, %s", c.args, code, errs)
		}
	}
}

// TestMkfsKeepsCluster: formatted anew, a volume stays with its cluster.
func TestMkfsKeepsCluster(t *testing.T) {
	img := newImage(t, 100)
	for _, c := range []struct{ flags, stack, name string }{
		{"--cluster-stack=pcmk --cluster-name=one", "pcmk", "one"}, {"", "pcmk", "one"}, {"-M local", "", ""},
		{"--cluster-stack=o2cb --cluster-name=two", "o2cb", "two"}, {"", "", ""},
	} {
		code, _, errs := run(t, "", append(append([]string{"mkfs", "-x"}, strings.Fields(c.flags)...), img)...)
		if g := super(t, img); code != ExitOK || g.ClusterStack != c.stack || g.ClusterName != c.name {
			t.Errorf("%q: exit %d, %q %q, %s", c.flags, code, g.ClusterStack, g.ClusterName, errs)
		}
	}
}

func TestParseSize(t *testing.T) {
	for _, c := range []struct {
		s    string
		want int64
	}{
		{"512", 512}, {"4K", 4096}, {"4k", 4096}, {"1M", 1 << 20}, {"2g", 2 << 30}, {"1t", 1 << 40}, {"0x200", 512}, {"7b", 7},
		{"", -1}, {"K", -1}, {"-4K", -1}, {"4KK", -1}, {"1.5M", -1}, {"9999999999999999999", -1}, {"9999999999T", -1},
	} {
		if n, err := parseSize(c.s); (err != nil) != (c.want < 0) || err == nil && n != c.want {
			t.Errorf("%q: %d, %v", c.s, n, err)
		}
	}
}
