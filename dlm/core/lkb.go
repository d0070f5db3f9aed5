package core

import "github.com/ocfuse/ocfuse/dlm/wire"

// LockID names a lock on its own node. It is the lkid of the wire. 0 names nothing; an id is not used again soon after
// its lock is gone.
type LockID uint32

// Private flags of a lkb; none of them crosses the wire. (Linux DLM_IFL_*, upper half.)
const (
	lfMaster        uint16 = 1 << iota // master copy: our record of a remote owner's lock
	lfResend                           // redo the operation after recovery
	lfOverlapUnlock                    // force-unlock issued while another operation is in flight
	lfOverlapCancel                    // cancel issued while another operation is in flight
	lfOnLookup                         // on rsb.lookup, waiting until the resource's first request is confirmed
	lfOnWaiters                        // on Core.waiters
	lfDead                             // completed; only outstanding replies keep the record
	lfDeferred                         // has an entry in Core.deferred
	lfOrphan                           // its process is gone, see orphan.go
	lfLimbo                            // middle conversion whose master died: granted mode is in limboMode
	lfBadLVB                           // the buffer's value was marked invalid when we last read it
	lfNoLVB                            // the new master was told nothing of our LVB: it will send none with the grant
	lfDemoted                          // recovery had to assume that CONVDEADLK demoted the lock
)

const lfOverlap = lfOverlapUnlock | lfOverlapCancel

// lkb is one lock (Linux struct dlm_lkb): a local copy (nodeid 0), a process copy (nodeid = master, or -1 while it is
// unknown) or a master copy (lfMaster; nodeid = owner).
type lkb struct {
	next, prev   *lkb // queue of res by status, or res.lookup, or the pool
	wnext, wprev *lkb // Core.waiters
	res          *rsb
	data         any
	lvb          []byte // lock value block buffer, nil or Config.LVBLen bytes

	id       LockID
	remid    uint32 // id of the same lock on the other node
	nodeid   int32
	pid      uint32
	exflags  wire.LKF
	sbflags  wire.SBF
	lvbseq   uint32
	seq      uint32 // master copy: recover_seq when it was made
	waitSeq  uint32 // recover_seq when the operation was sent
	waitNode int32  // node that owes the reply

	grmode    wire.Mode
	rqmode    wire.Mode
	highbast  wire.Mode // highest mode a BAST was sent for since the last grant
	castMode  wire.Mode // granted mode at the last completion callback
	limboMode wire.Mode

	lflags    uint16
	flags     uint16 // low 16 bits of m_flags
	status    uint8  // wire.LockStatus
	waitType  uint8  // wire.MsgType of the operation in flight, 0 none
	waitCount uint8  // replies outstanding
	moot      uint8  // CANCEL_REPLYs to come for cancels that a granted conversion made pointless
	asts      uint8  // wire.Asts
}

func (l *lkb) is(f uint16) bool    { return l.lflags&f != 0 }
func (l *lkb) masterCopy() bool    { return l.lflags&lfMaster != 0 }
func (l *lkb) has(f wire.LKF) bool { return l.exflags&f != 0 }
func (l *lkb) wantsBast() bool     { return l.asts&uint8(wire.AstBlocking) != 0 }
func (l *lkb) canQueue() bool      { return l.exflags&wire.LKFNoQueue == 0 }
func (l *lkb) queue() wire.LockStatus {
	return wire.LockStatus(l.status)
}

// lkbList is an intrusive list through next/prev.
type lkbList struct{ head, tail *lkb }

func (q *lkbList) empty() bool { return q.head == nil }

func (q *lkbList) pushBack(l *lkb) {
	l.prev, l.next = q.tail, nil
	if q.tail == nil {
		q.head = l
	} else {
		q.tail.next = l
	}
	q.tail = l
}

func (q *lkbList) pushFront(l *lkb) {
	l.prev, l.next = nil, q.head
	if q.head == nil {
		q.tail = l
	} else {
		q.head.prev = l
	}
	q.head = l
}

func (q *lkbList) remove(l *lkb) {
	if l.prev == nil {
		q.head = l.next
	} else {
		l.prev.next = l.next
	}
	if l.next == nil {
		q.tail = l.prev
	} else {
		l.next.prev = l.prev
	}
	l.next, l.prev = nil, nil
}

// waitList is the list of locks that wait for a reply, through wnext/wprev, in the order the operations were sent.
type waitList struct{ head, tail *lkb }

func (q *waitList) push(l *lkb) {
	l.wprev, l.wnext = q.tail, nil
	if q.tail == nil {
		q.head = l
	} else {
		q.tail.wnext = l
	}
	q.tail = l
}

func (q *waitList) remove(l *lkb) {
	if l.wprev == nil {
		q.head = l.wnext
	} else {
		l.wprev.wnext = l.wnext
	}
	if l.wnext == nil {
		q.tail = l.wprev
	} else {
		l.wnext.wprev = l.wprev
	}
	l.wnext, l.wprev = nil, nil
}

// Lock ids: the lower bits are the index into idTable.slots, the upper ones count the uses of that index, so that a
// handle or a late message of an earlier lock does not find its successor.
const (
	idIndexBits = 24
	idIndexMask = 1<<idIndexBits - 1
)

type idSlot struct {
	l    *lkb
	free uint32 // next free index
	gen  uint8
}

type idTable struct {
	slots []idSlot // slots[0] is never used
	free  uint32   // first free index, 0 none
	n     int
}

// add gives l an id; false if all 2^24 are in use.
func (t *idTable) add(l *lkb) bool {
	i := t.free
	if i != 0 {
		t.free = t.slots[i].free
	} else {
		if len(t.slots) == 0 {
			t.slots = append(t.slots, idSlot{})
		}
		if len(t.slots) > idIndexMask {
			return false
		}
		i = uint32(len(t.slots))
		t.slots = append(t.slots, idSlot{})
	}
	s := &t.slots[i]
	s.l = l
	l.id = LockID(i | uint32(s.gen)<<idIndexBits)
	t.n++
	return true
}

func (t *idTable) get(id LockID) *lkb {
	i := uint32(id) & idIndexMask
	if i >= uint32(len(t.slots)) {
		return nil
	}
	if l := t.slots[i].l; l != nil && l.id == id {
		return l
	}
	return nil
}

func (t *idTable) del(id LockID) {
	i := uint32(id) & idIndexMask
	s := &t.slots[i]
	s.l = nil
	s.gen++
	s.free = t.free
	t.free = i
	t.n--
}

// newLkb takes a lkb from the pool and attaches it to r.
func (c *Core) newLkb(r *rsb) *lkb {
	l := c.lkbPool
	if l == nil {
		l = new(lkb)
	} else {
		c.lkbPool = l.next
		l.next = nil
	}
	l.grmode, l.rqmode, l.castMode, l.limboMode = wire.IV, wire.IV, wire.IV, wire.IV
	if !c.ids.add(l) {
		l.next, c.lkbPool = c.lkbPool, l
		return nil
	}
	if r != nil {
		c.attach(r, l)
	}
	return l
}

func (c *Core) attach(r *rsb, l *lkb) {
	l.res = r
	r.refs++
}

// finish ends a lock that is on no queue any more: at once, or, when replies are still to come, as soon as they came.
func (c *Core) finish(l *lkb) {
	if l.waitCount > 0 {
		l.lflags |= lfDead
		return
	}
	c.freeLkb(l)
}

func (c *Core) freeLkb(l *lkb) {
	if l.is(lfDeferred) {
		c.dropDeferred(l)
	}
	c.ids.del(l.id)
	r := l.res
	if l.lvb != nil {
		c.putLVB(l.lvb)
	}
	*l = lkb{next: c.lkbPool}
	c.lkbPool = l
	if r != nil {
		c.putRsb(r)
	}
}

// getLVB returns a zeroed buffer of LVBLen bytes.
func (c *Core) getLVB() []byte {
	n := len(c.lvbPool)
	if n == 0 {
		return make([]byte, c.cfg.LVBLen)
	}
	b := c.lvbPool[n-1]
	c.lvbPool = c.lvbPool[:n-1]
	clear(b)
	return b
}

func (c *Core) putLVB(b []byte) { c.lvbPool = append(c.lvbPool, b) }

// wantLVB gives the lock a buffer if the lockspace has LVBs at all.
func (c *Core) wantLVB(l *lkb) {
	if l.lvb == nil && c.cfg.LVBLen > 0 {
		l.lvb = c.getLVB()
	}
}
