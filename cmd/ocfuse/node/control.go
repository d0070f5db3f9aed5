package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
	"github.com/ocfuse/ocfuse/stackglue"
)

// ErrNotMounted: the node is still joining or already leaving.
var ErrNotMounted = errors.New("the node is not mounted")

// handle answers the control socket.
func (n *Node) handle(ctx context.Context, op string, args json.RawMessage) (any, error) {
	switch op {
	case "ping":
		return "pong", nil
	case "status":
		return n.status(), nil
	case "umount":
		return nil, n.umount(ctx, args)
	case "locks":
		return n.locks(args)
	case "members-set":
		return nil, n.setMembers(ctx, args)
	}
	return nil, fmt.Errorf("this node does not know the request %q", op)
}

// UmountArgs are the arguments of "umount".
type UmountArgs struct {
	Force bool `json:"force"`
}

// umount takes the mount away and returns when the node has left.
func (n *Node) umount(ctx context.Context, args json.RawMessage) error {
	var a UmountArgs
	if len(args) > 0 {
		if err := json.Unmarshal(args, &a); err != nil {
			return err
		}
	}
	if n.state.Load() == "joining" {
		return fmt.Errorf("%w yet: it is joining", ErrNotMounted)
	}
	if n.state.Load() == "mounted" {
		if a.Force {
			n.force()
		} else if err := n.m.Unmount(false); err != nil {
			return err
		}
	}
	select {
	case <-n.gone:
	case <-ctx.Done():
		return ctx.Err()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// MembersArgs are the arguments of "members-set".
type MembersArgs struct {
	Members []uint32 `json:"members"`
	Dead    []uint32 `json:"dead,omitempty"`
}

func (n *Node) setMembers(ctx context.Context, args json.RawMessage) error {
	var a MembersArgs
	if err := json.Unmarshal(args, &a); err != nil {
		return err
	}
	if n.state.Load() == "joining" {
		return fmt.Errorf("%w yet: it is joining", ErrNotMounted)
	}
	admin, ok := stackglue.AsAdmin(n.v.Conn())
	if !ok {
		return fmt.Errorf("stack %s: its membership cannot be set by hand", n.v.Stack())
	}
	return admin.SetMembers(ctx, a.Members, a.Dead)
}

// Status is what `ocfuse status` shows of a node.
type Status struct {
	MountPoint string    `json:"mount_point"`
	Device     string    `json:"device"`
	Pid        int       `json:"pid"`
	State      string    `json:"state"`
	Since      time.Time `json:"since"`
	UUID       string    `json:"uuid,omitempty"`
	Label      string    `json:"label,omitempty"`
	Stack      string    `json:"stack,omitempty"`
	Node       uint32    `json:"node"`
	Slot       int       `json:"slot"`
	ReadOnly   bool      `json:"read_only"`
	Trouble    string    `json:"trouble,omitempty"`
	Recovering string    `json:"recovering,omitempty"`
	Notes      []string  `json:"notes,omitempty"`

	kcache.Status
	MessagesSent uint64             `json:"messages_sent"`
	Messages     stackglue.Counters `json:"messages_by_kind,omitempty"`
	LockFlushes  uint64             `json:"lock_flushes"`

	Cluster *stackglue.Status `json:"cluster,omitempty"`
	Journal any               `json:"journal,omitempty"`
	Cache   any               `json:"metadata_cache,omitempty"`
	Disk    any               `json:"disk,omitempty"`
	Locks   map[string]uint64 `json:"locks,omitempty"`
}

func (n *Node) status() Status {
	s := Status{MountPoint: n.mnt, Device: n.cfg.Device, Pid: os.Getpid(), State: n.state.Load().(string), Since: n.start, Slot: -1}
	if s.State == "joining" {
		return s
	}
	v := n.v
	g := v.Geometry()
	s.UUID, s.Label, s.Stack, s.Node, s.Slot = g.UUIDString(), g.Label, v.Stack(), v.Node(), v.Slot()
	ro, err := v.ReadOnly()
	s.ReadOnly = ro
	s.Trouble = v.Why()
	if err != nil {
		s.Trouble = err.Error()
	}
	s.Recovering = v.RecoveryState()
	s.Status = n.m.Status()
	cs := v.Conn().Status()
	s.MessagesSent, s.Messages = cs.MessagesSent, cs.Messages
	cs.Messages = nil
	s.Cluster = &cs
	js := v.Journal().Stats()
	s.Journal, s.LockFlushes = js, js.FullFlushes-js.FullFlushFree
	s.Cache, s.Disk = v.Cache().Stats(), v.Device().Stats()
	c := &v.Locks().Counters
	s.Locks = map[string]uint64{
		"cached": uint64(v.Locks().Len()), "raised": c.Raises.Load(), "lowered": c.Lowers.Load(), "dropped": c.Drops.Load(),
		"blocking_asts": c.Basts.Load(), "waits": c.Waits.Load(), "refreshes": c.Refreshes.Load(),
	}
	if !v.Local() {
		s.Notes = append(s.Notes, "flock(2) locks are cluster-wide; fcntl(2) locks hold on this node only")
	}
	return s
}
