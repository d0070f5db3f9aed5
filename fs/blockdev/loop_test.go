package blockdev

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// newLoop attaches an image of n bytes to a loop device. Needs root.
func newLoop(t *testing.T, n int64, args ...string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a loop device needs root")
	}
	out, err := exec.Command("losetup", append(args, "--find", "--show", newFile(t, n))...).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", dev).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v: %s", err, out)
		}
	})
	return dev
}

func TestBlockDevice(t *testing.T) {
	dev := newLoop(t, 8<<20)
	d := open(t, dev, Options{Claim: ClaimExclusive})
	if !d.IsBlock() || d.Size() != 8<<20 || d.Warning() != "" {
		t.Fatalf("block %v, size %d, warning %q", d.IsBlock(), d.Size(), d.Warning())
	}
	if _, err := Open(dev, Options{Claim: ClaimExclusive}); !errors.Is(err, ErrBusy) {
		t.Errorf("second exclusive open: %v", err)
	}
	testDevice(t, d)
	if s := d.Stats(); s.Zeroes == 0 {
		t.Errorf("the kernel zeroed nothing: %+v", s)
	}
	d.Close()
}

func TestBlockDeviceReadOnly(t *testing.T) {
	dev := newLoop(t, 1<<20, "--read-only")
	if _, err := Open(dev, Options{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("writing to a read-only device: %v", err)
	}
	d := open(t, dev, Options{ReadOnly: true})
	if !d.Protected() || open(t, newFile(t, 4096), Options{ReadOnly: true}).Protected() {
		t.Error("a write-protected device is not told from a file")
	}
	if _, err := d.ReadAt(AlignedBuf(512), 0); err != nil {
		t.Error(err)
	}
	d.Close()
}

// TestLargeSectors: a device of 4096-byte sectors says so and refuses less.
func TestLargeSectors(t *testing.T) {
	d := open(t, newLoop(t, 8<<20, "--sector-size", "4096"), Options{})
	if d.BlockAlign() != 4096 {
		t.Fatalf("alignment %d", d.BlockAlign())
	}
	if _, err := d.WriteAt(AlignedBuf(512), 0); !errors.Is(err, ErrAlign) {
		t.Errorf("512 bytes: %v", err)
	}
	p, got := fill(8192, 5, false), make([]byte, 8192)
	if err := d.WriteFUA(p, 4096); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadAt(got, 4096); err != nil || !bytes.Equal(got, p) {
		t.Errorf("read back: %v", err)
	}
	d.Close()
}
