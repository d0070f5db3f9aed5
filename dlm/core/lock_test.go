package core

import (
	"errors"
	"testing"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Lock semantics on one node. (Linux fs/dlm/lock.c; the functions are named at each test.)

const (
	vb    = wire.LKFValBlk
	nq    = wire.LKFNoQueue
	force = wire.LKFForceUnlock
)

func single(t *testing.T) *node { return newCluster(t, 1).nodes[1] }

// _can_be_granted: requests are served in order, also when a later one would be compatible; conversions come first.
func TestQueueOrder(t *testing.T) {
	n := single(t)
	a := n.lock("r", wire.PR, 0)
	b := n.lock("r", wire.EX, 0)
	c := n.lock("r", wire.PR, 0)
	n.want(a, "AST 0 PR", "BAST EX")
	n.want(b)
	n.want(c) // behind b although compatible with a
	n.unlock(a, 0, "")
	n.want(a, "AST EUNLOCK IV")
	n.want(b, "AST 0 EX", "BAST PR")
	n.unlock(b, 0, "")
	n.want(c, "AST 0 PR")
}

func TestConversionBeforeRequest(t *testing.T) {
	n := single(t)
	a := n.lock("r", wire.PR, 0)
	b := n.lock("r", wire.PR, 0)
	c := n.lock("r", wire.PW, 0)
	n.convert(a, wire.EX, 0, "") // blocked by b
	n.want(b, "AST 0 PR", "BAST PW", "BAST EX")
	n.unlock(b, 0, "")
	n.want(a, "AST 0 PR", "BAST PW", "AST 0 EX", "BAST PW")
	n.want(c)
}

// NOORDER and HEADQUE.
func TestNoOrderHeadQue(t *testing.T) {
	n := single(t)
	a := n.lock("r", wire.PR, 0)
	w := n.lock("r", wire.EX, 0)
	x := n.lock("r", wire.PR, wire.LKFNoOrder)
	n.want(x, "AST 0 PR")
	h := n.lock("r", wire.PW, wire.LKFHeadQue)
	n.unlock(x, 0, "")
	n.unlock(a, 0, "")
	n.want(w)
	n.want(h, "AST 0 PW", "BAST EX")
}

// EXPEDITE: NL at once whatever waits.
func TestExpedite(t *testing.T) {
	n := single(t)
	n.lock("r", wire.EX, 0)
	n.lock("r", wire.EX, 0)
	q := n.lock("r", wire.NL, 0)
	n.want(q) // order counts even for NL
	e := n.lock("r", wire.NL, wire.LKFExpedite)
	n.want(e, "AST 0 NL")
}

// do_request_effects: NOQUEUE alone disturbs nobody, NOQUEUEBAST does.
func TestNoQueueBast(t *testing.T) {
	n := single(t)
	a := n.lock("r", wire.EX, 0)
	b := n.lock("r", wire.PR, nq)
	n.want(a, "AST 0 EX")
	n.want(b, "AST EAGAIN IV")
	b = n.lock("r", wire.PR, nq|wire.LKFNoQueueBast)
	n.want(a, "BAST PR")
	n.want(b, "AST EAGAIN IV")
	if locks, _ := n.c.Counts(); locks != 1 {
		t.Errorf("%d locks left, want 1", locks)
	}
}

// ALTPR, ALTCW: can_be_granted.
func TestAltModes(t *testing.T) {
	n := single(t)
	n.lock("r", wire.PR, 0)
	b := n.lock("r", wire.EX, wire.LKFAltPR)
	n.want(b, "AST 0 PR ALTMODE")
	n = single(t)
	n.lock("r", wire.CW, 0)
	b = n.lock("r", wire.EX, wire.LKFAltCW)
	n.want(b, "AST 0 CW ALTMODE")
	b = n.lock("r", wire.EX, wire.LKFAltPR|nq)
	n.want(b, "AST EAGAIN IV")
}

// conversion_deadlock_detect: two PR holders that both want EX.
func TestConversionDeadlock(t *testing.T) {
	n := single(t)
	a := n.lock("r", wire.PR, 0)
	b := n.lock("r", wire.PR, 0)
	n.convert(a, wire.EX, 0, "")
	n.want(a, "AST 0 PR")
	n.want(b, "AST 0 PR", "BAST EX")
	n.convert(b, wire.EX, 0, "")
	n.want(b, "AST EDEADLK PR")
	n.unlock(b, 0, "")
	n.want(a, "AST 0 EX")
}

// NODLCKWT: no EDEADLK; the deadlocked one is asked to give way by a BAST for its own mode.
func TestNoDlckWt(t *testing.T) {
	n := single(t)
	a := n.lock("r", wire.PR, wire.LKFNoDlckWt)
	b := n.lock("r", wire.PR, wire.LKFNoDlckWt)
	n.convert(a, wire.EX, wire.LKFNoDlckWt, "")
	n.convert(b, wire.EX, wire.LKFNoDlckWt, "")
	n.want(a, "AST 0 PR")
	n.want(b, "AST 0 PR", "BAST EX")
	c := n.lock("r", wire.NL, wire.LKFExpedite)
	n.unlock(c, 0, "") // any pending pass
	n.want(a, "BAST EX")
	n.want(b) // was asked before
	n.cancel(b)
	n.want(b, "AST ECANCEL PR")
	n.unlock(b, 0, "")
	n.want(a, "AST 0 EX")
}

// CONVDEADLK: the granted mode is lowered to NL, which lets the other one go ahead.
func TestConvDeadlkDemotes(t *testing.T) {
	n := single(t)
	a := n.lock("r", wire.PR, 0)
	b := n.lock("r", wire.PR, 0)
	n.convert(a, wire.EX, 0, "")
	n.convert(b, wire.EX, wire.LKFConvDeadlk, "")
	n.want(a, "AST 0 PR", "AST 0 EX", "BAST EX")
	n.convert(a, wire.NL, 0, "")
	n.want(b, "AST 0 PR", "BAST EX", "AST 0 EX DEMOTED")
}

// QUECVT: not ahead of conversions that wait.
func TestQueCvt(t *testing.T) {
	n := single(t)
	a := n.lock("r", wire.CR, 0)
	n.lock("r", wire.PR, 0)
	c := n.lock("r", wire.NL, 0)
	n.convert(a, wire.EX, 0, "")
	n.convert(c, wire.CR, wire.LKFQueCvt, "")
	n.want(c, "AST 0 NL")
	if err := n.c.Convert(c, wire.CR, 0, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("convert of a converting lock: %v", err)
	}
}

// modes_require_bast, lock_requires_bast: one BAST per strictly higher blocked mode; PR and CW exclude each other.
func TestBastOncePerMode(t *testing.T) {
	n := single(t)
	a := n.lock("r", wire.EX, 0)
	b := n.lock("r", wire.CR, 0)
	n.lock("r", wire.CR, 0)
	n.lock("r", wire.PR, 0)
	n.lock("r", wire.EX, 0)
	n.want(a, "AST 0 EX", "BAST CR", "BAST PR", "BAST EX")
	n.unlock(a, 0, "")
	n.want(b, "AST 0 CR", "BAST EX")
	m := single(t)
	p := m.lock("r", wire.PR, 0)
	m.lock("r", wire.CW, 0)
	m.want(p, "AST 0 PR", "BAST CW")
}

// dlm_callback_work: a BAST that the completion made pointless is not delivered, and none goes to a lock without a
// blocking callback (it would crash ocfs2's version lock).
func TestNoBastWithoutCallback(t *testing.T) {
	n := single(t)
	id, err := n.c.Lock(&LockReq{Name: []byte("r"), Mode: wire.EX, Asts: wire.AstCompletion})
	if err != nil {
		t.Fatal(err)
	}
	n.lock("r", wire.PR, 0)
	n.want(id, "AST 0 EX")
}

// do_cancel.
func TestCancel(t *testing.T) {
	n := single(t)
	a := n.lock("r", wire.PR, 0)
	b := n.lock("r", wire.EX, 0)
	n.cancel(b)
	n.want(b, "AST ECANCEL IV")
	if err := n.c.Cancel(b); !errors.Is(err, ErrNoLock) {
		t.Errorf("cancel of a gone lock: %v", err)
	}
	c := n.lock("r", wire.PR, 0)
	n.want(c, "AST 0 PR")
	n.convert(a, wire.EX, 0, "")
	n.cancel(a)
	n.want(a, "AST 0 PR", "BAST EX", "AST ECANCEL PR")
	n.cancel(a) // nothing to cancel
	n.want(a)
}

func TestForceUnlock(t *testing.T) {
	n := single(t)
	n.lock("r", wire.PR, 0)
	b := n.lock("r", wire.EX, 0)
	if err := n.c.Unlock(b, 0, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("plain unlock of a waiting lock: %v", err)
	}
	n.unlock(b, force, "")
	n.want(b, "AST EUNLOCK IV")
}

// set_lvb_lock, set_lvb_unlock with IVVALBLK; a write makes the value valid again.
func TestInvalidateLVB(t *testing.T) {
	n := single(t)
	keep := n.lock("r", wire.NL, vb)
	a := n.lock("r", wire.EX, vb)
	n.convert(a, wire.NL, vb, "one")
	n.convert(a, wire.EX, vb, "")
	n.convert(a, wire.NL, vb|wire.LKFIVValBlk, "")
	n.convert(keep, wire.CR, vb, "")
	n.want(keep, "AST 0 NL", "AST 0 CR VALNOTVALID")
	if n.lvb(keep) != "one" {
		t.Errorf("LVB %q, want the last value", n.lvb(keep))
	}
	n.convert(keep, wire.NL, 0, "")
	n.convert(a, wire.EX, vb, "")
	n.unlock(a, vb, "two")
	n.convert(keep, wire.PR, vb, "")
	n.want(keep, "AST 0 NL VALNOTVALID", "AST 0 PR")
	if n.lvb(keep) != "two" {
		t.Errorf("LVB %q, want two", n.lvb(keep))
	}
	n.convert(keep, wire.EX, vb, "")
	b := n.lock("r", wire.NL, vb|wire.LKFExpedite)
	n.unlock(keep, wire.LKFIVValBlk, "")
	n.convert(b, wire.PR, vb, "")
	n.want(b, "AST 0 NL", "AST 0 PR VALNOTVALID")
}

// The LVB goes with the last lock (toss_rsb).
func TestLVBEndsWithLastLock(t *testing.T) {
	n := single(t)
	a := n.lock("r", wire.EX, vb)
	n.unlock(a, 0, "value") // VALBLK is inherited from the request: exflags are ORed
	b := n.lock("r", wire.PR, vb)
	if n.lvb(b) != "" {
		t.Errorf("LVB %q survived the last lock", n.lvb(b))
	}
}

// A lock last used with VALBLK writes its LVB at unlock without being asked (unlock ORs its flags).
func TestUnlockInheritsValBlk(t *testing.T) {
	n := single(t)
	keep := n.lock("r", wire.NL, 0)
	a := n.lock("r", wire.EX, vb)
	n.unlock(a, 0, "value")
	n.convert(keep, wire.PR, vb, "")
	if n.lvb(keep) != "value" {
		t.Errorf("LVB %q", n.lvb(keep))
	}
}

// set_lock_args, set_unlock_args, validate_lock_args.
func TestArguments(t *testing.T) {
	n := single(t)
	lk := func(mode wire.Mode, f wire.LKF) error {
		_, err := n.c.Lock(&LockReq{Name: []byte("args"), Mode: mode, Flags: f})
		return err
	}
	for _, c := range []struct {
		why  string
		err  error
		kind error
	}{
		{"mode 6", lk(6, 0), ErrInvalid},
		{"mode IV", lk(wire.IV, 0), ErrInvalid},
		{"QUECVT alone", lk(wire.EX, wire.LKFQueCvt), ErrInvalid},
		{"CONVDEADLK alone", lk(wire.EX, wire.LKFConvDeadlk), ErrInvalid},
		{"EXPEDITE PR", lk(wire.PR, wire.LKFExpedite), ErrInvalid},
		{"EXPEDITE NOQUEUE", lk(wire.NL, wire.LKFExpedite|nq), ErrInvalid},
		{"CONVERT in Lock", lk(wire.EX, wire.LKFConvert), ErrInvalid},
		{"CANCEL in Lock", lk(wire.EX, wire.LKFCancel), ErrUnsupported},
		{"TIMEOUT", lk(wire.EX, wire.LKFTimeout), ErrUnsupported},
		{"FORCEUNLOCK in Lock", lk(wire.EX, force), ErrUnsupported},
		{"unknown lock", n.c.Convert(77, wire.EX, 0, nil), ErrNoLock},
	} {
		if !errors.Is(c.err, c.kind) {
			t.Errorf("%s: %v, want %v", c.why, c.err, c.kind)
		}
	}
	if _, err := n.c.Lock(&LockReq{Name: make([]byte, 65), Mode: wire.NL}); !errors.Is(err, ErrInvalid) {
		t.Errorf("65-byte name: %v", err)
	}
	if _, err := n.c.Lock(&LockReq{Mode: wire.NL}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no name: %v", err)
	}
	id := n.lock("r", wire.PR, wire.LKFLocal)
	for _, c := range []struct {
		why string
		err error
	}{
		{"CONVDEADLK|NOQUEUE", n.c.Convert(id, wire.EX, wire.LKFConvDeadlk|nq, nil)},
		{"QUECVT down", n.c.Convert(id, wire.NL, wire.LKFQueCvt, nil)},
		{"long LVB", n.c.Convert(id, wire.EX, vb, make([]byte, testLVB+1))},
	} {
		if !errors.Is(c.err, ErrInvalid) {
			t.Errorf("%s: %v", c.why, c.err)
		}
	}
	if err := n.c.Unlock(id, wire.LKFCancel, nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("CANCEL in Unlock: %v", err)
	}
}

// Orphans: dlm_clear_proc_locks, dlm_user_adopt_orphan, do_purge.
func TestOrphans(t *testing.T) {
	n := single(t)
	a := n.lock("r", wire.PR, wire.LKFPersistent)
	b := n.lock("r", wire.PR, 0)
	n.c.ClearOwner(4242)
	n.want(a, "AST 0 PR")
	n.want(b, "AST 0 PR", "AST EUNLOCK IV")
	if err := n.c.Convert(a, wire.EX, 0, nil); !errors.Is(err, ErrNoLock) {
		t.Errorf("an orphan can still be used: %v", err)
	}
	req := LockReq{Name: []byte("r"), Mode: wire.EX, Flags: wire.LKFOrphan, Pid: 7}
	if _, err := n.c.Lock(&req); !errors.Is(err, ErrAgain) {
		t.Errorf("adopt in another mode: %v", err)
	}
	req.Mode = wire.PR
	id, err := n.c.Lock(&req)
	if err != nil || id != a {
		t.Fatalf("adopt: %#x %v", id, err)
	}
	n.c.ClearOwner(7) // not PERSISTENT any more
	if locks, _ := n.c.Counts(); locks != 1 {
		// ORPHAN replaces no flags: the lock keeps PERSISTENT and is an orphan again
		t.Errorf("%d locks", locks)
	}
	if err := n.c.Purge(1, 0); err != nil {
		t.Fatal(err)
	}
	if locks, _ := n.c.Counts(); locks != 0 {
		t.Errorf("%d locks after purge", locks)
	}
	if _, err := n.c.Lock(&req); !errors.Is(err, ErrNoLock) {
		t.Errorf("adopt of nothing: %v", err)
	}
}

// dlm_release_lockspace.
func TestRelease(t *testing.T) {
	n := single(t)
	id := n.lock("r", wire.PR, 0)
	if err := n.c.Release(false); !errors.Is(err, ErrBusy) {
		t.Errorf("release with a lock: %v", err)
	}
	n.unlock(id, 0, "")
	if err := n.c.Release(false); err != nil {
		t.Error(err)
	}
	if _, err := n.c.Lock(&LockReq{Name: []byte("r"), Mode: wire.PR}); !errors.Is(err, ErrState) {
		t.Errorf("lock after release: %v", err)
	}
}
