package volume_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/stackglue/fakestack"
)

// logSupers finds the superblocks of the slots' journals in an image, in slot
// order, as mkfs.ocfs2 lays them out.
func logSupers(t *testing.T, path string, blockSize int) (at []int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	magic := []byte{0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, 4} // JBD2, version 2 superblock
	for off := 0; off < len(b); off += blockSize {
		if bytes.HasPrefix(b[off:], magic) {
			at = append(at, int64(off))
		}
	}
	return at
}

// TestUnrecoverableSlot: a dead node whose journal is damaged is recovered by
// nobody. The others say so, wait no longer than they are told to, keep what
// they changed, and can be unmounted; once the journal is mended the next mount
// recovers both slots.
func TestUnrecoverableSlot(t *testing.T) {
	c := newCluster(t, 2, fakestack.Options{Seed: 5})
	name := clusterName(c)
	for _, n := range []uint32{1, 2} {
		if err := promise(c.nodes[n].mounted, "/kept-"+string(rune('0'+n)), []byte("kept")); err != nil {
			t.Fatal(err)
		}
	}
	one, slot := c.nodes[1], c.nodes[2].Slot()
	if err := one.touch("/late"); err != nil {
		t.Fatal(err)
	}
	at := logSupers(t, c.path, one.Geometry().BlockSize)
	if len(at) != 4 {
		t.Fatalf("%d journals", len(at))
	}
	img, err := os.OpenFile(c.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	overwrite := func(b []byte) {
		if _, err := img.WriteAt(b, at[slot]); err != nil {
			t.Fatal(err)
		}
	}
	c.kill(2)
	overwrite([]byte("garbage!"))

	state := ""
	for end := time.Now().Add(20 * time.Second); !strings.HasPrefix(state, "failed: ") && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		state = one.RecoveryState()
	}
	if !strings.Contains(state, "node 2") || !strings.Contains(state, "journal") {
		t.Fatalf("recovery: %q", state)
	}
	ctx, cancel := context.WithTimeout(bg, 100*time.Millisecond)
	defer cancel()
	if _, err := one.Lookup(ctx, one.Root(), []byte("kept-2"), nil); err == nil {
		t.Error("the dead node's locks were granted before its journal was replayed")
	}
	left := make(chan error, 1)
	go func() { left <- one.Unmount(bg) }()
	select {
	case err := <-left:
		if err == nil || !strings.Contains(err.Error(), "dirty") {
			t.Errorf("unmount: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("unmount hangs")
	}
	one.dev.Close()
	c.fake.Kill(1)
	delete(c.nodes, 1)

	overwrite([]byte{0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, 4})
	n := c.mount(1, name)
	for _, f := range []string{"/kept-1", "/kept-2", "/late"} {
		if _, _, err := n.lookup(f); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	c.umount()
}
