package lowcomms

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocfuse/ocfuse/dlm/midcomms"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

// DefaultPort is the TCP port of the DLM; it must be equal on all nodes.
const DefaultPort = 21064

// ErrUnknownPeer is returned for a node without address.
var ErrUnknownPeer = errors.New("dlm: node has no address; add it first")

// Transport carries frames between nodes. All methods are safe for concurrent use, and none of them waits for the
// network, except Shutdown and Close. Conns implements it over any Network.
type Transport interface {
	// Start begins to listen and to call h.
	Start(h Handler) error
	// AddPeer gives a node its address.
	AddPeer(node uint32, addr netip.Addr) error
	// RemovePeer forgets the node and drops its connections (RST). The Handler is not called for it any more once it
	// returned; it waits for a call that runs, so it must not be called from one.
	RemovePeer(node uint32)
	// Connect asks for a connection, until there is one or Abort.
	Connect(node uint32)
	// Send appends whole frames to the output of the node's sending connection; without one they are dropped. Nothing
	// is written before Flush.
	Send(node uint32, frames []byte)
	// Flush writes the output.
	Flush(node uint32)
	// Abort drops the node's connections at once (RST) and stops dialling.
	Abort(node uint32)
	// Shutdown ends listening and dialling, closes all connections cleanly, waits for the peers to do so, then does Close.
	Shutdown(ctx context.Context) error
	// Close ends everything (RST). No callback runs after it returned; it must not be called from one.
	Close() error
}

// Handler is told what happens on a Transport.
type Handler interface {
	// OnConnected tells that the node has a sending connection, or a new one in place of the old. Output meant for the
	// old one is lost.
	OnConnected(node uint32)
	// OnDisconnected tells that no connection is left; err is nil if the peer closed cleanly.
	OnDisconnected(node uint32, err error)
	// OnBytes delivers input of one of the node's connections. f belongs to that connection. b is valid during the
	// call. An error drops the connection: its content makes no sense.
	OnBytes(node uint32, f *wire.Framer, b []byte) error
}

// Record is one line for a log.
type Record struct {
	Level midcomms.Level
	Node  uint32 // peer, 0 if none
	Text  string
	Err   error // nil if the record is not about an error
}

// String joins the parts.
func (r Record) String() string {
	s := r.Text
	if r.Node != 0 {
		s = fmt.Sprintf("dlm node %d: %s", r.Node, s)
	}
	if r.Err != nil {
		s += ": " + r.Err.Error()
	}
	return s
}

// Config describes the local end.
type Config struct {
	Self    uint32     // our node id, > 0
	Addr    netip.Addr // our address: listened on, and source of every dial
	Port    uint16     // of all nodes; 0 means DefaultPort
	Network Network    // nil means TCP
	// Log receives records; nil discards them. It must not call back.
	Log func(Record)
	// Link sets midcomms' timing; its node ids are filled in.
	Link midcomms.Config
}

// Conns is the Transport over connections of a Network.
type Conns struct {
	cfg    Config
	h      Handler
	listen Listener

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // every goroutine

	links atomic.Pointer[linkSet] // replaced whole, under mu

	mu       sync.Mutex // after link.mu
	started  bool       // guarded by mu
	stopping bool       // no new connections; guarded by mu
	closed   bool       // no new goroutines; guarded by mu
}

// linkSet finds links; immutable.
type linkSet struct {
	byNode map[uint32]*link
	byAddr map[netip.Addr]*link
}

// NewConns returns a transport that does nothing yet.
func NewConns(cfg Config) (*Conns, error) {
	if cfg.Port == 0 {
		cfg.Port = DefaultPort
	}
	if cfg.Network == nil {
		cfg.Network = TCP{}
	}
	if cfg.Log == nil {
		cfg.Log = func(Record) {}
	}
	cfg.Addr = cfg.Addr.Unmap()
	switch {
	case cfg.Self == 0 || cfg.Self > 1<<31-1:
		return nil, fmt.Errorf("dlm: node id %d is not in 1..2147483647", cfg.Self)
	case !cfg.Addr.IsValid() || cfg.Addr.IsUnspecified():
		return nil, fmt.Errorf("dlm: node %d needs its own address, not %v: peers recognise it by that", cfg.Self, cfg.Addr)
	}
	t := &Conns{cfg: cfg}
	t.links.Store(&linkSet{byNode: map[uint32]*link{}, byAddr: map[netip.Addr]*link{}})
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

// Start implements Transport.
func (t *Conns) Start(h Handler) error {
	if err := t.start(h); err != nil {
		return err
	}
	for _, l := range t.links.Load().byNode {
		if l.wanted() {
			l.connect()
		}
	}
	return nil
}

func (t *Conns) start(h Handler) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopping || t.started {
		return errClosed
	}
	l, err := t.cfg.Network.Listen(netip.AddrPortFrom(t.cfg.Addr, t.cfg.Port))
	if err != nil {
		return err
	}
	t.h, t.listen, t.started = h, l, true
	t.wg.Add(1)
	go t.acceptLoop()
	return nil
}

const (
	acceptPause  = 100 * time.Millisecond // rest of a failing accept (out of descriptors)
	refusedPause = time.Minute            // between two lines about strangers of one address
	maxRefused   = 256                    // addresses remembered for that
)

// refusals remembers which strangers the log has heard of: anybody can connect, as often as he likes.
type refusals map[netip.Addr]time.Time

// news tells whether a refusal of addr deserves a line.
func (r refusals) news(addr netip.Addr, now time.Time) bool {
	if last, ok := r[addr]; ok && now.Sub(last) < refusedPause {
		return false
	}
	if len(r) >= maxRefused {
		clear(r)
	}
	r[addr] = now
	return true
}

func (t *Conns) acceptLoop() {
	defer t.wg.Done()
	refused := refusals{}
	for {
		c, err := t.listen.Accept()
		if err != nil {
			if t.isStopping() {
				return
			}
			t.cfg.Log(Record{Level: midcomms.Warn, Text: "accept failed", Err: err})
			select {
			case <-t.ctx.Done():
				return
			case <-time.After(acceptPause):
			}
			continue
		}
		l := t.links.Load().byAddr[c.RemoteAddr()]
		if l == nil {
			if refused.news(c.RemoteAddr(), time.Now()) {
				text := fmt.Sprintf("connection from %v refused: no node has this address", c.RemoteAddr())
				t.cfg.Log(Record{Level: midcomms.Warn, Text: text})
			}
			_ = c.Abort()
			continue
		}
		l.install(c, false)
	}
}

func (t *Conns) isStopping() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stopping
}

// goIfRunning starts a goroutine that Close waits for; false if it is too late for that.
func (t *Conns) goIfRunning(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || !t.started {
		return false
	}
	t.wg.Add(1)
	go func() {
		defer t.wg.Done()
		f()
	}()
	return true
}

// AddPeer implements Transport.
func (t *Conns) AddPeer(node uint32, addr netip.Addr) error {
	addr = addr.Unmap()
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.links.Load()
	switch {
	case node == 0 || node > 1<<31-1:
		return fmt.Errorf("dlm: node id %d is not in 1..2147483647", node)
	case node == t.cfg.Self || addr == t.cfg.Addr:
		return fmt.Errorf("dlm: node %d at %v is ourselves", node, addr)
	case !addr.IsValid() || addr.IsUnspecified() || addr.Is4() != t.cfg.Addr.Is4():
		return fmt.Errorf("dlm: address %v of node %d does not go with our own %v", addr, node, t.cfg.Addr)
	case old.byNode[node] != nil:
		return fmt.Errorf("dlm: node %d is at %v already; remove it first", node, old.byNode[node].addr)
	case old.byAddr[addr] != nil:
		return fmt.Errorf("dlm: address %v is node %d's already", addr, old.byAddr[addr].node)
	}
	l := &link{t: t, node: node, addr: addr}
	l.ctx, l.cancel = context.WithCancel(t.ctx)
	t.store(l, nil)
	return nil
}

// store replaces the set by one with add and without drop. mu held.
func (t *Conns) store(add, drop *link) {
	s := &linkSet{byNode: map[uint32]*link{}, byAddr: map[netip.Addr]*link{}}
	for _, l := range t.links.Load().byNode {
		if l != drop {
			s.byNode[l.node], s.byAddr[l.addr] = l, l
		}
	}
	if add != nil {
		s.byNode[add.node], s.byAddr[add.addr] = add, add
	}
	t.links.Store(s)
}

// RemovePeer implements Transport.
func (t *Conns) RemovePeer(node uint32) {
	t.mu.Lock()
	l := t.link(node)
	if l != nil {
		t.store(nil, l)
	}
	t.mu.Unlock()
	if l != nil {
		l.abort(true)
		l.silence()
	}
}

func (t *Conns) link(node uint32) *link { return t.links.Load().byNode[node] }

// Connect implements Transport.
func (t *Conns) Connect(node uint32) {
	if l := t.link(node); l != nil {
		l.connect()
	}
}

// Send implements Transport.
func (t *Conns) Send(node uint32, frames []byte) {
	if l := t.link(node); l != nil {
		l.append(frames)
	}
}

// Flush implements Transport.
func (t *Conns) Flush(node uint32) {
	if l := t.link(node); l != nil {
		l.flush()
	}
}

// Abort implements Transport.
func (t *Conns) Abort(node uint32) {
	if l := t.link(node); l != nil {
		l.abort(false)
	}
}

// stop ends listening and dialling.
func (t *Conns) stop() {
	t.mu.Lock()
	first := !t.stopping
	t.stopping = true
	t.mu.Unlock()
	if first && t.listen != nil {
		_ = t.listen.Close()
	}
}

// Shutdown implements Transport. The error is ctx's if a peer did not close in time.
func (t *Conns) Shutdown(ctx context.Context) error {
	t.stop()
	done := make(chan struct{})
	var ends sync.WaitGroup
	for _, l := range t.links.Load().byNode {
		l.closeWrite(&ends)
	}
	go func() { // ends with the readers, at the latest by Close
		ends.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = t.Close()
	<-done
	return err
}

// Close implements Transport.
func (t *Conns) Close() error {
	t.stop()
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	for _, l := range t.links.Load().byNode {
		l.abort(true)
	}
	t.wg.Wait()
	return nil
}

// Stats counts the traffic with one peer since it was added.
type Stats struct {
	FramesOut uint64 // calls of Send, a resend of many frames counts once
	BytesOut  uint64
	Writes    uint64 // writes to the socket
	BytesIn   uint64
	Reads     uint64 // reads from sockets
	Connects  uint64 // connections, dialled and accepted
	Dials     uint64 // dials tried
	Stalls    uint64 // times the socket took no more
}

// Stats returns the counters of a node.
func (t *Conns) Stats(node uint32) Stats {
	l := t.link(node)
	if l == nil {
		return Stats{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Reads, s.BytesIn = l.reads.Load(), l.bytesIn.Load()
	return s
}
