package blockdev

import "sync"

// Overlay makes a device that cannot be written look writable: what is written
// stays in memory, is seen by reads, and is gone with the Overlay. It is for
// mounting a write-protected device, where only bookkeeping is written.
type Overlay struct {
	dev   Device
	mu    sync.RWMutex
	pages map[int64][]byte // guarded by mu; by page number, those written to
}

var _ Device = (*Overlay)(nil)

// NewOverlay puts memory in front of dev, which is only read.
func NewOverlay(dev Device) *Overlay { return &Overlay{dev: dev, pages: make(map[int64][]byte)} }

// ReadAt implements Device.
func (o *Overlay) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.dev.ReadAt(p, off)
	if err != nil {
		return n, err
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	if len(o.pages) == 0 {
		return n, nil
	}
	for at := 0; at < len(p); {
		k, in := (off+int64(at))/pageSize, int((off+int64(at))%pageSize)
		size := min(pageSize-in, len(p)-at)
		if pg := o.pages[k]; pg != nil {
			copy(p[at:at+size], pg[in:])
		}
		at += size
	}
	return n, nil
}

// WriteAt implements Device: in memory.
func (o *Overlay) WriteAt(p []byte, off int64) (int, error) {
	if err := checkRange("write", "overlay", off, int64(len(p)), o.Size(), o.BlockAlign()); err != nil {
		return 0, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for at := 0; at < len(p); {
		k, in := (off+int64(at))/pageSize, int((off+int64(at))%pageSize)
		pg, err := o.own(k)
		if err != nil {
			return at, err
		}
		at += copy(pg[in:], p[at:])
	}
	return len(p), nil
}

// own returns page k, copied from the device at first. mu held.
func (o *Overlay) own(k int64) ([]byte, error) {
	if pg := o.pages[k]; pg != nil {
		return pg, nil
	}
	pg := AlignedBuf(int(min(pageSize, o.Size()-k*pageSize)))
	if _, err := o.dev.ReadAt(pg, k*pageSize); err != nil {
		return nil, err
	}
	o.pages[k] = pg
	return pg, nil
}

// WriteFUA implements Device; memory is as durable as it will get.
func (o *Overlay) WriteFUA(p []byte, off int64) error {
	_, err := o.WriteAt(p, off)
	return err
}

// Flush implements Device.
func (o *Overlay) Flush() error { return nil }

// Size implements Device.
func (o *Overlay) Size() int64 { return o.dev.Size() }

// BlockAlign implements Device.
func (o *Overlay) BlockAlign() int { return o.dev.BlockAlign() }

// ReadOnly implements Device: writes do not fail.
func (o *Overlay) ReadOnly() bool { return false }

// Close implements Device.
func (o *Overlay) Close() error { return o.dev.Close() }

// Stats implements Device: of the device below.
func (o *Overlay) Stats() Stats { return o.dev.Stats() }
