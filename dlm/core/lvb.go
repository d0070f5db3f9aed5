package core

import "github.com/ocfuse/ocfuse/dlm/wire"

// moveLVB transfers the LVB between lock and resource on the master when l goes from grmode to rqmode. (Linux
// set_lvb_lock.) A lock that cannot take part (no buffer, no VALBLK) is not told of VALNOTVALID either.
func (c *Core) moveLVB(r *rsb, l *lkb) {
	switch lvbTable[l.grmode+1][l.rqmode+1] {
	case lvbRead:
		if l.lvb == nil || !l.has(wire.LKFValBlk) || r.lvb == nil {
			return
		}
		copy(l.lvb, r.lvb)
		l.lvbseq = r.lvbseq
	case lvbWrite:
		if l.has(wire.LKFIVValBlk) {
			r.flags |= rfValNotValid
			return
		}
		if l.lvb == nil || !l.has(wire.LKFValBlk) {
			return
		}
		c.storeLVB(r, l)
		l.lvbseq = r.lvbseq
	}
	if r.is(rfValNotValid) {
		l.sbflags |= wire.SBFValNotValid
	}
}

func (c *Core) storeLVB(r *rsb, l *lkb) {
	if r.lvb == nil {
		r.lvb = c.getLVB()
	}
	copy(r.lvb, l.lvb)
	r.lvbseq++
	r.flags &^= rfValNotValid
}

// unlockLVB is the LVB's part of an unlock on the master. (Linux set_lvb_unlock.)
func (c *Core) unlockLVB(r *rsb, l *lkb) {
	switch {
	case l.grmode < wire.PW:
	case l.has(wire.LKFIVValBlk):
		r.flags |= rfValNotValid
	case l.lvb != nil && l.has(wire.LKFValBlk):
		c.storeLVB(r, l)
	}
}

// setLVB puts the caller's value into the lock's buffer; nil keeps what is there.
func (l *lkb) setLVB(v []byte) {
	if v != nil && l.lvb != nil {
		clear(l.lvb[copy(l.lvb, v):])
	}
}

// takeLVB is the owner's side of a grant by a remote master: extra is the message's LVB. (Linux set_lvb_lock_pc.)
func (l *lkb) takeLVB(m *wire.Message) {
	if l.lvb == nil || !l.has(wire.LKFValBlk) {
		return
	}
	if lvbTable[l.grmode+1][l.rqmode+1] == lvbRead {
		copy(l.lvb, m.Extra)
		l.lvbseq = m.LVBSeq
	}
}

// recvLVB takes the LVB of an owner's message into the master copy. (Linux receive_lvb.)
func (c *Core) recvLVB(l *lkb, m *wire.Message) {
	if l.has(wire.LKFValBlk) {
		c.wantLVB(l)
		copy(l.lvb, m.Extra)
	}
}
