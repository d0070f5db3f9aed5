package journal

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/ocfuse/ocfuse/journal/format"
)

// scanState is the position of the scan and what the transaction under it holds so far.
type scanState struct {
	pos     uint32
	left    int    // ring blocks not yet walked; a log cannot be longer than its ring
	tx      uint32 // index of the transaction expected at pos
	images  int    // len of replayer.images at its beginning
	revokes int
	damage  error // what is wrong with it, if it turns out to be committed
	tags    []format.Tag
}

// take moves over n blocks; false if the ring has no more.
func (s *scanState) take(r ring, n int) bool {
	if n > s.left {
		return false
	}
	s.left -= n
	s.pos = r.add(s.pos, uint32(n))
	return true
}

// scan walks the log from its tail, to the first block that is not the one expected
// there, and keeps what belongs to committed transactions.
func (r *replayer) scan(ctx context.Context) error {
	s := scanState{pos: r.super.Start, left: r.ring.size()}
	for steps := 0; s.left > 0; steps++ {
		if steps%256 == 0 && ctx.Err() != nil {
			return fmt.Errorf("scan of the journal: %w", context.Cause(ctx))
		}
		b, err := r.in.block(s.pos, 64)
		if err != nil {
			return err
		}
		h, ok := format.ParseHeader(b)
		if !ok || h.Sequence != r.super.Sequence+s.tx {
			break
		}
		more := false
		switch h.Type {
		case format.TypeDescriptor:
			more, err = r.scanDescriptor(&s, b)
		case format.TypeRevoke:
			more = r.scanRevoke(&s, b)
		case format.TypeCommit:
			more, err = r.scanCommit(&s, b)
		}
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	r.images = r.images[:s.images] // without the incomplete one
	r.revokes = r.revokes[:s.revokes]
	r.res.Transactions = int(s.tx)
	r.res.Images = len(r.images)
	r.res.LastSequence = r.super.Sequence + s.tx - 1
	return nil
}

// scanDescriptor notes the images that follow descriptor b.
func (r *replayer) scanDescriptor(s *scanState, b []byte) (more bool, err error) {
	if !r.layout.BlockValid(r.seed, b) && s.damage == nil {
		s.damage = fmt.Errorf("descriptor at log block %d has a wrong checksum", s.pos)
	}
	if s.tags, err = r.layout.AppendTags(s.tags[:0], b); err != nil {
		return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	seq := r.super.Sequence + s.tx
	s.take(r.ring, 1)
	for _, t := range s.tags {
		pos := s.pos
		if !s.take(r.ring, 1) {
			return false, nil
		}
		if err := r.checkTarget(t.Blkno); err != nil && s.damage == nil {
			s.damage = fmt.Errorf("image at log block %d: %w", pos, err)
		}
		if r.layout.Checksums() {
			img, err := r.in.block(pos, 64)
			if err != nil {
				return false, err
			}
			if got := r.layout.TagChecksum(r.seed, seq, img); got != t.Checksum && s.damage == nil {
				s.damage = fmt.Errorf("image of block %d at log block %d has a wrong checksum (%#x, tag says %#x)", t.Blkno, pos, got, t.Checksum)
			}
		}
		r.images = append(r.images, logImage{
			blkno: t.Blkno, order: uint32(len(r.images)), pos: pos, tx: s.tx, esc: t.Flags&format.FlagEscape != 0,
		})
	}
	return true, nil
}

// checkTarget refuses a home location that no transaction can have.
func (r *replayer) checkTarget(blkno uint64) error {
	switch {
	case r.cfg.VolumeBlocks != 0 && blkno >= r.cfg.VolumeBlocks:
		return fmt.Errorf("block %d is outside the volume of %d blocks", blkno, r.cfg.VolumeBlocks)
	case blkno >= uint64(math.MaxInt64)/uint64(r.cfg.BlockSize):
		return fmt.Errorf("block %d is beyond any device", blkno)
	case r.log.covers(blkno):
		return fmt.Errorf("block %d is part of the journal itself", blkno)
	}
	return nil
}

// scanRevoke notes revoke block b for the second pass.
func (r *replayer) scanRevoke(s *scanState, b []byte) (more bool) {
	if !r.layout.BlockValid(r.seed, b) && s.damage == nil {
		s.damage = fmt.Errorf("revoke block at log block %d has a wrong checksum", s.pos)
	}
	r.revokes = append(r.revokes, logBlock{pos: s.pos, tx: s.tx})
	return s.take(r.ring, 1)
}

// scanCommit ends the transaction. A commit block with a wrong checksum was not
// written completely: the log ends before it.
func (r *replayer) scanCommit(s *scanState, b []byte) (more bool, err error) {
	if !r.layout.CommitValid(r.seed, b) {
		return false, nil
	}
	if s.damage != nil && !r.wiping {
		return false, fmt.Errorf("%w: committed transaction %d: %w", ErrCorrupt, r.super.Sequence+s.tx, s.damage)
	}
	s.damage = nil
	s.images, s.revokes = len(r.images), len(r.revokes)
	s.tx++
	return s.take(r.ring, 1), nil
}

// pickNewest keeps the newest image of each block, by block number.
func (r *replayer) pickNewest() {
	slices.SortFunc(r.images, func(a, b logImage) int {
		if c := cmp.Compare(a.blkno, b.blkno); c != 0 {
			return c
		}
		return cmp.Compare(b.order, a.order) // newest first
	})
	r.images = slices.CompactFunc(r.images, func(a, b logImage) bool { return a.blkno == b.blkno })
}

// applyRevokes drops images that were revoked in their own or a later transaction.
// If the newest image of a block is revoked all older ones are, so looking at the
// newest is enough.
func (r *replayer) applyRevokes(ctx context.Context) error {
	var blknos []uint64
	var dropped []bool
	for _, rb := range r.revokes {
		if ctx.Err() != nil {
			return fmt.Errorf("replay of the journal: %w", context.Cause(ctx))
		}
		b, err := r.in.block(rb.pos, 1)
		if err != nil {
			return err
		}
		if blknos, err = r.layout.AppendRevoked(blknos[:0], b); err != nil {
			return fmt.Errorf("%w: log block %d: %w", ErrCorrupt, rb.pos, err)
		}
		if dropped == nil {
			dropped = make([]bool, len(r.images))
		}
		for _, blkno := range blknos {
			i, ok := slices.BinarySearchFunc(r.images, blkno, func(im logImage, n uint64) int { return cmp.Compare(im.blkno, n) })
			if ok && r.images[i].tx <= rb.tx && !dropped[i] {
				dropped[i] = true
				r.res.Revoked++
			}
		}
	}
	if r.res.Revoked == 0 {
		return nil
	}
	keep := r.images[:0]
	for i, im := range r.images {
		if !dropped[i] {
			keep = append(keep, im)
		}
	}
	r.images = keep
	return nil
}
