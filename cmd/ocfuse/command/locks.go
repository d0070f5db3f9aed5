package command

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ocfuse/ocfuse/cmd/ocfuse/control"
	"github.com/ocfuse/ocfuse/cmd/ocfuse/node"
	"github.com/ocfuse/ocfuse/stackglue"
)

func newLocksCommand(e *Env) *cobra.Command {
	var asJSON bool
	var a node.LocksArgs
	cmd := &cobra.Command{
		Use:   "locks MOUNTPOINT",
		Short: "List the cluster locks of a node: held, wanted, blocked, by name and path",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list := []node.LockView{}
			if err := control.Call(cmd.Context(), args[0], "locks", a, &list); err != nil {
				return err
			}
			if asJSON {
				return printJSON(e.Out, list)
			}
			return printLocks(e.Out, list)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&a.Busy, "busy", false, "only locks that somebody waits for")
	f.IntVar(&a.Max, "max", 0, "at most this many (0: all)")
	addJSON(cmd, &asJSON)
	return cmd
}

func printLocks(out io.Writer, list []node.LockView) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "LOCK\tTYPE\tHELD\tUSERS\tWAITING\tBLOCKS\tMASTER\tOTHERS\tPATH")
	for _, l := range list {
		blocks, master := "", ""
		if l.Blocking != stackglue.NL {
			blocks = l.Blocking.String()
		}
		if l.Cluster != nil {
			master = fmt.Sprint(l.Cluster.Master)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", l.Name, l.Type, l.Level, l.Readers+l.Writers, l.Waiters, blocks, master, others(l), l.Path)
	}
	return w.Flush()
}

// others shows the queues of the lock manager: node:mode, node:mode>want.
func others(l node.LockView) string {
	var s []string
	for _, q := range []string{"granted", "convert", "waiting"} {
		for _, u := range l.Queue[q] {
			t := fmt.Sprintf("%d:%s", u.Node, u.Mode)
			if u.Want != "" {
				t += ">" + u.Want
			}
			s = append(s, t)
		}
	}
	return strings.Join(s, " ")
}
