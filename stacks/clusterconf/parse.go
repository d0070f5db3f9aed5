package clusterconf

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ocfuse/ocfuse/stackglue"
)

// Limits of the node manager (Linux fs/ocfs2/cluster/ocfs2_nodemanager.h).
const (
	MaxNode    = 254 // O2NM_MAX_NODES - 1
	MaxNodes   = 255 // O2NM_MAX_NODES
	MaxNameLen = 64  // O2NM_MAX_NAME_LEN
)

// Kernel defaults (Linux fs/ocfs2/cluster/heartbeat.h, tcp.h).
const (
	DefaultDeadThreshold = 31    // O2HB_DEFAULT_DEAD_THRESHOLD, periods of 2 s
	DefaultIdleMS        = 30000 // O2NET_IDLE_TIMEOUT_MS_DEFAULT
	DefaultKeepaliveMS   = 2000  // O2NET_KEEPALIVE_DELAY_MS_DEFAULT
	DefaultReconnectMS   = 2000  // O2NET_RECONNECT_DELAY_MS_DEFAULT
)

// File is a parsed cluster.conf: one or more clusters, in the file's order,
// each with its nodes by ascending number and the kernel's default timeouts.
type File struct {
	Name     string
	Clusters []stackglue.Cluster
	Notes    []Note
}

// Parse reads a cluster.conf. name is used in messages only. Errors are of type
// *Error.
func Parse(name string, data []byte) (*File, error) {
	stanzas, err := scan(name, data)
	if err != nil {
		return nil, err
	}
	p := &parser{file: &File{Name: name}}
	for i := range stanzas {
		if stanzas[i].kind == "cluster" {
			if err := p.cluster(&stanzas[i]); err != nil {
				return nil, err
			}
		}
	}
	if len(p.file.Clusters) == 0 {
		return nil, &Error{name, 0, 0, "no `cluster:` stanza; a cluster.conf needs one with a `name`, and a `node:` stanza a node"}
	}
	for i := range stanzas {
		switch s := &stanzas[i]; s.kind {
		case "cluster":
		case "node":
			err = p.node(s)
		case "heartbeat":
			err = p.heartbeat(s)
		default:
			p.note(s.line, s.col, "stanza "+quote(s.kind)+" is not known and has no effect")
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, q := range stanzas[i].params {
			if !q.used {
				p.note(q.line, q.col, "parameter "+quote(q.key)+" of "+stanzas[i].kind+" is not known and has no effect")
			}
		}
	}
	p.finish()
	return p.file, nil
}

// Cluster picks a cluster by name; an empty name means the only one.
func (f *File) Cluster(name string) (*stackglue.Cluster, error) {
	var names []string
	for i := range f.Clusters {
		if f.Clusters[i].Name == name || (name == "" && len(f.Clusters) == 1) {
			return &f.Clusters[i], nil
		}
		names = append(names, f.Clusters[i].Name)
	}
	if name == "" {
		return nil, &Error{f.Name, 0, 0, "describes several clusters (" + strings.Join(names, ", ") + "); say which one is meant"}
	}
	return nil, &Error{f.Name, 0, 0, "does not describe the cluster " + quote(name) + ", only " + strings.Join(names, ", ")}
}

// parser holds what is needed across stanzas.
type parser struct {
	file  *File
	count []param // node_count of each cluster, zero if not given
}

func (p *parser) errorf(line, col int, format string, args ...any) error {
	return &Error{p.file.Name, line, col, fmt.Sprintf(format, args...)}
}

func (p *parser) note(line, col int, msg string) {
	p.file.Notes = append(p.file.Notes, Note{p.file.Name, line, col, msg})
}

// name reads and checks a name parameter.
func (p *parser) name(s *stanza, key string) (param, error) {
	v, ok := s.get(key)
	if !ok || v.val == "" {
		return v, p.errorf(s.line, s.col, "%s stanza without a `%s`; add a line `%s = ...`", s.kind, key, key)
	}
	if len(v.val) >= MaxNameLen || strings.ContainsAny(v.val, " \t\"'/") {
		return v, p.errorf(v.line, v.vcol, "%s %s: use up to %d characters without blanks, quotes and slashes", key, quote(v.val), MaxNameLen-1)
	}
	return v, nil
}

// number reads an integer parameter in lo..hi.
func (p *parser) number(v param, lo, hi int) (int, error) {
	n, err := strconv.Atoi(v.val)
	if err != nil || n < lo || n > hi {
		return 0, p.errorf(v.line, v.vcol, "%s = %s: must be a number from %d to %d", v.key, quote(v.val), lo, hi)
	}
	return n, nil
}

func (p *parser) cluster(s *stanza) error {
	v, err := p.name(s, "name")
	if err != nil {
		return err
	}
	for _, c := range p.file.Clusters {
		if c.Name == v.val {
			return p.errorf(v.line, v.vcol, "cluster %s is described twice; keep one stanza", quote(v.val))
		}
	}
	c := stackglue.Cluster{Name: v.val, DeadThreshold: DefaultDeadThreshold, IdleTimeoutMS: DefaultIdleMS,
		KeepaliveMS: DefaultKeepaliveMS, ReconnectMS: DefaultReconnectMS}
	if m, ok := s.get("heartbeat_mode"); ok {
		switch m.val {
		case "local":
		case "global":
			c.GlobalHeartbeat = true
		default:
			return p.errorf(m.line, m.vcol, "heartbeat_mode = %s: must be local or global", quote(m.val))
		}
	}
	n, ok := s.get("node_count")
	if ok {
		if _, err := p.number(n, 0, MaxNodes); err != nil {
			return err
		}
	}
	p.count = append(p.count, n)
	p.file.Clusters = append(p.file.Clusters, c)
	return nil
}

// member finds the cluster that a node or heartbeat stanza belongs to.
func (p *parser) member(s *stanza) (*stackglue.Cluster, error) {
	v, ok := s.get("cluster")
	if !ok {
		if len(p.file.Clusters) == 1 {
			p.note(s.line, s.col, s.kind+" stanza without `cluster`; taken for "+p.file.Clusters[0].Name+", but o2cb's own tools want the line")
			return &p.file.Clusters[0], nil
		}
		return nil, p.errorf(s.line, s.col, "%s stanza without a `cluster`, and there are several clusters; add a line `cluster = ...`", s.kind)
	}
	for i := range p.file.Clusters {
		if p.file.Clusters[i].Name == v.val {
			return &p.file.Clusters[i], nil
		}
	}
	return nil, p.errorf(v.line, v.vcol, "no cluster named %s in this file; it must be the `name` of a cluster stanza", quote(v.val))
}

func (p *parser) node(s *stanza) error {
	c, err := p.member(s)
	if err != nil {
		return err
	}
	name, err := p.name(s, "name")
	if err != nil {
		return err
	}
	num, ok := s.get("number")
	if !ok {
		return p.errorf(s.line, s.col, "node %s without a `number`; give it one from 0 to %d", quote(name.val), MaxNode)
	}
	n, err := p.number(num, 0, MaxNode)
	if err != nil {
		return err
	}
	addr, ok := s.get("ip_address")
	if !ok {
		return p.errorf(s.line, s.col, "node %s without an `ip_address`", quote(name.val))
	}
	ip, err := netip.ParseAddr(addr.val)
	if err != nil || !ip.Is4() || ip.IsUnspecified() {
		return p.errorf(addr.line, addr.vcol, "ip_address = %s: must be the IPv4 address of the node, such as 192.168.1.11", quote(addr.val))
	}
	port, ok := s.get("ip_port")
	if !ok {
		return p.errorf(s.line, s.col, "node %s without an `ip_port`; 7777 is usual", quote(name.val))
	}
	pn, err := p.number(port, 1, 65535)
	if err != nil {
		return err
	}
	for _, o := range c.Nodes {
		switch {
		case o.Number == uint32(n):
			return p.errorf(num.line, num.vcol, "nodes %s and %s both have number %d; give each its own", o.Name, name.val, n)
		case o.Name == name.val:
			return p.errorf(name.line, name.vcol, "two nodes named %s; give each its own name", name.val)
		case o.Addr == ip.String():
			return p.errorf(addr.line, addr.vcol, "nodes %s and %s both have address %s; a node is recognised by its address", o.Name, name.val, o.Addr)
		}
	}
	c.Nodes = append(c.Nodes, stackglue.ClusterNode{Number: uint32(n), Name: name.val, Addr: ip.String(), Port: pn})
	return nil
}

func (p *parser) heartbeat(s *stanza) error {
	c, err := p.member(s)
	if err != nil {
		return err
	}
	if _, err := p.name(s, "region"); err != nil {
		return err
	}
	if !c.GlobalHeartbeat {
		p.note(s.line, s.col, "heartbeat stanza, but the cluster's heartbeat_mode is not global: no effect")
	}
	return nil
}

// finish sorts nodes and compares node_count.
func (p *parser) finish() {
	for i := range p.file.Clusters {
		c := &p.file.Clusters[i]
		slices.SortFunc(c.Nodes, func(a, b stackglue.ClusterNode) int { return int(a.Number) - int(b.Number) })
		if n := p.count[i]; n.key != "" && n.val != strconv.Itoa(len(c.Nodes)) {
			p.note(n.line, n.vcol, fmt.Sprintf("node_count = %s, but cluster %s has %d node stanzas", n.val, c.Name, len(c.Nodes)))
		}
	}
}
