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

// TestDemo runs the demo, which checks each sentence of its story: three nodes
// see each other's writes, warm reads cost nothing, appends and O_EXCL races
// of all nodes come out right, a killed node loses nothing that was synced and
// comes back, and the volume is clean for our check and for fsck.ocfs2.
func TestDemo(t *testing.T) {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Fatalf("the demo mounts through FUSE: %v (modprobe fuse)", err)
	}
	bin := filepath.Join(t.TempDir(), "ocfuse")
	build := exec.Command("go", "build", "-o", bin, "github.com/ocfuse/ocfuse/cmd/ocfuse")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "demo")
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(os.Environ(), "OCFUSE_RUNDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("demo: %v", err)
	}
	if !strings.Contains(string(out), "find the volume clean") {
		t.Error("the demo ended before the volume was checked")
	}
}
