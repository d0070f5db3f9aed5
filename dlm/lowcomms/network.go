package lowcomms

import (
	"context"
	"net/netip"
)

// Network makes connections. Addresses are plain IPv4 or IPv6 (unmapped).
type Network interface {
	// Listen begins to accept connections on local.
	Listen(local netip.AddrPort) (Listener, error)
	// Dial connects to a peer from our own address, any port.
	Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (Conn, error)
}

// Listener accepts connections.
type Listener interface {
	// Accept waits for the next connection.
	Accept() (Conn, error)
	// Addr returns the address listened on, with its real port.
	Addr() netip.AddrPort
	// Close ends listening; a waiting Accept fails.
	Close() error
}

// Conn is one connection. One goroutine reads, one at a time writes; the closing methods may be called by any, also
// more than once.
type Conn interface {
	// Read reads what is there, at least one byte; io.EOF when the peer closed cleanly.
	Read(b []byte) (int, error)
	// Write writes all of b and waits for room if need be.
	Write(b []byte) (int, error)
	// TryWrite writes as much of b as fits without waiting; 0 and no error if nothing does.
	TryWrite(b []byte) (int, error)
	// CloseWrite tells the peer that nothing more comes (half close).
	CloseWrite() error
	// Close closes cleanly: what was written still arrives.
	Close() error
	// Abort closes at once (RST): what is under way is lost, the peer sees an error and sends again.
	Abort() error
	// RemoteAddr returns the peer's address, without port.
	RemoteAddr() netip.Addr
}
