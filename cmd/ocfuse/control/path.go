package control

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Dir returns the runtime directory, made if it is missing. Environment
// OCFUSE_RUNDIR overrides it.
func Dir() (string, error) {
	d := os.Getenv("OCFUSE_RUNDIR")
	switch {
	case d != "":
	case os.Geteuid() == 0:
		d = "/run/ocfuse"
	case os.Getenv("XDG_RUNTIME_DIR") != "":
		d = filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "ocfuse")
	default:
		d = filepath.Join(os.TempDir(), fmt.Sprintf("ocfuse-%d", os.Geteuid()))
	}
	if err := os.MkdirAll(d, 0o700); err != nil {
		return "", fmt.Errorf("runtime directory: %w", err)
	}
	return d, nil
}

// MountPoint cleans a mount point as given by a user: absolute, symlinks of
// its parent resolved. The mount point itself is not looked at: it may hang.
func MountPoint(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", fmt.Errorf("mount point %s: %w", path, err)
	}
	return filepath.Join(parent, filepath.Base(abs)), nil
}

// SocketPath returns the socket of the node mounted at a cleaned mount point.
func SocketPath(mnt string) (string, error) {
	d, err := Dir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(mnt))
	return filepath.Join(d, hex.EncodeToString(sum[:8])+".sock"), nil
}

// Mount is one line of mountinfo.
type Mount struct {
	Point  string
	Type   string
	Source string
	Device string // major:minor
}

// MountAt returns the topmost file system mounted at a cleaned path, from
// mountinfo.
func MountAt(path string) (Mount, bool, error) {
	mounts, err := Mounts()
	if err != nil {
		return Mount{}, false, err
	}
	for n := len(mounts) - 1; n >= 0; n-- {
		if mounts[n].Point == path {
			return mounts[n], true, nil
		}
	}
	return Mount{}, false, nil
}

// Mounts lists mountinfo.
func Mounts() ([]Mount, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseMounts(string(b)), nil
}

// parseMounts reads the text of mountinfo (proc_pid_mountinfo(5)).
func parseMounts(text string) []Mount {
	var list []Mount
	for line := range strings.Lines(text) {
		head, tail, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		f, g := strings.Fields(head), strings.Fields(tail)
		if !ok || len(f) < 5 || len(g) < 2 {
			continue
		}
		list = append(list, Mount{Point: unescape(f[4]), Type: g[0], Source: unescape(g[1]), Device: f[2]})
	}
	return list
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
