package volume_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/fs/volume"
	_ "github.com/ocfuse/ocfuse/stacks/local"
)

var bg = context.Background()

// tool finds one of ocfs2-tools; `make test` installs them.
func tool(t testing.TB, name string) string {
	t.Helper()
	for _, d := range []string{"", "/usr/sbin/", "/sbin/"} {
		if p, err := exec.LookPath(d + name); err == nil {
			return p
		}
	}
	t.Fatalf("%s is missing: install the package ocfs2-tools (make setup)", name)
	return ""
}

// newImage makes an image with mkfs.ocfs2 -M local.
func newImage(t testing.TB, size int64, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vol.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	args = append(append([]string{"-M", "local", "-q"}, args...), path)
	if out, err := exec.Command(tool(t, "mkfs.ocfs2"), args...).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ocfs2 %v: %v\n%s", args, err, out)
	}
	return path
}

// fsck fails the test unless fsck.ocfs2 finds nothing. mkfs.ocfs2 leaves the
// system directory without an index where it is not inline: that is no fault
// of ours.
func fsck(t testing.TB, path string) {
	t.Helper()
	g := geometry(t, path)
	sysdir := fmt.Sprintf("[DX_TREE_MISSING] Directory %d ", g.SystemDirBlkno)
	out, _ := exec.Command(tool(t, "fsck.ocfs2"), "-fn", path).CombinedOutput()
	var bad []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "[") && !strings.HasPrefix(line, sysdir) {
			bad = append(bad, line)
		}
		if strings.Contains(line, "Skipping journal") || strings.Contains(line, "Skipping orphan") || strings.Contains(line, "fsck.ocfs2:") {
			bad = append(bad, line)
		}
	}
	if len(bad) > 0 || !strings.Contains(string(out), "All passes succeeded") {
		t.Fatalf("fsck.ocfs2 -fn %s:\n%s\n---\n%s", path, strings.Join(bad, ""), out)
	}
}

func geometry(t testing.TB, path string) *ondisk.Geometry {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, _, err := ondisk.FindSuper(f)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// mounted is a volume mounted on the local stack, without a kernel.
type mounted struct {
	*volume.Volume
	t    testing.TB
	path string
	dev  blockdev.Device
}

func mount(t testing.TB, path string) *mounted {
	t.Helper()
	dev, err := blockdev.Open(path, blockdev.Options{Claim: blockdev.ClaimShared})
	if err != nil {
		t.Fatal(err)
	}
	v, err := volume.Mount(bg, dev, volume.Options{Slot: -1, Logf: func(f string, a ...any) { t.Logf("volume: "+f, a...) }})
	if err != nil {
		dev.Close()
		t.Fatalf("mount %s: %v", path, err)
	}
	return &mounted{v, t, path, dev}
}

// umount leaves cleanly and checks the image.
func (m *mounted) umount() {
	m.t.Helper()
	if err := m.Unmount(bg); err != nil {
		m.t.Fatalf("unmount: %v", err)
	}
	if err := m.dev.Close(); err != nil {
		m.t.Fatal(err)
	}
	fsck(m.t, m.path)
}

// lookup walks a path from the root; the inode is the caller's to Put.
func (m *mounted) lookup(path string) (*volume.Inode, volume.Attr, error) {
	i, a := m.Root(), volume.Attr{Mode: ondisk.ModeDir}
	if err := m.Ref(i); err != nil {
		return nil, a, err
	}
	for _, name := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' }) {
		next, err := m.Lookup(bg, i, []byte(name), func(_ *volume.Inode, at *volume.Attr) {
			if at != nil {
				a = *at
			}
		})
		m.put(i)
		if err != nil {
			return nil, a, err
		}
		i = next
	}
	return i, a, nil
}

func (m *mounted) put(i *volume.Inode) {
	if i != m.Root() {
		i.Put()
	}
}

// in runs fn with the directory of path and the last component.
func (m *mounted) in(path string, fn func(d *volume.Inode, name []byte) error) error {
	d, _, err := m.lookup(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer m.put(d)
	return fn(d, []byte(filepath.Base(path)))
}

func (m *mounted) create(path string, n volume.NewInode) error {
	return m.in(path, func(d *volume.Inode, name []byte) error {
		i, err := m.Create(bg, d, name, n, nil)
		if err == nil {
			i.Put()
		}
		return err
	})
}

func (m *mounted) mkdir(path string) error {
	return m.create(path, volume.NewInode{Mode: ondisk.ModeDir | 0o755})
}

func (m *mounted) touch(path string) error {
	return m.create(path, volume.NewInode{Mode: ondisk.ModeRegular | 0o644})
}

func (m *mounted) write(path string, p []byte, off int64) error {
	i, _, err := m.lookup(path)
	if err != nil {
		return err
	}
	defer m.put(i)
	_, n, err := m.Write(bg, i, p, off, 0, nil)
	if err == nil && n != len(p) {
		err = fmt.Errorf("wrote %d of %d bytes", n, len(p))
	}
	return err
}

func (m *mounted) read(path string) ([]byte, error) {
	i, a, err := m.lookup(path)
	if err != nil {
		return nil, err
	}
	defer m.put(i)
	p := make([]byte, a.Size+100)
	n, err := m.Read(bg, i, p, 0, nil)
	return p[:n], err
}

func (m *mounted) truncate(path string, size uint64) error {
	i, _, err := m.lookup(path)
	if err != nil {
		return err
	}
	defer m.put(i)
	return m.SetAttr(bg, i, volume.SetAttr{Size: &size}, nil)
}

func (m *mounted) unlink(path string) error {
	return m.in(path, func(d *volume.Inode, name []byte) error { return m.Unlink(bg, d, name, nil) })
}

func (m *mounted) rmdir(path string) error {
	return m.in(path, func(d *volume.Inode, name []byte) error { return m.Rmdir(bg, d, name, nil) })
}

func (m *mounted) rename(from, to string, flags uint32) error {
	return m.in(from, func(od *volume.Inode, on []byte) error {
		return m.in(to, func(nd *volume.Inode, nn []byte) error { return m.Rename(bg, od, on, nd, nn, flags, nil) })
	})
}

func (m *mounted) link(from, to string) error {
	i, _, err := m.lookup(from)
	if err != nil {
		return err
	}
	defer m.put(i)
	return m.in(to, func(d *volume.Inode, name []byte) error { return m.Link(bg, i, d, name, nil) })
}

func (m *mounted) list(path string) ([]string, error) {
	d, _, err := m.lookup(path)
	if err != nil {
		return nil, err
	}
	defer m.put(d)
	var names []string
	err = m.ReadDir(bg, d, 0, func(e volume.DirEntry) bool {
		if n := string(e.Name); n != "." && n != ".." {
			names = append(names, n)
		}
		return true
	})
	return names, err
}
