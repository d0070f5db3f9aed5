package stacktest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
)

// Run checks a stack of several nodes: everything there is.
func Run(t *testing.T, f Factory) {
	RunSingle(t, f)
	for _, c := range multiTests {
		t.Run(c.name, func(t *testing.T) {
			recs := make([]stackglue.RecoveryHandler, 3)
			dd := make([]*downs, 3)
			for i := range recs {
				dd[i] = &downs{}
				recs[i] = dd[i]
			}
			c.fn(t, f(t, recs), dd)
		})
	}
}

// RunSingle checks what one node can show.
func RunSingle(t *testing.T, f Factory) {
	for _, c := range singleTests {
		t.Run(c.name, func(t *testing.T) { c.fn(t, f(t, []stackglue.RecoveryHandler{&downs{}})[0]) })
	}
}

var multiTests = []struct {
	name string
	fn   func(*testing.T, []Node, []*downs)
}{
	{"compatibility", testCompatibility},
	{"blocking", testBlocking},
	{"noqueue", testNoQueue},
	{"cancel request", testCancelRequest},
	{"cancel convert", testCancelConvert},
	{"shared value block", testSharedLVB},
	{"death", testDeath},
	{"value block of a dead writer", testDeadWriter},
	{"exclusion", testExclusion},
}

// testCompatibility: NL, PR and EX against each other, all nine pairs.
func testCompatibility(t *testing.T, n []Node, _ []*downs) {
	for _, a := range []stackglue.Mode{stackglue.NL, stackglue.PR, stackglue.EX} {
		for _, b := range []stackglue.Mode{stackglue.NL, stackglue.PR, stackglue.EX} {
			x, y := newLock(t, n[0].Conn, fmt.Sprint(a, b)), newLock(t, n[1].Conn, fmt.Sprint(a, b))
			x.lock(a, 0)
			got := y.ended(y.start(b, noqueue)) == nil
			if want := a == stackglue.NL || b == stackglue.NL || a == stackglue.PR && b == stackglue.PR; got != want {
				t.Errorf("%v against %v: granted %v", a, b, got)
			}
			if got {
				y.unlock(0)
			}
			x.unlock(0)
		}
	}
}

// testBlocking: a waiter makes a BAST, is granted when the holder lowers, and
// a holder that is asked for more is told again.
func testBlocking(t *testing.T, n []Node, _ []*downs) {
	x, y, z := newLock(t, n[0].Conn, "b"), newLock(t, n[1].Conn, "b"), newLock(t, n[2].Conn, "b")
	x.lock(stackglue.EX, 0)
	c := y.start(stackglue.PR, 0)
	x.wait("BAST for PR", func() bool { return len(x.basts) > 0 && x.basts[0] == stackglue.PR })
	y.quiet(c)
	d := z.start(stackglue.EX, 0)
	x.wait("BAST for EX", func() bool { return x.basts[len(x.basts)-1] == stackglue.EX })
	x.lock(stackglue.PR, convert)
	if err := y.ended(c); err != nil {
		t.Fatal(err)
	}
	z.quiet(d)
	x.wait("BAST about PR", func() bool { return len(x.basts) >= 2 })
	y.wait("BAST about PR", func() bool { return len(y.basts) >= 1 })
	x.lock(stackglue.NL, convert)
	y.unlock(0)
	if err := z.ended(d); err != nil {
		t.Fatal(err)
	}
	z.unlock(0)
	x.unlock(0)
}

// testNoQueue: refused at once, level as before, lock usable.
func testNoQueue(t *testing.T, n []Node, _ []*downs) {
	x, y := newLock(t, n[0].Conn, "nq"), newLock(t, n[1].Conn, "nq")
	x.lock(stackglue.EX, 0)
	if err := y.ended(y.start(stackglue.PR, noqueue)); !errors.Is(err, stackglue.ErrAgain) {
		t.Fatalf("request: %v", err)
	}
	x.lock(stackglue.PR, convert)
	y.lock(stackglue.PR, noqueue)
	if err := y.ended(y.start(stackglue.EX, noqueue|convert)); !errors.Is(err, stackglue.ErrAgain) {
		t.Fatalf("convert: %v", err)
	}
	if err := x.ended(x.start(stackglue.EX, noqueue|convert)); !errors.Is(err, stackglue.ErrAgain) {
		t.Fatalf("the refused convert lost its PR: %v", err)
	}
	y.unlock(0)
	x.lock(stackglue.EX, noqueue|convert)
	x.unlock(0)
}

// testCancelRequest: the request ends with ErrCanceled and leaves no lock.
func testCancelRequest(t *testing.T, n []Node, _ []*downs) {
	x, y := newLock(t, n[0].Conn, "cr"), newLock(t, n[1].Conn, "cr")
	x.lock(stackglue.EX, 0)
	c := y.start(stackglue.PR, 0)
	x.wait("BAST", func() bool { return len(x.basts) > 0 })
	if err := n[1].Conn.Unlock(&y.Lksb, stackglue.FlagCancel); err != nil {
		t.Fatal(err)
	}
	if err := y.ended(c); !errors.Is(err, stackglue.ErrCanceled) {
		t.Fatalf("status %v", err)
	}
	y.wait("end of the cancel", func() bool { return y.cancels == 1 })
	x.unlock(0)
	y.lock(stackglue.EX, noqueue)
	y.unlock(0)
}

// testCancelConvert resolves the deadlock of two PR holders that want EX.
func testCancelConvert(t *testing.T, n []Node, _ []*downs) {
	x, y := newLock(t, n[0].Conn, "cc"), newLock(t, n[1].Conn, "cc")
	x.lock(stackglue.PR, 0)
	y.lock(stackglue.PR, 0)
	c := x.start(stackglue.EX, convert)
	y.wait("BAST", func() bool { return len(y.basts) > 0 })
	d := y.start(stackglue.EX, convert)
	x.quiet(c)
	y.quiet(d)
	if err := n[1].Conn.Unlock(&y.Lksb, stackglue.FlagCancel); err != nil {
		t.Fatal(err)
	}
	if err := y.ended(d); !errors.Is(err, stackglue.ErrCanceled) {
		t.Fatalf("status %v", err)
	}
	y.wait("end of the cancel", func() bool { return y.cancels == 1 })
	x.quiet(c)
	y.lock(stackglue.NL, convert)
	if err := x.ended(c); err != nil {
		t.Fatal(err)
	}
	x.unlock(0)
	y.unlock(0)
}

// testSharedLVB: what the holder of EX wrote, by convert or unlock, is what
// the next holder reads; who lowers without FlagValBlk writes nothing.
func testSharedLVB(t *testing.T, n []Node, _ []*downs) {
	x, y := newLock(t, n[0].Conn, "v"), newLock(t, n[1].Conn, "v")
	y.lock(stackglue.NL, valblk)
	x.lock(stackglue.EX, valblk)
	x.LVB[0], x.LVB[63] = 1, 2
	x.lock(stackglue.NL, convert|valblk)
	y.lock(stackglue.PR, convert|valblk)
	if y.lvb[0] != 1 || y.lvb[63] != 2 || !y.valid {
		t.Errorf("after a convert: %x valid %v", y.lvb, y.valid)
	}
	y.lock(stackglue.NL, convert|valblk)
	x.lock(stackglue.EX, convert|valblk)
	x.LVB[0] = 7
	x.lock(stackglue.NL, convert)
	y.lock(stackglue.PR, convert|valblk)
	if y.lvb[0] != 1 {
		t.Errorf("a convert without the flag wrote the value block: %x", y.lvb)
	}
	y.lock(stackglue.NL, convert|valblk)
	x.lock(stackglue.EX, convert|valblk)
	x.LVB[0] = 9
	x.unlock(valblk)
	y.lock(stackglue.PR, convert|valblk)
	if y.lvb[0] != 9 || !y.valid {
		t.Errorf("after an unlock: %x valid %v", y.lvb, y.valid)
	}
	y.unlock(0)
}

// testDeath: a dead node's lock goes to the waiter, who knows of the death by
// then.
func testDeath(t *testing.T, n []Node, dd []*downs) {
	dead := n[2].Conn.ThisNode()
	x, y, z := newLock(t, n[0].Conn, "d"), newLock(t, n[1].Conn, "d"), newLock(t, n[2].Conn, "d")
	z.lock(stackglue.EX, 0)
	c, d := x.start(stackglue.PR, 0), y.start(stackglue.PR, 0)
	x.quiet(c)
	n[2].Crash()
	for i, k := range []*lk{x, y} {
		if err := k.ended([]int{c, d}[i]); err != nil {
			t.Fatal(err)
		}
		if !dd[i].has(dead) {
			t.Errorf("node %d was granted a dead node's lock before NodeDown", i)
		}
		k.unlock(0)
	}
}

// testDeadWriter: the value block of a holder of EX that died is not trusted,
// until somebody writes it again.
func testDeadWriter(t *testing.T, n []Node, _ []*downs) {
	x, y, z := newLock(t, n[0].Conn, "dw"), newLock(t, n[1].Conn, "dw"), newLock(t, n[2].Conn, "dw")
	x.lock(stackglue.NL, valblk)
	y.lock(stackglue.NL, valblk)
	z.lock(stackglue.EX, valblk)
	c := x.start(stackglue.EX, convert|valblk)
	x.quiet(c)
	n[2].Crash()
	if err := x.ended(c); err != nil {
		t.Fatal(err)
	}
	if x.valid {
		t.Error("the value block of a dead writer is called valid")
	}
	x.LVB[5] = 5
	x.lock(stackglue.NL, convert|valblk)
	y.lock(stackglue.PR, convert|valblk)
	if !y.valid || y.lvb[5] != 5 {
		t.Errorf("rewritten value block: %x valid %v", y.lvb, y.valid)
	}
	y.unlock(0)
	x.unlock(0)
}

// testExclusion: random requests of all nodes, each of which obeys BASTs; EX
// excludes, the counter in the value block loses nothing, everybody gets on.
func testExclusion(t *testing.T, n []Node, _ []*downs) {
	const rounds = 150
	var mu sync.Mutex // guards readers, writers
	readers, writers := 0, 0
	var wrote [3]uint64
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := rand.New(rand.NewSource(int64(i)))
			k := newLock(t, n[i].Conn, "x")
			k.lock(stackglue.NL, valblk)
			for range rounds {
				mode := stackglue.PR
				if rng.Intn(2) == 0 {
					mode = stackglue.EX
				}
				k.lock(mode, convert|valblk)
				mu.Lock()
				if mode == stackglue.EX {
					writers++
				} else {
					readers++
				}
				if writers > 1 || writers == 1 && readers > 0 {
					t.Errorf("%d writers and %d readers", writers, readers)
				}
				mu.Unlock()
				if mode == stackglue.EX {
					binary.BigEndian.PutUint64(k.LVB[:], binary.BigEndian.Uint64(k.LVB[:])+1)
					wrote[i]++
				}
				if rng.Intn(8) == 0 {
					<-time.After(time.Duration(rng.Intn(200)) * time.Microsecond)
				}
				mu.Lock()
				if mode == stackglue.EX {
					writers--
				} else {
					readers--
				}
				mu.Unlock()
				k.lock(stackglue.NL, convert|valblk)
			}
			k.unlock(0)
		}()
		if i == 0 {
			// The name must not be forgotten while the counter is read.
			keep := newLock(t, n[0].Conn, "x")
			keep.lock(stackglue.NL, valblk)
			defer func() {
				keep.lock(stackglue.PR, convert|valblk)
				if got, want := binary.BigEndian.Uint64(keep.lvb[:]), wrote[0]+wrote[1]+wrote[2]; got != want {
					t.Errorf("counter in the value block: %d, want %d", got, want)
				}
				keep.unlock(0)
			}()
		}
	}
	wg.Wait()
}
