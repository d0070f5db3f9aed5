package controller

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
	"github.com/ocfuse/ocfuse/stacks/dlm/view"
)

// host records what a controller decides.
type host struct {
	mu       sync.Mutex
	views    []view.View // guarded by mu
	departed []view.Gone // guarded by mu
	changed  chan struct{}
	finished chan struct{}
	fenced   chan error
}

func newHost() *host {
	return &host{changed: make(chan struct{}, 100), finished: make(chan struct{}), fenced: make(chan error, 1)}
}
func (h *host) Stop(_ view.View, done func()) { go done() }
func (h *host) Start(v view.View, _ []view.ID, departed []view.Gone) {
	h.mu.Lock()
	h.views = append(h.views, v)
	h.departed = append(h.departed, departed...)
	h.mu.Unlock()
	h.changed <- struct{}{}
}
func (h *host) Watch(view.ID)              {}
func (h *host) Verify(view.ID) error       { return nil }
func (h *host) Rescan() ([]view.ID, error) { return nil, nil }
func (h *host) Moving(uint32) bool         { return true }
func (h *host) GiveUp(view.ID)             {}
func (h *host) Fence(err error)            { h.fenced <- err }
func (h *host) Finished()                  { close(h.finished) }
func (h *host) Rejected(string)            {}

// members waits until the host's view has exactly these nodes.
func (h *host) members(t *testing.T, want ...uint32) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		h.mu.Lock()
		var have []uint32
		if n := len(h.views); n > 0 {
			for _, id := range h.views[n-1].Members {
				have = append(have, id.Node)
			}
		}
		h.mu.Unlock()
		if slices.Equal(have, want) {
			return
		}
		select {
		case <-h.changed:
		case <-limit:
			t.Fatalf("members %v, want %v", have, want)
		}
	}
}

var nets atomic.Int32

func testCluster(n int) *stackglue.Cluster {
	c := &stackglue.Cluster{Name: "t", DeadThreshold: 31, IdleTimeoutMS: 30000, KeepaliveMS: 50}
	for i := 1; i <= n; i++ {
		c.Nodes = append(c.Nodes, stackglue.ClusterNode{Number: uint32(i), Name: fmt.Sprint(i), Addr: fmt.Sprintf("127.%d.%d.%d", 2+os.Getpid()%250, 251+nets.Load()%4, i), Port: 7777})
	}
	nets.Add(1)
	return c
}

func run(t *testing.T, cl *stackglue.Cluster, node uint32, inc uint64, period time.Duration, found ...view.ID) (*Controller, *host) {
	t.Helper()
	h := newHost()
	c, err := Start(Config{Group: "G", Self: view.ID{Node: node, Inc: inc}, Cluster: cl, Period: period, Threshold: 5, Host: h,
		Logf: func(f string, a ...any) { t.Logf("node %d: %s", node, fmt.Sprintf(f, a...)) }}, found)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, h
}

// TestLife: nodes come, one leaves, one dies, over real connections.
func TestLife(t *testing.T) {
	cl := testCluster(3)
	_, h1 := run(t, cl, 1, 11, time.Second)
	h1.members(t, 1)
	c2, h2 := run(t, cl, 2, 22, time.Second, view.ID{Node: 1, Inc: 11})
	h1.members(t, 1, 2)
	h2.members(t, 1, 2)
	c3, h3 := run(t, cl, 3, 33, time.Second, view.ID{Node: 1, Inc: 11}, view.ID{Node: 2, Inc: 22})
	for _, h := range []*host{h1, h2, h3} {
		h.members(t, 1, 2, 3)
	}
	c2.Leave()
	<-h2.finished
	h1.members(t, 1, 3)
	h3.members(t, 1, 3)
	c3.Close()
	if s := c3.Status(); s.State != view.Member {
		t.Errorf("state %v", s.State)
	}
	// A closed connection is no death: nothing may happen.
	time.Sleep(100 * time.Millisecond)
	h1.mu.Lock()
	defer h1.mu.Unlock()
	if len(h1.departed) != 1 || h1.departed[0].How != view.Left || len(h1.views) != 4 {
		t.Errorf("departed %v, views %v", h1.departed, h1.views)
	}
}

// TestDeathAndReturn: proof of death, then the same number with a new incarnation.
func TestDeathAndReturn(t *testing.T) {
	cl := testCluster(2)
	c1, h1 := run(t, cl, 1, 11, time.Second)
	h1.members(t, 1)
	c2, h2 := run(t, cl, 2, 22, time.Second, view.ID{Node: 1, Inc: 11})
	h2.members(t, 1, 2)
	c2.Close()
	c1.Died(view.ID{Node: 2, Inc: 22})
	h1.members(t, 1)
	_, h2 = run(t, cl, 2, 23, time.Second, view.ID{Node: 1, Inc: 11})
	h2.members(t, 1, 2)
	h1.members(t, 1, 2)
	h1.mu.Lock()
	defer h1.mu.Unlock()
	if len(h1.departed) != 1 || h1.departed[0] != (view.Gone{ID: view.ID{Node: 2, Inc: 22}, How: view.Dead, View: 3}) {
		t.Errorf("departed %v", h1.departed)
	}
}

// TestCutLink: both ends live, the connection is gone for good: the higher number
// fences itself after the quorum delay, (threshold + 2) periods.
func TestCutLink(t *testing.T) {
	cl := testCluster(2)
	c1, h1 := run(t, cl, 1, 11, 20*time.Millisecond)
	h1.members(t, 1)
	_, h2 := run(t, cl, 2, 22, 20*time.Millisecond, view.ID{Node: 1, Inc: 11})
	h2.members(t, 1, 2)
	c1.Close() // nobody listens any more, but as far as node 2 can see node 1 lives
	if err := <-h2.fenced; err == nil {
		t.Error("no reason")
	}
}

// TestMismatch: a node with other times is not talked to, and status says why.
func TestMismatch(t *testing.T) {
	cl := testCluster(2)
	run(t, cl, 1, 11, time.Second)
	c2, _ := run(t, cl, 2, 22, 2*time.Second, view.ID{Node: 1, Inc: 11})
	limit := time.Now().Add(20 * time.Second)
	const want = "node 1 may be running: its heartbeat slot is in use, but it does not answer on its ip_port (node 1: it runs with heartbeat period 1000 ms and threshold 5, this node with 2000 ms and 5; make /etc/default/o2cb the same on all nodes)"
	for c2.Status().Pending != want {
		if time.Now().After(limit) {
			t.Fatalf("pending %q", c2.Status().Pending)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// busyHost answers Stop at once, from the event loop, when the queue is full: that
// many events come in large clusters while a large lockspace stops.
type busyHost struct {
	*host
	ctl     chan *Controller
	stopped chan struct{}
}

func (h *busyHost) Stop(_ view.View, done func()) {
	c := <-h.ctl
	for range cap(c.events) + 1 {
		go c.Seen(view.ID{Node: 9, Inc: 99})
	}
	for len(c.events) < cap(c.events) {
		runtime.Gosched()
	}
	done()
	close(h.stopped)
}

// TestStopAnsweredWithAFullQueue: the loop must not wait for itself.
func TestStopAnsweredWithAFullQueue(t *testing.T) {
	cl := testCluster(2)
	h1 := &busyHost{newHost(), make(chan *Controller, 1), make(chan struct{})}
	c1, err := Start(Config{Group: "G", Self: view.ID{Node: 1, Inc: 11}, Cluster: cl, Period: time.Second, Threshold: 5, Host: h1, Logf: t.Logf}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c1.Close)
	h1.ctl <- c1
	h1.members(t, 1)
	_, h2 := run(t, cl, 2, 22, time.Second, view.ID{Node: 1, Inc: 11})
	select {
	case <-h1.stopped:
	case <-time.After(20 * time.Second):
		t.Fatal("the event loop waits for itself")
	}
	h1.members(t, 1, 2)
	h2.members(t, 1, 2)
}

// stillHost has a node whose heartbeat stands still.
type stillHost struct {
	*host
	asked atomic.Int32
}

func (h *stillHost) Moving(uint32) bool { h.asked.Add(1); return false }

// TestCutTimerEndsWithTheController: the host is gone by then, and nothing would end
// the timer of a link whose node stands still.
func TestCutTimerEndsWithTheController(t *testing.T) {
	h := &stillHost{host: newHost()}
	c, err := Start(Config{Group: "G", Self: view.ID{Node: 1, Inc: 11}, Cluster: testCluster(2), Period: time.Hour, Threshold: 5, Host: h, Logf: t.Logf}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	c.cutDue(2, 1)
	if n := h.asked.Load(); n != 0 {
		t.Errorf("the host of a closed controller was asked %d times", n)
	}
}
