package alloc

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// clusters is the global bitmap.
type clusters struct {
	file
	seen atomic.Uint64 // Space as last seen: total<<32 | free
	last uint64        // group used last; guarded by the EX lock
}

// start is the first cluster of a group; groups have fixed places.
func (c *clusters) start(g *group) (uint32, error) {
	first := uint64(0)
	if g.buf.Blkno != c.geo.FirstClusterGroup {
		first = g.buf.Blkno >> c.geo.BpcBits
	}
	end := (first + uint64(g.d.Bits())) << c.geo.BpcBits
	if first%uint64(c.geo.CPG) != 0 || end > c.geo.TotalBlocks {
		return 0, c.corrupt(g.buf.Blkno, "cluster group of clusters %d..%d", first, first+uint64(g.d.Bits())-1)
	}
	return uint32(first), nil
}

// note remembers the counts of the inode for Cached.
func (c *clusters) note(di *buffer.Buf) {
	d := ondisk.Dinode(di.Data)
	c.seen.Store(uint64(d.Total())<<32 | uint64(d.Total()-d.Used()))
}

func (c *clusters) space() Space {
	v := c.seen.Load()
	return Space{Total: uint32(v >> 32), Free: uint32(v)}
}

// find looks for want contiguous clusters, at cluster goal if that is free (0:
// no goal), else the longest run of at least min. Blocks at or behind limit are
// not used (0: no limit).
func (c *clusters) find(di *buffer.Buf, want, min, goal uint32, limit uint64) (place, error) {
	q := query{want: int(want), min: int(min), first: c.last}
	if goal != 0 {
		p, err := c.atGoal(di, want, goal)
		if err != nil || p.n >= int(min) {
			return p, err
		}
		q.first, _ = c.geo.GroupOfCluster(goal)
	}
	if limit != 0 {
		q.upTo = func(d ondisk.GroupDesc) int {
			first := uint64(0)
			if d.Blkno() != c.geo.FirstClusterGroup {
				first = d.Blkno()
			}
			if first >= limit {
				return 0
			}
			return int((limit - first) >> c.geo.BpcBits)
		}
	}
	return c.search(di, q)
}

// atGoal returns the free run that begins at cluster goal, if any.
func (c *clusters) atGoal(di *buffer.Buf, want, goal uint32) (place, error) {
	if goal >= c.geo.TotalClusters {
		return place{}, nil
	}
	desc, bit := c.geo.GroupOfCluster(goal)
	g, err := c.group(di, desc)
	if err != nil {
		return place{}, err
	}
	defer g.put()
	to := min(int(g.d.Bits()), bit+int(want))
	if bit >= to {
		return place{}, nil
	}
	return place{desc, bit, g.bits().nextSet(bit, to) - bit}, nil
}

// claim takes a run that find returned and gives its first cluster.
func (c *clusters) claim(tx *journal.Handle, di *buffer.Buf, p place) (uint32, error) {
	g, err := c.group(di, p.group)
	if err != nil {
		return 0, err
	}
	defer g.put()
	first, err := c.start(&g)
	if err != nil {
		return 0, err
	}
	if err := c.take(tx, di, &g, p.bit, p.n); err != nil {
		return 0, err
	}
	c.last = p.group
	c.note(di)
	return first + uint32(p.bit), nil
}

// release frees n clusters from first on, group by group.
func (c *clusters) release(tx *journal.Handle, di *buffer.Buf, first, n uint32) error {
	if n == 0 || first >= c.geo.TotalClusters || n > c.geo.TotalClusters-first {
		return c.corrupt(di.Blkno, "freeing clusters %d+%d of %d", first, n, c.geo.TotalClusters)
	}
	for n > 0 {
		desc, bit := c.geo.GroupOfCluster(first)
		k := min(n, c.geo.CPG-uint32(bit))
		g, err := c.group(di, desc)
		if err != nil {
			return err
		}
		err = c.give(tx, di, &g, bit, int(k))
		g.put()
		if err != nil {
			return err
		}
		first, n = first+k, n-k
	}
	c.note(di)
	return nil
}

// groupsOf is the number of cluster groups a run touches. A run outside the
// volume counts as one: freeing it says that it is corrupt.
func (c *clusters) groupsOf(first, n uint32) int {
	switch total := c.geo.TotalClusters; {
	case n == 0:
		return 0
	case first >= total || n > total-first:
		return 1
	}
	return int((first+n-1)/c.geo.CPG - first/c.geo.CPG + 1)
}

// lock takes the EX lock and reads the inode.
func (c *clusters) lock(ctx context.Context) (*buffer.Buf, error) { return lockFile(ctx, &c.file) }

func lockFile(ctx context.Context, f *file) (*buffer.Buf, error) {
	if err := f.ino.LockEX(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", f.what, err)
	}
	di, err := f.dinode()
	if err != nil {
		f.ino.UnlockEX()
	}
	return di, err
}

// unlock is the opposite of lock.
func (f *file) unlock(di *buffer.Buf) {
	di.Put()
	f.ino.UnlockEX()
}
