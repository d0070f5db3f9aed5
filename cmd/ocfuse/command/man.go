package command

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

type manOptions struct {
	dir string
}

func newManCommand(e *Env) *cobra.Command {
	var o manOptions
	return &cobra.Command{
		Use:   "man DIRECTORY",
		Short: "Write the manual pages into a directory",
		Long: `Write one manual page per command, section 8, into DIRECTORY, which is made if it
is not there. Read one with "man -l DIRECTORY/ocfuse.8".`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.dir = args[0]
			return o.run(e, cmd.Root())
		},
	}
}

func (o *manOptions) run(e *Env, root *cobra.Command) error {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	// A fixed date keeps the pages the same from build to build.
	date := time.Unix(0, 0).UTC()
	root.DisableAutoGenTag = true
	header := &doc.GenManHeader{Section: "8", Source: "ocfuse " + Version, Manual: "ocfuse", Date: &date}
	if err := doc.GenManTree(root, header, o.dir); err != nil {
		return fmt.Errorf("write manual pages into %s: %w", o.dir, err)
	}
	pages, err := filepath.Glob(filepath.Join(o.dir, "ocfuse*.8"))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.Out, "%d manual pages in %s\n", len(pages), o.dir)
	return err
}
