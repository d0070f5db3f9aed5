package cluster

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// asUser runs a command as nobody, in a mount namespace that has what most
// systems have: fusectl, and a /dev/fuse that everybody may open. Other tests'
// mounts leave that namespace first: there they would outlive their umount.
const asUser = `for m in $(awk '/ - fuse/ { print $5 }' /proc/self/mountinfo); do umount -l "$m"; done
{ mountpoint -q /sys/fs/fuse/connections || mount -t fusectl none /sys/fs/fuse/connections; } &&
mknod -m 666 "$1/fuse" c 10 229 && mount --bind "$1/fuse" /dev/fuse &&
mkdir -m 700 "$1/home" && chown nobody "$1/home" && cd "$1/home" && shift &&
exec setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"`

// TestDemoWithoutRoot runs the demo as an ordinary user, who mounts through
// fusermount3 and must be able to write into the root directory of the volume.
func TestDemoWithoutRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becoming another user takes root; TestDemo runs as an ordinary user here")
	}
	dir, err := os.MkdirTemp("", "ocfuse-user.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "ocfuse")
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/ocfuse/ocfuse/cmd/ocfuse").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	home := filepath.Join(dir, "home")
	cmd := exec.CommandContext(ctx, "unshare", "-m", "sh", "-c", asUser, "sh", dir,
		"env", "HOME="+home, "TMPDIR="+home, "OCFUSE_RUNDIR="+home, bin, "demo")
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("demo: %v", err)
	}
	if !strings.Contains(string(out), "find the volume clean") {
		t.Error("the demo ended before the volume was checked")
	}
}
