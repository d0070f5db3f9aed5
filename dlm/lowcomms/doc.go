// Package lowcomms carries DLM frames over TCP and runs midcomms on top of it. (Linux fs/dlm/lowcomms.c.)
//
// Three layers, each testable without the next:
//
//	Node        one object per process: Send, Deliver, members, shutdown. A midcomms.Peer per other node.
//	Transport   connections per peer: who dials, which one is used for sending, output buffers, reconnects.
//	Network     how to listen and dial: TCP, or Mem for tests.
//
// # Connections
//
// A peer is recognised by the source address of its connection, nothing else; unknown addresses are closed at once.
// We listen on our own address and dial from it. The protocol has no tie-break for crossing dials: all sockets of a
// peer are read, and one at a time is used for sending:
//
//   - the first one that exists, dialled or accepted;
//   - an accepted one takes over from an earlier accepted one, because a Linux peer dials again only when its own
//     socket is gone;
//   - when it ends, any other that is left, else none: then Connect is asked for again if there is anything to say.
//
// Every change of the sending connection makes midcomms write its unacknowledged messages again, in order: a receiver
// drops what it has and what is out of order. Older sockets are kept for reading until they end by themselves; at
// most maxConns, the oldest is dropped then.
//
// Refused dials are repeated after 5 ms, doubling to 500 ms (Linux 6.1 dials again at once, about 2000 times a
// second), unreachable peers after 1 s (Linux 6.1 gives up until the next send). A connection that ends before the
// peer said anything counts as a failed dial. Connections are closed with RST except after a complete FIN handshake
// or when the peer closed first: a Linux peer does not send again what a clean close swallowed. There is no keepalive
// and no idle timeout: the cluster's membership decides who is dead.
//
// # Latency
//
// The reading goroutine of a connection runs midcomms and the Deliver callback itself. A sender writes to the socket
// itself if nobody else does; what is sent meanwhile is collected and written by whoever holds the socket, in one
// write. A socket that does not take more is left to a goroutine that lives until it does, so neither senders nor
// readers ever block on a slow peer.
//
// # Locks
//
// In this order; a lower one may be taken while a higher is held:
//
//	link.evMu     the order of OnConnected and OnDisconnected of a peer
//	link.inMu     one OnBytes of a peer at a time; RemovePeer waits for it
//	peer.rxMu     one receive pass of a peer at a time; Deliver runs under it
//	(the caller's own locks: Deliver takes them, Send is called under them)
//	peer.mu       the midcomms.Peer
//	link.mu       connections and output buffers of a peer
//
// Deliver must not wait for anything that needs a message of the same peer. It may call Send and Queue, and must not
// call RemovePeer, which waits for it; nor may whoever calls RemovePeer hold a lock that Deliver takes.
package lowcomms
