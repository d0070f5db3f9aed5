package extent

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/journal"
)

// crashRun does n single-transaction operations, then looks at the device as
// power cuts leave it.
func crashRun(t *testing.T, r *runner, n int) {
	type ack struct{ ops, state int } // device operations so far, states surely durable
	tree := r.tree(r.s.ebCap)
	states := [][]Run{nil}
	acks := []ack{{0, 0}}
	note := func(*journal.Handle) { states = append(states, walkAll(t, &tree)) }
	for range n {
		r.stepNoting(note)
		switch r.rng.IntN(12) {
		case 0:
			must(t, r.j.FullFlush(t.Context()))
		case 1, 2:
			must(t, r.j.CommitRunning(t.Context()))
		default:
			continue
		}
		acks = append(acks, ack{r.dev.Log().Len(), len(states) - 1})
	}
	must(t, r.j.FullFlush(t.Context()))
	total := r.dev.Log().Len()
	rng := rand.New(rand.NewPCG(r.rng.Uint64(), 2))
	for i := range 150 {
		cut := rng.IntN(total + 1)
		mode := []blockdev.CrashMode{blockdev.KeepAll, blockdev.DropAll, blockdev.TearLast, blockdev.Random}[i%4]
		dev, err := r.dev.CloneAt(cut, blockdev.Crash{Mode: mode, Seed: rng.Uint64()})
		must(t, err)
		got := recovered(t, r, dev)
		durable := 0
		for _, a := range acks {
			if a.ops <= cut {
				durable = a.state
			}
		}
		if !slices.ContainsFunc(states[durable:], func(s []Run) bool { return slices.Equal(s, got) }) {
			t.Fatalf("cut at %d of %d, mode %d: the tree is none of the states from %d on: %v", cut, total, mode, durable, got)
		}
	}
}

// stepNoting is step with a note of the state after every transaction.
func (r *runner) stepNoting(note func(*journal.Handle)) {
	r.note = note
	r.step()
	r.note = nil
}

func walkAll(t testing.TB, tree *Tree) (runs []Run) {
	must(t, tree.Walk(0, func(r Run) bool { runs = append(runs, r); return true }))
	return runs
}

// recovered replays the log of dev and returns the tree found, after checking it.
func recovered(t *testing.T, r *runner, dev *blockdev.Mem) []Run {
	_, err := journal.Replay(t.Context(), journal.ReplayConfig{Dev: dev, BlockSize: r.geo.BlockSize, Extents: logExtents()})
	must(t, err)
	m := new(buffer.Meta)
	m.Init(buffer.NewCache(dev, r.geo, 1<<20))
	root, err := m.Read(rootBlkno, nil)
	must(t, err)
	tree := Tree{m: m, root: root, kind: r.kind, ebCap: r.s.ebCap}
	if err := tree.check(true); err != nil {
		t.Fatalf("after a power cut: %v", err)
	}
	return walkAll(t, &tree)
}
