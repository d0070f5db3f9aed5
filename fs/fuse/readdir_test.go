package fuse

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
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

// TestListDamaged: a directory with a damaged inode in the middle is listed whole,
// with the inodes of all others, and only who asks for the damaged one fails.
func TestListDamaged(t *testing.T) {
	dev := blockdev.NewMem(64<<20, blockdev.MemOptions{})
	if err := mkfs.Format(context.Background(), dev, mkfs.Options{Local: true}); err != nil {
		t.Fatal(err)
	}
	const files, bad = 20, 7
	name := func(k int) string { return fmt.Sprintf("f%02d", k) }
	var at int64
	with(t, dev, func(dir string, v *volume.Volume) {
		for k := range files {
			if err := os.WriteFile(filepath.Join(dir, name(k)), []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(dir, name(bad)), &st); err != nil {
			t.Fatal(err)
		}
		at = v.Geometry().ByteOfBlock(st.Ino)
	})
	sound := make([]byte, dev.BlockAlign())
	if _, err := dev.ReadAt(sound, at); err != nil {
		t.Fatal(err)
	}
	damaged := make([]byte, len(sound))
	if _, err := dev.WriteAt(damaged, at); err != nil {
		t.Fatal(err)
	}
	with(t, dev, func(dir string, _ *volume.Volume) {
		list, err := os.ReadDir(dir)
		if err != nil || len(list) != files+1 { // and lost+found
			t.Errorf("%d names, %v", len(list), err)
		}
		for k := range files {
			_, err := os.Stat(filepath.Join(dir, name(k)))
			if (err != nil) != (k == bad) {
				t.Errorf("%s: %v", name(k), err)
			}
		}
	})
}
