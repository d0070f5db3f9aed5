package core

import (
	"fmt"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// LockReq is a request for a new lock.
type LockReq struct {
	Name  []byte    // 1..64 bytes, copied
	Mode  wire.Mode // NL..EX
	Flags wire.LKF
	Pid   uint32    // owner, informational and for orphans
	Asts  wire.Asts // callbacks wanted; a lock without AstBlocking never gets a BAST. 0 means both
	// LVB gives the lock a value block buffer even without VALBLK (as ocfs2 does); VALBLK implies it.
	LVB  bool
	Data any // handed back in callbacks
}

// lockFlags are the flags a lock or convert call may carry. TIMEOUT is deprecated in the kernel and not built by
// Debian; NODLCKBLK has no effect there and is tolerated, like ocfs2's LOCAL.
const lockFlags = wire.LKFNoQueue | wire.LKFConvert | wire.LKFValBlk | wire.LKFQueCvt | wire.LKFIVValBlk |
	wire.LKFConvDeadlk | wire.LKFPersistent | wire.LKFNoDlckWt | wire.LKFNoDlckBlk | wire.LKFExpedite |
	wire.LKFNoQueueBast | wire.LKFHeadQue | wire.LKFNoOrder | wire.LKFOrphan | wire.LKFAltPR | wire.LKFAltCW |
	wire.LKFLocal

const unlockFlags = wire.LKFCancel | wire.LKFValBlk | wire.LKFIVValBlk | wire.LKFForceUnlock

// checkLockFlags is Linux fs/dlm/lock.c set_lock_args.
func (c *Core) checkLockFlags(f wire.LKF, mode wire.Mode) error {
	if f&^lockFlags != 0 {
		return fmt.Errorf("%w: %v in a lock call", ErrUnsupported, f&^lockFlags)
	}
	why := ""
	switch {
	case !mode.Valid():
		return fmt.Errorf("%w: mode %d, want 0 (NL) to 5 (EX)", ErrInvalid, mode)
	case f&(wire.LKFQueCvt|wire.LKFConvDeadlk) != 0 && f&wire.LKFConvert == 0:
		why = "QUECVT and CONVDEADLK need CONVERT"
	case f&wire.LKFConvDeadlk != 0 && f&wire.LKFNoQueue != 0:
		why = "CONVDEADLK excludes NOQUEUE"
	case f&wire.LKFExpedite != 0 && f&(wire.LKFConvert|wire.LKFQueCvt|wire.LKFNoQueue) != 0:
		why = "EXPEDITE excludes CONVERT, QUECVT and NOQUEUE"
	case f&wire.LKFExpedite != 0 && mode != wire.NL:
		why = "EXPEDITE needs mode NL"
	case f&wire.LKFValBlk != 0 && c.cfg.LVBLen == 0:
		why = "VALBLK in a lockspace without LVBs"
	case f&wire.LKFOrphan != 0 && f&wire.LKFConvert != 0:
		why = "ORPHAN is for new locks"
	default:
		return nil
	}
	return fmt.Errorf("%w: flags %v: %s", ErrInvalid, f, why)
}

// Lock requests a new lock. The outcome comes as a Completion, possibly before Lock returns: 0, or EAGAIN (NOQUEUE and
// not grantable), or ECANCEL/EUNLOCK after Cancel/Unlock. While locking is stopped the request is kept and starts when
// locking starts. With ORPHAN an orphan of that name and mode is adopted instead. (Linux dlm_lock.)
func (c *Core) Lock(req *LockReq) (LockID, error) {
	if c.dead {
		return 0, fmt.Errorf("%w: lockspace %q is released", ErrState, c.cfg.Name)
	}
	if n := len(req.Name); n == 0 || n > wire.ResNameMax {
		return 0, fmt.Errorf("%w: resource name of %d bytes, want 1..%d", ErrInvalid, n, wire.ResNameMax)
	}
	if req.Flags&wire.LKFConvert != 0 {
		return 0, fmt.Errorf("%w: CONVERT for a new lock; use Convert", ErrInvalid)
	}
	if err := c.checkLockFlags(req.Flags, req.Mode); err != nil {
		return 0, err
	}
	if req.Flags&wire.LKFOrphan != 0 {
		return c.adopt(req)
	}
	l := c.newLkb(nil)
	if l == nil {
		return 0, fmt.Errorf("%w: %d locks exist", ErrNoSpace, c.ids.n)
	}
	c.stats.Locks++
	c.setupLock(l, req)
	id := l.id
	if c.lockingStopped {
		c.deferOp(deferredOp{kind: opLock, l: l, name: append([]byte(nil), req.Name...)})
		return id, nil
	}
	c.startLock(l, req.Name)
	return id, nil
}

func (c *Core) setupLock(l *lkb, req *LockReq) {
	l.nodeid = -1
	l.exflags = req.Flags
	l.rqmode = req.Mode
	l.pid = req.Pid
	l.data = req.Data
	l.asts = uint8(req.Asts)
	if req.Asts == 0 {
		l.asts = uint8(wire.AstCompletion | wire.AstBlocking)
	}
	if c.cfg.User {
		l.flags = uint16(wire.IFLUser)
	}
	if req.LVB || req.Flags&wire.LKFValBlk != 0 {
		c.wantLVB(l)
	}
}

// startLock attaches a new lock to its resource and requests it. (Linux request_lock.)
func (c *Core) startLock(l *lkb, name []byte) {
	r := c.findForUse(name)
	c.attach(r, l)
	c.requestLock(r, l)
}

// Convert changes the mode of a granted lock. lvb is written to the resource if the transition writes (from PW or EX to
// a mode not above) and flags have VALBLK; it is padded with zeros, and nil writes the value last
// read or written again, unless that was marked invalid. flags need not contain CONVERT. Errors: ErrBusy if the lock is
// not granted or has an operation in flight. (Linux dlm_lock with CONVERT.)
func (c *Core) Convert(id LockID, mode wire.Mode, flags wire.LKF, lvb []byte) error {
	l, err := c.own(id)
	if err != nil {
		return err
	}
	flags |= wire.LKFConvert
	if err := c.checkLockFlags(flags, mode); err != nil {
		return err
	}
	if len(lvb) > c.cfg.LVBLen {
		return fmt.Errorf("%w: LVB of %d bytes, the lockspace has %d", ErrInvalid, len(lvb), c.cfg.LVBLen)
	}
	if l.queue() != wire.StatusGranted || l.waitType != 0 || l.waitCount != 0 || l.is(lfOverlap|lfDeferred) {
		return fmt.Errorf("%w: lock %#x is %v", ErrBusy, uint32(id), c.busyWith(l))
	}
	if flags&wire.LKFQueCvt != 0 && !quecvtTable[l.grmode+1][mode+1] {
		return fmt.Errorf("%w: QUECVT from %v to %v", ErrInvalid, l.grmode, mode)
	}
	c.stats.Converts++
	if c.lockingStopped {
		c.deferOp(deferredOp{kind: opConvert, l: l, mode: mode, flags: flags, lvb: append([]byte(nil), lvb...)})
		return nil
	}
	c.startConvert(l, mode, flags, lvb)
	return nil
}

func (c *Core) startConvert(l *lkb, mode wire.Mode, flags wire.LKF, lvb []byte) {
	l.exflags = flags
	l.sbflags = 0
	l.rqmode = mode
	if flags&wire.LKFValBlk != 0 {
		c.wantLVB(l)
	}
	// Only a value that will be written may enter the buffer: recovery takes buffers of PR holders for the truth.
	if lvbTable[l.grmode+1][mode+1] == lvbWrite {
		l.setLVB(lvb)
		l.keepInvalid(lvb)
	}
	c.convertLock(l.res, l)
}

// convertLock is also the way a conversion is repeated after recovery. (Linux _convert_lock.)
func (c *Core) convertLock(r *rsb, l *lkb) {
	if l.nodeid != 0 {
		c.sendConvert(r, l)
		return
	}
	res := c.doConvert(r, l)
	c.convertEffects(r, l, res)
}

// Unlock releases a lock. Allowed flags: VALBLK (write lvb, if granted PW or EX), IVVALBLK, FORCEUNLOCK. Without
// FORCEUNLOCK the lock must be granted and idle; with it, it may be waiting, converting, or have another operation in
// flight. The completion is EUNLOCK, after which the id is gone. A lock whose last operation had VALBLK writes its LVB
// without being asked again. (Linux dlm_unlock.)
func (c *Core) Unlock(id LockID, flags wire.LKF, lvb []byte) error {
	l, err := c.own(id)
	if err != nil {
		return err
	}
	if flags&^(unlockFlags&^wire.LKFCancel) != 0 {
		return fmt.Errorf("%w: %v in an unlock call", ErrUnsupported, flags&^(unlockFlags&^wire.LKFCancel))
	}
	if len(lvb) > c.cfg.LVBLen {
		return fmt.Errorf("%w: LVB of %d bytes, the lockspace has %d", ErrInvalid, len(lvb), c.cfg.LVBLen)
	}
	if flags&wire.LKFForceUnlock == 0 {
		if l.queue() != wire.StatusGranted || l.waitType != 0 || l.waitCount != 0 || l.is(lfOverlap|lfDeferred) {
			return fmt.Errorf("%w: lock %#x is %v", ErrBusy, uint32(id), c.busyWith(l))
		}
	}
	c.stats.Unlocks++
	if l.is(lfDeferred) {
		return c.forceDeferred(l, flags, lvb)
	}
	if flags&wire.LKFForceUnlock != 0 {
		if done, err := c.forceOverlap(l); done || err != nil {
			return err
		}
	}
	if c.lockingStopped {
		c.deferOp(deferredOp{kind: opUnlock, l: l, flags: flags, lvb: append([]byte(nil), lvb...)})
		return nil
	}
	c.startUnlock(l, flags, lvb)
	return nil
}

// forceOverlap handles a force-unlock of a lock with something in flight: done means nothing more is to do now.
// (Linux validate_unlock_args, FORCEUNLOCK part.)
func (c *Core) forceOverlap(l *lkb) (done bool, err error) {
	switch {
	case l.is(lfOnLookup):
		c.leaveLookup(l, wire.ResultUnlock)
		return true, nil
	case l.is(lfOverlapUnlock) || l.waitType == uint8(wire.MsgUnlock):
		return false, fmt.Errorf("%w: lock %#x is already being unlocked", ErrBusy, uint32(l.id))
	case l.is(lfResend), l.waitType == uint8(wire.MsgLookup), l.waitType == uint8(wire.MsgRequest):
		l.lflags |= lfOverlapUnlock
		return true, nil
	}
	return false, nil
}

func (c *Core) startUnlock(l *lkb, flags wire.LKF, lvb []byte) {
	idle := l.queue() == wire.StatusGranted && l.waitType == 0
	l.exflags |= flags
	l.sbflags = 0
	if flags&wire.LKFValBlk != 0 {
		c.wantLVB(l)
	}
	if l.grmode >= wire.PW {
		l.setLVB(lvb)
		l.keepInvalid(lvb)
	} else if !idle {
		// The operation in flight may have been granted PW or EX without our knowing. The buffer is not a value then,
		// and must not be written.
		l.exflags &^= wire.LKFValBlk
	}
	c.unlockLock(l.res, l)
}

// unlockLock: Linux _unlock_lock.
func (c *Core) unlockLock(r *rsb, l *lkb) {
	if l.nodeid != 0 {
		c.sendToMaster(r, l, wire.MsgUnlock)
		return
	}
	c.doUnlock(r, l)
	c.unlockEffects(r, l)
}

// Cancel takes back a pending request or conversion. If it succeeds the completion of that operation is ECANCEL: a
// request's id is gone then, a conversion leaves the lock in its old mode. If the operation is granted meanwhile its
// completion is the ordinary one, and none comes for the cancel. With nothing pending it does nothing. (Linux
// dlm_unlock with CANCEL.)
func (c *Core) Cancel(id LockID) error {
	l, err := c.own(id)
	if err != nil {
		return err
	}
	c.stats.Cancels++
	switch {
	case l.is(lfDeferred):
		return c.cancelDeferred(l)
	case l.is(lfOnLookup):
		c.leaveLookup(l, wire.ResultCancel)
		return nil
	case l.is(lfOverlap), l.waitType == uint8(wire.MsgUnlock), l.waitType == uint8(wire.MsgCancel):
		return fmt.Errorf("%w: lock %#x is %v", ErrBusy, uint32(id), c.busyWith(l))
	case l.is(lfResend), l.waitType == uint8(wire.MsgLookup), l.waitType == uint8(wire.MsgRequest):
		l.lflags |= lfOverlapCancel
		return nil
	case l.queue() == wire.StatusGranted && l.waitType == 0:
		return nil
	}
	if c.lockingStopped {
		c.deferOp(deferredOp{kind: opCancel, l: l})
		return nil
	}
	c.startCancel(l)
	return nil
}

// startCancel: Linux _cancel_lock. The CANCEL flag stays in exflags as it does there.
func (c *Core) startCancel(l *lkb) {
	r := l.res
	l.exflags |= wire.LKFCancel
	l.sbflags = 0
	if l.nodeid != 0 {
		c.sendToMaster(r, l, wire.MsgCancel)
		return
	}
	res, gone := c.doCancel(r, l)
	c.cancelEffects(r, l, res, gone)
}

// own finds a lock of ours by id.
func (c *Core) own(id LockID) (*lkb, error) {
	if c.dead {
		return nil, fmt.Errorf("%w: lockspace %q is released", ErrState, c.cfg.Name)
	}
	l := c.ids.get(id)
	if l == nil || l.masterCopy() || l.is(lfDead|lfOrphan) {
		return nil, fmt.Errorf("%w: %#x", ErrNoLock, uint32(id))
	}
	return l, nil
}

// busyWith says why a lock is not idle, for error texts.
func (c *Core) busyWith(l *lkb) string {
	switch {
	case l.is(lfDeferred):
		return "waiting for recovery to end"
	case l.is(lfOnLookup):
		return "waiting for another lock's lookup"
	case l.waitType != 0:
		return "waiting for the reply to " + wire.MsgType(l.waitType).String()
	case l.is(lfOverlap):
		return "being cancelled or unlocked"
	}
	return "on queue " + l.queue().String()
}
