package dlm

import (
	"slices"

	"github.com/ocfuse/ocfuse/dlm/core"
	"github.com/ocfuse/ocfuse/dlm/midcomms"
	"github.com/ocfuse/ocfuse/dlm/wire"
	"github.com/ocfuse/ocfuse/stackglue"
)

// recordLevel is the lowest level of transport records that is logged.
const recordLevel = midcomms.Warn

// Status implements stackglue.Conn.
func (c *conn) Status() stackglue.Status {
	s := stackglue.Status{Stack: "dlm", Node: c.cfg.Node, Protocol: c.version.String(), Messages: stackglue.Counters{}}
	if d, ok := c.members.(*disk); !ok || d.ctl != nil {
		c.members.describe(&s)
	}
	if c.space == nil {
		return s
	}
	if m := c.space.Membership(); s.Recovering == "" && m.Stopped {
		s.Recovering = "recovery: " + m.Step
	}
	s.MessagesSent = c.net.counters(s.Messages)
	st := c.space.Stats()
	s.Messages["received"] = st.Received
	s.Messages["local_locks"] = st.Locks
	s.Messages["local_converts"] = st.Converts
	s.Messages["local_unlocks"] = st.Unlocks
	s.Messages["blocking_asts"] = st.Basts
	s.Messages["recoveries"] = st.Recoveries
	if e := c.fence.Load(); e != nil {
		s.Notes = append(s.Notes, "out of the cluster: "+(*e).Error())
	}
	return s
}

// Dump implements stackglue.Conn. The version lock of the stack itself is shown as
// well. fn runs after the lockspace has been read, without locks.
func (c *conn) Dump(fn func(stackglue.LockDump)) {
	if c.space == nil {
		return
	}
	var all []stackglue.LockDump
	c.space.Resources(true, func(r *core.ResourceInfo) bool {
		d := stackglue.LockDump{Name: slices.Clone(r.Name), Master: uint32(max(r.Master, 0)), LVB: slices.Clone(r.LVB), LVBSeq: r.LVBSeq}
		if r.Master <= 0 && r.Active {
			d.Details = "master is being looked up"
		}
		if r.LVBInvalid {
			d.Details = "value block is not valid"
		}
		for _, l := range r.Locks {
			row := stackglue.LockRow{Node: uint32(l.Node), ID: uint64(l.ID), Mode: stackglue.Mode(l.Granted), Want: stackglue.Mode(l.Wanted)}
			if l.Node == 0 {
				row.Node = c.cfg.Node
			}
			switch l.Status {
			case wire.StatusGranted:
				row.Queue = "granted"
			case wire.StatusConvert:
				row.Queue = "convert"
			default:
				row.Queue = "waiting"
			}
			d.Locks = append(d.Locks, row)
		}
		all = append(all, d)
		return true
	})
	for _, d := range all {
		fn(d)
	}
}
