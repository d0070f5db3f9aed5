package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCoherence does something on one node and looks on another, at once: no
// pause, no second look.
func TestCoherence(t *testing.T) { onEach(t, 3, coherence) }

// TestCoherenceOneThread is the same with nodes whose Go code runs on one
// thread at a time: whoever waits for a thread waits for all.
func TestCoherenceOneThread(t *testing.T) { onEach(t, 3, coherence, "GOMAXPROCS=1") }

func coherence(t *testing.T, c *Cluster) {
	for name, fn := range map[string]func(*testing.T, *Cluster){
		"open-files": openFiles, "mmap": mappings, "sizes": sizes, "append": appends, "excl": exclusive, "names": nameChanges,
		"absent": absent, "readdir": listings, "symlinks": symlinks, "replaced": replaced, "busy-dirs": busyDirs, "counter": counter,
	} {
		t.Run(name, func(t *testing.T) {
			fn(t, c)
			if t.Failed() {
				c.t.Fail() // the logs are shown
			}
		})
	}
}

// pairs calls fn for every two different nodes.
func pairs(c *Cluster, fn func(a, b int)) {
	for a := range c.Nodes {
		for b := range c.Nodes {
			if a != b {
				fn(a, b)
			}
		}
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, path, text string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != text {
		t.Fatalf("%s reads %.60q, %v, want %.60q", path, got, err, text)
	}
}

// want fails unless err is the errno (0: none).
func want(t *testing.T, what string, err error, errno syscall.Errno) {
	t.Helper()
	if (errno == 0 && err != nil) || (errno != 0 && !errors.Is(err, errno)) {
		t.Fatalf("%s: %v, want %v", what, err, errno)
	}
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openAll opens a name on every node, to be closed at the end.
func openAll(t *testing.T, c *Cluster, name string, flags int) []*os.File {
	t.Helper()
	var files []*os.File
	for k := range c.Nodes {
		f, err := os.OpenFile(c.path(k, name), flags|os.O_CREATE, 0o644)
		do(t, err)
		t.Cleanup(func() { f.Close() })
		files = append(files, f)
	}
	return files
}

func readAt(t *testing.T, f *os.File, n int, off int64) []byte {
	t.Helper()
	b := make([]byte, n)
	got, err := unix.Pread(int(f.Fd()), b, off)
	do(t, err)
	return b[:got]
}

func openFiles(t *testing.T, c *Cluster) {
	put(t, c.path(0, "open"), string(make([]byte, 40000)))
	files := openAll(t, c, "open", os.O_RDWR)
	for k := range 60 {
		w, r := files[k%3], files[(k+1+k/3%2)%3]
		off, data := int64(k*977%39000), bytes.Repeat([]byte{byte(k + 1)}, 1+k*13%900)
		_, err := w.WriteAt(data, off)
		do(t, err)
		if got := readAt(t, r, len(data), off); !bytes.Equal(got, data) {
			t.Fatalf("round %d: %d bytes at %d read %.20q", k, len(data), off, got)
		}
	}
}

func mappings(t *testing.T, c *Cluster) {
	put(t, c.path(0, "map"), string(make([]byte, 16384)))
	files := openAll(t, c, "map", os.O_RDWR)
	var maps [][]byte
	for _, f := range files {
		m, err := unix.Mmap(int(f.Fd()), 0, 16384, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		do(t, err)
		defer func() { _ = unix.Munmap(m) }()
		maps = append(maps, m)
	}
	for k := range 40 {
		w, r, off := k%3, (k+1)%3, k*397%16000
		text := fmt.Sprintf("round %d", k)
		if k%2 == 0 {
			copy(maps[w][off:], text)
			do(t, unix.Msync(maps[w], unix.MS_SYNC))
		} else {
			_, err := files[w].WriteAt([]byte(text), int64(off))
			do(t, err)
		}
		if got := string(maps[r][off : off+len(text)]); got != text {
			t.Fatalf("round %d: the mapping of another node shows %q", k, got)
		}
		if got := string(readAt(t, files[(k+2)%3], len(text), int64(off))); got != text {
			t.Fatalf("round %d: pread on another node shows %q", k, got)
		}
	}
}

func sizes(t *testing.T, c *Cluster) {
	files := openAll(t, c, "sizes", os.O_RDWR)
	for k := range 40 {
		size := int64(k * 7919 % 70000)
		do(t, files[k%3].Truncate(size))
		r := (k + 1) % 3
		st, err := files[r].Stat()
		do(t, err)
		if st.Size() != size {
			t.Fatalf("fstat: %d, want %d", st.Size(), size)
		}
		if st, err = os.Stat(c.path(r, "sizes")); err != nil || st.Size() != size {
			t.Fatalf("stat: %v, %v, want %d", st.Size(), err, size)
		}
		if got := readAt(t, files[r], 1<<17, 0); int64(len(got)) != size {
			t.Fatalf("a read to the end: %d bytes, want %d", len(got), size)
		}
	}
}

func appends(t *testing.T, c *Cluster) {
	const each = 100
	files := openAll(t, c, "append", os.O_WRONLY|os.O_APPEND)
	inParallel(t, c, func(k int) error {
		for n := range each {
			if _, err := fmt.Fprintf(files[k], "%d:%d\n", k, n); err != nil {
				return err
			}
		}
		return nil
	})
	var wanted, got [3][]byte
	for k := range 3 {
		for n := range each {
			wanted[k] = fmt.Appendf(wanted[k], "%d:%d\n", k, n)
		}
	}
	b, err := os.ReadFile(c.path(0, "append"))
	do(t, err)
	for line := range bytes.Lines(b) {
		if k := int(line[0] - '0'); k >= 0 && k < 3 {
			got[k] = append(got[k], line...)
		}
	}
	for k := range 3 {
		if !bytes.Equal(got[k], wanted[k]) {
			t.Errorf("records of node %d are lost, torn or out of order", k)
		}
	}
}

// inParallel runs fn for every node at once.
func inParallel(t *testing.T, c *Cluster, fn func(k int) error) {
	t.Helper()
	errs := make([]error, len(c.Nodes))
	var wg sync.WaitGroup
	for k := range c.Nodes {
		wg.Go(func() { errs[k] = fn(k) })
	}
	wg.Wait()
	do(t, errors.Join(errs...))
}

func exclusive(t *testing.T, c *Cluster) {
	const names = 40
	winners := make([][]int, len(c.Nodes))
	inParallel(t, c, func(k int) error {
		for n := range names {
			f, err := os.OpenFile(c.path(k, fmt.Sprintf("excl%d", n)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
			if errors.Is(err, fs.ErrExist) {
				continue
			}
			if err != nil {
				return err
			}
			winners[k] = append(winners[k], n)
			f.Close()
		}
		return nil
	})
	all := slices.Concat(winners...)
	slices.Sort(all)
	if len(all) != names || len(slices.Compact(all)) != names {
		t.Errorf("winners of %d names: %v", names, winners)
	}
}

func nameChanges(t *testing.T, c *Cluster) {
	pairs(c, func(a, b int) {
		A := func(n string) string { return c.path(a, n) }
		B := func(n string) string { return c.path(b, n) }
		_, err := os.Stat(B("f"))
		want(t, "stat before", err, unix.ENOENT)
		put(t, A("f"), "one")
		expect(t, B("f"), "one")
		do(t, os.Rename(B("f"), B("g")))
		_, err = os.Stat(A("f"))
		want(t, "stat of the old name", err, unix.ENOENT)
		expect(t, A("g"), "one")
		do(t, os.Link(A("g"), A("h")))
		var st unix.Stat_t
		do(t, unix.Stat(B("h"), &st))
		if st.Nlink != 2 {
			t.Fatalf("nlink %d, want 2", st.Nlink)
		}
		do(t, os.Remove(B("g")))
		do(t, unix.Stat(A("h"), &st))
		if st.Nlink != 1 {
			t.Fatalf("nlink %d, want 1", st.Nlink)
		}
		_, err = os.Stat(A("g"))
		want(t, "stat of a removed name", err, unix.ENOENT)
		do(t, os.Remove(A("h")))
		_, err = os.Open(B("h"))
		want(t, "open of a removed name", err, unix.ENOENT)
	})
}

func absent(t *testing.T, c *Cluster) {
	do(t, os.Mkdir(c.path(0, "absent"), 0o755))
	for k := range 30 {
		name := fmt.Sprintf("absent/%d", k)
		for n := range c.Nodes { // all of them know that it is not there
			_, err := os.Stat(c.path(n, name))
			want(t, "stat", err, unix.ENOENT)
		}
		put(t, c.path(k%3, name), "x")
		for n := range c.Nodes {
			if _, err := os.Stat(c.path(n, name)); err != nil {
				t.Fatalf("node %d: %v", n, err)
			}
		}
	}
}

// entries lists a folder without what mkfs put there.
func entries(t *testing.T, path string) []string {
	t.Helper()
	list, err := os.ReadDir(path)
	do(t, err)
	names := []string{}
	for _, e := range list {
		if e.Name() != "lost+found" {
			names = append(names, e.Name())
		}
	}
	return names
}

func listings(t *testing.T, c *Cluster) {
	do(t, os.Mkdir(c.path(0, "list"), 0o755))
	have := []string{}
	for k := range 60 {
		name := fmt.Sprintf("name%03d", k)
		if k%4 == 3 {
			gone := have[len(have)/2]
			do(t, os.Remove(c.path(k%3, "list/"+gone)))
			have = slices.DeleteFunc(have, func(n string) bool { return n == gone })
		} else {
			put(t, c.path(k%3, "list/"+name), "")
			have = append(have, name)
		}
		for n := range c.Nodes {
			if got := entries(t, c.path(n, "list")); !slices.Equal(got, have) {
				t.Fatalf("step %d: node %d lists %v, want %v", k, n, got, have)
			}
		}
	}
}

func symlinks(t *testing.T, c *Cluster) {
	pairs(c, func(a, b int) {
		for _, target := range []string{"short", string(bytes.Repeat([]byte("long/"), 200)), "again"} {
			do(t, os.Symlink(target, c.path(a, "sym")))
			for _, n := range []int{b, a} {
				if got, err := os.Readlink(c.path(n, "sym")); err != nil || got != target {
					t.Fatalf("readlink: %.40q, %v", got, err)
				}
			}
			do(t, os.Remove(c.path(b, "sym")))
			_, err := os.Readlink(c.path(a, "sym"))
			want(t, "readlink", err, unix.ENOENT)
		}
	})
}

// replaced: rename over a name that others have open and cached.
func replaced(t *testing.T, c *Cluster) {
	put(t, c.path(0, "config"), "version 0")
	for k := 1; k < 30; k++ {
		var old []*os.File
		for n := range c.Nodes {
			f, err := os.Open(c.path(n, "config"))
			do(t, err)
			old = append(old, f)
		}
		text := fmt.Sprintf("version %d", k)
		put(t, c.path(k%3, "config.new"), text)
		do(t, os.Rename(c.path(k%3, "config.new"), c.path(k%3, "config")))
		for n := range c.Nodes {
			expect(t, c.path(n, "config"), text)
			if got := string(readAt(t, old[n], 100, 0)); got != fmt.Sprintf("version %d", k-1) {
				t.Fatalf("node %d, what was open: %q", n, got)
			}
			old[n].Close()
		}
	}
}

func busyDirs(t *testing.T, c *Cluster) {
	pairs(c, func(a, b int) {
		do(t, os.Mkdir(c.path(a, "dir"), 0o755))
		want(t, "mkdir", os.Mkdir(c.path(b, "dir"), 0o755), unix.EEXIST)
		put(t, c.path(b, "dir/f"), "")
		want(t, "rmdir", unix.Rmdir(c.path(a, "dir")), unix.ENOTEMPTY)
		do(t, os.Remove(c.path(a, "dir/f")))
		do(t, unix.Rmdir(c.path(b, "dir")))
		want(t, "create in it", os.WriteFile(c.path(a, "dir/g"), nil, 0o644), unix.ENOENT)
	})
}

// counter: a number in a file, guarded by flock, is counted up by all.
func counter(t *testing.T, c *Cluster) {
	const each = 40
	put(t, c.path(0, "counter"), "0")
	inParallel(t, c, func(k int) error {
		f, err := os.OpenFile(c.path(k, "counter"), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		for range each {
			if err := countUp(f); err != nil {
				return err
			}
		}
		return nil
	})
	expect(t, c.path(1, "counter"), fmt.Sprint(3*each))
}

func countUp(f *os.File) error {
	fd := int(f.Fd())
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		return err
	}
	b := make([]byte, 20)
	n, err := unix.Pread(fd, b, 0)
	if err != nil {
		return err
	}
	var v int
	if _, err := fmt.Sscan(string(b[:n]), &v); err != nil {
		return err
	}
	if _, err := unix.Pwrite(fd, fmt.Append(nil, v+1), 0); err != nil {
		return err
	}
	return unix.Flock(fd, unix.LOCK_UN)
}
