package posix

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMountHelper starts the program as mount(8) does for a line of /etc/fstab,
// through a link called mount.fuse.ocfuse, and unmounts with umount(8).
func TestMountHelper(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	bin, helper := filepath.Join(dir, "ocfuse"), filepath.Join(dir, "mount.fuse.ocfuse")
	img, mnt := filepath.Join(dir, "img"), filepath.Join(dir, "mnt")
	run(t, "go", "build", "-o", bin, "../../cmd/ocfuse")
	for _, err := range []error{os.Symlink(bin, helper), os.WriteFile(img, nil, 0o600), os.Truncate(img, 64<<20), os.Mkdir(mnt, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	run(t, bin, "mkfs", "-q", "-M", "local", img)
	mounted := func() bool {
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(b), " "+mnt+" ")
	}
	run(t, helper, img, mnt, "-sf", "-o", "rw,noatime", "-t", "fuse.ocfuse")
	if mounted() {
		t.Fatal("mount -f mounted")
	}
	run(t, helper, img, mnt, "-n", "-o", "rw,noatime,_netdev", "-t", "fuse.ocfuse")
	if !mounted() {
		t.Fatal("not mounted")
	}
	run(t, "umount", mnt)
	if mounted() {
		t.Fatal("still mounted")
	}
	// The node leaves behind umount(8)'s back.
	for end := time.Now().Add(30 * time.Second); strings.Contains(run(t, bin, "status"), mnt); {
		if time.Now().After(end) {
			t.Fatal("the node is still there 30 s after umount(8)")
		}
		time.Sleep(20 * time.Millisecond)
	}
	run(t, bin, "mount", img, mnt)
	run(t, bin, "umount", mnt)
	out := run(t, "fsck.ocfs2", "-fn", img)
	if !strings.Contains(out, "All passes succeeded") || strings.Contains(out, "\n[") {
		t.Errorf("fsck.ocfs2 -fn:\n%s", out)
	}
}

// hold keeps the mount $1, but not those of other tests, for a while in a mount
// namespace of its own.
const hold = `for m in $(awk '/ - fuse/ { print $5 }' /proc/self/mountinfo); do [ "$m" = "$1" ] || umount -l "$m"; done
echo; exec sleep 7`

// TestUmountHeldElsewhere: a mount that another mount namespace holds outlives its
// umount; who waits for the node to end is told why.
func TestUmountHeldElsewhere(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("making a mount namespace takes root")
	}
	dir := t.TempDir()
	t.Setenv("XDG_RUNTIME_DIR", dir)
	bin, img, mnt := filepath.Join(dir, "ocfuse"), filepath.Join(dir, "img"), filepath.Join(dir, "mnt")
	run(t, "go", "build", "-o", bin, "../../cmd/ocfuse")
	for _, err := range []error{os.WriteFile(img, nil, 0o600), os.Truncate(img, 64<<20), os.Mkdir(mnt, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	run(t, bin, "mkfs", "-q", "-M", "local", img)
	run(t, bin, "mount", img, mnt)
	holder := exec.Command("unshare", "-m", "sh", "-c", hold, "sh", mnt)
	out, err := holder.StdoutPipe()
	if err == nil {
		err = holder.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Wait() }()
	if _, err := out.Read(make([]byte, 1)); err != nil { // it has the mount now
		t.Fatal(err)
	}
	if out := run(t, bin, "umount", mnt); !strings.Contains(out, "another mount namespace") {
		t.Errorf("umount says %q", out)
	}
}
