package heartbeat

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNodeInUse: this node number already runs on this volume.
var ErrNodeInUse = errors.New("node number is in use")

// Verdict is what this host knows about an incarnation of a node.
type Verdict uint8

// The verdicts.
const (
	Unknown Verdict = iota // not from this host, or not provable
	Alive                  // its process runs here
	Dead                   // its process ran here and has ended
)

// record is the content of a registry file. A damaged one proves nothing.
type record struct {
	Node       int      `json:"node"`
	Generation uint64   `json:"generation"` // 0: nobody
	Pid        int      `json:"pid"`
	Start      uint64   `json:"start"` // field 22 of /proc/PID/stat
	Boot       string   `json:"boot"`
	PidNS      string   `json:"pid_ns"`
	Ended      []uint64 `json:"ended"` // earlier generations, proven dead or left
}

// maxEnded bounds how many finished generations a record remembers.
const maxEnded = 64

// Registry is the folder in which the nodes of one volume on this host know each
// other. A file a node number: the process that runs the node holds an OFD lock
// on it for as long as it lives. Files are never removed (a removed lock file
// could be locked twice).
type Registry struct{ dir, prefix string }

// RuntimeDir returns the default folder: /run/ocfuse for root, else a folder of
// the user's own.
func RuntimeDir() string {
	if os.Geteuid() == 0 {
		return "/run/ocfuse"
	}
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
		return filepath.Join(d, "ocfuse")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("ocfuse-%d", os.Geteuid()))
}

// OpenRegistry makes the folder if needed. key names the volume on this host; it
// may hold any characters. The folder must be on a file system of this machine.
func OpenRegistry(dir, key string) (*Registry, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("runtime folder: %w", err)
	}
	sum := sha256.Sum256([]byte(key))
	return &Registry{dir: dir, prefix: "hb-" + hex.EncodeToString(sum[:8])}, nil
}

func (r *Registry) path(node int) string {
	return filepath.Join(r.dir, fmt.Sprintf("%s-%d.json", r.prefix, node))
}

// Entry is this process's claim to a node number on this host.
type Entry struct {
	f   *os.File
	rec record
}

// Register claims the number, or fails with ErrNodeInUse and the process that
// holds it. generation is the incarnation this process will heartbeat with.
func (r *Registry) Register(node int, generation uint64) (*Entry, error) {
	f, err := os.OpenFile(r.path(node), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("claiming node %d on this host: %w", node, err)
	}
	e := &Entry{f: f}
	if err := e.claim(node, generation); err != nil {
		f.Close()
		return nil, err
	}
	return e, nil
}

func (e *Entry) claim(node int, generation uint64) error {
	old, _ := readRecord(e.f)
	if err := lockOFD(e.f); err != nil {
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return fmt.Errorf("node %d of this volume runs on this host already (pid %d); choose another --node or unmount that one: %w", node, old.Pid, ErrNodeInUse)
		}
		return fmt.Errorf("locking %s: %w", e.f.Name(), err)
	}
	self, err := identify()
	if err != nil {
		return err
	}
	old, ok := readRecord(e.f) // again, under the lock
	self.Node, self.Generation = node, generation
	if ok && old.Boot == self.Boot {
		self.Ended = old.Ended
		if old.Generation != 0 && old.PidNS == self.PidNS {
			// The lock is free, so every file of the old process is closed; it may
			// still be on its way out.
			if old.Pid != os.Getpid() {
				if err := waitGone(old, 5*time.Second); err != nil {
					return fmt.Errorf("node %d: %w", node, err)
				}
			}
			self.Ended = append(self.Ended, old.Generation)
		}
		if n := len(self.Ended); n > maxEnded {
			self.Ended = self.Ended[n-maxEnded:]
		}
	}
	e.rec = self
	return e.write()
}

func (e *Entry) write() error {
	p, err := json.Marshal(&e.rec)
	if err != nil {
		return err
	}
	if err := e.f.Truncate(0); err != nil {
		return fmt.Errorf("writing %s: %w", e.f.Name(), err)
	}
	if _, err := e.f.WriteAt(p, 0); err != nil {
		return fmt.Errorf("writing %s: %w", e.f.Name(), err)
	}
	return nil
}

// Close gives the number back. ended says that this incarnation writes nothing
// any more, so that others on this host may take it for dead.
func (e *Entry) Close(ended bool) error {
	if ended {
		e.rec.Ended = append(e.rec.Ended, e.rec.Generation)
		e.rec.Generation = 0
	}
	err := e.write()
	return errors.Join(err, e.f.Close())
}

// Probe says what this host knows about an incarnation. Dead is a proof.
func (r *Registry) Probe(node int, generation uint64) Verdict {
	rec, ok := r.read(node)
	if !ok {
		return Unknown
	}
	if slices.Contains(rec.Ended, generation) {
		return Dead
	}
	if rec.Generation != generation || generation == 0 {
		return Unknown
	}
	fd, gone, err := openProcess(rec)
	if err != nil {
		return Unknown
	}
	if gone {
		return Dead
	}
	defer unix.Close(fd)
	if exited(fd) {
		return Dead
	}
	return Alive
}

// read returns a record that belongs to this boot and pid namespace.
func (r *Registry) read(node int) (record, bool) {
	f, err := os.Open(r.path(node))
	if err != nil {
		return record{}, false
	}
	defer f.Close()
	rec, ok := readRecord(f)
	self, err := identify()
	if !ok || err != nil || rec.Boot != self.Boot || rec.PidNS != self.PidNS || rec.Node != node {
		return record{}, false
	}
	return rec, true
}

// Kill ends an incarnation that runs on this host and waits until it is gone.
// ok is false if this host cannot (it is not here, or is this very process).
func (r *Registry) Kill(ctx context.Context, node int, generation uint64) (ok bool, err error) {
	switch r.Probe(node, generation) {
	case Dead:
		return true, nil
	case Unknown:
		return false, nil
	}
	rec, found := r.read(node)
	if !found || rec.Generation != generation || rec.Pid == os.Getpid() {
		return false, nil
	}
	fd, gone, err := openProcess(rec)
	if err != nil || gone {
		return gone, err
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, fmt.Errorf("killing node %d (pid %d): %w", node, rec.Pid, err)
	}
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	if !waitExit(f) {
		return false, fmt.Errorf("node %d (pid %d) was killed but does not end: %w", node, rec.Pid, context.Cause(ctx))
	}
	return true, nil
}

// Watch calls fn once, from a goroutine, when the process of an incarnation on
// this host has ended; at once if it has already. ok is false if this host does
// not know it. stop ends the watch; fn may still run once after that.
func (r *Registry) Watch(node int, generation uint64, fn func()) (stop func(), ok bool) {
	switch r.Probe(node, generation) {
	case Dead:
		go fn()
		return func() {}, true
	case Unknown:
		return nil, false
	}
	rec, found := r.read(node)
	if !found || rec.Generation != generation {
		return nil, false
	}
	fd, gone, err := openProcess(rec)
	if err != nil {
		return nil, false
	}
	if gone {
		go fn()
		return func() {}, true
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	go func() {
		if waitExit(f) {
			fn()
		}
		f.Close()
	}()
	return func() { f.Close() }, true
}

// waitExit parks the goroutine until the process of a pidfd has ended (true) or
// the file is closed (false). The runtime's poller does the waiting.
func waitExit(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	done := false
	err = raw.Read(func(fd uintptr) bool {
		done = exited(int(fd))
		return done
	})
	return err == nil && done
}

// exited polls a pidfd: it becomes readable when the last thread has ended.
func exited(fd int) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, 0)
		if err == unix.EINTR {
			continue
		}
		return err == nil && n == 1
	}
}

// openProcess opens the recorded process. gone is true when that process has
// ended (its number is free or belongs to another one now).
func openProcess(rec record) (fd int, gone bool, err error) {
	fd, err = unix.PidfdOpen(rec.Pid, unix.O_NONBLOCK) // PIDFD_NONBLOCK
	if errors.Is(err, unix.ESRCH) {
		return -1, true, nil
	}
	if err != nil {
		return -1, false, fmt.Errorf("pidfd_open(%d): %w", rec.Pid, err)
	}
	// The number is pinned by the pidfd now: whose is it?
	start, err := startTime(rec.Pid)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) || (err == nil && start != rec.Start) {
		unix.Close(fd)
		return -1, true, nil
	}
	if err != nil {
		unix.Close(fd)
		return -1, false, err
	}
	return fd, false, nil
}

// waitGone waits until a process that has closed its files has ended.
func waitGone(rec record, limit time.Duration) error {
	fd, gone, err := openProcess(rec)
	if err != nil || gone {
		return err
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	t := time.AfterFunc(limit, func() { f.Close() })
	defer t.Stop()
	if !waitExit(f) {
		return fmt.Errorf("its process %d on this host has given up its lock but still runs: %w", rec.Pid, ErrNodeInUse)
	}
	return nil
}

// identify describes this process.
func identify() (record, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return record{}, fmt.Errorf("boot id: %w", err)
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return record{}, fmt.Errorf("pid namespace: %w", err)
	}
	start, err := startTime(os.Getpid())
	if err != nil {
		return record{}, err
	}
	return record{Pid: os.Getpid(), Start: start, Boot: strings.TrimSpace(string(boot)), PidNS: ns}, nil
}

// startTime reads field 22 of /proc/PID/stat, in clock ticks since boot. The
// command name, field 2, may hold anything, so fields count from its last ')'.
func startTime(pid int) (uint64, error) {
	p, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("start time of process %d: %w", pid, err)
	}
	s := string(p)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	var v uint64
	if len(f) < 20 {
		return 0, fmt.Errorf("start time of process %d: unexpected %q", pid, s)
	}
	if _, err := fmt.Sscan(f[19], &v); err != nil {
		return 0, fmt.Errorf("start time of process %d: %w", pid, err)
	}
	return v, nil
}

func readRecord(f *os.File) (record, bool) {
	var rec record
	p, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<16))
	if err != nil || json.Unmarshal(p, &rec) != nil {
		return record{}, false
	}
	return rec, true
}

// lockOFD takes a whole-file write lock that belongs to the open file, not to the
// process: two mounts in one process exclude each other too.
func lockOFD(f *os.File) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
}
