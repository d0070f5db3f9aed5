package lowcomms

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocfuse/ocfuse/dlm/midcomms"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

// closeWait is how long Shutdown waits for the peers to close their side (Linux DLM_SHUTDOWN_WAIT_TIMEOUT).
const closeWait = 10 * time.Second

// Deliver receives a message of node from, MSG or RCOM complete with header, each once and in order per node; of
// different nodes at the same time. inner is valid during the call. See the package comment for what it may do.
type Deliver func(from uint32, cmd wire.Cmd, inner []byte)

// Node is this node's end of all associations: midcomms over a Transport. Safe for concurrent use.
type Node struct {
	cfg     Config
	tr      Transport
	deliver Deliver
	epoch   time.Time
	changed chan struct{} // a state changed; capacity 1

	mu    sync.Mutex                       // guards replacing peers
	peers atomic.Pointer[map[uint32]*peer] // replaced whole; peers never leave, their counts must survive
}

// peer is one other node.
type peer struct {
	n    *Node
	id   uint32
	rxMu sync.Mutex // before mu; one receive pass at a time

	mu     sync.Mutex
	mc     *midcomms.Peer // guarded by mu
	gone   bool           // removed: what its connections still hold is void; guarded by mu
	got    []byte         // what the Receive in progress delivered; guarded by mu
	gotCmd wire.Cmd       // guarded by mu
	timer  *time.Timer    // guarded by mu
	due    int64          // when timer fires, 0: not armed; guarded by mu
}

// NewNode returns a node over TCP (or cfg.Network). It neither listens nor dials before Start.
func NewNode(cfg Config, deliver Deliver) (*Node, error) {
	tr, err := NewConns(cfg)
	if err != nil {
		return nil, err
	}
	return NewNodeOver(tr, cfg, deliver), nil
}

// NewNodeOver returns a node over any Transport.
func NewNodeOver(tr Transport, cfg Config, deliver Deliver) *Node {
	if cfg.Log == nil {
		cfg.Log = func(Record) {}
	}
	n := &Node{cfg: cfg, tr: tr, deliver: deliver, epoch: time.Now(), changed: make(chan struct{}, 1)}
	n.peers.Store(&map[uint32]*peer{})
	return n
}

// Start begins to listen. It must come before other nodes are told that we are a member: a Linux peer that is
// refused dials thousands of times a second.
func (n *Node) Start() error { return n.tr.Start(handler{n}) }

// now is the clock of midcomms: nanoseconds since the node was made, at least 1.
func (n *Node) now() int64 { return int64(time.Since(n.epoch)) + 1 }

// AddPeer gives a node its address, and so lets it connect. A node that was removed may come back elsewhere.
func (n *Node) AddPeer(node uint32, addr netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := *n.peers.Load()
	if p := old[node]; p != nil {
		return p.comeBack(addr)
	}
	if err := n.tr.AddPeer(node, addr); err != nil {
		return err
	}
	p := &peer{n: n, id: node}
	cfg := n.cfg.Link
	cfg.Self, cfg.Peer = n.cfg.Self, node
	p.mc = midcomms.New(cfg, effects{p})
	next := make(map[uint32]*peer, len(old)+1)
	for k, v := range old {
		next[k] = v
	}
	next[node] = p
	n.peers.Store(&next)
	return nil
}

// comeBack gives a removed peer an address again.
func (p *peer) comeBack(addr netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.n.tr.AddPeer(p.id, addr)
	if err == nil {
		p.gone = false
	}
	return err
}

// RemovePeer forgets everything about a node that was fenced or left the cluster: numbers, unacknowledged messages,
// connections, address. It stays counted as a member until RemoveMember. Nothing that it sent is delivered any more
// once this returned, also if it comes back with AddPeer.
func (n *Node) RemovePeer(node uint32) {
	p := n.peer(node)
	if p == nil {
		return
	}
	p.event(func(mc *midcomms.Peer) {
		p.gone = true
		mc.Gone()
	})
	n.tr.RemovePeer(node)
	p.event(func(mc *midcomms.Peer) { mc.ConnDown() })
}

func (n *Node) peer(node uint32) *peer { return (*n.peers.Load())[node] }

func (n *Node) known(node uint32) (*peer, error) {
	if p := n.peer(node); p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("node %d: %w", node, ErrUnknownPeer)
}

// AddMember tells that node is a member of one more of our lockspaces: a connection is made.
func (n *Node) AddMember(node uint32) error {
	p, err := n.known(node)
	if err == nil {
		p.event(func(mc *midcomms.Peer) { mc.MemberAdd() })
	}
	return err
}

// RemoveMember tells that node left one of our lockspaces.
func (n *Node) RemoveMember(node uint32) error {
	p, err := n.known(node)
	if err == nil {
		p.event(func(mc *midcomms.Peer) { mc.MemberRemove(n.now()) })
	}
	return err
}

// Send sends a MSG or RCOM, complete with header, as midcomms.Peer.Send does. It does not wait.
func (n *Node) Send(node uint32, inner []byte) error {
	err := n.Queue(node, inner)
	if err == nil {
		n.tr.Flush(node)
	}
	return err
}

// Queue is Send without writing: the message goes out with the next Send or Flush to that node, or, from inside
// Deliver, at the end of the sender's receive pass. Meant for several messages at once.
func (n *Node) Queue(node uint32, inner []byte) error {
	p := n.peer(node)
	if p == nil {
		return fmt.Errorf("node %d: %w", node, ErrUnknownPeer)
	}
	p.mu.Lock()
	err := p.mc.Send(inner)
	p.mu.Unlock()
	return err
}

// Flush writes what Queue left.
func (n *Node) Flush(node uint32) { n.tr.Flush(node) }

// Status describes the association with a node.
type Status struct {
	State      midcomms.State
	Users      int // lockspaces the node is a member of
	Unacked    int // messages kept for a resend
	Bytes      int // their bytes
	Send, Next uint32
}

// Status returns the association with a node, for display and tests.
func (n *Node) Status(node uint32) (s Status, err error) {
	p, err := n.known(node)
	if err != nil {
		return s, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.State, s.Users = p.mc.State(), p.mc.Users()
	s.Unacked, s.Bytes = p.mc.Unacked()
	s.Send, s.Next = p.mc.Seqs()
	return s, nil
}

// Shutdown ends all associations with the FIN handshake, once the last lockspace is released, then all connections,
// and closes the node. A peer answers when its own membership changed; one that does not within
// Link.ShutdownTimeout is given up. If ctx ends first, everything is dropped and ctx's error returned.
func (n *Node) Shutdown(ctx context.Context) error {
	for _, p := range *n.peers.Load() {
		p.event(func(mc *midcomms.Peer) { mc.Shutdown(n.now()) })
	}
	for n.ending() {
		select {
		case <-n.changed:
		case <-ctx.Done():
			_ = n.Close()
			return fmt.Errorf("dlm: associations not ended: %w", ctx.Err())
		}
	}
	for _, p := range *n.peers.Load() {
		if s, err := n.Status(p.id); err == nil && s.State != midcomms.Closed {
			n.tr.Abort(p.id) // no handshake took place: let the peer keep what it sent
		}
	}
	ctx, cancel := context.WithTimeout(ctx, closeWait)
	defer cancel()
	err := n.tr.Shutdown(ctx)
	n.stopTimers()
	if err != nil {
		return fmt.Errorf("dlm: connections not closed by the peers: %w", err)
	}
	return nil
}

func (n *Node) ending() bool {
	for _, p := range *n.peers.Load() {
		p.mu.Lock()
		ending := p.mc.Ending()
		p.mu.Unlock()
		if ending {
			return true
		}
	}
	return false
}

// Close drops everything at once; Deliver does not run after it returned. Not to be called from Deliver.
func (n *Node) Close() error {
	err := n.tr.Close()
	n.stopTimers()
	return err
}

func (n *Node) stopTimers() {
	for _, p := range *n.peers.Load() {
		p.mu.Lock()
		if p.timer != nil {
			p.timer.Stop()
		}
		p.mu.Unlock()
	}
}

// event runs f on the association, then writes what came of it.
func (p *peer) event(f func(mc *midcomms.Peer)) {
	p.mu.Lock()
	f(p.mc)
	p.arm()
	p.mu.Unlock()
	p.n.tr.Flush(p.id)
}

// arm sets the timer to midcomms' deadline, unless it fires earlier anyway. mu held.
func (p *peer) arm() {
	at, ok := p.mc.Deadline()
	if !ok || p.due != 0 && p.due <= at {
		return
	}
	p.due = at
	d := time.Duration(at - p.n.now())
	if p.timer == nil {
		p.timer = time.AfterFunc(d, p.tick)
	} else {
		p.timer.Reset(d)
	}
}

func (p *peer) tick() {
	p.event(func(mc *midcomms.Peer) {
		p.due = 0
		mc.Tick(p.n.now())
	})
}

// receive takes the frame and returns what it delivered, nil if nothing.
func (p *peer) receive(frame []byte) (wire.Cmd, []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = nil
	if !p.gone {
		p.mc.Receive(frame)
	}
	return p.gotCmd, p.got
}

// effects is a peer as midcomms sees it; called with mu held.
type effects struct{ *peer }

func (e effects) Write(frames []byte)                { e.n.tr.Send(e.id, frames) }
func (e effects) Deliver(cmd wire.Cmd, inner []byte) { e.got, e.gotCmd = inner, cmd }
func (e effects) Connect()                           { e.n.tr.Connect(e.id) }
func (e effects) Abort()                             { e.n.tr.Abort(e.id) }

func (e effects) StateChanged(_, _ midcomms.State) {
	select {
	case e.n.changed <- struct{}{}:
	default:
	}
}

func (e effects) Log(ev midcomms.Event) {
	e.n.cfg.Log(Record{Level: ev.Kind.Level(), Text: ev.String()})
}

// handler is a Node as the Transport sees it.
type handler struct{ n *Node }

// OnConnected implements Handler.
func (h handler) OnConnected(node uint32) {
	if p := h.n.peer(node); p != nil {
		p.event(func(mc *midcomms.Peer) { mc.ConnUp() })
	}
}

// OnDisconnected implements Handler.
func (h handler) OnDisconnected(node uint32, _ error) {
	if p := h.n.peer(node); p != nil {
		p.event(func(mc *midcomms.Peer) { mc.ConnDown() })
	}
}

// OnBytes implements Handler: one receive pass.
func (h handler) OnBytes(node uint32, f *wire.Framer, b []byte) error {
	p := h.n.peer(node)
	if p == nil {
		return fmt.Errorf("node %d: %w", node, ErrUnknownPeer)
	}
	err := p.pass(f, b)
	h.n.tr.Flush(node)
	return err
}

func (p *peer) pass(f *wire.Framer, b []byte) error {
	p.rxMu.Lock()
	defer p.rxMu.Unlock()
	for {
		frame, rest, err := f.Next(b)
		if err != nil {
			return err
		}
		if frame == nil {
			break
		}
		if cmd, inner := p.receive(frame); inner != nil {
			p.n.deliver(p.id, cmd, inner)
		}
		b = rest
	}
	p.mu.Lock()
	p.mc.EndPass(p.n.now())
	p.arm()
	p.mu.Unlock()
	return nil
}
