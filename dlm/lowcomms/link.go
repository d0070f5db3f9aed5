package lowcomms

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ocfuse/ocfuse/dlm/midcomms"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Timing of dials.
const (
	dialTimeout      = 5 * time.Second
	firstDelay       = 5 * time.Millisecond // after the first failure, doubling
	maxDelay         = 500 * time.Millisecond
	unreachableDelay = time.Second
)

// maxConns is how many connections of a peer are read at most.
const maxConns = 3

// link is all connections with one peer.
type link struct {
	t    *Conns
	node uint32
	addr netip.Addr

	ctx    context.Context // ends with the link
	cancel context.CancelFunc

	reads   atomic.Uint64
	bytesIn atomic.Uint64

	evMu     sync.Mutex // before mu
	reported *conn      // sending connection the Handler knows; guarded by evMu
	silent   bool       // removed: the Handler is told nothing; guarded by evMu

	inMu sync.Mutex // before everything else of the link: one OnBytes at a time
	deaf bool       // removed: what its connections still hold is void; guarded by inMu

	mu      sync.Mutex
	send    *conn   // sending connection; guarded by mu, as the rest
	conns   []*conn // all, oldest first
	lastErr error   // why the last one ended, nil: clean
	dialing bool    // a dialLoop runs
	want    bool    // Connect was asked for and there is no connection
	delay   time.Duration
	closed  bool // removed or shut down: no new connections
	stats   Stats
}

// connect asks for a connection.
func (l *link) connect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.send != nil {
		return
	}
	l.want = true
	if !l.dialing {
		l.dialing = l.t.goIfRunning(l.dialLoop)
	}
}

// wanted reports whether a connection was asked for and does not exist.
func (l *link) wanted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.want
}

// dialLoop dials until there is a connection, ours or the peer's.
func (l *link) dialLoop() {
	for failures := 0; ; failures++ {
		wait := l.nextDelay()
		if !l.sleep(wait) || !l.goOn() {
			return
		}
		ctx, cancel := context.WithTimeout(l.ctx, dialTimeout)
		c, err := l.t.cfg.Network.Dial(ctx, l.t.cfg.Addr, netip.AddrPortFrom(l.addr, l.t.cfg.Port))
		cancel()
		if err == nil {
			l.install(c, true)
			return
		}
		if failures == 0 && l.ctx.Err() == nil {
			l.t.cfg.Log(Record{Level: midcomms.Info, Node: l.node, Text: fmt.Sprintf("cannot connect to %v, trying on", l.addr), Err: err})
		}
		if unreachable(err) {
			l.mu.Lock()
			l.delay = unreachableDelay
			l.mu.Unlock()
		}
	}
}

// nextDelay returns the pause before the next dial and lengthens the one after it.
func (l *link) nextDelay() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.delay
	l.delay = min(max(2*d, firstDelay), max(d, maxDelay))
	return d
}

// goOn says whether to dial; an accepted connection makes it needless.
func (l *link) goOn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.want || l.closed {
		l.dialing = false
		return false
	}
	l.stats.Dials++
	return true
}

// sleep waits; false if the link is closed.
func (l *link) sleep(d time.Duration) bool {
	if d == 0 {
		return l.ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

func unreachable(err error) bool {
	for _, e := range []error{syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EINVAL, syscall.EPROTONOSUPPORT,
		syscall.EADDRNOTAVAIL, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// install takes a new connection and begins to read it.
func (l *link) install(nc Conn, dialed bool) {
	c := &conn{l: l, c: nc, dialed: dialed}
	l.mu.Lock()
	if dialed {
		l.dialing = false
	}
	ok := !l.closed
	var old *conn
	if ok {
		l.conns = append(l.conns, c)
		l.stats.Connects++
		l.want = false
		if l.send == nil || !dialed && !l.send.dialed {
			old, l.send = l.send, c
		}
		l.dropOldest()
		ok = l.t.goIfRunning(c.readLoop)
	}
	l.mu.Unlock()
	if !ok {
		l.remove(c, errClosed)
		return
	}
	if old != nil { // unreliable messages appended before the switch; their sender flushes the new one
		l.mu.Lock()
		old.flush()
	}
	l.notify()
}

// dropOldest keeps the number of connections within maxConns. mu held.
func (l *link) dropOldest() {
	for len(l.conns) > maxConns {
		for i, c := range l.conns {
			if c != l.send {
				_ = c.c.Abort() // its reader sees the error; it is out of the list now, remove does the rest
				l.conns = append(l.conns[:i], l.conns[i+1:]...)
				break
			}
		}
	}
}

// remove takes a connection out after its reader ended; err nil is a clean end.
func (l *link) remove(c *conn, err error) {
	l.mu.Lock()
	for i, x := range l.conns {
		if x == c {
			l.conns = append(l.conns[:i], l.conns[i+1:]...)
			break
		}
	}
	c.dead = true
	l.lastErr = err
	if l.send == c {
		l.send = nil
		for _, x := range l.conns {
			if !x.dead {
				l.send = x // the youngest
			}
		}
	}
	l.mu.Unlock()
	if err == nil {
		_ = c.c.Close()
	} else {
		_ = c.c.Abort()
	}
}

// notify tells the Handler what changed since the last time. Called by goroutines of the transport only, never from
// an API call, so that the caller's locks cannot be in the way.
func (l *link) notify() {
	l.evMu.Lock()
	defer l.evMu.Unlock()
	l.mu.Lock()
	now, err := l.send, l.lastErr
	l.mu.Unlock()
	if now == l.reported || l.silent {
		return
	}
	l.reported = now
	if now != nil {
		l.t.h.OnConnected(l.node)
	} else {
		l.t.h.OnDisconnected(l.node, err)
	}
}

// input hands b to the Handler, unless the peer was removed meanwhile: a later incarnation of it may be known by its
// number already.
func (l *link) input(f *wire.Framer, b []byte) error {
	l.inMu.Lock()
	defer l.inMu.Unlock()
	if l.deaf {
		return errClosed
	}
	return l.t.h.OnBytes(l.node, f, b)
}

// silence ends the Handler's calls about a removed peer.
func (l *link) silence() {
	l.inMu.Lock()
	l.deaf = true
	l.inMu.Unlock()
	l.evMu.Lock()
	defer l.evMu.Unlock()
	l.silent = true
}

// abort drops all connections; final: for ever.
func (l *link) abort(final bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.want = false
	if final {
		l.closed = true
		l.cancel() // a dial that came through now would only confuse the peer
	}
	l.send = nil
	for _, c := range l.conns {
		_ = c.c.Abort()
	}
}

// closeWrite half-closes all connections once their output is written; ends counts those that are still open.
func (l *link) closeWrite(ends *sync.WaitGroup) {
	l.mu.Lock()
	l.want, l.closed = false, true
	for _, c := range l.conns {
		ends.Add(1)
		c.ends = ends
		c.closeWrite = true
	}
	conns := append([]*conn(nil), l.conns...)
	l.mu.Unlock()
	for _, c := range conns {
		l.mu.Lock()
		c.flush()
	}
}

// append adds frames to the output.
func (l *link) append(frames []byte) {
	l.mu.Lock()
	if c := l.send; c != nil && !c.dead {
		c.out = append(c.out, frames...)
		l.stats.FramesOut++
	}
	l.mu.Unlock()
}

// flush writes the output of the sending connection.
func (l *link) flush() {
	l.mu.Lock()
	if c := l.send; c != nil && len(c.out) > 0 {
		c.flush()
		return
	}
	l.mu.Unlock()
}
