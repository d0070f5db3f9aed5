package heartbeat

import (
	"fmt"
	"slices"
)

// LiveThreshold is how many changed samples make a slot live
// (O2HB_LIVE_THRESHOLD).
const LiveThreshold = 2

// EventKind says what happened to a slot.
type EventKind uint8

// The kinds of Event.
const (
	// Up: a node heartbeats.
	Up EventKind = iota + 1
	// Down: a live node's incarnation has ended; Cause says how it was seen.
	Down
	// Silent: a slot that was never live here has not changed for the dead
	// threshold; whoever wrote it has no lease any more.
	Silent
	// Mismatch: a live node runs with another dead threshold; see Event.Block.
	Mismatch
	// Ended: an incarnation that was never live here is not in its slot any more:
	// it left, or its successor, which made sure of its end, has come.
	Ended
)

// String names the kind.
func (k EventKind) String() string {
	if k < Up || k > Ended {
		return fmt.Sprintf("EventKind(%d)", uint8(k))
	}
	return [...]string{"up", "down", "silent", "mismatch", "ended"}[k-1]
}

// Cause says how the end of an incarnation was seen.
type Cause uint8

// The causes of Down.
const (
	Stale     Cause = iota + 1 // dead threshold reached
	Restarted                  // another generation is in the slot
	Left                       // generation 0: it has left, or fenced itself
)

// String names the cause.
func (c Cause) String() string {
	if c < Stale || c > Left {
		return "none"
	}
	return [...]string{"no heartbeat", "restarted", "left"}[c-1]
}

// Event is a change of a slot. Generation is the incarnation that came or went.
type Event struct {
	Kind       EventKind
	Node       int
	Generation uint64
	Cause      Cause
	Block      Block // as read
}

// slot is what the core knows of a node (struct o2hb_disk_slot).
type slot struct {
	lastSeq, lastGen uint64
	changed, equal   int
	quiet            int // equal samples in a row while not live
	live             bool
}

// SlotState is a slot as an operator sees it.
type SlotState struct {
	Seq, Generation uint64
	Live            bool
	Equal           int // samples without a change
}

// Core evaluates samples of a heartbeat region. It has no clock and does no I/O:
// the caller samples every period. See the package comment for the times.
type Core struct {
	self       int
	size       int // bytes per block
	wanted     []bool
	threshold  int
	deadMS     uint32
	generation uint64

	slots    []slot
	own      Block // last written
	wrote    bool
	steady   int
	unsteady int
	moved    bool // a membership change in this sample
	events   []Event
}

// CoreConfig says what a Core watches.
type CoreConfig struct {
	Self       int
	Nodes      []int // configured nodes, with Self
	Blocks     int   // slots in the region
	BlockSize  int
	Threshold  int // dead threshold, in samples
	DeadMS     uint32
	Generation uint64
}

// NewCore checks the configuration.
func NewCore(c CoreConfig) (*Core, error) {
	switch {
	case c.Threshold <= LiveThreshold:
		return nil, fmt.Errorf("dead threshold %d: must be more than %d", c.Threshold, LiveThreshold)
	case c.Generation == 0:
		return nil, fmt.Errorf("heartbeat generation 0 means that a node has left; use a random one")
	case c.BlockSize < MinBlock || c.BlockSize > MaxBlock || c.BlockSize&(c.BlockSize-1) != 0:
		return nil, fmt.Errorf("heartbeat block of %d bytes: must be a power of two from %d to %d", c.BlockSize, MinBlock, MaxBlock)
	}
	core := &Core{self: c.Self, size: c.BlockSize, threshold: c.Threshold, deadMS: c.DeadMS, generation: c.Generation,
		wanted: make([]bool, c.Blocks), slots: make([]slot, c.Blocks), steady: LiveThreshold + 1, unsteady: 3 * (LiveThreshold + 1)}
	for _, n := range append([]int{c.Self}, c.Nodes...) {
		if n < 0 || n >= c.Blocks || n > 254 {
			return nil, fmt.Errorf("node %d has no slot: the heartbeat region has %d", n, c.Blocks)
		}
		core.wanted[n] = true
	}
	return core, nil
}

// block returns slot n's sector of a sample.
func (c *Core) block(region []byte, n int) []byte { return region[n*c.size : (n+1)*c.size] }

// Begin remembers the region as found, without checking it
// (Linux o2hb_populate_slot_data). The next sample may follow at once, so the
// first equal one does not count as a period of silence.
func (c *Core) Begin(region []byte) {
	for n := range c.slots {
		b, _ := Decode(c.block(region, n))
		c.slots[n] = slot{lastSeq: b.Seq, lastGen: b.Generation, quiet: -1}
	}
}

// CheckOwn compares this node's slot as read with what it wrote last. Before the
// first write there is nothing to compare.
func (c *Core) CheckOwn(region []byte) error {
	if !c.wrote {
		return nil
	}
	return c.CheckBlock(c.block(region, c.self))
}

// CheckBlock compares one sector with what this node wrote last.
func (c *Core) CheckBlock(p []byte) error {
	b, ok := Decode(p)
	switch {
	case b == c.own && ok:
		return nil
	case b.Node != c.own.Node:
		return fmt.Errorf("slot %d was overwritten by node %d: two nodes use one heartbeat slot", c.self, b.Node)
	case b.Generation != c.own.Generation:
		return fmt.Errorf("slot %d was overwritten with generation %x, ours is %x: another node %d runs", c.self, b.Generation, c.own.Generation, c.self)
	case b.Seq != c.own.Seq:
		return fmt.Errorf("slot %d reads back sequence %d instead of %d", c.self, b.Seq, c.own.Seq)
	}
	return fmt.Errorf("slot %d reads back damaged", c.self)
}

// Build makes the next own block in p. The sequence is the time, but always moves
// on: only its change matters, and clocks are set back.
func (c *Core) Build(seconds uint64, p []byte) {
	seq := max(seconds, c.own.Seq+1, 1)
	c.own = Block{Seq: seq, Node: uint8(c.self), Generation: c.generation, DeadMS: c.deadMS}
	c.own.Encode(p)
	c.wrote = true
}

// BuildLast makes the block that says "I have left": generation 0.
func (c *Core) BuildLast(p []byte) {
	c.own.Seq++
	c.own.Node, c.own.DeadMS, c.own.Generation = uint8(c.self), c.deadMS, 0
	c.own.Encode(p)
}

// Evaluate looks at every slot of a sample; the own one is taken from the block
// just built. The events are valid until the next call.
func (c *Core) Evaluate(region []byte) []Event {
	c.events, c.moved = c.events[:0], false
	for n := range c.slots {
		if !c.wanted[n] && !c.slots[n].live {
			continue
		}
		if n == c.self {
			c.evaluate(n, c.own, true)
			continue
		}
		b, ok := Decode(c.block(region, n))
		c.evaluate(n, b, ok)
	}
	return c.events
}

// evaluate follows Linux o2hb_check_slot step by step.
func (c *Core) evaluate(n int, b Block, ok bool) {
	s := &c.slots[n]
	genChanged := false
	oldGen := s.lastGen
	switch {
	case !ok && !s.live:
		// A torn or foreign sector proves nothing, but it must stand still to
		// be called silent.
		c.quietly(n, s, b)
		return
	case !ok:
		s.equal++
	default:
		c.quietly(n, s, b)
		if !s.live && n != c.self && oldGen != 0 && b.Generation != oldGen {
			c.events = append(c.events, Event{Kind: Ended, Node: n, Generation: oldGen, Block: b})
		}
		if b.Seq != s.lastSeq {
			s.changed++
		} else {
			s.equal++
		}
		s.lastSeq = b.Seq
		if b.Generation != s.lastGen {
			genChanged = true
			s.equal = 0
		}
		s.lastGen = b.Generation
	}
	if !s.live {
		if s.changed >= LiveThreshold && b.Generation != 0 {
			s.live, s.equal, s.quiet, c.moved = true, 0, 0, true
			c.events = append(c.events, Event{Kind: Up, Node: n, Generation: b.Generation, Block: b})
			if b.DeadMS != 0 && b.DeadMS != c.deadMS {
				c.events = append(c.events, Event{Kind: Mismatch, Node: n, Generation: b.Generation, Block: b})
			}
		}
		return
	}
	if s.equal >= c.threshold || genChanged {
		c.down(n, s, b, oldGen, genChanged)
		return
	}
	if s.changed > 0 {
		s.changed, s.equal = 0, 0
	}
}

// down ends an incarnation.
func (c *Core) down(n int, s *slot, b Block, gen uint64, genChanged bool) {
	e := Event{Kind: Down, Node: n, Generation: gen, Cause: Stale, Block: b}
	if genChanged {
		e.Cause = Restarted
		if b.Generation == 0 {
			e.Cause = Left
		}
	} else {
		s.changed = 0
	}
	s.live, s.quiet, c.moved = false, 0, true
	c.events = append(c.events, e)
}

// quietly counts how long a slot that is not live stands still.
func (c *Core) quietly(n int, s *slot, b Block) {
	if s.live || n == c.self {
		return
	}
	if b.Seq != s.lastSeq || b.Generation != s.lastGen {
		s.quiet = 0
		return
	}
	s.quiet++
	if s.quiet == c.threshold && b.Generation != 0 {
		c.events = append(c.events, Event{Kind: Silent, Node: n, Generation: b.Generation, Cause: Stale, Block: b})
	}
}

// Done ends a sample: ok when it was read, the own slot was as left and the
// write succeeded. It moves the region towards steady (Linux
// o2hb_do_disk_heartbeat).
func (c *Core) Done(ok bool) {
	if c.steady == 0 {
		return
	}
	if ok && !c.moved {
		c.steady--
	}
	if c.steady > 0 && c.unsteady > 0 {
		c.unsteady--
	}
}

// Steady says whether the region has settled; failed whether it will not.
func (c *Core) Steady() (steady, failed bool) { return c.steady == 0, c.steady > 0 && c.unsteady == 0 }

// Admit makes a node live at once, with the generation that this node has read
// in its slot: the cluster took it in, so from now on its silence counts (the
// next sample may follow at once and is not counted).
func (c *Core) Admit(n int, generation uint64) error {
	if n < 0 || n >= len(c.slots) {
		return fmt.Errorf("node %d has no heartbeat slot", n)
	}
	s := &c.slots[n]
	if s.live && s.lastGen == generation {
		return nil
	}
	*s = slot{lastSeq: s.lastSeq, lastGen: generation, live: true, equal: -1}
	return nil
}

// Slot describes a slot.
func (c *Core) Slot(n int) SlotState {
	s := c.slots[n]
	e := s.equal
	if !s.live {
		e = s.quiet
	}
	return SlotState{Seq: s.lastSeq, Generation: s.lastGen, Live: s.live, Equal: e}
}

// Live lists the live nodes, ascending.
func (c *Core) Live() []int {
	var out []int
	for n := range c.slots {
		if c.slots[n].live {
			out = append(out, n)
		}
	}
	return slices.Clip(out)
}
