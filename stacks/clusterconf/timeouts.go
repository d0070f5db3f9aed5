package clusterconf

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ocfuse/ocfuse/stackglue"
)

// timeouts are the variables of /etc/default/o2cb that mean something here,
// with the limits of Linux fs/ocfs2/cluster/nodemanager.c and heartbeat.c.
var timeouts = []struct {
	key    string
	lo, hi int
	field  func(*stackglue.Cluster) *int
}{
	// A threshold of 2 or less is ignored by the kernel: refused here.
	{"O2CB_HEARTBEAT_THRESHOLD", 3, 1 << 20, func(c *stackglue.Cluster) *int { return &c.DeadThreshold }},
	{"O2CB_IDLE_TIMEOUT_MS", 1, 1 << 30, func(c *stackglue.Cluster) *int { return &c.IdleTimeoutMS }},
	{"O2CB_KEEPALIVE_DELAY_MS", 1, 1 << 30, func(c *stackglue.Cluster) *int { return &c.KeepaliveMS }},
	{"O2CB_RECONNECT_DELAY_MS", 1, 1 << 30, func(c *stackglue.Cluster) *int { return &c.ReconnectMS }},
}

// otherKeys are read by o2cb's init script and need no note.
var otherKeys = map[string]bool{"O2CB_ENABLED": true, "O2CB_STACK": true, "O2CB_BOOTCLUSTER": true}

// ParseTimeouts reads the text of /etc/default/o2cb into c. It understands
// plain assignments, quoted or not; other shell text is noted and ignored.
func ParseTimeouts(name string, data []byte, c *stackglue.Cluster) ([]Note, error) {
	var notes []Note
	rest := string(data)
	for n := 1; rest != ""; n++ {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		body := strings.TrimLeft(line, " \t")
		col := len(line) - len(body) + 1
		body = strings.TrimRight(body, " \t\r")
		if body == "" || body[0] == '#' {
			continue
		}
		if e, ok := strings.CutPrefix(body, "export "); ok {
			col, body = col+len(body)-len(strings.TrimLeft(e, " \t")), strings.TrimLeft(e, " \t")
		}
		key, val, ok := strings.Cut(body, "=")
		if !ok || strings.ContainsAny(key, " \t") {
			notes = append(notes, Note{name, n, col, "not a plain `NAME=value`; ignored: " + quote(body)})
			continue
		}
		known, err := setTimeout(c, key, unquote(val))
		if err != nil {
			return nil, &Error{name, n, col + len(key) + 1, err.Error()}
		}
		if !known && !otherKeys[key] {
			notes = append(notes, Note{name, n, col, quote(key) + " is not known and has no effect"})
		}
	}
	if c.KeepaliveMS >= c.IdleTimeoutMS {
		return nil, &Error{name, 0, 0, fmt.Sprintf("O2CB_KEEPALIVE_DELAY_MS (%d) must be less than O2CB_IDLE_TIMEOUT_MS (%d)", c.KeepaliveMS, c.IdleTimeoutMS)}
	}
	return notes, nil
}

// unquote takes shell quotes and a comment off a value.
func unquote(v string) string {
	if v != "" && (v[0] == '"' || v[0] == '\'') {
		if i := strings.IndexByte(v[1:], v[0]); i >= 0 {
			return v[1 : i+1]
		}
		return v
	}
	if i := strings.IndexAny(v, " \t#;"); i >= 0 {
		v = v[:i]
	}
	return v
}

func setTimeout(c *stackglue.Cluster, key, val string) (bool, error) {
	for _, t := range timeouts {
		if t.key != key {
			continue
		}
		if val == "" {
			return true, nil // unset: the default stays, as in the init script
		}
		n, err := strconv.Atoi(val)
		if err != nil || n < t.lo || n > t.hi {
			return true, fmt.Errorf("%s=%s: must be a number from %d to %d", key, quote(val), t.lo, t.hi)
		}
		*t.field(c) = n
		return true, nil
	}
	return false, nil
}
