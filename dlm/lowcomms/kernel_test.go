package lowcomms

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/dlm/midcomms"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

// TestLinuxPeer talks to a real Linux 6.1 node over TCP: joins and leaves by either side, the reliable layer under
// broken connections. Above midcomms there is only what Linux needs to believe in a second member.
//
// It needs OCFUSE_LINUX_PEER="1@10.77.0.1" (a Linux node that runs shell lines sent to its TCP port 2323 and has the
// commands peer-dlm and peer-dlm-members) and OCFUSE_SELF="2@10.77.0.254" (our address, on this host).
func TestLinuxPeer(t *testing.T) {
	if os.Getenv("OCFUSE_LINUX_PEER") == "" {
		t.Skip("OCFUSE_LINUX_PEER is not set: no Linux node to talk to")
	}
	g := newGuest(t)
	g.sh("[ -d /sys/kernel/config/dlm/cluster/comms ] && ls /sys/kernel/config/dlm/cluster/comms | grep -q . || "+
		"peer-dlm test '%d:%v %d:%v' '%d %d'", g.peer, g.peerAddr, g.self, g.selfAddr, g.peer, g.self)
	g.sh("dmesg -c >/dev/null")
	t.Run("LinuxLeaves", g.linuxLeaves)
	t.Run("WeLeave", g.weLeave)
	g.complaints(t, "seq mismatch\\|in an invalid sequence\\|stuck\\|BUG:\\|WARNING:")
	t.Run("Cuts", g.cuts) // messages sent again are a "seq mismatch" to Linux
	g.complaints(t, "in an invalid sequence\\|stuck\\|BUG:\\|WARNING:")
}

func (g *guest) complaints(t *testing.T, about string) {
	t.Helper()
	g.t = t
	if s := g.sh("dmesg | grep '%s' || true", about); strings.TrimSpace(s) != "" {
		t.Errorf("the Linux node complains:\n%s", s)
	}
}

// guest is the Linux node, and the pretended lockspace of ours.
type guest struct {
	t                  *testing.T
	peer, self         uint32
	peerAddr, selfAddr netip.Addr
	node               *Node

	mu      sync.Mutex
	lookups map[string]int // times a LOOKUP of a name arrived
	other   []string       // what else arrived wrapped
	logs    logs
}

func newGuest(t *testing.T) *guest {
	g := &guest{t: t}
	for env, p := range map[string]struct {
		id *uint32
		a  *netip.Addr
	}{"OCFUSE_LINUX_PEER": {&g.peer, &g.peerAddr}, "OCFUSE_SELF": {&g.self, &g.selfAddr}} {
		id, a, _ := strings.Cut(os.Getenv(env), "@")
		if _, err := fmt.Sscan(id, p.id); err != nil {
			t.Fatalf("%s: %v", env, err)
		}
		*p.a = netip.MustParseAddr(a)
	}
	return g
}

// run executes a shell line in the guest.
func (g *guest) run(line string) (string, error) {
	c, err := net.DialTimeout("tcp", netip.AddrPortFrom(g.peerAddr, 2323).String(), 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	if _, err := fmt.Fprintf(c, "%s\necho kp-status=$?\n", line); err != nil {
		return "", err
	}
	_ = c.(*net.TCPConn).CloseWrite()
	out, err := io.ReadAll(c)
	if err != nil {
		return string(out), err
	}
	s, status, ok := strings.Cut(string(out), "kp-status=")
	if !ok || strings.TrimSpace(status) != "0" {
		return s, fmt.Errorf("guest: %q: %s", line, out)
	}
	return s, nil
}

func (g *guest) sh(format string, args ...any) string {
	g.t.Helper()
	out, err := g.run(fmt.Sprintf(format, args...))
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

// octal makes a printf argument of bytes.
func octal(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, `\%03o`, c)
	}
	return s.String()
}

// control writes a command of the DLM's user interface (Linux include/uapi/linux/dlm_device.h) to a device. The
// shell repeats what the kernel seems not to have taken, and gets an error for it; the first write counts.
func control(dev string, b []byte) string {
	return fmt.Sprintf("printf '%s' >%s 2>/dev/null; true", octal(b), dev)
}

func request(cmd byte, size int) []byte {
	b := make([]byte, size)
	b[0], b[12], b[13] = 6, cmd, 1
	return b
}

const guestLS = "testls"

// create lets the Linux node create the lockspace; returns when it joined.
func (g *guest) create() {
	g.t.Helper()
	b := request(4, 120)
	copy(b[24:], guestLS)
	g.sh("%s", control("/dev/dlm-control", b))
	g.sh("for i in $(seq 100); do [ -c /dev/dlm_%s ] && break; sleep 0.1; done; [ -c /dev/dlm_%[1]s ]", guestLS)
}

// remove lets the Linux node release the lockspace, its last: it ends the association.
func (g *guest) remove() time.Duration {
	g.t.Helper()
	minor := strings.TrimSpace(g.sh("cut -d: -f2 /sys/class/misc/dlm_%s/dev", guestLS))
	b := request(5, 120)
	var n uint32
	if _, err := fmt.Sscan(minor, &n); err != nil {
		g.t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(b[16:], 2)
	binary.LittleEndian.PutUint32(b[20:], n)
	start := time.Now()
	g.sh("%s", control("/dev/dlm-control", b))
	g.sh("[ ! -c /dev/dlm_%s ]", guestLS)
	return time.Since(start)
}

// locks takes an EX lock on each of n resources and waits for the completions.
func (g *guest) locks(prefix string, n int) {
	g.t.Helper()
	b := request(1, 120)
	b[16], b[17] = byte(wire.EX), byte(len(prefix)+3)
	b[56], b[80] = 1, 1
	head := octal(b)
	out := g.sh("exec 3<>/dev/dlm_%s; for i in $(seq 100 %d); do printf '%s%s'$i >&3 2>/dev/null; done; "+
		"for i in $(seq 100 %d); do [ $(dd bs=104 count=1 <&3 2>/dev/null | wc -c) -ge 52 ] && echo; done | wc -l",
		guestLS, 99+n, head, prefix, 99+n)
	if strings.TrimSpace(out) != fmt.Sprint(n) {
		g.t.Errorf("%s locks are complete, want %d", strings.TrimSpace(out), n)
	}
}

// join starts a node of ours, in which the Linux node is a member.
func (g *guest) join() {
	g.t.Helper()
	g.lookups, g.other = map[string]int{}, nil
	var err error
	g.node, err = NewNode(Config{Self: g.self, Addr: g.selfAddr, Log: g.logs.add,
		Link: midcomms.Config{ShutdownTimeout: 20 * time.Second}}, g.deliver)
	if err == nil {
		err = g.node.AddPeer(g.peer, g.peerAddr)
	}
	if err == nil {
		err = g.node.Start()
	}
	if err == nil {
		err = g.node.AddMember(g.peer)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	n := g.node
	g.t.Cleanup(func() { _ = n.Close() })
}

// deliver is a member that holds nothing: past every barrier, no names, directory of resources the peer masters.
func (g *guest) deliver(from uint32, cmd wire.Cmd, inner []byte) {
	h := wire.Header{NodeID: g.self, Union: wire.GlobalID(guestLS)}
	switch cmd {
	case wire.CmdRcom:
		var r wire.Rcom
		if err := r.Decode(inner); err != nil {
			g.t.Error(err)
			return
		}
		reply := wire.Rcom{Header: h, Type: r.Type + 4, ID: r.ID, Seq: 1, SeqReply: r.Seq}
		switch r.Type {
		case wire.RcomStatus:
			reply.Result = int32(wire.RSNodes | wire.RSDir | wire.RSLocks | wire.RSDone)
			reply.Buf = (&wire.RcomConfig{LVBLen: 32}).Append(nil)
		case wire.RcomNames:
			reply.Buf = wire.AppendNamesEnd(nil, true)
		default:
			return
		}
		_ = g.node.Send(from, reply.Append(nil))
	case wire.CmdMsg:
		var m wire.Message
		if err := m.Decode(inner); err != nil {
			g.t.Error(err)
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if m.Type != wire.MsgLookup {
			g.other = append(g.other, m.String())
			return
		}
		g.lookups[string(m.Extra)]++
		reply := wire.Message{Header: h, Type: wire.MsgLookupReply, LkID: m.LkID, NodeID: int32(g.peer)}
		if err := g.node.Send(from, reply.Append(nil)); err != nil {
			g.t.Error(err)
		}
	}
}

// checkLookups: every resource of which we are the directory was looked up exactly once.
func (g *guest) checkLookups(t *testing.T, prefix string, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	array := wire.NodeArray(nil, []wire.Weight{{NodeID: min(g.peer, g.self), Weight: 1}, {NodeID: max(g.peer, g.self), Weight: 1}})
	ours := 0
	for i := range n {
		name := fmt.Sprintf("%s%d", prefix, 100+i)
		want := 0
		if wire.DirNode(array, wire.ResourceHash([]byte(name))) == g.self {
			want = 1
			ours++
		}
		if g.lookups[name] != want {
			t.Errorf("%s was looked up %d times, want %d", name, g.lookups[name], want)
		}
	}
	if ours == 0 {
		t.Error("we are the directory of nothing")
	}
}

func (g *guest) state() midcomms.State {
	s, err := g.node.Status(g.peer)
	if err != nil {
		g.t.Fatal(err)
	}
	return s.State
}

// linuxLeaves: the Linux node's FIN comes while it is still a member; its release must not wait longer than we do.
func (g *guest) linuxLeaves(t *testing.T) {
	g.t = t
	for range 2 { // the second time with numbers from 0 again, in the same process
		g.join()
		g.create()
		g.locks("res", 20)
		g.checkLookups(t, "res", 20)
		done := make(chan time.Duration, 1)
		go func() { done <- g.remove() }()
		eventually(t, "Linux's FIN", func() bool { return g.state() == midcomms.CloseWait })
		if err := g.node.RemoveMember(g.peer); err != nil {
			t.Fatal(err)
		}
		eventually(t, "end of the association", func() bool { return g.state() == midcomms.Closed })
		t.Logf("release took %v", <-done)
		if err := g.node.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// weLeave: the Linux node stays, and answers our FIN.
func (g *guest) weLeave(t *testing.T) {
	g.t = t
	g.join()
	g.create()
	g.locks("res", 20)
	g.checkLookups(t, "res", 20)
	g.sh("peer-dlm-members %s %d", guestLS, g.peer)
	_ = g.node.RemoveMember(g.peer)
	start := time.Now()
	if err := g.node.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("shutdown took %v: Linux did not answer", d)
	}
	g.remove()
}

// cuts: our side resets its connections all the time; every LOOKUP arrives once, every lock is granted.
func (g *guest) cuts(t *testing.T) {
	g.t = t
	g.join()
	g.create()
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				done <- n
				return
			case <-time.After(150 * time.Millisecond):
				g.node.tr.Abort(g.peer)
				n++
			}
		}
	}()
	g.locks("cut", 200)
	close(stop)
	n := <-done
	g.checkLookups(t, "cut", 200)
	t.Logf("%d cuts, %+v", n, g.node.tr.(*Conns).Stats(g.peer))
	g.sh("peer-dlm-members %s %d", guestLS, g.peer)
	_ = g.node.RemoveMember(g.peer)
	if err := g.node.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	g.remove()
}
