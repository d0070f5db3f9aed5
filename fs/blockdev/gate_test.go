package blockdev

import (
	"errors"
	"sync/atomic"
	"testing"
)

// testGate counts and can be shut.
type testGate struct {
	entered, left atomic.Int64
	shut          atomic.Bool
}

var errLease = errors.New("lease expired")

func (g *testGate) Enter() error {
	if g.shut.Load() {
		return errLease
	}
	g.entered.Add(1)
	return nil
}

func (g *testGate) Leave() { g.left.Add(1) }

// TestGate has every writing method pass the gate, and nothing reach the device
// when it is shut.
func TestGate(t *testing.T) {
	for name, inner := range map[string]Device{
		"zeroer": NewMem(1<<20, MemOptions{}),
		"plain":  plainDevice{NewMem(1<<20, MemOptions{})},
	} {
		t.Run(name, func(t *testing.T) {
			gate := &testGate{}
			d := NewGated(inner, gate)
			b := fill(512, 1, true)
			ops := map[string]func() error{
				"write": func() error { _, err := d.WriteAt(b, 0); return err },
				"fua":   func() error { return d.WriteFUA(b, 512) },
				"flush": d.Flush,
				"zero":  func() error { return ZeroRange(d, 1024, 512) },
			}
			if name == "zeroer" {
				ops["discard"] = func() error { return Discard(d, 0, 512) }
			}
			for op, fn := range ops {
				before := gate.entered.Load()
				if err := fn(); err != nil {
					t.Errorf("%s: %v", op, err)
				}
				if in, out := gate.entered.Load(), gate.left.Load(); in != before+1 || out != in {
					t.Errorf("%s: entered %d, left %d", op, in, out)
				}
			}
			gate.shut.Store(true)
			before := inner.Stats()
			for op, fn := range ops {
				if err := fn(); !errors.Is(err, ErrFenced) || !errors.Is(err, errLease) {
					t.Errorf("%s behind a shut gate: %v", op, err)
				}
			}
			if inner.Stats() != before {
				t.Errorf("operations passed a shut gate: %+v", inner.Stats())
			}
			if _, err := d.ReadAt(b, 0); err != nil {
				t.Errorf("reads are not gated: %v", err)
			}
		})
	}
}
