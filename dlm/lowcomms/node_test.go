package lowcomms

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/dlm/midcomms"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

const testPort = 21964

// addr gives every node a loopback address; test processes do not meet each other.
func addr(node uint32) netip.Addr {
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, 64 | byte(pid>>8)&63, byte(pid), byte(node)})
}

// networks runs f over TCP on the loopback and in memory.
func networks(t *testing.T, f func(t *testing.T, net Network)) {
	t.Run("tcp", func(t *testing.T) { f(t, TCP{}) })
	t.Run("mem", func(t *testing.T) { f(t, NewMem()) })
}

// tester is a Node with a trivial lockspace above it: it answers STATUS and counts MSGs.
type tester struct {
	t    testing.TB
	id   uint32
	node *Node
	got  [8]atomic.Uint32 // MSGs per sender
	said [8]atomic.Uint32 // STATUS_REPLYs per sender
	bad  atomic.Pointer[error]
	each func(from uint32, cmd wire.Cmd, inner []byte)
	logs logs
}

type logs struct {
	mu   sync.Mutex
	list []string
}

func (l *logs) add(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, r.String())
}

func newTester(t testing.TB, net Network, id uint32) *tester {
	x := &tester{t: t, id: id}
	var err error
	x.node, err = NewNode(Config{Self: id, Addr: addr(id), Port: testPort, Network: net, Log: x.logs.add,
		Link: midcomms.Config{ShutdownTimeout: 3 * time.Second}}, x.deliver)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			x.dump()
		}
		_ = x.node.Close()
	})
	return x
}

// dump tells what a node of a failed test knows.
func (x *tester) dump() {
	x.logs.mu.Lock()
	defer x.logs.mu.Unlock()
	x.t.Logf("node %d:\n%s", x.id, strings.Join(x.logs.list[max(0, len(x.logs.list)-30):], "\n"))
	for id := range uint32(8) {
		l := x.node.tr.(*Conns).link(id)
		if l == nil {
			continue
		}
		s, _ := x.node.Status(id)
		x.t.Logf("to node %d: %+v %+v", id, s, x.node.tr.(*Conns).Stats(id))
		l.mu.Lock()
		x.t.Logf("want %v dialing %v delay %v closed %v", l.want, l.dialing, l.delay, l.closed)
		for _, c := range l.conns {
			x.t.Logf("connection: dialled %v, sending %v, writing %v, dead %v, %d bytes waiting, %d held", c.dialed, c == l.send,
				c.writing, c.dead, len(c.out), c.framer.Held())
		}
		l.mu.Unlock()
	}
}

func (x *tester) deliver(from uint32, cmd wire.Cmd, inner []byte) {
	if cmd == wire.CmdRcom {
		var r wire.Rcom
		if r.Decode(inner) == nil && r.Type == wire.RcomStatus {
			_ = x.node.Send(from, rcom(x.id, wire.RcomStatusReply)) // refused while the association ends
		} else {
			x.said[from].Add(1)
		}
		return
	}
	var m wire.Message
	if err := m.Decode(inner); err != nil {
		x.fail(err)
		return
	}
	if want := x.got[from].Load(); m.LkID != want {
		x.fail(fmt.Errorf("node %d got message %d of node %d, want %d", x.id, m.LkID, from, want))
	}
	x.got[from].Add(1)
	if x.each != nil {
		x.each(from, cmd, inner)
	}
}

func (x *tester) fail(err error) { x.bad.CompareAndSwap(nil, &err) }

func rcom(self uint32, typ wire.RcomType) []byte {
	return (&wire.Rcom{Header: wire.Header{Union: 7, NodeID: self}, Type: typ, Buf: make([]byte, 32)}).Append(nil)
}

func msg(dst []byte, self, n uint32, extra int) []byte {
	m := wire.Message{Header: wire.Header{Union: 7, NodeID: self}, Type: wire.MsgRequest, LkID: n, Extra: make([]byte, extra)}
	return m.Append(dst)
}

func (x *tester) start() *tester {
	x.t.Helper()
	if err := x.node.Start(); err != nil {
		x.t.Fatal(err)
	}
	return x
}

func (x *tester) peer(id uint32) *tester {
	x.t.Helper()
	if err := x.node.AddPeer(id, addr(id)); err != nil {
		x.t.Fatal(err)
	}
	return x
}

func (x *tester) join(id uint32) {
	x.t.Helper()
	if err := x.node.AddMember(id); err != nil {
		x.t.Fatal(err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
		if f() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// talk exchanges STATUS, so that the version is known. Nothing bare is under way afterwards: it would reset an
// association that is ending.
func (x *tester) talk(id uint32) {
	x.t.Helper()
	before := x.said[id].Load()
	for range 10 { // a bare message may be lost with its connection; the lock manager repeats it after 5 s
		if err := x.node.Send(id, rcom(x.id, wire.RcomStatus)); err != nil {
			x.t.Fatal(err)
		}
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Microsecond) {
			if x.said[id].Load() > before {
				return
			}
		}
	}
	x.t.Fatalf("node %d does not answer STATUS", id)
}

// group starts n nodes that are all members.
func group(t testing.TB, net Network, n uint32) []*tester {
	t.Helper()
	x := make([]*tester, n+1)
	for i := uint32(1); i <= n; i++ {
		x[i] = newTester(t, net, i)
		for j := uint32(1); j <= n; j++ {
			if j != i {
				x[i].peer(j)
			}
		}
		x[i].start()
	}
	for i := uint32(1); i <= n; i++ {
		for j := uint32(1); j <= n; j++ {
			if j != i {
				x[i].join(j)
			}
		}
	}
	for i := uint32(1); i <= n; i++ {
		for j := uint32(1); j <= n; j++ {
			if j != i {
				x[i].talk(j)
			}
		}
	}
	return x
}

// leave lets node i leave while the others stay, then ends its connections.
func leave(t testing.TB, x []*tester, i uint32, after time.Duration) {
	t.Helper()
	done := make(chan error, 1)
	for j := range x[1:] {
		if uint32(j+1) != i {
			_ = x[i].node.RemoveMember(uint32(j + 1))
		}
	}
	go func() { done <- x[i].node.Shutdown(context.Background()) }()
	time.Sleep(after)
	for j := range x[1:] {
		if uint32(j+1) != i && x[j+1] != nil {
			_ = x[j+1].node.RemoveMember(i)
		}
	}
	if err := <-done; err != nil {
		t.Errorf("node %d: %v", i, err)
	}
}

// TestThreeNodes: everybody sends to everybody from several goroutines' worth of streams; then all leave, one by one.
func TestThreeNodes(t *testing.T) {
	networks(t, func(t *testing.T, net Network) {
		const count = 3000
		x := group(t, net, 3)
		var wg sync.WaitGroup
		for i := uint32(1); i <= 3; i++ {
			for j := uint32(1); j <= 3; j++ {
				if i == j {
					continue
				}
				wg.Add(1)
				go func() {
					defer wg.Done()
					var buf []byte
					for k := range uint32(count) {
						buf = msg(buf[:0], i, k, int(k%64))
						if err := x[i].node.Send(j, buf); err != nil {
							t.Error(err)
							return
						}
					}
				}()
			}
		}
		wg.Wait()
		for i := uint32(1); i <= 3; i++ {
			for j := uint32(1); j <= 3; j++ {
				eventually(t, "all arrived", func() bool { return i == j || x[i].got[j].Load() == count })
			}
			if e := x[i].bad.Load(); e != nil {
				t.Error(*e)
			}
		}
		leave(t, x, 3, 0)
		leave(t, x[:3], 2, 20*time.Millisecond)
		eventually(t, "node 1 closed", func() bool { s, _ := x[1].node.Status(2); return s.State == midcomms.Closed })
		if err := x[1].node.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// TestCuts: connections are broken at any byte while both sides send; nothing is lost, doubled or out of order, and
// the handshake ends.
func TestCuts(t *testing.T) {
	for seed := range int64(6) {
		mem := NewMem()
		x := group(t, mem, 2)
		const count, cuts = 4000, 20
		var wg sync.WaitGroup
		for i := uint32(1); i <= 2; i++ {
			wg.Add(1)
			go func() {
				defer wg.Done()
				rng := rand.New(rand.NewSource(2*seed + int64(i)))
				for k := range uint32(count) {
					if err := x[i].node.Queue(3-i, msg(nil, i, k, int(k%200))); err != nil {
						t.Error(err)
						return
					}
					if rng.Intn(7) == 0 {
						x[i].node.Flush(3 - i)
					}
					if k%(2*count/cuts) == uint32(seed)*10 {
						cut(t, mem, rng)
					}
				}
				x[i].node.Flush(3 - i)
			}()
		}
		wg.Wait()
		for i := uint32(1); i <= 2; i++ {
			eventually(t, "all arrived", func() bool { return x[i].got[3-i].Load() == count })
			if e := x[i].bad.Load(); e != nil {
				t.Errorf("seed %d: %v", seed, *e)
			}
			if s := x[i].node.tr.(*Conns).Stats(3 - i); s.Connects < cuts/2 {
				t.Errorf("seed %d: only %d connections", seed, s.Connects)
			}
		}
		// The end of the last cut may meet the handshake: then the side that stays waits for its timeout.
		leave(t, x, 2, 0)
		eventually(t, "closed", func() bool { s, _ := x[1].node.Status(2); return s.State == midcomms.Closed })
		_ = x[1].node.Close()
	}
}

// cut breaks what connections there are, once there is one.
func cut(t *testing.T, mem *Mem, rng *rand.Rand) {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Microsecond) {
		if mem.Break(addr(1), addr(2), func(n int) int { return rng.Intn(n + 1) }) > 0 {
			return
		}
		if time.Now().After(end) {
			t.Error("no connection comes back")
			return
		}
	}
}

// TestFencedAndBack: a node dies without a word, is removed, comes back with numbers from 0; the survivor does too.
func TestFencedAndBack(t *testing.T) {
	networks(t, func(t *testing.T, net Network) {
		x := group(t, net, 2)
		for k := range uint32(5) {
			if err := x[1].node.Send(2, msg(nil, 1, k, 0)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "5 arrived", func() bool { return x[2].got[1].Load() == 5 })
		_ = x[2].node.Close()
		eventually(t, "connection lost", func() bool {
			return x[1].node.tr.(*Conns).link(2).sending() == nil
		})
		x[1].node.RemovePeer(2)
		_ = x[1].node.RemoveMember(2)
		if s, _ := x[1].node.Status(2); s.State != midcomms.Closed || s.Send != 0 || s.Users != 0 {
			t.Errorf("after fencing: %+v", s)
		}
		if err := x[1].node.Send(2, msg(nil, 1, 0, 0)); !errors.Is(err, midcomms.ErrNoVersion) {
			t.Errorf("send to a fenced node: %v", err)
		}
		again := newTester(t, net, 2).peer(1).start()
		x[1].peer(2)
		x[1].join(2)
		again.join(1)
		x[1].talk(2)
		again.talk(1)
		x[1].got[2].Store(0)
		for k := range uint32(5) {
			if err := again.node.Send(1, msg(nil, 2, k, 0)); err != nil {
				t.Fatal(err)
			}
			if err := x[1].node.Send(2, msg(nil, 1, k, 0)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "5 arrived again", func() bool { return again.got[1].Load() == 5 && x[1].got[2].Load() == 5 })
		if e := again.bad.Load(); e != nil {
			t.Error(*e)
		}
	})
}

func (l *link) sending() *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.send
}

// TestShutdownNoAnswer: a peer that does not end the association is given up after the timeout; ctx ends it sooner.
func TestShutdownNoAnswer(t *testing.T) {
	x := group(t, NewMem(), 2)
	p := x[2].node.peer(1)
	p.mu.Lock() // node 2 is frozen
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	done := make(chan error)
	go func() { done <- x[1].node.Shutdown(ctx) }()
	if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v", err)
	}
	p.mu.Unlock()
	if err := x[1].node.Send(2, rcom(1, wire.RcomStatus)); err == nil {
		t.Error("a closed node sends")
	}
}

// TestUnknown: errors name the node.
func TestUnknown(t *testing.T) {
	x := newTester(t, NewMem(), 1)
	for _, err := range []error{x.node.Send(9, rcom(1, wire.RcomStatus)), x.node.AddMember(9), x.node.RemoveMember(9)} {
		if !errors.Is(err, ErrUnknownPeer) {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		id uint32
		a  netip.Addr
	}{{1, addr(4)}, {4, addr(1)}, {0, addr(4)}, {4, netip.Addr{}}, {4, netip.IPv6Loopback()}, {4, netip.IPv4Unspecified()}} {
		if err := x.node.AddPeer(c.id, c.a); err == nil {
			t.Errorf("peer %d at %v accepted", c.id, c.a)
		}
	}
	x.peer(2)
	if err := x.node.AddPeer(3, addr(2)); err == nil {
		t.Error("address given twice")
	}
	if err := x.node.AddPeer(2, addr(3)); err == nil {
		t.Error("node added twice")
	}
	if _, err := NewNode(Config{Self: 0, Addr: addr(1)}, nil); err == nil {
		t.Error("node 0")
	}
	if _, err := NewNode(Config{Self: 1, Addr: netip.IPv4Unspecified()}, nil); err == nil {
		t.Error("wildcard address")
	}
}

// TestSlowReader: a peer that does not read stalls neither senders nor receivers, and everything arrives later.
func TestSlowReader(t *testing.T) {
	networks(t, func(t *testing.T, net Network) {
		x := group(t, net, 2)
		gate := make(chan struct{})
		x[2].each = func(uint32, wire.Cmd, []byte) { <-gate }
		const count = 20000
		var buf []byte
		for k := range uint32(count) { // about 20 MB: more than any socket takes
			buf = msg(buf[:0], 1, k, 1000)
			if err := x[1].node.Send(2, buf); err != nil {
				t.Fatal(err)
			}
		}
		if err := x[2].node.Send(1, msg(nil, 2, 0, 0)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the other direction works", func() bool { return x[1].got[2].Load() == 1 })
		if s := x[1].node.tr.(*Conns).Stats(2); s.Stalls == 0 {
			t.Errorf("the socket took everything: %+v", s)
		}
		close(gate)
		eventually(t, "all arrived", func() bool { return x[2].got[1].Load() == count })
		if e := x[2].bad.Load(); e != nil {
			t.Error(*e)
		}
		eventually(t, "all acknowledged", func() bool { s, _ := x[1].node.Status(2); return s.Unacked == 0 })
	})
}

// TestNoAllocation: a message there and one back allocate nothing.
func TestNoAllocation(t *testing.T) {
	x := group(t, TCP{}, 2)
	pong := make(chan struct{}, 1)
	var back []byte
	x[2].each = func(from uint32, _ wire.Cmd, inner []byte) {
		back = append(back[:0], inner...)
		binary.LittleEndian.PutUint32(back[8:], 2)
		_ = x[2].node.Send(from, back)
	}
	x[1].each = func(uint32, wire.Cmd, []byte) { pong <- struct{}{} }
	k := uint32(0)
	buf := msg(nil, 1, 0, 31)
	n := testing.AllocsPerRun(2000, func() {
		binary.LittleEndian.PutUint32(buf[28:], k)
		k++
		if err := x[1].node.Send(2, buf); err != nil {
			t.Fatal(err)
		}
		<-pong
	})
	if n != 0 {
		t.Errorf("%v allocations per round trip", n)
	}
}

// TestRemovedPeerIsHeardNoMore: what an incarnation sent last is not delivered once RemovePeer has returned, since its
// successor is known by the same number from then on. That holds for a message that is being delivered, which is waited
// for, and for bytes that have been read from the socket and wait for their turn.
func TestRemovedPeerIsHeardNoMore(t *testing.T) {
	x := group(t, NewMem(), 2)
	inside, release := make(chan struct{}), make(chan struct{})
	var delivered atomic.Bool
	x[2].each = func(uint32, wire.Cmd, []byte) {
		close(inside)
		<-release
		delivered.Store(true)
	}
	if err := x[1].node.Send(2, msg(nil, 1, 0, 31)); err != nil {
		t.Fatal(err)
	}
	<-inside
	old := x[2].node.tr.(*Conns).link(1)
	time.AfterFunc(20*time.Millisecond, func() { close(release) })
	x[2].node.RemovePeer(1)
	if !delivered.Load() {
		t.Error("RemovePeer returned while a message of the peer was being delivered")
	}
	if err := x[2].node.AddPeer(1, addr(1)); err != nil {
		t.Fatal(err)
	}
	var f wire.Framer
	if err := old.input(&f, rcom(1, wire.RcomStatus)); !errors.Is(err, errClosed) {
		t.Errorf("input of the removed peer's connection: %v", err)
	}
	if s, err := x[2].node.Status(1); err != nil || s.State != midcomms.Closed {
		t.Errorf("the successor's association was begun by what the removed peer sent: %+v, %v", s, err)
	}
}
