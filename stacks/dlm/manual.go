package dlm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ocfuse/ocfuse/dlm"
	"github.com/ocfuse/ocfuse/stackglue"
)

// manual is the membership that an operator sets on every node, as one does with
// configfs and sysfs on a kernel node.
type manual struct {
	c        *conn
	dropWait time.Duration
	lease    openGate

	mu   sync.Mutex // one change at a time
	view uint64     // guarded by mu
	list []uint32   // guarded by mu
	dead []uint32   // reported dead so far; guarded by mu

	status sync.Mutex // guards a copy of the above for describe
	snap   manualSnap
}

type manualSnap struct {
	view       uint64
	list, dead []uint32
}

var _ membership = (*manual)(nil)

// ParseNodes reads a list of node numbers, separated by blanks or commas.
func ParseNodes(s string) ([]uint32, error) {
	var out []uint32
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' }) {
		n, err := strconv.ParseUint(f, 10, 8)
		if err != nil || n == 0 || n > 254 {
			return nil, fmt.Errorf("%q is no node number: use numbers from 1 to 254 such as \"1 2\"", f)
		}
		if slices.Contains(out, uint32(n)) {
			return nil, fmt.Errorf("node %d is listed twice", n)
		}
		out = append(out, uint32(n))
	}
	slices.Sort(out)
	return out, nil
}

// recoveryWait is how long SetMembers watches the recovery: if it is not over by
// then, it waits for a peer.
const recoveryWait = time.Second

// SetMembers implements stackglue.Admin: the complete new list, and who of those
// that are gone is dead, which is the operator's word that they are fenced.
func (m *manual) SetMembers(ctx context.Context, members, dead []uint32) error {
	members = slices.Clone(members)
	slices.Sort(members)
	members = slices.Compact(members)
	if err := m.check(members, dead); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.c.usable(); err != nil {
		return err
	}
	m.c.mu.Lock()
	before := m.c.rounds
	m.c.mu.Unlock()
	if err := m.set(members, dead); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, recoveryWait)
	defer cancel()
	err := m.c.waitRound(ctx, before, nil)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // it waits for a peer; status says for whom
	}
	return err
}

// check refuses lists that cannot be meant.
func (m *manual) check(members, dead []uint32) error {
	if !slices.Contains(members, m.c.cfg.Node) {
		return fmt.Errorf("the list %v does not contain this node, %d; use umount to leave", members, m.c.cfg.Node)
	}
	for _, n := range members {
		if slices.Contains(dead, n) {
			return fmt.Errorf("node %d cannot be a member and dead", n)
		}
	}
	for _, n := range slices.Concat(members, dead) {
		if _, ok := m.c.cfg.Cluster.Node(n); !ok {
			return fmt.Errorf("node %d is not in the cluster's configuration; add it to cluster.conf on all nodes", n)
		}
	}
	return nil
}

// set stops the lockspace and starts it with a list. mu held.
func (m *manual) set(members, dead []uint32) error {
	if m.view > 0 {
		if err := m.c.space.Stop(); err != nil {
			return fmt.Errorf("stopping the lockspace: %w", err)
		}
	}
	var failed []int32
	for _, n := range dead {
		// Before the start: what it sent last must not be taken for new.
		m.c.peers.bury(n, 1)
		if slices.Contains(m.list, n) {
			failed = append(failed, int32(n))
		}
	}
	var list []dlm.Member
	for _, n := range members {
		if n != m.c.cfg.Node {
			if err := m.c.peers.meet(n, 1); err != nil {
				return err
			}
		}
		list = append(list, dlm.Member{NodeID: int32(n), Weight: 1})
	}
	if err := m.c.space.Start(list, failed); err != nil {
		return fmt.Errorf("starting the lockspace with members %v: %w", members, err)
	}
	m.view++
	m.dead = slices.DeleteFunc(append(m.dead, dead...), func(n uint32) bool { return slices.Contains(members, n) })
	m.list = members
	m.c.cfg.Logf("members %v, dead %v (set by the operator)", members, dead)
	m.status.Lock()
	m.snap = manualSnap{m.view, slices.Clone(m.list), slices.Clone(m.dead)}
	m.status.Unlock()
	return nil
}

// leave implements membership: the peers are told by their operators.
func (m *manual) leave(ctx context.Context) error {
	m.mu.Lock()
	peers := len(m.list) > 1
	m.mu.Unlock()
	if err := m.c.space.Release(false); err != nil {
		return fmt.Errorf("releasing the lockspace: %w", err)
	}
	if !peers {
		return m.c.comms.Close()
	}
	m.c.cfg.Logf("waiting for members to drop node %d", m.c.cfg.Node)
	ctx, cancel := context.WithTimeout(ctx, m.dropWait)
	defer cancel()
	if err := m.c.comms.Shutdown(ctx); err != nil {
		m.c.cfg.Logf("warning: not dropped by all members after %v: %v; set the members of the other nodes without node %d", m.dropWait, err, m.c.cfg.Node)
	}
	return nil
}

// close implements membership.
func (m *manual) close(_ context.Context, reason error, _ bool) error {
	m.lease.Close(reason)
	return nil
}

func (m *manual) gate() stackglue.Gate { return &m.lease }

// describe implements membership.
func (m *manual) describe(s *stackglue.Status) {
	m.status.Lock()
	snap := m.snap
	m.status.Unlock()
	s.Membership, s.Fencing, s.View = "manual", "the operator's word (--dead)", snap.view
	for _, n := range m.c.cfg.Cluster.Nodes {
		st := "absent"
		switch {
		case n.Number == m.c.cfg.Node:
			st = "self"
		case slices.Contains(snap.list, n.Number):
			st = "member"
		case slices.Contains(snap.dead, n.Number):
			st = "dead"
		}
		s.Members = append(s.Members, stackglue.Member{Node: n.Number, Name: n.Name, Addr: n.Addr, State: st})
	}
}
