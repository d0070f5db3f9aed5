package extent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
	"github.com/ocfuse/ocfuse/journal/format"
)

// The volume of these tests has no superblock: a geometry, a root block, a log,
// and a pool of metadata blocks. Data clusters exist only as numbers.
const (
	rootBlkno = 40
	logBlkno  = 64
	logLen    = 1024
	poolBlkno = 2048
	poolLen   = 4096
	dataBlkno = 1 << 16
	volBlocks = 1 << 24
	valueOff  = 0x200 - 48 // of the xattr value root in its block
)

type rig struct {
	t    testing.TB
	geo  *ondisk.Geometry
	dev  *blockdev.Mem
	j    *journal.Journal
	m    *buffer.Meta
	root *buffer.Buf
	kind kind
	pool pool
}

// pool hands out extent blocks; freed ones are used again at once, which is the
// hardest case for the journal.
type pool struct {
	next uint64
	free []MetaBlock
	used map[uint64]bool
}

func (p *pool) ClaimMeta(*journal.Handle) (MetaBlock, error) {
	var b MetaBlock
	if n := len(p.free); n > 0 {
		b, p.free = p.free[n-1], p.free[:n-1]
	} else {
		if p.next == poolLen {
			return b, fmt.Errorf("pool is empty")
		}
		b = MetaBlock{Blkno: poolBlkno + p.next, Slot: 3, Bit: uint16(p.next), Loc: 7}
		p.next++
	}
	p.used[b.Blkno] = true
	return b, nil
}

func (p *pool) FreeMeta(b MetaBlock) {
	want := MetaBlock{Blkno: b.Blkno, Slot: 3, Bit: uint16(b.Blkno - poolBlkno), Loc: 7}
	if !p.used[b.Blkno] || b != want {
		panic(fmt.Sprintf("freed %+v, which is not in use", b))
	}
	delete(p.used, b.Blkno)
	p.free = append(p.free, b)
}

func testGeometry(bs int) *ondisk.Geometry {
	g := &ondisk.Geometry{BlockSize: bs, ClusterSize: 4096, ClusterBits: 12, TotalBlocks: volBlocks, FSGeneration: 0x1234}
	for g.BlockBits = 9; 1<<g.BlockBits != bs; g.BlockBits++ {
	}
	g.BpcBits = g.ClusterBits - g.BlockBits
	g.Bpc = 1 << g.BpcBits
	g.TotalClusters = uint32(volBlocks >> g.BpcBits)
	return g
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// extents of the log.
func logExtents() []journal.Extent { return []journal.Extent{{Log: 0, Blkno: logBlkno, Len: logLen}} }

// newRig makes a volume with an empty tree of kind k whose root holds rootCap
// records (0: as many as fit).
func newRig(t testing.TB, bs int, k kind, rootCap int, record bool) *rig {
	g := testGeometry(bs)
	dev := blockdev.NewMem(int64(poolBlkno+poolLen)*int64(bs), blockdev.MemOptions{})
	block := make([]byte, bs)
	sb := format.New(uint32(bs), logLen, [16]byte{1}, 0)
	sb.Put(block)
	_, err := dev.WriteAt(block, logBlkno*int64(bs))
	must(t, err)
	clear(block)
	initRoot(block, k, g, rootCap)
	_, err = dev.WriteAt(block, rootBlkno*int64(bs))
	must(t, err)
	must(t, dev.Flush())
	if record {
		dev.StartRecording()
	}
	r := &rig{t: t, geo: g, dev: dev, kind: k, pool: pool{used: map[uint64]bool{}}}
	r.open()
	return r
}

func initRoot(b []byte, k kind, g *ondisk.Geometry, rootCap int) {
	switch k.(type) {
	case inodeKind:
		ondisk.Dinode(b).Init(rootBlkno, g.FSGeneration)
		ondisk.Dinode(b).SetMode(ondisk.ModeRegular | 0o644)
		ondisk.Dinode(b).SetFlags(ondisk.InodeValid)
	case valueKind:
		ondisk.Dinode(b).Init(rootBlkno, g.FSGeneration)
	case dxKind:
		ondisk.DxRoot(b).Init(rootBlkno, g.FSGeneration, 9)
		ondisk.DxRoot(b).SetFlags(0)
	case xattrKind:
		ondisk.XattrBlock(b).Init(rootBlkno, g.FSGeneration)
		ondisk.XattrBlock(b).SetFlags(ondisk.XattrIndexed)
	case refcountKind:
		ondisk.RefcountBlock(b).Init(rootBlkno, g.FSGeneration)
		ondisk.RefcountBlock(b).SetFlags(ondisk.RefcountTree)
	}
	l := k.list(b)
	clear(l[:16])
	if rootCap == 0 {
		rootCap = l.Space()
	}
	l.SetCount(uint16(rootCap))
}

// open starts the journal and the cache on r.dev.
func (r *rig) open() {
	j, err := journal.Open(journal.Config{Dev: r.dev, BlockSize: r.geo.BlockSize, Extents: logExtents()})
	must(r.t, err)
	r.j = j
	r.t.Cleanup(func() { j.Close(context.Background()) })
	r.m = new(buffer.Meta)
	r.m.Init(buffer.NewCache(r.dev, r.geo, 1<<20))
	r.root, err = r.m.Read(rootBlkno, nil)
	must(r.t, err)
}

func (r *rig) tree(ebCap int) Tree { return Tree{m: r.m, root: r.root, kind: r.kind, ebCap: ebCap} }

func (r *rig) start(credits int) *journal.Handle {
	h, err := r.j.Start(context.Background(), credits)
	must(r.t, err)
	return h
}

// cell is what a cluster is mapped to.
type cell struct {
	blk   uint64
	flags uint8
}

// model is the tree as it should be.
type model struct {
	cells map[uint32]cell
	space uint32 // logical clusters in use: [0, space)
	one   bool   // all runs have one cluster
	unit  uint64
	next  uint64 // next unused data block
}

func (m *model) set(r Run) {
	for i := range r.Clusters {
		m.cells[r.Cpos+i] = cell{r.Blkno + uint64(i)*m.unit, r.Flags}
	}
}

// hole is the length of the hole at cpos, at most n.
func (m *model) hole(cpos, n uint32) (k uint32) {
	for k < n && cpos+k < m.space {
		if _, used := m.cells[cpos+k]; used {
			break
		}
		k++
	}
	return k
}

func (m *model) mapped(cpos, n uint32) (k uint32) {
	for k < n {
		if _, used := m.cells[cpos+k]; !used {
			break
		}
		k++
	}
	return k
}

// fresh makes a physical run for n clusters, sometimes the one that continues
// what is mapped before cpos.
func (m *model) fresh(rng *rand.Rand, cpos, n uint32) uint64 {
	if c, ok := m.cells[cpos-1]; ok && rng.IntN(2) == 0 && c.blk+m.unit == m.next {
		m.next += uint64(n) * m.unit
		return c.blk + m.unit
	}
	if rng.IntN(3) > 0 {
		m.next += m.unit * uint64(1+rng.IntN(3)) // a gap: no merge
	}
	b := m.next
	m.next += uint64(n) * m.unit
	return b
}

// same compares the tree with the model.
func (m *model) same(t *Tree) error {
	seen := 0
	var bad error
	err := t.Walk(0, func(r Run) bool {
		for i := range r.Clusters {
			c, ok := m.cells[r.Cpos+i]
			if !ok || c.blk != r.Blkno+uint64(i)*m.unit || c.flags != r.Flags {
				bad = fmt.Errorf("cluster %d: tree has %v, model %+v (%v)", r.Cpos+i, r, c, ok)
				return false
			}
			seen++
		}
		return true
	})
	if err != nil || bad != nil {
		return fmt.Errorf("%w %w", err, bad)
	}
	if seen != len(m.cells) {
		return fmt.Errorf("tree maps %d clusters, model %d", seen, len(m.cells))
	}
	return nil
}

// probe compares Lookup and LookupHash with the model at cpos.
func (m *model) probe(t *Tree, cpos uint32) error {
	r, err := t.Lookup(cpos)
	if err != nil {
		return err
	}
	c, ok := m.cells[cpos]
	switch {
	case ok == r.Hole():
		return fmt.Errorf("Lookup(%d) = %v, model %+v (%v)", cpos, r, c, ok)
	case ok && r.From(cpos, uint32(m.unit)).Blkno != c.blk:
		return fmt.Errorf("Lookup(%d) = %v, model %+v", cpos, r, c)
	case !ok:
		k := m.hole(cpos, 1<<30)
		if open := cpos+k >= m.space; r.Cpos != cpos || (r.Clusters != k && !open) || (open && r.End() != 1<<32) {
			return fmt.Errorf("Lookup(%d) = %v, the hole has %d clusters", cpos, r, k)
		}
	}
	floor := int64(cpos)
	for ; floor >= 0; floor-- {
		if _, ok := m.cells[uint32(floor)]; ok {
			break
		}
	}
	if floor < 0 {
		return nil
	}
	r, err = t.LookupHash(cpos)
	if err != nil {
		return err
	}
	if uint64(floor) >= r.End() || uint32(floor) < r.Cpos {
		return fmt.Errorf("LookupHash(%d) = %v, the record below ends at %d", cpos, r, floor+1)
	}
	return nil
}
