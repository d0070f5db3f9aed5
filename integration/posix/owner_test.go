package posix

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var _ = register(map[string]check{
	"permissions": permissions, "sticky": sticky, "setgid-folder": setgidFolder, "set-id-clearing": setIDClearing, "times": times,
	"flock": flocks, "record-locks": recordLocks,
})

// as runs fn with the file access of another user, who has one group. The thread
// is not used again: it ends with its goroutine.
func as(id int, fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		_, _, _ = unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
		_, _, _ = unix.RawSyscall(unix.SYS_SETFSGID, uintptr(id), 0, 0)
		_, _, _ = unix.RawSyscall(unix.SYS_SETFSUID, uintptr(id), 0, 0)
		fn()
	}()
	<-done
}

func permissions(t *testing.T, dir string) {
	put(t, dir+"/private", "x")
	want(t, "chmod", os.Chmod(dir+"/private", 0o600), 0)
	want(t, "mkdir", os.Mkdir(dir+"/closed", 0o700), 0)
	put(t, dir+"/closed/f", "x")
	as(1001, func() {
		_, err := os.Open(dir + "/private")
		want(t, "open of another's file", err, unix.EACCES)
		_, err = os.Open(dir + "/closed/f")
		want(t, "open in a closed folder", err, unix.EACCES)
		want(t, "chmod of another's file", unix.Chmod(dir+"/private", 0o777), unix.EPERM)
		want(t, "chown of another's file", unix.Chown(dir+"/private", 1001, 1001), unix.EPERM)
		put(t, dir+"/own", "x")
		want(t, "giving a file away", unix.Chown(dir+"/own", 1002, -1), unix.EPERM)
		want(t, "times of another's file", unix.UtimesNano(dir+"/private", []unix.Timespec{{Sec: 1}, {Sec: 1}}), unix.EPERM)
		want(t, "device", unix.Mknod(dir+"/dev", unix.S_IFCHR|0o666, 259), unix.EPERM)
		want(t, "create in a closed folder", unix.Mkdir(dir+"/closed/d", 0o755), unix.EACCES)
	})
	if st := stat(t, dir+"/own"); st.Uid != 1001 || st.Gid != 1001 {
		t.Errorf("a file of 1001 belongs to %d:%d", st.Uid, st.Gid)
	}
	want(t, "chmod", unix.Chmod(dir+"/closed", 0o733), 0)
	as(1001, func() {
		_, err := os.ReadDir(dir + "/closed")
		want(t, "listing without permission", err, unix.EACCES)
	})
}

func sticky(t *testing.T, dir string) {
	want(t, "chmod", unix.Chmod(dir, 0o1777), 0)
	put(t, dir+"/f", "")
	as(1001, func() {
		want(t, "unlink", unix.Unlink(dir+"/f"), unix.EPERM)
		want(t, "rename", unix.Rename(dir+"/f", dir+"/g"), unix.EPERM)
		put(t, dir+"/own", "")
		want(t, "rename over another's file", unix.Rename(dir+"/own", dir+"/f"), unix.EPERM)
		want(t, "unlink of an own file", unix.Unlink(dir+"/own"), 0)
	})
}

func setgidFolder(t *testing.T, dir string) {
	d := dir + "/d"
	want(t, "mkdir", unix.Mkdir(d, 0o777), 0)
	want(t, "chown", unix.Chown(d, 0, 1005), 0)
	want(t, "chmod", unix.Chmod(d, 0o2777), 0)
	as(1001, func() {
		put(t, d+"/f", "")
		want(t, "mkdir", unix.Mkdir(d+"/sub", 0o755), 0)
		want(t, "mkfifo", unix.Mknod(d+"/fifo", unix.S_IFIFO|0o644, 0), 0)
		want(t, "symlink", unix.Symlink("x", d+"/l"), 0)
	})
	for _, n := range []string{"f", "sub", "fifo", "l"} {
		if st := stat(t, d+"/"+n); st.Gid != 1005 || st.Uid != 1001 {
			t.Errorf("%s belongs to %d:%d", n, st.Uid, st.Gid)
		}
	}
	if m := stat(t, d+"/sub").Mode; m&unix.S_ISGID == 0 {
		t.Errorf("the folder below has mode %o", m)
	}
}

func setIDClearing(t *testing.T, dir string) {
	for what, change := range map[string]func(name string) error{
		"write": func(name string) error {
			fd, err := unix.Open(name, unix.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			_, err = unix.Write(fd, []byte("x"))
			return err
		},
		"truncate": func(name string) error { return unix.Truncate(name, 1) },
		"open, empty": func(name string) error {
			fd, err := unix.Open(name, unix.O_WRONLY|unix.O_TRUNC, 0)
			unix.Close(fd)
			return err
		},
		"chown": func(name string) error { return unix.Chown(name, -1, 1001) },
	} {
		name := fmt.Sprintf("%s/%s", dir, what)
		put(t, name, "content")
		want(t, "chown", unix.Chown(name, 1001, 1001), 0)
		want(t, "chmod", unix.Chmod(name, 0o6777), 0)
		as(1001, func() { want(t, what, change(name), 0) })
		if m := stat(t, name).Mode & 0o7777; m != 0o777 {
			t.Errorf("%s: mode %o", what, m)
		}
	}
}

func times(t *testing.T, dir string) {
	f := dir + "/f"
	put(t, f, "")
	set := func(a, m unix.Timespec) { want(t, "utimensat", unix.UtimesNano(f, []unix.Timespec{a, m}), 0) }
	a, m := unix.Timespec{Sec: 1234567890, Nsec: 123456789}, unix.Timespec{Sec: 2222222222, Nsec: 999999999}
	set(a, m)
	if st := stat(t, f); st.Atim != a || st.Mtim != m {
		t.Errorf("times %v %v", st.Atim, st.Mtim)
	}
	set(unix.Timespec{Nsec: unix.UTIME_OMIT}, unix.Timespec{Sec: 5})
	if st := stat(t, f); st.Atim != a || st.Mtim.Sec != 5 {
		t.Errorf("with UTIME_OMIT: %v %v", st.Atim, st.Mtim)
	}
	start := time.Now().Unix()
	set(unix.Timespec{Nsec: unix.UTIME_NOW}, unix.Timespec{Nsec: unix.UTIME_OMIT})
	if st := stat(t, f); st.Atim.Sec < start-1 || st.Mtim.Sec != 5 || st.Ctim.Sec < start-1 {
		t.Errorf("with UTIME_NOW: %v %v %v", st.Atim, st.Mtim, st.Ctim)
	}
	before := stat(t, dir)
	time.Sleep(20 * time.Millisecond)
	put(t, dir+"/new", "")
	if after := stat(t, dir); after.Mtim == before.Mtim || after.Ctim == before.Ctim {
		t.Error("a new name left the folder's times alone")
	}
}

func flocks(t *testing.T, dir string) {
	a, b := create(t, dir+"/f"), create(t, dir+"/f")
	try := unix.LOCK_NB
	want(t, "exclusive", unix.Flock(int(a.Fd()), unix.LOCK_EX|try), 0)
	want(t, "shared against it", unix.Flock(int(b.Fd()), unix.LOCK_SH|try), unix.EWOULDBLOCK)
	want(t, "to shared", unix.Flock(int(a.Fd()), unix.LOCK_SH|try), 0)
	want(t, "shared as well", unix.Flock(int(b.Fd()), unix.LOCK_SH|try), 0)
	want(t, "exclusive against shared", unix.Flock(int(b.Fd()), unix.LOCK_EX|try), unix.EWOULDBLOCK)
	a.Close()
	want(t, "after a close", unix.Flock(int(b.Fd()), unix.LOCK_EX|try), 0)
}

func recordLocks(t *testing.T, dir string) {
	a, b := create(t, dir+"/f"), create(t, dir+"/f")
	lock := func(f *os.File, kind int16, start, n int64) error {
		return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: start, Len: n})
	}
	want(t, "lock", lock(a, unix.F_WRLCK, 0, 100), 0)
	want(t, "the same", lock(b, unix.F_RDLCK, 50, 10), unix.EAGAIN)
	want(t, "beside it", lock(b, unix.F_WRLCK, 100, 10), 0)
	want(t, "unlock a part", lock(a, unix.F_UNLCK, 50, 10), 0)
	want(t, "the part", lock(b, unix.F_WRLCK, 50, 10), 0)
	want(t, "the rest", lock(b, unix.F_WRLCK, 0, 10), unix.EAGAIN)
}
