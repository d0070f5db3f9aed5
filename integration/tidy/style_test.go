package tidy

import (
	"go/ast"
	"go/token"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

const (
	maxFileLines = 800
	maxFuncLines = 70
)

// longFuncs are the functions that were longer than maxFuncLines when the rule met
// them, and their length then. They may not grow; remove the ones that shrank.
var longFuncs = map[string]int{}

// banned calls: what to use instead, and who may.
var banned = []struct {
	call   string // package.Func, or the name of a builtin
	except map[string]string
	why    string
}{
	{"fmt.Println", dirs("cmd", "prints for the user"), "write to the writer you were given"},
	{"fmt.Printf", dirs("cmd", "prints for the user"), "write to the writer you were given"},
	{"fmt.Print", dirs("cmd", "prints for the user"), "write to the writer you were given"},
	{"os.Exit", dirs("cmd/ocfuse/main.go", "the process ends here"), "return an error"},
	{"log.Fatal", nil, "return an error"},
	{"log.Fatalf", nil, "return an error"},
	{"log.Panic", nil, "return an error"},
	{"logrus.Fatal", nil, "return an error"},
	{"time.Sleep", dirs("stackglue/fakestack", "a fake for tests makes delays"), "wait for the event, with a timer that can be stopped"},
	{"runtime.Goexit", nil, "return"},
	{"panic", nil, "return an error; a broken invariant is marked by a comment on the line: // invariant: why"},
}

func dirs(name, reason string) map[string]string { return map[string]string{name: reason} }

// allowed tells whether a file or a folder above it is in except.
func allowed(f *file, except map[string]string) bool {
	for name := range except {
		if under(f.name, name) {
			return true
		}
	}
	return false
}

// checkCalls finds banned calls in non-test code.
func checkCalls(f *file) []finding {
	if f.test {
		return nil
	}
	var found []finding
	for _, decl := range f.ast.Decls {
		ast.Inspect(decl, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name := callName(call)
			for _, b := range banned {
				if name != b.call || allowed(f, b.except) || name == "panic" && mayPanic(f, call) {
					continue
				}
				found = append(found, f.at(call.Pos(), "%s: %s", name, b.why))
			}
			return true
		})
	}
	return found
}

// callName is "pkg.Func" or "builtin" for a call, else empty.
func callName(call *ast.CallExpr) string {
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		if x, ok := fun.X.(*ast.Ident); ok {
			return x.Name + "." + fun.Sel.Name
		}
	}
	return ""
}

// mayPanic: the line states which invariant is broken.
func mayPanic(f *file, call *ast.CallExpr) bool {
	line := f.fset.Position(call.Pos()).Line
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			if f.fset.Position(c.Pos()).Line == line && strings.HasPrefix(c.Text, "// invariant") {
				return true
			}
		}
	}
	return false
}

// pureCores are the packages whose only inputs are events: no goroutine and no
// clock. (checkImports keeps sockets and locks out.)
var pureCores = []string{"dlm/core", "dlm/midcomms", "dlm/wire", "fs/ondisk", "stacks/dlm/view"}

// clockCalls read a clock or wait for one.
var clockCalls = map[string]bool{"time.Now": true, "time.Since": true, "time.Until": true, "time.After": true,
	"time.AfterFunc": true, "time.NewTimer": true, "time.NewTicker": true, "time.Tick": true, "time.Sleep": true}

// checkCores finds goroutines and clocks in pure cores.
func checkCores(f *file) []finding {
	if f.test || !slices.Contains(pureCores, f.dir) {
		return nil
	}
	var found []finding
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, f.at(n.Pos(), "a goroutine in a pure core: return an effect"))
		case *ast.CallExpr:
			if name := callName(n); clockCalls[name] {
				found = append(found, f.at(n.Pos(), "%s in a pure core: time is an argument", name))
			}
		}
		return true
	})
	return found
}

// funcName is "file.go:Type.Method" or "file.go:Func".
func funcName(f *file, fn *ast.FuncDecl) string {
	name := fn.Name.Name
	if fn.Recv != nil && len(fn.Recv.List) > 0 {
		name = recvType(fn.Recv.List[0].Type) + "." + name
	}
	return f.name + ":" + name
}

func recvType(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return recvType(e.X)
	case *ast.IndexExpr:
		return recvType(e.X)
	case *ast.IndexListExpr:
		return recvType(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}

// checkLengths finds files and functions that are too long. used collects the
// exceptions that were needed. Test functions may hold long tables.
func checkLengths(f *file, except map[string]int, used map[string]bool) []finding {
	var found []finding
	if f.lines > maxFileLines {
		found = append(found, finding{f, f.lines, "longer than 800 lines: split it by duty"})
	}
	for _, decl := range f.ast.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || f.test {
			continue
		}
		n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1
		name := funcName(f, fn)
		limit := maxFuncLines
		if was, ok := except[name]; ok && n > maxFuncLines {
			used[name], limit = true, was
		}
		if n > limit {
			found = append(found, f.at(fn.Pos(), "%s has %d lines, %d allowed: split it", fn.Name.Name, n, limit))
		}
	}
	return found
}

// checkDocs finds exported things without a comment.
func checkDocs(f *file) []finding {
	if f.test || f.ast.Name.Name == "main" {
		return nil
	}
	var found []finding
	for _, decl := range f.ast.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if ast.IsExported(d.Name.Name) && d.Doc == nil && exportedRecv(d) && !wellKnown[d.Name.Name] && !oneLiner(f, d) {
				found = append(found, f.at(d.Pos(), "%s has no comment", d.Name.Name))
			}
		case *ast.GenDecl:
			found = append(found, checkGenDoc(f, d)...)
		}
	}
	return found
}

// wellKnown methods explain themselves.
var wellKnown = map[string]bool{"String": true, "Error": true, "Unwrap": true,
	"Len": true, "Less": true, "Swap": true, "MarshalJSON": true, "UnmarshalJSON": true}

// oneLiner: a method that fits on its line (an accessor) shows what it does.
func oneLiner(f *file, fn *ast.FuncDecl) bool {
	return fn.Recv != nil && f.fset.Position(fn.Pos()).Line == f.fset.Position(fn.End()).Line
}

// exportedRecv tells that fn is no method of an unexported type.
func exportedRecv(fn *ast.FuncDecl) bool {
	return fn.Recv == nil || ast.IsExported(recvType(fn.Recv.List[0].Type))
}

// checkGenDoc checks types, constants and variables. A comment on a group serves
// all constants or variables in it, not types.
func checkGenDoc(f *file, d *ast.GenDecl) []finding {
	var found []finding
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if ast.IsExported(s.Name.Name) && s.Doc == nil && s.Comment == nil && (d.Doc == nil || d.Lparen != token.NoPos) {
				found = append(found, f.at(s.Pos(), "%s has no comment", s.Name.Name))
			}
		case *ast.ValueSpec:
			for _, n := range s.Names {
				if ast.IsExported(n.Name) && s.Doc == nil && s.Comment == nil && d.Doc == nil {
					found = append(found, f.at(n.Pos(), "%s has no comment", n.Name))
				}
			}
		}
	}
	return found
}

func TestCalls(t *testing.T) {
	for _, f := range goFiles(t) {
		report(t, checkCalls(f))
		report(t, checkCores(f))
	}
}

func TestLengths(t *testing.T) {
	used := map[string]bool{}
	for _, f := range goFiles(t) {
		report(t, checkLengths(f, longFuncs, used))
	}
	for _, name := range slices.Sorted(maps.Keys(longFuncs)) {
		if !used[name] {
			t.Errorf("%s is short now, or gone: remove it from longFuncs", name)
		}
	}
}

func TestDocs(t *testing.T) {
	for _, f := range goFiles(t) {
		report(t, checkDocs(f))
	}
}

// TestPackageDocs: every package says in doc.go what it is; package main in main.go.
func TestPackageDocs(t *testing.T) {
	documented := map[string]bool{}
	all := goFiles(t)
	for _, f := range all {
		base := path.Base(f.name)
		if f.ast.Doc != nil && (base == "doc.go" || base == "main.go" && f.ast.Name.Name == "main") {
			documented[f.dir] = true
		}
	}
	for _, f := range all {
		if !documented[f.dir] {
			t.Errorf("%s: no doc.go with a package comment", f.dir)
			documented[f.dir] = true
		}
	}
}

// TestNoForeignPaths: no file may name a place that exists on one machine only.
func TestNoForeignPaths(t *testing.T) {
	bad := []string{"/wo" + "rk/", "/tmp/br" + "ief"}
	walk(t, func(name string, src []byte) {
		for i, line := range strings.Split(string(src), "\n") {
			for _, b := range bad {
				if strings.Contains(line, b) {
					t.Errorf("%s:%d: names the path %s of one machine", name, i+1, b)
				}
			}
		}
	})
}

// TestStyleRules feeds the rules what they must refuse, and what they must not.
func TestStyleRules(t *testing.T) {
	long := strings.Repeat("\tx()\n", 70)
	for _, c := range []struct {
		name, src string
		want      int
	}{
		{"fs/a.go", "func f() { fmt.Println() }", 1},
		{"cmd/a.go", "func f() { fmt.Println() }", 0},
		{"fs/a_test.go", "func f() { fmt.Println(); panic(1) }", 0},
		{"cmd/ocfuse/command/a.go", "func f() { os.Exit(1) }", 1},
		{"cmd/ocfuse/main.go", "func f() { os.Exit(1) }", 0},
		{"fs/a.go", "var x = func() int { time.Sleep(1); return 1 }()", 1},
		{"fs/a.go", "func f() { go func() { panic(1) }() }", 1},
		{"fs/a.go", "func f() {\n\tpanic(1) // invariant: it is so\n}", 0},
		{"fs/a.go", "// invariant: it is so\nfunc f() { panic(1) }", 1},
		{"dlm/core/a.go", "func f() { go f() }", 1},
		{"dlm/core/a.go", "func f() { _ = time.Now() }", 1},
		{"dlm/core/a.go", "const c = 3 * time.Second", 0},
		{"stacks/dlm/view/a.go", "func f() { go f() }", 1},
		{"dlm/lowcomms/a.go", "func f() { go f(); _ = time.Now() }", 0},
		{"fs/a.go", "func f() { s.panic(1) }", 0},
		{"fs/a.go", "func f() {\n" + long + "}", 1},
		{"fs/a.go", "func f() {\n" + long[:len(long)-10] + "}", 0},
		{"fs/a.go", "func known() {\n" + long + "}", 0},
		{"fs/a.go", "func known() {\n" + long + "\tx()\n}", 1},
		{"fs/a.go", "func F() {}", 1},
		{"fs/a.go", "// F is.\nfunc F() {}", 0},
		{"fs/a.go", "type t int\nfunc (t) F() {}", 0},
		{"fs/a.go", "// T is.\ntype T[P any] struct{}\nfunc (*T[P]) F() {\n}", 1},
		{"fs/a.go", "// T is.\ntype T int\nfunc (t T) Get() int { return int(t) }", 0},
		{"fs/a.go", "// T is.\ntype T int\nfunc (T) String() string { return \"\" }", 0},
		{"fs/a.go", "// Group.\nconst (\n\tA = 1\n\tB = 2\n)", 0},
		{"fs/a.go", "const (\n\tA = 1 // one\n\tB = 2\n)", 1},
		{"fs/a.go", "// Group.\ntype (\n\tA int\n)", 1},
		{"fs/a.go", strings.Repeat("\n", 801), 1},
	} {
		f := parse(t, c.name, []byte("package a\n"+c.src+"\n"))
		found := append(checkCalls(f), checkDocs(f)...)
		found = append(found, checkCores(f)...)
		found = append(found, checkLengths(f, map[string]int{"fs/a.go:known": 72}, map[string]bool{})...)
		if len(found) != c.want {
			t.Errorf("%s: %.60q: %d findings, want %d: %v", c.name, c.src, len(found), c.want, found)
		}
	}
}
