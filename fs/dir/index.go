package dir

import (
	"fmt"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// root reads the dx root block.
func (d Dir) root() (*buffer.Buf, error) {
	blkno := d.dinode().DxRoot()
	return d.m.Read(blkno, func(data []byte, blkno uint64, g *ondisk.Geometry) error {
		if err := ondisk.CheckDxRoot(data, blkno, g); err != nil {
			return err
		}
		if r := ondisk.DxRoot(data); r.DirBlkno() != d.di.Blkno {
			return d.corrupt(blkno, "this index belongs to directory %d", r.DirBlkno())
		}
		return nil
	})
}

func (d Dir) leaf(blkno uint64) (*buffer.Buf, error) { return d.m.Read(blkno, ondisk.CheckDxLeaf) }

// dxCluster is one cluster of index leaves and the hash values it serves.
type dxCluster struct {
	blkno  uint64 // first leaf
	first  uint32 // lowest major hash value
	single bool   // serves that value only (not the last cluster of its record)
}

// leafCluster finds the cluster that serves a major hash value: a record with
// key c and n clusters serves c with its first, c+1 with its second ... and
// everything above with its last (OCFS2 format: directory index).
func (d Dir) leafCluster(root *buffer.Buf, major uint32) (dxCluster, error) {
	t := extent.OfDxRoot(d.m, root)
	r, err := t.LookupHash(major)
	if err != nil {
		return dxCluster{}, err
	}
	if r.Blkno == 0 || r.Clusters == 0 || r.Cpos > major {
		return dxCluster{}, d.corrupt(root.Blkno, "no index record serves hash value %#x", major)
	}
	k := min(major-r.Cpos, r.Clusters-1)
	return dxCluster{
		blkno:  r.Blkno + uint64(k)<<d.g.BpcBits,
		first:  r.Cpos + k,
		single: k+1 < r.Clusters,
	}, nil
}

// withEntries calls fn with the index entry list that name's hash belongs to
// and the block it is in.
func (d Dir) withEntries(major, minor uint32, fn func(b *buffer.Buf, l ondisk.DxEntryList) error) error {
	root, err := d.root()
	if err != nil {
		return err
	}
	defer root.Put()
	if r := ondisk.DxRoot(root.Data); r.IsInline() {
		return fn(root, r.Entries())
	}
	c, err := d.leafCluster(root, major)
	if err != nil {
		return err
	}
	leaf, err := d.leaf(c.blkno + uint64(minor&(d.g.Bpc-1)))
	if err != nil {
		return err
	}
	defer leaf.Put()
	return fn(leaf, ondisk.DxLeaf(leaf.Data).Entries())
}

// lookupIndexed finds a name through the index. Names with bytes >= 0x80 are
// also looked for under the hash of kernels built with unsigned char (Linux
// 6.2 and later), which write another value for them.
func (d Dir) lookupIndexed(name []byte) (place, error) {
	major, minor := d.g.DxHashBytes(name)
	p, ok, err := d.lookupHash(name, major, minor)
	if err != nil || ok {
		return p, err
	}
	if !ondisk.IsASCII(name) {
		major, minor = d.g.DxHashUnsigned(string(name))
		if p, ok, err = d.lookupHash(name, major, minor); err != nil || ok {
			return p, err
		}
	}
	return place{}, ErrNotFound
}

func (d Dir) lookupHash(name []byte, major, minor uint32) (p place, ok bool, err error) {
	err = d.withEntries(major, minor, func(b *buffer.Buf, l ondisk.DxEntryList) error {
		for i := range int(l.NumUsed()) {
			e := l.Rec(i)
			if e.MajorHash() != major || e.MinorHash() != minor {
				continue
			}
			blk, err := d.read(e.DirentBlk())
			if err != nil {
				return fmt.Errorf("index block %d: %w", b.Blkno, err)
			}
			if p, ok, err = d.findIn(blk, name); err != nil || ok {
				return err
			}
		}
		return nil
	})
	return p, ok, err
}

// countNames changes dr_num_entries; the root joins the transaction.
func (d Dir) countNames(tx *journal.Handle, delta int) error {
	root, err := d.root()
	if err != nil {
		return err
	}
	defer root.Put()
	if err := tx.Write(&root.Block); err != nil {
		return err
	}
	r := ondisk.DxRoot(root.Data)
	r.SetNumEntries(uint32(int64(r.NumEntries()) + int64(delta)))
	return nil
}

// indexRemove takes out the index entry of a name in data block blkno; of
// several with the same hash in that block any one does.
func (d Dir) indexRemove(tx *journal.Handle, name []byte, blkno uint64) error {
	major, minor := d.g.DxHashBytes(name)
	ok, err := d.removeHash(tx, major, minor, blkno)
	if err == nil && !ok && !ondisk.IsASCII(name) {
		major, minor = d.g.DxHashUnsigned(string(name))
		ok, err = d.removeHash(tx, major, minor, blkno)
	}
	if err == nil && !ok {
		return d.corrupt(blkno, "name %q is not in the index", name)
	}
	if err != nil {
		return err
	}
	return d.countNames(tx, -1)
}

func (d Dir) removeHash(tx *journal.Handle, major, minor uint32, blkno uint64) (ok bool, err error) {
	err = d.withEntries(major, minor, func(b *buffer.Buf, l ondisk.DxEntryList) error {
		n := int(l.NumUsed())
		for i := range n {
			e := l.Rec(i)
			if e.MajorHash() != major || e.MinorHash() != minor || e.DirentBlk() != blkno {
				continue
			}
			if err := tx.Write(&b.Block); err != nil {
				return err
			}
			copy(l.Recs(i, n-1), l.Recs(i+1, n))
			l.Rec(n - 1).Clear()
			l.SetNumUsed(uint16(n - 1))
			ok = true
			return nil
		}
		return nil
	})
	return ok, err
}

// makeRoot gives the directory an empty inline index.
func (d Dir) makeRoot(tx *journal.Handle, src Source) error {
	mb, err := src.ClaimMeta(tx)
	if err != nil {
		return err
	}
	b := d.m.New(mb.Blkno)
	defer b.Put()
	if err := tx.Write(&b.Block); err != nil {
		return err
	}
	clear(b.Data)
	r := ondisk.DxRoot(b.Data)
	r.Init(mb.Blkno, d.g.FSGeneration, d.di.Blkno)
	r.SetSuballocSlot(mb.Slot)
	r.SetSuballocBit(mb.Bit)
	r.SetSuballocLoc(mb.Loc)
	r.SetFlags(ondisk.DxInline)
	r.Entries().SetCount(uint16(d.g.DxRootEntries()))
	di := d.dinode()
	di.SetDxRoot(mb.Blkno)
	di.SetDynFeatures(di.DynFeatures() | ondisk.DynIndexedDir)
	return nil
}

// indexBlock enters every name of a data block into the index.
func (d Dir) indexBlock(tx *journal.Handle, src Source, b *buffer.Buf) error {
	var bad error
	err := d.scan(d.area(b), b.Blkno, func(e ondisk.DirEntry, _, _ int) bool {
		if e.Inode() != 0 {
			bad = d.indexAdd(tx, src, e.Name(), b.Blkno)
		}
		return bad == nil
	})
	if bad != nil {
		return bad
	}
	return err
}

// indexAdd enters a name that stands in data block blkno.
func (d Dir) indexAdd(tx *journal.Handle, src Source, name []byte, blkno uint64) error {
	major, minor := d.g.DxHashBytes(name)
	for {
		var full *buffer.Buf
		err := d.withEntries(major, minor, func(b *buffer.Buf, l ondisk.DxEntryList) error {
			if l.NumUsed() >= l.Count() {
				full = b.Hold()
				return nil
			}
			if err := tx.Write(&b.Block); err != nil {
				return err
			}
			l.Rec(int(l.NumUsed())).Set(major, minor, blkno)
			l.SetNumUsed(l.NumUsed() + 1)
			return nil
		})
		if err != nil {
			return err
		}
		if full == nil {
			return d.countNames(tx, 1)
		}
		err = d.makeIndexRoom(tx, src, full, major)
		full.Put()
		if err != nil {
			return err
		}
	}
}

// makeIndexRoom spreads a full inline root over a cluster of leaves, or splits
// the full leaf's cluster.
func (d Dir) makeIndexRoom(tx *journal.Handle, src Source, full *buffer.Buf, major uint32) error {
	root, err := d.root()
	if err != nil {
		return err
	}
	defer root.Put()
	if err := tx.Write(&root.Block); err != nil {
		return err
	}
	if ondisk.DxRoot(root.Data).IsInline() {
		return d.spreadRoot(tx, src, root)
	}
	return d.splitCluster(tx, src, root, full, major)
}

// newLeaves claims a cluster for the index and formats its leaves.
func (d Dir) newLeaves(tx *journal.Handle, src Source, goal uint64) ([]*buffer.Buf, error) {
	blkno, _, err := src.ClaimClusters(tx, 1, goal)
	if err != nil {
		return nil, err
	}
	leaves := make([]*buffer.Buf, 0, d.g.Bpc)
	for k := range uint64(d.g.Bpc) {
		b := d.m.New(blkno + k)
		leaves = append(leaves, b)
		if err := tx.Write(&b.Block); err != nil {
			putAll(leaves)
			return nil, err
		}
		clear(b.Data)
		l := ondisk.DxLeaf(b.Data)
		l.Init(b.Blkno, d.g.FSGeneration)
		l.Entries().SetCount(uint16(d.g.DxLeafEntries()))
	}
	return leaves, nil
}

func putAll(bufs []*buffer.Buf) {
	for _, b := range bufs {
		b.Put()
	}
}

// appendEntry copies an index entry to the end of a leaf.
func appendEntry(leaf *buffer.Buf, e ondisk.DxEntry) bool {
	l := ondisk.DxLeaf(leaf.Data).Entries()
	n := l.NumUsed()
	if n >= l.Count() {
		return false
	}
	copy(l.Rec(int(n)), e)
	l.SetNumUsed(n + 1)
	return true
}

// spreadRoot moves the entries of an inline root to leaves (Linux
// fs/ocfs2/dir.c, ocfs2_expand_inline_dx_root).
func (d Dir) spreadRoot(tx *journal.Handle, src Source, root *buffer.Buf) error {
	leaves, err := d.newLeaves(tx, src, root.Blkno)
	if err != nil {
		return err
	}
	defer putAll(leaves)
	r := ondisk.DxRoot(root.Data)
	l := r.Entries()
	for i := range int(l.NumUsed()) {
		e := l.Rec(i)
		if !appendEntry(leaves[e.MinorHash()&(d.g.Bpc-1)], e) {
			return fmt.Errorf("%w (directory %d)", ErrIndexFull, d.di.Blkno)
		}
	}
	r.SetFlags(r.Flags() &^ ondisk.DxInline)
	clear(l)
	x := r.Extents()
	x.SetCount(uint16(d.g.DxRootExtents()))
	t := extent.OfDxRoot(d.m, root)
	return t.Insert(tx, src, extent.Run{Clusters: 1, Blkno: leaves[0].Blkno})
}
