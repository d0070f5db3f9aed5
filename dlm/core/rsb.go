package core

import "github.com/ocfuse/ocfuse/dlm/wire"

// Flags of a rsb. (Linux RSB_*.)
const (
	rfUncertain     uint16 = 1 << iota // master comes from an inactive record; the next request finds out
	rfValNotValid                      // the LVB's content is lost
	rfNewMaster                        // our locks must be sent to the new master
	rfNewMaster2                       // remastered in this recovery: look for the LVB
	rfRecoverConv                      // a lock on the convert queue has no known granted mode
	rfRecoverGrant                     // grant what can be when locking is enabled again
	rfRecoverLVBInv                    // a node that held PW/EX with an LVB died
	rfUnclaimed                        // we are its directory, and the master on record did not name it in recovery
)

// rsb is one resource (Linux struct dlm_rsb). Active: it has lkbs attached or recovery holds it. Inactive: only a
// record of who the master is, for ourselves or as its directory node.
type rsb struct {
	hnext      *rsb // hash chain
	next, prev *rsb // Core.active, Core.inactive or Core.dirRecs

	granted, convert, waiting lkbList
	lookup                    lkbList // requests held until first is confirmed

	lvb       []byte
	tossTime  int64 // Core.now when it became inactive
	lvbseq    uint32
	hash      uint32
	master    int32  // 0 unknown; our own node id if we are master
	masterSeq uint32 // recover_seq when it was learned
	dir       int32  // directory node
	first     LockID // the lock whose request will tell the master, 0 none
	refs      int32  // lkbs attached, plus one while recovery's snapshot holds it
	unacked   int32  // LOCKs sent to the new master and not answered
	rootIdx   int32  // index in Core.root, -1 not in it
	list      *rsbList
	flags     uint16
	nameLen   uint8
	nameBuf   [wire.ResNameMax]byte
}

func (r *rsb) name() []byte     { return r.nameBuf[:r.nameLen] }
func (r *rsb) is(f uint16) bool { return r.flags&f != 0 }
func (r *rsb) active() bool     { return r.refs > 0 }
func (r *rsb) hasBlocked() bool { return !r.convert.empty() || !r.waiting.empty() }
func (r *rsb) isNamed(n []byte, hash uint32) bool {
	return r.hash == hash && int(r.nameLen) == len(n) && string(r.name()) == string(n)
}

// rsbList is an intrusive list of resources.
type rsbList struct{ head, tail *rsb }

func (q *rsbList) push(r *rsb) {
	r.prev, r.next, r.list = q.tail, nil, q
	if q.tail == nil {
		q.head = r
	} else {
		q.tail.next = r
	}
	q.tail = r
}

func (r *rsb) unlist() {
	q := r.list
	if q == nil {
		return
	}
	if r.prev == nil {
		q.head = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		q.tail = r.prev
	} else {
		r.next.prev = r.prev
	}
	r.next, r.prev, r.list = nil, nil, nil
}

// rsbTable finds resources by name: linear hashing, which grows by one bucket per insertion, so that no operation
// pays for a rehash of a million resources.
type rsbTable struct {
	buckets []*rsb
	mask    uint32 // of the current round
	split   uint32 // next bucket to split
	n       int
}

const rsbTableMin = 64

func (t *rsbTable) bucket(hash uint32) *(*rsb) {
	b := hash & t.mask
	if b < t.split {
		b = hash & (t.mask<<1 | 1)
	}
	return &t.buckets[b]
}

func (t *rsbTable) find(name []byte, hash uint32) *rsb {
	for r := *t.bucket(hash); r != nil; r = r.hnext {
		if r.isNamed(name, hash) {
			return r
		}
	}
	return nil
}

func (t *rsbTable) insert(r *rsb) {
	b := t.bucket(r.hash)
	r.hnext, *b = *b, r
	t.n++
	if t.n > len(t.buckets) {
		t.grow()
	}
}

// grow splits the bucket at split into itself and one at the end.
func (t *rsbTable) grow() {
	old := t.split
	t.buckets = append(t.buckets, nil)
	r := t.buckets[old]
	t.buckets[old] = nil
	if t.split++; t.split > t.mask {
		t.split, t.mask = 0, t.mask<<1|1
	}
	for r != nil {
		next := r.hnext
		b := t.bucket(r.hash)
		r.hnext, *b = *b, r
		r = next
	}
}

func (t *rsbTable) remove(r *rsb) {
	for p := t.bucket(r.hash); *p != nil; p = &(*p).hnext {
		if *p == r {
			*p = r.hnext
			r.hnext = nil
			t.n--
			return
		}
	}
}

// newRsb makes a resource with no lock yet. The caller puts it on a list.
func (c *Core) newRsb(name []byte, hash uint32) *rsb {
	r := c.rsbPool
	if r == nil {
		r = new(rsb)
	} else {
		c.rsbPool = r.next
		r.next = nil
	}
	r.nameLen = uint8(copy(r.nameBuf[:], name))
	r.hash = hash
	r.dir = c.dirNode(hash)
	r.rootIdx = -1
	c.table.insert(r)
	return r
}

// putRsb drops one reference; the last one makes the resource inactive. (Linux toss_rsb.) The LVB goes, the master
// stays known. VALNOTVALID stays as well, as in the kernel: a master says it until somebody writes the LVB.
func (c *Core) putRsb(r *rsb) {
	if r.refs--; r.refs > 0 {
		return
	}
	if r.lvb != nil {
		c.putLVB(r.lvb)
		r.lvb = nil
	}
	if r.master == 0 || r.is(rfUnclaimed) {
		c.freeRsb(r) // nothing worth remembering: the lookup was given up, or the master knows nothing of it
		return
	}
	r.first = 0
	r.flags &= rfValNotValid
	r.unlist()
	r.tossTime = c.now
	c.inactive.push(r)
}

// activate moves an inactive resource back. Its list position decides the order of recovery's snapshot.
func (c *Core) activate(r *rsb) {
	r.unlist()
	c.active.push(r)
}

func (c *Core) freeRsb(r *rsb) {
	r.unlist()
	c.table.remove(r)
	if r.lvb != nil {
		c.putLVB(r.lvb)
	}
	*r = rsb{next: c.rsbPool}
	c.rsbPool = r
}

// setRsbMaster records the master, and when that was: a node that departs and comes back within one recovery is another
// one.
func (c *Core) setRsbMaster(r *rsb, id int32) {
	r.master = id
	r.masterSeq = uint32(c.seq)
	r.flags &^= rfUnclaimed
}

func (c *Core) isMaster(r *rsb) bool { return r.master == c.cfg.NodeID }

// enqueue puts l on the queue of status st; HEADQUE goes to the front of convert and wait. (Linux add_lkb.)
func (c *Core) enqueue(r *rsb, l *lkb, st wire.LockStatus) {
	l.status = uint8(st)
	switch st {
	case wire.StatusGranted:
		r.granted.pushBack(l)
	case wire.StatusConvert:
		if l.has(wire.LKFHeadQue) {
			r.convert.pushFront(l)
		} else {
			r.convert.pushBack(l)
		}
	case wire.StatusWaiting:
		if l.has(wire.LKFHeadQue) {
			r.waiting.pushFront(l)
		} else {
			r.waiting.pushBack(l)
		}
	}
}

// dequeue takes l off whatever queue it is on. (Linux del_lkb.)
func (c *Core) dequeue(r *rsb, l *lkb) {
	switch l.queue() {
	case wire.StatusGranted:
		r.granted.remove(l)
	case wire.StatusConvert:
		r.convert.remove(l)
	case wire.StatusWaiting:
		r.waiting.remove(l)
	}
	l.status = 0
}

func (c *Core) requeue(r *rsb, l *lkb, st wire.LockStatus) {
	c.dequeue(r, l)
	c.enqueue(r, l, st)
}
