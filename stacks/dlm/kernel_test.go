package dlm

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
)

// linuxPeer is a Linux node that runs shell lines sent to its TCP port 2323.
type linuxPeer struct {
	t          *testing.T
	node, self uint32
	addr, mine string
}

// sh runs a line in the guest and returns what it prints.
func (p *linuxPeer) sh(format string, a ...any) (string, error) {
	nc, err := net.DialTimeout("tcp", p.addr+":2323", 10*time.Second)
	if err != nil {
		return "", err
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(3 * time.Minute)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(nc, format+"\necho \"status=$?\"\n", a...); err != nil {
		return "", err
	}
	_ = nc.(*net.TCPConn).CloseWrite()
	out, err := io.ReadAll(nc)
	text := string(out)
	if err == nil && !strings.Contains(text, "status=0") {
		err = fmt.Errorf("%s: %s", fmt.Sprintf(format, a...), text)
	}
	return text, err
}

func (p *linuxPeer) must(format string, a ...any) string {
	p.t.Helper()
	out, err := p.sh(format, a...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// TestLinuxPeer shares a volume's lockspace with a Linux kernel that mounts the
// volume: joining, the locking protocol, a lock the kernel gives up for us, our
// death, our return, our leave.
//
// It needs OCFUSE_LINUX_PEER="1@10.77.0.1" (a Linux node with the volume as
// /dev/vda, and with the commands peer-dlm and peer-dlm-members),
// OCFUSE_SELF="2@10.77.0.2" (our address, on this host) and OCFUSE_VOLUME_UUID.
func TestLinuxPeer(t *testing.T) {
	uuid := os.Getenv("OCFUSE_VOLUME_UUID")
	if os.Getenv("OCFUSE_LINUX_PEER") == "" || uuid == "" {
		t.Skip("OCFUSE_LINUX_PEER and OCFUSE_VOLUME_UUID are not set: no Linux node to talk to")
	}
	p := &linuxPeer{t: t}
	for env, f := range map[string][2]any{"OCFUSE_LINUX_PEER": {&p.node, &p.addr}, "OCFUSE_SELF": {&p.self, &p.mine}} {
		if _, err := fmt.Sscanf(strings.Replace(os.Getenv(env), "@", " ", 1), "%d %s", f[0], f[1]); err != nil {
			t.Fatalf("%s: %v", env, err)
		}
	}
	g := manualGroup(t)
	g.name = uuid
	g.cluster.Nodes = []stackglue.ClusterNode{{Number: p.node, Name: "linux", Addr: p.addr, Port: 7777}, {Number: p.self, Name: "self", Addr: p.mine, Port: 7777}}
	g.opts["members"] = fmt.Sprint(p.node, " ", p.self)
	p.must("peer-dlm kp '%d:%s %d:%s'", p.node, p.addr, p.self, p.mine)
	mounted := make(chan error, 1)
	go func() {
		_, err := p.sh("mount -t ocfs2 -o cluster_stack=pcmk /dev/vda /mnt")
		mounted <- err
	}()
	c := g.connect(p.self, newRecorder())
	if err := <-mounted; err != nil {
		t.Fatal(err)
	}
	if v := c.Version(); v != (stackglue.Version{Major: 1}) {
		t.Errorf("locking protocol %v", v)
	}
	super := newTestLock("S000000000000000000000200000000")
	p.takeOver(c, super)

	// Die holding EX: the kernel hears of it and goes on.
	c.Abort()
	p.must("(sleep 1; peer-dlm-members %s %d %d) >/dev/null 2>&1 & touch /mnt/waits", uuid, p.node, p.self)
	p.must("sync; ls /mnt/waits")

	// Return as a new incarnation: the kernel is told first.
	p.must("peer-dlm-members %s '%d %d'", uuid, p.node, p.self)
	c = g.connect(p.self, newRecorder())
	super = newTestLock("S000000000000000000000200000000")
	p.takeOver(c, super)
	if err := super.unlock(c); err != nil {
		t.Fatal(err)
	}
	p.must("touch /mnt/later && sync")

	left := make(chan error, 1)
	go func() { left <- c.Disconnect(context.Background()) }()
	time.Sleep(300 * time.Millisecond)
	p.must("peer-dlm-members %s %d", uuid, p.node)
	if err := <-left; err != nil {
		t.Error(err)
	}
	p.must("touch /mnt/alone && umount /mnt")
	if out, _ := p.sh("dmesg | grep -E 'BUG:|Oops|blocked for more|WARNING:|stuck|invalid sequence|seq mismatch'"); !strings.HasPrefix(out, "status=1") {
		t.Errorf("the Linux node complains:\n%s", out)
	}
}

// takeOver gets EX on a lock that the kernel holds, which makes the kernel lower it.
func (p *linuxPeer) takeOver(c stackglue.Conn, l *testLock) {
	p.t.Helper()
	if err := l.lock(c, stackglue.EX, stackglue.FlagValBlk); err != nil {
		p.t.Fatal(err)
	}
}
