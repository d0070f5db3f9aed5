package extent

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ocfuse/ocfuse/journal"
)

// shape is one configuration of the random test.
type shape struct {
	name           string
	kind           kind
	bs             int
	rootCap, ebCap int // 0: full
	space          uint32
	steps          int
}

func shapes() []shape {
	var s []shape
	for _, bs := range []int{512, 1024, 2048, 4096} {
		s = append(s, shape{"inode", inodeKind{}, bs, 3, 4, 600, 3000})
	}
	return append(s,
		shape{"inode-full", inodeKind{}, 512, 0, 0, 4000, 4000},
		shape{"inode-wide", inodeKind{}, 4096, 2, 20, 3000, 2500},
		shape{"dx", dxKind{}, 1024, 2, 3, 150, 2500},
		shape{"value", valueKind(valueOff), 512, 0, 3, 200, 2500},
		shape{"value-full", valueKind(valueOff), 512, 0, 0, 3000, 2500},
		shape{"xattr", xattrKind{}, 512, 0, 0, 3000, 2500},
		shape{"refcount", refcountKind{}, 512, 2, 3, 100, 2500},
	)
}

// runner applies random operations to a tree and a model.
type runner struct {
	*rig
	s     shape
	rng   *rand.Rand
	m     model
	depth int                   // deepest tree seen
	short int                   // operations refused for credits
	deep  int                   // operations refused because the tree was too deep
	loose bool                  // foreign trees: only what the format asks for
	note  func(*journal.Handle) // called at the end of each transaction, may be nil
}

func newRunner(t testing.TB, s shape, seed uint64, record bool) *runner {
	r := &runner{rig: newRig(t, s.bs, s.kind, s.rootCap, record), s: s, rng: rand.New(rand.NewPCG(seed, 1))}
	r.m = model{cells: map[uint32]cell{}, space: s.space, one: s.kind.metaUnits(), next: dataBlkno, unit: 1}
	if !s.kind.metaUnits() {
		r.m.unit = uint64(r.geo.Bpc)
	}
	return r
}

// with runs op in a handle of exactly the credits it needs.
func (r *runner) with(op Op, cpos uint32, fn func(*journal.Handle) error) error {
	tree := r.tree(r.s.ebCap)
	meta, credits, err := tree.Needs(op, cpos)
	must(r.t, err)
	wm, wc := tree.Worst(op)
	if meta > wm || credits > wc {
		r.t.Fatalf("Needs %d, %d is more than Worst %d, %d", meta, credits, wm, wc)
	}
	if r.rng.IntN(10) == 0 { // too few credits: refused and unchanged, or done
		h := r.start(r.rng.IntN(credits))
		before := r.pool.next - uint64(len(r.pool.free))
		err := fn(h)
		if r.note != nil {
			r.note(h)
		}
		must(r.t, h.Stop())
		if !errors.Is(err, journal.ErrCredits) {
			return err
		}
		if got := r.pool.next - uint64(len(r.pool.free)); got != before {
			r.t.Fatalf("%d blocks claimed by a change that had too few credits", got-before)
		}
		r.short++
		must(r.t, r.verify())
	}
	h := r.start(credits)
	before := len(r.pool.used)
	err = fn(h)
	if got := len(r.pool.used) - before; got > meta {
		r.t.Fatalf("claimed %d blocks, Needs said %d", got, meta)
	}
	if r.note != nil {
		r.note(h)
	}
	must(r.t, h.Stop())
	return err
}

func (r *runner) verify() error {
	tree := r.tree(r.s.ebCap)
	if err := tree.check(!r.loose); err != nil {
		return err
	}
	return r.m.same(&tree)
}

// step does one random operation and returns what it was.
func (r *runner) step() string {
	cpos := r.rng.Uint32N(r.s.space)
	n := 1 + r.rng.Uint32N(12)
	if r.rng.IntN(20) == 0 {
		n = r.s.space / 3
	}
	fill := len(r.m.cells) * 100 / int(r.s.space)
	switch k := r.rng.IntN(100); {
	case k < 55 && fill < 90 || fill < 10:
		return r.insert(cpos, n)
	case k < 75:
		return r.remove(cpos, n)
	case k < 88:
		return r.setFlags(cpos, n)
	default:
		return r.replace(cpos, n)
	}
}

func (r *runner) insert(cpos, n uint32) string {
	if r.m.one {
		n = 1
	}
	free := r.m.hole(cpos, n)
	tree := r.tree(r.s.ebCap)
	if free == 0 {
		h := r.start(20)
		err := tree.Insert(h, &r.pool, Run{cpos, n, 0, dataBlkno})
		must(r.t, h.Stop())
		if !errors.Is(err, ErrMapped) {
			r.t.Fatalf("insert over a mapped cluster: %v", err)
		}
		return "insert mapped"
	}
	run := Run{cpos, free, uint8(r.rng.IntN(2)), r.m.fresh(r.rng, cpos, free)}
	err := r.with(OpInsert, cpos, func(h *journal.Handle) error { return tree.Insert(h, &r.pool, run) })
	if errors.Is(err, ErrTooDeep) {
		r.deep++
		return "insert too deep"
	}
	must(r.t, err)
	r.m.set(run)
	return fmt.Sprint("insert ", run)
}

func (r *runner) remove(cpos, n uint32) string {
	tree := r.tree(r.s.ebCap)
	what := fmt.Sprintf("remove [%d +%d)", cpos, n)
	for end := cpos + n; ; {
		var rem Removal
		buf := make([]Run, 0, 1+r.rng.IntN(8))
		err := r.with(OpRemove, end-1, func(h *journal.Handle) (err error) {
			rem, err = tree.Remove(h, &r.pool, &r.pool, cpos, end-cpos, buf)
			return err
		})
		if errors.Is(err, ErrTooDeep) {
			r.deep++
			return what + " too deep"
		}
		must(r.t, err)
		for _, run := range rem.Runs {
			for i := range run.Clusters {
				c, ok := r.m.cells[run.Cpos+i]
				if !ok || c.blk != run.Blkno+uint64(i)*r.m.unit || c.flags != run.Flags || run.Cpos+i >= end || run.Cpos < cpos {
					r.t.Fatalf("%s gave back %v, model %+v (%v)", what, run, c, ok)
				}
				delete(r.m.cells, run.Cpos+i)
			}
			end = run.Cpos
		}
		if rem.Done {
			break
		}
		end = rem.End
		if r.rng.IntN(8) == 0 {
			return what + " in part"
		}
	}
	if k := r.m.hole(cpos, n); k < min(n, r.m.space-cpos) {
		r.t.Fatalf("%s left cluster %d", what, cpos+k)
	}
	return what
}

func (r *runner) setFlags(cpos, n uint32) string {
	tree := r.tree(r.s.ebCap)
	what := fmt.Sprintf("flags [%d +%d)", cpos, n)
	set := uint8(r.rng.IntN(4))
	for done := uint32(0); done < n; {
		var k uint32
		err := r.with(OpReplace, cpos+done, func(h *journal.Handle) (err error) {
			k, err = tree.SetFlags(h, &r.pool, cpos+done, n-done, set, 3)
			return err
		})
		if r.stop(err, cpos+done) {
			return what
		}
		if k == 0 || k > r.m.mapped(cpos+done, n-done) {
			r.t.Fatalf("%s did %d", what, k)
		}
		for i := range k {
			c := r.m.cells[cpos+done+i]
			c.flags = set
			r.m.cells[cpos+done+i] = c
		}
		done += k
	}
	return what
}

func (r *runner) replace(cpos, n uint32) string {
	if r.m.one {
		n = 1
	}
	tree := r.tree(r.s.ebCap)
	what := fmt.Sprintf("replace [%d +%d)", cpos, n)
	blk := r.m.fresh(r.rng, cpos, n)
	var old []Run
	err := r.with(OpReplace, cpos, func(h *journal.Handle) (err error) {
		old, err = tree.Replace(h, &r.pool, cpos, n, blk, 1, nil)
		return err
	})
	if r.stop(err, cpos) {
		return what
	}
	at := cpos
	for _, run := range old {
		for i := range run.Clusters {
			if c := r.m.cells[at]; at != run.Cpos+i || c.blk != run.Blkno+uint64(i)*r.m.unit || c.flags != run.Flags {
				r.t.Fatalf("%s gave back %v, model %+v at %d", what, run, c, at)
			}
			r.m.cells[at] = cell{blk + uint64(at-cpos)*r.m.unit, 1}
			at++
		}
	}
	if at == cpos || at-cpos > n {
		r.t.Fatalf("%s did %d", what, at-cpos)
	}
	return what
}

// stop judges the error of a change at cpos; true ends the operation.
func (r *runner) stop(err error, cpos uint32) bool {
	switch {
	case errors.Is(err, ErrTooDeep):
		r.deep++
		return true
	case errors.Is(err, ErrHole):
		if r.m.mapped(cpos, 1) != 0 {
			r.t.Fatalf("cluster %d is mapped: %v", cpos, err)
		}
		return true
	}
	must(r.t, err)
	return false
}

// TestModel runs random operations on every kind of tree and compares it with a
// map after each.
func TestModel(t *testing.T) {
	for _, s := range shapes() {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%s-%d/%d", s.name, s.bs, seed), func(t *testing.T) {
				t.Parallel()
				r := newRunner(t, s, seed, false)
				tree := r.tree(s.ebCap)
				for i := range s.steps {
					what := r.step()
					if err := r.verify(); err != nil {
						t.Fatalf("step %d, %s: %v", i, what, err)
					}
					if err := r.m.probe(&tree, r.rng.Uint32N(s.space+5)); err != nil {
						t.Fatalf("step %d, %s: %v", i, what, err)
					}
					r.depth = max(r.depth, tree.Depth())
					if i%200 == 199 {
						must(t, r.j.CommitRunning(t.Context()))
					}
				}
				r.empty(&tree)
				t.Logf("depth %d, %d blocks at most, %d short of credits, %d too deep", r.depth, r.pool.next, r.short, r.deep)
				if s.ebCap > 0 && s.ebCap < 5 && r.depth < 4 {
					t.Errorf("the tree was never deeper than %d", r.depth)
				}
				if r.short == 0 {
					t.Error("never short of credits")
				}
			})
		}
	}
}

// empty removes everything: no node may be left.
func (r *runner) empty(tree *Tree) {
	for done := false; !done; {
		must(r.t, r.with(OpRemove, 1<<32-1, func(h *journal.Handle) error {
			rem, err := tree.Remove(h, nil, &r.pool, 0, 0, make([]Run, 0, 4))
			for _, run := range rem.Runs {
				for i := range run.Clusters {
					delete(r.m.cells, run.Cpos+i)
				}
			}
			done = rem.Done
			return err
		}))
	}
	must(r.t, r.verify())
	if tree.Depth() != 0 || len(r.pool.used) != 0 {
		r.t.Fatalf("empty tree has depth %d and %d blocks", tree.Depth(), len(r.pool.used))
	}
}

// TestCrash cuts the power at every kind of moment: after the replay the tree is
// as it was between two operations, and has all that was committed.
func TestCrash(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			s := shape{"inode", inodeKind{}, 512, 3, 4, 300, 0}
			crashRun(t, newRunner(t, s, seed, true), 250)
		})
	}
}
