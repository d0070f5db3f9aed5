package alloc

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// span is a run of clusters that a new group gets; p is where it lies in the
// global bitmap, unless it comes from the local window.
type span struct {
	first, n uint32
	p        place
}

// grow adds a group to a suballocator, in a transaction of its own (OCFS2 format:
// growing a suballocator). Precondition: s is locked, di is its inode.
func (a *Allocator) grow(ctx context.Context, s *suballoc, di *buffer.Buf) error {
	cl := ondisk.Dinode(di.Data).Chains()
	need, bits := uint32(cl.CPG()), int(cl.CPG())*int(cl.BPC())
	if bits > a.env.Geo.SuballocGroupSize()*8 || uint32(cl.BPC()) != a.env.Geo.Bpc {
		return s.corrupt(di.Blkno, "groups of %d clusters, %d bits each, do not fit a descriptor", cl.CPG(), cl.BPC())
	}
	if s.slot != uint16(a.env.Slot) {
		return fmt.Errorf("%s: growing another slot's allocator: %w", s.what, ErrNoSpace)
	}
	la, err := a.local.lock(ctx)
	if err != nil {
		return err
	}
	defer a.local.unlock(la)
	if first, ok := a.local.peek(la, need, s.limit); ok {
		return a.addGroup(ctx, s, di, la, nil, []span{{first: first, n: need}})
	}
	gb, err := a.bitmap.lock(ctx)
	if err != nil {
		return err
	}
	defer a.bitmap.unlock(gb)
	for {
		spans, err := a.planGroup(gb, need, s.limit)
		if err != nil {
			return err
		}
		if spans != nil {
			return a.addGroup(ctx, s, di, nil, gb, spans)
		}
		if more, err := a.scrape(ctx, la, gb); err != nil || !more {
			return cmp.Or(err, fmt.Errorf("new group for %s: %w", s.what, ErrNoSpace))
		}
	}
}

// planGroup finds the clusters of a new group: one run, or several if the volume
// allows discontiguous groups. Nil: there are not enough.
func (a *Allocator) planGroup(gb *buffer.Buf, need uint32, limit uint64) ([]span, error) {
	p, err := a.bitmap.find(gb, need, need, 0, limit)
	if err != nil {
		return nil, err
	}
	if p.n >= int(need) {
		return []span{{n: need, p: p}}, nil
	}
	if !a.env.Geo.HasDiscontigBG() || a.bitmap.free(gb) < need {
		return nil, nil
	}
	return a.scatter(gb, need, limit)
}

// scatter collects the longest free runs until they have need clusters.
func (a *Allocator) scatter(gb *buffer.Buf, need uint32, limit uint64) ([]span, error) {
	most := min(a.env.Geo.GroupListRecs(), a.env.Journal.MaxCredits()-4)
	var spans []span
	longestFirst := func(x, y span) int { return cmp.Or(cmp.Compare(y.n, x.n), cmp.Compare(x.first, y.first)) }
	for chain := range int(ondisk.Dinode(gb.Data).Chains().NextFree()) {
		err := a.bitmap.walk(gb, chain, func(blkno uint64) (bool, error) {
			var err error
			if spans, err = a.runsOf(gb, blkno, need, limit, spans); err != nil {
				return false, err
			}
			slices.SortFunc(spans, longestFirst)
			spans = spans[:min(len(spans), most)]
			return clustersIn(spans) < uint64(need), nil
		})
		if err != nil {
			return nil, err
		}
		if clustersIn(spans) >= uint64(need) {
			break
		}
	}
	have := uint32(0)
	for i := range spans {
		spans[i].n = min(spans[i].n, need-have)
		spans[i].p.n = int(spans[i].n)
		if have += spans[i].n; have == need {
			spans = spans[:i+1]
			slices.SortFunc(spans, func(x, y span) int { return cmp.Compare(x.first, y.first) })
			return spans, nil
		}
	}
	return nil, nil
}

func clustersIn(spans []span) (n uint64) {
	for _, s := range spans {
		n += uint64(s.n)
	}
	return n
}

// runsOf appends the free runs of a cluster group, none longer than need.
func (a *Allocator) runsOf(gb *buffer.Buf, blkno uint64, need uint32, limit uint64, spans []span) ([]span, error) {
	g, err := a.bitmap.group(gb, blkno)
	if err != nil {
		return nil, err
	}
	defer g.put()
	first, err := a.bitmap.start(&g)
	if err != nil {
		return nil, err
	}
	set, to := g.bits(), int(g.d.Bits())
	for at := set.nextClear(0, to); at < to; {
		end := set.nextSet(at, min(to, at+int(need)))
		at64 := uint64(first) + uint64(at)
		if limit != 0 && (at64+uint64(end-at))<<a.env.Geo.BpcBits > limit {
			break
		}
		spans = append(spans, span{uint32(at64), uint32(end - at), place{blkno, at, end - at}})
		at = set.nextClear(end, to)
	}
	return spans, nil
}

// addGroup claims the spans, from the local window if la is given, else from the
// global bitmap, and enters the group they form.
func (a *Allocator) addGroup(ctx context.Context, s *suballoc, di, la, gb *buffer.Buf, spans []span) error {
	tx, err := a.env.Journal.Start(ctx, 4+len(spans))
	if err != nil {
		return err
	}
	for i := range spans {
		if la != nil {
			err = a.local.take(tx, la, spans[i].first, spans[i].n)
		} else {
			spans[i].first, err = a.bitmap.claim(tx, gb, spans[i].p)
		}
		if err != nil {
			return a.broken(tx, err)
		}
	}
	if err := s.enter(tx, di, spans); err != nil {
		return a.broken(tx, err)
	}
	return tx.Stop()
}

// broken ends a transaction that could not be completed: the journal gives up,
// so that half a change does not become durable.
func (a *Allocator) broken(tx *journal.Handle, err error) error {
	a.env.Journal.Abort(fmt.Errorf("allocator: %w", err))
	_ = tx.Stop() // err is the reason
	return err
}

// enter writes the descriptor of a new group and links it in front of a chain.
func (s *suballoc) enter(tx *journal.Handle, di *buffer.Buf, spans []span) error {
	d := ondisk.Dinode(di.Data)
	cl := d.Chains()
	chain := int(cl.NextFree())
	if chain >= int(cl.Count()) {
		chain = 0
		for i := range int(cl.NextFree()) {
			if cl.Rec(i).Total() < cl.Rec(chain).Total() {
				chain = i
			}
		}
	}
	blkno := s.geo.ClustersToBlocks(spans[0].first)
	b := s.ino.Meta().New(blkno)
	defer b.Put()
	if err := tx.Write(&b.Block); err != nil {
		return err
	}
	if err := tx.Write(&di.Block); err != nil {
		return err
	}
	if chain >= int(cl.NextFree()) {
		cl.SetNextFree(uint16(chain + 1))
		clear(cl.Rec(chain))
	}
	rec := cl.Rec(chain)
	bits := uint32(cl.CPG()) * uint32(cl.BPC())
	b.Aux = nil
	gd := ondisk.GroupDesc(b.Data)
	gd.Init(blkno, s.geo.FSGeneration, s.ino.Blkno(), uint16(s.geo.SuballocGroupSize()))
	gd.SetBits(uint16(bits))
	gd.SetFreeBitsCount(uint16(bits - 1))
	gd.SetChain(uint16(chain))
	gd.SetNextGroup(rec.Blkno())
	set(gd.Bitmap(), 0, 1)
	if len(spans) > 1 {
		s.list(gd.List(), spans)
	}
	rec.SetBlkno(blkno)
	rec.SetFree(rec.Free() + bits - 1)
	rec.SetTotal(rec.Total() + bits)
	d.SetUsed(d.Used() + 1)
	d.SetTotal(d.Total() + bits)
	d.SetClusters(d.Clusters() + uint32(cl.CPG()))
	d.SetSize(uint64(d.Clusters()) << s.geo.ClusterBits)
	return nil
}

// list writes the runs of a discontiguous group.
func (s *suballoc) list(l ondisk.ExtentList, spans []span) {
	l.SetCount(uint16(l.Space()))
	l.SetNextFree(uint16(len(spans)))
	cpos := uint32(0)
	for i, sp := range spans {
		l.Rec(i).SetLeaf(cpos, uint16(sp.n), s.geo.ClustersToBlocks(sp.first), 0)
		cpos += sp.n
	}
}
