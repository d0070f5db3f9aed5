package posix

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// check is one behaviour; it works in dir, an empty folder of its own, open to
// everybody.
type check func(t *testing.T, dir string)

// suite is all checks by name.
var suite = map[string]check{}

// register adds checks to the suite.
func register(checks map[string]check) bool {
	for name, c := range checks {
		suite[name] = c
	}
	return true
}

// runSuite runs every check in a folder below dir.
func runSuite(t *testing.T, dir string) {
	old := syscall.Umask(0o022)
	defer syscall.Umask(old)
	for name, c := range suite {
		t.Run(name, func(t *testing.T) {
			sub := filepath.Join(dir, name)
			if err := os.Mkdir(sub, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(sub, 0o777); err != nil {
				t.Fatal(err)
			}
			c(t, sub)
		})
	}
}

// TestHost runs the suite on the file system of the host.
func TestHost(t *testing.T) {
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	runSuite(t, dir)
}

// TestVolume runs the suite on volumes of several block sizes, and checks them
// afterwards.
func TestVolume(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "ocfuse")
	run(t, "go", "build", "-o", bin, "../../cmd/ocfuse")
	for name, args := range map[string][]string{
		"1K":      {"-b", "1K", "-C", "4K"},
		"4K":      {"-b", "4K", "-C", "4K"},
		"512-64K": {"-b", "512", "-C", "64K", "--fs-features", "noinline-data"},
		"metaecc": {"-b", "4K", "-C", "8K", "--fs-features", "metaecc"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			img, mnt := filepath.Join(dir, "img"), filepath.Join(dir, "mnt")
			t.Setenv("XDG_RUNTIME_DIR", dir)
			f, err := os.Create(img)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Truncate(512 << 20); err != nil {
				t.Fatal(err)
			}
			f.Close()
			if err := os.Mkdir(mnt, 0o755); err != nil {
				t.Fatal(err)
			}
			run(t, bin, append([]string{"mkfs", "-q", "-M", "local", img}, args...)...)
			for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
				if err := os.Chmod(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			run(t, bin, "mount", img, mnt)
			mounted := true
			defer func() {
				if mounted {
					_ = syscall.Unmount(mnt, syscall.MNT_DETACH)
				}
			}()
			runSuite(t, mnt)
			run(t, bin, "umount", mnt)
			mounted = false
			out := run(t, "fsck.ocfs2", "-fn", img)
			if !strings.Contains(out, "All passes succeeded") || strings.Contains(out, "\n[") {
				t.Errorf("fsck.ocfs2 -fn:\n%s", out)
			}
		})
	}
}

// run runs a command that must succeed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}
