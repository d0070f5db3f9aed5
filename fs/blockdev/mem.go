package blockdev

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// FaultFunc is asked before each operation on a Mem; a non-nil error makes the
// operation fail with it, wrapped, and nothing is read or written. n is the length
// in bytes. It runs with the device's lock held and must not call the device.
type FaultFunc func(op OpKind, off, n int64) error

// MemOptions configures NewMem.
type MemOptions struct {
	// Record keeps every write and flush, so that CloneAt and Log work. It costs
	// memory for all that is ever written.
	Record bool
	// Name appears in errors; empty is "mem".
	Name string
}

// Mem is a sparse device in memory that knows which of its writes are durable.
// It is for tests; one lock serialises it.
type Mem struct {
	name string
	size int64
	c    counters

	mu       sync.RWMutex
	pages    *pageTable // guarded by mu; what reads see
	durable  *pageTable // guarded by mu; what the last flush made durable
	volatile []Op       // guarded by mu; since the last flush, in order
	fault    FaultFunc  // guarded by mu
	readOnly bool       // guarded by mu
	closed   bool       // guarded by mu
	lost     error      // guarded by mu; the first failed flush

	base *Mem // with Record: the image before the log began; immutable
	log  *Log
}

var (
	_ Device = (*Mem)(nil)
	_ Zeroer = (*Mem)(nil)
)

// NewMem returns a device of size bytes, rounded down to a sector, all zeros.
func NewMem(size int64, o MemOptions) *Mem {
	if o.Name == "" {
		o.Name = "mem"
	}
	m := newMem(o.Name, size&^(SectorSize-1), newPageTable())
	if o.Record {
		m.StartRecording()
	}
	return m
}

// newMem wraps pages, all durable.
func newMem(name string, size int64, pages *pageTable) *Mem {
	return &Mem{name: name, size: size, pages: pages, durable: pages.clone()}
}

// LoadMem copies dev, holes staying holes, into a new Mem without a log.
func LoadMem(dev Device) (*Mem, error) {
	m := NewMem(dev.Size(), MemOptions{})
	buf := GetBuf(zeroChunk)
	defer PutBuf(buf)
	for off := int64(0); off < dev.Size(); {
		b := buf[:min(int64(len(buf)), dev.Size()-off)]
		if _, err := dev.ReadAt(b, off); err != nil {
			return nil, err
		}
		m.pages.write(b, off)
		off += int64(len(b))
	}
	m.settle()
	return m, nil
}

// StartRecording begins a fresh log; the image of now is its base.
func (m *Mem) StartRecording() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.base = newMem(m.name, m.size, m.pages.clone())
	m.log = new(Log)
}

// Log is the log since StartRecording, or nil.
func (m *Mem) Log() *Log {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.log
}

// settle makes everything in pages durable. mu held, or m not yet shared.
func (m *Mem) settle() {
	m.durable = m.pages.clone()
	m.volatile = nil
}

// Clone returns a device with the contents reads see now, all durable, without
// log and faults. Pages are shared until written.
func (m *Mem) Clone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return newMem(m.name, m.size, m.pages.clone())
}

// Crash returns the device as a power cut now would leave it. m goes on unharmed.
func (m *Mem) Crash(c Crash) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	pages := m.durable.clone()
	applyCrash(pages, m.volatile, 0, ^uint64(0), c)
	return newMem(m.name, m.size, pages)
}

// CloneAt returns the device as a power cut just before recorded operation n would
// have left it (writes, zeroings and flushes count; n = Log().Len(): now). With
// KeepAll that is the state after exactly the first n operations. Needs Record.
func (m *Mem) CloneAt(n int, c Crash) (*Mem, error) {
	m.mu.RLock()
	base, log := m.base, m.log
	m.mu.RUnlock()
	if log == nil {
		return nil, fmt.Errorf("clone %s at operation %d: it is not recording", m.name, n)
	}
	return log.ImageAt(base, n, c)
}

// Durable tells whether nothing written so far could be lost by a power cut.
func (m *Mem) Durable() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i := range m.volatile {
		if m.volatile[i].Kind != OpFUA {
			return false
		}
	}
	return true
}

// WriteFile stores the contents as a sparse file at path, for external tools.
func (m *Mem) WriteFile(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := f.Truncate(m.size); err != nil {
		return err
	}
	for k, pg := range m.pages.m {
		off := k * pageSize
		if _, err := f.WriteAt(pg.data[:min(pageSize, m.size-off)], off); err != nil {
			return err
		}
	}
	return f.Close()
}

// LoadMemFile is LoadMem of the file at path; holes of the file are not read.
func LoadMemFile(path string) (*Mem, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	m := NewMem(st.Size(), MemOptions{})
	buf := GetBuf(zeroChunk)
	defer PutBuf(buf)
	for off := int64(0); off < m.size; {
		start, err := f.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // only a hole is left
			break
		}
		if err != nil {
			return nil, err
		}
		end, err := f.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		for off = start; off < min(end, m.size); {
			b := buf[:min(int64(len(buf)), min(end, m.size)-off)]
			if _, err := f.ReadAt(b, off); err != nil {
				return nil, err
			}
			m.pages.write(b, off)
			off += int64(len(b))
		}
		off = end
	}
	m.settle()
	return m, nil
}

// SetReadOnly makes writes fail with ErrReadOnly, or work again.
func (m *Mem) SetReadOnly(ro bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.readOnly = ro
}

// SetFault installs f, or removes the fault function when f is nil.
func (m *Mem) SetFault(f FaultFunc) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

// FailNth returns a FaultFunc that fails the n-th operation of the given kind
// (counting from 1) and every later one with err; a medium that broke stays broken.
func FailNth(kind OpKind, n int, err error) FaultFunc {
	seen := 0
	return func(op OpKind, _, _ int64) error {
		if op != kind {
			return nil
		}
		if seen++; seen < n {
			return nil
		}
		return err
	}
}

// FailOnce is FailNth that fails only the n-th operation.
func FailOnce(kind OpKind, n int, err error) FaultFunc {
	seen := 0
	return func(op OpKind, _, _ int64) error {
		if op != kind {
			return nil
		}
		if seen++; seen != n {
			return nil
		}
		return err
	}
}

// check verifies an operation. mu held.
func (m *Mem) check(kind OpKind, off, n int64) error {
	if m.closed {
		return fmt.Errorf("%s %s at %d: %w", kind, m.name, off, ErrClosed)
	}
	if m.readOnly && kind != OpRead && kind != OpFlush {
		return fmt.Errorf("%s %s at %d: %w", kind, m.name, off, ErrReadOnly)
	}
	if err := checkRange(kind.String(), m.name, off, n, m.size, SectorSize); err != nil {
		return err
	}
	if m.fault != nil {
		if err := m.fault(kind, off, n); err != nil {
			return fmt.Errorf("%s %s at %d, %d bytes: %w", kind, m.name, off, n, err)
		}
	}
	return nil
}

// ReadAt implements Device.
func (m *Mem) ReadAt(p []byte, off int64) (int, error) {
	m.mu.RLock()
	if m.fault != nil { // a fault function counts: it needs the lock alone
		m.mu.RUnlock()
		m.mu.Lock()
		defer m.mu.Unlock()
	} else {
		defer m.mu.RUnlock()
	}
	if err := m.check(OpRead, off, int64(len(p))); err != nil {
		return 0, err
	}
	m.pages.read(p, off)
	m.c.read(len(p))
	return len(p), nil
}

// WriteAt implements Device.
func (m *Mem) WriteAt(p []byte, off int64) (int, error) {
	if err := m.put(OpWrite, off, int64(len(p)), p); err != nil {
		return 0, err
	}
	m.c.write(len(p))
	return len(p), nil
}

// WriteFUA implements Device.
func (m *Mem) WriteFUA(p []byte, off int64) error {
	if err := m.put(OpFUA, off, int64(len(p)), p); err != nil {
		return err
	}
	m.c.fua(len(p))
	return nil
}

// ZeroRange implements Zeroer.
func (m *Mem) ZeroRange(off, n int64) error {
	if err := m.put(OpZero, off, n, nil); err != nil {
		return err
	}
	m.c.zeroes.Add(1)
	return nil
}

// Discard implements Zeroer; the contents stay, as on a device that ignores it.
func (m *Mem) Discard(off, n int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(OpDiscard, off, n); err != nil {
		return err
	}
	m.c.discards.Add(1)
	return nil
}

// put carries out a write, FUA write or zeroing.
func (m *Mem) put(kind OpKind, off, n int64, p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(kind, off, n); err != nil {
		return err
	}
	o := Op{Kind: kind, Off: off, Len: n, Data: append([]byte(nil), p...), Done: 1}
	m.pages.apply(&o, nil)
	m.volatile = append(m.volatile, o)
	if m.log != nil {
		m.log.end(m.log.begin(kind, off, n, o.Data))
	}
	return nil
}

// Flush implements Device. A flush that a fault made fail is kept, as File does.
func (m *Mem) Flush() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lost != nil {
		return fmt.Errorf("flush %s: %w: %w", m.name, ErrFlushLost, m.lost)
	}
	if err := m.check(OpFlush, 0, 0); err != nil {
		if !m.closed {
			m.lost = err
		}
		return err
	}
	m.durable.catchUp(m.pages, m.volatile)
	clear(m.volatile)
	m.volatile = m.volatile[:0]
	if m.log != nil {
		m.log.end(m.log.begin(OpFlush, 0, 0, nil))
	}
	m.c.flushes.Add(1)
	return nil
}

// Size implements Device.
func (m *Mem) Size() int64 { return m.size }

// BlockAlign implements Device.
func (m *Mem) BlockAlign() int { return SectorSize }

// ReadOnly implements Device.
func (m *Mem) ReadOnly() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.readOnly
}

// Close implements Device. What was written stays: Crash and Clone still work.
func (m *Mem) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fmt.Errorf("close %s: %w", m.name, ErrClosed)
	}
	m.closed = true
	return nil
}

// Stats implements Device.
func (m *Mem) Stats() Stats { return m.c.stats() }
