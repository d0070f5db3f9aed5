// Package clusterconf reads the two files that describe an o2cb cluster: the
// list of nodes (cluster.conf(5), usually /etc/ocfs2/cluster.conf) and the
// timeouts (/etc/default/o2cb). The dlm and the o2cb stack both use the node
// list, so one file serves whichever stack a volume is labelled for. cmd calls
// Load and hands the result to a stack in stackglue.Config.Cluster.
//
// # Format
//
// cluster.conf is a list of stanzas. A stanza begins with `kind:` (cluster,
// node or heartbeat) in the first column and holds `name = value` lines, each
// indented. o2cb's own tools want exactly one tab before a parameter and one
// empty line between stanzas; a file written by hand often has neither, so this
// parser takes any indentation, comments, CRLF and missing empty lines. A
// stanza of an unknown kind and an unknown parameter are noted, not refused:
// newer tools may write more than this one knows.
//
// What would make two nodes disagree about who is who is refused: two nodes
// with one number, name or address, a number outside 0..254, an address that is
// not IPv4, a node of a cluster that the file does not describe. Every error
// names file, line and column and says what to write instead.
//
// Timeouts come from shell assignments (O2CB_HEARTBEAT_THRESHOLD=31 and so on);
// what is not set has the kernel's default (Linux fs/ocfs2/cluster/nodemanager.h
// and heartbeat.h).
package clusterconf
