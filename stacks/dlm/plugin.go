package dlm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/ocfuse/ocfuse/dlm"
	"github.com/ocfuse/ocfuse/dlm/lowcomms"
	"github.com/ocfuse/ocfuse/stackglue"
	"github.com/ocfuse/ocfuse/stacks/dlm/view"
	"github.com/ocfuse/ocfuse/stacks/heartbeat"
)

func init() { stackglue.Register(Plugin{}) }

// Plugin implements stackglue.Plugin.
type Plugin struct{}

// Name implements stackglue.Plugin.
func (Plugin) Name() string { return "dlm" }

// Labels implements stackglue.Plugin. The kernel takes any label but "o2cb" for
// its user stack; pcmk is the one in use.
func (Plugin) Labels() []string { return []string{"pcmk"} }

// options are the stack's options, parsed.
type options struct {
	manual     bool
	members    []uint32
	runtimeDir string
	period     time.Duration
	port       uint16
	dropWait   time.Duration
	deadman    bool
}

func parseOptions(cfg *stackglue.Config) (*options, error) {
	o := &options{runtimeDir: heartbeat.RuntimeDir(), period: heartbeat.DefaultPeriod, port: lowcomms.DefaultPort, dropWait: time.Minute, deadman: true}
	for key, val := range cfg.Options {
		var err error
		switch key {
		case "membership":
			if o.manual = val == "manual"; val != "manual" && val != "disk" && val != "" {
				err = errors.New("must be disk or manual")
			}
		case "members":
			o.members, err = ParseNodes(val)
		case "runtime-dir":
			o.runtimeDir = val
		case "heartbeat-ms":
			o.period, err = millis(val, 10)
		case "drop-wait-ms":
			o.dropWait, err = millis(val, 0)
		case "dlm-port":
			var n uint64
			n, err = strconv.ParseUint(val, 10, 16)
			o.port = uint16(n)
		}
		if err != nil {
			return nil, fmt.Errorf("option %s=%q: %w", key, val, err)
		}
	}
	if len(o.members) == 0 {
		o.members = []uint32{cfg.Node}
	}
	return o, nil
}

func millis(s string, least int) (time.Duration, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < least {
		return 0, fmt.Errorf("must be a number of milliseconds, at least %d", least)
	}
	return time.Duration(n) * time.Millisecond, nil
}

// Connect implements stackglue.Plugin.
func (Plugin) Connect(ctx context.Context, cfg stackglue.Config) (stackglue.Conn, error) {
	c, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if m, ok := c.members.(*manual); ok {
		return &manualConn{c, m}, nil
	}
	return c, nil
}

// manualConn adds Admin to the connections that have it.
type manualConn struct {
	*conn
	*manual
}

// check refuses what cannot work before anything is touched.
func check(cfg *stackglue.Config) error {
	switch {
	case cfg.Node == 0:
		return errors.New("node number 0 cannot be used with the dlm stack, whose wire protocol takes 0 for nobody; give this node another number in cluster.conf on all nodes")
	case cfg.Cluster == nil:
		return errors.New("the dlm stack needs the list of nodes; give a cluster.conf with --config")
	case cfg.Recovery == nil:
		return errors.New("no recovery handler")
	}
	if cfg.ClusterName != "" && cfg.Cluster.Name != "" && cfg.ClusterName != cfg.Cluster.Name {
		return fmt.Errorf("the volume belongs to cluster %q, the configuration describes %q", cfg.ClusterName, cfg.Cluster.Name)
	}
	return nil
}

func connect(ctx context.Context, cfg stackglue.Config) (_ *conn, err error) {
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	if err := check(&cfg); err != nil {
		return nil, err
	}
	o, err := parseOptions(&cfg)
	if err != nil {
		return nil, err
	}
	self, ok := cfg.Cluster.Node(cfg.Node)
	if !ok {
		return nil, fmt.Errorf("node %d is not in the cluster's configuration; add it to cluster.conf on all nodes", cfg.Node)
	}
	c := &conn{cfg: cfg, self: self, ready: make(chan struct{}, 1), fenced: make(chan struct{})}
	if o.manual {
		c.members = &manual{c: c, dropWait: o.dropWait}
	} else {
		d, err := startDisk(ctx, c, o)
		if err != nil {
			return nil, err
		}
		c.members = d
	}
	if err := c.bringUp(ctx, o); err != nil {
		c.Abort()
		return nil, err
	}
	return c, nil
}

// bringUp makes lockspace and transport, joins, and waits for the first recovery.
func (c *conn) bringUp(ctx context.Context, o *options) error {
	addr, err := netip.ParseAddr(c.self.Addr)
	if err != nil {
		return fmt.Errorf("address of node %d: %w", c.cfg.Node, err)
	}
	c.node = dlm.NewNode(c.cfg.Node)
	c.comms, err = lowcomms.NewNode(lowcomms.Config{Self: c.cfg.Node, Addr: addr, Port: o.port, Log: c.record}, c.node.Deliver)
	if err != nil {
		return err
	}
	c.up.Store(true)
	c.net = &countingNet{Node: c.comms}
	c.node.Attach(c.net)
	c.peers = &peerTable{comms: c.comms, cluster: c.cfg.Cluster, known: map[uint32]uint64{}}
	c.space, err = c.node.Create(dlm.Config{Name: c.cfg.Group, LVBLen: stackglue.LVBLen, Events: c.events(), Logf: c.quiet})
	if err != nil {
		return err
	}
	// Listen before anybody is told that we are a member.
	if err := c.comms.Start(); err != nil {
		return fmt.Errorf("listening for the lock manager on %s (ip_address of node %d; is it an address of this machine, and does no other mount use it?): %w", c.self.Addr, c.cfg.Node, err)
	}
	var hangup <-chan error
	switch m := c.members.(type) {
	case *disk:
		hangup = m.hangup
		err = m.join(o)
	case *manual:
		if err = m.check(o.members, nil); err == nil {
			m.mu.Lock()
			err = m.set(o.members, nil)
			m.mu.Unlock()
		}
	}
	if err != nil {
		return err
	}
	if err := c.waitRound(ctx, 0, hangup); err != nil {
		return fmt.Errorf("joining the group (%s): %w", c.pending(), err)
	}
	return c.agree(ctx)
}

// start runs the lockspace with a committed view. back says which numbers have a
// new incarnation.
func (c *conn) start(v view.View, back map[uint32]bool, failed []int32) {
	list := make([]dlm.Member, 0, len(v.Members))
	for _, id := range v.Members {
		list = append(list, dlm.Member{NodeID: int32(id.Node), Weight: 1, New: back[id.Node]})
	}
	if err := c.space.Start(list, failed); err != nil {
		c.cfg.Logf("starting the lockspace with %v: %v", &v, err)
	}
}

// pending says what a membership change or recovery waits for.
func (c *conn) pending() string {
	s := c.Status()
	if s.Recovering == "" {
		return "recovery has not begun"
	}
	return s.Recovering
}

// record logs what the transport has to say.
func (c *conn) record(r lowcomms.Record) {
	if r.Level >= recordLevel {
		c.cfg.Logf("%v", r)
	}
}

// quiet drops the lock manager's lines about messages that were not acted upon:
// in a membership change they are normal.
func (c *conn) quiet(string, ...any) {}
