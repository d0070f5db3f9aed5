package dlm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
	"github.com/ocfuse/ocfuse/stacks/dlm/controller"
	"github.com/ocfuse/ocfuse/stacks/dlm/view"
	"github.com/ocfuse/ocfuse/stacks/heartbeat"
)

// disk is the membership by heartbeats on the volume and agreed views. It is the
// heartbeat's Handler and the controller's Host.
type disk struct {
	c      *conn
	reg    *heartbeat.Registry
	entry  *heartbeat.Entry
	beat   *heartbeat.Runner
	ctl    *controller.Controller
	hangup chan error    // capacity 1: this node is not admitted or is out
	gone   chan struct{} // closed by Finished

	mu       sync.Mutex
	watches  map[view.ID]func() // guarded by mu; nil: not of this host
	early    []func()           // events before ctl exists; guarded by mu
	finished bool               // guarded by mu
	dead     []view.ID          // proven by this node; guarded by mu
	away     bool               // left: nobody starts the lockspace any more; guarded by mu
}

var (
	_ membership        = (*disk)(nil)
	_ heartbeat.Handler = (*disk)(nil)
	_ controller.Host   = (*disk)(nil)
)

// killLimit bounds the wait for a killed process of this host to end.
const killLimit = 5 * time.Second

// startDisk claims the number and heartbeats. Without an error d.close ends both.
func startDisk(ctx context.Context, c *conn, o *options) (*disk, error) {
	cfg := &c.cfg
	if cfg.Heartbeat == nil {
		return nil, errors.New("the volume has no heartbeat file; format it for a cluster, or use --membership manual")
	}
	key := cfg.LocalKey
	if key == "" {
		key = cfg.Group
	}
	reg, err := heartbeat.OpenRegistry(o.runtimeDir, key+" "+cfg.Group)
	if err != nil {
		return nil, err
	}
	gen := heartbeat.NewGeneration()
	entry, err := reg.Register(int(cfg.Node), gen)
	if err != nil {
		return nil, err
	}
	d := &disk{c: c, reg: reg, entry: entry, hangup: make(chan error, 1), gone: make(chan struct{}), watches: map[view.ID]func(){}}
	slots := make([]int, min(cfg.Heartbeat.Blocks(), 255))
	for i := range slots {
		slots[i] = i // also nodes that are not configured: they must not be overlooked
	}
	d.beat, err = heartbeat.Start(ctx, heartbeat.Config{Region: cfg.Heartbeat, Node: int(cfg.Node), Nodes: slots,
		Threshold: cfg.Cluster.DeadThreshold, Period: o.period, Generation: gen, Handler: d, Deadman: o.deadman, Logf: cfg.Logf,
		Ended: func(n int, g uint64) bool { return reg.Probe(n, g) == heartbeat.Dead }})
	if err != nil {
		return nil, errors.Join(err, entry.Close(true))
	}
	return d, nil
}

// join begins to agree on views. The transport of the lock manager listens already.
func (d *disk) join(o *options) error {
	cfg := &d.c.cfg
	var found []view.ID
	for n := range d.beat.Slots() {
		if b := d.beat.Found(n); b.Generation != 0 && n != int(cfg.Node) && d.reg.Probe(n, b.Generation) != heartbeat.Dead {
			found = append(found, view.ID{Node: uint32(n), Inc: b.Generation})
		}
	}
	ctl, err := controller.Start(controller.Config{Group: cfg.Group, Self: view.ID{Node: cfg.Node, Inc: d.beat.Generation()},
		Cluster: cfg.Cluster, Period: o.period, Threshold: cfg.Cluster.DeadThreshold, Host: d, Logf: cfg.Logf}, found)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.ctl = ctl
	early := d.early
	d.early = nil
	d.mu.Unlock()
	for _, f := range early {
		f()
	}
	for _, id := range found {
		d.watch(id)
	}
	return nil
}

// tell passes an event to the controller, or keeps it until there is one.
func (d *disk) tell(f func()) {
	d.mu.Lock()
	if d.ctl == nil {
		d.early = append(d.early, f)
		d.mu.Unlock()
		return
	}
	d.mu.Unlock()
	f()
}

// died reports a proven death.
func (d *disk) died(id view.ID) {
	d.tell(func() { d.ctl.Died(id) })
	d.mu.Lock()
	d.dead = append(d.dead, id)
	away := d.away
	d.mu.Unlock()
	if away {
		d.c.peers.bury(id.Node, id.Inc)
	}
}

// mourn forgets the peers that are dead. After this node has left there are no
// more views to do it, but FIN must not wait for them.
func (d *disk) mourn() {
	d.mu.Lock()
	d.away = true
	dead := d.dead
	d.mu.Unlock()
	for _, id := range dead {
		d.c.peers.bury(id.Node, id.Inc)
	}
}

// finLimit bounds the wait for the FIN of peers: they answer at once, or are dead,
// which heartbeats show in their own time.
const finLimit = 10 * time.Second

// watch reports the end of an incarnation that runs on this host.
func (d *disk) watch(id view.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.watches[id]; ok || d.finished {
		return
	}
	stop, ok := d.reg.Watch(int(id.Node), id.Inc, func() { d.died(id) })
	if ok {
		d.watches[id] = stop
	}
}

// Heartbeat implements heartbeat.Handler.
func (d *disk) Heartbeat(events []heartbeat.Event) {
	for _, e := range events {
		id := view.ID{Node: uint32(e.Node), Inc: e.Generation}
		if id.Node == d.c.cfg.Node {
			continue
		}
		switch e.Kind {
		case heartbeat.Up:
			d.tell(func() { d.ctl.Seen(id) })
		case heartbeat.Down, heartbeat.Silent, heartbeat.Ended:
			// The lease of that incarnation has ended.
			why := e.Kind.String() + ", " + e.Cause.String()
			if e.Cause == heartbeat.Left || e.Kind == heartbeat.Ended && e.Block.Generation == 0 {
				go d.departed(id, why)
			} else {
				go d.confirm(id, why)
			}
		case heartbeat.Mismatch:
			d.c.cfg.Logf("node %d heartbeats with a dead time of %d ms; make the timeouts the same on all nodes", e.Node, e.Block.DeadMS)
		}
	}
}

// departed reports the end of an incarnation that says so in its slot, which it does
// when its last device write has returned. Its process may live on: it is just
// unmounting, or has to tell why it was fenced.
func (d *disk) departed(id view.ID, why string) {
	d.c.cfg.Logf("heartbeat of node %d: %s", id.Node, why)
	d.died(id)
}

// confirm makes sure that a process of this host has ended, and ends it for good if
// it has not, and reports the death.
func (d *disk) confirm(id view.ID, why string) {
	ctx, cancel := context.WithTimeout(context.Background(), killLimit)
	defer cancel()
	if here, err := d.reg.Kill(ctx, int(id.Node), id.Inc); err != nil {
		d.c.cfg.Logf("%v", err)
	} else if here {
		why += ", process has ended"
	}
	d.c.cfg.Logf("heartbeat of node %d: %s", id.Node, why)
	d.died(id)
}

// LeaseLost implements heartbeat.Handler.
func (d *disk) LeaseLost(reason error) { d.out(reason) }

// out ends this node's part after the gate has been closed.
func (d *disk) out(reason error) {
	select {
	case d.hangup <- reason:
	default:
	}
	d.c.evict(reason)
	// Say so in the slot once everything in flight has returned, so that the
	// others do not have to wait for the dead time.
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), abortLimit)
		defer cancel()
		if err := d.beat.Stop(ctx, reason, true); err != nil {
			d.c.cfg.Logf("%v", err)
		}
	}()
}

// Stop implements controller.Host.
func (d *disk) Stop(_ view.View, done func()) {
	if err := d.c.space.Stop(); err != nil {
		d.c.cfg.Logf("stopping the lockspace: %v", err)
	}
	done()
}

// Start implements controller.Host.
func (d *disk) Start(v view.View, joined []view.ID, departed []view.Gone) {
	var failed []int32
	for _, g := range departed {
		if g.How == view.Dead {
			d.c.peers.bury(g.ID.Node, g.ID.Inc)
			failed = append(failed, int32(g.ID.Node))
		}
		d.unwatch(g.ID)
	}
	back := map[uint32]bool{}
	for _, g := range departed {
		back[g.ID.Node] = true
	}
	for _, id := range joined {
		d.Watch(id)
	}
	d.c.start(v, back, failed)
}

func (d *disk) unwatch(id view.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if stop := d.watches[id]; stop != nil {
		stop()
	}
	delete(d.watches, id)
}

// Watch implements controller.Host.
func (d *disk) Watch(id view.ID) {
	if id.Node == d.c.cfg.Node {
		return
	}
	if err := d.beat.Admit(int(id.Node), id.Inc); err != nil {
		d.c.cfg.Logf("%v", err)
	}
	if err := d.c.peers.meet(id.Node, id.Inc); err != nil {
		d.c.cfg.Logf("%v", err)
	}
	d.watch(id)
}

// Verify implements controller.Host.
func (d *disk) Verify(id view.ID) error {
	b, err := d.beat.ReadSlot(int(id.Node))
	switch want := uint32(d.c.cfg.Cluster.DeadThreshold) * uint32(d.periodMS()); {
	case err != nil:
		return err
	case b.Generation != id.Inc:
		return fmt.Errorf("its heartbeat slot does not hold the generation it says; is it the same volume?")
	case b.DeadMS != want:
		return fmt.Errorf("it heartbeats with a dead time of %d ms, this cluster with %d; make the timeouts the same on all nodes", b.DeadMS, want)
	}
	return nil
}

func (d *disk) periodMS() int64 { return d.beat.Period().Milliseconds() }

// Rescan implements controller.Host.
func (d *disk) Rescan() ([]view.ID, error) {
	blocks, err := d.beat.ReadAll()
	var found []view.ID
	for n, b := range blocks {
		if b.Generation != 0 && n != int(d.c.cfg.Node) {
			found = append(found, view.ID{Node: uint32(n), Inc: b.Generation})
		}
	}
	return found, err
}

// Moving implements controller.Host.
func (d *disk) Moving(node uint32) bool { return d.beat.Moving(int(node), 2) }

// GiveUp implements controller.Host.
func (d *disk) GiveUp(id view.ID) {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), killLimit)
		defer cancel()
		if here, err := d.reg.Kill(ctx, int(id.Node), id.Inc); err != nil {
			d.c.cfg.Logf("%v", err)
		} else if here {
			d.died(id)
		}
	}()
}

// Fence implements controller.Host.
func (d *disk) Fence(reason error) {
	d.beat.Lease().Close(reason)
	d.out(reason)
}

// Finished implements controller.Host.
func (d *disk) Finished() { close(d.gone) }

// Rejected implements controller.Host.
func (d *disk) Rejected(reason string) {
	select {
	case d.hangup <- fmt.Errorf("the cluster does not admit node %d: %s", d.c.cfg.Node, reason):
	default:
	}
}

// leave implements membership.
func (d *disk) leave(ctx context.Context) error {
	d.ctl.Leave()
	select {
	case <-d.gone:
	case err := <-d.hangup:
		return err
	case <-ctx.Done():
		return fmt.Errorf("leaving the group: %s: %w", d.ctl.Status().Pending, ctx.Err())
	}
	if err := d.c.space.Release(false); err != nil {
		return fmt.Errorf("releasing the lockspace: %w", err)
	}
	d.mourn()
	ctx, cancel := context.WithTimeout(ctx, finLimit)
	defer cancel()
	if err := d.c.comms.Shutdown(ctx); err != nil {
		d.c.cfg.Logf("%v", err)
	}
	return nil
}

// close implements membership.
func (d *disk) close(ctx context.Context, reason error, _ bool) error {
	if d.ctl != nil {
		d.ctl.Close()
	}
	d.mu.Lock()
	d.finished = true
	for id, stop := range d.watches {
		stop()
		delete(d.watches, id)
	}
	d.mu.Unlock()
	// The last block says "ended" only after everything in flight has returned.
	err := d.beat.Stop(ctx, reason, true)
	return errors.Join(err, d.entry.Close(err == nil))
}

func (d *disk) gate() stackglue.Gate { return d.beat.Lease() }

// describe implements membership.
func (d *disk) describe(s *stackglue.Status) {
	s.Membership = "disk"
	s.Fencing = "lease and dead man's timer; by process id on this host"
	hb := d.beat.Status()
	s.Notes = append(s.Notes, fmt.Sprintf("lease %v", hb.Lease.Round(time.Millisecond)))
	if hb.LastError != nil {
		s.Notes = append(s.Notes, "heartbeat: "+hb.LastError.Error())
	}
	st := d.ctl.Status()
	s.View = st.View.Num
	if st.Pending != "" {
		s.Recovering = st.Pending
	}
	member := map[uint32]bool{}
	for _, id := range st.View.Members {
		member[id.Node] = true
	}
	live := map[int]bool{}
	for _, n := range hb.Live {
		live[n] = true
	}
	for _, n := range d.c.cfg.Cluster.Nodes {
		m := stackglue.Member{Node: n.Number, Name: n.Name, Addr: n.Addr, State: "absent"}
		switch {
		case n.Number == d.c.cfg.Node:
			m.State = "self"
		case member[n.Number]:
			m.State = "member"
		case live[int(n.Number)]:
			m.State = "joining"
		}
		s.Members = append(s.Members, m)
	}
}
