package tidy

import (
	"go/token"
	"strconv"
	"strings"
	"testing"
)

// fsLayers orders the packages below fs/. A package may import those of lower
// layers, and its own children. One that is not listed breaks the test: decide
// where it belongs and add it.
var fsLayers = [][]string{
	{"fs/ondisk", "fs/blockdev"},
	{"fs/buffer", "fs/locking", "fs/slotmap"},
	{"fs/mkfs", "fs/tx"},
	{"fs/extent"},
	{"fs/alloc"},
	{"fs/inode", "fs/quota", "fs/refcount"},
	{"fs/dir", "fs/xattr", "fs/file", "fs/check"},
	{"fs/recovery", "fs/acl"},
	{"fs/volume"},
	{"fs/fuse", "fs/fusefs"},
}

// deny says what the non-test files of a folder must not import; the folder "." is
// the whole project.
var deny = []struct {
	dir    string
	except []string // folders below dir that may
	what   []string
	why    string
}{
	{"fs", nil, []string{module + "/stacks", module + "/dlm", module + "/cmd", module + "/integration"}, "the filesystem sees stackglue, never a stack"},
	{"stackglue", nil, []string{module + "/fs", module + "/stacks", module + "/dlm", module + "/cmd", module + "/journal", module + "/integration"}, "stackglue is the plug; it knows neither side"},
	{"dlm", nil, []string{module + "/fs", module + "/stackglue", module + "/stacks", module + "/cmd", module + "/journal", module + "/integration"}, "the lock manager stands alone"},
	{"journal", nil, []string{module + "/fs", module + "/stackglue", module + "/stacks", module + "/dlm", module + "/cmd", module + "/integration"}, "the journal declares the device it needs"},
	{"stacks", nil, []string{module + "/fs", module + "/cmd", module + "/journal", module + "/integration"}, "a stack sees stackglue and its lock manager"},
	{".", []string{"fs/fuse", "fs/fusefs", "integration"}, []string{"github.com/hanwen/go-fuse"}, "go-fuse has one door"},
	{".", []string{"cmd"}, []string{"github.com/spf13"}, "cobra belongs to cmd"},
	{"dlm/core", nil, []string{"net", "os", "sync", "context", "golang.org", "github.com"}, "a pure core has no socket, lock or logger"},
	{"dlm/midcomms", nil, []string{"net", "os", "sync", "context", "golang.org", "github.com"}, "a pure core has no socket, lock or logger"},
	{"stacks/dlm/view", nil, []string{"net", "os", "sync", "context", "golang.org", "github.com"}, "a pure core has no socket, lock or logger"},
	{"dlm/wire", nil, []string{"golang.org", "github.com", "net", "os"}, "a format package imports only the standard library"},
	{"fs/ondisk", nil, []string{"golang.org", "github.com", "net", "os"}, "a format package imports only the standard library"},
	{"journal", nil, []string{"golang.org", "github.com"}, "the journal imports only the standard library"},
}

// badNames are folder names that say nothing.
var badNames = map[string]bool{"util": true, "utils": true, "common": true, "pkg": true,
	"helper": true, "helpers": true, "misc": true, "internal": true}

// layerOf finds the layer of a folder below fs/, or -1.
func layerOf(dir string) int {
	for i, names := range fsLayers {
		for _, n := range names {
			if under(dir, n) {
				return i
			}
		}
	}
	return -1
}

// checkImports finds imports against the direction of the layers.
func checkImports(f *file) []finding {
	if f.test {
		return nil
	}
	var found []finding
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		for _, d := range deny {
			if (d.dir == "." || under(f.dir, d.dir)) && !anyUnder(f.dir, d.except) && denied(p, d.what) {
				found = append(found, f.at(spec.Pos(), "%s must not import %s: %s", f.dir, p, d.why))
			}
		}
		if inner, ok := strings.CutPrefix(p, module+"/"); ok {
			found = append(found, checkLayer(f, spec.Pos(), inner)...)
		}
	}
	return found
}

// checkLayer checks the import of p, a folder of the project, by f.
func checkLayer(f *file, pos token.Pos, p string) []finding {
	if !under(f.dir, "fs") || !under(p, "fs") || under(p, f.dir) {
		return nil
	}
	from, to := layerOf(f.dir), layerOf(p)
	if from < 0 || to < 0 {
		return []finding{f.at(pos, "%s imports %s, and one of them has no layer: add it to fsLayers in integration/tidy", f.dir, p)}
	}
	if to >= from {
		return []finding{f.at(pos, "%s must not import %s, which is not below it: see fsLayers in integration/tidy", f.dir, p)}
	}
	return nil
}

// denied tells whether what forbids the import path p. "github.com" means the
// packages of others.
func denied(p string, what []string) bool {
	for _, x := range what {
		if under(p, x) && (x != "github.com" || !under(p, module)) {
			return true
		}
	}
	return false
}

func anyUnder(p string, prefixes []string) bool {
	for _, x := range prefixes {
		if under(p, x) {
			return true
		}
	}
	return false
}

func TestImports(t *testing.T) {
	for _, f := range goFiles(t) {
		report(t, checkImports(f))
	}
}

func TestFolderNames(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range goFiles(t) {
		if seen[f.dir] {
			continue
		}
		seen[f.dir] = true
		for _, part := range strings.Split(f.dir, "/") {
			if badNames[part] {
				t.Errorf("%s: a folder named %q says nothing: name the duty", f.dir, part)
			}
		}
	}
}

// TestImportRules feeds checkImports what it must refuse, and what it must not.
func TestImportRules(t *testing.T) {
	for _, c := range []struct {
		dir, path string
		bad       bool
	}{
		{"fs/volume", module + "/stacks/dlm", true},
		{"fs/volume", module + "/stackglue", false},
		{"fs/volume", module + "/fs/extent", false},
		{"fs/extent", module + "/fs/volume", true},
		{"fs/extent", module + "/fs/alloc", true},
		{"fs/alloc", module + "/fs/extent", false},
		{"fs/dir", module + "/fs/xattr", true},
		{"fs/extent", module + "/fs/extent/tree", false},
		{"fs/extent", module + "/fs/unheardof", true},
		{"fs/ondisk", module + "/fs/blockdev", true},
		{"dlm/core", "time", false},
		{"dlm/core", "net", true},
		{"dlm/core", "network", false},
		{"dlm/core", module + "/dlm/wire", false},
		{"dlm/core", "sync/atomic", true},
		{"dlm/core", "fmt", false},
		{"dlm/midcomms", "sync", true},
		{"stacks/dlm/view", "net", true},
		{"stacks/dlm/view", module + "/dlm/wire", false},
		{"dlm/wire", "golang.org/x/sys/unix", true},
		{"dlm", module + "/fs/ondisk", true},
		{"journal", module + "/journal/format", false},
		{"journal", "github.com/sirupsen/logrus", true},
		{"stackglue", module + "/dlm", true},
		{"stacks/dlm", module + "/dlm", false},
		{"stacks/dlm", module + "/fs/blockdev", true},
		{"fs/dir", "github.com/hanwen/go-fuse/v2/fuse", true},
		{"fs/fuse", "github.com/hanwen/go-fuse/v2/fuse", false},
		{"fs/fuse", "github.com/spf13/cobra", true},
		{"cmd/ocfuse/command", "github.com/spf13/cobra", false},
	} {
		f := parse(t, c.dir+"/x.go", []byte("package x\n\nimport _ \""+c.path+"\"\n"))
		if got := len(checkImports(f)) > 0; got != c.bad {
			t.Errorf("%s imports %s: found %v, want %v", c.dir, c.path, got, c.bad)
		}
	}
}
