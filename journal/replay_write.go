package journal

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/ocfuse/ocfuse/journal/format"
)

// replayBatch is how much is read from the log before it is written home, in bytes.
const replayBatch = 4 << 20

// writeHome writes the picked images home. It walks the log in its order, so that
// reads are sequential, and sorts each batch by block, so that writes are large.
func (r *replayer) writeHome(ctx context.Context) error {
	images := r.images
	slices.SortFunc(images, func(a, b logImage) int { return cmp.Compare(a.order, b.order) })
	per := replayBatch / r.cfg.BlockSize
	buf := r.cfg.AllocBuf(min(per, len(images)) * r.cfg.BlockSize)
	total := len(images)
	for len(images) > 0 {
		if ctx.Err() != nil {
			return fmt.Errorf("replay of the journal: %w", context.Cause(ctx))
		}
		batch := images[:min(per, len(images))]
		images = images[len(batch):]
		if err := r.writeBatch(batch, buf); err != nil {
			return err
		}
		r.res.Written += len(batch)
		if r.cfg.Progress != nil {
			r.cfg.Progress(r.res.Written, total)
		}
	}
	return nil
}

// writeBatch reads the images of a batch, in log order, each to the place that its
// block number has among them, and writes runs of consecutive blocks.
func (r *replayer) writeBatch(batch []logImage, buf []byte) error {
	bs := r.cfg.BlockSize
	byBlock := slices.Clone(batch)
	slices.SortFunc(byBlock, func(a, b logImage) int { return cmp.Compare(a.blkno, b.blkno) })
	for i, im := range batch {
		at, _ := slices.BinarySearchFunc(byBlock, im.blkno, func(x logImage, n uint64) int { return cmp.Compare(x.blkno, n) })
		b, err := r.in.block(im.pos, uint32(len(batch)-i+1))
		if err != nil {
			return err
		}
		dst := buf[at*bs : (at+1)*bs]
		copy(dst, b)
		if im.esc {
			format.Unescape(dst)
		}
	}
	for first, i := 0, 1; i <= len(byBlock); i++ {
		if i < len(byBlock) && byBlock[i].blkno == byBlock[i-1].blkno+1 {
			continue
		}
		blkno := byBlock[first].blkno
		if _, err := r.cfg.Dev.WriteAt(buf[first*bs:i*bs], int64(blkno)*int64(bs)); err != nil {
			return fmt.Errorf("replay: write %d blocks home at block %d: %w", i-first, blkno, err)
		}
		first = i
	}
	return nil
}
