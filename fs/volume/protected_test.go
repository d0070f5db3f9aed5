package volume_test

import (
	"errors"
	"testing"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/check"
	"github.com/ocfuse/ocfuse/fs/mkfs"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/fs/volume"
)

// TestProtected mounts a device that cannot be written: clean it can be read, by
// several at once; with a dirty journal it is refused. Nothing is written.
func TestProtected(t *testing.T) {
	dev := blockdev.NewMem(64<<20, blockdev.MemOptions{})
	if err := mkfs.Format(bg, dev, mkfs.Options{Clustered: true, Cluster: mkfs.Cluster{Stack: "pcmk", Name: "c"}, Slots: 2}); err != nil {
		t.Fatal(err)
	}
	v, err := volume.Mount(bg, dev, volume.Options{Slot: -1, Stack: "local"})
	if err != nil {
		t.Fatal(err)
	}
	i, err := v.Create(bg, v.Root(), []byte("f"), volume.NewInode{Mode: ondisk.ModeRegular | 0o600}, nil)
	if err != nil {
		t.Fatal(err)
	}
	i.Put()
	dirty := dev.Crash(blockdev.Crash{Mode: blockdev.KeepAll})
	if err := v.Unmount(bg); err != nil {
		t.Fatal(err)
	}
	dirty.SetReadOnly(true)
	if _, err := volume.Mount(bg, dirty, volume.Options{Slot: -1}); !errors.Is(err, blockdev.ErrReadOnly) {
		t.Errorf("a dirty volume that cannot be written: %v", err)
	}
	dev.SetReadOnly(true)
	var both []*volume.Volume
	for range 2 {
		v, err := volume.Mount(bg, dev, volume.Options{Slot: -1})
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, v)
		if ro, _ := v.ReadOnly(); !ro || v.Why() == "" || !v.Local() {
			t.Errorf("read-only %v because of %q, local %v", ro, v.Why(), v.Local())
		}
		i, err := v.Lookup(bg, v.Root(), []byte("f"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := v.Write(bg, i, []byte("x"), 0, 0, nil); !errors.Is(err, volume.ErrReadOnly) {
			t.Errorf("write: %v", err)
		}
		i.Put()
		if err := v.Unlink(bg, v.Root(), []byte("f"), nil); !errors.Is(err, volume.ErrReadOnly) {
			t.Errorf("unlink: %v", err)
		}
	}
	for _, v := range both {
		if err := v.Unmount(bg); err != nil {
			t.Error(err)
		}
	}
	if r, err := check.Run(bg, dev, check.Options{}); err != nil || !r.Clean() {
		t.Errorf("afterwards: %v, %v", r, err)
	}
}
