// Package controller runs a view.Core over TCP between ocfuse nodes, on the
// ip_port of cluster.conf. Linux leaves this job to dlm_controld and corosync; the
// protocol is our own and no kernel node speaks it.
//
// # Connections
//
// One per pair of nodes: the higher number dials the lower, from its own
// ip_address, as in o2net. Each side begins with a greeting that says volume,
// node, incarnation and heartbeat times; a difference ends the connection. The
// source address must be that of the node which the greeting names. A newer
// connection of a peer replaces the older. What is in flight when a connection
// breaks may be lost; view.Core repeats what matters after the next Hello.
//
// # Frames
//
// All numbers little-endian: u32 magic "OFVC", u8 version 1, u8 type, u16 length of
// what follows. Types: 0 greeting, 1 ping, else view.Kind + 1.
//
// # Goroutines
//
// One event loop owns the core; readers, writers, dialers and the answers of the
// host are posted to it. The host's methods are called by the loop and must not
// block, except Verify and Rescan, which get goroutines of their own.
package controller
