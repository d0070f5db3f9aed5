package command

import (
	"github.com/spf13/cobra"

	"github.com/ocfuse/ocfuse/cmd/ocfuse/demo"
)

func newDemoCommand(e *Env) *cobra.Command {
	var o demo.Options
	var mib int64
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show three nodes on this machine, told as a story: one is killed, the others carry on",
		Long: `demo makes a volume in an image file, mounts it as three cluster nodes on this
machine, and tells what happens: who writes, who sees it, what travelled. One node is
killed and comes back. Everything it says is checked; it ends with success only if all
of it held. It needs no root where fusermount3 is installed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Out, o.Size = e.Out, mib<<20
			return demo.Run(cmd.Context(), o)
		},
	}
	addJSON(cmd, &o.JSON)
	f := cmd.Flags()
	f.BoolVar(&o.Keep, "keep", false, "leave the nodes mounted in the end, and say how to look around")
	f.StringVar(&o.Dir, "dir", "", "existing `folder` for the image and mount points (default: a temporary one)")
	f.Int64Var(&mib, "size", 512, "size of the volume in `MiB`")
	return cmd
}
