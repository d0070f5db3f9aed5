package badinput

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFullOfNames fills volumes with things that need inodes, directory blocks and
// clusters until there is no room for any; afterwards they can be deleted, and the
// volume is as good as before.
func TestFullOfNames(t *testing.T) {
	for name, args := range map[string][]string{
		"512":     {"-b", "512", "-C", "4K", "--fs-features", "noinline-data"},
		"64K":     {"-b", "4K", "-C", "64K"},
		"contig":  {"-b", "1K", "-C", "4K", "--fs-features", "nodiscontig-bg,nosparse"},
		"metaecc": {"-b", "1K", "-C", "4K", "--fs-features", "metaecc"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			img, mnt := b.volume("v.img", 24<<20, append([]string{"-M", "local", "-J", "size=4M"}, args...)...), b.mkdir("mnt")
			b.mount(img, mnt)
			f := filler{t: t, dir: mnt}
			var st syscall.Statfs_t
			if err := syscall.Statfs(mnt, &st); err != nil {
				t.Fatal(err)
			}
			free := st.Bfree * uint64(st.Bsize)
			for round := range 2 {
				made := f.fill(round)
				if len(made) < 100 {
					t.Errorf("round %d: full after %d files", round, len(made))
				}
				f.refusedAll()
				for i := len(made) - 1; i >= 0; i-- {
					if err := os.Remove(made[i]); err != nil {
						t.Fatalf("round %d: on a full volume: %v", round, err)
					}
				}
				await(t, mnt, free/3) // groups of inodes and metadata blocks stay
			}
			b.must("umount", mnt)
			b.fsck(img)
		})
	}
}

// filler fills a volume.
type filler struct {
	t   *testing.T
	dir string
}

// fill makes folders, symlinks, long names and files until nothing goes any more,
// and returns their names in the order they were made.
func (f filler) fill(round int) (made []string) {
	f.t.Helper()
	block := make([]byte, 20000)
	kinds := []func(name string) error{
		func(name string) error { return os.Mkdir(name, 0o700) },
		func(name string) error { return os.Symlink(strings.Repeat("t", 3000), name) },
		func(name string) error { return os.WriteFile(name, block, 0o600) },
		func(name string) error { return syscall.Mknod(name, syscall.S_IFIFO|0o600, 0) },
		func(name string) error { return os.WriteFile(name, nil, 0o600) },
	}
	dir := f.dir
	for n, full := 0, 0; full < 2*len(kinds); n++ {
		if n > 100000 {
			f.t.Fatal("the volume does not get full")
		}
		name := filepath.Join(dir, fmt.Sprintf("%d-%06d%s", round, n, strings.Repeat("n", n%200)))
		err := kinds[n%len(kinds)](name)
		switch {
		case err == nil:
			full = 0
			made = append(made, name)
			if n%(40*len(kinds)) == 0 {
				dir = name // go on inside the folder just made
			}
		case errors.Is(err, syscall.ENOSPC):
			full++
			if _, err := os.Lstat(name); err == nil { // a file that was cut short
				made = append(made, name)
			}
		default:
			f.t.Fatalf("%s: %v, want ENOSPC", name, err)
		}
	}
	return made
}

// refusedAll sees that a full volume gives ENOSPC and goes on reading.
func (f filler) refusedAll() {
	f.t.Helper()
	name := filepath.Join(f.dir, strings.Repeat("f", 250))
	if err := os.Mkdir(name, 0o700); err != nil && !errors.Is(err, syscall.ENOSPC) {
		f.t.Errorf("a folder on a full volume: %v", err)
	} else if err == nil {
		_ = os.Remove(name)
	}
	if _, err := os.ReadDir(f.dir); err != nil {
		f.t.Errorf("a listing of a full volume: %v", err)
	}
}
