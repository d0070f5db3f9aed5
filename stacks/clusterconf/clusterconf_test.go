package clusterconf

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ocfuse/ocfuse/stackglue"
)

const strict = "cluster:\n\theartbeat_mode = local\n\tnode_count = 2\n\tname = kp\n\n" +
	"node:\n\tnumber = 2\n\tcluster = kp\n\tip_port = 7777\n\tip_address = 127.0.0.2\n\tname = n2\n\n" +
	"node:\n\tnumber = 1\n\tcluster = kp\n\tip_port = 7777\n\tip_address = 127.0.0.1\n\tname = n1\n\n"

// lenient is the same cluster as a person writes it.
const lenient = "\ufeff# our cluster\r\nnode: # first\r\n    name=n1\n number= 1\nip_address =127.0.0.1   # lo\n\t\tip_port = 7777\n\tcluster = kp\ncluster:\n name = kp\nnode_count = 2\nnode:\nnumber = 2\ncluster = kp\nip_port = 7777\nip_address = 127.0.0.2\nname = n2"

func want() stackglue.Cluster {
	return stackglue.Cluster{Name: "kp", DeadThreshold: 31, IdleTimeoutMS: 30000, KeepaliveMS: 2000, ReconnectMS: 2000,
		Nodes: []stackglue.ClusterNode{{Number: 1, Name: "n1", Addr: "127.0.0.1", Port: 7777}, {Number: 2, Name: "n2", Addr: "127.0.0.2", Port: 7777}}}
}

func TestParse(t *testing.T) {
	for name, text := range map[string]string{"strict": strict, "lenient": lenient} {
		f, err := Parse("c", []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c, err := f.Cluster("")
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(*c, want()) {
			t.Errorf("%s: got %+v", name, *c)
		}
		if len(f.Notes) != 0 {
			t.Errorf("%s: notes %v", name, f.Notes)
		}
	}
}

func TestErrors(t *testing.T) {
	node := func(n, port, ip, name string) string {
		return "node:\n\tnumber = " + n + "\n\tcluster = kp\n\tip_port = " + port + "\n\tip_address = " + ip + "\n\tname = " + name + "\n"
	}
	head := "cluster:\n\tname = kp\n"
	for _, c := range []struct{ text, want string }{
		{"", "c: no `cluster:` stanza"},
		{"\tname = x\n", `c:1:2: parameter "name" before any stanza`},
		{"cluster\n", "c:1:1: neither a stanza"},
		{"cluster:\n  = 3\n", "c:2:3: a value without a name"},
		{"cluster:\n\tname = a\x00b\n", "c:2:10: a zero byte"},
		{"cluster:\n", "c:1:1: cluster stanza without a `name`"},
		{"cluster:\n\tname = a b\n", `c:2:9: name "a b"`},
		{head + head, "c:4:9: cluster \"kp\" is described twice"},
		{head + "\theartbeat_mode = both\n", "c:3:19: heartbeat_mode"},
		{head + "\tnode_count = many\n", "c:3:15: node_count"},
		{head + node("255", "7777", "1.2.3.4", "a"), "c:4:11: number = \"255\": must be a number from 0 to 254"},
		{head + node("-1", "7777", "1.2.3.4", "a"), "c:4:11: number"},
		{head + node("1", "0", "1.2.3.4", "a"), "c:6:12: ip_port"},
		{head + node("1", "7777", "fe80::1", "a"), "c:7:15: ip_address"},
		{head + node("1", "7777", "0.0.0.0", "a"), "c:7:15: ip_address"},
		{head + node("1", "7777", "host", "a"), "c:7:15: ip_address"},
		{head + node("1", "7777", "1.2.3.4", "a") + node("1", "7777", "1.2.3.5", "b"), "c:10:11: nodes a and b both have number 1"},
		{head + node("1", "7777", "1.2.3.4", "a") + node("2", "7777", "1.2.3.5", "a"), "c:14:9: two nodes named a"},
		{head + node("1", "7777", "1.2.3.4", "a") + node("2", "7777", "1.2.3.4", "b"), "c:13:15: nodes a and b both have address 1.2.3.4"},
		{head + "node:\n\tcluster = other\n", "c:4:12: no cluster named \"other\""},
		{head + "node:\n\tcluster = kp\n\tname = a\n", "c:3:1: node \"a\" without a `number`"},
		{head + "cluster:\n\tname = b\nnode:\n\tname = x\n", "c:5:1: node stanza without a `cluster`, and there are several"},
	} {
		_, err := Parse("c", []byte(c.text))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || !errors.Is(err, ErrSyntax) {
			t.Errorf("%q:\n got %v\nwant %s...", c.text, err, c.want)
		}
	}
}

func TestNotesAndSeveralClusters(t *testing.T) {
	f, err := Parse("c", []byte(strict+"cluster:\n\tname = b\n\tcolour = red\n\tnode_count = 1\ngadget:\n\tx = 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range f.Notes {
		got = append(got, n.String())
	}
	all := strings.Join(got, "\n")
	for _, w := range []string{`parameter "colour" of cluster is not known`, `stanza "gadget" is not known`, "node_count = 1, but cluster b has 0"} {
		if !strings.Contains(all, w) {
			t.Errorf("no note %q in:\n%s", w, all)
		}
	}
	if _, err := f.Cluster(""); err == nil || !strings.Contains(err.Error(), "several clusters (kp, b)") {
		t.Errorf("Cluster(\"\"): %v", err)
	}
	if _, err := f.Cluster("nope"); err == nil {
		t.Error("a cluster that is not there was found")
	}
	if c, err := f.Cluster("kp"); err != nil || len(c.Nodes) != 2 {
		t.Errorf("Cluster(kp): %v, %v", c, err)
	}
}

func TestTimeouts(t *testing.T) {
	c := want()
	notes, err := ParseTimeouts("o2cb", []byte("# x\nO2CB_ENABLED=true\nO2CB_HEARTBEAT_THRESHOLD=5 # fast\nexport O2CB_IDLE_TIMEOUT_MS=\"10000\"\nO2CB_KEEPALIVE_DELAY_MS=\nif true; then\nFOO=1\n"), &c)
	if err != nil {
		t.Fatal(err)
	}
	if c.DeadThreshold != 5 || c.IdleTimeoutMS != 10000 || c.KeepaliveMS != 2000 || len(notes) != 2 {
		t.Errorf("got %+v, notes %v", c, notes)
	}
	for text, w := range map[string]string{
		"\nO2CB_HEARTBEAT_THRESHOLD=2":                            "o2cb:2:26: O2CB_HEARTBEAT_THRESHOLD",
		"O2CB_IDLE_TIMEOUT_MS=x":                                  "o2cb:1:22: O2CB_IDLE_TIMEOUT_MS",
		"O2CB_IDLE_TIMEOUT_MS=500\nO2CB_KEEPALIVE_DELAY_MS=500\n": "o2cb: O2CB_KEEPALIVE_DELAY_MS (500) must be less",
	} {
		c := want()
		if _, err := ParseTimeouts("o2cb", []byte(text), &c); err == nil || !strings.HasPrefix(err.Error(), w) {
			t.Errorf("%q: got %v, want %s", text, err, w)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	conf, to := filepath.Join(dir, "cluster.conf"), filepath.Join(dir, "o2cb")
	if _, _, err := Load(Options{Config: conf}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(conf, []byte(strict), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, _, err := Load(Options{Config: conf, Timeouts: to}); err != nil || c.DeadThreshold != 31 {
		t.Errorf("without timeouts: %+v, %v", c, err)
	}
	if err := os.WriteFile(to, []byte("O2CB_HEARTBEAT_THRESHOLD=7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, _, err := Load(Options{Config: conf, Timeouts: to, Cluster: "kp"}); err != nil || c.DeadThreshold != 7 {
		t.Errorf("with timeouts: %+v, %v", c, err)
	}
	if err := os.WriteFile(conf, make([]byte, maxSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(Options{Config: conf}); !errors.Is(err, ErrSyntax) {
		t.Errorf("huge file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(strict))
	f.Add([]byte(lenient))
	f.Add([]byte("O2CB_HEARTBEAT_THRESHOLD=\"5\nexport X\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if file, err := Parse("c", data); err == nil {
			for _, c := range file.Clusters {
				seen := map[uint32]bool{}
				for _, n := range c.Nodes {
					if seen[n.Number] || n.Number > MaxNode || n.Port < 1 || n.Port > 65535 {
						t.Fatalf("accepted node %+v", n)
					}
					seen[n.Number] = true
				}
			}
		} else if !errors.Is(err, ErrSyntax) {
			t.Fatalf("error of another kind: %v", err)
		}
		c := want()
		if _, err := ParseTimeouts("t", data, &c); err == nil && (c.DeadThreshold < 3 || c.KeepaliveMS >= c.IdleTimeoutMS) {
			t.Fatalf("accepted %+v", c)
		}
	})
}
