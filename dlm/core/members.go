package core

import (
	"fmt"
	"slices"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Member is one node of the lockspace as the controller says.
type Member struct {
	NodeID int32
	Weight uint32 // share of the directory, normally 1
	New    bool   // left and came back since the last Start: counts as departed and as added
}

// member is what we know of a node. (Linux struct dlm_member.)
type member struct {
	id         int32
	weight     uint32
	slot       int    // 0 none yet, -1 unknown
	slotBefore int    // slot of an earlier round
	generation uint32 // as its STATUS_REPLY said
	goneSeq    uint32 // recover_seq of the Start that removed it
}

// memberState is the membership part of Core. (Linux struct dlm_ls, ls_nodes .. ls_recover_seq.)
type memberState struct {
	members    []member // ascending node id
	gone       []member // departed, not yet fully recovered from
	nodeArray  []uint32 // directory function's array
	low        int32    // lowest node id
	slots      []Slot   // ascending slot
	slot       uint16   // our own
	generation uint32
	seq        uint64 // recover_seq: +1 at each stop and start
	status     wire.RecoverStatus
	// stopped: between Stop and Start nothing but STATUS is answered. lockingStopped: from Stop until the recovery that
	// follows is complete lock messages are queued.
	stopped        bool
	lockingStopped bool
}

func (c *Core) isMember(id int32) bool { return c.member(id) != nil }

func (c *Core) member(id int32) *member {
	for i := range c.members {
		if c.members[i].id == id {
			return &c.members[i]
		}
	}
	return nil
}

// isRemoved: the node id that something of recover_seq since is about has departed and is not yet recovered from. A node
// that came back meanwhile is both removed and a member; what it did since its return is its own. (Linux
// dlm_is_removed, which cannot tell the two apart when a recovery was interrupted.)
func (c *Core) isRemoved(id int32, since uint32) bool {
	for i := range c.gone {
		if g := &c.gone[i]; g.id == id && int32(since-g.goneSeq) < 0 {
			return true
		}
	}
	return false
}

// checkMembers refuses lists no recovery could work with.
func (c *Core) checkMembers(ms []Member) error {
	self := false
	for i, m := range ms {
		if m.NodeID <= 0 {
			return fmt.Errorf("%w: member with node id %d", ErrInvalid, m.NodeID)
		}
		self = self || m.NodeID == c.cfg.NodeID
		for _, o := range ms[:i] {
			if o.NodeID == m.NodeID {
				return fmt.Errorf("%w: node %d is in the member list twice", ErrInvalid, m.NodeID)
			}
		}
	}
	if !self {
		return fmt.Errorf("%w: the member list lacks this node (%d)", ErrInvalid, c.cfg.NodeID)
	}
	if len(ms) > maxMembers {
		return fmt.Errorf("%w: %d members, at most %d", ErrInvalid, len(ms), maxMembers)
	}
	return nil
}

// setMembers makes ms the member list and moves the departed to gone. (Linux dlm_recover_members.)
func (c *Core) setMembers(ms []Member, failed []int32) {
	kept := c.members[:0:0]
	for _, old := range c.members {
		i := slices.IndexFunc(ms, func(m Member) bool { return m.NodeID == old.id })
		if i >= 0 && !ms[i].New {
			old.weight = ms[i].Weight
			kept = append(kept, old)
			continue
		}
		old.goneSeq = uint32(c.seq)
		c.gone = append(c.gone, old)
		c.out.MemberRemoved(old.id)
		if slices.Contains(failed, old.id) {
			c.out.RecoverSlot(Slot{NodeID: old.id, Slot: uint16(max(old.slotBefore, 0))})
		}
	}
	c.members = kept
	for _, m := range ms {
		if !c.isMember(m.NodeID) {
			c.members = append(c.members, member{id: m.NodeID, weight: m.Weight})
			if m.NodeID != c.cfg.NodeID {
				c.out.MemberAdded(m.NodeID)
			}
		}
	}
	slices.SortFunc(c.members, func(a, b member) int { return int(a.id) - int(b.id) })
	c.low = c.members[0].id
	var ws []wire.Weight
	for i := range c.members {
		c.members[i].slot, c.members[i].generation = -1, 0
		ws = append(ws, wire.Weight{NodeID: uint32(c.members[i].id), Weight: c.members[i].weight})
	}
	c.nodeArray = wire.NodeArray(c.nodeArray[:0], ws)
}

// assignSlots is the low node's part of the slot exchange: members keep their slots, the others get the lowest free
// ones in ascending node id order. It fails if the members' claims cannot all be true; recovery goes on without new
// slots then. (Linux dlm_slots_assign.)
func (c *Core) assignSlots() bool {
	self := c.member(c.cfg.NodeID)
	self.slot, self.generation = int(c.slot), c.generation
	need, top, gen := 0, 0, uint32(0)
	for i := range c.members {
		m := &c.members[i]
		gen = max(gen, m.generation)
		if m.slot < 0 || m.slotBefore > 0 && m.slot > 0 && m.slot != m.slotBefore {
			return false
		}
		if m.slot == 0 {
			need++
		}
		top = max(top, m.slot)
	}
	owner := make([]int32, top+need)
	for i := range c.members {
		if m := &c.members[i]; m.slot > 0 {
			if owner[m.slot-1] != 0 {
				return false
			}
			owner[m.slot-1] = m.id
		}
	}
	next := 0
	for i := range c.members {
		m := &c.members[i]
		if m.slot == 0 {
			for owner[next] != 0 {
				next++
			}
			owner[next] = m.id
			m.slot = next + 1
		}
		m.slotBefore = m.slot
	}
	c.slots = c.slots[:0]
	for i, id := range owner {
		if id != 0 {
			c.slots = append(c.slots, Slot{NodeID: id, Slot: uint16(i + 1)})
		}
	}
	if c.slot == 0 {
		c.slot = uint16(self.slot)
	}
	c.generation = gen + 1
	return true
}

// copySlots takes the slots from the low node's STATUS_REPLY. None at all is not fatal. (Linux dlm_slots_copy_in.)
func (c *Core) copySlots(cfg *wire.RcomConfig, raw []byte) {
	c.generation = cfg.Generation
	if cfg.NumSlots == 0 {
		return
	}
	c.slots = c.slots[:0]
	for len(raw) >= wire.RcomSlotSize {
		var s wire.RcomSlot
		if s.Decode(raw) != nil {
			return
		}
		raw = raw[wire.RcomSlotSize:]
		c.slots = append(c.slots, Slot{NodeID: int32(s.NodeID), Slot: s.Slot})
		if m := c.member(int32(s.NodeID)); m != nil {
			m.slot, m.slotBefore = int(s.Slot), int(s.Slot)
		}
		if int32(s.NodeID) == c.cfg.NodeID && c.slot == 0 {
			c.slot = s.Slot
		}
	}
}

// Membership is a snapshot for status displays.
type Membership struct {
	Members    []int32 // ascending
	Low        int32
	Slots      []Slot
	Slot       uint16
	Generation uint32
	Seq        uint64
	Status     wire.RecoverStatus
	Stopped    bool // locking is stopped
	Step       string
}

// Membership returns the current membership and how far recovery is.
func (c *Core) Membership() Membership {
	m := Membership{Low: c.low, Slots: slices.Clone(c.slots), Slot: c.slot, Generation: c.generation, Seq: c.seq,
		Status: c.status, Stopped: c.lockingStopped, Step: c.rec.describe(c)}
	for i := range c.members {
		m.Members = append(m.Members, c.members[i].id)
	}
	return m
}
