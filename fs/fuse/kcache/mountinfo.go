package kcache

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const mountinfoPath = "/proc/self/mountinfo"

// defaultReadAheadKB lets READs reach maxRequest (the kernel's default of 128
// would cap them), and several of them be at the device at once.
const defaultReadAheadKB = 4 * maxRequest / 1024

// mountEntry is what the engine needs of a line of mountinfo (proc(5)).
type mountEntry struct {
	dev   string // major:minor
	point string
}

// parseMountinfo reads mountinfo; lines that do not parse are left out.
func parseMountinfo(b []byte) []mountEntry {
	var all []mountEntry
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) >= 5 {
			all = append(all, mountEntry{f[2], unescape(f[4])})
		}
	}
	return all
}

// unescape undoes the octal escapes of mountinfo (\040 for a blank).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// below reports whether something is mounted inside dir.
func below(all []mountEntry, dir string) bool {
	for _, m := range all {
		if strings.HasPrefix(m.point, strings.TrimSuffix(dir, "/")+"/") {
			return true
		}
	}
	return false
}

// mountWatch tells when file systems are mounted inside a directory.
type mountWatch struct{ wake, done int }

// watchMounts calls fn now and whenever the answer changes.
func watchMounts(dir string, fn func(below bool), logf func(string, ...any)) *mountWatch {
	w := &mountWatch{-1, -1}
	f, err := os.Open(mountinfoPath)
	if err != nil {
		logf("watching for mounts inside %s: %v", dir, err)
		return w
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		logf("watching for mounts inside %s: %v", dir, err)
		_ = f.Close()
		return w
	}
	w.wake, w.done = p[1], p[0]
	look := func() {
		if b, err := os.ReadFile(mountinfoPath); err == nil {
			fn(below(parseMountinfo(b), dir))
		}
	}
	look()
	go func() {
		defer f.Close()
		defer unix.Close(w.done)
		for {
			// poll(2) reports POLLERR|POLLPRI when the table changes.
			fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}, {Fd: int32(w.done), Events: unix.POLLIN}}
			if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
				logf("watching for mounts inside %s: %v", dir, err)
				return
			}
			if fds[1].Revents != 0 {
				return
			}
			look()
		}
	}()
	return w
}

func (w *mountWatch) close() {
	if w != nil && w.wake >= 0 {
		_ = unix.Close(w.wake)
		w.wake = -1
	}
}

// setReadAhead raises the readahead of the mount's bdi. The mount itself is
// not touched: a server that looks at its own mount can wait for itself.
func (m *Mount) setReadAhead(kb int) {
	if kb <= 0 {
		kb = defaultReadAheadKB
	}
	b, err := os.ReadFile(mountinfoPath)
	if err != nil {
		m.logf("readahead of %s: %v", m.dir, err)
		return
	}
	all := parseMountinfo(b)
	for k := len(all) - 1; k >= 0; k-- { // the last one is on top
		if all[k].point == m.dir {
			path := fmt.Sprintf("/sys/class/bdi/%s/read_ahead_kb", all[k].dev)
			if err := os.WriteFile(path, []byte(strconv.Itoa(kb)), 0); err != nil {
				m.logf("readahead of %s stays at the kernel's default: %v", m.dir, err)
			}
			return
		}
	}
	m.logf("readahead of %s stays at the kernel's default: the mount is not in %s", m.dir, mountinfoPath)
}
