package refcount

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
	"github.com/ocfuse/ocfuse/journal/format"
)

// The volume of these tests has no superblock: a root block, a log, and a pool
// of metadata blocks. Data clusters exist only as numbers.
const (
	rootBlkno  = 40
	logBlkno   = 64
	logLen     = 1024
	poolBlkno  = 2048
	poolLen    = 512
	volBlocks  = 1 << 24
	firstData  = 1 << 12 // first shared cluster
	generation = 0x77
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rig is a tree in memory with a model: the count of each cluster.
type rig struct {
	t     testing.TB
	geo   *ondisk.Geometry
	j     *journal.Journal
	m     *buffer.Meta
	free  []extent.MetaBlock
	used  map[uint64]extent.MetaBlock
	count []uint32
}

func (r *rig) ClaimMeta(*journal.Handle) (extent.MetaBlock, error) {
	n := len(r.free) - 1
	b := r.free[n]
	r.free = r.free[:n]
	r.used[b.Blkno] = b
	return b, nil
}

func (r *rig) FreeMeta(b extent.MetaBlock) {
	if r.used[b.Blkno] != b {
		r.t.Errorf("freed %+v, which is not in use like this", b)
	}
	delete(r.used, b.Blkno)
	r.free = append(r.free, b)
}

// newRig makes a tree of one record: n clusters, each counted count times.
func newRig(t testing.TB, bs, n int, count uint32) *rig {
	g := &ondisk.Geometry{BlockSize: bs, ClusterSize: 4096, ClusterBits: 12, TotalBlocks: volBlocks, FSGeneration: 0x1234}
	for g.BlockBits = 9; 1<<g.BlockBits != bs; g.BlockBits++ {
	}
	g.BpcBits = g.ClusterBits - g.BlockBits
	g.Bpc = 1 << g.BpcBits
	g.TotalClusters = uint32(volBlocks >> g.BpcBits)
	dev := blockdev.NewMem(int64(poolBlkno+poolLen)*int64(bs), blockdev.MemOptions{})
	block := make([]byte, bs)
	sb := format.New(uint32(bs), logLen, [16]byte{1}, 0)
	sb.Put(block)
	_, err := dev.WriteAt(block, logBlkno*int64(bs))
	must(t, err)
	rb := ondisk.RefcountBlock(block)
	rb.Init(rootBlkno, g.FSGeneration)
	rb.SetCount(2)
	rb.SetGeneration(generation)
	l := rb.Records()
	l.SetCount(uint16(l.Space()))
	l.SetUsed(1)
	l.Rec(0).Set(firstData, uint32(n), count)
	_, err = dev.WriteAt(block, rootBlkno*int64(bs))
	must(t, err)
	r := &rig{t: t, geo: g, used: map[uint64]extent.MetaBlock{}, count: make([]uint32, n)}
	for i := range r.count {
		r.count[i] = count
	}
	for i := poolLen - 1; i >= 0; i-- {
		r.free = append(r.free, extent.MetaBlock{Blkno: poolBlkno + uint64(i), Slot: 3, Bit: uint16(i), Loc: 7})
	}
	r.j, err = journal.Open(journal.Config{Dev: dev, BlockSize: bs, Extents: []journal.Extent{{Blkno: logBlkno, Len: logLen}}})
	must(t, err)
	t.Cleanup(func() { r.j.Close(context.Background()) })
	r.m = new(buffer.Meta)
	r.m.Init(buffer.NewCache(dev, g, 1<<22))
	return r
}

// step takes a reference off some clusters around at.
func (r *rig) step(at, want int) {
	tr, err := Open(r.m, rootBlkno)
	must(r.t, err)
	defer tr.Close()
	for want > 0 && at < len(r.count) {
		if r.count[at] == 0 {
			at, want = at+1, want-1
			continue
		}
		c := uint32(firstData + at)
		rec, err := tr.Lookup(c)
		must(r.t, err)
		if rec.Count != r.count[at] {
			r.t.Fatalf("cluster %d has count %d, want %d", c, rec.Count, r.count[at])
		}
		n := min(want, int(rec.End()-c))
		meta, credits, err := tr.Needs(c)
		must(r.t, err)
		tx, err := r.j.Start(context.Background(), credits)
		must(r.t, err)
		blocks := len(r.used)
		zero, err := tr.Decrement(tx, r, r, c, uint32(n))
		must(r.t, err)
		if got := len(r.used) - blocks; got > meta {
			r.t.Fatalf("took %d blocks, said %d", got, meta)
		}
		must(r.t, tx.Stop())
		if zero != (rec.Count == 1) {
			r.t.Fatalf("count was %d, zero: %v", rec.Count, zero)
		}
		for i := range n {
			r.count[at+i]--
		}
		at, want = at+n, want-n
	}
}

// verify compares the tree with the model and checks the invariants.
func (r *rig) verify() {
	r.t.Helper()
	tr, err := Open(r.m, rootBlkno)
	must(r.t, err)
	defer tr.Close()
	got := make([]uint32, len(r.count))
	records := 0
	must(r.t, tr.Walk(func(rec Record) bool {
		records++
		for c := rec.Cluster; c < rec.End(); c++ {
			got[c-firstData] += rec.Count
		}
		return true
	}))
	for i := range got {
		if got[i] != r.count[i] {
			r.t.Fatalf("cluster %d: count %d, want %d", firstData+i, got[i], r.count[i])
		}
	}
	leaves := 0
	if tr.block().IsTree() {
		e := tr.leaves()
		must(r.t, e.Walk(0, func(run extent.Run) bool {
			f, err := tr.readLeaf(run)
			must(r.t, err)
			rb := ondisk.RefcountBlock(f.b.Data)
			if f.l.Used() == 0 || rb.Cpos() != run.Cpos || f.l.Rec(0).Cpos() < uint64(run.Cpos) {
				r.t.Fatalf("leaf %d: %d records, cpos %d, reached as %v", f.b.Blkno, f.l.Used(), rb.Cpos(), run)
			}
			for i := 1; i < int(f.l.Used()); i++ {
				p, q := f.l.Rec(i-1), f.l.Rec(i)
				if p.Cpos()+uint64(p.Clusters()) == q.Cpos() && p.Refcount() == q.Refcount() {
					r.t.Fatalf("leaf %d: records %d and %d could be one", f.b.Blkno, i-1, i)
				}
			}
			f.put()
			leaves++
			return true
		}))
		if leaves != int(tr.block().Clusters()) || leaves == 0 {
			r.t.Fatalf("rf_clusters %d, found %d leaves", tr.block().Clusters(), leaves)
		}
	}
	if len(r.used) < leaves || leaves == 0 && len(r.used) > 0 {
		r.t.Fatalf("%d blocks in use, %d leaves", len(r.used), leaves)
	}
}

// TestModel takes references off at random until nothing is counted: the tree
// grows leaves and loses them again.
func TestModel(t *testing.T) {
	for _, bs := range []int{512, 1024, 4096} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%d/%d", bs, seed), func(t *testing.T) {
				r := newRig(t, bs, 6000, 3)
				rng := rand.New(rand.NewPCG(seed, uint64(bs)))
				most := 0
				for k := range 8000 {
					r.step(rng.IntN(len(r.count)), 1+rng.IntN([]int{1, 3, 20}[rng.IntN(3)]))
					most = max(most, len(r.used))
					if k%500 == 0 {
						r.verify()
					}
				}
				if most < 2 {
					t.Errorf("the tree had at most %d blocks: not tested", most)
				}
				for i := range r.count {
					for r.count[i] > 0 {
						r.step(i, len(r.count))
					}
				}
				r.verify()
				r.detach()
			})
		}
	}
}

// detach takes both users off the empty tree.
func (r *rig) detach() {
	for i := range 2 {
		tr, err := Open(r.m, rootBlkno)
		must(r.t, err)
		if !tr.Empty() || len(r.used) > 0 {
			r.t.Fatalf("tree is not empty: flags %#x, %d blocks in use", tr.block().Flags(), len(r.used))
		}
		r.used[rootBlkno] = extent.MetaBlock{Blkno: rootBlkno}
		tx, err := r.j.Start(context.Background(), DetachCredits)
		must(r.t, err)
		last, err := tr.Detach(tx, r)
		must(r.t, err)
		must(r.t, tx.Stop())
		if last != (i == 1) {
			r.t.Fatalf("user %d was the last one: %v", i, last)
		}
		tr.Close()
		delete(r.used, rootBlkno)
	}
	if _, err := Open(r.m, rootBlkno); !errors.Is(err, ondisk.ErrCorrupt) {
		t := r.t
		t.Errorf("a tree without users was opened: %v", err)
	}
}

// TestCorrupt damages blocks; every use must say so and change nothing.
func TestCorrupt(t *testing.T) {
	for _, bad := range []struct {
		name string
		edit func(l ondisk.RefcountList)
	}{
		{"no clusters", func(l ondisk.RefcountList) { l.Rec(0).SetClusters(0) }},
		{"no references", func(l ondisk.RefcountList) { l.Rec(0).SetRefcount(0) }},
		{"off the volume", func(l ondisk.RefcountList) { l.Rec(0).SetClusters(1 << 31) }},
		{"cluster 2^32", func(l ondisk.RefcountList) { l.Rec(0).SetCpos(1 << 32) }},
		{"overlap", func(l ondisk.RefcountList) { l.SetUsed(2); l.Rec(1).Set(firstData+5, 3, 1) }},
	} {
		t.Run(bad.name, func(t *testing.T) {
			r := newRig(t, 512, 10, 2)
			tr, err := Open(r.m, rootBlkno)
			must(t, err)
			defer tr.Close()
			bad.edit(tr.block().Records())
			if _, err := tr.Lookup(firstData + 4); !errors.Is(err, ondisk.ErrCorrupt) {
				t.Errorf("Lookup: %v", err)
			}
			tx, err := r.j.Start(context.Background(), 4)
			must(t, err)
			before := string(tr.root.Data)
			if _, err := tr.Decrement(tx, r, r, firstData+4, 2); !errors.Is(err, ondisk.ErrCorrupt) {
				t.Errorf("Decrement: %v", err)
			}
			if string(tr.root.Data) != before {
				t.Error("a damaged tree was changed")
			}
			must(t, tx.Stop())
		})
	}
	t.Run("range over the record", func(t *testing.T) {
		r := newRig(t, 512, 10, 2)
		tr, err := Open(r.m, rootBlkno)
		must(t, err)
		defer tr.Close()
		tx, err := r.j.Start(context.Background(), 4)
		must(t, err)
		if _, err := tr.Decrement(tx, r, r, firstData+4, 7); !errors.Is(err, ondisk.ErrCorrupt) {
			t.Errorf("Decrement: %v", err)
		}
		must(t, tx.Stop())
	})
	t.Run("leaf of another tree", func(t *testing.T) {
		r := newRig(t, 512, 3000, 2)
		for i := 0; i < 3000; i += 2 {
			r.step(i, 1)
		}
		tr, err := Open(r.m, rootBlkno)
		must(t, err)
		defer tr.Close()
		f, err := tr.find(firstData + 100)
		must(t, err)
		ondisk.RefcountBlock(f.b.Data).SetGeneration(generation + 1)
		f.put()
		if _, err := tr.Lookup(firstData + 100); !errors.Is(err, ondisk.ErrCorrupt) {
			t.Errorf("Lookup: %v", err)
		}
	})
}
