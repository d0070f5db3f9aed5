package tidy

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// module is the import path of the project.
const module = "github.com/ocfuse/ocfuse"

// root is the top folder as seen from this package.
const root = "../.."

// file is one parsed Go file; name is relative to the top, with slashes.
type file struct {
	name  string
	src   []byte
	fset  *token.FileSet
	ast   *ast.File
	test  bool   // a _test.go file
	dir   string // relative to the top
	lines int
}

// finding is one breach: where, and what to do.
type finding struct {
	file *file
	line int
	text string
}

func (f finding) String() string { return fmt.Sprintf("%s:%d: %s", f.file.name, f.line, f.text) }

// at makes a finding at a position of f.
func (f *file) at(pos token.Pos, format string, args ...any) finding {
	return finding{f, f.fset.Position(pos).Line, fmt.Sprintf(format, args...)}
}

// parse reads one Go source.
func parse(t *testing.T, name string, src []byte) *file {
	t.Helper()
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return &file{
		name: name, src: src, fset: fset, ast: tree, dir: path.Dir(name),
		test: strings.HasSuffix(name, "_test.go"), lines: bytes.Count(src, []byte("\n")),
	}
}

// goFiles parses every hand-written Go file of the project.
func goFiles(t *testing.T) []*file {
	t.Helper()
	var all []*file
	walk(t, func(name string, src []byte) {
		if !strings.HasSuffix(name, ".go") {
			return
		}
		f := parse(t, name, src)
		if !ast.IsGenerated(f.ast) {
			all = append(all, f)
		}
	})
	if len(all) < 10 {
		t.Fatalf("found only %d files below %s", len(all), root)
	}
	return all
}

// walk calls fn with every file of the project but build results and test data.
func walk(t *testing.T, fn func(name string, src []byte)) {
	t.Helper()
	skip := map[string]bool{".git": true, "bin": true, "testdata": true, "out": true}
	built := map[string]bool{".test": true, ".prof": true, ".img": true} // as in .gitignore
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if skip[d.Name()] {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || d.Name() == ".git" || built[path.Ext(p)] { // .git is a file in a worktree
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		fn(filepath.ToSlash(rel), src)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// report fails the test once per finding.
func report(t *testing.T, found []finding) {
	t.Helper()
	for _, f := range found {
		t.Error(f)
	}
}

// under tells whether the import path or folder p is prefix or below it.
func under(p, prefix string) bool {
	return p == prefix || strings.HasPrefix(p, prefix+"/")
}
