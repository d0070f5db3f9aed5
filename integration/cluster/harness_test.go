package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/cmd/ocfuse/control"
	"github.com/ocfuse/ocfuse/cmd/ocfuse/node"
	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/check"
)

// stack is a cluster stack and the label of its volumes.
type stack struct{ name, label string }

// stacks are those that every test runs on.
var stacks = []stack{{"dlm", "pcmk"}}

// Cluster is nodes on one image, each a process of the binary. When the test
// ends they leave; nothing of them may be left then, and the volume is checked.
type Cluster struct {
	t     *testing.T
	stack stack
	dir   string
	image string
	rund  string
	env   []string
	Nodes []*Node // by position; their numbers begin at 1
}

// Node is one node of a cluster, mounted or not.
type Node struct {
	c    *Cluster
	N    int
	Mnt  string
	log  string
	proc *exec.Cmd // nil: not running
	exit chan error
	dead bool // was killed: its mount may have to be detached
}

// nets numbers the loopback networks of the clusters of this process.
var nets atomic.Uint32

// onEach runs a test on a fresh cluster of n mounted nodes of each stack. env is
// added to the environment of the nodes.
func onEach(t *testing.T, n int, fn func(t *testing.T, c *Cluster), env ...string) {
	for _, s := range stacks {
		t.Run(s.name, func(t *testing.T) {
			c := newCluster(t, s, n, env...)
			for _, n := range c.Nodes {
				n.Mount()
			}
			fn(t, c)
		})
	}
}

// newCluster formats an image and describes n nodes, none of them mounted.
func newCluster(t *testing.T, s stack, n int, env ...string) *Cluster {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Fatalf("the nodes mount through FUSE: %v (modprobe fuse)", err)
	}
	dir := t.TempDir()
	c := &Cluster{t: t, stack: s, dir: dir, image: filepath.Join(dir, "volume"), rund: filepath.Join(dir, "run")}
	c.env = append(append(os.Environ(), "OCFUSE_RUNDIR="+c.rund), env...)
	// A network per process and cluster, so that tests side by side never meet.
	pid := os.Getpid()
	net := fmt.Sprintf("127.%d.%d", 128+pid%64, (pid/64*16+int(nets.Add(1)))%250)
	var conf strings.Builder
	fmt.Fprintf(&conf, "cluster:\n\theartbeat_mode = local\n\tnode_count = %d\n\tname = test\n", n)
	for k := 1; k <= n; k++ {
		fmt.Fprintf(&conf, "\nnode:\n\tnumber = %d\n\tcluster = test\n\tip_port = 7777\n\tip_address = %s.%d\n\tname = n%d\n", k, net, k, k)
		mnt := filepath.Join(dir, fmt.Sprintf("n%d", k))
		c.Nodes = append(c.Nodes, &Node{c: c, N: k, Mnt: mnt, log: mnt + ".log"})
	}
	c.write(c.conf(), conf.String())
	c.write(c.image, "")
	if err := os.Truncate(c.image, 1<<30); err != nil {
		t.Fatal(err)
	}
	c.must("mkfs", "-q", "-N", fmt.Sprint(n+n%2), "--cluster-stack", s.label, "--cluster-name", "test", c.image)
	t.Cleanup(c.finish)
	return c
}

func (c *Cluster) conf() string { return filepath.Join(c.dir, "cluster.conf") }

func (c *Cluster) write(path, text string) {
	c.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// ocfuse runs a command of the binary.
func (c *Cluster) ocfuse(args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out, msg bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = c.env, &out, &msg, time.Second
	err = cmd.Run()
	return out.String(), msg.String(), err
}

// must runs a command that has to succeed, and returns its output.
func (c *Cluster) must(args ...string) string {
	c.t.Helper()
	out, msg, err := c.ocfuse(args...)
	if err != nil {
		c.t.Fatalf("ocfuse %v: %v\n%s", args, err, msg)
	}
	return out
}

// path is a name as node k (from 0) sees it.
func (c *Cluster) path(k int, name string) string { return filepath.Join(c.Nodes[k].Mnt, name) }

// mountArgs is the command line that makes a node.
func (n *Node) mountArgs() []string {
	return []string{"mount", "--foreground", "--node", fmt.Sprint(n.N), "--config", n.c.conf(), n.c.image, n.Mnt}
}

// Mount starts the node and returns when its mount is there.
func (n *Node) Mount() {
	n.c.t.Helper()
	n.start()
	n.mounted()
}

// start starts the process.
func (n *Node) start() {
	n.c.t.Helper()
	if err := os.Mkdir(n.Mnt, 0o755); err != nil && !errors.Is(err, os.ErrExist) { // the mount of a dead node is there, too
		n.c.t.Fatal(err)
	}
	log, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		n.c.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary, n.mountArgs()...)
	cmd.Env, cmd.Stdout, cmd.Stderr = n.c.env, log, log
	if err := cmd.Start(); err != nil {
		n.c.t.Fatal(err)
	}
	n.proc, n.exit, n.dead = cmd, make(chan error, 1), false
	go func(exit chan<- error) { exit <- cmd.Wait() }(n.exit)
}

// mounted returns when the node that was started has mounted the volume.
func (n *Node) mounted() {
	n.c.t.Helper()
	cmd := n.proc
	within(n.c.t, time.Minute, fmt.Sprintf("node %d is mounted", n.N), func() error {
		select {
		case err := <-n.exit:
			n.proc = nil
			n.c.t.Errorf("node %d ended: %v; its log:\n%s", n.N, err, n.tail())
			return nil
		default:
		}
		var s node.Status
		if err := n.call("status", &s); err != nil {
			return err
		}
		if s.State != "mounted" || s.Pid != cmd.Process.Pid {
			return fmt.Errorf("its state is %s", s.State)
		}
		return nil
	})
}

// call asks the node through its control socket, as the commands do.
func (n *Node) call(op string, out any, flags ...string) error {
	args := append([]string{op, "--json", n.Mnt}, flags...)
	stdout, msg, err := n.c.ocfuse(args...)
	if err != nil {
		return fmt.Errorf("ocfuse %v: %w: %s", args, err, msg)
	}
	return json.Unmarshal([]byte(stdout), out)
}

// Status is what `ocfuse status --json` says.
func (n *Node) Status() node.Status {
	n.c.t.Helper()
	var s node.Status
	if err := n.call("status", &s); err != nil {
		n.c.t.Fatal(err)
	}
	return s
}

// Umount leaves cleanly.
func (n *Node) Umount() {
	n.c.t.Helper()
	n.c.must("umount", n.Mnt)
	n.ended(nil)
}

// ended waits for the end of the process, which must be with the given error
// (nil: a clean one).
func (n *Node) ended(want error) {
	n.c.t.Helper()
	if n.proc == nil {
		return
	}
	select {
	case err := <-n.exit:
		n.proc = nil
		if !errors.Is(err, want) {
			n.c.t.Errorf("node %d ended: %v; its log:\n%s", n.N, err, n.tail())
		}
	case <-time.After(30 * time.Second):
		n.c.t.Errorf("node %d does not end; its log:\n%s", n.N, n.tail())
	}
}

// Kill is kill -9 of the node. It returns when the process is gone.
func (n *Node) Kill() {
	n.c.t.Helper()
	if err := n.proc.Process.Kill(); err != nil {
		n.c.t.Fatal(err)
	}
	n.killed()
}

// killed waits for the end of a node that was killed.
func (n *Node) killed() {
	n.c.t.Helper()
	n.dead = true
	select {
	case <-n.exit:
		n.proc = nil
	case <-time.After(10 * time.Second):
		n.c.t.Fatalf("node %d does not end though it was killed: %s", n.N, stacksOf(n.proc.Process.Pid))
	}
}

// Detach takes away the mount of a node that was killed.
func (n *Node) Detach() {
	if _, ok, err := control.MountAt(n.Mnt); err == nil && ok {
		_ = syscall.Unmount(n.Mnt, syscall.MNT_DETACH)
	}
	n.dead = false
}

// tail is the end of the node's log.
func (n *Node) tail() string {
	b, err := os.ReadFile(n.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// finish ends the cluster: every node leaves, no process or mount is left, no
// node logged a race or a panic, and the volume is clean.
func (c *Cluster) finish() {
	for _, n := range c.Nodes {
		switch {
		case n.proc == nil:
		case c.t.Failed():
			_ = n.proc.Process.Kill()
			n.dead = true
		default:
			n.Umount()
		}
		if n.dead {
			n.Detach()
		}
	}
	within(c.t, 5*time.Second, "nothing of the cluster is left", c.leaks)
	for _, n := range c.Nodes {
		b, err := os.ReadFile(n.log)
		if err == nil && (bytes.Contains(b, []byte("DATA RACE")) || bytes.Contains(b, []byte("\ngoroutine ")) || bytes.Contains(b, []byte("panic:"))) {
			c.t.Errorf("node %d:\n%s", n.N, b)
		}
		if c.t.Failed() {
			c.t.Logf("log of node %d:\n%s", n.N, n.tail())
		}
	}
	if !c.t.Failed() {
		c.check()
	}
}

// leaks fails while a process with this cluster's environment runs, or
// something is mounted in its folder.
func (c *Cluster) leaks() error {
	mounts, err := control.Mounts()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if strings.HasPrefix(m.Point, c.dir+"/") {
			return fmt.Errorf("%s (%s) is still mounted", m.Point, m.Type)
		}
	}
	procs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return err
	}
	for _, p := range procs {
		if b, err := os.ReadFile(p); err == nil && bytes.Contains(b, []byte("OCFUSE_RUNDIR="+c.rund+"\x00")) {
			cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(p), "cmdline"))
			return fmt.Errorf("%s still runs: %s", filepath.Dir(p), bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '}))
		}
	}
	return nil
}

// check checks the volume with fsck.ocfs2 and with our own check. All nodes
// must have left.
func (c *Cluster) check() {
	c.t.Helper()
	dev, err := blockdev.Open(c.image, blockdev.Options{ReadOnly: true})
	if err != nil {
		c.t.Fatal(err)
	}
	defer dev.Close()
	r, err := check.Run(context.Background(), dev, check.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	if !r.Clean() {
		c.t.Errorf("our check: %v", r.Problems)
	}
	out, _ := exec.Command("fsck.ocfs2", "-fn", c.image).CombinedOutput() // its exit code says nothing
	text := string(out)
	if !strings.Contains(text, "All passes succeeded") || strings.Contains("\n"+text, "\n[") || strings.Contains(text, "Skipping journal") || strings.Contains(text, "Skipping orphan") {
		c.t.Errorf("fsck.ocfs2 -fn:\n%s", text)
	}
}

// within repeats fn until it succeeds; not within d is a failure.
func within(t *testing.T, d time.Duration, what string, fn func() error) {
	t.Helper()
	end := time.Now().Add(d)
	for {
		err := fn()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s: %v", d, what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stacksOf is where the threads of a process sit in the kernel.
func stacksOf(pid int) string {
	var b strings.Builder
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stack", pid))
	for _, p := range tasks {
		text, _ := os.ReadFile(p)
		fmt.Fprintf(&b, "%s\n%s", p, text)
	}
	return b.String()
}
