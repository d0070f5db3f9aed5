package locking

import (
	"fmt"
	"sort"

	"github.com/ocfuse/ocfuse/stackglue"
)

// Dump is one resource as `ocfuse locks` shows it.
type Dump struct {
	Name     string         `json:"name"`
	Type     string         `json:"type"`
	Level    stackglue.Mode `json:"level"`
	InFlight string         `json:"in_flight,omitempty"` // raising, lowering, dropping
	Want     stackglue.Mode `json:"want"`                // target of what is in flight
	Blocking stackglue.Mode `json:"blocking"`            // what another node waits for; NL: nothing
	Readers  int            `json:"readers"`
	Writers  int            `json:"writers"`
	Waiters  int            `json:"waiters"`
	Grants   uint64         `json:"grants"`
	Passes   int            `json:"passes,omitempty"` // of the revoke under way
	Flags    []string       `json:"flags,omitempty"`
	Data     any            `json:"-"` // Resource.Data: leads to the path
}

// Dump describes every resource, by name.
func (m *Manager) Dump() []Dump {
	all := m.resources()
	out := make([]Dump, 0, len(all))
	for _, r := range all {
		out = append(out, r.dump())
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

func (r *Resource) dump() Dump {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := Dump{
		Name: r.NameString(), Type: r.typ.String(), Level: r.level, InFlight: actionNames[r.act], Want: r.requested,
		Blocking: stackglue.NL, Readers: int(r.readers), Writers: int(r.writers), Waiters: r.waiting.n,
		Grants: r.grantsPR + r.grantsEX, Passes: r.rv.passes, Data: r.Data,
	}
	if r.flags&blocked != 0 {
		d.Blocking = r.blocking
	}
	for i, n := range stateNames {
		if r.flags&(1<<i) != 0 {
			d.Flags = append(d.Flags, n)
		}
	}
	return d
}

// NameString returns the lock's name for humans.
func (r *Resource) NameString() string { return DisplayName(r.NameBytes()) }

// DisplayName spells a lock name out for humans: binary dentry lock names
// (OCFS2 locking: 'N', 16 hex digits, NUL, 8 bytes inode number) as Linux
// prints them.
func DisplayName(n []byte) string {
	if len(n) >= 26 && n[0] == byte(Dentry) && n[17] == 0 {
		return fmt.Sprintf("%s%08x", n[:17], n[18:26])
	}
	return string(n)
}
