package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ocfuse/ocfuse/dlm/core"
)

// Config is one run.
type Config struct {
	Seed  uint64
	Nodes int           // most nodes alive at once, 2..9; 0 means 5
	Chaos time.Duration // virtual time of step 1; 0 means 4 s
	// Quiet runs without crashes, joins and leaves after the first view (connections are still cut).
	Quiet bool
	// Fast polls barriers as the shell does, from 1 ms on, instead of as Linux.
	Fast  bool
	Fault core.Fault   // planted bug
	Trace func(string) // gets one line per event; slow
}

// Result counts what a run did.
type Result struct {
	Events, Ops, Grants, Basts, Views, Crashes, Joins, Leaves, Cuts int
	Reads, InvalidReads, Writes                                     int
	Virtual                                                         time.Duration
}

const (
	ms        = int64(time.Millisecond)
	resources = 6
)

// Sim is the state of a run.
type Sim struct {
	cfg    Config
	rng    *rand.Rand
	now    int64
	seq    uint64
	queue  eventHeap
	hosts  map[int32]*host // by node id; the current incarnation
	ids    []int32         // all node ids, ascending: for ordered iteration
	links  map[[2]int32]*link
	res    [resources]*resource
	ctl    controller
	chaos  bool // faults and new operations happen
	drain  bool
	err    error
	count  Result
	value  uint64 // last LVB value written anywhere
	deaths int    // nodes that ever left or crashed
	inc    int
}

// event is something that happens at a time; events of one time happen in the order they were scheduled.
type event struct {
	at  int64
	seq uint64
	f   func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *eventHeap) Push(x any) { *h = append(*h, x.(event)) }

// Pop implements heap.Interface.
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*h = old[:len(old)-1]
	return e
}

func (s *Sim) at(t int64, f func()) {
	s.seq++
	heap.Push(&s.queue, event{max(t, s.now), s.seq, f})
}

func (s *Sim) after(d int64, f func()) { s.at(s.now+d, f) }

// between returns a random number in [lo, hi].
func (s *Sim) between(lo, hi int64) int64 { return lo + s.rng.Int64N(hi-lo+1) }

func (s *Sim) oneIn(n int) bool { return s.rng.IntN(n) == 0 }

func (s *Sim) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("at %v: %s", time.Duration(s.now), fmt.Sprintf(format, args...))
	}
}

func (s *Sim) trace(format string, args ...any) {
	if s.cfg.Trace != nil {
		s.cfg.Trace(fmt.Sprintf("%12v ", time.Duration(s.now)) + fmt.Sprintf(format, args...))
	}
}

// Run carries out one run. The error says what was violated; the same Config gives the same run.
func Run(cfg Config) (Result, error) {
	if cfg.Nodes == 0 {
		cfg.Nodes = 5
	}
	if cfg.Chaos == 0 {
		cfg.Chaos = 4 * time.Second
	}
	s := &Sim{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x646c6d)), hosts: map[int32]*host{}, links: map[[2]int32]*link{}}
	s.ctl.s, s.ctl.dead, s.ctl.crashed = s, map[int]bool{}, map[int]bool{}
	for i := range s.res {
		s.res[i] = &resource{name: fmt.Sprintf("res%d", i), index: i}
	}
	for id := int32(1); id <= int32(cfg.Nodes); id++ {
		s.ids = append(s.ids, id)
	}
	s.run()
	s.count.Virtual = time.Duration(s.now)
	return s.count, s.err
}

func (s *Sim) run() {
	first := 1 + s.rng.IntN(s.cfg.Nodes)
	if s.cfg.Quiet {
		first = s.cfg.Nodes
	}
	for _, id := range s.ids[:first] {
		s.newHost(id)
	}
	s.chaos = true
	s.ctl.change("first mount")
	s.after(s.between(100*ms, 400*ms), s.nextFault)
	s.until(int64(s.cfg.Chaos), false)
	s.chaos = false
	s.trace("--- calm")
	s.until(s.now+int64(10*time.Minute), true)
	s.checkCalm()
	s.checkAgreement()
	s.trace("--- drain")
	s.drain = true
	for _, id := range s.ids {
		if h := s.hosts[id]; h != nil {
			h.poke()
		}
	}
	s.until(s.now+int64(10*time.Minute), true)
	s.checkEmpty()
}

// until runs events up to time t, or, if idle is set, until there are none; not coming to rest is then an error.
func (s *Sim) until(t int64, idle bool) {
	for s.err == nil && len(s.queue) > 0 {
		if s.queue[0].at > t {
			break
		}
		e := heap.Pop(&s.queue).(event)
		s.now = e.at
		s.count.Events++
		if s.count.Events > 2_000_000 {
			s.fail("no end after 2 million events")
		}
		e.f()
		if s.count.Events%64 == 0 {
			s.checkCores()
		}
	}
	if idle && s.err == nil && len(s.queue) > 0 {
		s.fail("the cluster does not come to rest: %s", s.describe())
	}
	if !idle {
		s.now = t
	}
	s.checkCores()
}
