package dlm

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
	"github.com/ocfuse/ocfuse/stackglue/stacktest"
)

// region is a heartbeat region in memory that the nodes of a test share.
type region struct {
	mu sync.Mutex
	p  []byte
}

func newRegion() *region { return &region{p: make([]byte, 16*512)} }

func (r *region) BlockSize() int { return 512 }
func (r *region) Blocks() int    { return 16 }
func (r *region) ReadBlocks(first int, p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	copy(p, r.p[first*512:])
	return nil
}
func (r *region) WriteBlock(n int, p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	copy(r.p[n*512:], p)
	return nil
}

// nets counts the loopback networks of this process, so that every test has
// addresses of its own.
var nets atomic.Int32

// cluster describes n nodes on addresses nobody else uses.
func cluster(n int) *stackglue.Cluster {
	c := &stackglue.Cluster{Name: "kp", DeadThreshold: 31, IdleTimeoutMS: 30000, KeepaliveMS: 2000, ReconnectMS: 2000}
	pid, k := os.Getpid(), nets.Add(1)
	for i := 1; i <= n; i++ {
		c.Nodes = append(c.Nodes, stackglue.ClusterNode{Number: uint32(i), Name: fmt.Sprint("n", i),
			Addr: fmt.Sprintf("127.%d.%d.%d", 1+pid%250, (pid/250+int(k)*7)%250, i+10), Port: 7777})
	}
	return c
}

// group is what the nodes of a test share.
type group struct {
	t       *testing.T
	cluster *stackglue.Cluster
	region  stackglue.BlockRegion
	dir     string
	name    string
	opts    map[string]string
}

func newGroup(t *testing.T, n int) *group {
	return &group{t: t, cluster: cluster(n), region: newRegion(), dir: t.TempDir(), name: fmt.Sprintf("%032X", nets.Add(1)), opts: map[string]string{}}
}

func (g *group) config(node uint32, rec stackglue.RecoveryHandler) stackglue.Config {
	opts := map[string]string{"runtime-dir": g.dir, "heartbeat-ms": "100"}
	for k, v := range g.opts {
		opts[k] = v
	}
	start := time.Now()
	return stackglue.Config{Group: g.name, ClusterName: "kp", Node: node, Cluster: g.cluster, Protocol: stackglue.Version{Major: 1},
		Recovery: rec, Heartbeat: g.region, Options: opts, Logf: func(f string, a ...any) {
			if testing.Verbose() {
				fmt.Printf("%8.3f node %d: %s\n", time.Since(start).Seconds(), node, fmt.Sprintf(f, a...))
			}
		}}
}

func (g *group) connect(node uint32, rec stackglue.RecoveryHandler) stackglue.Conn {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := Plugin{}.Connect(ctx, g.config(node, rec))
	if err != nil {
		g.t.Fatalf("node %d: %v", node, err)
	}
	g.t.Cleanup(c.Abort)
	return c
}

// connectAll connects nodes 1..n at the same time.
func (g *group) connectAll(recs []stackglue.RecoveryHandler) []stackglue.Conn {
	conns := make([]stackglue.Conn, len(recs))
	var wg sync.WaitGroup
	for i := range recs {
		wg.Go(func() { conns[i] = g.connect(uint32(i+1), recs[i]) })
	}
	wg.Wait()
	if g.t.Failed() {
		g.t.FailNow()
	}
	return conns
}

// TestContract runs the conformance suite over real sockets.
func TestContract(t *testing.T) {
	stacktest.Run(t, func(t *testing.T, recs []stackglue.RecoveryHandler) []stacktest.Node {
		g := newGroup(t, max(len(recs), 1))
		var nodes []stacktest.Node
		for _, c := range g.connectAll(recs) {
			nodes = append(nodes, stacktest.Node{Conn: c, Crash: c.Abort})
		}
		return nodes
	})
}
