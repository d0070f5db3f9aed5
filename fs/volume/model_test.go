package volume_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ocfuse/ocfuse/fs/volume"
)

// shapes are the block and cluster sizes the tests run with.
var shapes = []struct {
	name string
	size int64
	args []string
}{
	{"4k-4k", 256 << 20, []string{"-b", "4096", "-C", "4096"}},
	{"1k-32k", 256 << 20, []string{"-b", "1024", "-C", "32768"}},
	{"512-4k", 256 << 20, []string{"-b", "512", "-C", "4096"}},
	{"4k-1m", 1 << 30, []string{"-b", "4096", "-C", "1048576"}},
	{"4k-metaecc", 256 << 20, []string{"-b", "4096", "-C", "4096", "--fs-features=metaecc"}},
	{"2k-noinline", 256 << 20, []string{"-b", "2048", "-C", "8192", "--fs-features=noinline-data"}},
	{"1k-noindex", 256 << 20, []string{"-b", "1024", "-C", "4096", "--fs-features=noindexed-dirs"}},
}

// model is what the volume should hold.
type model struct {
	files map[string]*[]byte // paths to contents; hard links share one
	dirs  map[string]bool
}

func (md *model) pick(rng *rand.Rand, m map[string]*[]byte) string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	if len(keys) == 0 {
		return ""
	}
	return keys[rng.IntN(len(keys))]
}

func (md *model) pickDir(rng *rand.Rand) string {
	keys := make([]string, 0, len(md.dirs))
	for k := range md.dirs {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys[rng.IntN(len(keys))]
}

func (md *model) names(dir string) []string {
	var out []string
	add := func(p string) {
		if rest, ok := strings.CutPrefix(p, dir+"/"); ok && rest != "" && !strings.Contains(rest, "/") {
			out = append(out, rest)
		}
	}
	for p := range md.files {
		add(p)
	}
	for p := range md.dirs {
		add(p)
	}
	slices.Sort(out)
	return out
}

// TestModel runs random operations on a volume and compares it with a model
// after each, after a remount, and with fsck.ocfs2.
func TestModel(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			path := newImage(t, s.size, s.args...)
			md := &model{files: map[string]*[]byte{}, dirs: map[string]bool{"": true}}
			rng := rand.New(rand.NewPCG(1, 2))
			for round := range 3 {
				m := mount(t, path)
				for step := range 400 {
					if err := md.step(rng, m); err != nil {
						t.Fatalf("round %d step %d: %v", round, step, err)
					}
				}
				md.compare(t, m)
				m.umount()
			}
			m := mount(t, path)
			md.compare(t, m)
			m.umount()
		})
	}
}

func (md *model) step(rng *rand.Rand, m *mounted) error {
	f := md.pick(rng, md.files)
	dir := md.pickDir(rng)
	name := fmt.Sprintf("%s/%s%d", dir, strings.Repeat(string(rune('a'+rng.IntN(6))), 1+rng.IntN(40)), rng.IntN(60))
	_, isFile := md.files[name]
	free := !isFile && !md.dirs[name]
	op := rng.IntN(100)
	switch {
	case op < 25 && free:
		data := []byte{}
		md.files[name] = &data
		if err := m.touch(name); err != nil {
			return fmt.Errorf("create %s: %w", name, err)
		}
	case op < 50 && f != "":
		p := make([]byte, 1+rng.IntN([]int{50, 500, 5000, 300000}[rng.IntN(4)]))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		off := rng.IntN(len(*md.files[f]) + 1 + rng.IntN(200000))
		d := *md.files[f]
		if need := off + len(p); need > len(d) {
			d = append(d, make([]byte, need-len(d))...)
		}
		copy(d[off:], p)
		*md.files[f] = d
		if err := m.write(f, p, int64(off)); err != nil {
			return fmt.Errorf("write %d at %d of %s: %w", len(p), off, f, err)
		}
	case op < 58 && f != "":
		size := rng.IntN(400000)
		d := *md.files[f]
		if size <= len(d) {
			d = d[:size:size]
		} else {
			d = append(d, make([]byte, size-len(d))...)
		}
		*md.files[f] = d
		if err := m.truncate(f, uint64(size)); err != nil {
			return fmt.Errorf("truncate %s to %d: %w", f, size, err)
		}
	case op < 66 && f != "":
		return md.falloc(rng, m, f)
	case op < 74 && f != "":
		delete(md.files, f)
		if err := m.unlink(f); err != nil {
			return fmt.Errorf("unlink %s: %w", f, err)
		}
	case op < 80 && free && len(md.dirs) < 40:
		md.dirs[name] = true
		if err := m.mkdir(name); err != nil {
			return fmt.Errorf("mkdir %s: %w", name, err)
		}
	case op < 84 && dir != "" && len(md.names(dir)) == 0:
		delete(md.dirs, dir)
		if err := m.rmdir(dir); err != nil {
			return fmt.Errorf("rmdir %s: %w", dir, err)
		}
	case op < 90 && f != "" && !md.dirs[name] && name != f:
		d := md.files[f]
		if old := md.files[name]; old != d {
			delete(md.files, f)
			md.files[name] = d
		}
		if err := m.rename(f, name, 0); err != nil {
			return fmt.Errorf("rename %s to %s: %w", f, name, err)
		}
	case op < 94 && f != "" && free:
		md.files[name] = md.files[f]
		if err := m.link(f, name); err != nil {
			return fmt.Errorf("link %s to %s: %w", f, name, err)
		}
	case op < 97 && dir != "" && free && !strings.HasPrefix(name, dir+"/"):
		return md.renameDir(m, dir, name)
	case f != "":
		got, err := m.read(f)
		if err != nil {
			return fmt.Errorf("read %s: %w", f, err)
		}
		if !bytes.Equal(got, *md.files[f]) {
			return fmt.Errorf("content of %s: %s", f, diff(got, *md.files[f]))
		}
	}
	return nil
}

func (md *model) renameDir(m *mounted, dir, name string) error {
	err := m.rename(dir, name, 0)
	if strings.HasPrefix(name, dir+"/") {
		if !errors.Is(err, volume.ErrLoop) {
			return fmt.Errorf("rename %s below itself: %w", dir, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", dir, name, err)
	}
	move := func(p string) string {
		if rest, ok := strings.CutPrefix(p, dir); ok && (rest == "" || rest[0] == '/') {
			return name + rest
		}
		return p
	}
	files, dirs := map[string]*[]byte{}, map[string]bool{}
	for k, v := range md.files {
		files[move(k)] = v
	}
	for k := range md.dirs {
		dirs[move(k)] = true
	}
	md.files, md.dirs = files, dirs
	return nil
}

func (md *model) falloc(rng *rand.Rand, m *mounted, f string) error {
	d := *md.files[f]
	off, n := rng.IntN(len(d)+1), 1+rng.IntN(100000)
	modes := []uint32{0, volume.FallocPunchHole | volume.FallocKeepSize, volume.FallocZeroRange, volume.FallocZeroRange | volume.FallocKeepSize}
	mode := modes[rng.IntN(len(modes))]
	if mode&volume.FallocKeepSize == 0 && off+n > len(d) {
		d = append(d, make([]byte, off+n-len(d))...)
	}
	if mode != 0 {
		clear(d[off:min(off+n, len(d))])
	}
	*md.files[f] = d
	i, _, err := m.lookup(f)
	if err != nil {
		return err
	}
	defer m.put(i)
	if err := m.Fallocate(bg, i, mode, int64(off), int64(n), nil); err != nil {
		return fmt.Errorf("fallocate mode %#x, %d at %d of %s: %w", mode, n, off, f, err)
	}
	return nil
}

// compare checks every file and directory.
func (md *model) compare(t *testing.T, m *mounted) {
	t.Helper()
	for d := range md.dirs {
		got, err := m.list(d)
		if err != nil {
			t.Fatalf("list %s: %v", d, err)
		}
		slices.Sort(got)
		got = slices.DeleteFunc(got, func(n string) bool { return d == "" && n == "lost+found" })
		if want := md.names(d); !slices.Equal(got, want) {
			t.Fatalf("names in %q:\n got %q\nwant %q", d, got, want)
		}
	}
	for f, want := range md.files {
		got, err := m.read(f)
		if err != nil {
			t.Fatalf("read %s: %v", f, err)
		}
		if !bytes.Equal(got, *want) {
			t.Fatalf("content of %s: %s", f, diff(got, *want))
		}
	}
}

func diff(got, want []byte) string {
	if len(got) != len(want) {
		return fmt.Sprintf("%d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Sprintf("byte %d of %d is %#x, want %#x", i, len(got), got[i], want[i])
		}
	}
	return "equal"
}
