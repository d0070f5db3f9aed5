package dlm

import (
	"fmt"
	"sync"

	"github.com/ocfuse/ocfuse/dlm/core"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

// Node is this process's end of the DLM: its lockspaces and the way to the peers. Safe for concurrent use.
type Node struct {
	self uint32

	mu     sync.RWMutex
	net    Network               // guarded by mu
	spaces map[uint32]*Lockspace // by global id; guarded by mu
}

// NewNode returns the DLM of node self, without lockspaces. self is positive.
func NewNode(self uint32) *Node {
	return &Node{self: self, spaces: map[uint32]*Lockspace{}}
}

// Attach gives the node its network. Before that nothing can be sent, so it must come before the first Start of a
// lockspace with other members.
func (n *Node) Attach(net Network) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.net = net
}

func (n *Node) network() Network {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.net
}

// Deliver takes a message of a peer, MSG or RCOM complete with header; it is a lowcomms.Deliver. What is for a lockspace
// that does not exist here is dropped, except that a STATUS is answered, so that a peer that joins keeps asking. (Linux
// fs/dlm/lock.c dlm_receive_buffer.)
func (n *Node) Deliver(from uint32, cmd wire.Cmd, inner []byte) {
	var h wire.Header
	if h.Decode(inner) != nil {
		return
	}
	n.mu.RLock()
	ls, net := n.spaces[h.Union], n.net
	n.mu.RUnlock()
	if ls != nil {
		ls.receive(from, cmd, inner)
		return
	}
	var m wire.Rcom
	if cmd != wire.CmdRcom || net == nil || m.Decode(inner) != nil {
		return
	}
	var buf [wire.RcomConfigSize]byte
	if reply, ok := core.UnknownLockspace(int32(n.self), &m, buf[:0]); ok {
		// A refusal means that the association is ending; the peer repeats its question.
		_ = net.Send(from, reply.Append(nil))
	}
}

// Create makes a lockspace. It is not a member of anything until Start. Errors: ErrInvalid; ErrState if a lockspace
// with the same global id exists.
func (n *Node) Create(cfg Config) (*Lockspace, error) {
	ls, err := newLockspace(n, cfg)
	if err != nil {
		return nil, err
	}
	id := ls.core.Config().GlobalID
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.spaces[id]; old != nil {
		ls.close()
		return nil, fmt.Errorf("%w: lockspace %q has the global id %#x of %q", ErrState, cfg.Name, id, old.cfg.Name)
	}
	n.spaces[id] = ls
	return ls, nil
}

func (n *Node) remove(ls *Lockspace) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.spaces, ls.core.Config().GlobalID)
}
