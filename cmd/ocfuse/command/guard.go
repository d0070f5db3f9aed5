package command

import (
	"github.com/spf13/cobra"

	"github.com/ocfuse/ocfuse/cmd/ocfuse/node"
)

// newGuardCommand is the child that each node starts for itself.
func newGuardCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "guard MINOR MOUNTPOINT",
		Short:  "abort a mount when its node is killed (started by the node)",
		Hidden: true,
		Args:   cobra.ExactArgs(2),
		RunE:   func(_ *cobra.Command, args []string) error { return node.Guard(args[0], args[1]) },
	}
}
