package command

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ocfuse/ocfuse/cmd/ocfuse/control"
	"github.com/ocfuse/ocfuse/cmd/ocfuse/node"
)

func newStatusCommand(e *Env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [MOUNTPOINT]",
		Short: "Show what a mounted node, or every one of this host, is doing",
		Long: `status asks the node through its control socket, not through the mount: it
answers for a mount that hangs, and from another network namespace.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return statusAll(cmd, e, asJSON)
			}
			var s node.Status
			if err := control.Call(cmd.Context(), args[0], "status", nil, &s); err != nil {
				return err
			}
			if asJSON {
				return printJSON(e.Out, s)
			}
			return printStatus(e.Out, s)
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func statusAll(cmd *cobra.Command, e *Env, asJSON bool) error {
	list := []node.Status{}
	err := control.All(cmd.Context(), "status", func(raw json.RawMessage) {
		var s node.Status
		if json.Unmarshal(raw, &s) == nil {
			list = append(list, s)
		}
	})
	if err != nil {
		return err
	}
	sort.Slice(list, func(i, j int) bool { return list[i].MountPoint < list[j].MountPoint })
	if asJSON {
		return printJSON(e.Out, list)
	}
	w := tabwriter.NewWriter(e.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "MOUNT POINT\tDEVICE\tSTATE\tSTACK\tNODE\tSLOT\tPID")
	for _, s := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\n", s.MountPoint, s.Device, s.State, s.Stack, s.Node, s.Slot, s.Pid)
	}
	return w.Flush()
}

func printStatus(out io.Writer, s node.Status) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("mount point", "%s", s.MountPoint)
	row("device", "%s", s.Device)
	row("state", "%s, pid %d, since %s", s.State, s.Pid, s.Since.Format(time.DateTime))
	if s.UUID != "" {
		row("volume", "%s %q", s.UUID, s.Label)
		row("node", "%d, slot %d, stack %s", s.Node, s.Slot, s.Stack)
	}
	if s.ReadOnly {
		row("read-only", "%s", cmp.Or(s.Trouble, "as asked for"))
	}
	if s.Recovering != "" {
		row("recovering", "%s", s.Recovering)
	}
	if c := s.Cluster; c != nil && c.Membership != "none" {
		row("membership", "%s, view %d, fencing: %s", c.Membership, c.View, c.Fencing)
		for _, m := range c.Members {
			row("  member", "%d %s %s %s", m.Node, m.Name, m.Addr, m.State)
		}
	}
	row("FUSE requests", "%d", s.FuseRequests)
	row("lock messages sent", "%d", s.MessagesSent)
	row("cached locks", "%d", s.Locks["cached"])
	for _, n := range s.Notes {
		row("note", "%s", n)
	}
	return w.Flush()
}
