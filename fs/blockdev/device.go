package blockdev

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// SectorSize is the unit of addressing and of atomic writes, in bytes.
const SectorSize = 512

// Kinds of failure, for errors.Is. Errors of the operating system (fs.ErrNotExist,
// fs.ErrPermission, syscall.Errno) stay reachable by errors.Is as well.
var (
	// ErrReadOnly: a write to a device that was opened read-only, or is read-only itself.
	ErrReadOnly = errors.New("device is read-only")
	// ErrFenced: the gate refused a write because this node may have been declared dead.
	ErrFenced = errors.New("node is fenced")
	// ErrAlign: an offset or length is not a multiple of BlockAlign.
	ErrAlign = errors.New("not aligned to the sector size")
	// ErrRange: the access begins or ends outside the device.
	ErrRange = errors.New("outside the device")
	// ErrBusy: exclusive use was asked for, and somebody else uses the device.
	ErrBusy = errors.New("device is in use")
	// ErrNotDevice: the path names neither a regular file nor a block device.
	ErrNotDevice = errors.New("not a block device or image file")
	// ErrTooSmall: the device is smaller than Options.MinSize.
	ErrTooSmall = errors.New("device is too small")
	// ErrFlushLost: an earlier flush failed, so writes that should be durable may be lost.
	ErrFlushLost = errors.New("an earlier flush failed; written data may be lost")
	// ErrClosed: the device was closed.
	ErrClosed = errors.New("device is closed")
)

// Device is a volume. See the package comment for the rules all devices keep.
type Device interface {
	// ReadAt fills p from byte offset off. It reads all of p or fails; n < len(p)
	// comes with an error.
	ReadAt(p []byte, off int64) (n int, err error)
	// WriteAt writes p at byte offset off, all of it or with an error. After an
	// error any subset of the sectors may have been written.
	WriteAt(p []byte, off int64) (n int, err error)
	// WriteFUA is WriteAt that returns only when p itself is durable. It says
	// nothing about earlier writes: order those with Flush first.
	WriteFUA(p []byte, off int64) error
	// Flush makes every write that had returned before the call durable.
	Flush() error
	// Size is the usable size in bytes, a multiple of BlockAlign.
	Size() int64
	// BlockAlign is the unit in bytes (a power of two, at least SectorSize) that
	// offsets and lengths must be multiples of.
	BlockAlign() int
	// ReadOnly tells that writes fail with ErrReadOnly.
	ReadOnly() bool
	// Close releases the device. It does not flush.
	Close() error
	// Stats returns the counters since the device was opened.
	Stats() Stats
}

// Zeroer is implemented by devices that can zero a range without moving zeros.
// Use the functions ZeroRange and Discard, which work on every device.
type Zeroer interface {
	// ZeroRange makes [off, off+n) read as zeros; durability as for WriteAt.
	ZeroRange(off, n int64) error
	// Discard tells the device that [off, off+n) holds nothing of value. It may
	// be ignored, and what a later read returns is not defined.
	Discard(off, n int64) error
}

// Stats counts completed operations of a device. Bytes are those asked for.
type Stats struct {
	Reads      uint64 `json:"reads"`
	ReadBytes  uint64 `json:"read_bytes"`
	Writes     uint64 `json:"writes"` // without FUA writes
	WriteBytes uint64 `json:"write_bytes"`
	FUAs       uint64 `json:"fua_writes"`
	FUABytes   uint64 `json:"fua_bytes"`
	Flushes    uint64 `json:"flushes"`
	Zeroes     uint64 `json:"zeroes"` // ZeroRange calls that moved no data
	Discards   uint64 `json:"discards"`
	Bounced    uint64 `json:"bounced"` // operations copied because memory was not aligned
}

// counters is Stats with atomic fields; the zero value is ready.
type counters struct {
	reads, readBytes, writes, writeBytes atomic.Uint64
	fuas, fuaBytes, flushes              atomic.Uint64
	zeroes, discards, bounced            atomic.Uint64
}

func (c *counters) read(n int)  { c.reads.Add(1); c.readBytes.Add(uint64(n)) }
func (c *counters) write(n int) { c.writes.Add(1); c.writeBytes.Add(uint64(n)) }
func (c *counters) fua(n int)   { c.fuas.Add(1); c.fuaBytes.Add(uint64(n)) }

func (c *counters) stats() Stats {
	return Stats{
		Reads: c.reads.Load(), ReadBytes: c.readBytes.Load(),
		Writes: c.writes.Load(), WriteBytes: c.writeBytes.Load(),
		FUAs: c.fuas.Load(), FUABytes: c.fuaBytes.Load(),
		Flushes: c.flushes.Load(), Zeroes: c.zeroes.Load(),
		Discards: c.discards.Load(), Bounced: c.bounced.Load(),
	}
}

// checkRange verifies that [off, off+n) is aligned and inside a device of size
// bytes. op and name only serve the message.
func checkRange(op, name string, off, n, size int64, align int) error {
	if mask := int64(align - 1); off&mask != 0 || n&mask != 0 {
		return fmt.Errorf("%s %s at %d, %d bytes: %w (%d)", op, name, off, n, ErrAlign, align)
	}
	if off < 0 || n < 0 || off > size || n > size-off {
		return fmt.Errorf("%s %s at %d, %d bytes: %w (size %d)", op, name, off, n, ErrRange, size)
	}
	return nil
}
