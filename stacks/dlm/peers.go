package dlm

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/ocfuse/ocfuse/dlm/lowcomms"
	"github.com/ocfuse/ocfuse/dlm/wire"
	"github.com/ocfuse/ocfuse/stackglue"
)

// peerTable tells the transport which nodes may connect, and forgets what belonged
// to an incarnation that is gone: numbers of the reliable layer begin at 0 with
// each one.
type peerTable struct {
	comms   *lowcomms.Node
	cluster *stackglue.Cluster

	mu    sync.Mutex
	known map[uint32]uint64 // node -> incarnation; guarded by mu
}

// meet lets an incarnation connect. Under manual membership incarnations are not
// known and inc is 1.
func (p *peerTable) meet(node uint32, inc uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known[node] == inc {
		return nil
	}
	cn, ok := p.cluster.Node(node)
	if !ok {
		return fmt.Errorf("node %d is not in the cluster's configuration; add it to cluster.conf on all nodes", node)
	}
	addr, err := netip.ParseAddr(cn.Addr)
	if err != nil {
		return fmt.Errorf("address of node %d: %w", node, err)
	}
	if p.known[node] != 0 {
		p.comms.RemovePeer(node)
	}
	if err := p.comms.AddPeer(node, addr); err != nil {
		return err
	}
	p.known[node] = inc
	return nil
}

// bury forgets a dead incarnation. Nothing happens if a later one has come.
func (p *peerTable) bury(node uint32, inc uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known[node] == inc {
		p.comms.RemovePeer(node)
		delete(p.known, node)
	}
}

// countingNet is the transport with counters by message kind.
type countingNet struct {
	*lowcomms.Node
	msgs  [16]atomic.Uint64 // by wire.MsgType
	rcoms [16]atomic.Uint64 // by wire.RcomType
}

// Send implements dlm.Network. The kind is where h_cmd, m_type and rc_type stand
// (package wire).
func (n *countingNet) Send(node uint32, inner []byte) error {
	if len(inner) > wire.HeaderSize+4 {
		kind := inner[wire.HeaderSize] & 15
		if wire.Cmd(inner[14]) == wire.CmdMsg {
			n.msgs[kind].Add(1)
		} else {
			n.rcoms[kind].Add(1)
		}
	}
	return n.Node.Send(node, inner)
}

// counters fills in what was sent: lock requests and replies in total, and all
// kinds by name. REMOVE and PURGE are no part of the total: they tidy up, long after
// whoever used the lock, and nobody waits for them.
func (n *countingNet) counters(out stackglue.Counters) (total uint64) {
	for i := range n.msgs {
		if v := n.msgs[i].Load(); v != 0 {
			out["msg_"+wire.MsgType(i).String()] = v
			if t := wire.MsgType(i); t != wire.MsgRemove && t != wire.MsgPurge {
				total += v
			}
		}
	}
	for i := range n.rcoms {
		if v := n.rcoms[i].Load(); v != 0 {
			out["rcom_"+wire.RcomType(i).String()] = v
		}
	}
	return total
}
