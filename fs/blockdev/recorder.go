package blockdev

// Recorder is a Device that logs the writes, zeroings and flushes it passes on, in
// the order they began and with what each flush covered. With the image of the
// device before (LoadMem) Log.ImageAt rebuilds what any power cut could leave. It
// belongs below a Gated: a write that failed is replayed as one that may have
// happened, which one that the gate refused did not.
type Recorder struct {
	dev Device
	log *Log
}

var (
	_ Device = (*Recorder)(nil)
	_ Zeroer = (*Recorder)(nil)
)

// NewRecorder records what goes to dev from now on.
func NewRecorder(dev Device) *Recorder { return &Recorder{dev: dev, log: new(Log)} }

// Log is what was recorded so far; it grows while the device is used.
func (r *Recorder) Log() *Log { return r.log }

// record logs fn, which runs between begin and end.
func (r *Recorder) record(kind OpKind, off, n int64, data []byte, fn func() error) error {
	if err := checkRange(kind.String(), "recorder", off, n, r.Size(), r.BlockAlign()); err != nil {
		return err
	}
	i := r.log.begin(kind, off, n, append([]byte(nil), data...))
	err := fn()
	if err == nil {
		r.log.end(i)
	}
	return err
}

// ReadAt implements Device; reads are not logged.
func (r *Recorder) ReadAt(p []byte, off int64) (int, error) { return r.dev.ReadAt(p, off) }

// WriteAt implements Device.
func (r *Recorder) WriteAt(p []byte, off int64) (n int, err error) {
	err = r.record(OpWrite, off, int64(len(p)), p, func() error {
		n, err = r.dev.WriteAt(p, off)
		return err
	})
	return n, err
}

// WriteFUA implements Device.
func (r *Recorder) WriteFUA(p []byte, off int64) error {
	return r.record(OpFUA, off, int64(len(p)), p, func() error { return r.dev.WriteFUA(p, off) })
}

// Flush implements Device.
func (r *Recorder) Flush() error {
	return r.record(OpFlush, 0, 0, nil, r.dev.Flush)
}

// ZeroRange implements Zeroer.
func (r *Recorder) ZeroRange(off, n int64) error {
	z, ok := r.dev.(Zeroer)
	if !ok {
		return writeZeros(r, off, n)
	}
	return r.record(OpZero, off, n, nil, func() error { return z.ZeroRange(off, n) })
}

// Discard implements Zeroer. It is swallowed: what a discarded range reads as
// cannot be replayed.
func (r *Recorder) Discard(off, n int64) error { return nil }

// Size implements Device.
func (r *Recorder) Size() int64 { return r.dev.Size() }

// BlockAlign implements Device.
func (r *Recorder) BlockAlign() int { return r.dev.BlockAlign() }

// ReadOnly implements Device.
func (r *Recorder) ReadOnly() bool { return r.dev.ReadOnly() }

// Close implements Device.
func (r *Recorder) Close() error { return r.dev.Close() }

// Stats implements Device.
func (r *Recorder) Stats() Stats { return r.dev.Stats() }
