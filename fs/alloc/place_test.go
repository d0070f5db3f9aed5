package alloc

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/check"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// fill takes every cluster.
func (v *volume) fill() {
	v.t.Helper()
	for n := v.geo.TotalClusters / 4; n > 0; {
		if _, err := v.append(n, false); errors.Is(err, ErrNoSpace) {
			n /= 2
		} else {
			must(v.t, err)
		}
	}
}

// TestDiscontiguous: on a volume without long free runs new groups are made of
// pieces.
func TestDiscontiguous(t *testing.T) {
	for _, s := range []shape{{512, 4096, 2, 24, ""}, {1024, 4096, 2, 40, ""}, {4096, 4096, 2, 64, ""}, {2048, 16384, 2, 64, ""}} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			v := open(t, mkfs(t, s), 0, 100)
			x := newActor(v, 3)
			v.fill()
			step, hole := uint32(200), uint32(130)
			if s.bs == 4096 {
				step, hole = 16, 11
			}
			b := v.dinode()
			end := ondisk.Dinode(b.Data).Size() >> v.geo.ClusterBits
			b.Put()
			for c := uint32(0); uint64(c) < end; c += step {
				v.punch(c, 1+x.rng.Uint32N(hole))
			}
			must(t, v.a.TruncLog().Flush(t.Context()))
			pieces := map[uint64]int{}
			for range 9000 {
				if x.makeInode() == "create refused" {
					break
				}
				if mb := x.inodes[len(x.inodes)-1]; mb.Loc != 0 {
					pieces[mb.Loc]++
				}
			}
			if len(pieces) < 2 {
				t.Fatalf("%d discontiguous groups", len(pieces))
			}
			must(t, v.j.FullFlush(t.Context()))
			checked(t, v.dev.Clone(), check.InodeNotConnected, check.InodeCount)
			inodes := append([]MetaBlock(nil), x.inodes...)
			for _, mb := range inodes {
				v.remove(mb)
			}
			x.inodes = nil
			for _, mb := range inodes[:10] { // the bits are free again
				got, err := v.create(mb.Group())
				must(t, err)
				v.remove(got)
			}
			x.empty()
			v.close()
			checked(t, v.dev)
			fsck(t, v.dev)
			t.Logf("%d inodes, %d discontiguous groups", len(inodes), len(pieces))
		})
	}
}

// TestSteal: a full volume gives inodes and metadata from the other slots' groups.
func TestSteal(t *testing.T) {
	dev := mkfs(t, shape{1024, 4096, 3, 40, ""})
	for slot := 1; slot < 3; slot++ { // groups in the other slots
		w := newActor(open(t, dev, slot, 0), 1)
		w.claimMeta(1)
		if slot == 2 {
			w.makeInode()
		}
		w.empty()
		w.close()
	}
	v := open(t, dev, 0, 0)
	x := newActor(v, 1)
	x.claimMeta(1)
	v.fill()
	slots := map[uint16]int{}
	for x.makeInode() != "create refused" {
		slots[x.inodes[len(x.inodes)-1].Slot]++
	}
	for x.claimMeta(3) != "metadata refused" {
		slots[1000+x.metas[len(x.metas)-1].Slot]++
	}
	if slots[2] < 1000 || slots[0] == 0 || slots[1000] == 0 || slots[1001] == 0 || slots[1002] == 0 {
		t.Errorf("bits came from slots %v", slots)
	}
	x.empty()
	mb, err := v.create(0)
	if err != nil || mb.Slot != 0 {
		t.Errorf("after freeing: %+v, %v", mb, err)
	}
	v.remove(mb)
	v.close()
	checked(t, dev)
	fsck(t, dev)
}

// TestRecoverCrash cuts the power in the middle of recovering a dead slot; the
// next recovery completes it.
func TestRecoverCrash(t *testing.T) {
	s := shape{1024, 4096, 2, 40, ""}
	dev := mkfs(t, s)
	v := open(t, dev, 0, 300)
	x := newActor(v, 5)
	for range 40 {
		x.grow(1+x.rng.Uint32N(20), false)
	}
	for c := uint32(0); c < 300; c += 6 {
		v.punch(c, 3)
	}
	must(t, v.j.CommitRunning(t.Context()))
	if n, _ := v.a.TruncLog().Len(); n < 40 {
		t.Fatalf("%d records in the truncate log", n)
	}
	dead := dev.Clone() // the log is not empty: a crash
	replay(t, dead, 0)
	want := open(t, dead.Clone(), 1, 0)
	must(t, want.a.Recover(t.Context(), want.ino("local_alloc", 0), want.ino("truncate_log", 0), nil))
	free := want.freeSpace()
	w := open(t, dead, 1, 0)
	dead.StartRecording()
	must(t, w.a.Recover(t.Context(), w.ino("local_alloc", 0), w.ino("truncate_log", 0), nil))
	total := dead.Log().Len()
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range total + 1 {
		img, err := dead.CloneAt(i, blockdev.Crash{Mode: blockdev.CrashMode(i % 4), Seed: rng.Uint64()})
		must(t, err)
		replay(t, img, 1)
		checked(t, img)
		again := open(t, img, 1, 0)
		must(t, again.a.Recover(t.Context(), again.ino("local_alloc", 0), again.ino("truncate_log", 0), nil))
		if got := again.freeSpace(); got != free {
			t.Fatalf("cut at %d of %d: %d clusters free, %d without a cut", i, total, got, free)
		}
		again.close()
		checked(t, img)
	}
}

// TestLoadLocal: an own window that nobody recovered is refused.
func TestLoadLocal(t *testing.T) {
	dev := mkfs(t, shape{1024, 4096, 2, 40, ""})
	v := open(t, dev, 0, 0)
	must(t, v.a.LoadLocal(t.Context()))
	_, err := v.append(3, false)
	must(t, err)
	must(t, v.j.Close(t.Context())) // no Shut
	w := open(t, dev, 0, 0)
	if err := w.a.LoadLocal(t.Context()); !errors.Is(err, ErrNeedsFsck) {
		t.Fatalf("window of a clean slot: %v", err)
	}
	must(t, w.a.Recover(t.Context(), w.ino("local_alloc", 0), w.ino("truncate_log", 0), nil))
	must(t, w.a.LoadLocal(t.Context()))
}

// TestWindow: the window is found with few cluster locks, and comes back after it
// was throttled.
func TestWindow(t *testing.T) {
	v := open(t, mkfs(t, shape{4096, 4096, 2, 64, ""}), 0, 0)
	now := time.Unix(1e9, 0)
	v.a.local.now = func() time.Time { return now }
	gb := v.ino("global_bitmap", 0)
	for range 1000 {
		_, err := v.append(1, false)
		must(t, err)
	}
	if gb.locks > 3 {
		t.Errorf("1000 appends took the bitmap's lock %d times", gb.locks)
	}
	v.fill()
	if v.a.local.size != 0 {
		t.Errorf("window of %d clusters wished for on a full volume", v.a.local.size)
	}
	v.punch(0, 0)
	must(t, v.a.TruncLog().Flush(t.Context()))
	locks := gb.locks
	for range 100 {
		_, err := v.append(1, false)
		must(t, err)
	}
	if gb.locks-locks < 100 {
		t.Errorf("the window was used while off: %d locks", gb.locks-locks)
	}
	now = now.Add(localOff)
	must(t, v.j.CommitRunning(t.Context()))
	locks = gb.locks
	for range 100 {
		_, err := v.append(1, false)
		must(t, err)
	}
	if gb.locks-locks > 2 {
		t.Errorf("the window did not come back: %d locks", gb.locks-locks)
	}
}

// TestPending: a freed cluster is not handed out before the commit, and a full
// volume waits for the commit instead of refusing.
func TestPending(t *testing.T) {
	v := open(t, mkfs(t, shape{1024, 4096, 2, 40, ""}), 0, -1)
	v.fill()
	v.punch(10, 5)
	must(t, v.a.TruncLog().Flush(t.Context()))
	if n := v.a.bitmap.pend.count(); n != 5 {
		t.Fatalf("%d bits pending", n)
	}
	commits := v.j.Stats().Commits
	_, err := v.append(5, false)
	must(t, err)
	if n := v.a.bitmap.pend.count(); n != 0 || v.j.Stats().Commits == commits {
		t.Errorf("%d bits pending after %d commits", n, v.j.Stats().Commits-commits)
	}
}

// TestDoubleFree: freeing what is free is corruption and stops the journal.
func TestDoubleFree(t *testing.T) {
	v := open(t, mkfs(t, shape{1024, 4096, 2, 40, ""}), 0, 0)
	mb, err := v.create(0)
	must(t, err)
	v.remove(mb)
	f, err := v.a.LockInodeFree(t.Context(), mb.Slot)
	must(t, err)
	tx, err := v.j.Start(t.Context(), 2)
	must(t, err)
	if err := f.Free(tx, mb); !errors.Is(err, ondisk.ErrCorrupt) {
		t.Errorf("freeing a free inode: %v", err)
	}
	must(t, tx.Stop())
	f.Release()
	d := v.a.Dealloc()
	d.FreeMeta(MetaBlock{Blkno: v.geo.TotalBlocks - 1, Slot: 0, Bit: 3})
	if err := d.Run(t.Context()); !errors.Is(err, ondisk.ErrCorrupt) {
		t.Errorf("freeing a block of no group: %v", err)
	}
	if _, err := v.a.Reserve(t.Context(), Request{Inodes: 1, Clusters: 1 << 30}); err == nil {
		t.Error("reserved after the journal gave up")
	}
}

// TestChainLoop: a chain whose only group is followed by itself, and that claims
// any number of bits, was searched as many times as those would take.
func TestChainLoop(t *testing.T) {
	dev := mkfs(t, shape{1024, 4096, 2, 40, ""})
	v := open(t, dev, 0, -1)
	edit := func(blkno uint64, fn func(b []byte)) {
		b := make([]byte, 1024)
		_, err := dev.ReadAt(b, int64(blkno)*1024)
		must(t, err)
		fn(b)
		_, err = dev.WriteAt(b, int64(blkno)*1024)
		must(t, err)
	}
	edit(v.ino("global_bitmap", 0).blkno, func(b []byte) {
		d := ondisk.Dinode(b)
		d.SetTotal(1<<32 - 1)
		d.Chains().Rec(0).SetTotal(1<<32 - 1)
		d.Chains().Rec(0).SetFree(1<<32 - 1)
	})
	first, seen := v.geo.GroupBlkno(0), 0
	edit(first, func(b []byte) {
		d := ondisk.GroupDesc(b)
		d.SetNextGroup(first)
		d.SetBits(1)
		d.SetFreeBitsCount(0)
	})
	v = open(t, dev, 0, -1)
	di, err := v.a.bitmap.lock(t.Context())
	must(t, err)
	defer v.a.bitmap.unlock(di)
	err = v.a.bitmap.walk(di, 0, func(uint64) (bool, error) { seen++; return seen < 1e6, nil })
	if !errors.Is(err, ondisk.ErrCorrupt) || seen > v.geo.GroupCount()+1 {
		t.Errorf("%v after %d groups, the volume has %d", err, seen, v.geo.GroupCount())
	}
}

// TestParallel: many goroutines allocate and free at once.
func TestParallel(t *testing.T) {
	v := open(t, mkfs(t, shape{4096, 4096, 2, 64, ""}), 0, 400)
	var owner sync.Mutex
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			w := *v // its own generation counter
			x := newActor(&w, uint64(g))
			for range 300 {
				switch x.rng.IntN(6) {
				case 0:
					owner.Lock()
					x.grow(1+x.rng.Uint32N(30), false)
					owner.Unlock()
				case 1:
					owner.Lock()
					x.punch(x.rng.Uint32N(4000), 30)
					owner.Unlock()
				case 2:
					x.claimMeta(2)
				case 3:
					x.freeMeta()
				case 4:
					if n := len(x.inodes); n > 0 {
						x.remove(x.inodes[n-1])
						x.inodes = x.inodes[:n-1]
					}
				default:
					x.makeInode()
				}
				if x.rng.IntN(40) == 0 {
					_ = v.j.CommitRunning(context.Background())
				}
				_ = v.a.Cached()
			}
			x.freeMeta()
			for _, mb := range x.inodes {
				x.remove(mb)
			}
		})
	}
	wg.Wait()
	v.punch(0, 0)
	v.close()
	checked(t, v.dev)
	fsck(t, v.dev)
}

// FuzzDamage: allocators with damaged blocks give errors and never panic.
func FuzzDamage(f *testing.F) {
	s := shape{1024, 4096, 2, 40, ""}
	for i := range uint16(40) {
		f.Add(uint8(i), 0xb8+i*2, byte(1)<<(i%8))
		f.Add(uint8(i), i*3, byte(0xff))
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint16, val byte) {
		dev := mkfs(t, s)
		v := open(t, dev, 0, 100)
		x := newActor(v, 1)
		for range 10 {
			x.grow(5, false)
			x.makeInode()
			v.punch(7, 3)
		}
		must(t, v.j.FullFlush(t.Context()))
		sub := func(k kind) uint64 { s, err := v.a.suballoc(k, 0); must(t, err); return s.last }
		blocks := []uint64{v.ino("global_bitmap", 0).blkno, v.ino("inode_alloc", 0).blkno, v.ino("extent_alloc", 0).blkno,
			v.ino("local_alloc", 0).blkno, v.ino("truncate_log", 0).blkno, v.geo.GroupBlkno(0), v.geo.GroupBlkno(1), sub(inodes)}
		var block [1024]byte
		off := int64(blocks[int(which)%len(blocks)]) * 1024
		_, err := dev.ReadAt(block[:], off)
		must(t, err)
		block[at%1024] ^= val
		_, err = dev.WriteAt(block[:], off)
		must(t, err)
		abuse(t, open(t, dev, 0, 100), x.inodes)
		abuse(t, open(t, dev, 1, -1), x.inodes)
	})
}

// abuse calls everything and ignores the errors.
func abuse(t *testing.T, v *volume, inodes []MetaBlock) {
	ctx := t.Context()
	_, _ = v.a.Statfs(ctx)
	_ = v.a.LoadLocal(ctx)
	for i := range 3 {
		r, err := v.a.Reserve(ctx, Request{Inodes: i, Meta: 2, Clusters: uint32(1 + i*90), Contig: i == 1, Runs: 1})
		if err != nil {
			continue
		}
		if tx, err := v.j.Start(ctx, r.Credits()); err == nil {
			_, _ = r.ClaimInode(tx)
			_, _ = r.ClaimMeta(tx)
			_, _, _ = r.ClaimClusters(tx, uint32(1+i*90), uint64(i)*4000)
			_ = tx.Stop()
		}
		r.Release()
	}
	if h, err := v.a.TruncLog().Prepare(ctx, 3); err == nil {
		if tx, err := v.j.Start(ctx, h.Credits()); err == nil {
			_ = h.Append(tx, 4000, 10)
			_ = tx.Stop()
		}
		h.Release()
	}
	for _, mb := range inodes {
		if f, err := v.a.LockInodeFree(ctx, mb.Slot); err == nil {
			if tx, err := v.j.Start(ctx, 2); err == nil {
				_ = f.Free(tx, mb)
				_ = tx.Stop()
			}
			f.Release()
		}
	}
	d := v.a.Dealloc()
	d.FreeMeta(MetaBlock{Blkno: 2, Slot: 0, Bit: 60000})
	_ = d.Run(ctx)
	_ = v.a.Recover(ctx, v.ino("local_alloc", 1-v.slot), v.ino("truncate_log", 1-v.slot), nil)
	_ = v.a.Shut(ctx)
}

func TestDefaultWindow(t *testing.T) {
	for _, c := range []struct {
		bs, cs   int
		clusters uint32
		slots    int
		want     uint32
	}{
		{4096, 4096, 1 << 24, 4, 27136}, // 106 MiB: seen in a Linux 6.1 mount
		{1024, 4096, 1 << 24, 4, 2048},
		{512, 4096, 1 << 24, 4, 2048},
		{4096, 4096, 4000, 4, 1000},
		{4096, 1 << 20, 1 << 20, 4, 256},
	} {
		g := &ondisk.Geometry{BlockSize: c.bs, ClusterSize: c.cs, TotalClusters: c.clusters, MaxSlots: c.slots, CPG: uint32(c.bs-0x40) * 8}
		for g.ClusterBits = 12; 1<<g.ClusterBits != c.cs; g.ClusterBits++ {
		}
		if got := defaultWindow(g); got != c.want {
			t.Errorf("block %d, cluster %d, %d clusters: window %d, want %d", c.bs, c.cs, c.clusters, got, c.want)
		}
	}
}

// benchReserve measures one claim of the kind asked for, with its transaction.
func benchReserve(b *testing.B, rq Request, claim func(*Reservation, *journal.Handle) error) {
	v := open(b, mkfs(b, shape{4096, 4096, 2, 512, ""}), 0, 0)
	ctx := context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		r, err := v.a.Reserve(ctx, rq)
		if errors.Is(err, ErrNoSpace) {
			b.StopTimer()
			v = open(b, mkfs(b, shape{4096, 4096, 2, 512, ""}), 0, 0)
			b.StartTimer()
			continue
		}
		must(b, err)
		tx, err := v.j.Start(ctx, r.Credits())
		must(b, err)
		must(b, claim(r, tx))
		must(b, tx.Stop())
		r.Release()
	}
}

func BenchmarkInode(b *testing.B) {
	benchReserve(b, Request{Inodes: 1}, func(r *Reservation, tx *journal.Handle) error {
		_, err := r.ClaimInode(tx)
		return err
	})
}

func BenchmarkMeta(b *testing.B) {
	benchReserve(b, Request{Meta: 1}, func(r *Reservation, tx *journal.Handle) error {
		_, err := r.ClaimMeta(tx)
		return err
	})
}

func BenchmarkCluster(b *testing.B) {
	benchReserve(b, Request{Clusters: 1}, func(r *Reservation, tx *journal.Handle) error {
		_, _, err := r.ClaimClusters(tx, 1, 0)
		return err
	})
}
