package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/ocfuse/ocfuse/dlm/core"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

// checkCores runs the cores' own checks.
func (s *Sim) checkCores() {
	for _, id := range s.ids {
		if h := s.hosts[id]; h != nil {
			if err := h.core.CheckInvariants(); err != nil {
				s.fail("%v: %v", h, err)
			}
		}
	}
}

// checkCalm: nothing is pending once everything came to rest.
func (s *Sim) checkCalm() {
	if s.err != nil {
		return
	}
	for _, id := range s.ids {
		h := s.hosts[id]
		if h == nil {
			continue
		}
		if m := h.core.Membership(); m.Stopped || len(m.Members) != len(s.ctl.members) {
			s.fail("%v: membership %+v after the calm", h, m)
		}
		for _, hd := range h.locks {
			if hd.op != opNone {
				s.fail("%v: operation %d (%v->%v %v) on %s, lock %#x, issued at %v, never ended: %s", h, hd.op, hd.before, hd.want,
					hd.flags, hd.res.name, uint32(hd.id), time.Duration(hd.since), s.describe())
			}
		}
		if w, d := h.core.Pending(); w+d != 0 {
			s.fail("%v: %d replies and %d deferred operations outstanding at rest", h, w, d)
		}
		for _, to := range s.ids {
			if n := len(h.sent[to]); n != 0 && s.hosts[to] != nil {
				s.fail("%v: %d messages to %d were never delivered", h, n, to)
			}
		}
	}
}

// copyKey names one copy of a lock.
type copyKey struct {
	node int32
	id   uint32
}

// checkAgreement compares all nodes' views of every resource, with nothing in flight.
func (s *Sim) checkAgreement() {
	if s.err != nil {
		return
	}
	masters := map[string]int32{}
	type remote struct {
		name string
		li   core.LockInfo
	}
	process := map[copyKey]remote{} // by owner and its id
	s.eachResource(func(h *host, ri *core.ResourceInfo) {
		name := string(ri.Name)
		if !ri.Active {
			return
		}
		if ri.Master == h.id {
			if m, ok := masters[name]; ok {
				s.fail("%s: %v and node %d are both master", name, h, m)
			}
			masters[name] = h.id
			return
		}
		for _, li := range ri.Locks {
			li.Data, li.LVB = nil, nil
			process[copyKey{h.id, uint32(li.ID)}] = remote{name, li}
		}
	})
	s.eachResource(func(h *host, ri *core.ResourceInfo) {
		name := string(ri.Name)
		switch {
		case ri.Active && ri.Master != masters[name]:
			s.fail("%s: %v says master %d, it is %d", name, h, ri.Master, masters[name])
		case ri.Dir == h.id && masters[name] != 0 && ri.Master != masters[name]:
			s.fail("%s: its directory %v says master %d, it is %d", name, h, ri.Master, masters[name])
		}
		if !ri.Active || ri.Master != h.id {
			return
		}
		for _, li := range ri.Locks {
			if li.Node == 0 {
				continue
			}
			k := copyKey{li.Node, li.RemoteID}
			p, ok := process[k]
			switch {
			case !ok || p.name != name:
				s.fail("%s: master copy %#x of node %d's lock %#x has no process copy", name, uint32(li.ID), li.Node, li.RemoteID)
			case p.li.RemoteID != uint32(li.ID) || p.li.Status != li.Status || p.li.Granted != li.Granted:
				s.fail("%s: master copy %+v and process copy %+v differ", name, li, p.li)
			}
			delete(process, k)
		}
	})
	for k, p := range process {
		s.fail("%s: node %d's lock %#x has no master copy", p.name, k.node, k.id)
	}
	s.checkDirectories(masters)
}

// checkDirectories: who masters a name is on record where others will ask.
func (s *Sim) checkDirectories(masters map[string]int32) {
	recorded := map[string]bool{}
	s.eachResource(func(h *host, ri *core.ResourceInfo) {
		if ri.Dir == h.id {
			recorded[string(ri.Name)] = true
		}
	})
	for name := range masters {
		if !recorded[name] {
			s.fail("%s: mastered by %d, but its directory node has no record", name, masters[name])
		}
	}
}

func (s *Sim) eachResource(f func(*host, *core.ResourceInfo)) {
	for _, id := range s.ids {
		if h := s.hosts[id]; h != nil {
			h.core.Resources(true, func(ri *core.ResourceInfo) bool {
				f(h, ri)
				return true
			})
		}
	}
}

// checkEmpty: nothing is left after the drain, not even in caches.
func (s *Sim) checkEmpty() {
	if s.err != nil {
		return
	}
	s.checkCalm()
	for _, id := range s.ids {
		h := s.hosts[id]
		if h == nil {
			continue
		}
		if locks, res := h.core.Counts(); locks != 0 || res != 0 || len(h.locks) != 0 {
			s.fail("%v: %d locks, %d resources, %d handles left: %s", h, locks, res, len(h.locks), s.describe())
		}
	}
}

// describe is the state of the cluster in a few lines.
func (s *Sim) describe() string {
	var b strings.Builder
	for _, id := range s.ids {
		h := s.hosts[id]
		if h == nil {
			continue
		}
		m := h.core.Membership()
		fmt.Fprintf(&b, "\n  %v: members %v status %v seq %d stopped %v step %s", h, m.Members, m.Status, m.Seq, m.Stopped, m.Step)
	}
	s.eachResource(func(h *host, ri *core.ResourceInfo) {
		fmt.Fprintf(&b, "\n  %s on %v: master %d dir %d active %v", ri.Name, h, ri.Master, ri.Dir, ri.Active)
		for _, li := range ri.Locks {
			fmt.Fprintf(&b, "\n    %#x/%#x owner %d %v gr %v rq %v bast %v %v wait %v", uint32(li.ID), li.RemoteID, li.Node, li.Status,
				li.Granted, li.Wanted, li.Blocking, li.Flags, waitName(li.WaitType))
		}
	})
	return b.String()
}

func waitName(t wire.MsgType) string {
	if t == 0 {
		return "-"
	}
	return t.String()
}
