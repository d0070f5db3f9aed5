package dir

import (
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// Source provides what an insertion may need, reserved beforehand.
// alloc.Reservation implements it.
type Source interface {
	extent.MetaSource
	// ClaimClusters returns 1..want contiguous clusters, near goal if possible.
	ClaimClusters(tx *journal.Handle, want uint32, goal uint64) (blkno uint64, n uint32, err error)
}

type planKind uint8

const (
	planInline   planKind = iota // into the inline area
	planUninline                 // inline to blocks first
	planHole                     // into a hole of an existing block
	planGrow                     // into a new block
)

// Plan says what adding one name takes, and does it.
type Plan struct {
	// Meta blocks, clusters and journal credits to reserve.
	Meta, Clusters, Credits int

	d        Dir
	name     []byte
	kind     planKind
	block    uint64 // planHole: device block
	prevFree uint64 // planHole, indexed: the block before it in the free list, 0 = root
	newFirst uint32 // planUninline: data blocks to format
	grow     bool   // planGrow: a cluster must be added
}

// Plan finds out what inserting name takes. The name must not be there: the
// caller has looked (duplicates are its business, since it decides what to do).
func (d Dir) Plan(name []byte) (*Plan, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	p := &Plan{d: d, name: name, Credits: 1}
	d.di.Hold()
	var err error
	switch {
	case d.inline():
		err = p.planInline()
	case d.indexed():
		err = p.planIndexed()
	default:
		err = p.planLinear()
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Widen makes the plan good for any name of the same length: the index leaf
// such a name belongs to may be full.
func (p *Plan) Widen() {
	if p.d.indexed() {
		p.Clusters++
		p.Credits += 2 * int(p.d.g.Bpc)
		p.Meta += ondisk.MaxTreeDepth + 1
		p.Credits += 3 * (ondisk.MaxTreeDepth + 1)
	}
}

// SetName makes a widened plan add another name of the same length.
func (p *Plan) SetName(name []byte) { p.name = name }

// Close lets go of the dinode block, which a plan keeps in memory.
func (p *Plan) Close() { p.d.di.Put() }

func (p *Plan) need() int { return ondisk.DirRecLen(len(p.name)) }

// hasHole tells whether an entry of need bytes fits into the area.
func (d Dir) hasHole(area []byte, blkno uint64, need int) (bool, error) {
	fits := false
	err := d.scan(area, blkno, func(e ondisk.DirEntry, _, _ int) bool {
		fits = int(e.RecLen())-e.Used() >= need
		return !fits
	})
	return fits, err
}

func (p *Plan) planInline() error {
	d := p.d
	area := d.dinode().Inline().Data()
	fits, err := d.hasHole(area, d.di.Blkno, p.need())
	if err != nil {
		return err
	}
	if fits {
		p.kind = planInline
		return nil
	}
	p.kind = planUninline
	index := d.g.HasIndexedDirs()
	room := d.g.BlockSize
	if index || d.g.HasMetaECC() {
		room -= ondisk.DirTrailerSize
	}
	used, names := 0, 0
	if err := d.scan(area, d.di.Blkno, func(e ondisk.DirEntry, off, _ int) bool {
		if e.Inode() != 0 {
			names++
			used = off + e.Used()
		}
		return true
	}); err != nil {
		return err
	}
	p.newFirst = 1
	if used+p.need() > room {
		p.newFirst = 2
	}
	p.Clusters = int((p.newFirst + d.g.Bpc - 1) >> d.g.BpcBits)
	p.Credits += int(p.newFirst)
	if index {
		p.Meta++
		p.Credits++
		if names+1 > d.g.DxRootEntries() {
			p.Clusters++
			p.Credits += int(d.g.Bpc)
		}
	}
	// An empty tree takes its first records without extent blocks.
	p.Credits += p.Clusters
	return nil
}

// addTree accounts for n insertions into an extent tree.
func (p *Plan) addTree(t extent.Tree, n int) {
	meta, credits := t.Worst(extent.OpInsert)
	p.Meta += n * meta
	p.Credits += n * credits
}

func (p *Plan) planLinear() error {
	d := p.d
	p.Credits++
	for n := uint32(0); n < d.blocks(); n++ {
		b, err := d.block(n)
		if err != nil {
			return err
		}
		fits, err := d.hasHole(d.area(b), b.Blkno, p.need())
		b.Put()
		if err != nil {
			return err
		}
		if fits {
			p.kind, p.block = planHole, b.Blkno
			return nil
		}
	}
	p.planNewBlock()
	return nil
}

// planNewBlock: the next block of the last cluster, or one more cluster.
func (p *Plan) planNewBlock() {
	p.kind = planGrow
	d := p.d
	if uint64(d.blocks()) >= uint64(d.dinode().Clusters())<<d.g.BpcBits {
		p.grow = true
		p.Clusters++
		p.addTree(extent.OfInode(d.m, d.di), 1)
	}
}

func (p *Plan) planIndexed() error {
	d := p.d
	root, err := d.root()
	if err != nil {
		return err
	}
	defer root.Put()
	p.Credits += 3 // data block, dx root, previous block of the free list
	if err := p.findFree(root); err != nil {
		return err
	}
	return p.planIndex(root)
}

// findFree walks the free list for a block with room.
func (p *Plan) findFree(root *buffer.Buf) error {
	d, prev := p.d, uint64(0)
	limit := d.blocks() + 1
	for blk := ondisk.DxRoot(root.Data).FreeBlk(); blk != 0; limit-- {
		if limit == 0 {
			return d.corrupt(root.Blkno, "the list of blocks with free space loops")
		}
		b, err := d.read(blk)
		if err != nil {
			return err
		}
		t := ondisk.DirBlock(b.Data).Trailer()
		room, next := int(t.FreeRecLen()), t.FreeNext()
		if room >= p.need() {
			fits, err := d.hasHole(d.area(b), blk, p.need())
			b.Put()
			if err != nil {
				return err
			}
			if !fits {
				return d.corrupt(blk, "trailer promises a hole of %d bytes that is not there", room)
			}
			p.kind, p.block, p.prevFree = planHole, blk, prev
			return nil
		}
		b.Put()
		prev, blk = blk, next
	}
	p.planNewBlock()
	return nil
}

// planIndex accounts for the index entry.
func (p *Plan) planIndex(root *buffer.Buf) error {
	d, r := p.d, ondisk.DxRoot(root.Data)
	bpc := int(d.g.Bpc)
	if r.IsInline() {
		l := r.Entries()
		if l.NumUsed() >= l.Count() {
			p.Clusters++ // the first record of the index tree goes into the root
			p.Credits += bpc
		}
		return nil
	}
	p.Credits++ // the leaf
	major, minor := d.g.DxHashBytes(p.name)
	c, err := d.leafCluster(root, major)
	if err != nil {
		return err
	}
	leaf, err := d.leaf(c.blkno + uint64(minor&(d.g.Bpc-1)))
	if err != nil {
		return err
	}
	defer leaf.Put()
	if l := ondisk.DxLeaf(leaf.Data).Entries(); l.NumUsed() >= l.Count() {
		if _, err := splitHash(l, c.first, major, c.single); err != nil {
			return err
		}
		p.Clusters++
		p.Credits += 2 * bpc
		p.addTree(extent.OfDxRoot(d.m, root), 1)
	}
	return nil
}

// Insert adds the name. What the plan asked for must have been reserved, and
// the directory be unchanged since.
func (p *Plan) Insert(tx *journal.Handle, src Source, ino uint64, ftype uint8) error {
	d := p.d
	if err := tx.Write(&d.di.Block); err != nil {
		return err
	}
	switch p.kind {
	case planInline:
		return d.addEntry(d.dinode().Inline().Data(), d.di.Blkno, p.name, ino, ftype)
	case planUninline:
		if err := p.uninline(tx, src); err != nil {
			return err
		}
		// The plan's second half is that of the directory as it is now.
		q, err := d.Plan(p.name)
		if err != nil {
			return err
		}
		defer q.Close()
		return q.Insert(tx, src, ino, ftype)
	}
	b, err := p.target(tx, src)
	if err != nil {
		return err
	}
	defer b.Put()
	if err := tx.Write(&b.Block); err != nil {
		return err
	}
	if err := d.addEntry(d.area(b), b.Blkno, p.name, ino, ftype); err != nil {
		return err
	}
	if !d.indexed() {
		return nil
	}
	if err := d.refreshFree(tx, b, p.prevFree); err != nil {
		return err
	}
	return d.indexAdd(tx, src, p.name, b.Blkno)
}

// target returns the block the name goes to, formatting a new one if needed.
func (p *Plan) target(tx *journal.Handle, src Source) (*buffer.Buf, error) {
	d := p.d
	if p.kind == planHole {
		return d.read(p.block)
	}
	di := d.dinode()
	n := d.blocks()
	if p.grow {
		if err := d.addClusters(tx, src, 1); err != nil {
			return nil, err
		}
	}
	blkno, err := d.physical(n)
	if err != nil {
		return nil, err
	}
	b, err := d.format(tx, blkno)
	if err != nil {
		return nil, err
	}
	di.SetSize(uint64(n+1) << d.g.BlockBits)
	return b, nil
}

// addEntry puts an entry into the first hole of an area that fits.
func (d Dir) addEntry(area []byte, blkno uint64, name []byte, ino uint64, ftype uint8) error {
	need, done := ondisk.DirRecLen(len(name)), false
	err := d.scan(area, blkno, func(e ondisk.DirEntry, off, _ int) bool {
		used := e.Used()
		if int(e.RecLen())-used < need {
			return true
		}
		if used > 0 {
			rest := e.RecLen() - uint16(used)
			e.SetRecLen(uint16(used))
			e = ondisk.DirEntry(area[off+used:])
			e.SetRecLen(rest)
		}
		e.Set(ino, string(name), ftype)
		done = true
		return false
	})
	if err == nil && !done {
		return d.corrupt(blkno, "the hole planned for an entry of %d bytes is gone", need)
	}
	return err
}
