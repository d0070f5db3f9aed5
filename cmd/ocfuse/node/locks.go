package node

import (
	"encoding/json"
	"fmt"
	"sort"

	"github.com/ocfuse/ocfuse/fs/fuse"
	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/stackglue"
)

// LocksArgs are the arguments of "locks".
type LocksArgs struct {
	Busy bool `json:"busy"` // only locks that somebody waits for
	Max  int  `json:"max"`  // 0: all
}

// LockView is one lock resource of `ocfuse locks`.
type LockView struct {
	locking.Dump
	Path    string                `json:"path,omitempty"`
	Cluster *stackglue.LockDump   `json:"cluster,omitempty"`
	Queue   map[string][]LockUser `json:"queues,omitempty"`
}

// LockUser is one lock in a queue of the lock manager.
type LockUser struct {
	Node uint32 `json:"node"`
	Mode string `json:"mode"`
	Want string `json:"want,omitempty"`
}

// locks lists the lock resources of this node, with what the lock manager
// knows of each.
func (n *Node) locks(args json.RawMessage) (any, error) {
	var a LocksArgs
	if len(args) > 0 {
		if err := json.Unmarshal(args, &a); err != nil {
			return nil, err
		}
	}
	if n.state.Load() == "joining" {
		return nil, fmt.Errorf("%w yet: it is joining", ErrNotMounted)
	}
	byName := map[string]stackglue.LockDump{}
	n.v.Conn().Dump(func(d stackglue.LockDump) { byName[locking.DisplayName(d.Name)] = d })
	list := []LockView{} // in JSON [], not null
	for _, d := range n.v.Locks().Dump() {
		if a.Busy && d.Waiters == 0 && d.Blocking == stackglue.NL && d.InFlight == "" {
			continue
		}
		v := LockView{Dump: d, Path: fuse.PathOf(d.Data)}
		if c, ok := byName[d.Name]; ok {
			v.Cluster = &c
			v.Queue = queues(c)
		}
		list = append(list, v)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	if a.Max > 0 && len(list) > a.Max {
		list = list[:a.Max]
	}
	return list, nil
}

func queues(d stackglue.LockDump) map[string][]LockUser {
	q := map[string][]LockUser{}
	for _, r := range d.Locks {
		u := LockUser{Node: r.Node, Mode: r.Mode.String()}
		if r.Queue != "granted" {
			u.Want = r.Want.String()
		}
		q[r.Queue] = append(q[r.Queue], u)
	}
	return q
}
