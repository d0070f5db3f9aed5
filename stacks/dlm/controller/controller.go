package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
	"github.com/ocfuse/ocfuse/stacks/dlm/view"
)

// Host carries out what the views decide.
type Host interface {
	// Stop stops the lockspace for a view to come; done may be called at any time,
	// from any goroutine.
	Stop(v view.View, done func())
	// Start starts the lockspace with a committed view.
	Start(v view.View, joined []view.ID, departed []view.Gone)
	// Watch begins to watch an incarnation for its death (Controller.Died).
	Watch(id view.ID)
	// Verify checks that an incarnation heartbeats in its slot. May block.
	Verify(id view.ID) error
	// Rescan reads all heartbeat slots of others. May block.
	Rescan() ([]view.ID, error)
	// Moving tells whether a node's heartbeat has moved within the last periods.
	Moving(node uint32) bool
	// GiveUp ends an incarnation that is cut off, if it runs on this host.
	GiveUp(id view.ID)
	// Fence: this node must not write any more.
	Fence(reason error)
	// Finished: this node has left.
	Finished()
	// Rejected: the cluster does not admit this node.
	Rejected(reason string)
}

// Config of a Controller.
type Config struct {
	Group     string
	Self      view.ID
	Cluster   *stackglue.Cluster
	Period    time.Duration // heartbeat period
	Threshold int
	Host      Host
	Logf      func(format string, args ...any)
}

// Controller is one node's part in the agreement.
type Controller struct {
	cfg    Config
	self   stackglue.ClusterNode
	listen net.Listener
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	events chan func()
	ended  chan struct{} // the event loop has ended

	// Owned by the event loop.
	core  *view.Core
	conns map[uint32]*conn

	mu     sync.Mutex
	status Status           // guarded by mu
	faults map[uint32]error // guarded by mu: why a peer's greeting was refused
}

// Status is a Controller as an operator sees it.
type Status struct {
	State     view.State
	View      view.View
	Pending   string // what the next view waits for
	Connected []uint32
}

// Start listens on the node's own address and port, dials the lower numbers and
// begins to agree. The heartbeat must run: found are the incarnations in other
// slots, as read after this node's first write and not proven dead.
func Start(cfg Config, found []view.ID) (*Controller, error) {
	self, ok := cfg.Cluster.Node(cfg.Self.Node)
	if !ok {
		return nil, fmt.Errorf("node %d is not in the cluster's configuration", cfg.Self.Node)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(self.Addr, strconv.Itoa(self.Port)))
	if err != nil {
		return nil, fmt.Errorf("listening for the other nodes on %s port %d (ip_address and ip_port of node %d; is the address of this machine, and free?): %w", self.Addr, self.Port, self.Number, err)
	}
	c := &Controller{cfg: cfg, self: self, listen: l, events: make(chan func(), 64), ended: make(chan struct{}),
		core: view.New(cfg.Self), conns: map[uint32]*conn{}, faults: map[uint32]error{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	go c.loop()
	c.post(func() { c.core.Scanned(found) })
	c.wg.Go(c.accept)
	for _, n := range cfg.Cluster.Nodes {
		if n.Number < self.Number {
			c.wg.Go(func() { c.dialer(n) })
		}
	}
	return c, nil
}

// loop owns the core.
func (c *Controller) loop() {
	defer close(c.ended)
	for {
		select {
		case <-c.ctx.Done():
			return
		case ev := <-c.events:
			ev()
			c.effects()
		}
	}
}

// post queues an event; it is dropped when the controller has ended.
func (c *Controller) post(ev func()) {
	select {
	case c.events <- ev:
	case <-c.ctx.Done():
	}
}

// effects carries out what the core wants, until it wants nothing more.
func (c *Controller) effects() {
	for es := c.core.Effects(); len(es) > 0; es = c.core.Effects() {
		for _, e := range es {
			c.effect(e)
		}
	}
	c.publish()
}

func (c *Controller) effect(e view.Effect) {
	h := c.cfg.Host
	switch e.Kind {
	case view.Send:
		if k := c.conns[e.To]; k != nil {
			k.send(&e.Msg)
		}
	case view.Stop:
		// Not posted from here: done may come before Stop returns, on this loop,
		// which would wait for itself if the queue is full.
		h.Stop(e.View, func() { go c.post(c.core.Stopped) })
	case view.Start:
		c.cfg.Logf("%v", &e.View)
		h.Start(e.View, e.Joined, e.Departed)
	case view.Watch:
		h.Watch(e.About)
	case view.Verify:
		c.wg.Go(func() {
			problem := ""
			if err := h.Verify(e.About); err != nil {
				problem = err.Error()
			}
			c.post(func() { c.core.Verified(e.About, problem) })
		})
	case view.Rescan:
		c.wg.Go(c.rescan)
	case view.Timer:
		c.stillCut(e.To, e.Num, time.Duration(c.cfg.Threshold+2)*c.cfg.Period)
	case view.GiveUp:
		h.GiveUp(e.About)
	case view.Fence:
		h.Fence(fmt.Errorf("%s: %w", e.Reason, stackglue.ErrFenced))
	case view.Finished:
		h.Finished()
	case view.Rejected:
		h.Rejected(e.Reason)
	}
}

// rescan reads the slots until it works: the core waits for the answer.
func (c *Controller) rescan() {
	for {
		found, err := c.cfg.Host.Rescan()
		if err == nil {
			c.post(func() { c.core.Scanned(found) })
			return
		}
		c.cfg.Logf("reading the heartbeat slots: %v", err)
		if !c.pause(c.cfg.Period) {
			return
		}
	}
}

// pause waits; false if the controller ends.
func (c *Controller) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// stillCut reports a cut link after the quorum delay.
func (c *Controller) stillCut(node uint32, num uint64, d time.Duration) {
	time.AfterFunc(d, func() { c.cutDue(node, num) })
}

// cutDue reports it now, but not while the node's heartbeat stands still: then its
// death may be about to show.
func (c *Controller) cutDue(node uint32, num uint64) {
	switch {
	case c.ctx.Err() != nil:
	case c.cfg.Host.Moving(node):
		c.post(func() { c.core.StillCut(node, num) })
	default:
		c.stillCut(node, num, c.cfg.Period)
	}
}

// publish updates what Status returns.
func (c *Controller) publish() {
	var up []uint32
	for n := range maps.Keys(c.conns) {
		up = append(up, n)
	}
	slices.Sort(up)
	s := Status{State: c.core.State(), View: c.core.Current(), Pending: c.core.Pending(), Connected: up}
	c.mu.Lock()
	c.status = s
	c.mu.Unlock()
}

// Status returns a snapshot.
func (c *Controller) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.status
	var notes []string
	for _, n := range slices.Sorted(maps.Keys(c.faults)) {
		notes = append(notes, fmt.Sprintf("node %d: %v", n, c.faults[n]))
	}
	if s.Pending != "" && len(notes) > 0 {
		s.Pending += " (" + strings.Join(notes, "; ") + ")"
	}
	return s
}

// Died tells that an incarnation is proven dead.
func (c *Controller) Died(id view.ID) { c.post(func() { c.core.Died(id) }) }

// Seen tells that an incarnation showed up in a heartbeat slot.
func (c *Controller) Seen(id view.ID) { c.post(func() { c.core.Seen(id) }) }

// Leave begins this node's departure; Host.Finished ends it.
func (c *Controller) Leave() { c.post(c.core.Leave) }

// Close ends all connections and goroutines. The host is not called after it.
func (c *Controller) Close() {
	c.cancel()
	c.listen.Close()
	<-c.ended
	for _, k := range c.conns {
		k.close()
	}
	c.wg.Wait()
}

// fault remembers why a peer is refused and logs it when it is new.
func (c *Controller) fault(node uint32, err error) {
	c.mu.Lock()
	old := c.faults[node]
	if err == nil {
		delete(c.faults, node)
	} else {
		c.faults[node] = err
	}
	c.mu.Unlock()
	if err != nil && (old == nil || old.Error() != err.Error()) {
		c.cfg.Logf("node %d: %v", node, err)
	}
}

// isClosed tells an ordinary end of a connection.
func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }
