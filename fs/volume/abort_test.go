package volume_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/volume"
	"github.com/ocfuse/ocfuse/stackglue"
	"github.com/ocfuse/ocfuse/stackglue/fakestack"
)

// unmountAborted lets inodes leave memory, has every write fail from then on,
// and unmounts: nothing may hang or go round in circles.
func unmountAborted(t *testing.T, m *mounted, f *fence, lines *atomic.Int32) {
	t.Helper()
	for _, name := range []string{"/a", "/b", "/c"} {
		if err := m.touch(name); err != nil {
			t.Fatal(err)
		}
		if err := m.write(name, make([]byte, 10000), 0); err != nil {
			t.Fatal(err)
		}
		if err := m.unlink(name); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 200 { // more than may stay
		if err := m.touch(fmt.Sprintf("/keep%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	f.shut()
	done := make(chan error, 1)
	go func() { done <- m.Unmount(bg) }()
	select {
	case err := <-done:
		if !errors.Is(err, stackglue.ErrFenced) {
			t.Errorf("unmount of a volume that cannot be written: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("unmount hangs")
	}
	if n := lines.Load(); n > 50 {
		t.Errorf("%d messages", n)
	}
}

// TestUnmountAfterAbort: when metadata cannot be written any more, inodes that
// are leaving memory must not keep the unmount waiting, nor anything busy.
func TestUnmountAfterAbort(t *testing.T) {
	var lines atomic.Int32
	opts := volume.Options{Slot: -1, IdleInodes: 1, CommitInterval: time.Hour, Logf: func(string, ...any) { lines.Add(1) }}
	run := func(path string, opts volume.Options) func(*testing.T) {
		return func(t *testing.T) {
			raw, err := blockdev.Open(path, blockdev.Options{Claim: blockdev.ClaimShared})
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			f := &fence{}
			dev := blockdev.NewGated(raw, f)
			v, err := volume.Mount(bg, dev, opts)
			if err != nil {
				t.Fatal(err)
			}
			lines.Store(0)
			unmountAborted(t, &mounted{v, t, "", dev}, f, &lines)
		}
	}
	t.Run("local", run(newImage(t, 64<<20, "-b", "4096", "-C", "4096"), opts))
	fakeClusters.Store(t.Name(), fakestack.New(fakestack.Options{Seed: 1}))
	defer fakeClusters.Delete(t.Name())
	opts.Stack, opts.Conn = "fake", stackglue.Config{Node: 1, Options: map[string]string{"cluster": t.Name()}}
	t.Run("cluster", run(newImage(t, 64<<20, "-M", "cluster", "--cluster-stack=pcmk", "--cluster-name=kp", "-N", "2"), opts))
}
