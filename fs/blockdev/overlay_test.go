package blockdev

import (
	"bytes"
	"testing"
)

// TestOverlay: what is written over a device that cannot be written is read back,
// all else comes from the device, which does not change.
func TestOverlay(t *testing.T) {
	base := NewMem(3*4096+512, MemOptions{})
	old := fill(3*4096+512, 1, false)
	if _, err := base.WriteAt(old, 0); err != nil {
		t.Fatal(err)
	}
	base.SetReadOnly(true)
	o := NewOverlay(base)
	want := bytes.Clone(old)
	for _, w := range []struct{ off, n int }{{512, 1024}, {4096 - 512, 1024}, {3 * 4096, 512}, {0, 3*4096 + 512}, {8192, 4096}} {
		p := fill(w.n, uint64(w.off+w.n), false)
		var err error
		if w.n == 1024 {
			_, err = o.WriteAt(p, int64(w.off))
		} else {
			err = o.WriteFUA(p, int64(w.off))
		}
		if err != nil {
			t.Fatal(err)
		}
		copy(want[w.off:], p)
		got := make([]byte, len(want))
		if _, err := o.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("after writing %d bytes at %d: %v", w.n, w.off, err)
		}
		part := make([]byte, 1024)
		if _, err := o.ReadAt(part, 3584); err != nil || !bytes.Equal(part, want[3584:3584+1024]) {
			t.Errorf("a part, after writing %d bytes at %d: %v", w.n, w.off, err)
		}
	}
	if err := ZeroRange(o, 4096, 1024); err != nil {
		t.Error(err)
	}
	got := make([]byte, 512)
	if _, err := o.ReadAt(got, 4096); err != nil || !allZero(got) {
		t.Errorf("zeroed: %v", err)
	}
	for _, off := range []int64{-512, 3*4096 + 512, 100} {
		if _, err := o.WriteAt(got, off); err == nil {
			t.Errorf("written at %d", off)
		}
	}
	got = make([]byte, len(old))
	if _, err := base.ReadAt(got, 0); err != nil || !bytes.Equal(got, old) {
		t.Errorf("the device below has changed: %v", err)
	}
}
