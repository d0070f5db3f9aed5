package badinput

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// loop attaches an image to a loop device until the end of the test.
func (b *bench) loop(image string, args ...string) string {
	b.t.Helper()
	if os.Getuid() != 0 {
		b.t.Skip("a loop device needs root")
	}
	code, out := b.command("losetup", append(args, "--find", "--show", image)...)
	if code != 0 {
		b.t.Fatalf("losetup: %s", out)
	}
	dev := strings.TrimSpace(out)
	b.t.Cleanup(func() { b.command("losetup", "--detach", dev) })
	return dev
}

// says runs ocfuse, which must succeed and say all of the words.
func (b *bench) says(words []string, args ...string) {
	b.t.Helper()
	code, out := b.ocfuse(args...)
	for _, w := range words {
		if code != 0 || !strings.Contains(out, w) {
			b.t.Errorf("ocfuse %v: exit %d, want 0 and %q\n%s", args, code, w, out)
		}
	}
}

// readable checks a mount that refuses changes and shows what is there.
func readable(t *testing.T, mnt string) {
	t.Helper()
	if p, err := os.ReadFile(filepath.Join(mnt, "file")); err != nil || string(p) != "content" {
		t.Errorf("reading: %q, %v", p, err)
	}
	for what, err := range map[string]error{
		"create":   os.WriteFile(filepath.Join(mnt, "new"), nil, 0o600),
		"write":    os.WriteFile(filepath.Join(mnt, "file"), []byte("x"), 0o600),
		"mkdir":    os.Mkdir(filepath.Join(mnt, "dir"), 0o700),
		"remove":   os.Remove(filepath.Join(mnt, "file")),
		"rename":   os.Rename(filepath.Join(mnt, "file"), filepath.Join(mnt, "other")),
		"chmod":    os.Chmod(filepath.Join(mnt, "file"), 0o777),
		"truncate": os.Truncate(filepath.Join(mnt, "file"), 1),
		"symlink":  os.Symlink("a", filepath.Join(mnt, "link")),
	} {
		if !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v, want EROFS", what, err)
		}
	}
}

// withFile is a volume that holds one file.
func (b *bench) withFile(name string, size int64, args ...string) string {
	b.t.Helper()
	img, mnt := b.volume(name, size, args...), b.mkdir(name+".mnt")
	b.must("mount", img, mnt)
	err := os.WriteFile(filepath.Join(mnt, "file"), []byte("content"), 0o644)
	b.must("umount", mnt)
	if err != nil {
		b.t.Fatal(err)
	}
	return img
}

// TestUnknownROCompat: an unknown ro_compat feature makes the mount read-only.
func TestUnknownROCompat(t *testing.T) {
	b := newBench(t)
	img, mnt := b.withFile("v.img", 64<<20, "-M", "local"), b.mkdir("mnt")
	b.change(img, func(d ondisk.Dinode) {
		f := d.Super().Features()
		f.ROCompat |= 1 << 20
		d.Super().SetFeatures(f)
	})
	b.says([]string{"v.img", "ro-compat-0x100000", "mounted read-only"}, "mount", img, mnt)
	readable(t, mnt)
	b.says([]string{"read-only", "ro-compat-0x100000"}, "status", mnt)
	b.must("umount", mnt)
	b.says([]string{""}, "mount", "-o", "ro", img, mnt)
	readable(t, mnt)
	b.says([]string{"read-only", "as asked for"}, "status", mnt)
	b.must("umount", mnt)
	b.change(img, func(d ondisk.Dinode) {
		f := d.Super().Features()
		f.ROCompat &^= 1 << 20
		d.Super().SetFeatures(f)
	})
	b.fsck(img)
}

// TestProtectedDevice: a device that cannot be written was refused. It is mounted
// read-only if its journals are clean, whatever stack it is made for, and stays as
// it is to the last byte.
func TestProtectedDevice(t *testing.T) {
	for _, args := range [][]string{{"-M", "local"}, {"--cluster-stack", "pcmk", "--cluster-name", "demo", "-N", "2"}} {
		b := newBench(t)
		var img string
		if args[0] == "-M" {
			img = b.withFile("v.img", 100<<20, args...)
		} else {
			img = b.clusterFile("v.img")
		}
		before, err := os.ReadFile(img)
		if err != nil {
			t.Fatal(err)
		}
		dev, one, two := b.loop(img, "--read-only"), b.mkdir("one"), b.mkdir("two")
		b.says([]string{dev, "write-protected", "mounted read-only"}, "mount", dev, one)
		b.says([]string{"mounted read-only"}, "mount", "-o", "ro", dev, two)
		readable(t, one)
		readable(t, two)
		b.says([]string{"read-only", "write-protected", "stack local"}, "status", one)
		b.must("umount", one)
		b.must("umount", two)
		b.refused(1, []string{dev, "read-only", "setrw"}, "mkfs", "-q", "--yes", dev)
		if after, err := os.ReadFile(img); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%v: the image has changed: %v", args, err)
		}
		b.fsck(img)
	}
}

// clusterFile is withFile for a volume of the dlm stack.
func (b *bench) clusterFile(name string) string {
	b.t.Helper()
	img := b.volume(name, 100<<20, "--cluster-stack", "pcmk", "--cluster-name", "demo", "-N", "2")
	mnt, conf := b.mkdir(name+".mnt"), b.conf("127.77.2")
	b.must("mount", "--config", conf, "--node", "1", img, mnt)
	err := os.WriteFile(filepath.Join(mnt, "file"), []byte("content"), 0o644)
	b.must("umount", mnt)
	if err != nil {
		b.t.Fatal(err)
	}
	return img
}

// conf writes a configuration whose nodes have addresses in net.
func (b *bench) conf(net string) string {
	b.t.Helper()
	text := strings.ReplaceAll(strings.ReplaceAll(goodConf, "127.0.0.1", net+".1"), "127.0.0.2", net+".2")
	p := b.path("cluster.conf")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return p
}

// TestProtectedDirty: a write-protected volume that is in use, or was not left,
// cannot be recovered and is refused.
func TestProtectedDirty(t *testing.T) {
	b := newBench(t)
	img, mnt, other := b.withFile("v.img", 64<<20, "-M", "local"), b.mkdir("mnt"), b.mkdir("other")
	b.mount(img, mnt)
	busy, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	b.must("umount", mnt)
	crashed := b.file("crashed", 0)
	if err := os.WriteFile(crashed, busy, 0o600); err != nil {
		t.Fatal(err)
	}
	dev := b.loop(crashed, "--read-only")
	b.refused(failed, []string{dev, "write-protected", "journal of slot 0 is not clean", "setrw"}, "mount", dev, other)
	b.command("losetup", "--detach", dev)
	b.must("mount", crashed, other)
	b.must("umount", other)
	b.fsck(crashed)
}

// TestReadOnlyFilesystem: an image on a filesystem that is mounted read-only is a
// write-protected device.
func TestReadOnlyFilesystem(t *testing.T) {
	b := newBench(t)
	img, mnt, ro := b.withFile("v.img", 64<<20, "-M", "local"), b.mkdir("mnt"), b.mkdir("ro")
	if os.Getuid() != 0 {
		t.Skip("a bind mount needs root")
	}
	for _, flags := range []uintptr{syscall.MS_BIND, syscall.MS_BIND | syscall.MS_REMOUNT | syscall.MS_RDONLY} {
		if err := syscall.Mount(b.dir, ro, "", flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = syscall.Unmount(ro, syscall.MNT_DETACH) })
	b.says([]string{"write-protected", "mounted read-only"}, "mount", filepath.Join(ro, "v.img"), mnt)
	readable(t, mnt)
	b.must("umount", mnt)
	b.fsck(img)
}

// TestWithoutPermission gives a user devices and folders that are not hers.
func TestWithoutPermission(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("dropping privileges needs root")
	}
	b := newBench(t)
	img, mnt := b.volume("v.img", 64<<20, "-M", "local"), b.mkdir("mnt")
	for d := b.dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bin, err := binary()
	if err == nil {
		err = errors.Join(os.Chmod(filepath.Dir(bin), 0o755), os.Chmod(img, 0o600), os.Mkdir(b.path("run"), 0o755), os.Chown(b.path("run"), 1234, 1234))
	}
	if err != nil {
		t.Fatal(err)
	}
	user := func(mode fs.FileMode, words []string, args ...string) {
		t.Helper()
		if err := os.Chmod(img, mode); err != nil {
			t.Fatal(err)
		}
		code, out := b.command("setpriv", append([]string{"--reuid=1234", "--regid=1234", "--clear-groups", "env", "OCFUSE_RUNDIR=" + b.path("run"), bin}, args...)...)
		for _, w := range words {
			if code == 0 || !strings.Contains(out, w) {
				t.Errorf("%v by a user, image %v: exit %d, want %q\n%s", args, mode, code, w, out)
			}
		}
	}
	denied := []string{"v.img", "permission denied", "run as root"}
	user(0o600, denied, "mount", "--foreground", img, mnt)
	user(0o600, denied, "mount", img, mnt)
	user(0o644, denied, "mount", img, mnt)
	user(0o600, denied, "mkfs", "-q", "--yes", img)
	user(0o644, denied, "mkfs", "-q", "--yes", img)
	b.fsck(img)
}
