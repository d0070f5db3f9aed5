package mkfs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// batch is the most that one write holds, in bytes.
const batch = mib

// Format makes a volume on dev. It does not look at what is there: Inspect does.
// Nothing is written before the options are known to fit; after an error from the
// device, or when ctx ends, dev holds no volume. On return all of it is durable.
func Format(ctx context.Context, dev blockdev.Device, o Options) error {
	p, err := NewPlan(dev.Size(), dev.BlockAlign(), o)
	if err != nil {
		return err
	}
	return FormatPlan(ctx, dev, p, o)
}

// FormatPlan is Format with a plan made before; of o only Identity, Discard and
// Progress count.
func FormatPlan(ctx context.Context, dev blockdev.Device, p *Plan, o Options) error {
	if dev.ReadOnly() {
		return fmt.Errorf("format: %w", blockdev.ErrReadOnly)
	}
	b, err := newBuilder(p, o.Identity.Fill())
	if err != nil {
		return err
	}
	return b.write(ctx, dev, o)
}

// write puts the volume on dev.
func (b *builder) write(ctx context.Context, dev blockdev.Device, o Options) error {
	w := &writer{ctx: ctx, dev: dev, b: b, progress: o.Progress}
	if o.Discard { // what is left of an old volume must not be taken for one
		if err := w.clear(); err != nil {
			return fmt.Errorf("format: %w", err)
		}
		if err := w.discard(); err != nil {
			return err
		}
	}
	for _, step := range []func() error{w.clear, w.zero, w.groups, w.metadata, dev.Flush, w.supers} {
		if err := step(); err != nil {
			return fmt.Errorf("format: %w", err)
		}
	}
	return nil
}

// Fill chooses the zero fields.
func (id Identity) Fill() Identity {
	var r [32]byte
	rand.Read(r[:]) // never fails
	if id.UUID == [16]byte{} {
		copy(id.UUID[:], r[:16])
		id.UUID[6] = id.UUID[6]&0x0F | 0x40 // version 4, variant 1 (RFC 9562)
		id.UUID[8] = id.UUID[8]&0x3F | 0x80
	}
	if id.Generation == 0 {
		id.Generation = binary.LittleEndian.Uint32(r[16:]) | 1
	}
	if id.DxSeed == [3]uint32{} {
		for i := range id.DxSeed {
			id.DxSeed[i] = binary.LittleEndian.Uint32(r[20+4*i:])
		}
	}
	if id.Time.IsZero() {
		id.Time = time.Now()
	}
	return id
}

// writer writes what a builder laid out.
type writer struct {
	ctx      context.Context
	dev      blockdev.Device
	b        *builder
	progress func(Progress)
}

// report tells the caller how far a stage is, and whether the context ended.
func (w *writer) report(stage string, done, total int64) error {
	if err := w.ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w; the device holds no volume now", stage, err)
	}
	if w.progress != nil {
		w.progress(Progress{stage, done, total})
	}
	return nil
}

// discard tells the device that nothing on the volume is of value.
func (w *writer) discard() error {
	const step = 2 * gib
	total := int64(w.b.plan.bytes())
	for off := int64(0); off < total; off += step {
		if err := w.report("Discarding device blocks", off, total); err != nil {
			return err
		}
		if err := blockdev.Discard(w.dev, off, min(step, total-off)); err != nil {
			return fmt.Errorf("format: %w", err)
		}
	}
	return w.report("Discarding device blocks", total, total)
}

// clear destroys what was at both ends, an old superblock first of all, and the
// leading blocks keep other software from taking the volume for its own.
func (w *writer) clear() error {
	total := int64(w.b.plan.bytes())
	n := min(clearEnds, total)
	if err := blockdev.ZeroRange(w.dev, 0, n); err != nil {
		return err
	}
	if err := blockdev.ZeroRange(w.dev, total-n, n); err != nil {
		return err
	}
	return w.dev.Flush()
}

// zero clears journals, heartbeat area and whatever else must read as zeros.
func (w *writer) zero() error {
	const stage = "Formatting journals"
	cs := int64(w.b.g.ClusterSize)
	var total, done int64
	for _, e := range w.b.zero {
		total += int64(e.clusters) * cs
	}
	for _, e := range w.b.zero {
		off, n := w.b.g.ByteOfBlock(e.blkno), int64(e.clusters)*cs
		for n > 0 {
			if err := w.report(stage, done, total); err != nil {
				return err
			}
			k := min(n, 64*mib)
			if err := blockdev.ZeroRange(w.dev, off, k); err != nil {
				return err
			}
			off, n, done = off+k, n-k, done+k
		}
	}
	return w.report(stage, total, total)
}

// groups writes the descriptors of the cluster groups.
func (w *writer) groups() error {
	const stage = "Creating bitmaps"
	g := w.b.g
	bitmap := w.b.inodes[ondisk.SysGlobalBitmap][0]
	chains, parent := int(bitmap.Chains().Count()), bitmap.Blkno()
	block := blockdev.GetBuf(g.BlockSize)
	defer blockdev.PutBuf(block)
	total := g.GroupCount()
	for i := range total {
		if i%64 == 0 {
			if err := w.report(stage, int64(i), int64(total)); err != nil {
				return err
			}
		}
		w.b.clusters.descriptor(block, i, chains, parent)
		w.seal(block, ondisk.CheckOffGroup)
		if _, err := w.dev.WriteAt(block, g.ByteOfBlock(g.GroupBlkno(i))); err != nil {
			return err
		}
	}
	return w.report(stage, int64(total), int64(total))
}

// seal writes the block check where the volume has checks.
func (w *writer) seal(block []byte, check int) {
	if check >= 0 && w.b.g.HasMetaECC() {
		ondisk.ComputeCheck(block, check)
	}
}

// metadata writes all other blocks, neighbours together.
func (w *writer) metadata() error {
	const stage = "Writing system files"
	g := w.b.g
	order := make([]uint64, 0, len(w.b.blocks))
	for blkno := range w.b.blocks {
		order = append(order, blkno)
	}
	slices.Sort(order)
	buf := blockdev.GetBuf(batch)
	defer blockdev.PutBuf(buf)
	for i := 0; i < len(order); {
		if err := w.report(stage, int64(i), int64(len(order))); err != nil {
			return err
		}
		first, n := order[i], 0
		for ; i < len(order) && order[i] == first+uint64(n) && (n+1)*g.BlockSize <= batch; i, n = i+1, n+1 {
			m := w.b.blocks[order[i]]
			w.seal(m.data, m.check)
			copy(buf[n*g.BlockSize:], m.data)
		}
		if _, err := w.dev.WriteAt(buf[:n*g.BlockSize], g.ByteOfBlock(first)); err != nil {
			return err
		}
	}
	return w.report(stage, int64(len(order)), int64(len(order)))
}

// leadingText marks the blocks before the superblock for software that looks for
// OCFS version 1 there.
const leadingText = "this is an ocfs2 volume"

// supers writes the leading blocks, the copies of the superblock, and at the very
// end the superblock itself.
func (w *writer) supers() error {
	const stage = "Writing superblock"
	if err := w.report(stage, 0, 1); err != nil {
		return err
	}
	g := w.b.g
	for _, blkno := range w.b.backups {
		if _, err := w.dev.WriteAt(w.b.superblock(blkno), g.ByteOfBlock(blkno)); err != nil {
			return err
		}
	}
	lead := slices.Repeat([]byte{2}, ondisk.SuperBlkno*g.BlockSize)
	for _, off := range []int{8, 136, 512 + 48, 512 + 132} {
		copy(lead[off:], leadingText+"\x00")
	}
	if _, err := w.dev.WriteAt(lead, 0); err != nil {
		return err
	}
	if err := w.dev.Flush(); err != nil {
		return err
	}
	// Durable by itself, and all else was flushed: nothing is left to fail.
	if err := w.dev.WriteFUA(w.b.superblock(ondisk.SuperBlkno), g.ByteOfBlock(ondisk.SuperBlkno)); err != nil {
		return err
	}
	return w.report(stage, 1, 1)
}
