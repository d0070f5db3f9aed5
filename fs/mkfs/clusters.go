package mkfs

import (
	"fmt"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// run is a range of clusters inside one group, by bit.
type run struct{ from, to int }

// clusterMap is the cluster bitmap while the volume is laid out: first fit, group by
// group. Only groups that something was taken from are held; of the others just the
// descriptor's cluster is used.
type clusterMap struct {
	g      *ondisk.Geometry
	used   map[int][]run // by group, sorted, without the descriptor's bit where the list is missing
	full   int           // groups before this one have no free cluster
	groups int
}

func newClusterMap(g *ondisk.Geometry) *clusterMap {
	return &clusterMap{g: g, used: make(map[int][]run), groups: g.GroupCount()}
}

// runs returns the used runs of a group.
func (m *clusterMap) runs(group int) []run {
	if r, ok := m.used[group]; ok {
		return r
	}
	return []run{{0, 1}}
}

// usedBits counts the used clusters of a group.
func (m *clusterMap) usedBits(group int) int {
	n := 0
	for _, r := range m.runs(group) {
		n += r.to - r.from
	}
	return n
}

// mark takes the clusters [from, to) of a group, which must be free.
func (m *clusterMap) mark(group, from, to int) {
	old := m.runs(group)
	i := 0
	for i < len(old) && old[i].to < from {
		i++
	}
	next := append([]run(nil), old[:i]...)
	r := run{from, to}
	if i < len(old) && old[i].to == from {
		r.from = old[i].from
		i++
	}
	if i < len(old) && old[i].from == to {
		r.to = old[i].to
		i++
	}
	m.used[group] = append(append(next, r), old[i:]...)
}

// take allocates up to want contiguous clusters, at least least: the first hole
// that holds want in the first group that has a hole of least, else the largest hole
// there. That is how libocfs2 searches, so that layouts agree.
func (m *clusterMap) take(least, want int, what string) (cluster uint32, n int, err error) {
	for ; m.full < m.groups && m.usedBits(m.full) == m.g.GroupBits(m.full); m.full++ {
	}
	for group := m.full; group < m.groups; group++ {
		at, size := m.hole(group, want)
		if size < least {
			continue
		}
		m.mark(group, at, at+size)
		return uint32(group)*m.g.CPG + uint32(at), size, nil
	}
	return 0, 0, fmt.Errorf("%w: no room for %d clusters of %s: use a larger device, fewer slots or a smaller journal", ErrTooSmall, least, what)
}

// hole finds want free bits in a group, or the largest hole.
func (m *clusterMap) hole(group, want int) (at, size int) {
	end := m.g.GroupBits(group)
	prev := 0
	for _, r := range append(m.runs(group), run{end, end}) {
		switch n := r.from - prev; {
		case n >= want:
			return prev, want
		case n > size:
			at, size = prev, n
		}
		prev = r.to
	}
	return at, size
}

// takeCluster marks one given cluster used; false if it was.
func (m *clusterMap) takeCluster(c uint32) bool {
	group, bit := int(c/m.g.CPG), int(c%m.g.CPG)
	for _, r := range m.runs(group) {
		if bit >= r.from && bit < r.to {
			return false
		}
	}
	m.mark(group, bit, bit+1)
	return true
}

// chains adds the groups up to the chain list of the global bitmap: chain i has the
// groups i, i+count, ... Returns the used clusters of the volume.
func (m *clusterMap) chains(list ondisk.ChainList) uint32 {
	var used uint32
	count := int(list.Count())
	list.SetNextFree(uint16(min(count, m.groups)))
	for group := range m.groups {
		bits, taken := m.g.GroupBits(group), m.usedBits(group)
		rec := list.Rec(group % count)
		if group < count {
			rec.SetBlkno(m.g.GroupBlkno(group))
		}
		rec.SetTotal(rec.Total() + uint32(bits))
		rec.SetFree(rec.Free() + uint32(bits-taken))
		used += uint32(taken)
	}
	return used
}

// descriptor fills block with the group descriptor of a cluster group.
func (m *clusterMap) descriptor(block []byte, group, chains int, parent uint64) {
	d := ondisk.GroupDesc(block)
	d.Init(m.g.GroupBlkno(group), m.g.FSGeneration, parent, uint16(m.g.ClusterGroupSize()))
	bits := m.g.GroupBits(group)
	d.SetBits(uint16(bits))
	d.SetFreeBitsCount(uint16(bits - m.usedBits(group)))
	d.SetChain(uint16(group % chains))
	if next := group + chains; next < m.groups {
		d.SetNextGroup(m.g.GroupBlkno(next))
	}
	for _, r := range m.runs(group) {
		setBits(d.Bitmap(), r.from, r.to)
	}
}

// setBits sets bits [from, to) of a bitmap.
func setBits(bitmap []byte, from, to int) {
	for i := from; i < to; {
		if i%8 == 0 && to-i >= 8 {
			bitmap[i/8] = 0xFF
			i += 8
			continue
		}
		bitmap[i/8] |= 1 << (i % 8)
		i++
	}
}
