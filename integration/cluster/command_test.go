package cluster

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocfuse/ocfuse/cmd/ocfuse/control"
)

// TestCommands: what the commands say about nodes that run, and what they do to
// them.
func TestCommands(t *testing.T) {
	onEach(t, 2, func(t *testing.T, c *Cluster) {
		statusShape(t, c)
		locksShape(t, c)
		membersShape(t, c)
		busyUmount(t, c)
		terminated(t, c)
		forced(t, c)
		staleMount(t, c)
		staleUmount(t, c)
		secondNode(t, c)
		nodeZero(t, c)
	})
}

// decode returns the JSON that a command printed.
func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	do(t, json.Unmarshal([]byte(text), &v))
	return v
}

// integer fails unless m[key] is a whole number.
func integer(t *testing.T, m map[string]json.RawMessage, key string) int64 {
	t.Helper()
	var n int64
	if err := json.Unmarshal(m[key], &n); err != nil {
		t.Errorf("%s is %s: %v", key, m[key], err)
	}
	return n
}

func statusShape(t *testing.T, c *Cluster) {
	ask := func() (requests, messages int64) {
		m := decode[map[string]json.RawMessage](t, c.must("status", "--json", c.Nodes[1].Mnt))
		if integer(t, m, "pid") != int64(c.Nodes[1].proc.Process.Pid) || integer(t, m, "node") != 2 || string(m["state"]) != `"mounted"` {
			t.Errorf("status: %v", m)
		}
		return integer(t, m, "fuse_requests"), integer(t, m, "messages_sent")
	}
	r0, m0 := ask()
	put(t, c.path(0, "status"), "x")
	expect(t, c.path(1, "status"), "x")
	r1, m1 := ask()
	if r1 <= r0 || m1 <= m0 {
		t.Errorf("requests went from %d to %d, messages from %d to %d", r0, r1, m0, m1)
	}
	if list := decode[[]map[string]json.RawMessage](t, c.must("status", "--json")); len(list) != 2 {
		t.Errorf("status of all: %d nodes", len(list))
	}
	if out := c.must("status", c.Nodes[0].Mnt); !strings.Contains(out, "mounted") || !strings.Contains(out, c.Nodes[0].Mnt) {
		t.Errorf("status:\n%s", out)
	}
}

func locksShape(t *testing.T, c *Cluster) {
	do(t, os.MkdirAll(c.path(0, "folder/below"), 0o755))
	put(t, c.path(0, "folder/below/named"), "x")
	f, err := os.Open(c.path(1, "folder/below/named"))
	do(t, err)
	defer f.Close()
	paths := map[string]bool{}
	list := decode[[]map[string]json.RawMessage](t, c.must("locks", "--json", c.Nodes[1].Mnt))
	for _, l := range list {
		var path string
		if raw, ok := l["path"]; ok {
			do(t, json.Unmarshal(raw, &path))
		}
		paths[path] = true
	}
	if !paths["/folder/below/named"] {
		t.Errorf("no lock has the path /folder/below/named: %v", paths)
	}
	if out := c.must("locks", c.Nodes[1].Mnt); !strings.Contains(out, "/folder/below/named") {
		t.Errorf("locks:\n%s", out)
	}
	g, err := os.Open(c.path(0, "folder/below/named"))
	do(t, err)
	defer g.Close()
	do(t, unix.Flock(int(g.Fd()), unix.LOCK_EX))
	cmd := exec.Command("flock", "-x", c.path(1, "folder/below/named"), "true")
	do(t, cmd.Start())
	within(t, 3*time.Second, "locks --busy shows who waits", func() error {
		list, err := c.Nodes[1].locks("--busy")
		if err == nil && (len(list) != 1 || list[0].Waiters != 1 || list[0].Cluster == nil) {
			return &os.PathError{Op: "locks", Path: "--busy", Err: syscall.ENOENT}
		}
		return err
	})
	do(t, unix.Flock(int(g.Fd()), unix.LOCK_UN))
	do(t, cmd.Wait())
}

func membersShape(t *testing.T, c *Cluster) {
	type members struct {
		Stack   string `json:"stack"`
		View    uint64 `json:"view"`
		Fencing string `json:"fencing"`
		Members []struct {
			Node  uint32 `json:"node"`
			Name  string `json:"name"`
			Addr  string `json:"addr"`
			State string `json:"state"`
		} `json:"members"`
	}
	for _, n := range c.Nodes {
		m := decode[members](t, c.must("members", "--json", n.Mnt))
		if m.Stack != c.stack.name || m.View == 0 || m.Fencing == "" || len(m.Members) != 2 {
			t.Fatalf("members: %+v", m)
		}
		for k, x := range m.Members {
			if int(x.Node) != k+1 || x.Addr == "" || x.State == "" {
				t.Errorf("members: %+v", x)
			}
		}
	}
}

// busyUmount: a mount that is in use stays, and works.
func busyUmount(t *testing.T, c *Cluster) {
	f, err := os.Create(c.path(1, "busy"))
	do(t, err)
	defer f.Close()
	_, msg, err := c.ocfuse("umount", c.Nodes[1].Mnt)
	if err == nil || !strings.Contains(msg, "in use") {
		t.Fatalf("umount of a busy mount: %v, %s", err, msg)
	}
	_, err = f.WriteString("goes on")
	do(t, err)
	expect(t, c.path(0, "busy"), "goes on")
}

// terminated: SIGTERM with an open file: what was written is there, the node
// ends cleanly, its program gets errors.
func terminated(t *testing.T, c *Cluster) {
	f, err := os.Create(c.path(1, "terminated"))
	do(t, err)
	_, err = f.WriteString("written before")
	do(t, err)
	do(t, c.Nodes[1].proc.Process.Signal(syscall.SIGTERM))
	c.Nodes[1].ended(nil)
	if _, err := f.WriteString("after"); err == nil {
		t.Error("writing through a mount that has ended works")
	}
	f.Close()
	expect(t, c.path(0, "terminated"), "written before")
	c.Nodes[1].Mount()
	expect(t, c.path(1, "terminated"), "written before")
}

// forced: umount --force with a file that is open, and one that is removed but
// open, whose space is back when the node is.
func forced(t *testing.T, c *Cluster) {
	before := free(t, c, 0)
	putBig(t, c, 1, "orphan")
	f, err := os.Open(c.path(1, "orphan"))
	do(t, err)
	defer f.Close()
	do(t, os.Remove(c.path(1, "orphan")))
	c.must("umount", "--force", c.Nodes[1].Mnt)
	c.Nodes[1].ended(nil)
	if _, ok, err := control.MountAt(c.Nodes[1].Mnt); err != nil || ok {
		t.Errorf("the mount is still there: %v", err)
	}
	c.Nodes[1].Mount() // deletes the orphans of its slot
	back(t, c, "the last user left by force, and is back", before)
}

// staleMount: the mount of a dead node stays, so that nobody writes into the
// directory below it, and the next mount cleans it.
func staleMount(t *testing.T, c *Cluster) {
	n := c.Nodes[1]
	n.Kill()
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		want(t, "mkdir in a dead mount", os.Mkdir(filepath.Join(n.Mnt, "below"), 0o755), syscall.ENOTCONN)
	}
	_, msg, err := c.ocfuse("status", n.Mnt)
	if err == nil || !strings.Contains(msg, "has died") {
		t.Errorf("status of a dead node: %v, %s", err, msg)
	}
	n.Mount()
	expect(t, c.path(1, "terminated"), "written before")
}

// staleUmount: umount cleans it as well.
func staleUmount(t *testing.T, c *Cluster) {
	n := c.Nodes[1]
	n.Kill()
	c.must("umount", n.Mnt)
	if _, ok, err := control.MountAt(n.Mnt); err != nil || ok {
		t.Errorf("the mount is still there: %v", err)
	}
	n.Mount()
}

// secondNode: one number twice on one host is refused, at once and clearly.
func secondNode(t *testing.T, c *Cluster) {
	dir := filepath.Join(c.dir, "second")
	do(t, os.Mkdir(dir, 0o755))
	start := time.Now()
	_, msg, err := c.ocfuse("mount", "--node", "2", "--config", c.conf(), c.image, dir)
	if err == nil || !strings.Contains(msg, "node 2") || !strings.Contains(msg, "this host") {
		t.Errorf("a second node 2: %v, %s", err, msg)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("refusing took %v", d)
	}
	put(t, c.path(1, "second"), "node 2 still works")
	expect(t, c.path(0, "second"), "node 2 still works")
}

// nodeZero: the lock manager of dlm has no node 0.
func nodeZero(t *testing.T, c *Cluster) {
	if c.stack.name != "dlm" {
		return
	}
	conf := filepath.Join(c.dir, "zero.conf")
	b, err := os.ReadFile(c.conf())
	do(t, err)
	c.write(conf, strings.Replace(string(b), "number = 1", "number = 0", 1))
	_, msg, err := c.ocfuse("mount", "--node", "0", "--config", conf, c.image, filepath.Join(c.dir, "second"))
	if err == nil || !strings.Contains(msg, "number 0") {
		t.Errorf("node 0: %v, %s", err, msg)
	}
}
