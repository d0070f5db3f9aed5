package dlm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/dlm"
	"github.com/ocfuse/ocfuse/stackglue"
	"github.com/ocfuse/ocfuse/stacks/dlm/view"
	"github.com/ocfuse/ocfuse/stacks/heartbeat"
)

// processAs starts a process and registers it as node 2 with that incarnation.
func processAs(t *testing.T, dir string, reg *heartbeat.Registry, inc uint64) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	e, err := reg.Register(2, inc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close(false) })
	names, err := filepath.Glob(filepath.Join(dir, "*-2.json"))
	if err != nil || len(names) != 1 {
		t.Fatalf("registry files %v, %v", names, err)
	}
	p, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	rec := map[string]any{}
	d := json.NewDecoder(strings.NewReader(string(p)))
	d.UseNumber()
	if err := d.Decode(&rec); err != nil {
		t.Fatal(err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	rec["pid"] = cmd.Process.Pid
	rec["start"] = json.Number(strings.Fields(string(stat))[21]) // the name "(sleep)" has no blank
	if p, err = json.Marshal(rec); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(names[0], p, 0o644); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// TestLeavingProcessIsNotKilled: a node that says in its slot that it has ended is
// believed. Its process is in the middle of unmounting, or tells why it was fenced.
// One that is only silent is ended first.
func TestLeavingProcessIsNotKilled(t *testing.T) {
	for name, c := range map[string]struct {
		event heartbeat.Event
		alive bool
	}{
		"left":      {heartbeat.Event{Kind: heartbeat.Down, Cause: heartbeat.Left}, true},
		"left soon": {heartbeat.Event{Kind: heartbeat.Ended}, true},
		"silent":    {heartbeat.Event{Kind: heartbeat.Down, Cause: heartbeat.Stale}, false},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			dir := t.TempDir()
			reg, err := heartbeat.OpenRegistry(dir, "volume")
			if err != nil {
				t.Fatal(err)
			}
			const inc = 22
			processAs(t, dir, reg, inc)
			d := &disk{c: &conn{cfg: stackglue.Config{Node: 1, Logf: t.Logf}}, reg: reg, watches: map[view.ID]func(){}}
			c.event.Node, c.event.Generation = 2, inc
			d.Heartbeat([]heartbeat.Event{c.event})
			for limit := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
				d.mu.Lock()
				n := len(d.dead)
				d.mu.Unlock()
				if n > 0 {
					break
				}
				if time.Now().After(limit) {
					t.Fatal("the end is not reported")
				}
			}
			if v := reg.Probe(2, inc); (v == heartbeat.Alive) != c.alive {
				t.Errorf("verdict %v about the process, want alive %v", v, c.alive)
			}
		})
	}
}

// TestEvictedWhileNegotiating: nobody grants a lock to a node that is out, so Connect
// must not wait for one.
func TestEvictedWhileNegotiating(t *testing.T) {
	node := dlm.NewNode(1)
	space, err := node.Create(dlm.Config{Name: "G", LVBLen: stackglue.LVBLen})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = space.Release(true) }()
	if err := space.Start([]dlm.Member{{NodeID: 1, Weight: 1}}, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, _, err := space.LockWait(ctx, dlm.Request{Name: []byte(versionLock), Mode: dlm.EX}); err != nil {
		t.Fatal(err)
	}
	c := &conn{cfg: stackglue.Config{Node: 1, Recovery: newRecorder(), Logf: t.Logf}, space: space, fenced: make(chan struct{})}
	out := make(chan error, 1)
	go func() { out <- c.agree(ctx) }()
	c.evict(errors.New("lost the lease"))
	if err := <-out; !errors.Is(err, stackglue.ErrFenced) {
		t.Errorf("negotiation of an evicted node ends with %v", err)
	}
}
