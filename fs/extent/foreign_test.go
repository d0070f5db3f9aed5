package extent

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// weaken makes the leaf at cpos what another implementation may leave: its first
// record removed without moving the boundary, or an empty record in front.
func (r *runner) weaken(cpos uint32) {
	tree := r.tree(r.s.ebCap)
	var p path
	must(r.t, tree.descend(&p, cpos))
	defer p.release()
	if p.leaf == 0 || p.isLast() {
		return
	}
	h := r.start(2)
	s := p.at()
	must(r.t, h.Write(&s.buf.Block))
	n := int(s.l.NextFree())
	if n < int(s.l.Count()) && s.l.Rec(0).Clusters() > 0 && r.rng.IntN(2) == 0 {
		shift(s.l, 0, 1)
		clear(s.l.Rec(0))
	} else if n > 1 && s.l.Rec(0).Clusters() > 0 {
		must(r.t, h.Write(&r.root.Block))
		run := leafRec(s.l, 0)
		shift(s.l, 1, 0)
		r.kind.setClusters(r.root.Data, tree.Clusters()-run.Clusters)
		for i := range run.Clusters {
			delete(r.m.cells, run.Cpos+i)
		}
	}
	must(r.t, h.Stop())
}

// TestForeign works on trees that are only as tidy as the format asks for.
func TestForeign(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			s := shape{"inode", inodeKind{}, 1024, 3, 5, 400, 3000}
			r := newRunner(t, s, seed, false)
			r.loose = true
			tree := r.tree(s.ebCap)
			weak := 0
			for i := range s.steps {
				r.weaken(r.rng.Uint32N(s.space))
				if Check(&tree) == nil && tree.check(true) != nil {
					weak++
				}
				what := r.step()
				if err := r.verify(); err != nil {
					t.Fatalf("step %d, %s: %v", i, what, err)
				}
				if err := r.m.probe(&tree, r.rng.Uint32N(s.space+5)); err != nil {
					t.Fatalf("step %d, %s: %v", i, what, err)
				}
			}
			r.empty(&tree)
			if weak < 100 {
				t.Errorf("only %d untidy trees", weak)
			}
		})
	}
}

// TestRefused: roots that are no trees and runs that no record can hold.
func TestRefused(t *testing.T) {
	r := newRig(t, 1024, inodeKind{}, 0, false)
	tree := r.tree(0)
	h := r.start(10)
	defer h.Stop()
	for _, run := range []Run{
		{0, 0, 0, dataBlkno}, {0, 65536, 0, dataBlkno}, {1<<32 - 1, 2, 0, dataBlkno},
		{0, 1, 0, 0}, {0, 1, 0, dataBlkno + 1}, {0, 2, 0, volBlocks - 4}, {0, 1, 0, volBlocks},
	} {
		if err := tree.Insert(h, &r.pool, run); !errors.Is(err, ErrRange) {
			t.Errorf("insert %v: %v", run, err)
		}
	}
	if _, err := tree.Remove(h, nil, &r.pool, 5, 1<<32-2, make([]Run, 0, 1)); !errors.Is(err, ErrRange) {
		t.Errorf("remove past the end: %v", err)
	}
	if _, err := tree.Remove(h, nil, &r.pool, 5, 1, nil); !errors.Is(err, ErrRange) {
		t.Errorf("remove without room for runs: %v", err)
	}
	d := ondisk.Dinode(r.root.Data)
	d.SetDynFeatures(ondisk.DynInlineData)
	if _, err := tree.Lookup(0); !errors.Is(err, ErrNotTree) {
		t.Errorf("lookup in inline data: %v", err)
	}
	d.SetDynFeatures(0)
	d.Extents().SetDepth(5)
	if _, err := tree.Lookup(0); !errors.Is(err, ondisk.ErrCorrupt) {
		t.Errorf("lookup in a root of depth 5: %v", err)
	}
}

// TestLeafMetTwice: a damaged tree whose interior records lead to one leaf again
// and again was walked to the end, which may be after billions of records.
func TestLeafMetTwice(t *testing.T) {
	r := newRig(t, 1024, inodeKind{}, 3, false)
	tree := r.tree(4)
	h := r.start(100)
	defer h.Stop()
	for n := range uint32(12) {
		must(t, tree.Insert(h, &r.pool, Run{2 * n, 1, 0, dataBlkno + uint64(8*n)}))
	}
	var p path
	must(t, tree.descend(&p, 0))
	node := p.n[p.leaf-1].l
	p.release()
	if node.NextFree() < 2 {
		t.Fatal("the tree has one leaf only")
	}
	node.Rec(1).SetBlkno(node.Rec(0).Blkno())
	seen := 0
	err := tree.Walk(0, func(Run) bool { seen++; return true })
	if !errors.Is(err, ondisk.ErrCorrupt) || seen > 12 {
		t.Errorf("walk: %v after %d records", err, seen)
	}
}

// TestOverlap: lengths were computed from records that overlap in a damaged leaf,
// and wrapped.
func TestOverlap(t *testing.T) {
	r := newRig(t, 1024, inodeKind{}, 0, false)
	tree := r.tree(0)
	h := r.start(50)
	defer h.Stop()
	for n := range uint32(3) {
		must(t, tree.Insert(h, &r.pool, Run{10 * n, 5, 0, dataBlkno + uint64(80*n)}))
	}
	l := tree.kind.list(r.root.Data)
	l.Rec(0).SetClusters(40) // over the two others
	before := append([]byte(nil), r.root.Data...)
	if _, err := tree.SetFlags(h, &r.pool, 0, 60, ondisk.ExtentUnwritten, 0); !errors.Is(err, ondisk.ErrCorrupt) {
		t.Errorf("change of overlapping records: %v", err)
	}
	if _, err := tree.Remove(h, &r.pool, anySink{}, 8, 0, make([]Run, 0, 5)); !errors.Is(err, ondisk.ErrCorrupt) {
		t.Errorf("removal of overlapping records: %v", err)
	}
	if !bytes.Equal(before, r.root.Data) {
		t.Error("the root was changed")
	}
}

// FuzzTree reads and changes trees whose blocks were damaged: errors, no panic.
func FuzzTree(f *testing.F) {
	f.Add(uint64(1), uint32(0x30), byte(0xff), uint32(7))
	f.Add(uint64(2), uint32(4096+0x32), byte(1), uint32(9))
	f.Add(uint64(3), uint32(0xc4), byte(0x40), uint32(100))
	f.Fuzz(func(t *testing.T, seed uint64, at uint32, val byte, cpos uint32) {
		s := shape{"inode", inodeKind{}, 1024, 3, 4, 200, 0}
		r := newRunner(t, s, seed, false)
		for range 60 {
			r.step()
		}
		blocks := []uint64{rootBlkno}
		for b := range r.pool.used {
			blocks = append(blocks, b)
		}
		blk := min(uint64(at>>10)%uint64(len(blocks)), uint64(len(blocks)-1))
		b, err := r.rig.m.Read(blocks[blk], nil)
		must(t, err)
		defer b.Put()
		h := r.start(1)
		must(t, h.Write(&b.Block))
		b.Data[at%1024] ^= val
		must(t, h.Stop())
		if ondisk.CheckDinode(r.root.Data, rootBlkno, r.geo) != nil {
			return // would not have been read
		}
		if blk > 0 && ondisk.CheckExtentBlock(b.Data, blocks[blk], r.geo) != nil {
			return
		}
		tree := r.tree(0)
		r.poke(&tree, cpos%300)
	})
}

// poke calls everything once and ignores errors.
func (r *runner) poke(tree *Tree, cpos uint32) {
	_ = Check(tree)
	_, _ = tree.Lookup(cpos)
	_, _ = tree.LookupHash(cpos)
	_, _, _ = tree.Last()
	_ = tree.Walk(cpos, func(Run) bool { return true })
	for _, op := range []Op{OpInsert, OpRemove, OpReplace} {
		_, _, _ = tree.Needs(op, cpos)
	}
	tx := r.start(200)
	defer tx.Stop()
	free := anySink{}
	_ = tree.Insert(tx, &r.pool, Run{cpos, 3, 0, dataBlkno})
	_, _ = tree.SetFlags(tx, &r.pool, cpos+4, 9, 1, 0)
	_, _ = tree.Remove(tx, &r.pool, free, cpos, 7, make([]Run, 0, 3))
	_, _ = tree.Replace(tx, &r.pool, cpos+40, 3, dataBlkno, 0, nil)
	_, _ = tree.Remove(tx, &r.pool, free, 0, 0, make([]Run, 0, 30))
}

type anySink struct{}

func (anySink) FreeMeta(MetaBlock) {}
