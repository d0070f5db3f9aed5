package lowcomms

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// TCP is the real Network: TCP_NODELAY, no keepalive, SO_REUSEADDR for listening, as Linux fs/dlm/lowcomms.c has it.
type TCP struct{}

// Listen implements Network.
func (TCP) Listen(local netip.AddrPort) (Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1} // Go sets SO_REUSEADDR itself
	l, err := lc.Listen(context.Background(), "tcp", local.String())
	if err != nil {
		return nil, fmt.Errorf("dlm: cannot listen on %v: %w", local, err)
	}
	return tcpListener{l.(*net.TCPListener)}, nil
}

// Dial implements Network.
func (TCP) Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (Conn, error) {
	d := net.Dialer{KeepAlive: -1, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return newTCPConn(c.(*net.TCPConn))
}

type tcpListener struct{ l *net.TCPListener }

func (t tcpListener) Accept() (Conn, error) {
	c, err := t.l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return newTCPConn(c)
}

func (t tcpListener) Addr() netip.AddrPort { return t.l.Addr().(*net.TCPAddr).AddrPort() }
func (t tcpListener) Close() error         { return t.l.Close() }

// tcpConn is a TCP connection. Go sets TCP_NODELAY by default.
type tcpConn struct {
	*net.TCPConn
	raw  syscall.RawConn
	addr netip.Addr

	// One TryWrite at a time: its arguments and results, so that the closure is made once.
	try    func(fd uintptr) bool
	buf    []byte
	n      int
	tryErr error
}

func newTCPConn(c *net.TCPConn) (Conn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	t := &tcpConn{TCPConn: c, raw: raw, addr: c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()}
	t.try = t.tryFD
	return t, nil
}

// tryFD writes until everything is written or the socket takes no more. It always returns true: do not wait.
func (t *tcpConn) tryFD(fd uintptr) bool {
	for len(t.buf) > 0 {
		n, err := syscall.Write(int(fd), t.buf)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return true
		case err != nil:
			t.tryErr = err
			return true
		}
		t.n += n
		t.buf = t.buf[n:]
	}
	return true
}

// TryWrite implements Conn.
func (t *tcpConn) TryWrite(b []byte) (int, error) {
	t.buf, t.n, t.tryErr = b, 0, nil
	err := t.raw.Write(t.try)
	t.buf = nil
	if err == nil {
		err = t.tryErr
	}
	return t.n, err
}

// Abort implements Conn: linger 0 makes the close a RST.
func (t *tcpConn) Abort() error {
	_ = t.SetLinger(0) // fails only if closed already
	return t.Close()
}

// RemoteAddr implements Conn.
func (t *tcpConn) RemoteAddr() netip.Addr { return t.addr }
