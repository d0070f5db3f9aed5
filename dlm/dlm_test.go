package dlm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/dlm/core"
	"github.com/ocfuse/ocfuse/dlm/lowcomms"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

// testNode is a node on an in-memory network with one lockspace.
type testNode struct {
	id   uint32
	n    *Node
	lc   *lowcomms.Node
	ls   *Lockspace
	done chan uint32 // generations
	slot chan Slot
}

func addrOf(id uint32) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(id)}) }

func newTestNode(t testing.TB, mem *lowcomms.Mem, id uint32, peers int) *testNode {
	t.Helper()
	return newNodeOn(t, mem, addrOf, id, peers)
}

func newNodeOn(t testing.TB, net lowcomms.Network, addrOf func(uint32) netip.Addr, id uint32, peers int) *testNode {
	t.Helper()
	tn := &testNode{id: id, n: NewNode(id), done: make(chan uint32, 16), slot: make(chan Slot, 16)}
	lc, err := lowcomms.NewNode(lowcomms.Config{Self: id, Addr: addrOf(id), Network: net}, tn.n.Deliver)
	if err != nil {
		t.Fatal(err)
	}
	tn.lc = lc
	for p := uint32(1); p <= uint32(peers); p++ {
		if p != id {
			if err := lc.AddPeer(p, addrOf(p)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := lc.Start(); err != nil {
		t.Fatal(err)
	}
	tn.n.Attach(lc)
	tn.ls, err = tn.n.Create(Config{Name: "test", LVBLen: 64, Events: Events{
		Done: func(_ []Slot, _ uint16, gen uint32) { tn.done <- gen },
		Slot: func(s Slot) { tn.slot <- s },
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = tn.ls.Release(true) // a test may have done it
		if err := lc.Close(); err != nil {
			t.Error(err)
		}
	})
	return tn
}

func (tn *testNode) waitDone(t testing.TB) {
	t.Helper()
	select {
	case <-tn.done:
	case <-time.After(20 * time.Second):
		t.Fatalf("node %d does not finish recovery: %+v", tn.id, tn.ls.Membership())
	}
}

// start gives all nodes the same list; failed are the departed that died.
func start(t testing.TB, failed []int32, nodes ...*testNode) {
	t.Helper()
	var ms []Member
	for _, n := range nodes {
		ms = append(ms, Member{NodeID: int32(n.id), Weight: 1})
	}
	for _, n := range nodes {
		if err := n.ls.Start(ms, failed); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		n.waitDone(t)
	}
}

func stop(t testing.TB, nodes ...*testNode) {
	t.Helper()
	for _, n := range nodes {
		if err := n.ls.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

func cluster(t testing.TB, n int) []*testNode {
	mem := lowcomms.NewMem()
	var nodes []*testNode
	for id := 1; id <= n; id++ {
		nodes = append(nodes, newTestNode(t, mem, uint32(id), n))
	}
	start(t, nil, nodes...)
	return nodes
}

func ctxFor(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// yielder gives way by unlocking as soon as it may.
type yielder struct{ basts chan Mode }

func (y *yielder) AST(*Lock, Status) {}
func (y *yielder) BAST(_ *Lock, m Mode) {
	select {
	case y.basts <- m:
	default:
	}
}

// TestCounter: three nodes count in an LVB under EX. Nothing is lost.
func TestCounter(t *testing.T) {
	nodes := cluster(t, 3)
	ctx := ctxFor(t)
	keep, _, err := nodes[0].ls.LockWait(ctx, Request{Name: []byte("counter"), Mode: NL})
	if err != nil {
		t.Fatal(err)
	}
	const each, workers = 40, 2
	var wg sync.WaitGroup
	errs := make(chan error, len(nodes)*workers)
	for _, n := range nodes {
		for w := 0; w < workers; w++ {
			wg.Add(1)
			go func() {
				defer wg.Done()
				errs <- count(ctx, n.ls, each)
			}()
		}
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	st, err := keep.ConvertWait(ctx, PR, ValBlk, nil)
	if err != nil || st.Invalid {
		t.Fatal(st, err)
	}
	if got := binary.BigEndian.Uint64(st.LVB); got != uint64(len(nodes)*workers*each) {
		t.Errorf("counted %d, want %d", got, len(nodes)*workers*each)
	}
}

func count(ctx context.Context, ls *Lockspace, n int) error {
	for i := 0; i < n; i++ {
		l, st, err := ls.LockWait(ctx, Request{Name: []byte("counter"), Mode: EX, Flags: ValBlk})
		if err != nil {
			return err
		}
		v := binary.BigEndian.Uint64(st.LVB) + 1
		if err := l.UnlockWait(ctx, ValBlk, binary.BigEndian.AppendUint64(nil, v)); err != nil {
			return err
		}
	}
	return nil
}

// TestBlockingCallback: the holder is asked, gives way, the other gets the lock.
func TestBlockingCallback(t *testing.T) {
	nodes := cluster(t, 2)
	ctx := ctxFor(t)
	y := &yielder{basts: make(chan Mode, 4)}
	held, _, err := nodes[0].ls.LockWait(ctx, Request{Name: []byte("r"), Mode: EX, Handler: y})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := nodes[1].ls.LockWait(ctx, Request{Name: []byte("r"), Mode: PR, Flags: NoQueue}); !errors.Is(err, ErrAgain) || !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("NOQUEUE: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		_, _, err := nodes[1].ls.LockWait(ctx, Request{Name: []byte("r"), Mode: PR})
		got <- err
	}()
	if m := <-y.basts; m != PR {
		t.Errorf("BAST for %v", m)
	}
	if _, err := held.ConvertWait(ctx, PR, 0, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if held.Mode() != PR || held.ID() == 0 {
		t.Errorf("mode %v id %d", held.Mode(), held.ID())
	}
}

// TestContext: a wait that is given up leaves nothing behind.
func TestContext(t *testing.T) {
	nodes := cluster(t, 2)
	ctx := ctxFor(t)
	held, _, err := nodes[0].ls.LockWait(ctx, Request{Name: []byte("r"), Mode: EX})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		if _, _, err := n.ls.LockWait(short, Request{Name: []byte("r"), Mode: PR}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("node %d: %v", n.id, err)
		}
		cancel()
	}
	if err := held.UnlockWait(ctx, 0, nil); err != nil {
		t.Fatal(err)
	}
	l, _, err := nodes[1].ls.LockWait(ctx, Request{Name: []byte("r"), Mode: EX})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.UnlockWait(ctx, 0, nil); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		n.ls.Resources(false, func(ri *core.ResourceInfo) bool {
			t.Errorf("node %d: %s is still in use: %+v", n.id, ri.Name, ri.Locks)
			return true
		})
	}
}

// TestGrantAtTheEndOfTheContext: a request that is granted in the moment its context
// ends is granted. The lock must then be like any other: a conversion of it that is
// given up is no abandoned request.
func TestGrantAtTheEndOfTheContext(t *testing.T) {
	ls := soleMember(t)
	ctx := ctxFor(t)
	req := Request{Name: []byte("r"), Mode: NL}
	l := &Lock{ls: ls, isNew: true, sync: true, blocked: true, ch: make(chan struct{}, 1)} // as LockWait has it while it waits
	ls.enter()
	err := l.request(&req)
	ls.leave()
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if st, err := l.giveUp(over); err != nil || st.Mode != NL {
		t.Fatalf("a granted request gives %+v, %v", st, err)
	}
	other, _, err := ls.LockWait(ctx, Request{Name: req.Name, Mode: PR})
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
	defer cancel()
	if _, err := l.ConvertWait(short, EX, 0, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("conversion against PR: %v", err)
	}
	if err := other.UnlockWait(ctx, 0, nil); err != nil {
		t.Fatal(err)
	}
	last, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if st, err := l.ConvertWait(last, EX, 0, nil); err != nil || st.Mode != EX {
		t.Errorf("conversion after one that was given up: %+v, %v", st, err)
	}
}

// asyncOwner drives a lock by callbacks alone.
type asyncOwner struct {
	t    *testing.T
	left int
	end  chan Status
}

func (o *asyncOwner) AST(l *Lock, st Status) {
	if st.Result == ErrUnlocked {
		o.end <- st
		return
	}
	if err := st.Result.Err(); err != nil {
		o.t.Error(err)
	}
	o.left--
	next := EX
	if st.Mode == EX {
		next = NL
	}
	var err error
	if o.left > 0 {
		err = l.Convert(next, ValBlk, []byte(fmt.Sprint(o.left)))
	} else {
		err = l.Unlock(0, nil)
	}
	if err != nil {
		o.t.Error(err)
	}
}

func (o *asyncOwner) BAST(*Lock, Mode) {}

// TestCallbacks: operations issued from callbacks, on the master and away from it.
func TestCallbacks(t *testing.T) {
	nodes := cluster(t, 2)
	o := &asyncOwner{t: t, left: 101, end: make(chan Status, 2)}
	for i, n := range nodes {
		o := &asyncOwner{t: t, left: o.left, end: o.end}
		if _, err := n.ls.Lock(Request{Name: []byte(fmt.Sprint("r", i)), Mode: EX, Flags: ValBlk, Handler: o}); err != nil {
			t.Fatal(err)
		}
	}
	for range nodes {
		select {
		case st := <-o.end:
			if st.Mode != IV {
				t.Errorf("%+v", st)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the callbacks stopped")
		}
	}
}

// TestDeath: a node dies holding EX; the survivors are told, recover, and see the value marked invalid.
func TestDeath(t *testing.T) {
	nodes := cluster(t, 3)
	ctx := ctxFor(t)
	name := []byte("r")
	keep, _, err := nodes[0].ls.LockWait(ctx, Request{Name: name, Mode: NL, Flags: ValBlk})
	if err != nil {
		t.Fatal(err)
	}
	ex, _, err := nodes[2].ls.LockWait(ctx, Request{Name: name, Mode: EX, Flags: ValBlk})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ex.ConvertWait(ctx, NL, ValBlk, []byte("value")); err != nil {
		t.Fatal(err)
	}
	if _, err := ex.ConvertWait(ctx, EX, ValBlk, nil); err != nil {
		t.Fatal(err)
	}
	if err := nodes[2].lc.Close(); err != nil { // not a word more
		t.Fatal(err)
	}
	waiting := make(chan Status, 1)
	go func() {
		st, err := keep.ConvertWait(ctx, PR, ValBlk, nil)
		if err != nil {
			t.Error(err)
		}
		waiting <- st
	}()
	stop(t, nodes[0], nodes[1])
	for _, n := range nodes[:2] {
		n.lc.RemovePeer(3)
	}
	start(t, []int32{3}, nodes[0], nodes[1])
	if s := <-nodes[0].slot; s.NodeID != 3 || s.Slot != 3 {
		t.Errorf("failed slot %+v", s)
	}
	if st := <-waiting; !st.Invalid {
		t.Errorf("value %q is not marked invalid", st.LVB)
	}
}

// TestJoinLeave: operations go on across a join and an orderly leave.
func TestJoinLeave(t *testing.T) {
	mem := lowcomms.NewMem()
	a, b := newTestNode(t, mem, 1, 2), newTestNode(t, mem, 2, 2)
	start(t, nil, a)
	ctx := ctxFor(t)
	l, _, err := a.ls.LockWait(ctx, Request{Name: []byte("r"), Mode: PR})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, a)
	start(t, nil, a, b)
	if _, _, err := b.ls.LockWait(ctx, Request{Name: []byte("r"), Mode: EX, Flags: NoQueue}); !errors.Is(err, ErrAgain) {
		t.Errorf("EX beside PR: %v", err)
	}
	p, _, err := b.ls.LockWait(ctx, Request{Name: []byte("r"), Mode: PR})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, a, b)
	if err := a.ls.Release(false); !errors.Is(err, ErrBusy) {
		t.Errorf("release with locks: %v", err)
	}
	if err := a.ls.Release(true); err != nil { // node 1, the master, leaves
		t.Fatal(err)
	}
	start(t, nil, b)
	if _, err := p.ConvertWait(ctx, EX, 0, nil); err != nil {
		t.Errorf("EX after the other left: %v", err)
	}
	if _, err := l.ConvertWait(ctx, NL, 0, nil); !errors.Is(err, ErrState) {
		t.Errorf("lock of a released lockspace: %v", err)
	}
	if err := a.lc.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// fakeNet keeps what is sent.
type fakeNet struct{ sent [][]byte }

func (f *fakeNet) Send(_ uint32, b []byte) error {
	f.sent = append(f.sent, append([]byte(nil), b...))
	return nil
}
func (f *fakeNet) AddMember(uint32) error    { return nil }
func (f *fakeNet) RemoveMember(uint32) error { return nil }

// TestUnknownLockspace: only STATUS is answered, with -ESRCH. (Linux dlm_send_ls_not_ready.)
func TestUnknownLockspace(t *testing.T) {
	n, net := NewNode(1), &fakeNet{}
	n.Attach(net)
	hdr := wire.Header{Union: 77, NodeID: 2}
	req := wire.StatusRequest{}
	st := wire.Rcom{Header: hdr, Type: wire.RcomStatus, ID: 9, Seq: 3, Buf: req.Append(nil)}
	n.Deliver(2, wire.CmdRcom, st.Append(nil))
	names := wire.Rcom{Header: hdr, Type: wire.RcomNames}
	n.Deliver(2, wire.CmdRcom, names.Append(nil))
	msg := wire.Message{Header: hdr, Type: wire.MsgPurge}
	n.Deliver(2, wire.CmdMsg, msg.Append(nil))
	n.Deliver(2, wire.CmdMsg, []byte("short"))
	if len(net.sent) != 1 {
		t.Fatalf("%d answers, want 1", len(net.sent))
	}
	var r wire.Rcom
	if err := r.Decode(net.sent[0]); err != nil || r.Result != -3 || r.ID != 9 || r.SeqReply != 3 || r.Header.Union != 77 {
		t.Errorf("%+v %v", r, err)
	}
}

func TestCreateTwice(t *testing.T) {
	n := NewNode(1)
	ls, err := n.Create(Config{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Create(Config{Name: "x"}); !errors.Is(err, ErrState) {
		t.Errorf("second lockspace of the name: %v", err)
	}
	if _, err := n.Create(Config{Name: "y", LVBLen: 5}); !errors.Is(err, ErrInvalid) {
		t.Errorf("LVB of 5 bytes: %v", err)
	}
	if err := ls.Release(true); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Create(Config{Name: "x"}); err != nil {
		t.Error(err)
	}
}

func soleMember(tb testing.TB) *Lockspace {
	ls, err := NewNode(1).Create(Config{Name: "bench", LVBLen: 64})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := ls.Release(true); err != nil {
			tb.Error(err)
		}
	})
	if err := ls.Start([]Member{{NodeID: 1, Weight: 1}}, nil); err != nil {
		tb.Fatal(err)
	}
	return ls
}

// BenchmarkLockUnlock is a local uncontended lock and its unlock through the whole API.
func BenchmarkLockUnlock(b *testing.B) {
	ls := soleMember(b)
	ctx := context.Background()
	req := Request{Name: []byte("M000000000000000000000500000000"), Mode: EX, Flags: ValBlk}
	b.ReportAllocs()
	for b.Loop() {
		l, _, err := ls.LockWait(ctx, req)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.UnlockWait(ctx, 0, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkConvert is EX -> NL -> EX on a lock that stays.
func BenchmarkConvert(b *testing.B) {
	ls := soleMember(b)
	ctx := context.Background()
	l, _, err := ls.LockWait(ctx, Request{Name: []byte("r"), Mode: EX, Flags: ValBlk})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.ConvertWait(ctx, NL, ValBlk, nil); err != nil {
			b.Fatal(err)
		}
		if _, err := l.ConvertWait(ctx, EX, ValBlk, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRemoteConvert is NL -> PR -> NL at a master on another node, in memory.
func BenchmarkRemoteConvert(b *testing.B) {
	nodes := cluster(b, 2)
	ctx := context.Background()
	if _, _, err := nodes[0].ls.LockWait(ctx, Request{Name: []byte("r"), Mode: NL}); err != nil {
		b.Fatal(err)
	}
	l, _, err := nodes[1].ls.LockWait(ctx, Request{Name: []byte("r"), Mode: NL})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := l.ConvertWait(ctx, PR, 0, nil); err != nil {
			b.Fatal(err)
		}
		if _, err := l.ConvertWait(ctx, NL, 0, nil); err != nil {
			b.Fatal(err)
		}
	}
}
