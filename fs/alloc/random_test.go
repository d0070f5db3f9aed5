package alloc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/check"
	"github.com/ocfuse/ocfuse/journal"
)

// actor does random operations on a volume.
type actor struct {
	*volume
	rng    *rand.Rand
	inodes []MetaBlock
	metas  []MetaBlock
	full   int // operations refused for space
}

func newActor(v *volume, seed uint64) *actor {
	return &actor{volume: v, rng: rand.New(rand.NewPCG(seed, 7))}
}

// step does one operation.
func (x *actor) step() string {
	ctx := context.Background()
	switch k := x.rng.IntN(100); {
	case k < 35:
		n := 1 + x.rng.Uint32N(40)
		if x.rng.IntN(12) == 0 {
			n = 1 + x.rng.Uint32N(x.geo.TotalClusters/8)
		}
		return x.grow(n, x.rng.IntN(4) == 0)
	case k < 52:
		n := 1 + x.rng.Uint32N(60)
		if x.rng.IntN(10) == 0 {
			n = x.geo.TotalClusters / 4
		}
		cpos := x.rng.Uint32N(2 * x.geo.TotalClusters / 3)
		return fmt.Sprintf("punch %d+%d: %d", cpos, n, x.punch(cpos, n))
	case k < 75:
		return x.makeInode()
	case k < 85:
		if n := len(x.inodes); n > 0 {
			i := x.rng.IntN(n)
			x.remove(x.inodes[i])
			x.inodes[i] = x.inodes[n-1]
			x.inodes = x.inodes[:n-1]
		}
		return "remove inode"
	case k < 93:
		return x.claimMeta(1 + x.rng.IntN(5))
	case k < 95:
		x.freeMeta()
		return "free metadata"
	case k < 97:
		must(x.t, x.j.CommitRunning(ctx))
		return "commit"
	case k < 98:
		must(x.t, x.j.FullFlush(ctx))
		return "flush"
	}
	must(x.t, x.a.TruncLog().Flush(ctx))
	return "flush truncate log"
}

// grow appends to the file; being refused is right only when there is no room.
func (x *actor) grow(n uint32, contig bool) string {
	run, err := x.append(n, contig)
	if errors.Is(err, ErrNoSpace) {
		x.full++
		if free := x.freeSpace(); !contig && free >= n+uint32(x.geo.Bpc)*8+64 {
			x.t.Fatalf("%d clusters refused with %d free: %v", n, free, err)
		}
		if recs, _ := x.a.TruncLog().Len(); recs != 0 {
			x.t.Fatalf("refused with %d records in the truncate log", recs)
		}
		return "append refused"
	}
	must(x.t, err)
	if run.Clusters == 0 || run.Clusters > n || (contig && run.Clusters != n) {
		x.t.Fatalf("append %d, contiguous %v: got %v", n, contig, run)
	}
	return fmt.Sprint("append ", run)
}

func (x *actor) makeInode() string {
	hint := uint64(0)
	if len(x.inodes) > 0 && x.rng.IntN(2) == 0 {
		hint = x.inodes[x.rng.IntN(len(x.inodes))].Group()
	}
	mb, err := x.create(hint)
	if errors.Is(err, ErrNoSpace) {
		x.full++
		return "create refused"
	}
	must(x.t, err)
	x.inodes = append(x.inodes, mb)
	return fmt.Sprintf("create %+v", mb)
}

func (x *actor) claimMeta(n int) string {
	r, err := x.a.Reserve(context.Background(), Request{Meta: n})
	if errors.Is(err, ErrNoSpace) {
		x.full++
		return "metadata refused"
	}
	must(x.t, err)
	defer r.Release()
	x.tx(r.Credits(), func(tx *journal.Handle) error {
		for range n {
			mb, err := r.ClaimMeta(tx)
			if err != nil {
				return err
			}
			x.metas = append(x.metas, mb)
		}
		if _, err := r.ClaimMeta(tx); !errors.Is(err, ErrNoSpace) {
			x.t.Errorf("one claim too many: %v", err)
		}
		return nil
	})
	return "claim metadata"
}

func (x *actor) freeMeta() {
	d := x.a.Dealloc()
	for _, mb := range x.metas {
		d.FreeMeta(mb)
	}
	x.metas = x.metas[:0]
	must(x.t, d.Run(context.Background()))
}

// empty gives everything back.
func (x *actor) empty() {
	x.freeMeta()
	for _, mb := range x.inodes {
		x.remove(mb)
	}
	x.inodes = nil
	x.punch(0, 0)
}

func shapes() []shape {
	return []shape{
		{512, 4096, 3, 24, ""}, {1024, 4096, 2, 40, ""}, {2048, 16384, 2, 64, ""}, {4096, 4096, 2, 64, ""},
		{4096, 4096, 2, 64, "metaecc"}, {1024, 4096, 2, 40, "nodiscontig-bg"}, {4096, 65536, 2, 128, ""},
	}
}

// TestRandom: random operations, checked now and then; everything given back at
// the end leaves what was there, but for the groups that were made.
func TestRandom(t *testing.T) {
	for i, s := range shapes() {
		for _, la := range []int{0, -1, 50} {
			t.Run(fmt.Sprintf("%v-la%d", s, la), func(t *testing.T) {
				t.Parallel()
				v := open(t, mkfs(t, s), 0, la)
				must(t, v.a.LoadLocal(t.Context()))
				x := newActor(v, uint64(i*10+la+1))
				before := v.freeSpace()
				for i := range 1500 {
					what := x.step()
					if i%150 != 149 {
						continue
					}
					x.freeMeta()
					must(t, v.j.FullFlush(t.Context()))
					checked(t, v.dev.Clone(), check.InodeNotConnected, check.InodeCount)
					if t.Failed() {
						t.Fatalf("step %d: %s", i, what)
					}
				}
				x.empty()
				v.close()
				checked(t, v.dev)
				if la == 0 {
					fsck(t, v.dev)
				}
				w := open(t, v.dev, 0, la)
				must(t, w.a.LoadLocal(t.Context()))
				t.Logf("%d refused; %d clusters free, %d before", x.full, w.freeSpace(), before)
			})
		}
	}
}

// TestFull fills a volume to the last cluster and empties it, twice.
func TestFull(t *testing.T) {
	for _, s := range []shape{{1024, 4096, 2, 40, ""}, {4096, 4096, 2, 64, ""}} {
		for _, la := range []int{0, -1} {
			t.Run(fmt.Sprintf("%v-la%d", s, la), func(t *testing.T) {
				t.Parallel()
				v := open(t, mkfs(t, s), 0, la)
				var fulls [2]uint32
				for round := range 2 {
					total := uint32(0)
					for n := v.geo.TotalClusters / 4; n > 0; {
						run, err := v.append(n, false)
						if errors.Is(err, ErrNoSpace) {
							n /= 2
							continue
						}
						must(t, err)
						total += run.Clusters
					}
					if free := v.freeSpace(); free != 0 {
						t.Fatalf("full volume has %d clusters free", free)
					}
					if _, err := v.append(1, false); !errors.Is(err, ErrNoSpace) {
						t.Fatalf("append to a full volume: %v", err)
					}
					fulls[round] = total
					if freed := v.punch(0, 0); freed != total {
						t.Fatalf("freed %d of %d clusters", freed, total)
					}
				}
				if fulls[0] != fulls[1] {
					t.Errorf("%d clusters the first time, %d the second", fulls[0], fulls[1])
				}
				v.close()
				checked(t, v.dev)
				fsck(t, v.dev)
			})
		}
	}
}

// TestCrash cuts the power at random moments. After replay and recovery of the
// slot the volume is consistent, and nothing is lost to it.
func TestCrash(t *testing.T) {
	for i, s := range []shape{{512, 4096, 3, 24, ""}, {1024, 4096, 2, 40, ""}, {4096, 4096, 2, 64, "metaecc"}} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			dev := mkfs(t, s)
			v := open(t, dev, 0, 200)
			dev.StartRecording()
			x := newActor(v, uint64(i))
			for range 250 {
				x.step()
			}
			rng := rand.New(rand.NewPCG(uint64(i), 9))
			total := dev.Log().Len()
			for k := range 40 {
				mode := []blockdev.CrashMode{blockdev.KeepAll, blockdev.DropAll, blockdev.TearLast, blockdev.Random}[k%4]
				cut := rng.IntN(total + 1)
				img, err := dev.CloneAt(cut, blockdev.Crash{Mode: mode, Seed: rng.Uint64()})
				must(t, err)
				afterCrash(t, img, fmt.Sprintf("cut %d of %d, mode %d", cut, total, mode))
			}
		})
	}
}

// afterCrash replays and recovers slot 0 of img through slot 1, and checks it.
func afterCrash(t *testing.T, img *blockdev.Mem, what string) {
	t.Helper()
	replay(t, img, 0)
	checked(t, img, check.InodeNotConnected, check.InodeCount, check.MetaAllocLeak)
	w := open(t, img, 1, 0)
	if err := w.a.Recover(t.Context(), w.ino("local_alloc", 0), w.ino("truncate_log", 0), nil); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	w.punch(0, 0)
	w.close()
	checked(t, img, check.InodeNotConnected, check.InodeCount, check.MetaAllocLeak)
	if t.Failed() {
		t.Fatal(what)
	}
	la := open(t, img, 0, 0)
	must(t, la.a.LoadLocal(t.Context()))
}
