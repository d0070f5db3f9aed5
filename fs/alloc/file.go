package alloc

import (
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// file is one chain allocator: a system inode with chains of groups. Its methods
// need the inode's lock (EX for those that take a handle).
type file struct {
	geo  *ondisk.Geometry
	ino  SysInode
	what string // for messages
	pend pending
}

func (f *file) corrupt(blkno uint64, format string, args ...any) error {
	return ondisk.Corruptf(f.what, blkno, format, args...)
}

// dinode reads the allocator's inode.
func (f *file) dinode() (*buffer.Buf, error) {
	b, err := f.ino.Meta().Read(f.ino.Blkno(), ondisk.CheckDinode)
	if err != nil {
		return nil, err
	}
	d := ondisk.Dinode(b.Data)
	const want = ondisk.InodeValid | ondisk.InodeChain
	if d.Flags()&want != want || d.Used() > d.Total() {
		b.Put()
		return nil, f.corrupt(b.Blkno, "flags %#x, %d of %d bits used", d.Flags(), d.Used(), d.Total())
	}
	return b, nil
}

// free is the number of bits that may be handed out now.
func (f *file) free(di *buffer.Buf) uint32 {
	d := ondisk.Dinode(di.Data)
	free := d.Total() - d.Used()
	return free - min(free, f.pend.count())
}

// group is a descriptor with the bits that are freed but pending.
type group struct {
	buf  *buffer.Buf
	d    ondisk.GroupDesc
	over overlay
}

func (g *group) put() {
	g.buf.Put()
	*g = group{}
}

func (g *group) bits() bitset { return bitset{g.d.Bitmap(), g.over.bits} }

// avail is the number of bits that may be handed out.
func (g *group) avail() int { return int(g.d.FreeBitsCount()) - g.over.n }

// group reads a descriptor and compares it with the allocator's inode.
func (f *file) group(di *buffer.Buf, blkno uint64) (group, error) {
	b, err := f.ino.Meta().Read(blkno, ondisk.CheckGroupDesc)
	if err != nil {
		return group{}, err
	}
	g := group{buf: b, d: ondisk.GroupDesc(b.Data)}
	cl := ondisk.Dinode(di.Data).Chains()
	var bad error
	switch {
	case g.d.ParentDinode() != f.ino.Blkno():
		bad = f.corrupt(blkno, "group of inode %d, not of %d", g.d.ParentDinode(), f.ino.Blkno())
	case g.d.Chain() >= cl.NextFree():
		bad = f.corrupt(blkno, "group of chain %d, there are %d", g.d.Chain(), cl.NextFree())
	case g.d.Bits() == 0 || int(g.d.Bits()) > int(cl.CPG())*int(cl.BPC()):
		bad = f.corrupt(blkno, "group of %d bits, at most %d", g.d.Bits(), int(cl.CPG())*int(cl.BPC()))
	}
	if bad != nil {
		b.Put()
		return group{}, bad
	}
	g.over = f.pend.of(blkno)
	return g, nil
}

// take marks n free bits used: group, chain and inode (OCFS2 format: bit
// bookkeeping). Two blocks of tx.
func (f *file) take(tx *journal.Handle, di *buffer.Buf, g *group, bit, n int) error {
	d := ondisk.Dinode(di.Data)
	rec := d.Chains().Rec(int(g.d.Chain()))
	bm := g.d.Bitmap()
	switch {
	case n <= 0 || bit < 0 || bit+n > int(g.d.Bits()):
		return f.corrupt(g.buf.Blkno, "taking bits %d+%d of %d", bit, n, g.d.Bits())
	case count(bm, bit, n) != 0:
		return f.corrupt(g.buf.Blkno, "taking bits %d+%d, which are used", bit, n)
	case int(g.d.FreeBitsCount()) < n || rec.Free() < uint32(n) || d.Total()-d.Used() < uint32(n):
		return f.corrupt(g.buf.Blkno, "taking %d bits, with %d free in the group, %d in chain %d, %d in all",
			n, g.d.FreeBitsCount(), rec.Free(), g.d.Chain(), d.Total()-d.Used())
	}
	if err := f.declare(tx, di, g); err != nil {
		return err
	}
	set(bm, bit, n)
	f.account(d, rec, g, -n)
	return nil
}

// give marks n used bits free, pending until tx is durable. Two blocks of tx.
func (f *file) give(tx *journal.Handle, di *buffer.Buf, g *group, bit, n int) error {
	d := ondisk.Dinode(di.Data)
	rec := d.Chains().Rec(int(g.d.Chain()))
	bm := g.d.Bitmap()
	switch {
	case n <= 0 || bit < 0 || bit+n > int(g.d.Bits()):
		return f.corrupt(g.buf.Blkno, "freeing bits %d+%d of %d", bit, n, g.d.Bits())
	case count(bm, bit, n) != n:
		return f.corrupt(g.buf.Blkno, "freeing bits %d+%d, of which only %d are used", bit, n, count(bm, bit, n))
	case int(g.d.FreeBitsCount())+n > int(g.d.Bits()) || rec.Free()+uint32(n) > rec.Total() || d.Used() < uint32(n):
		return f.corrupt(g.buf.Blkno, "freeing %d bits, with %d of %d free in the group, %d of %d in chain %d, %d used in all",
			n, g.d.FreeBitsCount(), g.d.Bits(), rec.Free(), rec.Total(), g.d.Chain(), d.Used())
	}
	if err := f.declare(tx, di, g); err != nil {
		return err
	}
	reset(bm, bit, n)
	f.account(d, rec, g, n)
	f.pend.add(tx, g.buf.Blkno, len(bm), bit, n)
	g.over = f.pend.of(g.buf.Blkno)
	return nil
}

func (f *file) declare(tx *journal.Handle, di *buffer.Buf, g *group) error {
	if err := tx.Write(&di.Block); err != nil {
		return err
	}
	return tx.Write(&g.buf.Block)
}

// account adds n to every count of free bits.
func (f *file) account(d ondisk.Dinode, rec ondisk.ChainRec, g *group, n int) {
	g.d.SetFreeBitsCount(uint16(int(g.d.FreeBitsCount()) + n))
	g.d.SetContigFreeBits(0) // unknown to newer kernels, which then look
	rec.SetFree(uint32(int(rec.Free()) + n))
	d.SetUsed(uint32(int(d.Used()) - n))
	if n > 0 {
		g.buf.Aux = nil // a longest run noted there is no longer
	}
}

// query asks search for clear bits.
type query struct {
	want  int                          // as many contiguous bits as wished
	min   int                          // fewer are useless; at least 1
	first uint64                       // group to look at first; 0: none
	upTo  func(d ondisk.GroupDesc) int // bits of a group that may be used; nil: all
}

// place is a run of clear bits.
type place struct {
	group  uint64
	bit, n int
}

// longest is kept in a descriptor's Aux: no run is longer. It holds as long as
// nothing is freed and nothing was pending.
type longest int

// enough bounds the groups looked at for something better than the minimum.
const enough = 64

// search finds a run of want bits or the longest of those it saw; n is 0 when no
// run has min. Linux fs/ocfs2/suballoc.c, ocfs2_claim_suballoc_bits: the group
// used last, then the chain with most free bits.
func (f *file) search(di *buffer.Buf, q query) (best place, err error) {
	if q.first != 0 {
		if err := f.look(di, q.first, &q, &best); err != nil {
			return place{}, err
		}
		if best.n >= q.want {
			return best, nil
		}
	}
	cl := ondisk.Dinode(di.Data).Chains()
	var done [256]bool
	for seen := 0; ; {
		chain := -1
		for i := range int(cl.NextFree()) {
			if !done[i] && cl.Rec(i).Free() >= uint32(q.min) && (chain < 0 || cl.Rec(i).Free() > cl.Rec(chain).Free()) {
				chain = i
			}
		}
		if chain < 0 {
			return best, nil
		}
		done[chain] = true
		err := f.walk(di, chain, func(blkno uint64) (bool, error) {
			err := f.look(di, blkno, &q, &best)
			seen++
			return err == nil && best.n < q.want && (best.n < q.min || seen < enough), err
		})
		if err != nil {
			return place{}, err
		}
		if best.n >= q.want || (best.n >= q.min && seen >= enough) {
			return best, nil
		}
	}
}

// look searches one group.
func (f *file) look(di *buffer.Buf, blkno uint64, q *query, best *place) error {
	g, err := f.group(di, blkno)
	if err != nil {
		return err
	}
	defer g.put()
	need := max(q.min, best.n+1)
	if g.avail() < need {
		return nil
	}
	if l, ok := g.buf.Aux.(longest); ok && int(l) < need {
		return nil
	}
	to := int(g.d.Bits())
	if q.upTo != nil {
		to = min(to, q.upTo(g.d))
	}
	bit, n := g.bits().run(0, max(0, to), q.want)
	if n < q.want && g.over.n == 0 && to == int(g.d.Bits()) {
		g.buf.Aux = longest(n)
	}
	if n >= need {
		*best = place{blkno, bit, n}
	}
	return nil
}

// walk calls fn for the groups of a chain until it returns false or an error. A
// chain that loops has more bits than its record says, or more groups than fit
// into the volume.
func (f *file) walk(di *buffer.Buf, chain int, fn func(blkno uint64) (bool, error)) error {
	rec := ondisk.Dinode(di.Data).Chains().Rec(chain)
	sum, most := uint64(0), uint64(f.geo.TotalClusters)/uint64(ondisk.Dinode(di.Data).Chains().CPG())+1
	for blkno := rec.Blkno(); blkno != 0; {
		g, err := f.group(di, blkno)
		if err != nil {
			return err
		}
		next := g.d.NextGroup()
		sum += uint64(g.d.Bits())
		bad := int(g.d.Chain()) != chain || sum > min(uint64(rec.Total()), f.geo.TotalBlocks) || most == 0
		most--
		g.put()
		if bad {
			return f.corrupt(blkno, "group does not belong to chain %d of %d bits, or is in it twice", chain, rec.Total())
		}
		more, err := fn(blkno)
		if !more || err != nil {
			return err
		}
		blkno = next
	}
	return nil
}
