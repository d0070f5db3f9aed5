package blockdev

import "fmt"

// Gate decides whether this node may write to the volume now. The fencing lease
// implements it. Enter and Leave bracket every write and flush; they are on the
// hot path, are called concurrently and must not block for long.
type Gate interface {
	// Enter allows one operation, or says why it is refused.
	Enter() error
	// Leave ends an operation that Enter allowed.
	Leave()
}

// Gated is a Device whose writes, flushes, zeroing and discards pass a Gate. It
// owns the inner device: once a device is gated nobody may keep a reference to it,
// so that there is no way round. Reads are not gated.
type Gated struct {
	dev  Device
	gate Gate
}

var (
	_ Device = (*Gated)(nil)
	_ Zeroer = (*Gated)(nil)
)

// NewGated puts gate in front of dev.
func NewGated(dev Device, gate Gate) *Gated { return &Gated{dev: dev, gate: gate} }

// enter asks the gate. An error is of kind ErrFenced and wraps the gate's reason.
func (g *Gated) enter(op string, off int64) error {
	if err := g.gate.Enter(); err != nil {
		return fmt.Errorf("%s at %d refused: %w: %w", op, off, ErrFenced, err)
	}
	return nil
}

// ReadAt implements Device; it does not ask the gate.
func (g *Gated) ReadAt(p []byte, off int64) (int, error) { return g.dev.ReadAt(p, off) }

// WriteAt implements Device behind the gate.
func (g *Gated) WriteAt(p []byte, off int64) (int, error) {
	if err := g.enter("write", off); err != nil {
		return 0, err
	}
	defer g.gate.Leave()
	return g.dev.WriteAt(p, off)
}

// WriteFUA implements Device behind the gate.
func (g *Gated) WriteFUA(p []byte, off int64) error {
	if err := g.enter("write", off); err != nil {
		return err
	}
	defer g.gate.Leave()
	return g.dev.WriteFUA(p, off)
}

// Flush implements Device behind the gate: a fenced node must not learn that its
// data is durable, because its successor may already have overwritten it.
func (g *Gated) Flush() error {
	if err := g.enter("flush", 0); err != nil {
		return err
	}
	defer g.gate.Leave()
	return g.dev.Flush()
}

// ZeroRange implements Zeroer behind the gate. Where the inner device can only
// write zeros, each chunk passes the gate by itself.
func (g *Gated) ZeroRange(off, n int64) error {
	z, ok := g.dev.(Zeroer)
	if !ok {
		return writeZeros(g, off, n)
	}
	if err := g.enter("zero", off); err != nil {
		return err
	}
	defer g.gate.Leave()
	return z.ZeroRange(off, n)
}

// Discard implements Zeroer behind the gate.
func (g *Gated) Discard(off, n int64) error {
	z, ok := g.dev.(Zeroer)
	if !ok {
		return nil
	}
	if err := g.enter("discard", off); err != nil {
		return err
	}
	defer g.gate.Leave()
	return z.Discard(off, n)
}

// Size implements Device.
func (g *Gated) Size() int64 { return g.dev.Size() }

// BlockAlign implements Device.
func (g *Gated) BlockAlign() int { return g.dev.BlockAlign() }

// ReadOnly implements Device.
func (g *Gated) ReadOnly() bool { return g.dev.ReadOnly() }

// Close implements Device.
func (g *Gated) Close() error { return g.dev.Close() }

// Stats implements Device.
func (g *Gated) Stats() Stats { return g.dev.Stats() }
