package xattr

import (
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// maxBucketBlocks is a bucket in blocks of 512 bytes.
const maxBucketBlocks = ondisk.XattrBucketSize >> 9

// rootSize is the size of the root of a value's tree.
const rootSize = 48

// bucket is a bucket in memory: its blocks, and a copy of them in one piece as
// they were when it was read.
type bucket struct {
	geo    *ondisk.Geometry
	blocks [maxBucketBlocks]*buffer.Buf
	n      int
	data   [ondisk.XattrBucketSize]byte
}

// readBucket reads and validates the bucket that begins at block blkno.
func (w *wiper) readBucket(blkno uint64) (*bucket, error) {
	b := &bucket{geo: w.geo}
	for b.n < ondisk.XattrBucketSize>>w.geo.BlockBits {
		buf, err := w.m.ReadPlain(blkno + uint64(b.n))
		if err != nil {
			b.put()
			return nil, err
		}
		b.blocks[b.n] = buf
		b.n++
	}
	b.gather()
	if err := b.verify(blkno); err != nil {
		b.put()
		return nil, err
	}
	return b, nil
}

// gather copies the blocks into data.
func (b *bucket) gather() {
	for k, buf := range b.blocks[:b.n] {
		copy(b.data[k<<b.geo.BlockBits:], buf.Data)
	}
}

// verify checks the block check, mending a flipped bit in the blocks as well,
// and the entries.
func (b *bucket) verify(blkno uint64) error {
	if b.geo.HasMetaECC() && !ondisk.CheckMatches(b.data[:], ondisk.CheckOffBucket) {
		if err := ondisk.ValidateCheck(b.data[:], ondisk.CheckOffBucket); err != nil {
			return ondisk.Corruptf("xattr bucket", blkno, "%v", err)
		}
		for k, buf := range b.blocks[:b.n] {
			copy(buf.Data, b.data[k<<b.geo.BlockBits:])
		}
	}
	return ondisk.CheckXattrBucket(b.data[:], blkno)
}

// place finds the block that holds the value root at offset off.
func (b *bucket) place(off int) (*buffer.Buf, int, error) {
	k, in := off>>b.geo.BlockBits, off&(b.geo.BlockSize-1)
	if in+rootSize > b.geo.BlockSize {
		return nil, 0, ondisk.Corruptf("xattr bucket", b.blocks[0].Blkno, "value root at %d straddles a block boundary", off)
	}
	return b.blocks[k], in, nil
}

// credits is the number of blocks that seal's function declares.
func (b *bucket) credits() int {
	if b.geo.HasMetaECC() {
		return b.n
	}
	return 0
}

// seal returns what keeps the bucket's block check right in a transaction that
// changed it; nil if the volume has none.
func (b *bucket) seal() func(*journal.Handle) error {
	if !b.geo.HasMetaECC() {
		return nil
	}
	return func(tx *journal.Handle) error {
		for k, buf := range b.blocks[:b.n] {
			if err := tx.Write(&buf.Block); err != nil {
				return err
			}
			if looksSealed(buf.Data) {
				b.scrub(k)
			}
		}
		b.gather()
		ondisk.ComputeCheck(b.data[:], ondisk.CheckOffBucket)
		copy(b.blocks[0].Data[ondisk.CheckOffBucket:], b.data[ondisk.CheckOffBucket:ondisk.CheckOffBucket+8])
		return nil
	}
}

// looksSealed tells whether a block of a bucket could be taken for one that has
// a block check of its own, which would be written into it on the way to the
// disk. Names and values are a user's, who can make them look like anything.
func looksSealed(p []byte) bool {
	_, ok := ondisk.CheckOffset(string(p[:8]))
	return ok || ondisk.DirBlock(p).Trailer().HasSignature()
}

// scrub zeroes block k but for entries and value roots: nobody needs the rest
// any more, and what remains is made by the format.
func (b *bucket) scrub(k int) {
	h := ondisk.XattrHeader(b.data[:])
	live, base := b.blocks[k].Data, k<<b.geo.BlockBits
	old := append(make([]byte, 0, ondisk.XattrBucketSize), live...)
	clear(live)
	keep := func(at, n int) {
		from, to := max(at-base, 0), min(at+n-base, len(live))
		if from < to {
			copy(live[from:to], old[from:to])
		}
	}
	keep(0, 16+16*int(h.Count()))
	for i := range int(h.Count()) {
		if e := h.Entry(i); !e.IsLocal() {
			keep(int(e.NameOffset())+ondisk.Pad4(int(e.NameLen())), rootSize)
		}
	}
}

// put gives the blocks back.
func (b *bucket) put() {
	for _, buf := range b.blocks[:b.n] {
		buf.Put()
	}
	b.n = 0
}
