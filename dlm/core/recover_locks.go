package core

import (
	"fmt"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Finding new masters for what departed nodes mastered, and moving our locks there. (Linux fs/dlm/recover.c
// dlm_recover_masters, dlm_recover_locks, dlm_recover_rsbs; lock.c dlm_recover_purge, dlm_recover_master_copy,
// dlm_recover_process_copy.)

// startMasters drops the departed nodes' locks and sends all LOOKUPs. Without departed nodes nothing moves.
func (c *Core) startMasters() {
	if !c.rec.neg {
		return
	}
	for _, r := range c.rec.root {
		if c.isMaster(r) {
			c.purgeDead(r)
		}
	}
	for _, r := range c.rec.root {
		c.recoverMaster(r)
	}
}

// purgeDead removes master copies of departed nodes from a resource of ours.
func (c *Core) purgeDead(r *rsb) {
	purged := false
	for _, q := range [...]*lkbList{&r.granted, &r.convert, &r.waiting} {
		for l := q.head; l != nil; {
			next := l.next
			if l.masterCopy() && c.isRemoved(l.nodeid, l.seq) {
				if l.has(wire.LKFValBlk) && l.grmode >= wire.PW {
					r.flags |= rfRecoverLVBInv
				}
				c.dequeue(r, l)
				c.freeLkb(l) // r stays: the snapshot holds it
				purged = true
			}
			l = next
		}
	}
	if purged {
		r.flags |= rfRecoverGrant
	}
}

// recoverMaster finds the new master of a resource whose master departed, or that was flagged because its directory
// entry, which is ours, changed. (Linux recover_master.)
func (c *Core) recoverMaster(r *rsb) {
	if c.isMaster(r) {
		return
	}
	removed := r.master != 0 && c.isRemoved(r.master, r.masterSeq)
	if r.is(rfUnclaimed) && r.is(rfNewMaster) {
		removed = true // our locks never got there
	}
	if !removed && !r.is(rfNewMaster) {
		return
	}
	if r.dir == c.cfg.NodeID {
		if removed {
			c.setRsbMaster(r, c.cfg.NodeID)
		}
		c.setNewMaster(r)
		return
	}
	c.rec.lookups = append(c.rec.lookups, r)
	c.rec.lookupsOut++
	m := c.fillRcom(wire.RcomLookup)
	m.ID = uint64(len(c.rec.lookups))
	m.Buf = r.name()
	c.sendRcom(r.dir, m)
}

// setNewMaster points our locks to the new master. (Linux set_new_master, set_master_lkbs.)
func (c *Core) setNewMaster(r *rsb) {
	nodeid := c.nodeidOf(r)
	for _, q := range [...]*lkbList{&r.granted, &r.convert, &r.waiting} {
		for l := q.head; l != nil; l = l.next {
			if l.masterCopy() {
				continue
			}
			l.nodeid, l.remid, l.moot = nodeid, 0, 0
			if l.queue() == wire.StatusConvert {
				l.assumeDemoted()
				l.enterLimbo()
			}
			if l.is(lfLimbo) {
				r.flags |= rfRecoverConv
			}
		}
	}
	r.flags |= rfNewMaster | rfNewMaster2
}

// enterLimbo: the dead master may have granted a middle conversion without the owner knowing, whether its reply or a
// GRANT is what was lost. (Linux cares for the former only.)
func (l *lkb) enterLimbo() {
	if middle(l.grmode, l.rqmode) {
		l.limboMode = l.grmode
		l.grmode = wire.IV
		l.lflags |= lfLimbo
	}
}

// assumeDemoted: the dead master may have demoted a conversion with CONVDEADLK and granted others what that allowed. The
// owner would have learned of it with the grant only.
func (l *lkb) assumeDemoted() {
	if l.has(wire.LKFConvDeadlk) && l.grmode > wire.NL && !l.is(lfLimbo) {
		l.grmode = wire.NL
		l.sbflags |= wire.SBFDemoted
		l.lflags |= lfDemoted
	}
}

// recvRecoverLookup answers with the new master, as the directory node. A refusal cannot be expressed: Linux would take
// it for a node id.
func (c *Core) recvRecoverLookup(from int32, in *wire.Rcom) error {
	switch {
	case in.ID == 0xFFFFFFFF:
		return nil // a request to dump the resource to the log
	case len(in.Buf) == 0 || len(in.Buf) > wire.ResNameMax:
		return c.ignoredRcom(from, in, fmt.Sprintf("name of %d bytes", len(in.Buf)))
	}
	master, ok := c.masterLookup(from, in.Buf, lookupRecoverMaster)
	if !ok || master <= 0 {
		return c.ignoredRcom(from, in, "this is not the directory node of the name")
	}
	m := c.fillRcom(wire.RcomLookupReply)
	m.Result, m.ID, m.SeqReply = master, in.ID, in.Seq
	c.sendRcom(from, m)
	return nil
}

func (c *Core) recvRecoverLookupReply(from int32, m *wire.Rcom) error {
	rc := &c.rec
	i := m.ID - 1
	switch {
	case !rc.running || rc.step != stepMasters || i >= uint64(len(rc.lookups)) || rc.lookups[i] == nil || rc.lookups[i].dir != from:
		return c.ignoredRcom(from, m, "not an answer awaited")
	case !c.isMember(m.Result):
		return c.ignoredRcom(from, m, fmt.Sprintf("the new master %d is not a member", m.Result))
	}
	r := rc.lookups[i]
	rc.lookups[i] = nil
	rc.lookupsOut--
	c.setRsbMaster(r, m.Result)
	c.setNewMaster(r)
	c.runRecovery()
	return nil
}

// runMasters ends the step when all LOOKUPs are answered, and sends the locks.
func (c *Core) runMasters() bool {
	rc := &c.rec
	if rc.lookupsOut > 0 {
		return false
	}
	rc.lookups = rc.lookups[:0]
	if rc.neg {
		for _, r := range rc.root {
			switch {
			case c.isMaster(r):
				r.flags &^= rfNewMaster
			case r.is(rfNewMaster):
				c.sendLocks(r)
			}
		}
	}
	c.enter(stepLocks)
	return true
}

// sendLocks sends our queued locks to the new master. Those on no queue have no answer yet and are requested again
// after recovery. (Linux recover_locks.)
func (c *Core) sendLocks(r *rsb) {
	queues := []*lkbList{&r.granted, &r.convert, &r.waiting}
	if c.cfg.Fault == FaultLoseRequest {
		queues = queues[:2]
	}
	for _, q := range queues {
		for l := q.head; l != nil; l = l.next {
			if !l.masterCopy() {
				c.sendLock(r, l)
				r.unacked++
			}
		}
	}
	if r.unacked > 0 {
		c.rec.locksOut++
	} else {
		r.flags &^= rfNewMaster
	}
}

// sendLock: Linux dlm_send_rcom_lock, pack_rcom_lock. A middle conversion whose master died goes with its old granted
// mode and as a conversion in flight, so that the new master knows that the mode is uncertain.
func (c *Core) sendLock(r *rsb, l *lkb) {
	b := wire.RcomLockBuf{
		OwnPid:   l.pid,
		LkID:     uint32(l.id),
		ExFlags:  l.exflags,
		Flags:    wire.IFL(l.flags),
		LVBSeq:   l.lvbseq,
		RqMode:   l.rqmode,
		GrMode:   l.grmode,
		Status:   l.queue(),
		Asts:     wire.Asts(l.asts),
		WaitType: wire.MsgType(l.waitType),
		Name:     r.name(),
	}
	if l.is(lfLimbo) {
		b.GrMode, b.WaitType = l.limboMode, wire.MsgConvert
	}
	if l.is(lfBadLVB) && l.has(wire.LKFValBlk) && max(l.grmode, l.limboMode) > wire.CR {
		b.ExFlags &^= wire.LKFValBlk // our value is known to be invalid; the new master must not take it for the truth
		if l.queue() != wire.StatusGranted {
			l.lflags |= lfNoLVB
		}
	}
	if l.lvb != nil {
		b.LVB = c.zeroLVB
		if b.ExFlags&wire.LKFValBlk != 0 {
			b.LVB = l.lvb
		}
	}
	m := c.fillRcom(wire.RcomLock)
	m.ID = uint64(l.id)
	c.rbuf = b.Append(c.rbuf[:0])
	m.Buf = c.rbuf
	c.sendRcom(r.master, m)
}

// recvLock takes over a lock of node from. Exactly one reply goes out for each LOCK: a surplus one would crash Linux.
// (Linux dlm_recover_master_copy.)
func (c *Core) recvLock(from int32, in *wire.Rcom) error {
	var b wire.RcomLockBuf
	if err := b.Decode(in.Buf); err != nil {
		return fmt.Errorf("%w: %w", ErrIgnored, err)
	}
	b.Result = c.takeLock(from, &b)
	if b.Result == wire.ResultInval || b.Result == wire.ResultOpNotSupp {
		b = wire.RcomLockBuf{LkID: b.LkID, Name: b.Name, Result: b.Result, Status: wire.StatusGranted} // echo no nonsense
	}
	b.LVB = nil
	m := c.fillRcom(wire.RcomLockReply)
	m.ID, m.SeqReply = in.ID, in.Seq
	c.rbuf = b.Append(c.rbuf[:0])
	m.Buf = c.rbuf
	c.sendRcom(from, m)
	if b.Result == wire.ResultInval {
		return c.ignoredRcom(from, in, "the lock's status or modes are invalid")
	}
	return nil
}

// takeLock makes the master copy and sets b.RemID.
func (c *Core) takeLock(from int32, b *wire.RcomLockBuf) wire.Result {
	switch {
	case b.ParentLkID != 0:
		return wire.ResultOpNotSupp
	case len(b.Name) == 0, b.Status < wire.StatusWaiting || b.Status > wire.StatusConvert,
		b.GrMode < wire.IV || b.GrMode > wire.EX, b.RqMode < wire.IV || b.RqMode > wire.EX,
		b.Status != wire.StatusGranted && b.RqMode == wire.IV,
		b.Status == wire.StatusGranted && b.GrMode == wire.IV, b.Status == wire.StatusWaiting && b.GrMode != wire.IV,
		b.ExFlags&wire.LKFValBlk != 0 && len(b.LVB) > c.cfg.LVBLen:
		return wire.ResultInval
	}
	r := c.table.find(b.Name, wire.ResourceHash(b.Name))
	if r == nil {
		return wire.ResultBadR // we have not got there yet; the owner sends it again
	}
	if l := r.findCopy(from, b.LkID); l != nil {
		b.RemID = uint32(l.id)
		return wire.ResultExist
	}
	if !r.active() {
		c.activate(r)
	}
	l := c.newLkb(r)
	if l == nil {
		return wire.ResultNoMem
	}
	c.fillRecovered(r, l, from, b)
	b.RemID = uint32(l.id)
	if r.hasBlocked() {
		r.flags |= rfRecoverGrant
	}
	return wire.ResultOK
}

// fillRecovered: Linux receive_rcom_lock_args.
func (c *Core) fillRecovered(r *rsb, l *lkb, from int32, b *wire.RcomLockBuf) {
	l.lflags, l.seq = lfMaster, uint32(c.seq)
	l.nodeid, l.remid, l.pid = from, b.LkID, b.OwnPid
	l.exflags, l.lvbseq = b.ExFlags, b.LVBSeq
	l.flags = uint16(b.Flags & wire.IFLMask)
	l.grmode, l.rqmode = b.GrMode, b.RqMode
	l.asts = uint8(b.Asts)
	if l.has(wire.LKFValBlk) {
		c.wantLVB(l)
		copy(l.lvb, b.LVB)
	}
	status := b.Status
	uncertain := b.WaitType == wire.MsgConvert && middle(l.grmode, l.rqmode)
	if uncertain || status == wire.StatusConvert && l.grmode == wire.IV {
		// Linux 6.1 owners send IV for a conversion that they themselves found uncertain.
		status = wire.StatusConvert
		l.grmode = wire.IV
		r.flags |= rfRecoverConv
	}
	if status == wire.StatusGranted {
		r.granted.pushBack(l)
	} else if status == wire.StatusConvert {
		r.convert.pushBack(l) // the owner's order, HEADQUE or not
	} else {
		r.waiting.pushBack(l)
	}
	l.status = uint8(status)
}

// findCopy finds the master copy of node's lock remid. (Linux search_remid.)
func (r *rsb) findCopy(node int32, remid uint32) *lkb {
	for _, q := range [...]*lkbList{&r.granted, &r.convert, &r.waiting} {
		for l := q.head; l != nil; l = l.next {
			if l.masterCopy() && l.nodeid == node && l.remid == remid {
				return l
			}
		}
	}
	return nil
}

func (c *Core) recvLockReply(from int32, m *wire.Rcom) error {
	var b wire.RcomLockBuf
	if err := b.Decode(m.Buf); err != nil {
		return fmt.Errorf("%w: %w", ErrIgnored, err)
	}
	l := c.ids.get(LockID(b.LkID))
	if l == nil || l.masterCopy() || l.nodeid != from || l.res.unacked == 0 || !c.rec.running {
		return c.ignoredRcom(from, m, "no lock waits for it")
	}
	r := l.res
	switch b.Result {
	case wire.ResultBadR:
		c.sendLock(r, l)
		return nil
	case wire.ResultOK, wire.ResultExist:
		l.remid = b.RemID
	}
	r.unacked--
	if r.unacked == 0 {
		r.flags &^= rfNewMaster
		c.rec.locksOut--
		c.runRecovery()
	}
	if b.Result != wire.ResultOK && b.Result != wire.ResultExist {
		return c.ignoredRcom(from, m, "the new master refused the lock: "+b.Result.String())
	}
	return nil
}

// finaliseResources: all locks are where they belong; settle uncertain modes and the LVB. (Linux dlm_recover_rsbs.)
func (c *Core) finaliseResources() {
	for _, r := range c.rec.root {
		if c.isMaster(r) {
			if r.is(rfRecoverConv) {
				c.recoverConversions(r)
			}
			c.recoverLVB(r)
			if r.is(rfNewMaster2) && r.hasBlocked() {
				r.flags |= rfRecoverGrant
			}
		} else {
			r.flags &^= rfValNotValid
		}
		r.flags &^= rfRecoverConv | rfRecoverLVBInv | rfNewMaster2
	}
}

// recoverConversions: a PR<->CW conversion in flight was granted if another lock is granted in the new mode, and was
// not if another is granted in the old one; without others the difference does not matter. (Linux recover_conversion.)
func (c *Core) recoverConversions(r *rsb) {
	mode := wire.IV
	for _, q := range [...]*lkbList{&r.granted, &r.convert} { // Linux looks at the granted queue only
		for l := q.head; l != nil && mode == wire.IV; l = l.next {
			if l.grmode == wire.PR || l.grmode == wire.CW {
				mode = l.grmode
			}
		}
	}
	for l := r.convert.head; l != nil; l = l.next {
		if l.grmode != wire.IV {
			continue
		}
		l.lflags &^= lfLimbo
		l.grmode = mode
		if mode == wire.IV {
			l.grmode = l.rqmode
		}
	}
}

// recoverLVB decides the LVB's fate. (Linux recover_lvb.) Kept master: invalid if a holder of PW/EX departed. New
// master: the value of a lock granted above CR is the truth; failing that the newest value seen, marked invalid.
func (c *Core) recoverLVB(r *rsb) {
	if c.cfg.Fault == FaultKeepLVB {
		r.flags &^= rfRecoverLVBInv
	}
	if !r.is(rfNewMaster2) {
		if r.is(rfRecoverLVBInv) {
			r.flags |= rfValNotValid
		}
		return
	}
	var big, newest *lkb
	exists := false
	high := uint32(0)
scan:
	for _, q := range [...]*lkbList{&r.granted, &r.convert} {
		for l := q.head; l != nil; l = l.next {
			if !l.has(wire.LKFValBlk) || l.lvb == nil {
				continue
			}
			exists = true
			if l.is(lfBadLVB) {
				continue
			}
			if l.grmode > wire.CR {
				big = l
				break scan
			}
			if int32(l.lvbseq-high) >= 0 {
				newest, high = l, l.lvbseq
			}
		}
	}
	if !exists {
		return
	}
	if r.lvb == nil {
		r.lvb = c.getLVB()
	}
	from := big
	if big == nil {
		if c.cfg.Fault != FaultKeepLVB {
			r.flags |= rfValNotValid
		}
		from = newest
	}
	r.lvbseq = 0
	clear(r.lvb)
	if from != nil {
		r.lvbseq = from.lvbseq
		copy(r.lvb, from.lvb)
	}
}

// grantAfterRecovery grants on flagged resources. (Linux dlm_recover_grant.)
func (c *Core) grantAfterRecovery() {
	for r := c.active.head; r != nil; {
		next := r.next
		if r.is(rfRecoverGrant) {
			if c.isMaster(r) {
				c.grantPending(r)
				c.confirmMaster(r, true)
			}
			r.flags &^= rfRecoverGrant
		}
		r = next
	}
}
