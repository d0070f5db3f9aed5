package core

import "github.com/ocfuse/ocfuse/dlm/wire"

// moveLVB transfers the LVB between lock and resource on the master when l goes from grmode to rqmode. (Linux
// set_lvb_lock.) A lock that cannot take part (no buffer, no VALBLK) is not told of VALNOTVALID either.
func (c *Core) moveLVB(r *rsb, l *lkb) {
	switch lvbTable[l.grmode+1][l.rqmode+1] {
	case lvbRead:
		if l.lvb == nil || !l.has(wire.LKFValBlk) {
			return
		}
		if r.lvb == nil {
			// Nothing known; a remote owner gets zeros as well. The kernel returns here and so does not tell that a
			// first writer died before it had written.
			clear(l.lvb)
			break
		}
		copy(l.lvb, r.lvb)
		l.lvbseq = r.lvbseq
	case lvbWrite:
		if l.has(wire.LKFIVValBlk) {
			r.flags |= rfValNotValid
			l.lflags |= lfBadLVB
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
	l.noteLVB(lvbTable[l.grmode+1][l.rqmode+1])
}

// noteLVB remembers whether the buffer holds a value that may be trusted after recovery: rcom_lock cannot say that it
// does not.
func (l *lkb) noteLVB(op lvbOp) {
	switch {
	case l.sbflags&wire.SBFValNotValid != 0, op == lvbWrite && l.has(wire.LKFIVValBlk):
		l.lflags |= lfBadLVB
	case op != lvbNone:
		l.lflags &^= lfBadLVB
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

// keepInvalid: without a new value one that is known to be invalid must not be written, which would make it valid.
func (l *lkb) keepInvalid(v []byte) {
	if v == nil && l.is(lfBadLVB) {
		l.exflags &^= wire.LKFValBlk
	}
}

// takeLVB is the owner's side of a grant by a remote master: extra is the message's LVB. (Linux set_lvb_lock_pc.)
func (l *lkb) takeLVB(m *wire.Message) {
	if l.lvb == nil || !l.has(wire.LKFValBlk) {
		return
	}
	op := lvbTable[l.grmode+1][l.rqmode+1]
	noLVB := l.is(lfNoLVB)
	l.lflags &^= lfNoLVB
	if op == lvbRead && noLVB {
		l.sbflags |= wire.SBFValNotValid
	} else if op == lvbRead {
		copy(l.lvb, m.Extra)
		l.lvbseq = m.LVBSeq
	}
	l.noteLVB(op)
}

// recvLVB takes the LVB of an owner's message into the master copy. (Linux receive_lvb.)
func (c *Core) recvLVB(l *lkb, m *wire.Message) {
	if l.has(wire.LKFValBlk) {
		c.wantLVB(l)
		copy(l.lvb, m.Extra)
	}
}
