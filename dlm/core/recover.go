package core

import (
	"fmt"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// step is a place of the recovery run where it may have to wait for others. (Linux fs/dlm/recoverd.c ls_recover.)
type step uint8

const (
	stepPing     step = iota // STATUS to each member
	stepNodes                // barrier NODES, slots
	stepNames                // NAMES from each member
	stepDir                  // barrier DIR
	stepMasters              // RCOM LOOKUPs out
	stepLocks                // RCOM LOCKs out
	stepLocksAll             // barrier LOCKS
	stepDone                 // barrier DONE
)

var stepTexts = [...]string{"ping members", "wait for nodes", "names", "wait for directory", "masters", "locks",
	"wait for locks", "wait for done"}

// recovery is the state of one run. It exists from Start until the run is complete, fails, or Stop ends it.
type recovery struct {
	running       bool
	holdCallbacks bool
	step          step
	member        int  // index in members: whom ping, names or the low node's barrier is at
	neg           bool // somebody departed: masters and locks must be recovered
	root          []*rsb
	lookups       []*rsb // LOOKUPs out, by rc_id-1; nil once answered
	lookupsOut    int
	locksOut      int // resources with unanswered LOCKs
	poll          poll
	rcomID        uint64 // last rc_id used for STATUS and NAMES
	lastName      []byte // NAMES: where to go on
}

// poll is the one STATUS or NAMES exchange that is under way.
type poll struct {
	at    int64  // when to act: repeat (asked) or ask again (!asked)
	id    uint64 // rc_id of the outstanding request, 0 none
	node  int32
	tries int64
	asked bool
}

func (rc *recovery) describe(c *Core) string {
	if !rc.running {
		return "idle"
	}
	s := stepTexts[rc.step]
	switch rc.step {
	case stepMasters:
		return fmt.Sprintf("%s: %d lookups out", s, rc.lookupsOut)
	case stepLocks:
		return fmt.Sprintf("%s: %d resources out", s, rc.locksOut)
	}
	return fmt.Sprintf("%s: node %d", s, rc.poll.node)
}

// Stop stops locking, and with it a recovery that is running. When it returns no lock message is handled any more
// until the recovery after the next Start is complete. (Linux dlm_ls_stop.)
func (c *Core) Stop() error {
	if c.dead {
		return fmt.Errorf("%w: lockspace %q is released", ErrState, c.cfg.Name)
	}
	c.abortRecovery()
	first := !c.lockingStopped
	c.stopped, c.lockingStopped = true, true
	c.status = 0
	c.seq++
	if first {
		c.out.RecoverPrep()
	}
	return nil
}

// Start begins recovery with a new member list, which must be the same on all members, and may only be called when all
// of them have stopped. failed names departed members that died, as opposed to left. Locking runs again at RecoverDone.
// (Linux dlm_ls_start.)
func (c *Core) Start(members []Member, failed []int32) error {
	if c.dead || !c.stopped {
		return fmt.Errorf("%w: start of %q without a stop", ErrState, c.cfg.Name)
	}
	if err := c.checkMembers(members); err != nil {
		return err
	}
	c.stopped = false
	c.seq++
	c.status = 0
	rc := &c.rec
	rc.running = true
	rc.holdCallbacks = true
	rc.step, rc.member = stepPing, 0
	rc.poll = poll{at: deadlineNone}
	rc.lookups, rc.lookupsOut, rc.locksOut = rc.lookups[:0], 0, 0
	c.clearInactive()
	c.snapshotRoot()
	c.setMembers(members, failed)
	rc.neg = len(c.gone) > 0
	for _, r := range rc.root {
		r.dir = c.dirNode(r.hash)
	}
	c.runRecovery()
	return nil
}

// clearInactive forgets what only concerned the old membership. (Linux dlm_clear_toss.)
func (c *Core) clearInactive() {
	for c.inactive.head != nil {
		c.freeRsb(c.inactive.head)
	}
	for c.dirRecs.head != nil {
		c.freeRsb(c.dirRecs.head)
	}
}

// snapshotRoot pins all active resources for the run, in the order of the active list. (Linux dlm_create_root_list.)
func (c *Core) snapshotRoot() {
	for r := c.active.head; r != nil; r = r.next {
		r.rootIdx = int32(len(c.rec.root))
		r.refs++
		c.rec.root = append(c.rec.root, r)
	}
}

func (c *Core) releaseRoot() {
	root := c.rec.root
	c.rec.root = root[:0]
	for i, r := range root {
		r.rootIdx = -1
		root[i] = nil
		c.putRsb(r)
	}
}

// abortRecovery undoes what must not outlive a run that did not finish. Masters and locks already moved stay moved;
// NEW_MASTER stays on resources whose locks were not all accepted, gone keeps the departed, and callbacks stay held.
func (c *Core) abortRecovery() {
	rc := &c.rec
	if !rc.running {
		return
	}
	rc.running = false
	for _, r := range rc.root {
		r.unacked = 0
	}
	clear(rc.lookups)
	rc.lookups, rc.lookupsOut, rc.locksOut = rc.lookups[:0], 0, 0
	rc.poll = poll{at: deadlineNone}
	c.releaseRoot()
}

// failRecovery ends a run that cannot succeed; locking stays stopped.
func (c *Core) failRecovery(err error) {
	c.abortRecovery()
	c.stopped = true
	c.out.RecoverFailed(err)
}

// runRecovery goes on as far as possible without an answer from others.
func (c *Core) runRecovery() {
	for c.rec.running && c.runStep() {
	}
}

// runStep does the current step; false means it waits.
func (c *Core) runStep() bool {
	rc := &c.rec
	switch rc.step {
	case stepPing:
		if !c.eachMember(0, 0) {
			return false
		}
		c.status |= wire.RSNodes
		c.enter(stepNodes)
	case stepNodes:
		return c.barrier(wire.RSNodes, stepNames)
	case stepNames:
		if !c.collectNames() {
			return false
		}
		c.status |= wire.RSDir
		c.enter(stepDir)
	case stepDir:
		return c.barrier(wire.RSDir, stepMasters)
	case stepMasters:
		return c.runMasters()
	case stepLocks:
		if rc.locksOut > 0 {
			return false
		}
		c.status |= wire.RSLocks
		c.enter(stepLocksAll)
	case stepLocksAll:
		return c.barrier(wire.RSLocks, stepDone)
	case stepDone:
		return c.barrier(wire.RSDone, stepDone)
	}
	return true
}

func (c *Core) enter(s step) {
	c.rec.step = s
	c.rec.member = 0
	c.rec.poll = poll{at: deadlineNone}
	if s == stepMasters {
		c.waitersFirstPart()
		c.startMasters()
	}
}

// barrier waits until all members have want: the low node asks them all and says so with the next bit, the others ask
// the low node for that. (Linux wait_status.)
func (c *Core) barrier(want wire.RecoverStatus, next step) bool {
	all := want << 1
	if c.low != c.cfg.NodeID {
		flags := uint32(0)
		if want == wire.RSNodes {
			flags = wire.NeedSlots
		}
		c.rec.poll.node = c.low
		if !c.ask(c.low, flags) {
			return false
		}
	} else {
		if !c.eachMember(want, 0) {
			return false
		}
		if want == wire.RSNodes {
			c.assignSlots()
		}
		c.status |= all
	}
	c.leaveBarrier(want, next)
	return true
}

// leaveBarrier does what comes after a barrier.
func (c *Core) leaveBarrier(want wire.RecoverStatus, next step) {
	switch want {
	case wire.RSLocks:
		if c.rec.neg {
			c.finaliseResources()
		}
		c.releaseRoot()
		c.purgeRequests()
		c.status |= wire.RSDone
	case wire.RSDone:
		c.finishRecovery()
		return
	}
	c.enter(next)
}

// finishRecovery enables locking and works through everything that waited. A Stop cannot come in between, since all of
// it is one event.
func (c *Core) finishRecovery() {
	c.rec.running = false
	c.rec.poll = poll{at: deadlineNone}
	c.gone = c.gone[:0]
	c.releaseCallbacks()
	c.lockingStopped = false
	c.stats.Recoveries++
	c.processRequests()
	c.waitersSecondPart()
	c.grantAfterRecovery()
	c.runDeferred()
	c.out.RecoverDone(c.slots, c.slot, c.generation)
}

// eachMember asks the members one after the other until each has the bits of want; true when all have.
func (c *Core) eachMember(want wire.RecoverStatus, flags uint32) bool {
	for ; c.rec.member < len(c.members); c.rec.member++ {
		id := c.members[c.rec.member].id
		if id == c.cfg.NodeID {
			continue
		}
		c.rec.poll.node = id
		if !c.ask(id, flags) {
			return false
		}
		c.rec.poll = poll{at: deadlineNone}
	}
	return true
}

// answered is the value of poll.tries that says that the peer has what we wait for.
const answered = -1

// ask sends a STATUS if none is out; true once the answer was good (see statusReply).
func (c *Core) ask(node int32, flags uint32) bool {
	p := &c.rec.poll
	switch {
	case p.tries == answered:
		*p = poll{at: deadlineNone}
		return true
	case p.asked, p.at != deadlineNone:
		return false
	}
	c.sendStatus(node, flags)
	return false
}

// recoveryTimers repeats an unanswered STATUS or NAMES and ends the pause between two polls.
func (c *Core) recoveryTimers() {
	rc := &c.rec
	if !rc.running || c.now < rc.poll.at {
		return
	}
	rc.poll.at = deadlineNone
	rc.poll.asked = false
	c.runRecovery()
}
