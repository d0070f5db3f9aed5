package controller

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
	"github.com/ocfuse/ocfuse/stacks/dlm/view"
)

const (
	greetLimit  = 5 * time.Second        // for the peer's greeting
	dialMin     = 20 * time.Millisecond  // first pause between dials
	dialMax     = 250 * time.Millisecond // a lower node that comes back is found this soon
	queueFrames = 1024                   // frames a peer may be behind
)

// conn is an open connection to a peer whose greeting fits.
type conn struct {
	ctl  *Controller
	node uint32
	nc   net.Conn
	out  chan []byte
	once sync.Once
	done chan struct{}
}

// send queues a message. A peer that does not read is disconnected.
func (k *conn) send(m *view.Message) {
	p, err := encode(m)
	if err != nil {
		k.ctl.cfg.Logf("node %d: %v", k.node, err)
		return
	}
	select {
	case k.out <- p:
	default:
		k.close()
	}
}

func (k *conn) close() {
	k.once.Do(func() {
		close(k.done)
		k.nc.Close()
	})
}

// writer writes what is queued, and a ping when there is nothing for a while.
func (k *conn) writer() {
	defer k.close()
	ping := time.NewTicker(time.Duration(k.ctl.cfg.Cluster.KeepaliveMS) * time.Millisecond)
	defer ping.Stop()
	for {
		p := seal(make([]byte, headerLen), typePing)
		select {
		case <-k.done:
			return
		case p = <-k.out:
		case <-ping.C:
		}
		if _, err := k.nc.Write(p); err != nil {
			return
		}
	}
}

// idle is how long a peer may say nothing at all.
func (c *Controller) idle() time.Duration {
	return time.Duration(c.cfg.Cluster.IdleTimeoutMS) * time.Millisecond
}

// reader posts what comes until the connection ends.
func (k *conn) reader(r *bufio.Reader) error {
	var buf []byte
	for {
		if err := k.nc.SetReadDeadline(time.Now().Add(k.ctl.idle())); err != nil {
			return err
		}
		typ, p, err := readFrame(r, &buf)
		if err != nil {
			return err
		}
		if typ == typePing {
			continue
		}
		m, err := decode(typ, p)
		if err != nil {
			return err
		}
		k.ctl.post(func() {
			if k.ctl.conns[k.node] == k {
				k.ctl.core.Receive(k.node, m)
			}
		})
	}
}

// serve runs a connection from its first byte to its end. want is the node that
// was dialled, or nil for an accepted connection.
func (c *Controller) serve(nc net.Conn, want *stackglue.ClusterNode) error {
	defer nc.Close()
	stop := context.AfterFunc(c.ctx, func() { nc.Close() })
	defer stop()
	r := bufio.NewReader(nc)
	g, err := c.greet(nc, r, want)
	if err != nil {
		return err
	}
	k := &conn{ctl: c, node: g.From.Node, nc: nc, out: make(chan []byte, queueFrames), done: make(chan struct{})}
	c.fault(k.node, nil)
	c.post(func() {
		if old := c.conns[k.node]; old != nil {
			old.close()
			delete(c.conns, k.node)
			c.core.Disconnected(k.node)
		}
		c.conns[k.node] = k
		c.core.Connected(k.node)
	})
	var w sync.WaitGroup
	w.Go(k.writer)
	err = k.reader(r)
	k.close()
	w.Wait()
	c.post(func() {
		if c.conns[k.node] == k {
			delete(c.conns, k.node)
			c.core.Disconnected(k.node)
		}
	})
	return err
}

// greet exchanges greetings and checks the peer's.
func (c *Controller) greet(nc net.Conn, r *bufio.Reader, want *stackglue.ClusterNode) (greeting, error) {
	ours := greeting{Group: c.cfg.Group, From: c.cfg.Self, PeriodMS: uint32(c.cfg.Period.Milliseconds()), Threshold: uint32(c.cfg.Threshold)}
	if err := nc.SetDeadline(time.Now().Add(greetLimit)); err != nil {
		return greeting{}, err
	}
	peer := want
	if want == nil {
		host, _, err := net.SplitHostPort(nc.RemoteAddr().String())
		if err != nil {
			return greeting{}, err
		}
		for i, n := range c.cfg.Cluster.Nodes {
			if n.Addr == host && n.Number > c.self.Number {
				peer = &c.cfg.Cluster.Nodes[i]
			}
		}
		if peer == nil {
			return greeting{}, fmt.Errorf("connection from %s, which is no node above %d of this cluster", host, c.self.Number)
		}
	}
	ours.To = peer.Number
	if _, err := nc.Write(ours.encode()); err != nil {
		return greeting{}, err
	}
	var buf []byte
	typ, p, err := readFrame(r, &buf)
	if err != nil {
		return greeting{}, err
	}
	g, err := decodeGreeting(p)
	if err == nil {
		err = checkGreeting(typ, &g, &ours, peer.Number)
	}
	if err != nil {
		c.fault(peer.Number, err)
		return g, err
	}
	return g, nc.SetDeadline(time.Time{})
}

// checkGreeting says what in a peer's greeting does not fit.
func checkGreeting(typ byte, g, ours *greeting, node uint32) error {
	switch {
	case typ != typeGreeting:
		return fmt.Errorf("frame type %d instead of a greeting: %w", typ, ErrFrame)
	case g.From.Node != node || g.From.Inc == 0:
		return fmt.Errorf("the process at this address says it is node %d; cluster.conf differs between the nodes", g.From.Node)
	case g.To != ours.From.Node:
		return fmt.Errorf("it takes this node for node %d; cluster.conf differs between the nodes", g.To)
	case g.Group != ours.Group:
		return fmt.Errorf("it has mounted another volume (%s) on this address", g.Group)
	case g.PeriodMS != ours.PeriodMS || g.Threshold != ours.Threshold:
		return fmt.Errorf("it runs with heartbeat period %d ms and threshold %d, this node with %d ms and %d; make /etc/default/o2cb the same on all nodes", g.PeriodMS, g.Threshold, ours.PeriodMS, ours.Threshold)
	}
	return nil
}

// accept takes connections of higher numbered nodes.
func (c *Controller) accept() {
	for {
		nc, err := c.listen.Accept()
		if err != nil {
			if isClosed(err) || !c.pause(dialMax) {
				return
			}
			c.cfg.Logf("accepting connections: %v", err)
			continue
		}
		c.wg.Go(func() { _ = c.serve(nc, nil) })
	}
}

// dialer keeps a connection to a lower numbered node.
func (c *Controller) dialer(n stackglue.ClusterNode) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.self.Addr)}, Timeout: c.idle(), Control: func(_, _ string, raw syscall.RawConn) error { return bindNoPort(raw) }}
	wait := dialMin
	for c.ctx.Err() == nil {
		nc, err := d.DialContext(c.ctx, "tcp", net.JoinHostPort(n.Addr, strconv.Itoa(n.Port)))
		if err == nil {
			began := time.Now()
			err = c.serve(nc, &n)
			if time.Since(began) > time.Second {
				wait = dialMin
			}
			if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
				wait = min(wait, 2*dialMin)
			}
		}
		if !c.pause(wait) {
			return
		}
		wait = min(2*wait, dialMax)
	}
}
