package command

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ocfuse/ocfuse/cmd/ocfuse/control"
	"github.com/ocfuse/ocfuse/cmd/ocfuse/node"
)

func newMembersCommand(e *Env) *cobra.Command {
	var asJSON bool
	var dead string
	cmd := &cobra.Command{
		Use:   "members MOUNTPOINT [set LIST...]",
		Short: "Show the members of a node's cluster, or set them by hand",
		Long: `members shows who is in the node's view. "set" gives the complete new list on a
mount with --membership manual; it returns once the view is committed here or its
recovery waits for a peer.

--dead names nodes that are gone and fenced: that is the operator's word that they
cannot write to the volume any more.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return showMembers(cmd, e, args[0], asJSON)
			}
			if args[1] != "set" || len(args) < 3 {
				return &ExitError{ExitUsage, fmt.Errorf("members: %q: want set LIST", strings.Join(args[1:], " "))}
			}
			m, err := parseNodes(strings.Join(args[2:], " "))
			if err != nil {
				return err
			}
			d, err := parseNodes(dead)
			if err != nil {
				return err
			}
			return control.Call(cmd.Context(), args[0], "members-set", node.MembersArgs{Members: m, Dead: d}, nil)
		},
	}
	cmd.Flags().StringVar(&dead, "dead", "", "members that died and are fenced, such as \"3\"")
	addJSON(cmd, &asJSON)
	return cmd
}

// parseNodes reads node numbers separated by blanks or commas.
func parseNodes(s string) ([]uint32, error) {
	var list []uint32
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' }) {
		n, err := strconv.ParseUint(f, 10, 8)
		if err != nil {
			return nil, &ExitError{ExitUsage, fmt.Errorf("%q is not a node number (0 to 255)", f)}
		}
		list = append(list, uint32(n))
	}
	return list, nil
}

func showMembers(cmd *cobra.Command, e *Env, mnt string, asJSON bool) error {
	var s node.Status
	if err := control.Call(cmd.Context(), mnt, "status", nil, &s); err != nil {
		return err
	}
	if s.Cluster == nil {
		return fmt.Errorf("%s: %w", mnt, node.ErrNotMounted)
	}
	if asJSON {
		return printJSON(e.Out, s.Cluster)
	}
	w := tabwriter.NewWriter(e.Out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "membership %s, view %d\n", s.Cluster.Membership, s.Cluster.View)
	fmt.Fprintln(w, "NODE\tNAME\tADDRESS\tSTATE")
	for _, m := range s.Cluster.Members {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", m.Node, m.Name, m.Addr, m.State)
	}
	return w.Flush()
}
