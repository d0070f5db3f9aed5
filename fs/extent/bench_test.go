package extent

import "testing"

// deep makes a tree of n records of two clusters each, not mergeable.
func deep(b testing.TB, n uint32) *rig {
	r := newRig(b, 4096, inodeKind{}, 0, false)
	tree := r.tree(0)
	for i := range n {
		h := r.start(20)
		must(b, tree.Insert(h, &r.pool, Run{i * 2, 1, 0, dataBlkno + uint64(i)*2}))
		must(b, h.Stop())
	}
	return r
}

func BenchmarkLookup(b *testing.B) {
	r := deep(b, 100000)
	tree := r.tree(0)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if _, err := tree.Lookup(uint32(i*7919) % 200000); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	r := newRig(b, 4096, inodeKind{}, 0, false)
	tree := r.tree(0)
	b.ReportAllocs()
	for i := range b.N {
		h := r.start(20)
		if err := tree.Insert(h, &r.pool, Run{uint32(i), 1, 0, dataBlkno + uint64(i%60000)}); err != nil {
			b.Fatal(err)
		}
		must(b, h.Stop())
	}
}

// TestLookupAllocs: a lookup allocates nothing.
func TestLookupAllocs(t *testing.T) {
	r := deep(t, 5000)
	tree := r.tree(0)
	if n := testing.AllocsPerRun(100, func() {
		_, _ = tree.Lookup(77)
		_, _ = tree.LookupHash(1777)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
