package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/journal/format"
)

// crashModel knows what the home blocks of a volume may hold after a power cut.
type crashModel struct {
	v        testVolume
	base     []byte      // the volume before the script
	versions [][]version // per home block, in order
	acks     []ack
	firstTid uint64
	lastTid  uint64
	external [][2]int // times of writes by another node: no cut is judged inside one
}

// version is one value of a home block: from a transaction, or written home by
// another node to which the block was handed over (tid 0).
type version struct {
	tid  uint64
	ret  int // tid 0: time when it was durable
	data []byte
}

// ack: from time on, all transactions up to tid must survive.
type ack struct {
	time int
	tid  uint64
}

// expect is home block i after the transactions up to tid, cut at time cut.
func (m *crashModel) expect(i int, tid uint64, cut int) []byte {
	data := m.base[int(m.v.home(i))*m.v.bs:][:m.v.bs]
	for _, ver := range m.versions[i] {
		if (ver.tid != 0 && ver.tid <= tid) || (ver.tid == 0 && ver.ret <= cut) {
			data = ver.data
		}
	}
	return data
}

// judge finds the prefix of transactions that img is the state of; it must include
// every acknowledged one.
func (m *crashModel) judge(img []byte, cut int) (tid uint64, err error) {
	low := m.firstTid - 1
	for _, a := range m.acks {
		if a.time <= cut && a.tid > low {
			low = a.tid
		}
	}
	bad := -1
	for tid := low; tid <= m.lastTid; tid++ {
		if bad = m.differs(img, tid, cut); bad < 0 {
			return tid, nil
		}
	}
	return 0, fmt.Errorf("state is none of the transactions %d..%d (of the last, block %d differs)", low, m.lastTid, bad)
}

func (m *crashModel) differs(img []byte, tid uint64, cut int) int {
	for i := range m.versions {
		if !bytes.Equal(img[int(m.v.home(i))*m.v.bs:][:m.v.bs], m.expect(i, tid, cut)) {
			return i
		}
	}
	return -1
}

func (m *crashModel) inExternal(cut int) bool {
	return slices.ContainsFunc(m.external, func(e [2]int) bool { return cut >= e[0] && cut < e[1] })
}

// crashScript drives a journal with random operations by seed.
type crashScript struct {
	t      testing.TB
	rng    *rand.Rand
	j      *Journal
	dev    *memDev
	m      *crashModel
	owners []*Owner // of group i: home blocks i, i+groups, ...
	blocks []*Block
	stamp  uint64
}

const (
	crashHome   = 40 // home blocks
	crashGroups = 5
	crashFiles  = 8 // file data blocks after them, for ordered data
)

// lossy drops what a planted bug omits. The zero value drops nothing.
type lossy struct {
	*memDev
	noCommitFlush bool  // the flush before a commit block
	noHomeFlush   bool  // the flush between home writes and the move of the log tail
	noFUA         bool  // durability of commit blocks and superblocks
	homeOff       int64 // where home blocks begin
}

func (l lossy) Flush() error {
	l.mu.Lock()
	last := l.ops[len(l.ops)-1]
	l.mu.Unlock()
	home := last.off >= l.homeOff
	if (home && l.noHomeFlush) || (!home && l.noCommitFlush) {
		return nil
	}
	return l.memDev.Flush()
}

func (l lossy) WriteFUA(p []byte, off int64) error {
	if l.noFUA {
		_, err := l.memDev.WriteAt(p, off)
		return err
	}
	return l.memDev.WriteFUA(p, off)
}

func newCrashScript(t testing.TB, seed uint64, v testVolume, img []byte, bug lossy) *crashScript {
	t.Helper()
	s := &crashScript{t: t, rng: rand.New(rand.NewPCG(seed, 7)), dev: newMemDev(img)}
	bug.memDev, bug.homeOff = s.dev, int64(v.home(0))*int64(v.bs)
	cfg := v.config(bug)
	cfg.HomeWriters = 1
	cfg.Now = func() time.Time { return time.Unix(1700000000, 0) }
	var err error
	if s.j, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	s.m = &crashModel{v: v, base: bytes.Clone(img), versions: make([][]version, crashHome), firstTid: s.j.running.tid}
	for range crashGroups {
		s.owners = append(s.owners, new(Owner))
	}
	for i := range crashHome {
		data := bytes.Clone(img[int(v.home(i))*v.bs:][:v.bs])
		s.blocks = append(s.blocks, &Block{Blkno: v.home(i), Data: data, Owner: s.owners[i%crashGroups]})
	}
	return s
}

// newData fills p with a value never used before; some begin with the log's magic.
func (s *crashScript) newData(p []byte) {
	s.stamp++
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(p[i:], s.rng.Uint64())
	}
	if s.rng.IntN(4) == 0 {
		binary.BigEndian.PutUint32(p, format.Magic)
	}
	binary.LittleEndian.PutUint64(p[8:], s.stamp)
}

// settle waits until the journal's goroutines have nothing to do, so that the
// order of device operations follows from the seed alone.
func (s *crashScript) settle() {
	for {
		s.j.mu.Lock()
		j := s.j
		busy := j.committing != nil || j.running.locked || (j.running.dirty && j.commitTo >= j.running.tid) || j.checkpointDue()
		s.j.mu.Unlock()
		if !busy {
			return
		}
		runtime.Gosched()
	}
}

func (s *crashScript) acked(tid uint64) { s.m.acks = append(s.m.acks, ack{s.dev.now(), tid}) }

// step does one random operation.
func (s *crashScript) step() {
	ctx := context.Background()
	switch s.rng.IntN(12) {
	default:
		s.change(1 + s.rng.IntN(s.j.MaxCredits()/2))
	case 6:
		s.change(s.j.MaxCredits())
	case 7, 8:
		tid := s.j.running.tid
		must(s.t, s.j.CommitRunning(ctx))
		s.acked(tid - 1)
		if s.j.durable.Load() >= tid {
			s.acked(tid)
		}
	case 9:
		tid := s.j.running.tid - uint64(s.rng.IntN(3))
		must(s.t, s.j.Commit(ctx, tid))
	case 10:
		must(s.t, s.j.FullFlush(ctx))
	case 11:
		s.handOver(s.rng.IntN(crashGroups))
	}
	s.settle()
}

// change changes n random blocks in one handle.
func (s *crashScript) change(n int) {
	h, err := s.j.Start(context.Background(), n)
	must(s.t, err)
	for _, i := range s.rng.Perm(crashHome)[:n] {
		b := s.blocks[i]
		must(s.t, h.Write(b))
		s.newData(b.Data)
		s.m.versions[i] = append(s.m.versions[i], version{tid: h.Tid(), data: bytes.Clone(b.Data)})
	}
	s.m.lastTid = h.Tid()
	must(s.t, h.Stop())
}

// handOver gives group g to another node, which changes a block of it at home.
func (s *crashScript) handOver(g int) {
	o := s.owners[g]
	if !s.j.Checkpointed(o) {
		must(s.t, s.j.FullFlush(context.Background()))
		if !s.j.Checkpointed(o) {
			s.t.Fatal("full flush did not checkpoint an owner")
		}
	}
	i := g + crashGroups*s.rng.IntN(crashHome/crashGroups)
	b := s.blocks[i]
	if b.Pinned() {
		s.t.Fatalf("block %d of a checkpointed owner is pinned", i)
	}
	s.newData(b.Data)
	from := s.dev.now()
	must(s.t, s.dev.WriteFUA(b.Data, int64(b.Blkno)*int64(s.m.v.bs)))
	to := s.dev.now()
	s.m.external = append(s.m.external, [2]int{from + 1, to})
	s.m.versions[i] = append(s.m.versions[i], version{ret: to, data: bytes.Clone(b.Data)})
}

// recoverAndJudge cuts the power at cut, replays, and judges the state. The replay
// itself is cut too, and repeated.
func (s *crashScript) recoverAndJudge(cut int, mode cutMode, rng *rand.Rand) (img []byte, err error) {
	v, ctx := s.m.v, context.Background()
	first := newMemDev(s.dev.crash(cut, mode, rng))
	if _, err := Replay(ctx, v.replayConfig(first)); err != nil {
		return nil, err
	}
	if _, err := s.m.judge(first.data, cut); err != nil {
		return nil, err
	}
	second := newMemDev(first.crash(rng.IntN(first.now()+1), cutTorn, rng))
	if _, err := Replay(ctx, v.replayConfig(second)); err != nil {
		return nil, fmt.Errorf("repeated replay: %w", err)
	}
	if _, err := s.m.judge(second.data, cut); err != nil {
		return nil, fmt.Errorf("after a replay that was cut: %w", err)
	}
	third := newMemDev(bytes.Clone(first.data))
	res, err := Replay(ctx, v.replayConfig(third))
	if err != nil || !res.WasEmpty || !bytes.Equal(third.data, first.data) {
		return nil, fmt.Errorf("replaying twice is not replaying once: %+v, %w", res, err)
	}
	return second.data, nil
}

// crashVolume keeps the log small, so that it wraps and fills all the time.
func crashVolume(bs int, features format.Incompat) testVolume {
	return testVolume{bs: bs, logLen: 56, blocks: 56 + 16 + crashHome + crashFiles, features: features}
}

// runCrash runs scripts life after life on one volume: each continues on what a
// power cut and replay left of the one before, stale log blocks included.
func runCrash(t testing.TB, seed uint64, v testVolume, lives, steps int, bug lossy) error {
	rng := rand.New(rand.NewPCG(seed, 99))
	img := v.format(t)
	for life := range lives {
		s := newCrashScript(t, seed*1000+uint64(life), v, img, bug)
		for range steps {
			s.step()
		}
		end := s.dev.now()
		var next []byte
		pick := rng.IntN(end + 1)
		for cut := 0; cut <= end; cut++ {
			if s.m.inExternal(cut) {
				continue
			}
			for mode := range numCutModes {
				got, err := s.recoverAndJudge(cut, mode, rng)
				if err != nil {
					s.j.Abort(err)
					return fmt.Errorf("seed %d, life %d, cut at %d of %d, mode %d: %w", seed, life, cut, end, mode, err)
				}
				if cut >= pick && next == nil && mode == cutTorn {
					next = got
				}
			}
		}
		must(t, s.j.Close(context.Background()))
		clean := newMemDev(s.dev.data)
		if res, err := Replay(context.Background(), v.replayConfig(clean)); err != nil || !res.WasEmpty {
			return fmt.Errorf("seed %d: log not empty after Close: %+v, %w", seed, res, err)
		}
		if next == nil {
			next = s.dev.data
		}
		img = next
	}
	return nil
}

func TestCrash(t *testing.T) {
	seeds := uint64(6) // OCFUSE_CRASH_SEEDS=500 is a soak of hours
	if s, err := strconv.ParseUint(os.Getenv("OCFUSE_CRASH_SEEDS"), 10, 64); err == nil {
		seeds = s
	}
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		v := crashVolume(512<<(seed%2), format.Incompat64Bit*format.Incompat(seed/2%2))
		if seed%3 == 0 {
			v.seq = 0xFFFFFFF0 // the sequence wraps in the middle
		}
		if err := runCrash(t, seed, v, 3, 30, lossy{}); err != nil {
			t.Error(err)
		}
	}
}

// TestCrashDeterministic: a seed gives the same device operations each time, so a
// failure of TestCrash can be repeated.
func TestCrashDeterministic(t *testing.T) {
	trace := func() []devOp {
		v := crashVolume(512, 0)
		s := newCrashScript(t, 4711, v, v.format(t), lossy{})
		for range 60 {
			s.step()
		}
		must(t, s.j.Close(context.Background()))
		return s.dev.ops
	}
	a, b := trace(), trace()
	if !slices.EqualFunc(a, b, func(x, y devOp) bool {
		return x.kind == y.kind && x.off == y.off && x.call == y.call && x.ret == y.ret && bytes.Equal(x.data, y.data)
	}) {
		t.Errorf("%d and %d operations, not the same", len(a), len(b))
	}
}

// TestCrashNoticesBugs: the test above fails if the journal's flushes or FUA writes
// are left out; else it would prove nothing.
func TestCrashNoticesBugs(t *testing.T) {
	for name, bug := range map[string]lossy{
		"no commit flush": {noCommitFlush: true}, "no home flush": {noHomeFlush: true}, "no FUA": {noFUA: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(5) {
				if err := runCrash(t, seed, crashVolume(512, 0), 1, 40, bug); err != nil {
					t.Logf("noticed: %v", err)
					return
				}
			}
			t.Error("nobody noticed")
		})
	}
}
