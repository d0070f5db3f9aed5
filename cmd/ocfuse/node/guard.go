package node

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ocfuse/ocfuse/cmd/ocfuse/control"
)

// A node that is killed while one of its threads is inside the kernel, taking
// a page back that a request of its own has locked, cannot end: the request is
// never answered, the thread waits for it uninterruptibly, and as long as it
// lives, /dev/fuse and every socket of the process stay open. Nobody could
// prove the node dead before its lease ends, and its mount would hang for ever.
//
// So each node has a guard: a child process that is told by the kernel
// (PR_SET_PDEATHSIG) when the thread that made it ends, which happens at once
// when the node is killed, and then aborts the FUSE connection. The stuck
// thread gets its page, and the process ends.
type guard struct {
	stop chan struct{}
	in   io.WriteCloser
	cmd  *exec.Cmd
}

// guardSignal is what the kernel sends the guard.
const guardSignal = syscall.SIGUSR1

// startGuard starts the guard of the mount at mnt.
func startGuard(mnt string) (*guard, error) {
	at, ok, err := control.MountAt(mnt)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s is not in mountinfo", mnt)
	}
	_, minor, _ := strings.Cut(at.Device, ":")
	if err := canAbort(minor); err != nil {
		return nil, err
	}
	g := &guard{stop: make(chan struct{})}
	g.cmd = exec.Command("/proc/self/exe", "guard", minor, mnt)
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: guardSignal, Setpgid: true}
	if g.in, err = g.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread whose end the guard hears of
		started <- g.cmd.Start()
		<-g.stop
	}()
	if err := <-started; err != nil {
		close(g.stop)
		return nil, fmt.Errorf("starting the guard: %w", err)
	}
	return g, nil
}

// end tells the guard that the node ends by itself.
func (g *guard) end() {
	if g == nil {
		return
	}
	_, _ = g.in.Write([]byte{'q'}) // it may have been killed
	_ = g.in.Close()
	_ = g.cmd.Wait()
	close(g.stop)
}

// Guard is the guard's whole life: minor is the device number of the mount at
// mnt.
func Guard(minor, mnt string) error {
	died := make(chan os.Signal, 1)
	signal.Notify(died, guardSignal)
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	quit := make(chan bool, 1)
	go func() {
		var b [1]byte
		n, _ := os.Stdin.Read(b[:])
		quit <- n == 1
	}()
	select {
	case <-died:
	case clean := <-quit:
		if clean {
			return nil
		}
	}
	return abort(minor, mnt)
}

// abortFile is what fusectl offers to end a FUSE connection.
func abortFile(minor string) string {
	return filepath.Join("/sys/fs/fuse/connections", minor, "abort")
}

// canAbort tells whether abort will work: a user without privileges needs
// fusectl, whose files belong to whoever mounted.
func canAbort(minor string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	if err := unix.Access(abortFile(minor), unix.W_OK); err != nil {
		return fmt.Errorf("the guard cannot abort this mount: %s: %w (is fusectl mounted on /sys/fs/fuse/connections?)", abortFile(minor), err)
	}
	return nil
}

// abort ends the FUSE connection: through fusectl where it is mounted, else,
// as root, by a forced unmount, which aborts even if it fails as busy. It is made
// to fail: the mount must stay, dead, so that programs get errors there and do not
// write into the directory below it.
func abort(minor, mnt string) error {
	err := os.WriteFile(abortFile(minor), []byte("1"), 0)
	if err == nil {
		return nil
	}
	fd, e := unix.Open(mnt, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0) // asks the dead node nothing
	if e != nil {
		return fmt.Errorf("aborting the mount at %s: %w; %w", mnt, err, e)
	}
	defer unix.Close(fd)
	if same, e := isOn(fd, minor); e != nil || !same {
		return e // somebody was faster: it is gone, or another one is there
	}
	if e := unix.Unmount(mnt, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW); e != nil && e != unix.EBUSY {
		return fmt.Errorf("aborting the mount at %s: %w; %w", mnt, err, e)
	}
	return nil
}

// isOn tells whether a descriptor is of the FUSE mount with device number minor,
// without asking the mount.
func isOn(fd int, minor string) (bool, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return false, err
	}
	_, id, _ := strings.Cut(string(info), "mnt_id:")
	id, _, _ = strings.Cut(strings.TrimSpace(id), "\n")
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == id {
			return f[2] == "0:"+minor, nil
		}
	}
	return false, nil
}
