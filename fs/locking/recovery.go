package locking

import (
	"context"
	"fmt"
	"sort"

	"github.com/ocfuse/ocfuse/stackglue"
)

// setTrouble publishes a new state. recMu held.
func (m *Manager) setTrouble(v uint32) {
	if len(m.dead) != 0 {
		v |= troubleRecovery
	} else {
		v &^= troubleRecovery
	}
	m.trouble.Store(v)
	close(m.recovered)
	m.recovered = make(chan struct{})
}

// NodeDown implements stackglue.RecoveryHandler: it runs before any lock of
// the dead node is granted here.
func (m *Manager) NodeDown(node uint32) {
	m.MarkDead(node)
	if m.cfg.NodeDown != nil {
		m.cfg.NodeDown(node)
	}
}

// MarkDead puts a node on the recovery map: META locks wait until
// Recovered(node). Mount also calls it for slots found dirty.
func (m *Manager) MarkDead(node uint32) {
	m.recMu.Lock()
	defer m.recMu.Unlock()
	m.dead[node] = true
	m.setTrouble(m.trouble.Load())
}

// Recovered takes a node off the recovery map: its journal was replayed.
func (m *Manager) Recovered(node uint32) {
	m.recMu.Lock()
	defer m.recMu.Unlock()
	delete(m.dead, node)
	m.setTrouble(m.trouble.Load())
}

// Recovering returns the nodes on the recovery map, ascending.
func (m *Manager) Recovering() []uint32 {
	m.recMu.Lock()
	defer m.recMu.Unlock()
	var nodes []uint32
	for n := range m.dead {
		nodes = append(nodes, n)
	}
	sort.Slice(nodes, func(i, j int) bool { return nodes[i] < nodes[j] })
	return nodes
}

// Evicted implements stackglue.RecoveryHandler: everything this node holds is
// void, and every waiting and later Lock fails with stackglue.ErrFenced.
func (m *Manager) Evicted(reason error) {
	m.recMu.Lock()
	if m.reason == nil {
		m.reason = reason
	}
	m.setTrouble(m.trouble.Load() | troubleFenced)
	m.recMu.Unlock()
	// The stack must not wait for us, and we call it to cancel.
	go m.failWaiters(stackglue.ErrFenced)
	if m.cfg.Evicted != nil {
		m.cfg.Evicted(reason)
	}
}

// gone returns why no lock can be had any more, nil if all is well.
func (m *Manager) gone() error {
	t := m.trouble.Load()
	if t&(troubleFenced|troubleClosed) == 0 {
		return nil
	}
	if t&troubleFenced == 0 {
		return stackglue.ErrShutdown
	}
	m.recMu.Lock()
	defer m.recMu.Unlock()
	return fmt.Errorf("%w: %v", stackglue.ErrFenced, m.reason)
}

// fenced reports whether the cluster has given this node up.
func (m *Manager) fenced() bool { return m.trouble.Load()&troubleFenced != 0 }

// waitRecovered waits until no node is on the recovery map.
func (m *Manager) waitRecovered(ctx context.Context, f Flags) error {
	for {
		if err := m.gone(); err != nil {
			return err
		}
		m.recMu.Lock()
		n, ch := len(m.dead), m.recovered
		m.recMu.Unlock()
		if n == 0 {
			return nil
		}
		if f&NoQueue != 0 {
			return fmt.Errorf("recovery of a dead node is going on: %w", stackglue.ErrAgain)
		}
		if err := Await(ctx, ch); err != nil {
			return fmt.Errorf("waiting for the recovery of a dead node: %w", err)
		}
	}
}
