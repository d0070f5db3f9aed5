package posix

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var _ = register(map[string]check{
	"open-flags": openFlags, "rename": renames, "rename-flags": renameFlags, "link-unlink": links, "symlink": symlinks,
	"mkdir-rmdir": dirs, "readdir-changing": readdirChanging, "names": names, "mknod": mknods, "tmpfile": tmpfiles,
	"open-unlinked": openUnlinked, "deep": deep,
})

// want fails unless err is the errno (0: none).
func want(t *testing.T, what string, err error, errno unix.Errno) {
	t.Helper()
	if errno == 0 && err == nil {
		return
	}
	if e, ok := unwrapErrno(err); !ok || e != errno {
		t.Errorf("%s: %v, want %v", what, err, errno)
	}
}

func unwrapErrno(err error) (unix.Errno, bool) {
	for err != nil {
		if e, ok := err.(unix.Errno); ok {
			return e, true
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return 0, false
		}
		err = u.Unwrap()
	}
	return 0, false
}

func put(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, name, content string) {
	t.Helper()
	if got, err := os.ReadFile(name); err != nil || string(got) != content {
		t.Errorf("%s holds %.40q, %v, want %.40q", name, got, err, content)
	}
}

func stat(t *testing.T, name string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		t.Fatalf("lstat %s: %v", name, err)
	}
	return st
}

func openFlags(t *testing.T, dir string) {
	f, d, l := dir+"/f", dir+"/d", dir+"/l"
	put(t, f, "content")
	want(t, "mkdir", os.Mkdir(d, 0o755), 0)
	want(t, "symlink", os.Symlink("f", l), 0)
	for _, c := range []struct {
		name  string
		flags int
		errno unix.Errno
	}{
		{f, unix.O_CREAT | unix.O_EXCL, unix.EEXIST}, {l, unix.O_CREAT | unix.O_EXCL, unix.EEXIST},
		{dir + "/none", unix.O_RDONLY, unix.ENOENT}, {f + "/x", unix.O_RDONLY, unix.ENOTDIR},
		{l, unix.O_NOFOLLOW, unix.ELOOP}, {f, unix.O_DIRECTORY, unix.ENOTDIR}, {d, unix.O_DIRECTORY, 0},
		{d, unix.O_WRONLY, unix.EISDIR}, {d, unix.O_CREAT, unix.EISDIR}, {f, unix.O_SYNC | unix.O_RDWR, 0},
		{dir + "/none/x", unix.O_CREAT, unix.ENOENT},
	} {
		fd, err := unix.Open(c.name, c.flags, 0o644)
		want(t, fmt.Sprintf("open %s %#x", filepath.Base(c.name), c.flags), err, c.errno)
		if err == nil {
			unix.Close(fd)
		}
	}
	expect(t, f, "content")
	fd, err := unix.Open(f, unix.O_TRUNC|unix.O_RDWR, 0)
	want(t, "truncate on open", err, 0)
	unix.Close(fd)
	expect(t, f, "")
}

func renames(t *testing.T, dir string) {
	a, b, d, e := dir+"/a", dir+"/b", dir+"/d", dir+"/e"
	put(t, a, "a")
	put(t, b, "b")
	old, err := os.Open(b)
	want(t, "open", err, 0)
	defer old.Close()
	want(t, "over an open file", os.Rename(a, b), 0)
	expect(t, b, "a")
	p := make([]byte, 10)
	if n, _ := old.Read(p); string(p[:n]) != "b" {
		t.Errorf("the open file that was replaced holds %q", p[:n])
	}
	want(t, "mkdir", os.MkdirAll(d+"/sub", 0o755), 0)
	want(t, "mkdir", os.MkdirAll(e+"/full", 0o755), 0)
	want(t, "into its own folder", unix.Rename(d, d+"/sub/x"), unix.EINVAL)
	want(t, "over a full folder", unix.Rename(d, e), unix.ENOTEMPTY)
	want(t, "file over folder", unix.Rename(b, d), unix.EISDIR)
	want(t, "folder over file", unix.Rename(d, b), unix.ENOTDIR)
	want(t, "missing", unix.Rename(dir+"/none", b), unix.ENOENT)
	want(t, "to itself", unix.Rename(b, b), 0)
	before := stat(t, dir).Nlink
	want(t, "folder into another", unix.Rename(d, e+"/d"), 0)
	if n := stat(t, dir).Nlink; n != before-1 && before > 2 {
		t.Errorf("the parent has %d links, had %d", n, before)
	}
	want(t, "folder over an empty one", unix.Rename(e+"/d/sub", e+"/full"), 0)
	want(t, "hard link", os.Link(b, dir+"/b2"), 0)
	want(t, "link to its own file", unix.Rename(b, dir+"/b2"), 0)
	expect(t, b, "a")
	expect(t, dir+"/b2", "a")
	if got, _ := filepath.EvalSymlinks(e + "/d/.."); got != e {
		t.Errorf("the parent of a moved folder is %s", got)
	}
}

func renameFlags(t *testing.T, dir string) {
	a, d := dir+"/a", dir+"/d"
	put(t, a, "a")
	want(t, "mkdir", os.MkdirAll(d+"/in", 0o755), 0)
	at := unix.AT_FDCWD
	want(t, "NOREPLACE", unix.Renameat2(at, a, at, d, unix.RENAME_NOREPLACE), unix.EEXIST)
	want(t, "NOREPLACE to a new name", unix.Renameat2(at, a, at, d+"/a", unix.RENAME_NOREPLACE), 0)
	want(t, "EXCHANGE with a missing name", unix.Renameat2(at, d+"/a", at, a, unix.RENAME_EXCHANGE), unix.ENOENT)
	put(t, a, "other")
	want(t, "EXCHANGE of file and folder", unix.Renameat2(at, a, at, d+"/in", unix.RENAME_EXCHANGE), 0)
	expect(t, d+"/in", "other")
	if st := stat(t, a); st.Mode&unix.S_IFMT != unix.S_IFDIR {
		t.Errorf("mode %o after the exchange", st.Mode)
	}
}

func links(t *testing.T, dir string) {
	a, b := dir+"/a", dir+"/b"
	put(t, a, "x")
	want(t, "link", os.Link(a, b), 0)
	want(t, "link over a name", unix.Link(a, b), unix.EEXIST)
	want(t, "link of a folder", unix.Link(dir, dir+"/x"), unix.EPERM)
	if x, y := stat(t, a), stat(t, b); x.Ino != y.Ino || x.Nlink != 2 {
		t.Errorf("inodes %d and %d with %d links", x.Ino, y.Ino, x.Nlink)
	}
	put(t, b, "changed")
	expect(t, a, "changed")
	want(t, "unlink", unix.Unlink(a), 0)
	want(t, "unlink again", unix.Unlink(a), unix.ENOENT)
	if n := stat(t, b).Nlink; n != 1 {
		t.Errorf("%d links left", n)
	}
	want(t, "rmdir of a file", unix.Rmdir(b), unix.ENOTDIR)
	want(t, "unlink of a folder", unix.Unlink(dir), unix.EISDIR)
}

func symlinks(t *testing.T, dir string) {
	for _, n := range []int{1, 50, 59, 60, 448, 500, 1000, 3900, 4095} {
		l, target := fmt.Sprintf("%s/l%d", dir, n), strings.Repeat("t", n)
		want(t, fmt.Sprintf("symlink of %d bytes", n), os.Symlink(target, l), 0)
		if got, err := os.Readlink(l); got != target {
			t.Errorf("%d bytes: read %d, %v", n, len(got), err)
		}
		if size := stat(t, l).Size; size != int64(n) {
			t.Errorf("%d bytes: size %d", n, size)
		}
	}
	_, err := os.Open(dir + "/l1")
	want(t, "dangling", err, unix.ENOENT)
	want(t, "loop", os.Symlink("loop", dir+"/loop"), 0)
	_, err = os.Open(dir + "/loop")
	want(t, "open of a loop", err, unix.ELOOP)
	want(t, "symlink over a name", unix.Symlink("x", dir+"/loop"), unix.EEXIST)
}

func dirs(t *testing.T, dir string) {
	d := dir + "/d"
	want(t, "mkdir", unix.Mkdir(d, 0o777), 0)
	want(t, "mkdir again", unix.Mkdir(d, 0o777), unix.EEXIST)
	if m := stat(t, d).Mode & 0o7777; m != 0o755 {
		t.Errorf("mode %o with umask 022", m)
	}
	put(t, d+"/f", "")
	want(t, "rmdir", unix.Rmdir(d), unix.ENOTEMPTY)
	want(t, "rmdir .", unix.Rmdir(d+"/."), unix.EINVAL)
	want(t, "unlink", unix.Unlink(d+"/f"), 0)
	open, err := os.Open(d)
	want(t, "open", err, 0)
	defer open.Close()
	want(t, "rmdir", unix.Rmdir(d), 0)
	if list, err := open.Readdirnames(0); err != nil && len(list) > 0 {
		t.Errorf("a removed folder lists %v, %v", list, err)
	}
	_, err = unix.Openat(int(open.Fd()), "x", unix.O_CREAT|unix.O_WRONLY, 0o644)
	want(t, "create in a removed folder", err, unix.ENOENT)
}

// readdirChanging lists a folder while names come and go: those that stay are
// seen exactly once.
func readdirChanging(t *testing.T, dir string) {
	const stay = 700
	for n := range stay {
		put(t, fmt.Sprintf("%s/stay-%04d", dir, n), "")
		put(t, fmt.Sprintf("%s/goes-%04d", dir, n), "")
	}
	f, err := os.Open(dir)
	want(t, "open", err, 0)
	defer f.Close()
	seen := map[string]int{}
	for n := 0; ; n++ {
		list, err := f.Readdirnames(37)
		for _, name := range list {
			seen[name]++
		}
		if len(list) == 0 || err != nil {
			break
		}
		_ = os.Remove(fmt.Sprintf("%s/goes-%04d", dir, n*17%stay))
		put(t, fmt.Sprintf("%s/new-%04d", dir, n), "")
	}
	for n := range stay {
		if name := fmt.Sprintf("stay-%04d", n); seen[name] != 1 {
			t.Errorf("%s was listed %d times", name, seen[name])
		}
	}
	for name, n := range seen {
		if n > 1 {
			t.Errorf("%s was listed %d times", name, n)
		}
	}
}

func names(t *testing.T, dir string) {
	list := []string{strings.Repeat("n", 255), "a b", "-x", "\n\t", "\xff\xfe", "ä", "*?[", `"'\`, "..."}
	for _, n := range list {
		put(t, dir+"/"+n, n)
	}
	entries, err := os.ReadDir(dir)
	want(t, "readdir", err, 0)
	for _, n := range list {
		expect(t, dir+"/"+n, n)
		if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == n }) {
			t.Errorf("%q is not listed", n)
		}
	}
	long := dir + "/" + strings.Repeat("n", 256)
	want(t, "mkdir of 256 bytes", unix.Mkdir(long, 0o755), unix.ENAMETOOLONG)
	want(t, "lookup of 256 bytes", unix.Access(long, 0), unix.ENAMETOOLONG)
	want(t, "rename to 256 bytes", unix.Rename(dir+"/a b", long), unix.ENAMETOOLONG)
	want(t, "symlink of 256 bytes", unix.Symlink("x", long), unix.ENAMETOOLONG)
}

func mknods(t *testing.T, dir string) {
	for name, mode := range map[string]uint32{"fifo": unix.S_IFIFO, "sock": unix.S_IFSOCK, "chr": unix.S_IFCHR, "blk": unix.S_IFBLK, "reg": unix.S_IFREG} {
		dev := unix.Mkdev(300, 70000)
		want(t, "mknod "+name, unix.Mknod(dir+"/"+name, mode|0o640, int(dev)), 0)
		st := stat(t, dir+"/"+name)
		if st.Mode != mode|0o640 {
			t.Errorf("%s has mode %o", name, st.Mode)
		}
		if (mode == unix.S_IFCHR || mode == unix.S_IFBLK) && st.Rdev != dev {
			t.Errorf("%s is device %#x, want %#x", name, st.Rdev, dev)
		}
	}
}

func tmpfiles(t *testing.T, dir string) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR, 0o600)
	want(t, "O_TMPFILE", err, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("hidden"))
	want(t, "write", err, 0)
	if list, _ := os.ReadDir(dir); len(list) != 0 {
		t.Errorf("the folder lists %v", list)
	}
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, dir+"/shown", unix.AT_SYMLINK_FOLLOW)
	want(t, "linkat", err, 0)
	expect(t, dir+"/shown", "hidden")
}

func openUnlinked(t *testing.T, dir string) {
	f, err := os.Create(dir + "/f")
	want(t, "create", err, 0)
	defer f.Close()
	want(t, "unlink", os.Remove(dir+"/f"), 0)
	_, err = f.Write([]byte("still here"))
	want(t, "write", err, 0)
	want(t, "truncate", f.Truncate(5), 0)
	want(t, "chmod", f.Chmod(0o600), 0)
	p := make([]byte, 20)
	if n, _ := f.ReadAt(p, 0); string(p[:n]) != "still" {
		t.Errorf("read %q", p[:n])
	}
	var st unix.Stat_t
	want(t, "fstat", unix.Fstat(int(f.Fd()), &st), 0)
	if st.Nlink != 0 || st.Size != 5 {
		t.Errorf("%d links, size %d", st.Nlink, st.Size)
	}
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, dir+"/back", unix.AT_SYMLINK_FOLLOW)
	want(t, "link of an unlinked file", err, unix.ENOENT)
}

func deep(t *testing.T, dir string) {
	at, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	want(t, "open", err, 0)
	for n := range 300 {
		want(t, "mkdirat", unix.Mkdirat(at, "a-folder-with-a-name", 0o755), 0)
		next, err := unix.Openat(at, "a-folder-with-a-name", unix.O_DIRECTORY, 0)
		unix.Close(at)
		if at = next; err != nil {
			t.Fatalf("level %d: %v", n, err)
		}
	}
	unix.Close(at)
	want(t, "remove all", os.RemoveAll(dir+"/a-folder-with-a-name"), 0)
}
