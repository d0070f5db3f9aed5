package dir

import (
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// addClusters appends n data clusters to the directory's extents.
func (d Dir) addClusters(tx *journal.Handle, src Source, n uint32) error {
	di := d.dinode()
	for n > 0 {
		cpos := di.Clusters()
		goal := uint64(0)
		if cpos > 0 {
			last, err := d.physical(cpos<<d.g.BpcBits - 1)
			if err != nil {
				return err
			}
			goal = last + 1
		}
		blkno, got, err := src.ClaimClusters(tx, n, goal)
		if err != nil {
			return err
		}
		t := extent.OfInode(d.m, d.di)
		if err := t.Insert(tx, src, extent.Run{Cpos: cpos, Clusters: got, Blkno: blkno}); err != nil {
			return err
		}
		n -= got
	}
	return nil
}

// format makes a data block with one free entry and, where the directory has
// trailers, a trailer. In an indexed directory the block goes to the head of
// the free list.
func (d Dir) format(tx *journal.Handle, blkno uint64) (*buffer.Buf, error) {
	b := d.m.New(blkno)
	if err := tx.Write(&b.Block); err != nil {
		b.Put()
		return nil, err
	}
	clear(b.Data)
	area := d.area(b)
	ondisk.DirEntry(area).SetRecLen(uint16(len(area)))
	if !d.trailers() {
		return b, nil
	}
	t := ondisk.DirBlock(b.Data).Trailer()
	t.Init(blkno, d.di.Blkno)
	if d.indexed() {
		if err := d.pushFree(tx, t, len(area)); err != nil {
			b.Put()
			return nil, err
		}
	}
	return b, nil
}

// pushFree sets a block's hole size and links it at the head of the free list.
// The block is in the transaction already.
func (d Dir) pushFree(tx *journal.Handle, t ondisk.DirTrailer, hole int) error {
	root, err := d.root()
	if err != nil {
		return err
	}
	defer root.Put()
	if err := tx.Write(&root.Block); err != nil {
		return err
	}
	r := ondisk.DxRoot(root.Data)
	t.SetFreeRecLen(uint16(hole))
	t.SetFreeNext(r.FreeBlk())
	r.SetFreeBlk(t.Blkno())
	return nil
}

// refreshFree recomputes a changed block's largest hole and its place in the
// free list. prev is the block before it in the list, 0 for the root; it
// matters only when the block leaves the list. The block is in the
// transaction already.
func (d Dir) refreshFree(tx *journal.Handle, b *buffer.Buf, prev uint64) error {
	t := ondisk.DirBlock(b.Data).Trailer()
	was := int(t.FreeRecLen())
	now, err := ondisk.LargestHole(d.area(b))
	if err != nil {
		return err
	}
	t.SetFreeRecLen(uint16(now))
	switch {
	case was == 0 && now != 0:
		return d.pushFree(tx, t, now)
	case was != 0 && now == 0:
		return d.unlinkFree(tx, t, prev)
	}
	return nil
}

func (d Dir) unlinkFree(tx *journal.Handle, t ondisk.DirTrailer, prev uint64) error {
	next := t.FreeNext()
	t.SetFreeNext(0)
	root, err := d.root()
	if err != nil {
		return err
	}
	defer root.Put()
	if r := ondisk.DxRoot(root.Data); r.FreeBlk() == t.Blkno() {
		if err := tx.Write(&root.Block); err != nil {
			return err
		}
		r.SetFreeBlk(next)
		return nil
	}
	if prev == 0 {
		return d.corrupt(t.Blkno(), "not at the head of the free list as expected")
	}
	b, err := d.read(prev)
	if err != nil {
		return err
	}
	defer b.Put()
	if err := tx.Write(&b.Block); err != nil {
		return err
	}
	ondisk.DirBlock(b.Data).Trailer().SetFreeNext(next)
	return nil
}

// uninline moves the entries of the inline area into data blocks and, with the
// index feature, builds the index. Entries keep their offsets.
func (p *Plan) uninline(tx *journal.Handle, src Source) error {
	d := p.d
	di := d.dinode()
	old := append([]byte(nil), di.Inline().Data()...)
	index := d.g.HasIndexedDirs()

	clear(di.ID2())
	di.SetDynFeatures(di.DynFeatures() &^ ondisk.DynInlineData)
	l := di.Extents()
	l.SetCount(uint16(l.Space()))
	di.SetSize(uint64(d.g.BlockSize))
	if err := d.addClusters(tx, src, uint32(p.newFirst+d.g.Bpc-1)>>d.g.BpcBits); err != nil {
		return err
	}
	if index {
		if err := d.makeRoot(tx, src); err != nil {
			return err
		}
	}
	blkno, err := d.physical(0)
	if err != nil {
		return err
	}
	b, err := d.format(tx, blkno)
	if err != nil {
		return err
	}
	defer b.Put()
	if err := d.fillFirst(b, old); err != nil {
		return err
	}
	if !index {
		return nil
	}
	if err := d.refreshFree(tx, b, 0); err != nil {
		return err
	}
	return d.indexBlock(tx, src, b)
}

// fillFirst copies the inline entries into the first block; the last one's
// rec_len is stretched to the end of the block's area.
func (d Dir) fillFirst(b *buffer.Buf, old []byte) error {
	area := d.area(b)
	n := min(len(old), len(area))
	last := 0
	if err := d.scan(old, d.di.Blkno, func(e ondisk.DirEntry, off, _ int) bool {
		if off+e.Used() <= n && off < n {
			last = off
		}
		return off+int(e.RecLen()) < n
	}); err != nil {
		return err
	}
	copy(area, old[:n])
	ondisk.DirEntry(area[last:]).SetRecLen(uint16(len(area) - last))
	return nil
}

// NewNeeds is what making an empty directory takes besides its inode.
func NewNeeds(g *ondisk.Geometry) (meta, clusters, credits int) {
	if g.HasInlineData() {
		return 0, 0, 0
	}
	if g.HasIndexedDirs() {
		return 1, 1, 2
	}
	return 0, 1, 1
}

// InitNew fills a directory just created (its dinode zeroed but for the
// common fields, and in the transaction) with "." and "..".
func InitNew(tx *journal.Handle, src Source, m *buffer.Meta, di *buffer.Buf, parent uint64) error {
	d := Open(m, di)
	n := d.dinode()
	if d.g.HasInlineData() {
		n.SetDynFeatures(n.DynFeatures() | ondisk.DynInlineData)
		n.Inline().SetCount(uint16(d.g.InlineCount()))
		n.SetSize(uint64(d.g.InlineCount()))
		fillDots(n.Inline().Data(), di.Blkno, parent)
		return nil
	}
	l := n.Extents()
	l.SetCount(uint16(l.Space()))
	n.SetSize(uint64(d.g.BlockSize))
	if err := d.addClusters(tx, src, 1); err != nil {
		return err
	}
	if d.g.HasIndexedDirs() {
		if err := d.makeRoot(tx, src); err != nil {
			return err
		}
	}
	blkno, err := d.physical(0)
	if err != nil {
		return err
	}
	b, err := d.format(tx, blkno)
	if err != nil {
		return err
	}
	defer b.Put()
	fillDots(d.area(b), di.Blkno, parent)
	if !d.indexed() {
		return nil
	}
	if err := d.refreshFree(tx, b, 0); err != nil {
		return err
	}
	return d.indexBlock(tx, src, b)
}

// fillDots writes the two first entries into an empty area.
func fillDots(area []byte, self, parent uint64) {
	e := ondisk.DirEntry(area)
	e.SetRecLen(ondisk.DotRecLen)
	e.Set(self, ".", ondisk.FTDir)
	e = ondisk.DirEntry(area[ondisk.DotRecLen:])
	e.SetRecLen(uint16(len(area) - ondisk.DotRecLen))
	e.Set(parent, "..", ondisk.FTDir)
}
