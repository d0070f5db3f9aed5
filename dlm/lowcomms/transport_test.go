package lowcomms

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// recorder is a Handler that writes down what it is told.
type recorder struct {
	mu    sync.Mutex
	log   []string
	bytes bytes.Buffer
}

func (r *recorder) say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

func (r *recorder) OnConnected(node uint32) { r.say("up %d", node) }

func (r *recorder) OnDisconnected(node uint32, err error) {
	if err != nil {
		r.say("down %d error", node)
		return
	}
	r.say("down %d", node)
}

func (r *recorder) OnBytes(_ uint32, f *wire.Framer, b []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		frame, rest, err := f.Next(b)
		if frame == nil {
			return err
		}
		r.bytes.Write(frame)
		b = rest
	}
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.log, ", ")
}

func (r *recorder) received() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.bytes.Bytes())
}

// start1 starts node 1 that knows nodes 2 and 3, which the test plays itself.
func start1(t *testing.T, nw Network) (*Conns, *recorder) {
	t.Helper()
	c, err := NewConns(Config{Self: 1, Addr: addr(1), Port: testPort, Network: nw})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []uint32{2, 3} {
		if err := c.AddPeer(id, addr(id)); err != nil {
			t.Fatal(err)
		}
	}
	r := &recorder{}
	if err := c.Start(r); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, r
}

func at(node uint32) netip.AddrPort { return netip.AddrPortFrom(addr(node), testPort) }

func dial(t *testing.T, nw Network, from, to uint32) Conn {
	t.Helper()
	c, err := nw.Dial(context.Background(), addr(from), at(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func listen(t *testing.T, nw Network, node uint32) Listener {
	t.Helper()
	l, err := nw.Listen(at(node))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func accept(t *testing.T, l Listener) Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// readN reads n bytes of a connection.
func readN(t *testing.T, c Conn, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("after %d bytes: %v", n, err)
	}
	return b
}

// ended waits for the end of a connection and returns how it ended, nil for cleanly.
func ended(c Conn) error {
	_, err := io.Copy(io.Discard, readerOnly{c})
	return err
}

// stranger checks that a connection of node is reset, maybe before the dial is complete.
func stranger(t *testing.T, nw Network, node uint32) {
	t.Helper()
	c, err := nw.Dial(context.Background(), addr(node), at(1))
	if err == nil {
		err = ended(c)
		_ = c.Close()
	}
	if err == nil {
		t.Error("a stranger was closed cleanly, want a reset")
	}
}

type readerOnly struct{ io.Reader }

var ack1, ack2, ack3 = wire.AppendAck(nil, 1, 1), wire.AppendAck(nil, 1, 2), wire.AppendAck(nil, 1, 3)

// TestBySourceAddress: a peer is who its address says, on any port; an unknown address is closed at once.
func TestBySourceAddress(t *testing.T) {
	networks(t, func(t *testing.T, nw Network) {
		_, r := start1(t, nw)
		c := dial(t, nw, 3, 1)
		eventually(t, "node 3 known", func() bool { return r.String() == "up 3" })
		stranger(t, nw, 9)
		if _, err := c.Write(ack1); err != nil {
			t.Fatal(err)
		}
		eventually(t, "bytes arrive", func() bool { return bytes.Equal(r.received(), ack1) })
		if s := r.String(); s != "up 3" {
			t.Error(s)
		}
	})
}

// TestStrangersDoNotFillTheLog: one line for each address, not for each connection.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	mem := NewMem()
	var l logs
	c, err := NewConns(Config{Self: 1, Addr: addr(1), Port: testPort, Network: mem, Log: l.add})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(&recorder{}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		stranger(t, mem, 8)
		stranger(t, mem, 9)
	}
	_ = c.Close()
	if len(l.list) != 2 {
		t.Errorf("ten connections of two strangers make %d lines: %q", len(l.list), l.list)
	}
	r, now := refusals{}, time.Now()
	for i := range byte(255) {
		for range 2 {
			r.news(netip.AddrFrom4([4]byte{10, 0, 0, i}), now)
			r.news(netip.AddrFrom4([4]byte{10, 0, 1, i}), now)
		}
	}
	if len(r) > maxRefused {
		t.Errorf("%d addresses are remembered", len(r))
	}
	if a := netip.AddrFrom4([4]byte{10, 0, 1, 254}); r.news(a, now) || !r.news(a, now.Add(refusedPause)) {
		t.Error("a refusal is news once a minute")
	}
}

// TestAcceptedIsUsed: while the peer's own connection exists we do not dial, and send on it.
func TestAcceptedIsUsed(t *testing.T) {
	networks(t, func(t *testing.T, nw Network) {
		c, r := start1(t, nw)
		p := dial(t, nw, 2, 1)
		eventually(t, "up", func() bool { return r.String() == "up 2" })
		c.Connect(2)
		c.Send(2, ack1)
		c.Send(2, ack2)
		c.Flush(2)
		if b := readN(t, p, 32); !bytes.Equal(b, append(bytes.Clone(ack1), ack2...)) {
			t.Errorf("%x", b)
		}
		if s := c.Stats(2); s.Dials != 0 || s.Writes != 1 || s.BytesOut != 32 {
			t.Errorf("%+v", s)
		}
	})
}

// TestDialsFromOwnAddress: our dial comes from our address; a refusal is repeated, but not thousands of times.
func TestDialsFromOwnAddress(t *testing.T) {
	networks(t, func(t *testing.T, nw Network) {
		c, r := start1(t, nw)
		c.Connect(2)
		began := time.Now()
		eventually(t, "it dials on", func() bool { return c.Stats(2).Dials >= 5 })
		d := time.Since(began) // 5, 10, 20 .. 500 ms between them
		if n := c.Stats(2).Dials; n > 9+uint64(d/maxDelay) {
			t.Errorf("%d dials in %v", n, d)
		}
		l := listen(t, nw, 2)
		p := accept(t, l)
		if p.RemoteAddr() != addr(1) {
			t.Errorf("dial from %v", p.RemoteAddr())
		}
		eventually(t, "up", func() bool { return r.String() == "up 2" })
		if _, err := p.Write(ack1); err != nil { // the peer talks: the next dial is at once
			t.Fatal(err)
		}
		eventually(t, "bytes", func() bool { return len(r.received()) == 16 })
		_ = p.Abort()
		eventually(t, "down", func() bool { return r.String() == "up 2, down 2 error" })
		k := c.link(2)
		k.mu.Lock()
		pause := k.delay
		k.mu.Unlock()
		if pause != 0 {
			t.Errorf("redial after %v", pause)
		}
		c.Connect(2)
		accept(t, l)
	})
}

// TestNoDialStorm: a peer that accepts and closes at once is dialled at the pace of refusals.
func TestNoDialStorm(t *testing.T) {
	mem := NewMem()
	c, r := start1(t, mem)
	l := listen(t, mem, 2)
	go func() {
		for {
			p, err := l.Accept()
			if err != nil {
				return
			}
			_ = p.Close()
		}
	}()
	end := time.Now().Add(300 * time.Millisecond)
	for time.Now().Before(end) {
		c.Connect(2) // as midcomms asks after every loss
		time.Sleep(time.Millisecond)
	}
	if n := mem.Dials(); n < 3 || n > 12 {
		t.Errorf("%d dials in 300 ms (%s)", n, r)
	}
}

// TestSecondAccepted: the peer dials again because its own socket is gone: we send on the new one at once, and still
// read the old one. A fourth connection ends the oldest.
func TestSecondAccepted(t *testing.T) {
	networks(t, func(t *testing.T, nw Network) {
		c, r := start1(t, nw)
		first := dial(t, nw, 2, 1)
		eventually(t, "up", func() bool { return r.String() == "up 2" })
		second := dial(t, nw, 2, 1)
		eventually(t, "switched", func() bool { return r.String() == "up 2, up 2" })
		if _, err := first.Write(ack1); err != nil {
			t.Fatal(err)
		}
		eventually(t, "old one is read", func() bool { return bytes.Equal(r.received(), ack1) })
		c.Send(2, ack2)
		c.Flush(2)
		if b := readN(t, second, 16); !bytes.Equal(b, ack2) {
			t.Errorf("%x", b)
		}
		dial(t, nw, 2, 1)
		dial(t, nw, 2, 1)
		if err := ended(first); err == nil {
			t.Error("the oldest ended cleanly, want a reset")
		}
		eventually(t, "four", func() bool { return r.String() == "up 2, up 2, up 2, up 2" })
	})
}

// TestCrossingDials: we dialled; the peer's connection comes too and is only read; when ours breaks, it is used.
func TestCrossingDials(t *testing.T) {
	networks(t, func(t *testing.T, nw Network) {
		l := listen(t, nw, 2)
		c, r := start1(t, nw)
		c.Connect(2)
		ours := accept(t, l)
		eventually(t, "up", func() bool { return r.String() == "up 2" })
		theirs := dial(t, nw, 2, 1)
		if _, err := theirs.Write(ack1); err != nil {
			t.Fatal(err)
		}
		eventually(t, "both are read", func() bool { return len(r.received()) == 16 })
		c.Send(2, ack2)
		c.Flush(2)
		readN(t, ours, 16)
		_ = ours.Abort()
		eventually(t, "switched", func() bool { return r.String() == "up 2, up 2" })
		c.Send(2, ack3)
		c.Flush(2)
		if b := readN(t, theirs, 16); !bytes.Equal(b, ack3) {
			t.Errorf("%x", b)
		}
	})
}

// TestCleanEnd: the peer half-closes; we close our side cleanly too.
func TestCleanEnd(t *testing.T) {
	networks(t, func(t *testing.T, nw Network) {
		_, r := start1(t, nw)
		p := dial(t, nw, 2, 1)
		eventually(t, "up", func() bool { return r.String() == "up 2" })
		if err := p.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := ended(p); err != nil {
			t.Errorf("our side ended with %v", err)
		}
		eventually(t, "down", func() bool { return r.String() == "up 2, down 2" })
	})
}

// TestCorruptStream: a stream that makes no sense is reset, so that a Linux peer sends again.
func TestCorruptStream(t *testing.T) {
	networks(t, func(t *testing.T, nw Network) {
		_, r := start1(t, nw)
		p := dial(t, nw, 2, 1)
		if _, err := p.Write(make([]byte, 16)); err != nil { // h_length 0
			t.Fatal(err)
		}
		if err := ended(p); err == nil {
			t.Error("closed cleanly, want a reset")
		}
		eventually(t, "down", func() bool { return strings.HasSuffix(r.String(), "down 2 error") })
	})
}

// TestRemovePeer: connections are reset, nothing is said about the peer any more, and it is a stranger now.
func TestRemovePeer(t *testing.T) {
	networks(t, func(t *testing.T, nw Network) {
		c, r := start1(t, nw)
		p := dial(t, nw, 2, 1)
		eventually(t, "up", func() bool { return r.String() == "up 2" })
		c.RemovePeer(2)
		said := r.String() // with or without the end of the connection
		if err := ended(p); err == nil {
			t.Error("closed cleanly, want a reset")
		}
		stranger(t, nw, 2)
		if s := r.String(); s != said {
			t.Errorf("%s, then %s", said, s)
		}
		c.Connect(2)
		c.Send(2, ack1)
		c.Flush(2)
		if err := c.AddPeer(2, addr(2)); err != nil {
			t.Error(err)
		}
		dial(t, nw, 2, 1)
		eventually(t, "back", func() bool { return r.String() == said+", up 2" })
	})
}

// TestShutdownDrains: output that is still buffered arrives before the half close; the peer's end is waited for.
func TestShutdownDrains(t *testing.T) {
	networks(t, func(t *testing.T, nw Network) {
		c, r := start1(t, nw)
		p := dial(t, nw, 2, 1)
		eventually(t, "up", func() bool { return r.String() == "up 2" })
		const count = 100000
		for range count {
			c.Send(2, ack1)
		}
		done := make(chan error, 1)
		go func() { done <- c.Shutdown(context.Background()) }()
		n, err := io.Copy(io.Discard, readerOnly{p})
		if n != 16*count || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		select {
		case err := <-done:
			t.Errorf("did not wait for the peer: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		_ = p.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := nw.Dial(context.Background(), addr(3), at(1)); err == nil {
			t.Error("still listening")
		}
	})
}

// TestShutdownTimeout: a peer that never closes is reset when ctx ends.
func TestShutdownTimeout(t *testing.T) {
	networks(t, func(t *testing.T, nw Network) {
		c, r := start1(t, nw)
		p := dial(t, nw, 2, 1)
		eventually(t, "up", func() bool { return r.String() == "up 2" })
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		if err := c.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		_ = p.Close()
	})
}

// TestListenError: the address is in the error.
func TestListenError(t *testing.T) {
	l := listen(t, TCP{}, 1)
	defer l.Close()
	c, err := NewConns(Config{Self: 1, Addr: addr(1), Port: testPort})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(&recorder{}); err == nil || !strings.Contains(err.Error(), at(1).String()) {
		t.Error(err)
	}
	_ = c.Close()
	if err := c.Start(&recorder{}); err == nil {
		t.Error("a closed transport starts")
	}
}

// TestConnConformance: both networks behave alike where the rest relies on it.
func TestConnConformance(t *testing.T) {
	networks(t, func(t *testing.T, nw Network) {
		l := listen(t, nw, 2)
		a := dial(t, nw, 1, 2)
		b := accept(t, l)
		big := make([]byte, 64<<20)
		n, err := a.TryWrite(big)
		if err != nil || n == 0 || n == len(big) {
			t.Fatalf("TryWrite of 64 MB into a socket nobody reads: %d, %v", n, err)
		}
		if n, err := a.TryWrite(big[:1<<20]); err != nil || n == 1<<20 {
			t.Errorf("TryWrite into a full socket: %d, %v", n, err)
		}
		_ = b.Abort()
		eventually(t, "writing fails", func() bool { _, err := a.TryWrite(ack1); return err != nil })
		if _, err := a.Read(make([]byte, 10)); err == nil { // TCP tells the reason once: to the writer here
			t.Error("read after a reset")
		}
		_ = a.Close()
		_ = a.Abort()
		if _, err := a.TryWrite(ack1); err == nil {
			t.Error("write after close")
		}
		if _, err := nw.Dial(context.Background(), addr(1), at(5)); err == nil {
			t.Error("dial where nobody listens")
		}
		var ne *net.OpError
		if _, err := nw.Dial(context.Background(), addr(1), at(5)); !errors.As(err, &ne) || ne.Op != "dial" {
			t.Errorf("dial: %v", err)
		}
	})
}
