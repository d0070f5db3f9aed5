package heartbeat

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary runs itself as another process of this host: see TestMain.
const roleEnv = "HEARTBEAT_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role, arg, _ := strings.Cut(os.Getenv(roleEnv), ":"); role {
	case "deadman":
		ms, _ := strconv.Atoi(arg)
		d, err := NewDeadman()
		if err == nil {
			err = d.Arm(Boottime() + int64(ms)*int64(time.Millisecond))
		}
		fmt.Println("armed", err)
		time.Sleep(time.Hour)
	case "node":
		dir, gen, _ := strings.Cut(arg, ":")
		g, _ := strconv.ParseUint(gen, 10, 64)
		r, err := OpenRegistry(dir, "vol")
		if err == nil {
			_, err = r.Register(2, g)
		}
		fmt.Println("registered", err)
		time.Sleep(time.Hour)
	default:
		os.Exit(m.Run())
	}
}

// child starts a role and waits for its first line, which must end in <nil>.
func child(t *testing.T, role string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasSuffix(strings.TrimSpace(line), "<nil>") {
		t.Fatalf("child %s: %q, %v", role, line, err)
	}
	return cmd
}

// killed waits for a child and tells whether SIGKILL ended it.
func killed(t *testing.T, cmd *exec.Cmd) bool {
	t.Helper()
	err := cmd.Wait()
	var ee *exec.ExitError
	if !errors.As(err, &ee) {
		t.Fatalf("child ended: %v", err)
	}
	return ee.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// TestDeadmanKillsStoppedProcess: a process that is stopped, so that it can check
// nothing, dies at its time all the same.
func TestDeadmanKillsStoppedProcess(t *testing.T) {
	for _, stop := range []bool{false, true} {
		start := time.Now()
		cmd := child(t, "deadman:400")
		if stop {
			if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}
		if !killed(t, cmd) {
			t.Errorf("stopped %v: not killed by the timer", stop)
		}
		if d := time.Since(start); d < 400*time.Millisecond {
			t.Errorf("stopped %v: died after %v, too early", stop, d)
		}
	}
}

func TestDeadmanRearmAndDisarm(t *testing.T) {
	d, err := NewDeadman()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := d.Arm(Boottime() + int64(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if r := d.Remaining(); r < 50*time.Second || r > time.Minute {
		t.Errorf("remaining %v", r)
	}
	if err := d.Arm(0); err != nil || d.Remaining() != 0 {
		t.Errorf("disarm: %v, remaining %v", err, d.Remaining())
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if d.Close() == nil {
		t.Error("closing twice succeeded")
	}
}

func TestRegistryProof(t *testing.T) {
	dir := t.TempDir()
	r, err := OpenRegistry(dir, "vol")
	if err != nil {
		t.Fatal(err)
	}
	if v := r.Probe(2, 42); v != Unknown {
		t.Fatalf("before it exists: %v", v)
	}
	cmd := child(t, "node:"+dir+":42")
	if v := r.Probe(2, 42); v != Alive {
		t.Errorf("running: %v", v)
	}
	if v := r.Probe(2, 41); v != Unknown {
		t.Errorf("another generation: %v", v)
	}
	if _, err := r.Register(2, 43); !errors.Is(err, ErrNodeInUse) || !strings.Contains(err.Error(), strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("a double was admitted: %v", err)
	}
	// A stopped process is alive, and its open files with it.
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	died := make(chan struct{}, 1)
	if _, ok := r.Watch(2, 42, func() { died <- struct{}{} }); !ok {
		t.Fatal("cannot watch")
	}
	select {
	case <-died:
		t.Fatal("a stopped process was called dead")
	case <-time.After(50 * time.Millisecond):
	}
	if ok, err := r.Kill(context.Background(), 2, 42); !ok || err != nil {
		t.Fatalf("kill: %v, %v", ok, err)
	}
	if v := r.Probe(2, 42); v != Dead { // a zombie: we have not waited for it
		t.Errorf("killed, not reaped: %v", v)
	}
	select { // nothing else tells it: no heartbeat runs here
	case <-died:
	case <-time.After(20 * time.Second):
		t.Error("the watcher is not told of the death")
	}
	killed(t, cmd)
	if v := r.Probe(2, 42); v != Dead {
		t.Errorf("reaped: %v", v)
	}
	e, err := r.Register(2, 43)
	if err != nil {
		t.Fatal(err)
	}
	if v := r.Probe(2, 42); v != Dead {
		t.Errorf("after a successor came: %v", v)
	}
	if ok, err := r.Kill(context.Background(), 2, 43); ok || err != nil {
		t.Errorf("killing oneself: %v, %v", ok, err)
	}
	if err := e.Close(true); err != nil {
		t.Fatal(err)
	}
	if v := r.Probe(2, 43); v != Dead {
		t.Errorf("after a clean end: %v", v)
	}
}

// TestRegistryWatcherOfTheDead and records that prove nothing.
func TestRegistryNoProof(t *testing.T) {
	dir := t.TempDir()
	r, err := OpenRegistry(dir, "vol")
	if err != nil {
		t.Fatal(err)
	}
	cmd := child(t, "node:"+dir+":42")
	_ = cmd.Process.Kill()
	killed(t, cmd)
	p, err := os.ReadFile(r.path(2))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"another boot":          {`"boot":"`, `"boot":"x`},
		"another pid namespace": {`"pid_ns":"`, `"pid_ns":"x`},
		"another node":          {`"node":2`, `"node":1`},
		"torn":                  {`}`, ``},
	} {
		if err := os.WriteFile(r.path(2), []byte(strings.Replace(string(p), change[0], change[1], 1)), 0o644); err != nil {
			t.Fatal(err)
		}
		if v := r.Probe(2, 42); v != Unknown {
			t.Errorf("%s: %v, must prove nothing", name, v)
		}
		if _, ok := r.Watch(2, 42, func() { t.Errorf("%s: reported dead", name) }); ok {
			t.Errorf("%s: watched", name)
		}
	}
	// The number is in use by another process now: the recorded one is dead.
	other := strings.Replace(string(p), fmt.Sprintf(`"pid":%d`, cmd.Process.Pid), fmt.Sprintf(`"pid":%d`, os.Getppid()), 1)
	if err := os.WriteFile(r.path(2), []byte(other), 0o644); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	if _, ok := r.Watch(2, 42, func() { close(done) }); !ok || r.Probe(2, 42) != Dead {
		t.Error("a reused process number is taken for the node")
	} else {
		<-done
	}
}
