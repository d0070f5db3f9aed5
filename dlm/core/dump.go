package core

import (
	"errors"
	"fmt"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// ResourceInfo is one resource for a `locks` display. Slices alias scratch memory and the core: valid during the call.
type ResourceInfo struct {
	Name        []byte
	Hash        uint32
	Master      int32 // 0 unknown
	Dir         int32
	Active      bool // false: only a record of the master
	LVB         []byte
	LVBSeq      uint32
	LVBInvalid  bool
	Locks       []LockInfo // granted, convert, waiting in queue order, then those on no queue yet
	HeldLookups int        // of the latter, how many wait for another lock's lookup
}

// LockInfo is one lock of a ResourceInfo.
type LockInfo struct {
	ID       LockID
	RemoteID uint32
	Node     int32 // owner, 0 us
	Pid      uint32
	Status   wire.LockStatus // 0: request not answered yet
	Granted  wire.Mode
	Wanted   wire.Mode
	Blocking wire.Mode // highest mode its owner was asked to give way to, NL none
	Flags    wire.LKF
	WaitType wire.MsgType // operation in flight, 0 none
	WaitNode int32
	Data     any // own locks: LockReq.Data
	LVB      []byte
	LVBSeq   uint32
	// Uncertain: a PR<->CW conversion whose master died; Granted is unknown until the new master says.
	Uncertain bool
}

func (l *lkb) info() LockInfo {
	li := LockInfo{ID: l.id, RemoteID: l.remid, Pid: l.pid, Status: l.queue(), Granted: l.grmode, Wanted: l.rqmode,
		Blocking: l.highbast, Flags: l.exflags, WaitType: wire.MsgType(l.waitType), WaitNode: l.waitNode, Data: l.data,
		LVB: l.lvb, LVBSeq: l.lvbseq, Uncertain: l.is(lfLimbo)}
	if l.masterCopy() {
		li.Node = l.nodeid
	}
	return li
}

// Resources calls f for each resource: active ones in the order of their activation, then, if all is set, the inactive
// ones. f returns false to stop and must not call the core.
func (c *Core) Resources(all bool, f func(*ResourceInfo) bool) {
	var info ResourceInfo
	// Locks on no queue are found through the id table only.
	loose := map[*rsb][]*lkb{}
	for i := range c.ids.slots {
		if l := c.ids.slots[i].l; l != nil && l.res != nil && l.status == 0 {
			loose[l.res] = append(loose[l.res], l)
		}
	}
	lists := []*rsbList{&c.active, &c.inactive, &c.dirRecs}
	if !all {
		lists = lists[:1]
	}
	for _, q := range lists {
		for r := q.head; r != nil; r = r.next {
			c.describeRsb(&info, r, loose[r])
			if !f(&info) {
				return
			}
		}
	}
}

func (c *Core) describeRsb(info *ResourceInfo, r *rsb, loose []*lkb) {
	*info = ResourceInfo{Name: r.name(), Hash: r.hash, Master: r.master, Dir: r.dir, Active: r.active(), LVB: r.lvb,
		LVBSeq: r.lvbseq, LVBInvalid: r.is(rfValNotValid), Locks: info.Locks[:0]}
	for _, q := range [...]*lkbList{&r.granted, &r.convert, &r.waiting} {
		for l := q.head; l != nil; l = l.next {
			info.Locks = append(info.Locks, l.info())
		}
	}
	for _, l := range loose {
		info.Locks = append(info.Locks, l.info())
		if l.is(lfOnLookup) {
			info.HeldLookups++
		}
	}
}

// LockInfo returns one lock by its id on this node; ok is false if there is none.
func (c *Core) LockInfo(id LockID) (li LockInfo, ok bool) {
	l := c.ids.get(id)
	if l == nil || l.is(lfDead) {
		return li, false
	}
	return l.info(), true
}

// Counts returns how many locks (all kinds) and resources (inactive ones included) exist.
func (c *Core) Counts() (locks, resources int) { return c.ids.n, c.table.n }

// Pending returns how many of our locks wait for a reply and how many operations wait for recovery to end.
func (c *Core) Pending() (waiting, deferred int) {
	for l := c.waiters.head; l != nil; l = l.wnext {
		waiting++
	}
	for i := range c.deferred {
		if c.deferred[i].kind != opNone {
			deferred++
		}
	}
	return waiting, deferred
}

// CheckInvariants looks for damage in the core's own structures; for tests and simulators. It is slow.
func (c *Core) CheckInvariants() error {
	refs := map[*rsb]int32{}
	for i := range c.ids.slots {
		l := c.ids.slots[i].l
		if l == nil {
			continue
		}
		if l.res != nil {
			refs[l.res]++
		}
		if err := c.checkLkb(l); err != nil {
			return err
		}
	}
	n := 0
	for _, q := range []*rsbList{&c.active, &c.inactive, &c.dirRecs} {
		for r := q.head; r != nil; r = r.next {
			n++
			want := refs[r]
			if r.rootIdx >= 0 {
				want++
			}
			if r.refs != want || r.list != q || (q == &c.active) != (r.refs > 0) {
				return fmt.Errorf("rsb %q: %d references, %d counted, on the active list %v", r.name(), r.refs, want, q == &c.active)
			}
			if err := c.checkGrants(r); err != nil {
				return err
			}
		}
	}
	if n != c.table.n {
		return fmt.Errorf("%d resources on lists, %d in the table", n, c.table.n)
	}
	return nil
}

func (c *Core) checkLkb(l *lkb) error {
	switch {
	case (l.waitCount > 0) != l.is(lfOnWaiters):
		return fmt.Errorf("lkb %#x: %d replies outstanding, on the waiters list %v", uint32(l.id), l.waitCount, l.is(lfOnWaiters))
	case l.status != 0 && l.queue() != wire.StatusGranted && l.rqmode == wire.IV:
		return fmt.Errorf("lkb %#x on queue %v requests nothing", uint32(l.id), l.queue())
	case l.queue() == wire.StatusGranted && l.grmode == wire.IV:
		return fmt.Errorf("lkb %#x on the granted queue has no mode", uint32(l.id))
	case l.is(lfDead) && l.status != 0:
		return fmt.Errorf("lkb %#x is dead and on queue %v", uint32(l.id), l.queue())
	}
	return nil
}

var errGrants = errors.New("both granted")

// checkGrants: the master never has two incompatible locks granted.
func (c *Core) checkGrants(r *rsb) error {
	if !c.isMaster(r) {
		return nil
	}
	var held [2]*lkbList
	held[0], held[1] = &r.granted, &r.convert
	for _, q := range held {
		for a := q.head; a != nil; a = a.next {
			for _, p := range held {
				for b := p.head; b != nil; b = b.next {
					if a != b && !compatTable[a.grmode+1][b.grmode+1] {
						return fmt.Errorf("rsb %q: lkb %#x in %v and lkb %#x in %v: %w", r.name(), uint32(a.id), a.grmode,
							uint32(b.id), b.grmode, errGrants)
					}
				}
			}
		}
	}
	return nil
}
