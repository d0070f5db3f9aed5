package sim

import (
	"encoding/binary"
	"errors"

	"github.com/ocfuse/ocfuse/dlm/core"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

// resource is what the model knows of one name.
type resource struct {
	name  string
	index int
	held  []*handle // locks that exist: requested and not finished
	// The LVB: truth is the last value written; a reader may also find nothing if all locks were gone since.
	truth     uint64
	maybeLost bool
	// mustInvalid: a holder of PW or EX died, or said IVVALBLK, since: the value may only be read marked.
	mustInvalid bool
	everInvalid bool
}

type opKind uint8

const (
	opNone opKind = iota
	opLock
	opConvert
	opUnlock
)

// handle is a lock as its client sees it.
type handle struct {
	h        *host
	res      *resource
	id       core.LockID
	op       opKind
	since    int64     // op was issued
	mode     wire.Mode // what the client may believe to hold at this moment
	before   wire.Mode // granted mode when op was issued
	want     wire.Mode
	flags    wire.LKF
	basts    uint8 // blocked modes to react to, one bit each
	reacting bool
	dying    bool // unlock was called
	wrote    uint64
}

var lockModes = []wire.Mode{wire.NL, wire.CR, wire.CW, wire.PR, wire.PR, wire.PW, wire.EX, wire.EX}

// clientTimer is the heartbeat of a node's clients.
func (h *host) clientTimer() {
	s := h.s
	if !h.alive() || h.ending || !s.chaos {
		return
	}
	s.after(s.between(500_000, 12*ms), h.clientTimer)
	if h.joined || s.oneIn(20) {
		h.randomOp()
	}
	h.rearm()
}

func (h *host) randomOp() {
	s := h.s
	h.core.Tick(s.now)
	if h.leaving {
		h.unlockSome()
		return
	}
	if len(h.locks) < 3 || len(h.locks) < 8 && s.oneIn(2) {
		h.newLock()
		return
	}
	hd := h.locks[s.rng.IntN(len(h.locks))]
	switch k := s.rng.IntN(10); {
	case hd.dying:
	case hd.op != opNone && k < 2:
		hd.cancel()
	case hd.op != opNone && k < 3:
		hd.unlock(wire.LKFForceUnlock)
	case hd.op != opNone:
	case k < 7:
		hd.convert(lockModes[s.rng.IntN(len(lockModes))], hd.randomFlags())
	default:
		f := wire.LKF(0)
		if s.oneIn(4) {
			f = wire.LKFForceUnlock
		}
		hd.unlock(f)
	}
}

func (h *host) unlockSome() {
	for _, hd := range h.locks {
		if !hd.dying {
			hd.unlock(wire.LKFForceUnlock)
			return
		}
	}
}

func (h *host) newLock() {
	s := h.s
	r := s.res[s.rng.IntN(resources)]
	hd := &handle{h: h, res: r, op: opLock, since: s.now, mode: wire.IV, before: wire.IV, flags: wire.LKFValBlk}
	hd.want = lockModes[s.rng.IntN(len(lockModes))]
	for _, f := range []struct {
		flag wire.LKF
		n    int
	}{
		{wire.LKFNoQueue, 5}, {wire.LKFNoQueueBast, 8}, {wire.LKFHeadQue, 12}, {wire.LKFNoOrder, 12}, {wire.LKFAltPR, 15},
		{wire.LKFAltCW, 15}, {wire.LKFNoDlckWt, 3},
	} {
		if s.oneIn(f.n) {
			hd.flags |= f.flag
		}
	}
	if hd.want == wire.NL && hd.flags&wire.LKFNoQueue == 0 && s.oneIn(3) {
		hd.flags |= wire.LKFExpedite
	}
	s.count.Ops++
	h.locks = append(h.locks, hd)
	r.held = append(r.held, hd)
	s.trace("%v lock %s %v %v", h, r.name, hd.want, hd.flags)
	id, err := h.core.Lock(&core.LockReq{Name: []byte(r.name), Mode: hd.want, Flags: hd.flags, Pid: uint32(h.inc), Data: hd})
	if err != nil {
		s.fail("%v lock: %v", h, err)
	}
	hd.id = id
}

func (hd *handle) randomFlags() wire.LKF {
	s := hd.h.s
	f := wire.LKFValBlk
	for _, c := range []struct {
		flag wire.LKF
		n    int
	}{
		{wire.LKFNoQueue, 6}, {wire.LKFNoQueueBast, 8}, {wire.LKFNoOrder, 12}, {wire.LKFNoDlckWt, 3}, {wire.LKFQueCvt, 10},
		{wire.LKFIVValBlk, 30},
	} {
		if s.oneIn(c.n) {
			f |= c.flag
		}
	}
	if f&wire.LKFNoQueue == 0 && s.oneIn(10) {
		f |= wire.LKFConvDeadlk
	}
	return f
}

// writes: the conversion puts the lock's value into the resource (table of section "LVB").
func writes(gr, rq wire.Mode) bool {
	return gr >= wire.PW && !(gr == wire.PW && rq == wire.EX)
}

// reads: the conversion returns the resource's value.
func reads(gr, rq wire.Mode) bool {
	return !writes(gr, rq) && (rq >= gr || gr <= wire.NL) && !(gr > wire.NL && rq < gr)
}

func middle(gr, rq wire.Mode) bool {
	return gr == wire.PR && rq == wire.CW || gr == wire.CW && rq == wire.PR
}

// convert issues a conversion.
func (hd *handle) convert(to wire.Mode, flags wire.LKF) {
	s := hd.h.s
	if flags&wire.LKFQueCvt != 0 && !(to > hd.mode || middle(hd.mode, to)) {
		flags &^= wire.LKFQueCvt
	}
	var lvb []byte
	if writes(hd.mode, to) {
		lvb = hd.write(flags)
	} else {
		flags &^= wire.LKFIVValBlk
	}
	s.count.Ops++
	hd.op, hd.since, hd.before, hd.want, hd.flags = opConvert, s.now, hd.mode, to, flags
	switch {
	case flags&wire.LKFConvDeadlk != 0:
		hd.mode = min(hd.mode, wire.NL) // it may be demoted any time until the end is told
	case middle(hd.mode, to):
		hd.mode = wire.CR
	case to < hd.mode:
		hd.mode = to
	}
	s.trace("%v convert %s %#x %v->%v %v", hd.h, hd.res.name, uint32(hd.id), hd.before, to, flags)
	if err := hd.h.core.Convert(hd.id, to, flags, lvb); err != nil {
		s.fail("%v convert %#x: %v", hd.h, uint32(hd.id), err)
	}
}

// write makes the next value of the resource.
func (hd *handle) write(flags wire.LKF) []byte {
	s, r := hd.h.s, hd.res
	if flags&wire.LKFIVValBlk != 0 {
		r.mustInvalid, r.everInvalid = true, true
		return nil
	}
	s.value++
	s.count.Writes++
	r.truth, r.maybeLost, r.mustInvalid = s.value, false, false
	hd.wrote = s.value
	return binary.BigEndian.AppendUint64(nil, s.value)
}

func (hd *handle) unlock(flags wire.LKF) {
	s := hd.h.s
	held := hd.mode
	if hd.op == opConvert {
		held = hd.before
		if writes(hd.before, hd.want) {
			held = hd.want // the value was written with the conversion, which cannot fail
		}
	}
	var lvb []byte
	if held >= wire.PW {
		if hd.op == opNone && s.oneIn(20) {
			flags |= wire.LKFIVValBlk
		}
		if hd.op == opNone {
			lvb = hd.write(flags | hd.flags&wire.LKFIVValBlk) // an unlock adds its flags to those of the last operation
		}
	}
	s.count.Ops++
	s.trace("%v unlock %s %#x %v %v", hd.h, hd.res.name, uint32(hd.id), hd.mode, flags)
	hd.dying, hd.mode = true, wire.IV
	if hd.op == opNone {
		hd.op, hd.since = opUnlock, s.now
	}
	hd.res.noteLoss()
	err := hd.h.core.Unlock(hd.id, flags, lvb)
	if errors.Is(err, core.ErrNoLock) && hd.op != opUnlock {
		return // the end of the operation is decided, its completion held back until recovery is over
	}
	if err != nil {
		s.fail("%v unlock %#x: %v", hd.h, uint32(hd.id), err)
	}
}

// noteLoss: without any lock that is surely there the value may be forgotten.
func (r *resource) noteLoss() {
	for _, o := range r.held {
		if !o.dying && (o.op == opNone || o.op == opConvert) {
			return
		}
	}
	r.maybeLost = true
}

func (hd *handle) cancel() {
	s := hd.h.s
	if hd.op == opConvert && hd.want < hd.before && !middle(hd.before, hd.want) {
		return
	}
	if hd.op == opConvert && writes(hd.before, hd.want) {
		return
	}
	s.count.Ops++
	s.trace("%v cancel %s %#x", hd.h, hd.res.name, uint32(hd.id))
	if err := hd.h.core.Cancel(hd.id); err != nil && !errors.Is(err, core.ErrBusy) && !errors.Is(err, core.ErrNoLock) {
		s.fail("%v cancel %#x: %v", hd.h, uint32(hd.id), err)
	}
}

// Complete implements core.Effects.
func (h *host) Complete(cb *core.Completion) {
	s := h.s
	hd := cb.Data.(*handle)
	if hd.id == 0 {
		hd.id = cb.ID
	}
	s.trace("%v AST %s %#x %v %v %v (was %v)", h, hd.res.name, uint32(cb.ID), cb.Status, cb.Mode, cb.Flags, hd.before)
	if hd.h != h || hd.op == opNone || cb.ID != hd.id {
		s.fail("%v: completion %v of lock %#x that expects none", h, cb.Status, uint32(cb.ID))
		return
	}
	switch cb.Status {
	case wire.ResultOK:
		s.count.Grants++
		hd.granted(cb)
	case wire.ResultAgain, wire.ResultDeadlk, wire.ResultCancel:
		if !hd.dying {
			hd.raise(cb.Mode)
		}
	case wire.ResultUnlock:
		if !hd.dying {
			s.fail("%v: lock %#x is unlocked but nobody asked", h, uint32(cb.ID))
		}
	}
	hd.op = opNone
	if cb.Gone {
		hd.forget()
		return
	}
	if hd.dying {
		hd.op = opUnlock
		return
	}
	if hd.basts != 0 || s.drain {
		hd.react()
	}
}

// raise sets the believed mode and checks it against everybody else's.
func (hd *handle) raise(m wire.Mode) {
	hd.mode = m
	for _, o := range hd.res.held {
		if o != hd && !core.Compatible(o.mode, m) {
			hd.h.s.fail("%s: %v holds %v (lock %#x) and %v holds %v (lock %#x)", hd.res.name,
				hd.h, m, uint32(hd.id), o.h, o.mode, uint32(o.id))
		}
	}
}

// granted checks the mode and the value that came with it.
func (hd *handle) granted(cb *core.Completion) {
	s, r := hd.h.s, hd.res
	if hd.op == opUnlock {
		s.fail("%v: unlock of %#x completes with 0", hd.h, uint32(cb.ID))
	}
	if cb.Mode != hd.want && cb.Flags&wire.SBFAltMode == 0 {
		s.fail("%v: lock %#x granted %v, asked for %v", hd.h, uint32(cb.ID), cb.Mode, hd.want)
	}
	if hd.dying {
		return
	}
	hd.raise(cb.Mode)
	before := hd.before
	if cb.Flags&wire.SBFDemoted != 0 {
		before = wire.NL
	}
	if cb.Mode <= wire.CR || !reads(before, cb.Mode) {
		return
	}
	s.count.Reads++
	if cb.Flags&wire.SBFValNotValid != 0 {
		s.count.InvalidReads++
		if s.deaths == 0 && !r.everInvalid {
			s.fail("%v: %s read as invalid, but nothing ever made it so", hd.h, r.name)
		}
		return
	}
	v := binary.BigEndian.Uint64(cb.LVB)
	switch {
	case v == 0 && (r.maybeLost || r.mustInvalid || r.truth == 0): // says that there is none
	case r.mustInvalid && !r.maybeLost:
		s.fail("%v: %s read as %d without VALNOTVALID after its writer died", hd.h, r.name, v)
	case v != r.truth:
		s.fail("%v: %s read as %d, last written %d", hd.h, r.name, v, r.truth)
	}
}

// Block implements core.Effects.
func (h *host) Block(cb *core.Blocking) {
	s := h.s
	hd := cb.Data.(*handle)
	s.count.Basts++
	s.trace("%v BAST %s %#x for %v", h, hd.res.name, uint32(cb.ID), cb.Mode)
	if !hd.dying {
		hd.basts |= 1 << cb.Mode
		hd.react()
	}
}

// react gives way some time after a BAST: it must not happen inside the callback.
func (hd *handle) react() {
	if hd.reacting {
		return
	}
	hd.reacting = true
	s := hd.h.s
	s.after(s.between(100_000, 10*ms), func() {
		hd.reacting = false
		if !hd.h.alive() || hd.h.ending || hd.dying || hd.gone() {
			return
		}
		hd.h.core.Tick(s.now)
		hd.giveWay()
		hd.h.rearm()
	})
}

func (hd *handle) gone() bool {
	for _, o := range hd.h.locks {
		if o == hd {
			return false
		}
	}
	return true
}

func (hd *handle) giveWay() {
	s := hd.h.s
	switch {
	case s.drain:
		hd.unlock(wire.LKFForceUnlock)
	case hd.op == opConvert:
		hd.cancel() // the completion, whichever, comes back here
	case hd.op != opNone:
	case hd.fits(hd.mode):
		hd.basts = 0
	case s.oneIn(3):
		hd.unlock(0)
	default:
		to := wire.NL
		for _, m := range []wire.Mode{wire.CR, wire.CW, wire.PR} {
			if m < hd.mode && hd.fits(m) && !middle(hd.mode, m) {
				to = m
			}
		}
		hd.convert(to, wire.LKFValBlk)
	}
}

// fits: mode m is in the way of none of the modes a BAST came for.
func (hd *handle) fits(m wire.Mode) bool {
	for b := wire.NL; b <= wire.EX; b++ {
		if hd.basts&(1<<b) != 0 && !core.Compatible(m, b) {
			return false
		}
	}
	return true
}

// poke makes every client act in the drain.
func (h *host) poke() {
	for _, hd := range h.locks {
		if !hd.dying {
			hd.react()
		}
	}
}

func (hd *handle) forget() {
	hd.mode = wire.IV
	hd.h.locks = without(hd.h.locks, hd)
	hd.res.held = without(hd.res.held, hd)
	hd.res.noteLoss()
}

func without(l []*handle, x *handle) []*handle {
	for i, o := range l {
		if o == x {
			return append(l[:i:i], l[i+1:]...)
		}
	}
	return l
}

// dropLocks is what the death of a node does to the model.
func (h *host) dropLocks() {
	locks := h.locks
	h.locks = nil
	for _, hd := range locks {
		r := hd.res
		r.held = without(r.held, hd)
		if hd.mode >= wire.PW && !hd.dying {
			r.mustInvalid = true
		}
		if hd.wrote == r.truth {
			r.maybeLost = true // perhaps the master never heard of it; what it then has is marked, or it has nothing
		}
	}
	for _, r := range h.s.res {
		r.noteLoss()
	}
}
