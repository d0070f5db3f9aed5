package journal

import (
	"context"
	"fmt"

	"github.com/ocfuse/ocfuse/journal/format"
)

// ReplayConfig names a log to Replay or Wipe. Dev, BlockSize and Extents are required.
type ReplayConfig struct {
	Dev       Device
	BlockSize int      // bytes; must equal the log's
	Extents   []Extent // where the log is
	// VolumeBlocks is the size of the volume; an image for a block beyond it is
	// corruption. 0: only the device's own limit counts.
	VolumeBlocks uint64
	// AllocBuf returns n bytes of memory fit for direct I/O. Nil: make.
	AllocBuf func(n int) []byte
	// Progress is told how many of the blocks to write home are written. May be nil.
	Progress func(done, total int)
}

// ReplayResult is what a replay did.
type ReplayResult struct {
	Transactions int    // committed transactions found
	Images       int    // images in them
	Written      int    // blocks written home: the newest image of each, if not revoked
	Revoked      int    // images left out because of a revoke record
	LastSequence uint32 // id of the last committed transaction; one less than the first expected if there is none
	NextSequence uint32 // s_sequence in the log's superblock now
	Errno        int32  // s_errno: an error that an aborted journal recorded
	WasEmpty     bool   // s_start was 0: nothing was done
}

// replayFeatures are the features a log may have for us to replay it.
const replayFeatures = writeFeatures | format.IncompatCsumV2 | format.IncompatCsumV3

// Replay brings the home blocks up to date with the committed transactions of a
// log and then marks the log empty, both durably. The log may be any node's; its
// owner must be dead and fenced. A log with s_start 0 needs nothing and nothing is
// written. A replay that was cut short is repeated with the same result.
//
// Three passes (Linux fs/jbd2/recovery.c): scan finds the end of the log and the
// images, revoke finds the images that must not be written, replay writes the
// newest of each block. Memory: 32 bytes per image and about 5 MiB.
//
// What is damaged is ErrCorrupt, found before anything is written: a block number
// outside the volume or inside the log, a committed transaction with a wrong
// checksum. An incomplete transaction at the end is no damage.
//
// The next sequence is two above the last committed one, as Linux does it: the id
// of a transaction whose commit block was missing is not used again.
func Replay(ctx context.Context, cfg ReplayConfig) (ReplayResult, error) {
	r, err := openReplay(cfg)
	if err != nil || r.res.WasEmpty {
		return r.res, err
	}
	if err := r.scan(ctx); err != nil {
		return r.res, err
	}
	r.pickNewest()
	if err := r.applyRevokes(ctx); err != nil {
		return r.res, err
	}
	if err := r.writeHome(ctx); err != nil {
		return r.res, err
	}
	if r.res.Written > 0 {
		if err := r.cfg.Dev.Flush(); err != nil {
			return r.res, fmt.Errorf("flush after replay: %w", err)
		}
	}
	err = r.markEmpty()
	return r.res, err
}

// Wipe marks a log empty that needs no replay: mkfs leaves s_start 1 in an empty
// log, and a slot that is not DIRTY is not replayed whatever its log holds. It
// scans the log, so that the next sequence is above any found there; Transactions
// says how many committed ones were given up (0 in a sane volume).
func Wipe(ctx context.Context, cfg ReplayConfig) (ReplayResult, error) {
	r, err := openReplay(cfg)
	if err != nil || r.res.WasEmpty {
		return r.res, err
	}
	r.wiping = true
	if err := r.scan(ctx); err != nil {
		return r.res, err
	}
	err = r.markEmpty()
	return r.res, err
}

// replayer is the state of one Replay or Wipe.
type replayer struct {
	cfg      ReplayConfig
	log      logMap
	ring     ring
	layout   format.Layout
	seed     uint32 // of checksums
	super    format.Superblock
	superBuf []byte
	wiping   bool // damage does not matter
	in       logReader
	res      ReplayResult

	images  []logImage // committed, in log order; after pickNewest by block, newest only
	revokes []logBlock // committed revoke blocks
}

// logImage is an image in the log.
type logImage struct {
	blkno uint64
	order uint32 // among all images of the log
	pos   uint32 // log block
	tx    uint32 // index of its transaction: sequence - first sequence
	esc   bool
}

// logBlock is a block of a transaction.
type logBlock struct {
	pos, tx uint32
}

// openReplay reads the superblock and refuses what cannot be replayed.
func openReplay(cfg ReplayConfig) (*replayer, error) {
	r := &replayer{cfg: cfg}
	if r.cfg.AllocBuf == nil {
		r.cfg.AllocBuf = func(n int) []byte { return make([]byte, n) }
	}
	var err error
	if r.log, err = newLogMap(cfg.Extents, cfg.BlockSize); err != nil {
		return r, err
	}
	if r.super, r.superBuf, err = readSuper(cfg.Dev, &r.log, r.cfg.AllocBuf); err != nil {
		return r, err
	}
	if bad := r.super.Incompat &^ replayFeatures; bad != 0 {
		return r, fmt.Errorf("%w: log has %v", ErrUnsupported, bad)
	}
	if r.super.ROCompat != 0 {
		return r, fmt.Errorf("%w: log has ro_compat features %#x, none are known", ErrUnsupported, r.super.ROCompat)
	}
	if r.layout, err = format.NewLayout(cfg.BlockSize, r.super.Incompat); err != nil {
		return r, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	r.seed = format.Seed(r.super.UUID)
	r.ring = ring{first: r.super.First, end: r.super.MaxLen}
	r.in = logReader{dev: cfg.Dev, log: &r.log, ring: r.ring, alloc: r.cfg.AllocBuf}
	r.res = ReplayResult{
		Errno: r.super.Errno, WasEmpty: r.super.Start == 0,
		LastSequence: r.super.Sequence - 1, NextSequence: r.super.Sequence,
	}
	return r, nil
}

// markEmpty writes the superblock of an empty log.
func (r *replayer) markEmpty() error {
	r.super.Start = 0
	r.super.Sequence = r.res.LastSequence + 2
	r.super.Put(r.superBuf)
	off, _ := r.log.run(0, 1)
	if err := r.cfg.Dev.WriteFUA(r.superBuf, off); err != nil {
		return fmt.Errorf("write journal superblock at %d: %w", off, err)
	}
	r.res.NextSequence = r.super.Sequence
	return nil
}

// readWindow is how much of the log is read at once, in bytes.
const readWindow = 1 << 20

// logReader reads log blocks through a window, for a walk in log order.
type logReader struct {
	dev   Device
	log   *logMap
	ring  ring
	alloc func(int) []byte

	buf []byte
	pos uint32 // first log block in the window
	n   uint32 // log blocks in it
}

// block returns log block pos, valid until the next call. ahead is how many blocks
// from pos are likely wanted.
func (w *logReader) block(pos, ahead uint32) ([]byte, error) {
	bs := uint32(w.log.bs)
	if w.n == 0 || pos < w.pos || pos >= w.pos+w.n {
		if w.buf == nil {
			w.buf = w.alloc(int(min(readWindow, int64(w.ring.end)*w.log.bs)))
		}
		off, k := w.log.run(pos, min(max(ahead, 1), uint32(len(w.buf))/bs, w.ring.end-pos))
		w.n = 0
		if _, err := w.dev.ReadAt(w.buf[:k*bs], off); err != nil {
			return nil, fmt.Errorf("read %d log blocks at %d: %w", k, off, err)
		}
		w.pos, w.n = pos, k
	}
	at := (pos - w.pos) * bs
	return w.buf[at : at+bs], nil
}
