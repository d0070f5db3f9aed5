package badinput

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// commandTime bounds every command here: what is refused is refused at once.
const commandTime = 30 * time.Second

// binary builds the program once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ocfuse-bad")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "ocfuse")
	b, err := exec.Command("go", "build", "-o", out, "../../cmd/ocfuse").CombinedOutput()
	if err != nil {
		err = errors.New(string(b))
	}
	return out, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// bench is a folder for one test, with the sockets of its nodes.
type bench struct {
	t   *testing.T
	dir string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return &bench{t, t.TempDir()}
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// command runs a program in the bench's folder; all it says is one text.
func (b *bench) command(name string, args ...string) (int, string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(bg, commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+b.dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		b.t.Fatalf("%s %v hangs:\n%s", name, args, out.String())
	}
	if cmd.ProcessState == nil {
		b.t.Fatalf("%s %v: %v", name, args, err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

func (b *bench) ocfuse(args ...string) (int, string) {
	b.t.Helper()
	path, err := binary()
	if err != nil {
		b.t.Fatal(err)
	}
	return b.command(path, args...)
}

// must runs ocfuse, which must succeed.
func (b *bench) must(args ...string) {
	b.t.Helper()
	if code, out := b.ocfuse(args...); code != 0 {
		b.t.Fatalf("ocfuse %v: exit %d\n%s", args, code, out)
	}
}

// refused runs ocfuse, which must refuse with a code and a message that has all
// of the words.
func (b *bench) refused(code int, words []string, args ...string) {
	b.t.Helper()
	got, out := b.ocfuse(args...)
	if got != code {
		b.t.Errorf("ocfuse %v: exit %d, want %d\n%s", args, got, code, out)
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			b.t.Errorf("ocfuse %v: the message lacks %q:\n%s", args, w, out)
		}
	}
	if strings.Contains(out, "goroutine ") {
		b.t.Errorf("ocfuse %v: panic:\n%s", args, out)
	}
}

// file makes a sparse file.
func (b *bench) file(name string, size int64) string {
	b.t.Helper()
	f, err := os.Create(b.path(name))
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return b.path(name)
}

// volume makes an image.
func (b *bench) volume(name string, size int64, args ...string) string {
	b.t.Helper()
	p := b.file(name, size)
	b.must(append(append([]string{"mkfs", "-q"}, args...), p)...)
	return p
}

func (b *bench) mkdir(name string) string {
	b.t.Helper()
	if err := os.Mkdir(b.path(name), 0o755); err != nil {
		b.t.Fatal(err)
	}
	return b.path(name)
}

// mount mounts in the background until the end of the test.
func (b *bench) mount(args ...string) {
	b.t.Helper()
	b.must(append([]string{"mount"}, args...)...)
	mnt := args[len(args)-1]
	b.t.Cleanup(func() {
		if code, _ := b.ocfuse("umount", mnt); code != 0 {
			_ = syscall.Unmount(mnt, syscall.MNT_DETACH)
		}
	})
}

// fsck fails the test unless the tools find nothing.
func (b *bench) fsck(image string) {
	b.t.Helper()
	code, out := b.command("fsck.ocfs2", "-fn", image)
	if code != 0 || !strings.Contains(out, "All passes succeeded") || strings.Contains(out, "\n[") {
		b.t.Errorf("fsck.ocfs2 -fn: exit %d\n%s", code, out)
	}
}

// change edits the superblock of an image.
func (b *bench) change(image string, fn func(d ondisk.Dinode)) {
	b.t.Helper()
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	g, block, err := ondisk.FindSuper(f)
	if err != nil {
		b.t.Fatal(err)
	}
	fn(ondisk.Dinode(block))
	if _, err := f.WriteAt(block, int64(ondisk.SuperBlkno*g.BlockSize)); err != nil {
		b.t.Fatal(err)
	}
}

const (
	failed = 32 // mount(8): the mount failed
	usage  = 1  // mount(8): wrong arguments
)

// TestWrongDevice gives mount what is no volume, or not one it can use.
func TestWrongDevice(t *testing.T) {
	b := newBench(t)
	mnt := b.mkdir("mnt")
	random := b.file("random", 0)
	noise := make([]byte, 4<<20)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		noise[i] = byte(x)
	}
	if err := os.WriteFile(random, noise, 0o600); err != nil {
		t.Fatal(err)
	}
	ext4 := b.file("ext4", 16<<20)
	if code, out := b.command("mkfs.ext4", "-q", ext4); code != 0 {
		t.Fatal(out)
	}
	truncated := b.volume("truncated", 64<<20, "-M", "local")
	if err := os.Truncate(truncated, 40<<20); err != nil {
		t.Fatal(err)
	}
	unknown := b.volume("unknown", 64<<20, "-M", "local")
	b.change(unknown, func(d ondisk.Dinode) {
		f := d.Super().Features()
		f.Incompat |= 1 << 30
		d.Super().SetFeatures(f)
	})
	o2cb := b.volume("o2cb", 100<<20, "--cluster-stack", "o2cb", "--cluster-name", "demo")
	for _, c := range []struct {
		device string
		words  []string
	}{
		{b.path("nosuch"), []string{"nosuch", "no such file", "check the name"}},
		{b.dir, []string{b.dir, "is a directory"}},
		{"/dev/null", []string{"/dev/null", "character device"}},
		{b.file("empty", 0), []string{"empty", "too small", "0 bytes"}},
		{random, []string{"random", "no OCFS2 superblock", "is this the device you mean"}},
		{ext4, []string{"ext4", "no OCFS2 superblock"}},
		{truncated, []string{"truncated", "41943040 bytes", "67108864"}},
		{unknown, []string{"unknown", "feature", "0x40000000"}},
		{o2cb, []string{"o2cb", "no cluster stack", "o2cb", "relabel"}},
	} {
		b.refused(failed, c.words, "mount", "--foreground", "--node", "1", c.device, mnt)
		b.refused(failed, c.words, "mount", "--node", "1", c.device, mnt)
	}
}

// TestWrongMountPoint also sees that the volume stays usable.
func TestWrongMountPoint(t *testing.T) {
	b := newBench(t)
	img := b.volume("v.img", 64<<20, "-M", "local")
	file := b.file("file", 0)
	b.refused(failed, []string{"mount point", "none", "no such file", "make the directory"}, "mount", "--foreground", img, b.path("none"))
	b.refused(failed, []string{"mount point", "no such file"}, "mount", "--foreground", img, b.path("no/where"))
	b.refused(failed, []string{"mount point", "file", "not a directory"}, "mount", "--foreground", img, file)
	b.refused(failed, []string{"mount point", "none", "no such file"}, "mount", img, b.path("none"))
	b.refused(usage, nil, "mount", img)
	b.refused(usage, []string{"nonsense"}, "mount", "-o", "nonsense", img, b.dir)
	b.fsck(img)
}

// TestMountPointTaken: a symbolic link was taken for the mount point itself, so
// that the mount was not found again; a mount in use says so.
func TestMountPointTaken(t *testing.T) {
	b := newBench(t)
	img, mnt := b.volume("v.img", 64<<20, "-M", "local"), b.mkdir("mnt")
	if err := os.Symlink(mnt, b.path("link")); err != nil {
		t.Fatal(err)
	}
	b.refused(failed, []string{"link", "symbolic link", "name the directory itself"}, "mount", img, b.path("link"))
	b.refused(failed, []string{"mnt", "no ocfuse node is mounted there"}, "umount", mnt)
	b.refused(1, []string{"mnt", "no ocfuse node is mounted there"}, "status", mnt)
	b.refused(1, []string{"mnt", "no ocfuse node is mounted there"}, "locks", mnt)
	b.mount(img, mnt)
	f, err := os.Create(filepath.Join(mnt, "open"))
	if err != nil {
		t.Fatal(err)
	}
	b.refused(failed, []string{"mnt", "in use", "fuser -m", "--force"}, "umount", mnt)
	b.refused(2, []string{"members", "want set LIST"}, "members", mnt, "put", "1")
	b.refused(2, []string{`"x" is not a node number`}, "members", mnt, "set", "1", "x")
	b.refused(1, []string{"stack local", "cannot be set by hand"}, "members", mnt, "set", "1")
	f.Close()
	var node struct {
		Pid int `json:"pid"`
	}
	_, out := b.ocfuse("status", "--json", mnt)
	if err := json.Unmarshal([]byte(out), &node); err != nil || node.Pid == 0 {
		t.Fatalf("%v in %s", err, out)
	}
	if err := syscall.Kill(node.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	b.refused(failed, []string{"mnt", "does not answer", "stopped"}, "mount", img, mnt)
	if err := syscall.Kill(node.Pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.must("umount", mnt)
	b.fsck(img)
}

// TestWrongStack: --stack could choose another stack than the other nodes of the
// volume use, which then knew nothing of this one's locks.
func TestWrongStack(t *testing.T) {
	b := newBench(t)
	mnt, conf := b.mkdir("mnt"), b.conf("127.77.3")
	local := b.volume("local", 64<<20, "-M", "local")
	o2cb := b.volume("o2cb", 100<<20, "--cluster-stack", "o2cb", "--cluster-name", "demo")
	pcmk := b.volume("pcmk", 100<<20, "--cluster-stack", "pcmk", "--cluster-name", "demo")
	classic := b.volume("classic", 100<<20, "-M", "cluster")
	for _, c := range []struct {
		device, stack string
		words         []string
	}{
		{local, "dlm", []string{"local", "--stack dlm", "made for the stack local"}},
		{pcmk, "local", []string{"pcmk", "--stack local", "made for the stack dlm"}},
		{pcmk, "o2cb", []string{"pcmk", "--stack o2cb", "made for the stack dlm"}},
		{pcmk, "nonsense", []string{"pcmk", "--stack nonsense", "made for the stack dlm"}},
		{o2cb, "dlm", []string{"o2cb", `labelled "o2cb"`, "relabel"}},
		{o2cb, "local", []string{"o2cb", `labelled "o2cb"`, "relabel"}},
		{classic, "dlm", []string{"classic", `labelled ""`, "relabel"}},
	} {
		b.refused(failed, c.words, "mount", "--foreground", "--config", conf, "--node", "1", "--stack", c.stack, c.device, mnt)
	}
	b.must("mount", "--stack", "local", local, mnt)
	b.must("umount", mnt)
	b.refused(failed, []string{"membership", "nonsense"}, "mount", "--config", conf, "--node", "1", "--membership", "nonsense", pcmk, mnt)
	for _, img := range []string{local, o2cb, pcmk, classic} {
		b.fsck(img)
	}
}

// TestWrongFormat gives mkfs what it must refuse or ask about.
func TestWrongFormat(t *testing.T) {
	b := newBench(t)
	img, mnt := b.withFile("v.img", 64<<20, "-M", "local"), b.mkdir("mnt")
	before, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	ext4 := b.file("ext4", 16<<20)
	if code, out := b.command("mkfs.ext4", "-q", ext4); code != 0 {
		t.Fatal(out)
	}
	b.mount(img, mnt)
	for _, c := range [][]string{{"--yes"}, {"--yes", "--force"}, {"--yes", "-M", "local"}} {
		b.refused(1, []string{"v.img", "in use", "unmount it"}, append(append([]string{"mkfs", "-q"}, c...), img)...)
	}
	b.must("umount", mnt)
	for _, c := range []struct {
		words []string
		args  []string
	}{
		{[]string{"v.img", "ocfs2", "will be lost", "not confirmed", "--yes"}, []string{img}}, // no answer
		{[]string{"ext4", "will be lost", "not confirmed"}, []string{ext4}},
		{[]string{"too small"}, []string{"--yes", b.file("tiny", 100<<10)}},
		{[]string{"too small"}, []string{"--yes", b.file("none", 0)}},
		{[]string{"nosuch", "no such file"}, []string{"--yes", b.path("nosuch")}},
		{[]string{"is a directory"}, []string{"--yes", b.dir}},
		{[]string{"block size 3000"}, []string{"--yes", "-b", "3000", img}},
		{[]string{"--block-size", `"0"`}, []string{"--yes", "-b", "0", img}},
		{[]string{"--cluster-size", `"x"`}, []string{"--yes", "-C", "x", img}},
		{[]string{"cluster size 2097152"}, []string{"--yes", "-C", "2M", img}},
		{[]string{"256 node slots", "1 to 255"}, []string{"--yes", "-N", "256", img}},
		{[]string{"journal of 1024 bytes", "at least 4194304"}, []string{"--yes", "-J", "size=1K", img}},
		{[]string{"do not fit"}, []string{"--yes", "-J", "size=1G", img}},
		{[]string{`"block65"`, "block32 or block64"}, []string{"--yes", "-J", "block65", img}},
		{[]string{"label", "at most 63 bytes"}, []string{"--yes", "-L", strings.Repeat("l", 64), img}},
		{[]string{"--uuid", "32 hexadecimal digits"}, []string{"--yes", "-U", "12", img}},
		{[]string{"--mount", `"nfs"`}, []string{"--yes", "-M", "nfs", img}},
		{[]string{"unknown feature", "nonsense"}, []string{"--yes", "--fs-features", "nonsense", img}},
		{[]string{"cluster name missing"}, []string{"--yes", "--cluster-stack", "pcmk", img}},
		{[]string{"BLOCKS", `"many"`}, []string{"--yes", img, "many"}},
		{[]string{"asked for, the device has"}, []string{"--yes", img, "999999999"}},
		{[]string{"unknown flag", "--help"}, []string{"--nonsense", img}},
		{[]string{"accepts between 1 and 2 arg", "--help"}, nil},
	} {
		b.refused(1, c.words, append([]string{"mkfs", "-q"}, c.args...)...)
	}
	if after, err := os.ReadFile(img); err != nil || !bytes.Equal(before, after) {
		t.Errorf("a refused mkfs has changed the volume: %v", err)
	}
	b.fsck(img)
}

// TestWrongFlags gives commands flags and arguments that they do not have.
func TestWrongFlags(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		code  int
		words []string
		args  []string
	}{
		{1, []string{"unknown flag: --nonsense", "--help"}, []string{"mount", "--nonsense", "a", "b"}},
		{1, []string{"accepts 2 arg"}, []string{"mount", "a"}},
		{1, []string{`"x"`, "--node"}, []string{"mount", "--node", "x", "a", "b"}},
		{1, []string{"nonsense=1", "is not known"}, []string{"mount", "-o", "nonsense=1", "a", "b"}},
		{1, []string{"commit", "not a number"}, []string{"mount", "-o", "commit=soon", "a", "b"}},
		{1, []string{"ro=1: takes no value"}, []string{"mount", "-o", "ro=1", "a", "b"}},
		{1, []string{"quotas are not supported"}, []string{"mount", "-o", "rw,usrquota", "a", "b"}},
		{1, []string{"--log-level", "nonsense"}, []string{"mount", "--log-level", "nonsense", "a", "b"}},
		{1, []string{"accepts 1 arg"}, []string{"umount"}},
		{2, []string{"unknown flag"}, []string{"status", "--nonsense"}},
		{2, []string{"unknown command", "nonsense"}, []string{"nonsense"}},
		{2, []string{"accepts 1 arg"}, []string{"locks"}},
	} {
		b.refused(c.code, c.words, c.args...)
	}
}

// TestSecondLocalMount: a volume of the local stack has no locks between its
// users. The claim ends with the mount.
func TestSecondLocalMount(t *testing.T) {
	b := newBench(t)
	img := b.volume("v.img", 64<<20, "-M", "local")
	one, two := b.mkdir("one"), b.mkdir("two")
	b.mount(img, one)
	busy := []string{"v.img", "in use by another process", "unmount it there first"}
	start := time.Now()
	b.refused(failed, busy, "mount", "--foreground", img, two)
	b.refused(failed, busy, "mount", img, two)
	b.refused(failed, []string{"mounted there already"}, "mount", img, one)
	b.refused(1, []string{"in use"}, "mkfs", "-q", "--yes", img)
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("refusing took %v", d)
	}
	if err := os.WriteFile(filepath.Join(one, "still"), []byte("there"), 0o600); err != nil {
		t.Error(err)
	}
	b.must("umount", one)
	b.mount(img, two)
	b.must("umount", two)
	b.fsck(img)
}

const goodConf = `cluster:
	heartbeat_mode = local
	node_count = 2
	name = demo

node:
	name = a
	cluster = demo
	number = 1
	ip_address = 127.0.0.1
	ip_port = 7777

node:
	name = b
	cluster = demo
	number = 0
	ip_address = 127.0.0.2
	ip_port = 7777
`

// TestWrongNode gives the dlm stack node numbers and configurations that cannot
// work.
func TestWrongNode(t *testing.T) {
	b := newBench(t)
	mnt := b.mkdir("mnt")
	img := b.volume("v.img", 100<<20, "--cluster-stack", "pcmk", "--cluster-name", "demo", "-N", "2")
	conf, bad := b.path("good.conf"), b.path("bad.conf")
	for name, text := range map[string]string{conf: goodConf, bad: strings.Replace(goodConf, "number = 1", "number = one", 1)} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mount := func(conf string, node ...string) []string {
		return append(append([]string{"mount", "--foreground", "--config", conf}, node...), img, mnt)
	}
	b.refused(usage, []string{"which node", "--node"}, mount(conf)...)
	b.refused(failed, []string{"node number 0", "cluster.conf"}, mount(conf, "--node", "0")...)
	b.refused(usage, []string{"node 9", "not in the cluster configuration"}, mount(conf, "--node", "9")...)
	b.refused(usage, []string{"bad.conf:9:11", `number = "one"`, "0 to 254"}, mount(bad, "--node", "1")...)
	b.refused(usage, []string{"none.conf", "no such file", "--config"}, mount(b.path("none.conf"), "--node", "1")...)
	b.fsck(img)
}

// TestSameNodeTwice starts one number twice on one host.
func TestSameNodeTwice(t *testing.T) {
	b := newBench(t)
	one, two := b.mkdir("one"), b.mkdir("two")
	img := b.volume("v.img", 100<<20, "--cluster-stack", "pcmk", "--cluster-name", "demo", "-N", "2")
	conf := b.path("good.conf")
	text := strings.ReplaceAll(strings.ReplaceAll(goodConf, "127.0.0.1", "127.77.1.1"), "127.0.0.2", "127.77.1.2")
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.mount("--config", conf, "--node", "1", img, one)
	start := time.Now()
	b.refused(failed, []string{"node 1", "this host"}, "mount", "--config", conf, "--node", "1", img, two)
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("refusing took %v", d)
	}
	if err := os.WriteFile(filepath.Join(one, "still"), []byte("there"), 0o600); err != nil {
		t.Error(err)
	}
	b.must("umount", one)
	b.fsck(img)
}

// TestFullVolume fills a volume, and uses it again.
func TestFullVolume(t *testing.T) {
	b := newBench(t)
	img, mnt := b.volume("v.img", 32<<20, "-M", "local"), b.mkdir("mnt")
	b.mount(img, mnt)
	err := os.WriteFile(filepath.Join(mnt, strings.Repeat("n", 256)), nil, 0o600)
	if !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("a name of 256 bytes: %v", err)
	}
	if err := os.WriteFile(filepath.Join(mnt, strings.Repeat("n", 255)), []byte("x"), 0o600); err != nil {
		t.Errorf("a name of 255 bytes: %v", err)
	}
	for round := range 3 {
		fill(t, filepath.Join(mnt, "big"))
		if err := os.WriteFile(filepath.Join(mnt, "more"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("round %d: a file on a full volume: %v", round, err)
		}
		for _, name := range []string{"big", "more"} {
			if err := os.Remove(filepath.Join(mnt, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		}
		await(t, mnt, 15<<20)
	}
	b.must("umount", mnt)
	b.fsck(img)
}

// fill writes until the volume is full; what was accepted is there.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	total, chunk := int64(0), bytes.Repeat([]byte("full"), 16<<10)
	for err == nil && total < 64<<20 {
		var n int
		n, err = f.Write(chunk)
		total += int64(n)
	}
	if err == nil {
		err = f.Sync()
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("after %d bytes: %v, want ENOSPC", total, err)
	}
	if total < 15<<20 {
		t.Errorf("full after %d bytes of 32 MiB", total)
	}
	if st, err := f.Stat(); err != nil || st.Size() != total {
		t.Errorf("%d bytes were accepted, the file: %v %v", total, st, err)
	}
}

// await waits until what was deleted is free.
func await(t *testing.T, mnt string, want uint64) {
	t.Helper()
	var st syscall.Statfs_t
	for range 1200 {
		if err := syscall.Statfs(mnt, &st); err != nil {
			t.Fatal(err)
		}
		if st.Bfree*uint64(st.Bsize) >= want {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%d bytes are free a minute after the files were deleted, want %d", st.Bfree*uint64(st.Bsize), want)
}
