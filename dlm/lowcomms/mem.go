package lowcomms

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// memBuffer is the room of a Mem connection in one direction, bytes: small, so that tests meet full sockets.
const memBuffer = 32 << 10

// Mem is a Network inside the process, for tests: byte streams between addresses that need not exist, which can be
// broken at any byte. The zero value is not ready; use NewMem.
type Mem struct {
	mu        sync.Mutex
	listeners map[netip.AddrPort]*memListener
	conns     map[*memConn]struct{} // both ends
	dials     int
}

// NewMem returns an empty network.
func NewMem() *Mem {
	return &Mem{listeners: map[netip.AddrPort]*memListener{}, conns: map[*memConn]struct{}{}}
}

// Dials returns how many dials were tried.
func (m *Mem) Dials() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dials
}

// Listen implements Network.
func (m *Mem) Listen(local netip.AddrPort) (Listener, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.listeners[local] != nil {
		return nil, &net.OpError{Op: "listen", Net: "mem", Err: syscall.EADDRINUSE}
	}
	l := &memListener{m: m, addr: local, backlog: make(chan *memConn, 16), done: make(chan struct{})}
	m.listeners[local] = l
	return l, nil
}

// Dial implements Network.
func (m *Mem) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (Conn, error) {
	m.mu.Lock()
	m.dials++
	l := m.listeners[to]
	if l == nil {
		m.mu.Unlock()
		return nil, &net.OpError{Op: "dial", Net: "mem", Err: syscall.ECONNREFUSED}
	}
	ab, ba := newMemPipe(), newMemPipe()
	a := &memConn{m: m, local: from, remote: to.Addr(), in: ba, out: ab}
	b := &memConn{m: m, local: to.Addr(), remote: from, in: ab, out: ba}
	m.conns[a], m.conns[b] = struct{}{}, struct{}{}
	m.mu.Unlock()
	select {
	case l.backlog <- b:
		return a, nil
	case <-l.done:
		_ = a.Abort()
		return nil, &net.OpError{Op: "dial", Net: "mem", Err: syscall.ECONNREFUSED}
	case <-ctx.Done():
		_ = a.Abort()
		return nil, ctx.Err()
	}
}

// Break breaks every connection between x and y as a RST does: of the unread bytes of each direction only the first
// keep(n) arrive. It returns the number of connections that were broken.
func (m *Mem) Break(x, y netip.Addr, keep func(n int) int) int {
	m.mu.Lock()
	var hit []*memConn
	for c := range m.conns {
		if c.local == x && c.remote == y || c.local == y && c.remote == x {
			hit = append(hit, c)
		}
	}
	m.mu.Unlock()
	fresh := 0
	for _, c := range hit {
		if c.in.fail(keep) {
			fresh++
		}
	}
	return (fresh + 1) / 2
}

type memListener struct {
	m       *Mem
	addr    netip.AddrPort
	backlog chan *memConn
	done    chan struct{}
	once    sync.Once
}

func (l *memListener) Accept() (Conn, error) {
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Addr() netip.AddrPort { return l.addr }

// Close ends listening; what was not accepted is reset.
func (l *memListener) Close() error {
	l.once.Do(func() {
		l.m.mu.Lock()
		delete(l.m.listeners, l.addr)
		l.m.mu.Unlock()
		close(l.done)
		for {
			select {
			case c := <-l.backlog:
				_ = c.Abort()
			default:
				return
			}
		}
	})
	return nil
}

// memPipe is one direction of a connection.
type memPipe struct {
	mu   sync.Mutex
	cond sync.Cond
	buf  []byte
	eof  bool  // the writer closed cleanly
	err  error // reset: reading fails after buf, writing at once
}

func newMemPipe() *memPipe {
	p := &memPipe{}
	p.cond.L = &p.mu
	return p
}

// fail breaks the direction; false if it is broken already.
func (p *memPipe) fail(keep func(n int) int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh := p.err == nil
	if fresh {
		p.err = &net.OpError{Op: "read", Net: "mem", Err: syscall.ECONNRESET}
		p.buf = p.buf[:keep(len(p.buf))]
	}
	p.cond.Broadcast()
	return fresh
}

func (p *memPipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.buf) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		if p.eof {
			return 0, io.EOF
		}
		p.cond.Wait()
	}
	n := copy(b, p.buf)
	p.buf = p.buf[:copy(p.buf, p.buf[n:])]
	p.cond.Broadcast()
	return n, nil
}

func (p *memPipe) write(b []byte, wait bool) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.err != nil {
			return n, p.err
		}
		if p.eof {
			return n, net.ErrClosed
		}
		k := min(len(b), memBuffer-len(p.buf))
		p.buf = append(p.buf, b[:k]...)
		n, b = n+k, b[k:]
		p.cond.Broadcast()
		if len(b) == 0 || !wait {
			return n, nil
		}
		p.cond.Wait()
	}
}

func (p *memPipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.eof = true
	p.cond.Broadcast()
}

type memConn struct {
	m             *Mem
	local, remote netip.Addr
	in, out       *memPipe
}

func (c *memConn) Read(b []byte) (int, error)     { return c.in.read(b) }
func (c *memConn) Write(b []byte) (int, error)    { return c.out.write(b, true) }
func (c *memConn) TryWrite(b []byte) (int, error) { return c.out.write(b, false) }
func (c *memConn) RemoteAddr() netip.Addr         { return c.remote }

func (c *memConn) CloseWrite() error {
	c.out.end()
	return nil
}

// Close closes cleanly; as with TCP, unread input makes it a reset for the peer's writing side.
func (c *memConn) Close() error {
	c.forget()
	c.out.end()
	c.in.fail(func(int) int { return 0 })
	return nil
}

func (c *memConn) Abort() error {
	c.forget()
	c.in.fail(func(int) int { return 0 })
	c.out.fail(func(int) int { return 0 })
	return nil
}

func (c *memConn) forget() {
	c.m.mu.Lock()
	delete(c.m.conns, c)
	c.m.mu.Unlock()
}

var errClosed = errors.New("dlm: communication is closed")
