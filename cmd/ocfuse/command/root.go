package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
)

// Env is what a command sees of the process.
type Env struct {
	In  io.Reader
	Out io.Writer // results
	Err io.Writer // progress, messages, logs
	Log *logrus.Logger

	ran *cobra.Command // the command whose flags and arguments were accepted
}

// Main runs the command line args (without the program name) and returns the exit
// code of the process. See exitcode.go for the codes.
func Main(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	e := &Env{In: in, Out: out, Err: errw, Log: newLogger(errw)}
	root := NewRoot(e)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil {
		fmt.Fprintf(errw, "%s: %v\n", cmd.CommandPath(), err)
		if e.ran == nil {
			fmt.Fprintf(errw, "Try '%s --help'.\n", cmd.CommandPath())
		}
	}
	return exitCode(cmd, e.ran != nil, err)
}

// NewRoot builds the command tree for e.
func NewRoot(e *Env) *cobra.Command {
	var logOpts logOptions
	root := &cobra.Command{
		Use:   "ocfuse",
		Short: "OCFS2 cluster filesystem in user space",
		Long: `ocfuse works with OCFS2 volumes without a kernel module. Several nodes may use
one volume at the same time.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := logOpts.apply(e.Log); err != nil {
				return err
			}
			e.ran = cmd
			return nil
		},
	}
	root.SetIn(e.In)
	root.SetOut(e.Out)
	root.SetErr(e.Err)
	logOpts.register(root.PersistentFlags())
	root.AddCommand(
		newMkfsCommand(e),
		newVersionCommand(e),
		newManCommand(e),
		newDemoCommand(e),
		newGuardCommand(),
		newMountCommand(e),
		newUmountCommand(e),
		newStatusCommand(e),
		newLocksCommand(e),
		newMembersCommand(e),
	)
	return root
}

// addJSON declares --json.
func addJSON(cmd *cobra.Command, to *bool) {
	cmd.Flags().BoolVar(to, "json", false, "print JSON")
}

// printJSON writes v as indented JSON.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
