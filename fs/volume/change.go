package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// change runs one transaction: reserves what it may allocate, opens a handle,
// runs fn, and closes it. Everything that can fail for an ordinary reason must
// be checked before or in the reservation: an error from fn leaves a half-done
// change, so the journal gives up and the mount becomes read-only.
func (v *Volume) change(ctx context.Context, req alloc.Request, credits int, fn func(*journal.Handle, *alloc.Reservation) error) error {
	res, err := v.alloc.Reserve(ctx, req)
	if err != nil {
		return err
	}
	defer res.Release()
	return v.transact(ctx, credits+res.Credits(), func(tx *journal.Handle) error { return fn(tx, res) })
}

// transact is change without a reservation.
func (v *Volume) transact(ctx context.Context, credits int, fn func(*journal.Handle) error) error {
	tx, err := v.j.Start(v.bounded(ctx), credits)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		v.j.Abort(fmt.Errorf("a change failed half-way: %w", err))
		_ = tx.Stop() // the journal has aborted; err says why
		return err
	}
	return tx.Stop()
}

// bounded is the context for waiting for the journal: the disk's work, which
// ends by itself. Requests of the kernel wait for it even when interrupted,
// because their context says that it is done before it is over (locking.Await
// knows, the journal does not). A time limit counts.
func (v *Volume) bounded(ctx context.Context) context.Context {
	if _, limited := ctx.Deadline(); limited {
		return ctx
	}
	return v.background
}

// writable refuses changes on a read-only or failed mount.
func (v *Volume) writable() error {
	if v.opts.ReadOnly {
		return ErrReadOnly
	}
	if err := v.j.Err(); err != nil {
		return fmt.Errorf("%w after an error: %w", ErrReadOnly, err)
	}
	return nil
}

// writeData writes whole clusters or blocks of file data.
func (v *Volume) writeData(p []byte, blkno uint64) error {
	if _, err := v.dev.WriteAt(p, v.geo.ByteOfBlock(blkno)); err != nil {
		return fmt.Errorf("writing data at block %d: %w", blkno, err)
	}
	return nil
}

// wantFlush starts a full journal flush in the background and tells the lock
// manager when it is done. One flush serves every lock that asked before it
// began.
func (v *Volume) wantFlush() {
	select {
	case v.flushC <- struct{}{}:
	default: // one is due already
	}
}

// flusher runs the flushes that downconverts wait for. After a failed one nobody
// is told: the blocks will never be home, so that their locks are kept until
// the mount ends, and asking again would not help.
func (v *Volume) flusher() {
	defer close(v.flusherDone)
	for range v.flushC {
		if err := v.j.FullFlush(v.background); err != nil {
			v.logf("flushing the journal for another node: %v", err)
			continue
		}
		v.locks.Flushed()
	}
}

// fatal says whether an error means that the volume's metadata cannot be
// trusted any more, and makes the mount read-only if so.
func (v *Volume) fatal(err error) bool {
	if errors.Is(err, ondisk.ErrCorrupt) && !errors.Is(err, blockdev.ErrFenced) {
		v.j.Abort(err)
		return true
	}
	return false
}
