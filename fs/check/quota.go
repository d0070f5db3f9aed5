package check

import (
	"bytes"
	"encoding/binary"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// Quota tree blocks (Linux fs/quota/quota_tree.c, fs/ocfs2/quota_global.c).
const (
	quotaTreeRoot   = 1
	quotaDataHeader = 16
	quotaEntrySize  = 88
)

// quotaFile is an open quota file.
type quotaFile struct {
	name   string
	ino    uint64
	runs   []run
	blocks uint32 // allocated
}

// pass5 checks the quota files.
func (c *checker) pass5() {
	for typ, kind := range []ondisk.SystemFile{ondisk.SysQuotaUser, ondisk.SysQuotaGroup} {
		if !kind.Required(c.g) {
			continue
		}
		if f, ok := c.openQuota(ondisk.SystemInodeName(kind, 0)); ok {
			c.globalQuota(f, typ)
		}
		local := kind - ondisk.SysQuotaUser + ondisk.SysLocalQuotaUser
		for s := range c.g.MaxSlots {
			if f, ok := c.openQuota(ondisk.SystemInodeName(local, s)); ok {
				c.localQuota(f, typ)
			}
		}
	}
}

func (c *checker) openQuota(name string) (*quotaFile, bool) {
	ino := c.sys[name]
	if ino == 0 {
		return nil, false // reported
	}
	d, ok := c.dinodeAt(ino, name)
	if !ok || ondisk.CheckDinode(d, ino, c.g) != nil || d.HasDyn(ondisk.DynInlineData) {
		return nil, false // reported in pass 1
	}
	runs, err := c.quietRuns(d.Extents())
	if err != nil {
		return nil, false // reported in pass 1
	}
	f := &quotaFile{name: name, ino: ino, runs: runs}
	for _, r := range runs {
		f.blocks += uint32(min(r.n, 1<<31-uint64(f.blocks)))
	}
	return f, true
}

// quotaBlock reads block n of a quota file.
func (c *checker) quotaBlock(f *quotaFile, n uint32) ([]byte, bool) {
	left := uint64(n)
	for _, r := range f.runs {
		if left < r.n {
			b, ok := c.block(r.start + left)
			if ok {
				c.ecc("quota block", r.start+left, b, ondisk.CheckOffTail(c.g.BlockSize))
			}
			return b, ok
		}
		left -= r.n
	}
	return nil, false
}

func (c *checker) quotaHeader(f *quotaFile, magic uint32) (ondisk.QuotaHeader, bool) {
	b, ok := c.quotaBlock(f, 0)
	if !ok {
		c.problem(QMagicInvalid, f.ino, "Quota file %s has no header block", f.name)
		return nil, false
	}
	h := ondisk.QuotaHeader(b)
	if h.Magic() != magic || h.Version() != 0 {
		c.problem(QMagicInvalid, f.ino, "Quota file %s has magic %#x version %d, want %#x version 0", f.name, h.Magic(), h.Version(), magic)
		return nil, false
	}
	return h, true
}

// quotaWalk is the walk over the tree of a global quota file.
type quotaWalk struct {
	f     *quotaFile
	epb   uint32 // references per tree block
	depth int
	limit uint32          // dqi_blocks
	seen  map[uint32]bool // tree blocks visited
	last  uint32          // data block in buf
	buf   []byte
}

func (c *checker) globalQuota(f *quotaFile, typ int) {
	h, ok := c.quotaHeader(f, ondisk.QuotaGlobalMagic[typ])
	if !ok {
		return
	}
	if h.Blocks() < 2 || h.Blocks() > f.blocks || h.FreeBlk() >= h.Blocks() || h.FreeEntry() >= h.Blocks() {
		c.problem(QuotaInfo, f.ino, "Quota file %s has %d blocks allocated, its info says %d, free block %d, free entry %d",
			f.name, f.blocks, h.Blocks(), h.FreeBlk(), h.FreeEntry())
		return
	}
	w := &quotaWalk{f: f, epb: uint32(c.g.BlockSize-ondisk.QuotaBlockTail) / 4, limit: h.Blocks(), seen: map[uint32]bool{}}
	for n := uint64(1); n < 1<<32; n *= uint64(w.epb) {
		w.depth++
	}
	c.quotaNode(w, quotaTreeRoot, 0, 0)
}

// quotaNode visits a tree block at a level; first is the lowest id below it.
func (c *checker) quotaNode(w *quotaWalk, blk uint32, level int, first uint64) {
	if w.seen[blk] || c.cancelled() {
		c.problem(QTreeBlkInvalid, w.f.ino, "Quota file %s: tree block %d is referenced twice", w.f.name, blk)
		return
	}
	w.seen[blk] = true
	b, ok := c.quotaBlock(w.f, blk)
	if !ok {
		return
	}
	span := uint64(1) // ids below one reference
	for range w.depth - 1 - level {
		span *= uint64(w.epb)
	}
	for i := range w.epb {
		ref := binary.LittleEndian.Uint32(b[i*4:])
		if ref == 0 {
			continue
		}
		id := first + uint64(i)*span
		switch {
		case ref >= w.limit || ref <= quotaTreeRoot || id >= 1<<32:
			c.problem(QTreeBlkInvalid, w.f.ino, "Quota file %s: tree block %d refers to block %d of %d for id %d", w.f.name, blk, ref, w.limit, id)
		case level < w.depth-1:
			c.quotaNode(w, ref, level+1, id)
		default:
			c.quotaEntry(w, ref, uint32(id))
		}
	}
}

// quotaEntry looks for the entry of an id in its data block.
func (c *checker) quotaEntry(w *quotaWalk, blk, id uint32) {
	if w.buf == nil || w.last != blk {
		b, ok := c.quotaBlock(w.f, blk)
		if !ok {
			return
		}
		w.buf, w.last = b, blk
	}
	found := 0
	area := w.buf[quotaDataHeader : len(w.buf)-ondisk.QuotaBlockTail]
	var zero [quotaEntrySize]byte
	for ; len(area) >= quotaEntrySize; area = area[quotaEntrySize:] {
		e := area[:quotaEntrySize]
		if binary.LittleEndian.Uint32(e) == id && !bytes.Equal(e, zero[:]) {
			found++
		}
	}
	switch {
	case found == 0:
		c.problem(DQBlkInvalid, w.f.ino, "Quota file %s: block %d has no entry for id %d", w.f.name, blk, id)
	case found > 1:
		c.problem(DupDQBlk, w.f.ino, "Quota file %s: block %d has %d entries for id %d", w.f.name, blk, found, id)
	}
}

func (c *checker) localQuota(f *quotaFile, typ int) {
	h, ok := c.quotaHeader(f, ondisk.QuotaLocalMagic[typ])
	if !ok {
		return
	}
	if h.LocalBlocks() > f.blocks || h.LocalChunks() == 0 || h.LocalChunks() >= max(h.LocalBlocks(), 1) {
		c.problem(QuotaInfo, f.ino, "Local quota file %s has %d blocks allocated, its info says %d in %d chunks", f.name, f.blocks, h.LocalBlocks(), h.LocalChunks())
		return
	}
	for n := uint32(1); n < h.LocalBlocks(); n++ {
		c.quotaBlock(f, n) // for its block check
	}
	if h.LocalFlags()&ondisk.QuotaLocalClean == 0 {
		c.note("local quota file %s is not clean: mounted, or to be recovered", f.name)
	}
}
