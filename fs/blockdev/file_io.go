package blockdev

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ioError names the failed operation; only built when something failed.
func (d *File) ioError(op string, off int64, n int, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	switch {
	case errors.Is(err, os.ErrClosed):
		err = ErrClosed
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("%w: the file became shorter", ErrRange)
	}
	return fmt.Errorf("%s %s at %d, %d bytes: %w", op, d.path, off, n, err)
}

// ReadAt implements Device.
func (d *File) ReadAt(p []byte, off int64) (int, error) {
	if err := checkRange("read", d.path, off, int64(len(p)), d.size, d.align); err != nil {
		return 0, err
	}
	if !aligned(p, d.memAlign) {
		return d.bounceRead(p, off)
	}
	n, err := d.f.ReadAt(p, off)
	if err != nil {
		return n, d.ioError("read", off, len(p), err)
	}
	d.c.read(n)
	return n, nil
}

// bounceRead reads into p through aligned memory.
func (d *File) bounceRead(p []byte, off int64) (int, error) {
	d.c.bounced.Add(1)
	buf := GetBuf(min(len(p), zeroChunk))
	defer PutBuf(buf)
	done := 0
	for done < len(p) {
		b := buf[:min(len(buf), len(p)-done)]
		n, err := d.f.ReadAt(b, off+int64(done))
		done += copy(p[done:], b[:n])
		if err != nil {
			return done, d.ioError("read", off, len(p), err)
		}
	}
	d.c.read(done)
	return done, nil
}

// checkWrite is checkRange and the read-only check.
func (d *File) checkWrite(off, n int64) error {
	if d.readOnly {
		return fmt.Errorf("write %s at %d: %w", d.path, off, ErrReadOnly)
	}
	return checkRange("write", d.path, off, n, d.size, d.align)
}

// WriteAt implements Device.
func (d *File) WriteAt(p []byte, off int64) (int, error) {
	if err := d.checkWrite(off, int64(len(p))); err != nil {
		return 0, err
	}
	if !aligned(p, d.memAlign) {
		return d.bounceWrite(p, off)
	}
	n, err := d.f.WriteAt(p, off)
	if err != nil {
		return n, d.ioError("write", off, len(p), err)
	}
	d.c.write(n)
	return n, nil
}

// bounceWrite writes p from aligned memory.
func (d *File) bounceWrite(p []byte, off int64) (int, error) {
	d.c.bounced.Add(1)
	buf := GetBuf(min(len(p), zeroChunk))
	defer PutBuf(buf)
	done := 0
	for done < len(p) {
		b := buf[:copy(buf, p[done:])]
		n, err := d.f.WriteAt(b, off+int64(done))
		done += n
		if err != nil {
			return done, d.ioError("write", off, len(p), err)
		}
	}
	d.c.write(done)
	return done, nil
}

// WriteFUA implements Device with pwritev2 and RWF_DSYNC, which the kernel turns
// into a FUA write where the device has one.
func (d *File) WriteFUA(p []byte, off int64) error {
	if err := d.checkWrite(off, int64(len(p))); err != nil {
		return err
	}
	b := p
	if !aligned(p, d.memAlign) {
		d.c.bounced.Add(1)
		b = GetBuf(len(p))
		defer PutBuf(b)
		copy(b, p)
	}
	for done := 0; done < len(b); {
		n, err := d.pwriteSync(b[done:], off+int64(done))
		if err != nil {
			return d.ioError("write", off, len(p), err)
		}
		done += n
	}
	d.c.fua(len(p))
	return nil
}

// pwriteSync is one pwritev2 with RWF_DSYNC.
func (d *File) pwriteSync(p []byte, off int64) (n int, err error) {
	err = d.control(func(fd int) (err error) {
		n, err = unix.Pwritev2(fd, [][]byte{p}, off, unix.RWF_DSYNC)
		return err
	})
	if err == nil && n == 0 && len(p) > 0 {
		return 0, io.ErrShortWrite
	}
	return n, err
}

// Flush implements Device with fdatasync. The kernel reports a lost write once and
// then forgets it, so the first failure is kept and answers every later call.
func (d *File) Flush() error {
	if e := d.flushErr.Load(); e != nil {
		return fmt.Errorf("flush %s: %w: %w", d.path, ErrFlushLost, *e)
	}
	if d.readOnly {
		return nil
	}
	err := d.control(unix.Fdatasync)
	if errors.Is(err, os.ErrClosed) {
		return d.ioError("flush", 0, 0, err)
	}
	if err != nil {
		d.flushErr.CompareAndSwap(nil, &err)
		return d.ioError("flush", 0, 0, err)
	}
	// Another flush may have failed while this one ran, and taken the kernel's only
	// report of a write that this one should have covered.
	if e := d.flushErr.Load(); e != nil {
		return fmt.Errorf("flush %s: %w: %w", d.path, ErrFlushLost, *e)
	}
	d.c.flushes.Add(1)
	return nil
}

// ZeroRange implements Zeroer: fallocate on a file, BLKZEROOUT on a device, and
// plain writes where the system below has neither.
func (d *File) ZeroRange(off, n int64) error {
	if err := d.checkWrite(off, n); err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	err := d.control(func(fd int) error {
		if d.block {
			return blkRange(fd, unix.BLKZEROOUT, off, n)
		}
		return unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if unsupported(err) {
		return writeZeros(d, off, n)
	}
	if err != nil {
		return d.ioError("zero", off, int(n), err)
	}
	d.c.zeroes.Add(1)
	return nil
}

// Discard implements Zeroer. A system below that knows no discard is no error.
func (d *File) Discard(off, n int64) error {
	if err := d.checkWrite(off, n); err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	err := d.control(func(fd int) error {
		if d.block {
			return blkRange(fd, unix.BLKDISCARD, off, n)
		}
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if err != nil && !unsupported(err) {
		return d.ioError("discard", off, int(n), err)
	}
	if err == nil {
		d.c.discards.Add(1)
	}
	return nil
}

// control runs fn on the file descriptor, again when a signal interrupted it. The
// descriptor stays open meanwhile; a closed file gives os.ErrClosed.
func (d *File) control(fn func(fd int) error) (err error) {
	cerr := d.raw.Control(func(fd uintptr) {
		for {
			if err = fn(int(fd)); err != unix.EINTR {
				return
			}
		}
	})
	if cerr != nil { // the only reason there is; its own error is not exported
		return os.ErrClosed
	}
	return err
}

// unsupported tells that the device or filesystem lacks the operation.
func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL)
}
