package core

import "github.com/ocfuse/ocfuse/dlm/wire"

// Locks of ours that wait for a reply. One operation is in flight per lock; a cancel or force-unlock may overlap it.
// (Linux fs/dlm/lock.c add_to_waiters, _remove_from_waiters.)

// addWaiter notes that l waits for the reply to mtype from node.
func (c *Core) addWaiter(l *lkb, mtype wire.MsgType, node int32) {
	if l.waitType != 0 || l.is(lfOverlapCancel) {
		if mtype == wire.MsgUnlock {
			l.lflags |= lfOverlapUnlock
		} else {
			l.lflags |= lfOverlapCancel
		}
		l.waitCount++
		return
	}
	l.waitType = uint8(mtype)
	l.waitNode, l.waitSeq = node, uint32(c.seq)
	l.waitCount++
	if !l.is(lfOnWaiters) {
		l.lflags |= lfOnWaiters
		c.waiters.push(l)
	}
}

// removeWaiter takes note of a reply of type mtype with result res; false means that it answers nothing and must be
// ignored.
func (c *Core) removeWaiter(l *lkb, mtype wire.MsgType, res wire.Result) bool {
	overlapDone := false
	// While a request is in flight, or an operation waits to be repeated, an overlap is only noted: nothing was sent.
	noted := l.waitType == uint8(wire.MsgRequest) || l.waitType == uint8(wire.MsgLookup) || l.is(lfResend)
	switch {
	case noted && (mtype == wire.MsgUnlockReply || mtype == wire.MsgCancelReply):
		return false
	case mtype == wire.MsgUnlockReply && l.is(lfOverlapUnlock):
		l.lflags &^= lfOverlapUnlock
		overlapDone = true
	case mtype == wire.MsgCancelReply && l.moot > 0:
		// The conversion was granted before the cancel came; we stopped waiting for this reply then.
		l.moot--
		return false
	case mtype == wire.MsgCancelReply && l.is(lfOverlapCancel):
		l.lflags &^= lfOverlapCancel
		overlapDone = true
	case mtype == wire.MsgCancelReply && l.waitType != uint8(wire.MsgCancel):
		return false
	case mtype == wire.MsgConvertReply && l.waitType == uint8(wire.MsgConvert) && res != wire.ResultInProgress && l.is(lfOverlapCancel):
		// The cancel is pointless now. The owner learns how the conversion ended and may issue its next operation, so
		// the cancel must not count as in flight any more. (Linux does this for success only.)
		l.lflags &^= lfOverlapCancel
		l.waitCount--
		l.moot++
		l.waitType = 0
	case l.waitType != 0 && answers(mtype, wire.MsgType(l.waitType)):
		l.waitType = 0
	default:
		return false
	}
	if overlapDone && l.waitType != 0 {
		l.waitType = 0 // the first operation gets no reply of its own any more
		l.waitCount--
	}
	l.lflags &^= lfResend
	l.waitCount--
	if l.waitCount == 0 {
		c.unwait(l)
	}
	return true
}

// answers: which reply may answer which operation. A directory node that is the master answers a LOOKUP with a
// REQUEST_REPLY. The kernel takes any reply for any operation.
func answers(reply, op wire.MsgType) bool {
	switch reply {
	case wire.MsgRequestReply:
		return op == wire.MsgRequest || op == wire.MsgLookup
	case wire.MsgConvertReply:
		return op == wire.MsgConvert
	case wire.MsgUnlockReply:
		return op == wire.MsgUnlock
	case wire.MsgCancelReply:
		return op == wire.MsgCancel
	case wire.MsgLookupReply:
		return op == wire.MsgLookup
	}
	return false
}

func (c *Core) unwait(l *lkb) {
	if l.is(lfOnWaiters) {
		l.lflags &^= lfOnWaiters
		c.waiters.remove(l)
	}
}

// forgetWaits drops everything l waits for.
func (c *Core) forgetWaits(l *lkb) {
	l.lflags &^= lfResend | lfOverlap
	l.waitType, l.waitCount, l.moot = 0, 0, 0
	c.unwait(l)
}

// overlapped completes a lock whose request was cancelled or unlocked while it was in flight. (Linux
// queue_cast_overlap.)
func (c *Core) overlapped(l *lkb) {
	res := wire.ResultCancel
	if l.is(lfOverlapUnlock) {
		res = wire.ResultUnlock
	}
	l.lflags &^= lfOverlap
	c.complete(l, res)
}
