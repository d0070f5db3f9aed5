package view

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"
)

// The simulator: up to five nodes on one goroutine, with a clock of its own.
// Disk: one slot a node, reads and writes are atomic. Network: per pair one
// connection at a time, first in first out, cut at any message. Death: others get
// proof of it some time after it happened, each at its own time, never before.
const (
	simNodes    = 5
	maxProof    = 60 // proof of death comes at the latest this much later
	quorumDelay = 66
	maxDelay    = 10 // of a message
)

type simEvent struct {
	at, seq int
	run     func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(q[i].at, q[j].at), cmp.Compare(q[i].seq, q[j].seq)) < 0
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any     { o := *q; e := o[len(o)-1]; *q = o[:len(o)-1]; return e }

// proc is one incarnation of a node.
type proc struct {
	id      ID
	core    *Core
	ended   bool // crashed, fenced or left
	left    bool
	asked   bool // Leave was called: it holds nothing any more
	running *View
	known   map[ID]bool // Joined minus Departed
	link    map[uint32]*half
}

// half is one end of a connection.
type half struct {
	up        bool // Connected was delivered here
	dead      bool // cut; Disconnected is on its way
	other     *proc
	peer      *half
	in        []Message
	delivered int // time of the last scheduled delivery: keeps order
}

type sim struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	q      simQueue
	now, n int
	procs  map[uint32]*proc // the latest of each node
	all    []*proc
	slots  map[uint32]ID
	cut    map[[2]uint32]bool
	inc    uint64
	trace  []string
	fences int
	starts int
	bug    string
	broken string
}

func newSim(t *testing.T, seed uint64) *sim {
	return &sim{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), procs: map[uint32]*proc{}, slots: map[uint32]ID{}, cut: map[[2]uint32]bool{}}
}

func (s *sim) log(format string, a ...any) {
	s.trace = append(s.trace, fmt.Sprintf("%5d ", s.now)+fmt.Sprintf(format, a...))
}

func (s *sim) fail(format string, a ...any) {
	if s.broken == "" {
		s.broken = fmt.Sprintf(format, a...)
	}
}

func (s *sim) after(d int, fn func()) {
	s.n++
	heap.Push(&s.q, simEvent{s.now + d, s.n, fn})
}

func (s *sim) rand(n int) int { return s.rng.IntN(n) + 1 }

func pair(a, b uint32) [2]uint32 { return [2]uint32{min(a, b), max(a, b)} }

// boot starts a new incarnation of a node: it writes its slot, later reads all.
func (s *sim) boot(node uint32) {
	if p := s.procs[node]; p != nil && !p.ended {
		return
	}
	s.inc++
	p := &proc{id: ID{node, s.inc}, known: map[ID]bool{}, link: map[uint32]*half{}}
	p.core = New(p.id)
	s.procs[node] = p
	s.all = append(s.all, p)
	s.slots[node] = p.id
	s.log("boot %v", p.id)
	for _, o := range s.alive() {
		if o != p {
			s.after(s.rand(15), func() { s.do(o, func() { o.core.Seen(p.id) }) })
		}
	}
	// Proofs about those who ended before reach the newcomer too.
	for _, o := range s.all {
		if o.ended {
			s.after(s.rand(maxProof), func() { s.do(p, func() { p.core.Died(o.id) }) })
		}
	}
	s.after(s.rand(5), func() { s.do(p, func() { p.core.Scanned(s.scan(p)) }) })
	s.after(s.rand(5), func() { s.dial(p) })
}

func (s *sim) scan(p *proc) []ID {
	var out []ID
	for n := uint32(1); n <= simNodes; n++ {
		if id := s.slots[n]; id.Inc != 0 && id != p.id {
			out = append(out, id)
		}
	}
	return out
}

func (s *sim) alive() []*proc {
	var out []*proc
	for n := uint32(1); n <= simNodes; n++ {
		if p := s.procs[n]; p != nil && !p.ended {
			out = append(out, p)
		}
	}
	return out
}

// dial connects p to everybody it can reach and keeps trying.
func (s *sim) dial(p *proc) {
	if p.ended {
		return
	}
	for _, o := range s.alive() {
		if o == p || s.cut[pair(o.id.Node, p.id.Node)] || p.link[o.id.Node] != nil {
			continue
		}
		if old := o.link[p.id.Node]; old != nil {
			if !old.dead {
				continue
			}
			s.notice(o, old) // a new connection shows that the old one is gone
		}
		a, b := &half{other: o}, &half{other: p}
		a.peer, b.peer = b, a
		p.link[o.id.Node], o.link[p.id.Node] = a, b
		s.after(s.rand(maxDelay), func() { s.connected(p, a) })
		s.after(s.rand(maxDelay), func() { s.connected(o, b) })
	}
	s.after(10+s.rand(10), func() { s.dial(p) })
}

func (s *sim) connected(p *proc, h *half) {
	if p.ended || h.dead || p.link[h.other.id.Node] != h {
		return
	}
	h.up = true
	s.do(p, func() { p.core.Connected(h.other.id.Node) })
	s.drain(p, h)
}

// drain delivers what has arrived at an end.
func (s *sim) drain(p *proc, h *half) {
	for h.up && !h.dead && !p.ended && len(h.in) > 0 {
		m := h.in[0]
		h.in = h.in[1:]
		s.do(p, func() { p.core.Receive(h.other.id.Node, m) })
	}
}

// breakLink cuts a connection; both ends notice at their own time.
func (s *sim) breakLink(p *proc, h *half) {
	for _, e := range []struct {
		p *proc
		h *half
	}{{p, h}, {h.other, h.peer}} {
		if e.h.dead {
			continue
		}
		e.h.dead = true
		notice := s.rand(maxDelay)
		if s.rng.IntN(4) == 0 {
			notice = s.rand(100) // nothing was sent, so nobody notices
		}
		s.after(notice, func() { s.notice(e.p, e.h) })
	}
}

// notice ends a cut connection on one side.
func (s *sim) notice(p *proc, h *half) {
	if p.link[h.other.id.Node] == h {
		delete(p.link, h.other.id.Node)
	}
	if h.up {
		h.up = false
		s.do(p, func() { p.core.Disconnected(h.other.id.Node) })
	}
}

func (s *sim) send(p *proc, to uint32, m Message) {
	h := p.link[to]
	if h == nil || h.dead {
		return // the shell's write fails
	}
	o := h.peer
	at := max(s.now+s.rand(maxDelay), o.delivered)
	o.delivered = at
	s.after(at-s.now, func() {
		// A cut loses what is still under way, but what arrived first is read.
		if o.dead && s.rng.IntN(2) == 0 || h.other.ended {
			o.in = nil
			return
		}
		if !o.dead {
			o.in = append(o.in, m)
			s.drain(h.other, o)
		}
	})
}

// end ends an incarnation and lets the others know in time.
func (s *sim) end(p *proc, left bool) {
	if p.ended {
		return
	}
	p.ended, p.left, p.running = true, left, nil
	for n := uint32(1); n <= simNodes; n++ {
		if h := p.link[n]; h != nil {
			s.breakLink(p, h)
		}
	}
	if left {
		s.slots[p.id.Node] = ID{}
	}
	for _, o := range s.alive() {
		s.after(s.rand(maxProof), func() { s.do(o, func() { o.core.Died(p.id) }) })
	}
}

// do runs an event on a process and carries out the effects.
func (s *sim) do(p *proc, event func()) {
	if p.ended {
		return
	}
	event()
	for _, e := range p.core.Effects() {
		if p.ended {
			return
		}
		s.effect(p, e)
	}
	s.check()
}

func (s *sim) effect(p *proc, e Effect) {
	switch e.Kind {
	case Send:
		s.send(p, e.To, e.Msg)
	case Stop:
		s.log("%v stops for %d", p.id, e.View.Num)
		if s.bug != "run on" {
			p.running = nil
		}
		s.after(s.rand(20), func() { s.do(p, p.core.Stopped) })
	case Start:
		s.started(p, e)
	case Verify:
		id := e.About
		s.after(s.rand(5), func() {
			problem := ""
			if s.slots[id.Node] != id {
				problem = "not in its slot"
			}
			s.do(p, func() { p.core.Verified(id, problem) })
		})
	case Rescan:
		s.after(s.rand(5), func() { s.do(p, func() { p.core.Scanned(s.scan(p)) }) })
	case Timer:
		to, num := e.To, e.Num
		s.after(quorumDelay, func() {
			if o := s.procs[to]; o != nil && !o.ended { // its heartbeat moves
				s.do(p, func() { p.core.StillCut(to, num) })
			}
		})
	case Fence:
		s.log("%v fences itself: %s", p.id, e.Reason)
		s.fences++
		s.end(p, false)
	case Finished:
		s.log("%v has left", p.id)
		s.end(p, true)
	case Rejected:
		s.log("%v rejected: %s", p.id, e.Reason)
		s.end(p, true)
	}
}

func (s *sim) find(id ID) *proc { return s.all[id.Inc-1] }

func (s *sim) started(p *proc, e Effect) {
	v := e.View
	s.starts++
	s.log("%v starts %v", p.id, &v)
	if p.running != nil && s.bug == "" {
		s.fail("%v starts view %d without having stopped", p.id, v.Num)
	}
	for _, d := range e.Departed {
		o := s.find(d.ID)
		if o.left || o.asked && o.running == nil {
			// gone by its own wish
		} else if !o.ended {
			s.fail("%v is told that %v is %v, but it runs", p.id, d.ID, d.How)
		} else if d.How == Left && !o.asked {
			s.fail("%v is told that %v left, but it died", p.id, d.ID)
		}
		delete(p.known, d.ID)
	}
	for _, j := range e.Joined {
		p.known[j] = true
	}
	if len(p.known) != len(v.Members) {
		s.fail("%v: joined and departed give %v, the view is %v", p.id, p.known, v.Members)
	}
	for _, m := range v.Members {
		if !p.known[m] {
			s.fail("%v was not told that %v joined", p.id, m)
		}
	}
	p.running = &v
}

// check: all that run, run the same view, and each is in it.
func (s *sim) check() {
	var first *View
	for _, p := range s.alive() {
		if p.running == nil {
			continue
		}
		if !p.running.Has(p.id) {
			s.fail("%v runs %v, which does not list it", p.id, p.running)
		}
		if first == nil {
			first = p.running
		} else if !reflect.DeepEqual(first, p.running) {
			s.fail("two views run at once: %v and %v", first, p.running)
		}
	}
}

// run processes events until a time.
func (s *sim) run(until int) {
	for s.broken == "" && len(s.q) > 0 && s.q[0].at <= until {
		e := heap.Pop(&s.q).(simEvent)
		s.now = e.at
		e.run()
	}
	s.now = max(s.now, until)
}

// faults makes trouble for a while.
func (s *sim) faults(steps int, partitions bool) {
	for range steps {
		s.run(s.now + s.rand(60))
		alive := s.alive()
		switch k := s.rng.IntN(12); {
		case k < 4:
			s.boot(uint32(s.rand(simNodes)))
		case len(alive) == 0:
		case k < 6:
			p := alive[s.rng.IntN(len(alive))]
			s.log("crash %v", p.id)
			s.end(p, false)
		case k < 8:
			p := alive[s.rng.IntN(len(alive))]
			s.log("leave %v", p.id)
			p.asked = true
			s.do(p, p.core.Leave)
		case k < 10:
			p := alive[s.rng.IntN(len(alive))]
			if h := p.link[uint32(s.rand(simNodes))]; h != nil {
				s.log("cut %v-%v", p.id, h.other.id)
				s.breakLink(p, h)
			}
		case partitions:
			s.partition()
		}
	}
}

// partition splits the network in two, or heals it.
func (s *sim) partition() {
	was := len(s.cut) > 0
	s.cut = map[[2]uint32]bool{}
	if was {
		s.log("heal")
		return
	}
	side := s.rng.IntN(1 << simNodes)
	s.log("partition %05b", side)
	for _, p := range s.alive() {
		for _, o := range s.alive() {
			if (side>>p.id.Node)&1 != (side>>o.id.Node)&1 {
				s.cut[pair(p.id.Node, o.id.Node)] = true
				if h := p.link[o.id.Node]; h != nil {
					s.breakLink(p, h)
				}
			}
		}
	}
}

// calm: no more faults; everybody who lives ends up in one view.
func (s *sim) calm() {
	s.cut = map[[2]uint32]bool{}
	s.run(s.now + 1500)
	var want []ID
	for _, p := range s.alive() {
		want = append(want, p.id)
	}
	for _, p := range s.alive() {
		if p.running == nil {
			s.fail("%v (%v) does not run in the end: %s", p.id, p.core.State(), p.core.Pending())
		} else if !slices.Equal(p.running.Members, want) {
			s.fail("%v ends in %v, alive are %v", p.id, p.running, want)
		}
	}
}

func (s *sim) report() {
	if s.broken == "" {
		return
	}
	tail := s.trace[max(0, len(s.trace)-60):]
	for _, l := range tail {
		s.t.Log(l)
	}
	s.t.Fatalf("seed %d: %s", s.seed, s.broken)
}

// runSeed is one whole story.
func runSeed(t *testing.T, seed uint64, bug string) *sim {
	s := newSim(t, seed)
	s.bug = bug
	s.faults(10+s.rng.IntN(60), seed%3 == 0)
	s.calm()
	if s.fences > 0 && seed%3 != 0 {
		s.fail("a node fenced itself without a partition")
	}
	return s
}

func envInt(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return def
}

// regressions are seeds that failed once.
var regressions = []uint64{36, 104, 484, 911, 1324, 9386, 10911}

func TestSeeds(t *testing.T) {
	if seed := envInt("SEED", -1); seed >= 0 {
		s := runSeed(t, uint64(seed), "")
		for _, l := range s.trace {
			t.Log(l)
		}
		s.report()
		return
	}
	for _, seed := range regressions {
		runSeed(t, seed, "").report()
	}
	starts, fences := 0, 0
	for seed := range uint64(envInt("SEEDS", 400)) {
		s := runSeed(t, seed, "")
		s.report()
		starts += s.starts
		fences += s.fences
	}
	if starts == 0 || fences == 0 {
		t.Errorf("the seeds exercise too little: %d starts, %d fences", starts, fences)
	}
}

// TestPlantedBug: the harness notices a node that does not stop.
func TestPlantedBug(t *testing.T) {
	for seed := range uint64(20) {
		if runSeed(t, seed, "run on").broken != "" {
			return
		}
	}
	t.Error("twenty seeds do not find a node that never stops")
}

// TestPartitionLeavesOneSide cuts five running nodes in two, without other
// trouble: one side goes on, the other fences itself.
func TestPartitionLeavesOneSide(t *testing.T) {
	for side := range 1 << simNodes {
		s := newSim(t, uint64(side))
		for n := uint32(1); n <= simNodes; n++ {
			s.boot(n)
		}
		s.run(400)
		if len(s.alive()) != simNodes {
			t.Fatal("not all run")
		}
		for _, p := range s.alive() {
			for _, o := range s.alive() {
				if (side>>(p.id.Node-1))&1 != (side>>(o.id.Node-1))&1 {
					s.cut[pair(p.id.Node, o.id.Node)] = true
					if h := p.link[o.id.Node]; h != nil {
						s.breakLink(p, h)
					}
				}
			}
		}
		s.run(s.now + 1000)
		alive := s.alive()
		for _, p := range alive {
			if p.running == nil || len(p.running.Members) != len(alive) {
				s.fail("side %05b: %v runs %v of %d", side, p.id, p.running, len(alive))
			}
		}
		if len(alive) < (simNodes+1)/2 {
			s.fail("side %05b: %d nodes go on", side, len(alive))
		}
		s.report()
	}
}
