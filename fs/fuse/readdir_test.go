package fuse

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
	"github.com/ocfuse/ocfuse/fs/mkfs"
	"github.com/ocfuse/ocfuse/fs/volume"
	_ "github.com/ocfuse/ocfuse/stacks/local"
)

// with mounts the volume on dev for the time of fn.
func with(t *testing.T, dev blockdev.Device, fn func(dir string, v *volume.Volume)) {
	t.Helper()
	v, err := volume.Mount(context.Background(), dev, volume.Options{Slot: -1, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	m, err := Mount(v, kcache.MountConfig{Dir: dir, Logf: t.Logf})
	if err != nil {
		t.Fatalf("%v (the test needs /dev/fuse, and root or fusermount3)", err)
	}
	served := make(chan struct{})
	go func() { m.Serve(); close(served) }()
	if err := m.Server.WaitMount(); err != nil {
		t.Fatal(err)
	}
	fn(dir, v)
	if err := m.Unmount(false); err != nil {
		t.Fatal(err)
	}
	<-served
	if err := v.Unmount(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// sh runs a command in another process: one that uses a mount of its own can stand
// still, because Go's poller waits for a POLL that it has to answer itself.
func sh(dir, script string) (string, error) {
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// TestListDamaged: a directory with a damaged inode in the middle is listed whole,
// with the inodes of all others, and only who asks for the damaged one fails.
func TestListDamaged(t *testing.T) {
	dev := blockdev.NewMem(64<<20, blockdev.MemOptions{})
	if err := mkfs.Format(context.Background(), dev, mkfs.Options{Local: true}); err != nil {
		t.Fatal(err)
	}
	const files, bad = 20, 7
	var at int64
	with(t, dev, func(dir string, v *volume.Volume) {
		out, err := sh(dir, fmt.Sprintf("for k in $(seq %d); do echo x > f$k; done; stat -c %%i f%d", files, bad))
		if err != nil {
			t.Fatal(err)
		}
		ino, err := strconv.ParseUint(out, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		at = v.Geometry().ByteOfBlock(ino)
	})
	if _, err := dev.WriteAt(make([]byte, dev.BlockAlign()), at); err != nil {
		t.Fatal(err)
	}
	with(t, dev, func(dir string, _ *volume.Volume) {
		list, err := sh(dir, "ls")
		if n := len(strings.Fields(list)); err != nil || n != files+1 { // and lost+found
			t.Errorf("%d names, %v", n, err)
		}
		for k := 1; k <= files; k++ {
			if _, err := sh(dir, fmt.Sprintf("stat f%d", k)); (err != nil) != (k == bad) {
				t.Errorf("f%d: %v", k, err)
			}
		}
	})
}
