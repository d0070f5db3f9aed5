package stacktest

import (
	"context"
	"errors"
	"testing"

	"github.com/ocfuse/ocfuse/stackglue"
)

const (
	convert = stackglue.FlagConvert
	valblk  = stackglue.FlagValBlk
	noqueue = stackglue.FlagNoQueue
)

// singleTests need one node.
var singleTests = []struct {
	name string
	fn   func(*testing.T, Node)
}{
	{"levels", testLevels},
	{"names", testNames},
	{"misuse", testMisuse},
	{"cancel nothing", testCancelNothing},
	{"value block", testOwnLVB},
	{"disconnect", testDisconnect},
	{"abort", testAbort},
}

// testLevels: every change of level completes once, with a nil status.
func testLevels(t *testing.T, n Node) {
	k := newLock(t, n.Conn, "M000000000000000000000100000000")
	k.lock(stackglue.NL, valblk)
	modes := []stackglue.Mode{stackglue.NL, stackglue.PR, stackglue.EX}
	for _, a := range modes {
		for _, b := range modes {
			if a == b {
				continue
			}
			k.lock(a, convert|valblk)
			k.lock(b, convert|valblk)
		}
	}
	k.unlock(valblk)
	k.lock(stackglue.EX, valblk|noqueue)
	k.unlock(0)
	if k.asts < 10 || k.unlocks != 2 || len(k.basts) != 0 {
		t.Errorf("%d completions, %d unlocks, BASTs %v", k.asts, k.unlocks, k.basts)
	}
}

// testNames: names are bytes of any value, told apart to the last.
func testNames(t *testing.T, n Node) {
	var all []*lk
	for _, name := range []string{"N0000000000000005\x00\x00\x00\x00\x00\x00\x00\x12\x34\x00\x00\x00\x00\x00",
		"N0000000000000005\x00\x00\x00\x00\x00\x00\x00\x12\x35\x00\x00\x00\x00\x00", "a", "a\x00", "version_locks", // not version_lock: the dlm stack holds it itself

		"0123456789012345678901234567890123456789012345678901234567890123"} {
		k := newLock(t, n.Conn, name)
		k.lock(stackglue.EX, noqueue)
		all = append(all, k)
	}
	for _, k := range all {
		k.unlock(0)
	}
}

// testMisuse: calls that do not fit are refused and have no completion.
func testMisuse(t *testing.T, n Node) {
	k := newLock(t, n.Conn, "misuse")
	refused := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	refused("convert of no lock", n.Conn.Lock(&k.Lksb, stackglue.PR, convert))
	refused("unlock of no lock", n.Conn.Unlock(&k.Lksb, 0))
	k.lock(stackglue.PR, 0)
	refused("request over a lock", n.Conn.Lock(&k.Lksb, stackglue.EX, 0))
	refused("convert to no mode", n.Conn.Lock(&k.Lksb, stackglue.Mode(9), convert))
	k.unlock(0)
	if k.asts != 1 || k.unlocks != 1 {
		t.Errorf("refused calls were completed: %d, %d", k.asts, k.unlocks)
	}
}

// testCancelNothing: a cancel that comes too late ends and changes nothing.
func testCancelNothing(t *testing.T, n Node) {
	k := newLock(t, n.Conn, "cancel")
	k.lock(stackglue.EX, 0)
	if err := n.Conn.Unlock(&k.Lksb, stackglue.FlagCancel); err == nil {
		k.wait("end of the cancel", func() bool { return k.cancels == 1 })
	}
	k.lock(stackglue.PR, convert)
	k.unlock(0)
}

// testOwnLVB: a node reads what it wrote itself at the last EX.
func testOwnLVB(t *testing.T, n Node) {
	k := newLock(t, n.Conn, "lvb")
	k.lock(stackglue.EX, valblk)
	if k.LVB != [stackglue.LVBLen]byte{} {
		t.Errorf("value block of a new name: %x", k.LVB)
	}
	for i := range k.LVB {
		k.LVB[i] = byte(i + 1)
	}
	want := k.LVB
	k.lock(stackglue.NL, convert|valblk)
	clear(k.LVB[:])
	k.lock(stackglue.PR, convert|valblk)
	if k.lvb != want || !k.valid {
		t.Errorf("read back %x, valid %v", k.lvb, k.valid)
	}
	// PR does not write.
	clear(k.LVB[:])
	k.lock(stackglue.NL, convert|valblk)
	clear(k.LVB[:])
	k.lock(stackglue.EX, convert|valblk)
	if k.lvb != want {
		t.Errorf("a holder of PR changed the value block: %x", k.lvb)
	}
	k.unlock(valblk)
}

// testDisconnect: not with locks; afterwards nothing is accepted.
func testDisconnect(t *testing.T, n Node) {
	k := newLock(t, n.Conn, "bye")
	k.lock(stackglue.PR, 0)
	if err := n.Conn.Disconnect(context.Background()); err == nil {
		t.Fatal("Disconnect with a lock was accepted")
	}
	k.unlock(0)
	if err := n.Conn.Disconnect(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := n.Conn.Lock(&k.Lksb, stackglue.PR, 0); !errors.Is(err, stackglue.ErrShutdown) {
		t.Errorf("Lock after Disconnect: %v", err)
	}
}

// testAbort: works with locks; afterwards nothing is accepted or called.
func testAbort(t *testing.T, n Node) {
	k := newLock(t, n.Conn, "abort")
	k.lock(stackglue.EX, 0)
	n.Conn.Abort()
	if err := n.Conn.Lock(&k.Lksb, stackglue.PR, convert); !errors.Is(err, stackglue.ErrShutdown) {
		t.Errorf("Lock after Abort: %v", err)
	}
	if err := n.Conn.Unlock(&k.Lksb, 0); !errors.Is(err, stackglue.ErrShutdown) {
		t.Errorf("Unlock after Abort: %v", err)
	}
	if k.asts != 1 || k.unlocks != 0 {
		t.Errorf("%d completions, %d unlocks", k.asts, k.unlocks)
	}
}
