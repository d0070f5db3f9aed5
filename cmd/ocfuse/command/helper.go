package command

import (
	"path/filepath"
	"strings"
)

// Arguments turns the process's words into arguments of Main. Beside the plain
// command line it understands how mount(8) starts the program for the type
// fuse.ocfuse:
//
//	mount.fuse.ocfuse DEVICE MOUNTPOINT [-sfnv] [-o OPTIONS] [-t TYPE]   (a link to this program)
//	ocfuse DEVICE MOUNTPOINT [-o OPTIONS]                                (mount.fuse(8) without the link)
func Arguments(argv []string) []string {
	if len(argv) == 0 {
		return nil
	}
	args := argv[1:]
	switch {
	case strings.HasPrefix(filepath.Base(argv[0]), "mount."):
		return append([]string{"mount"}, helperArgs(args)...)
	case len(args) > 1 && strings.Contains(args[0], "/") && strings.Contains(args[1], "/"):
		return append([]string{"mount"}, helperArgs(args)...)
	}
	return args
}

// helperArgs translates the flags of a mount helper (mount(8), "external
// helpers"); what it does not know is left for the parser to refuse.
func helperArgs(args []string) []string {
	var out []string
	for k := 0; k < len(args); k++ {
		a := args[k]
		switch {
		case a == "-t":
			k++ // the type is ours
		case a == "-o" && k+1 < len(args):
			k++
			out = append(out, "-o", args[k])
		case len(a) > 1 && a[0] == '-' && strings.Trim(a[1:], "sfnv") == "":
			if strings.Contains(a, "f") {
				out = append(out, "--fake")
			}
		default:
			out = append(out, a)
		}
	}
	return out
}
