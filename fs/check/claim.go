package check

import (
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// claimClusters records that inode ino (a system file if sys) uses the clusters
// of r, which the caller checked to be inside the volume. Clusters may have
// several users only if all are refcounted.
func (c *checker) claimClusters(ino uint64, sys bool, r run, refcounted bool) {
	if refcounted {
		c.claimShared(ino, r)
		return
	}
	if first, n := c.used.setRun(r.start, r.n); n > 0 {
		c.duplicate(ino, sys, first, n)
	}
}

func (c *checker) claimShared(ino uint64, r run) {
	if c.shared == nil {
		c.shared = newBitmap(uint64(c.g.TotalClusters))
	}
	for i := r.start; i < r.end(); i++ {
		if c.used.get(i) && !c.shared.get(i) {
			c.duplicate(ino, false, i, 1)
		}
		c.used.set(i)
		c.shared.set(i)
	}
}

func (c *checker) duplicate(ino uint64, sys bool, first, n uint64) {
	code := DupClusters
	if sys {
		code = DupClustersSysfile
	}
	c.problem(code, ino, "Inode %d uses %d clusters that are used already, the first is cluster %d", ino, n, first)
}

// suballocOf is where a metadata block says it comes from.
type suballocOf struct {
	slot, bit uint16
	loc       uint64
}

// claimMeta records that block blkno, a what, is in use, and compares its
// suballocator fields with the group it is in. False when it has a user
// already: the caller must not descend into it again.
func (c *checker) claimMeta(what string, blkno uint64, s suballocOf) bool {
	g, bit, ok := c.groups.find(blkno)
	if !ok || g.a.kind != allocMeta {
		c.problem(MetaAllocFree, blkno, "%s at block %d is in no group of an extent allocator", what, blkno)
		if c.outer[blkno] {
			return false
		}
		c.outer[blkno] = true
		return true
	}
	if testBit(g.users, bit) {
		c.problem(MetaDuplicate, blkno, "%s at block %d: the block is in use already", what, blkno)
		return false
	}
	g.users[bit/8] |= 1 << (bit % 8)
	c.rep.Summary.MetaBlocks++
	if s.slot != g.a.slot || int(s.bit) != bit || !g.locOK(s.loc) {
		c.problem(EBSuballoc, blkno, "%s at block %d says slot %d bit %d group %d, it is in slot %d bit %d group %d",
			what, blkno, s.slot, s.bit, s.loc, g.a.slot, bit, g.blkno)
	}
	return true
}

// compareMeta compares the bits of the extent allocators with the claims.
func (c *checker) compareMeta() {
	for _, a := range c.allocs {
		if a.kind != allocMeta {
			continue
		}
		for _, g := range a.groups {
			for _, r := range g.runs {
				c.compareMetaRun(a, g, r)
			}
		}
	}
}

func (c *checker) compareMetaRun(a *allocator, g *group, r groupRun) {
	for i := range r.n {
		bit := r.bit + int(i)
		set, used := testBit(g.bitmap, bit), testBit(g.users, bit)
		switch {
		case used && !set:
			c.problem(MetaAllocFree, r.start+i, "Block %d is in use, but bit %d of group %d of %s is clear", r.start+i, bit, g.blkno, a.name)
		case set && !used:
			c.problem(MetaAllocLeak, r.start+i, "Bit %d of group %d of %s is set, but nobody uses block %d", bit, g.blkno, a.name, r.start+i)
		}
	}
}

// window is an open local alloc window: the clusters it calls free.
type window struct {
	slot int
	free []run
}

// compareClusters compares the cluster bitmap with the claims. Deferred frees
// and the free part of local alloc windows are set in the bitmap without a user.
func (c *checker) compareClusters() {
	extra := newBitmap(uint64(c.g.TotalClusters))
	for _, w := range c.windows {
		for _, r := range w.free {
			c.unowned(extra, r, LallocFreeInUse, "local_alloc", w.slot)
		}
	}
	for _, r := range c.truncs {
		c.unowned(extra, r, TruncateRecInUse, "truncate_log", -1)
	}
	for _, a := range c.allocs {
		if a.kind != allocClusters {
			continue
		}
		for i, g := range a.groups {
			if c.cancelled() {
				return
			}
			c.compareClusterGroup(g, extra)
			c.progress(uint64(i), uint64(len(a.groups)))
		}
	}
}

// unowned marks clusters that must be set without a user.
func (c *checker) unowned(extra bitmap, r run, code, what string, slot int) {
	for i := r.start; i < r.end(); i++ {
		if c.used.get(i) || extra.get(i) {
			c.problem(code, 0, "Cluster %d is to be freed by a %s (slot %d, -1 any), but is in use or freed twice", i, what, slot)
		}
		extra.set(i)
	}
}

func (c *checker) compareClusterGroup(g *group, extra bitmap) {
	b, ok := c.block(g.blkno)
	if !ok {
		return
	}
	bm := ondisk.GroupDesc(b).Bitmap()
	if len(bm)*8 < g.bits {
		return // changed since pass 0: not our bitmap any more
	}
	first := uint64(c.g.BlocksToClusters(g.blkno)/c.g.CPG) * uint64(c.g.CPG)
	report := func(from, to int, set bool) {
		if set {
			c.problem(ClusterAllocBit, g.blkno, "Clusters %d..%d are marked in the cluster bitmap but nobody uses them", first+uint64(from), first+uint64(to)-1)
			return
		}
		c.problem(ClusterAllocBit, g.blkno, "Clusters %d..%d are in use but not marked in the cluster bitmap", first+uint64(from), first+uint64(to)-1)
	}
	start := -1 // of a run of wrong bits
	var startSet bool
	for i := range g.bits {
		n := first + uint64(i)
		set := testBit(bm, i)
		wrong := set != (c.used.get(n) || extra.get(n))
		if start >= 0 && (!wrong || set != startSet) {
			report(start, i, startSet)
			start = -1
		}
		if wrong && start < 0 {
			start, startSet = i, set
		}
	}
	if start >= 0 {
		report(start, g.bits, startSet)
	}
}
