package kcache

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// ErrBusy: the mount cannot be taken away because it is in use.
var ErrBusy = errors.New("the mount is in use: end the programs that use it (fuser -m shows them), or use --force")

// MountConfig says where and how to mount.
type MountConfig struct {
	Dir    string // existing directory
	Source string // what `df` shows as the file system: the device
	// Subtype makes the type "fuse.<Subtype>"; default "ocfuse".
	Subtype    string
	ReadOnly   bool
	AllowOther bool // other users may enter; always on for root
	// Locks hands flock(2) locks to the filesystem (SetLk, SetLkw), PosixLocks
	// fcntl(2) locks as well. Without them they are local to this node.
	Locks, PosixLocks bool
	// What mount(8) options of these names do; without root the first two are
	// always on.
	NoSuid, NoDev, NoExec bool
	ACL                   bool // POSIX ACLs, cached by the kernel under META
	Debug                 bool // log every request
	// ReadAheadKB of the mount's bdi; root only; default 4096.
	ReadAheadKB int
	Logf        func(format string, args ...any)
}

// Mount is a FUSE mount with its engine.
type Mount struct {
	*Engine
	// Server is go-fuse's; Serve runs it.
	Server *fuse.Server

	dir        string // absolute
	fusermount bool
	watch      *mountWatch
}

// maxRequest is the size of the largest READ and WRITE.
const maxRequest = 1 << 20

// New mounts the filesystem that makeFS returns for the engine and negotiates
// with the kernel; no request but INIT is read before Serve. Root mounts by
// itself, others through fusermount3.
func New(cfg MountConfig, makeFS func(*Engine) fuse.RawFileSystem) (*Mount, error) {
	return newMount(cfg, makeFS, os.Geteuid() != 0)
}

func newMount(cfg MountConfig, makeFS func(*Engine) fuse.RawFileSystem, helper bool) (*Mount, error) {
	if cfg.Subtype == "" {
		cfg.Subtype = "ocfuse"
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, fmt.Errorf("mount on %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, fmt.Errorf("mount on %s: %w", dir, syscall.ENOTDIR)
	}
	m := &Mount{dir: dir, fusermount: helper}
	var fd int
	if m.fusermount {
		fd, err = mountFusermount(dir, cfg)
	} else {
		fd, err = mountDirect(dir, cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("mount on %s: %w", dir, err)
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		_ = unix.Close(fd)
		return nil, errors.Join(fmt.Errorf("mount on %s: duplicate /dev/fuse: %w", dir, err), m.detach())
	}
	m.Engine = newEngine(dup, cfg.Logf)
	// go-fuse owns fd from here on. It stays in blocking mode and so out of
	// Go's poller, where an unmounted /dev/fuse would be a busy loop.
	m.Server, err = fuse.NewServer(counting{makeFS(m.Engine), &m.Counters}, fmt.Sprintf("/dev/fd/%d", fd), options(cfg))
	if err != nil {
		err = errors.Join(fmt.Errorf("mount on %s: %w", dir, err), m.detach())
		m.n.close()
		return nil, err
	}
	m.probe(m.Server.KernelSettings())
	m.watch = watchMounts(dir, func(below bool) { m.mountBelow.Store(below) }, m.logf)
	if !m.fusermount {
		m.setReadAhead(cfg.ReadAheadKB)
	}
	return m, nil
}

// options are the settings the cache protocol needs.
func options(cfg MountConfig) *fuse.MountOptions {
	disabled := uint64(fuse.CAP_AUTO_INVAL_DATA | fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_WRITEBACK_CACHE | fuse.CAP_NO_OPEN_SUPPORT)
	if !cfg.PosixLocks {
		disabled |= fuse.CAP_POSIX_LOCKS
	}
	return &fuse.MountOptions{
		FsName: cfg.Source, Name: cfg.Subtype, Debug: cfg.Debug,
		MaxWrite: maxRequest, MaxReadAhead: maxRequest,
		// Replies come from memory, and 1 MiB of them does not fit in a pipe.
		DisableSplice: true,
		// Parked readaheads must not keep a revoke's dirty pages from coming
		// back: the kernel counts both as background requests.
		MaxBackground:            4096,
		ExplicitDataCacheControl: true,
		EnableSymlinkCaching:     true,
		EnableLocks:              cfg.Locks || cfg.PosixLocks,
		EnableAcl:                cfg.ACL,
		ExtraCapabilities:        fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_DIRECT_IO_ALLOW_MMAP | fuse.CAP_ASYNC_DIO | fuse.CAP_READDIRPLUS_AUTO,
		DisabledCapabilities:     disabled,
	}
}

// mountOptions are those of mount(2) and fusermount3 alike.
func mountOptions(cfg MountConfig) []string {
	o := []string{"default_permissions", fmt.Sprintf("max_read=%d", maxRequest)}
	if cfg.AllowOther || os.Geteuid() == 0 {
		o = append(o, "allow_other")
	}
	return o
}

func mountDirect(dir string, cfg MountConfig) (int, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("/dev/fuse: %w", err)
	}
	o := append([]string{fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d", fd, unix.S_IFDIR, os.Geteuid(), os.Getegid())},
		mountOptions(cfg)...)
	var flags uintptr
	for _, o := range []struct {
		on   bool
		flag uintptr
	}{{cfg.ReadOnly, unix.MS_RDONLY}, {cfg.NoSuid, unix.MS_NOSUID}, {cfg.NoDev, unix.MS_NODEV}, {cfg.NoExec, unix.MS_NOEXEC}} {
		if o.on {
			flags |= o.flag
		}
	}
	source := cfg.Source
	if source == "" {
		source = cfg.Subtype
	}
	if err := unix.Mount(source, dir, "fuse."+cfg.Subtype, flags, strings.Join(o, ",")); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// mountFusermount lets the set-uid helper mount and takes the descriptor from
// the socket whose number it finds in _FUSE_COMMFD.
func mountFusermount(dir string, cfg MountConfig) (int, error) {
	helper, err := fusermount()
	if err != nil {
		return -1, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socketpair: %w", err)
	}
	defer unix.Close(pair[0])
	remote := os.NewFile(uintptr(pair[1]), "fusermount")
	escape := strings.NewReplacer(`\`, `\\`, ",", `\,`)
	o := append(mountOptions(cfg), "subtype="+escape.Replace(cfg.Subtype), "nosuid", "nodev")
	if cfg.Source != "" {
		o = append(o, "fsname="+escape.Replace(cfg.Source))
	}
	if cfg.ReadOnly {
		o = append(o, "ro")
	}
	cmd := exec.Command(helper, "-o", strings.Join(o, ","), "--", dir)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{remote}
	out, err := cmd.CombinedOutput()
	_ = remote.Close()
	if err != nil {
		return -1, fmt.Errorf("%s: %w: %s", helper, err, strings.TrimSpace(string(out)))
	}
	var data [4]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(pair[0], data[:], oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("%s sent no descriptor: %w", helper, err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return -1, fmt.Errorf("%s sent %d control messages: %v", helper, len(msgs), err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("%s sent %d descriptors: %v", helper, len(fds), err)
	}
	return fds[0], nil
}

func fusermount() (string, error) {
	for _, n := range []string{"fusermount3", "/bin/fusermount3", "fusermount", "/bin/fusermount"} {
		if p, err := exec.LookPath(n); err == nil {
			return p, nil
		}
	}
	return "", errors.New("mounting without root needs fusermount3: install the package fuse3")
}

// Serve answers requests until the mount is gone.
func (m *Mount) Serve() {
	m.Server.Serve()
	m.stop()
	m.watch.close()
	m.n.close()
}

// Unmount takes the mount away. It fails with ErrBusy while it is in use,
// unless force: then the connection is aborted first, so that every request
// and every notify ends, and the mount is detached. Serve returns after it.
// With force the filesystem's own waits must have been ended before (for
// locks: locking.Manager.Close).
func (m *Mount) Unmount(force bool) error {
	if force {
		m.stop()
		if !m.fusermount {
			// MNT_FORCE aborts the connection even if it fails as busy.
			_ = unix.Unmount(m.dir, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW)
		}
		return m.detach()
	}
	var err error
	if m.fusermount {
		err = m.runFusermount("-u")
	} else {
		err = unix.Unmount(m.dir, unix.UMOUNT_NOFOLLOW)
	}
	switch {
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("unmount %s: %w", m.dir, ErrBusy)
	case errors.Is(err, syscall.EINVAL):
		return nil // somebody else was faster
	case err != nil:
		return fmt.Errorf("unmount %s: %w", m.dir, err)
	}
	return nil
}

// detach takes the mount out of the tree though it may be in use.
func (m *Mount) detach() error {
	var err error
	if m.fusermount {
		err = m.runFusermount("-uz")
	} else {
		err = unix.Unmount(m.dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	if err != nil && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("detach %s: %w", m.dir, err)
	}
	return nil
}

func (m *Mount) runFusermount(flag string) error {
	helper, err := fusermount()
	if err != nil {
		return err
	}
	out, err := exec.Command(helper, flag, "--", m.dir).CombinedOutput()
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(string(out))
	if strings.Contains(text, "busy") {
		return syscall.EBUSY
	}
	return fmt.Errorf("%s: %w: %s", helper, err, text)
}
