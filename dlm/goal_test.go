package dlm

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/dlm/lowcomms"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

// remotePair is two nodes over TCP, and a name whose directory node and master is
// node 2.
func remotePair(tb testing.TB) (a, b *testNode, name []byte) {
	tb.Helper()
	pid := os.Getpid()
	addr := func(id uint32) netip.Addr {
		return netip.AddrFrom4([4]byte{127, byte(2 + pid%250), byte(200 + pid/250%50), byte(id)})
	}
	a = newNodeOn(tb, lowcomms.TCP{}, addr, 1, 2)
	b = newNodeOn(tb, lowcomms.TCP{}, addr, 2, 2)
	start(tb, nil, a, b)
	for i := 0; ; i++ {
		name = fmt.Appendf(name[:0], "M%030d", i)
		if wire.DirNode([]uint32{1, 2}, wire.ResourceHash(name)) == 2 {
			break
		}
	}
	if _, _, err := b.ls.LockWait(ctxFor(tb), Request{Name: name, Mode: NL}); err != nil { // makes node 2 the master, and keeps it
		tb.Fatal(err)
	}
	return a, b, name
}

// TestRemoteLockIsOneRoundTrip: a lock whose directory node is also the master costs
// one message each way, and so does its unlock; a conversion down costs one in all.
func TestRemoteLockIsOneRoundTrip(t *testing.T) {
	a, b, name := remotePair(t)
	ctx := ctxFor(t)
	sent := func() [2]uint64 { return [2]uint64{a.ls.Stats().Sent, b.ls.Stats().Sent} }
	var l *Lock
	for round := range 3 { // with and without knowing the master
		for _, step := range []struct {
			name string
			do   func() error
			want [2]uint64
		}{
			{"lock", func() (err error) { l, _, err = a.ls.LockWait(ctx, Request{Name: name, Mode: EX}); return err }, [2]uint64{1, 1}},
			{"down", func() error { _, err := l.ConvertWait(ctx, PR, 0, nil); return err }, [2]uint64{1, 0}},
			{"up", func() error { _, err := l.ConvertWait(ctx, EX, 0, nil); return err }, [2]uint64{1, 1}},
			{"unlock", func() error { return l.UnlockWait(ctx, 0, nil) }, [2]uint64{1, 1}},
		} {
			before := sent()
			if err := step.do(); err != nil {
				t.Fatalf("round %d: %s: %v", round, step.name, err)
			}
			after := sent()
			if got := [2]uint64{after[0] - before[0], after[1] - before[1]}; got != step.want {
				t.Errorf("round %d: %s: messages sent by the nodes %v, want %v", round, step.name, got, step.want)
			}
		}
	}
}

// rawEcho is a bare TCP connection whose other end echoes frames of that size.
func rawEcho(b *testing.B, size int) net.Conn {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	x, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	y, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = x.Close(); _ = y.Close() })
	go func() {
		buf := make([]byte, size)
		for {
			if _, err := io.ReadFull(y, buf); err != nil {
				return
			}
			if _, err := y.Write(buf); err != nil {
				return
			}
		}
	}()
	return x
}

// BenchmarkRemoteLock is a lock mastered by another node over the loopback, and a bare
// round trip of a frame of its size, by turns: what counts is x-raw. The unlock is
// not timed.
func BenchmarkRemoteLock(b *testing.B) {
	a, _, name := remotePair(b)
	ctx := context.Background()
	buf := make([]byte, wire.OptsSize+wire.MessageSize+len(name))
	x := rawEcho(b, len(buf))
	var raw, lock time.Duration
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		t0 := time.Now()
		if _, err := x.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(x, buf); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		l, _, err := a.ls.LockWait(ctx, Request{Name: name, Mode: EX})
		lock += time.Since(t1)
		raw += t1.Sub(t0)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.UnlockWait(ctx, 0, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(raw)/float64(n), "raw-ns/op")
	b.ReportMetric(float64(lock)/float64(n), "lock-ns/op")
	b.ReportMetric(float64(lock)/float64(raw), "x-raw")
}
