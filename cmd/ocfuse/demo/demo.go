package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/ocfuse/ocfuse/cmd/ocfuse/control"
	"github.com/ocfuse/ocfuse/cmd/ocfuse/node"
	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/check"
	"github.com/ocfuse/ocfuse/fs/mkfs"
)

// Options say how to run.
type Options struct {
	Dir   string // work folder; "" for one in the temporary directory
	Size  int64  // of the image; 0: 512 MiB
	Keep  bool   // leave the nodes mounted
	JSON  bool   // one object a line instead of sentences
	Out   io.Writer
	Stack string // "dlm"
}

const nodes = 3

// Demo is one run.
type Demo struct {
	o     Options
	ctx   context.Context
	dir   string
	image string
	self  string
	addr  [nodes + 1]string
	proc  [nodes + 1]*exec.Cmd
	exit  [nodes + 1]chan error
	start time.Time
}

// Run tells the story.
func Run(ctx context.Context, o Options) (err error) {
	d := &Demo{o: o, ctx: ctx, start: time.Now()}
	if d.o.Size == 0 {
		d.o.Size = 512 << 20
	}
	if d.self, err = os.Executable(); err != nil {
		return err
	}
	if d.dir = o.Dir; d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "ocfuse-demo."); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, d.cleanup(err)) }()
	for _, step := range []func() error{d.format, d.join, d.see, d.cached, d.append, d.race, d.death, d.back} {
		if err := step(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if o.Keep {
		d.lookAround()
		return nil
	}
	return d.leave()
}

// facts are the figures of a sentence, for --json; times in seconds.
type facts map[string]any

// say tells one sentence, which was checked before.
func (d *Demo) say(step string, f facts, format string, args ...any) {
	since, text := time.Since(d.start).Seconds(), fmt.Sprintf(format, args...)
	if !d.o.JSON {
		fmt.Fprintf(d.o.Out, "%6.2f s  %s\n", since, text)
		return
	}
	line := map[string]any{"seconds": since, "step": step, "text": text}
	maps.Copy(line, f)
	_ = json.NewEncoder(d.o.Out).Encode(line) // an output that is gone is noticed by nobody
}

func (d *Demo) mnt(n int) string { return filepath.Join(d.dir, fmt.Sprintf("node%d", n)) }

// path is a file as node n sees it.
func (d *Demo) path(n int, name string) string { return filepath.Join(d.mnt(n), name) }

func (d *Demo) format() error {
	d.image = filepath.Join(d.dir, "volume.img")
	f, err := os.Create(d.image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(d.o.Size), f.Close()); err != nil {
		return err
	}
	dev, err := blockdev.Open(d.image, blockdev.Options{Claim: blockdev.ClaimExclusive})
	if err != nil {
		return err
	}
	defer dev.Close()
	err = mkfs.Format(d.ctx, dev, mkfs.Options{
		Label: "demo", Slots: nodes + 1, Clustered: true, Cluster: mkfs.Cluster{Stack: "pcmk", Name: "demo"},
		Owner: mkfs.Owner{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())},
	})
	if err != nil {
		return fmt.Errorf("formatting the image: %w", err)
	}
	d.say("format", facts{"mib": d.o.Size >> 20, "image": d.image}, "An OCFS2 volume of %d MiB was made in %s, as mkfs.ocfs2 makes it.", d.o.Size>>20, d.image)
	return nil
}

// join starts the nodes, each at its own loopback address.
func (d *Demo) join() error {
	net := fmt.Sprintf("127.%d.%d", 64+rand.IntN(64), rand.IntN(250))
	var conf strings.Builder
	fmt.Fprintf(&conf, "cluster:\n\theartbeat_mode = local\n\tnode_count = %d\n\tname = demo\n", nodes)
	for n := 1; n <= nodes; n++ {
		d.addr[n] = fmt.Sprintf("%s.%d", net, n)
		fmt.Fprintf(&conf, "\nnode:\n\tnumber = %d\n\tcluster = demo\n\tip_port = 7777\n\tip_address = %s\n\tname = node%d\n", n, d.addr[n], n)
	}
	if err := os.WriteFile(d.config(), []byte(conf.String()), 0o644); err != nil {
		return err
	}
	for n := 1; n <= nodes; n++ {
		t := time.Now()
		if err := d.mount(n); err != nil {
			return err
		}
		took := time.Since(t)
		d.say("join", facts{"node": n, "took": took.Seconds()}, "Node %d (%s) joined the cluster and mounted the volume in %v.", n, d.addr[n], took.Round(time.Millisecond))
	}
	return nil
}

func (d *Demo) config() string { return filepath.Join(d.dir, "cluster.conf") }

// mount starts one node and waits until its mount point is there.
func (d *Demo) mount(n int) error {
	if err := os.MkdirAll(d.mnt(n), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(d.mnt(n)+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(d.self, "mount", "--foreground", "--node", fmt.Sprint(n), "--config", d.config(), d.image, d.mnt(n))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	exit := make(chan error, 1)
	go func() { exit <- cmd.Wait() }()
	d.proc[n], d.exit[n] = cmd, exit
	tick, limit := time.NewTicker(5*time.Millisecond), time.NewTimer(2*time.Minute)
	defer tick.Stop()
	defer limit.Stop()
	for {
		select {
		case err := <-exit:
			d.proc[n] = nil
			return fmt.Errorf("node %d ended: %w; its log:\n%s", n, err, tail(d.mnt(n)+".log"))
		case <-d.ctx.Done():
			return d.ctx.Err()
		case <-limit.C:
			return fmt.Errorf("node %d is not mounted after 2 minutes; its log:\n%s", n, tail(d.mnt(n)+".log"))
		case <-tick.C:
		}
		if at, ok, err := control.MountAt(d.mnt(n)); err == nil && ok && at.Type == "fuse.ocfuse" {
			return nil
		}
	}
}

// pause lets the nodes work for a while; shorter when the run is cancelled, which
// Run notices after the step.
func (d *Demo) pause(while time.Duration) {
	t := time.NewTimer(while)
	defer t.Stop()
	select {
	case <-t.C:
	case <-d.ctx.Done():
	}
}

// tail returns the last lines of a log.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

func (d *Demo) status(n int) (node.Status, error) {
	var s node.Status
	err := control.Call(d.ctx, d.mnt(n), "status", nil, &s)
	return s, err
}

// traffic is what has travelled so far.
type traffic struct{ messages, handoffs, requests uint64 }

func (t traffic) facts(took time.Duration) facts {
	return facts{"messages": t.messages, "handoffs": t.handoffs, "requests": t.requests, "took": took.Seconds()}
}

func (d *Demo) traffic() (traffic, error) {
	var t traffic
	for n := 1; n <= nodes; n++ {
		if d.proc[n] == nil {
			continue
		}
		s, err := d.status(n)
		if err != nil {
			return t, err
		}
		t.messages += s.MessagesSent
		t.handoffs += s.Locks["lowered"]
		t.requests += s.FuseRequests
	}
	return t, nil
}

// during runs fn and returns what travelled meanwhile.
func (d *Demo) during(fn func() error) (traffic, time.Duration, error) {
	a, err := d.traffic()
	if err != nil {
		return a, 0, err
	}
	t := time.Now()
	if err := fn(); err != nil {
		return a, 0, err
	}
	took := time.Since(t)
	b, err := d.traffic()
	return traffic{b.messages - a.messages, b.handoffs - a.handoffs, b.requests - a.requests}, took, err
}

// leave unmounts the nodes and checks the volume.
func (d *Demo) leave() error {
	for n := 1; n <= nodes; n++ {
		if err := control.Call(d.ctx, d.mnt(n), "umount", node.UmountArgs{}, nil); err != nil {
			return fmt.Errorf("node %d does not leave: %w", n, err)
		}
		if err := <-d.exit[n]; err != nil {
			return fmt.Errorf("node %d left with an error: %w; its log:\n%s", n, err, tail(d.mnt(n)+".log"))
		}
		d.proc[n] = nil
	}
	d.say("leave", nil, "All nodes left.")
	return d.fsck()
}

// fsck checks the volume with our own check, and with fsck.ocfs2 if there is one.
func (d *Demo) fsck() error {
	dev, err := blockdev.Open(d.image, blockdev.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer dev.Close()
	r, err := check.Run(d.ctx, dev, check.Options{})
	if err != nil {
		return err
	}
	if !r.Clean() {
		return fmt.Errorf("the volume is not clean: %v", r.Problems)
	}
	with := "Our own check"
	if path, err := exec.LookPath("fsck.ocfs2"); err == nil {
		out, _ := exec.Command(path, "-fn", d.image).CombinedOutput() // its exit code says nothing
		if strings.Contains("\n"+string(out), "\n[") || !strings.Contains(string(out), "All passes succeeded") {
			return fmt.Errorf("fsck.ocfs2 complains:\n%s", out)
		}
		with += " and fsck.ocfs2"
	}
	d.say("check", facts{"clean": true}, "%s find the volume clean.", with)
	return nil
}

func (d *Demo) lookAround() {
	points := []string{d.mnt(1), d.mnt(2), d.mnt(3)}
	d.say("keep", facts{"mount_points": points, "dir": d.dir}, "The nodes stay mounted. Look around:")
	if d.o.JSON {
		return
	}
	for n := 1; n <= nodes; n++ {
		fmt.Fprintf(d.o.Out, "    ls %s; ocfuse status %s; ocfuse locks %s\n", d.mnt(n), d.mnt(n), d.mnt(n))
	}
	fmt.Fprintf(d.o.Out, "  and in the end, for each: ocfuse umount MOUNTPOINT; then remove %s\n", d.dir)
}

// cleanup ends what is left and removes the work folder, unless it is wanted.
func (d *Demo) cleanup(failed error) error {
	if d.o.Keep && failed == nil {
		return nil
	}
	for n := 1; n <= nodes; n++ {
		if d.proc[n] != nil {
			_ = d.proc[n].Process.Kill()
			<-d.exit[n]
		}
		d.detach(n)
	}
	if d.o.Keep || d.o.Dir != "" || failed != nil {
		if failed != nil {
			d.say("failed", facts{"dir": d.dir}, "The image and the nodes' logs are in %s.", d.dir)
		}
		return nil
	}
	return os.RemoveAll(d.dir)
}

// detach takes away the mount of a dead node.
func (d *Demo) detach(n int) {
	if _, ok, err := control.MountAt(d.mnt(n)); err != nil || !ok {
		return
	}
	if os.Geteuid() == 0 {
		_ = syscall.Unmount(d.mnt(n), syscall.MNT_DETACH)
		return
	}
	_ = exec.Command("fusermount3", "-uz", d.mnt(n)).Run()
}
