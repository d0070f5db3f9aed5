package command

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ocfuse/ocfuse/fs/blockdev"
)

// checkNotMounted refuses a device or image that this host has mounted, or attached
// to a loop device: what a filesystem in the kernel uses cannot be changed under it.
// The error is of kind blockdev.ErrBusy.
func checkNotMounted(path string) error {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // opening it says so
	}
	if err != nil {
		return err
	}
	same := func(other string) bool {
		o, err := os.Stat(other)
		return err == nil && os.SameFile(st, o)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) > 1 && strings.HasPrefix(f[0], "/") && same(unescapeMount(f[0])) {
			return fmt.Errorf("%s is mounted on %s: unmount it first: %w", path, unescapeMount(f[1]), blockdev.ErrBusy)
		}
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return err
	}
	for _, l := range loops {
		name, err := os.ReadFile(l)
		if err == nil && same(strings.TrimSuffix(string(name), "\n")) {
			dev := "/dev/" + strings.Split(l, "/")[3]
			return fmt.Errorf("%s is attached to %s: use that, or detach it (losetup -d %s): %w", path, dev, dev, blockdev.ErrBusy)
		}
	}
	return nil
}

// unescapeMount undoes the octal escapes of /proc/self/mounts.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
