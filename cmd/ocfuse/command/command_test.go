package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// run executes the real command line.
func run(t *testing.T, stdin string, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = Main(context.Background(), args, strings.NewReader(stdin), &o, &e)
	return code, o.String(), e.String()
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args     []string
		code     int
		out, err string
	}{
		{[]string{"--help"}, ExitOK, "Available Commands", ""},
		{nil, ExitOK, "Available Commands", ""},
		{[]string{"nosuch"}, ExitUsage, "", "unknown command"},
		{[]string{"version", "--nosuch"}, ExitUsage, "", "unknown flag: --nosuch"},
		{[]string{"version", "extra"}, ExitUsage, "", "ocfuse version"},
		{[]string{"version", "--log-level", "loud"}, ExitUsage, "", `--log-level "loud": use error`},
		{[]string{"version", "--log-format", "xml"}, ExitUsage, "", `--log-format "xml": use text or json`},
		{[]string{"man"}, ExitUsage, "", "Try 'ocfuse man --help'"},
		{[]string{"completion", "bash"}, ExitOK, "bash completion", ""},
	} {
		code, out, errs := run(t, "", c.args...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.err) {
			t.Errorf("%q: exit %d, out %.80q, err %q", c.args, code, out, errs)
		}
		if code != ExitOK && out != "" {
			t.Errorf("%q: failed, yet printed %q", c.args, out)
		}
	}
}

func TestVersion(t *testing.T) {
	code, out, _ := run(t, "", "version")
	if code != ExitOK || !strings.HasPrefix(out, "ocfuse "+Version) {
		t.Errorf("exit %d, %q", code, out)
	}
	code, out, _ = run(t, "", "version", "--json")
	var v versionInfo
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != ExitOK || v.Version != Version || v.Go == "" {
		t.Errorf("exit %d, %v, %q", code, err, out)
	}
}

func TestMan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	if code, out, errs := run(t, "", "man", dir); code != ExitOK {
		t.Fatalf("exit %d, %s%s", code, out, errs)
	}
	for _, page := range []string{"ocfuse.8", "ocfuse-version.8"} {
		b, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil || !bytes.Contains(b, []byte(".SH SYNOPSIS")) {
			t.Errorf("%s: %v", page, err)
		}
	}
	file := filepath.Join(dir, "ocfuse.8")
	if code, _, errs := run(t, "", "man", file); code != ExitFailure || !strings.Contains(errs, file) {
		t.Errorf("a file as directory: exit %d, %q", code, errs)
	}
}

func TestExitCodes(t *testing.T) {
	plain := errors.New("no")
	canceled := fmt.Errorf("stopped: %w", context.Canceled)
	for _, c := range []struct {
		cmd  string
		ran  bool
		err  error
		want int
	}{
		{"mount", true, nil, 0},
		{"status", true, plain, 1}, {"status", false, plain, 2}, {"status", true, canceled, 130},
		{"mkfs", true, plain, 1}, {"mkfs", false, plain, 1}, {"mkfs", true, canceled, 1},
		{"fsck", true, plain, 8}, {"fsck", false, plain, 16}, {"fsck", true, canceled, 32},
		{"mount", true, plain, 32}, {"mount", false, plain, 1}, {"umount", true, canceled, 8},
		{"fsck", true, fmt.Errorf("outer: %w", &ExitError{ExitFsckUncorrected, plain}), 4},
	} {
		if got := exitCode(&cobra.Command{Use: c.cmd}, c.ran, c.err); got != c.want {
			t.Errorf("%s ran=%v %v: %d, want %d", c.cmd, c.ran, c.err, got, c.want)
		}
	}
}
