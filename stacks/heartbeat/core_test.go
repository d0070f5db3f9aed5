package heartbeat

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// region is a heartbeat region in memory for core tests.
type region struct{ p []byte }

func newRegion(slots int) *region { return &region{make([]byte, slots*512)} }
func (r *region) put(n int, b Block) {
	b.Node = uint8(n)
	b.Encode(r.p[n*512 : (n+1)*512])
}

func newTestCore(t *testing.T, self, threshold int) *Core {
	t.Helper()
	c, err := NewCore(CoreConfig{Self: self, Nodes: []int{1, 2, 3}, Blocks: 5, BlockSize: 512, Threshold: threshold, DeadMS: uint32(threshold) * 2000, Generation: 0xabc})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sample runs one period and describes the events.
func sample(c *Core, r *region, now uint64) (string, error) {
	own := c.CheckOwn(r.p)
	c.Build(now, r.p[c.self*512:(c.self+1)*512])
	var out []string
	for _, e := range c.Evaluate(r.p) {
		s := fmt.Sprintf("%v %d", e.Kind, e.Node)
		if e.Kind == Down {
			s += " " + e.Cause.String()
		}
		out = append(out, s)
	}
	c.Done(own == nil)
	return strings.Join(out, ", "), own
}

// TestCoreStory follows the evaluation rules of Linux o2hb_check_slot.
func TestCoreStory(t *testing.T) {
	c, r := newTestCore(t, 1, 5), newRegion(5)
	r.put(2, Block{Seq: 100, Generation: 7, DeadMS: 10000})
	c.Begin(r.p)
	seq := uint64(100)
	step := func(name, want string, change func()) {
		t.Helper()
		if change != nil {
			change()
		}
		got, err := sample(c, r, 1000)
		if got != want || err != nil {
			t.Fatalf("%s: got %q, %v; want %q", name, got, err, want)
		}
	}
	move := func() { seq += 2; r.put(2, Block{Seq: seq, Generation: 7, DeadMS: 10000}) }
	step("first own change", "", nil)
	step("own slot is live after two", "up 1", nil)
	step("one change of node 2", "", move)
	step("nothing", "", nil)
	step("changes accumulate while dead", "up 2", move)
	for range 5 { // the first only clears what counted towards Up
		step("equal samples", "", nil)
	}
	step("threshold", "down 2 no heartbeat", nil)
	step("returns, first change", "", move)
	step("returns, second change", "up 2", move)
	step("restart is seen at once", "down 2 restarted", func() { r.put(2, Block{Seq: 500, Generation: 8, DeadMS: 10000}) })
	step("and up one sample later", "up 2", func() { r.put(2, Block{Seq: 502, Generation: 8, DeadMS: 10000}) })
	step("clean leave", "down 2 left", func() { r.put(2, Block{Seq: 503, DeadMS: 10000}) })
	step("a node with another threshold", "", func() { r.put(3, Block{Seq: 1, Generation: 9, DeadMS: 62000}) })
	step("is named", "up 3, mismatch 3", func() { r.put(3, Block{Seq: 2, Generation: 9, DeadMS: 62000}) })
	if steady, failed := c.Steady(); steady != true || failed {
		t.Errorf("steady %v, failed %v", steady, failed)
	}
}

func TestCoreTornBlockIsNoChange(t *testing.T) {
	c, r := newTestCore(t, 1, 3), newRegion(5)
	c.Begin(r.p)
	for i := range uint64(2) {
		r.put(2, Block{Seq: 10 + i, Generation: 7, DeadMS: 6000})
		if got, _ := sample(c, r, 1); i == 1 && !strings.Contains(got, "up 2") {
			t.Fatalf("not up: %q", got)
		}
	}
	for i := range 4 {
		r.put(2, Block{Seq: uint64(50 + i), Generation: 7, DeadMS: 6000})
		r.p[2*512+300] = 1 // checksum fails: does not count as a sign of life
		got, _ := sample(c, r, 1)
		if want := i == 3; strings.Contains(got, "down 2") != want {
			t.Fatalf("sample %d: %q", i, got)
		}
	}
}

func TestCoreSilent(t *testing.T) {
	c, r := newTestCore(t, 1, 4), newRegion(5)
	r.put(2, Block{Seq: 10, Generation: 7, DeadMS: 8000})
	r.put(3, Block{Seq: 10, Generation: 0, DeadMS: 8000}) // left: nothing to wait for
	c.Begin(r.p)
	for i := range 6 {
		got, _ := sample(c, r, 1)
		// The first sample may come at once after Begin, so five samples make
		// four periods.
		if want := i == 4; strings.Contains(got, "silent 2") != want || strings.Contains(got, "silent 3") {
			t.Errorf("sample %d: %q", i, got)
		}
	}
}

func TestCoreEnded(t *testing.T) {
	c, r := newTestCore(t, 1, 4), newRegion(5)
	r.put(2, Block{Seq: 10, Generation: 7, DeadMS: 8000})
	r.put(3, Block{Seq: 10, Generation: 8, DeadMS: 8000})
	c.Begin(r.p)
	r.put(2, Block{Seq: 11, Generation: 0, DeadMS: 8000})
	r.put(3, Block{Seq: 11, Generation: 9, DeadMS: 8000})
	if got, _ := sample(c, r, 1); got != "ended 2, ended 3" {
		t.Errorf("%q", got)
	}
	for range 9 {
		if got, _ := sample(c, r, 1); strings.Contains(got, "ended") || strings.Contains(got, "silent 2") {
			t.Errorf("again: %q", got)
		}
	}
}

func TestCoreAdmit(t *testing.T) {
	c, r := newTestCore(t, 1, 4), newRegion(5)
	c.Begin(r.p)
	r.put(2, Block{Seq: 10, Generation: 7, DeadMS: 8000})
	if err := c.Admit(2, 7); err != nil {
		t.Fatal(err)
	}
	var downAt int
	for i := 1; i < 9 && downAt == 0; i++ {
		if got, _ := sample(c, r, 1); strings.Contains(got, "down 2") {
			downAt = i
		}
	}
	// Sample 1 sees the sequence for the first time, then four equal ones.
	if downAt != 5 {
		t.Errorf("down at sample %d, want 5", downAt)
	}
	if err := c.Admit(200, 1); err == nil {
		t.Error("a node without a slot was admitted")
	}
}

func TestCoreOwnSlot(t *testing.T) {
	c, r := newTestCore(t, 1, 4), newRegion(5)
	c.Begin(r.p)
	for name, b := range map[string]Block{"overwritten by node 3": {Seq: 5, Node: 3, Generation: 0xabc}, "with generation 5": {Seq: 5, Node: 1, Generation: 5}, "sequence 1 instead": {Seq: 1, Node: 1, Generation: 0xabc, DeadMS: 8000}} {
		if _, err := sample(c, r, 100); err != nil {
			t.Fatal(err)
		}
		b.Encode(r.p[512:1024])
		if _, err := sample(c, r, 100); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// With an intruder that stays the region never becomes steady, and says so.
	c, r = newTestCore(t, 1, 4), newRegion(5)
	c.Begin(r.p)
	for i := range 12 {
		_, _ = sample(c, r, 100)
		Block{Seq: uint64(i), Node: 3, Generation: 5}.Encode(r.p[512:1024])
	}
	if steady, failed := c.Steady(); steady || !failed {
		t.Errorf("with an intruder in the slot: steady %v, failed %v", steady, failed)
	}
}

// TestCoreNeverEarly: whatever the timing, no node is called down before the dead
// threshold has passed since its last write, and always by one period later.
func TestCoreNeverEarly(t *testing.T) {
	const period, threshold = 100, 6
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		c, r := newTestCore(t, 1, threshold), newRegion(5)
		c.Begin(r.p)
		write, look, stop := rng.IntN(period), rng.IntN(period), 1000+rng.IntN(3000)
		last, seq, down := 0, uint64(1), 0
		for now := 0; now < 10000 && down == 0; now++ {
			if now == write && now < stop {
				seq++
				r.put(2, Block{Seq: seq, Generation: 7, DeadMS: 600})
				last, write = now, now+period+rng.IntN(period/2)
			}
			if now == look {
				if got, _ := sample(c, r, 1); strings.Contains(got, "down 2") {
					down = now
				}
				look = now + period + rng.IntN(5)
			}
		}
		if d := down - last; down == 0 || d < threshold*period || d > (threshold+1)*(period+5) {
			t.Fatalf("seed %d: last write %d, down %d", seed, last, down)
		}
	}
}

func TestQuorumRule(t *testing.T) {
	set := func(ns ...int) (s Set) {
		for _, n := range ns {
			s.Add(n)
		}
		return s
	}
	for _, c := range []struct {
		self        int
		heart, conn Set
		fence       bool
	}{
		{1, set(1), set(1), false},
		{1, set(2, 3), set(1), false}, // not in the heartbeat set itself
		{1, set(1, 2), set(1), false}, // the lower of two survives
		{2, set(1, 2), set(2), true},
		{1, set(1, 2, 3), set(1), true},
		{2, set(1, 2, 3), set(2, 3), false},
		{1, set(1, 2, 3, 4), set(1, 4), false},
		{2, set(1, 2, 3, 4), set(2, 3), true},
		{2, set(1, 2, 3, 4), set(2), true},
		{200, set(0, 200), set(200), true},
		{1, set(1, 2), set(1, 7, 8, 9), false}, // connections without heartbeat do not count
	} {
		if got := MustFence(c.self, c.heart, c.conn); got != c.fence {
			t.Errorf("node %d, heart %v, conn %v: %v", c.self, c.heart, c.conn, got)
		}
	}
}

// TestQuorumPartitions cuts up to seven nodes in two in every way: exactly one
// side goes on.
func TestQuorumPartitions(t *testing.T) {
	for n := 2; n <= 7; n++ {
		var all Set
		for i := range n {
			all.Add(i)
		}
		for cut := range 1 << n {
			goOn := map[bool]bool{}
			for self := range n {
				var conn Set
				for i := range n {
					if (cut>>i)&1 == (cut>>self)&1 {
						conn.Add(i)
					}
				}
				if !MustFence(self, all, conn) {
					goOn[(cut>>self)&1 == 1] = true
				}
			}
			if len(goOn) != 1 {
				t.Fatalf("%d nodes, cut %b: %d sides go on", n, cut, len(goOn))
			}
		}
	}
}

func TestQuorumStory(t *testing.T) {
	q := NewQuorum(2)
	for _, s := range []struct {
		name string
		got  bool
		want bool
	}{
		{"own heartbeat", q.HeartbeatUp(2), false},
		{"peer heartbeat", q.HeartbeatUp(1), false},
		{"peer connects", q.ConnUp(1), false},
		{"peer is lost", q.ConnErr(1), false},
		{"and returns", q.ConnUp(1), false},
		{"lost again", q.ConnErr(1), false},
		{"still up: the higher of two must go", q.StillUp(1), true},
	} {
		if s.got != s.want {
			t.Errorf("%s: %v", s.name, s.got)
		}
	}
	q = NewQuorum(2)
	q.HeartbeatUp(2)
	q.HeartbeatUp(1)
	q.ConnUp(1)
	q.ConnErr(1)
	if q.HeartbeatDown(1) || q.StillUp(1) {
		t.Error("a dead peer fences nobody")
	}
}
