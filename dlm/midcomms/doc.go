// Package midcomms is the reliable layer of DLM 3.2 between two nodes, as a pure state machine: it numbers messages,
// keeps them until acknowledged, sends them again after a reconnect, drops what arrives twice, and ends the
// association with the FIN handshake. (Linux fs/dlm/midcomms.c.)
//
// Who calls it: lowcomms.Node, one Peer per other node, under that peer's mutex. Tests drive it directly.
//
// Events in: Send, Receive + EndPass, ConnUp, ConnDown, MemberAdd, MemberRemove, Shutdown, Gone, Tick. Effects out:
// the Effects interface, called before the event method returns. A Peer has no goroutine, clock, socket or logger and
// is not safe for concurrent use; Effects must not call back into the Peer.
//
// The scope of a Peer is the pair of nodes, not a lockspace and not a TCP connection: connections come and go under
// it (ConnUp, ConnDown), and several lockspaces share it (users).
//
// # What is wrapped
//
// RCOM STATUS, STATUS_REPLY, NAMES and NAMES_REPLY travel bare and unreliable; every other RCOM and every MSG is
// wrapped in OPTS with a sequence number. The peer's version is learnt from its first message, so the first exchange
// is always STATUS and its reply; a wrapped Send before that fails with ErrNoVersion.
//
// # States
//
//	               CLOSED
//	                 |  member add, or bare status traffic
//	                 v
//	            ESTABLISHED
//	 Shutdown: FIN /     \ FIN received: ACK
//	              v       v  users > 0            users = 0: FIN too
//	     FIN_WAIT1        CLOSE_WAIT ----------------------+
//	  ACK |     | FIN: ACK      | last member removed: FIN |
//	      v     v               v                          |
//	FIN_WAIT2  CLOSING        LAST_ACK <-------------------+
//	  FIN: ACK |   | ACK          | ACK
//	           v   v              v
//	              CLOSED (reset: version unset, numbers 0, queue empty)
//
// Member add (first user) and bare status traffic lead from every closing state through a reset to ESTABLISHED: the
// other side began anew. Gone (fenced) and the end of the shutdown timeout reset from every state.
//
// # Invariants
//
//   - The queue holds exactly the wrapped messages seqSend-count .. seqSend-1, byte-identical to what was written.
//   - After ConnUp the whole queue is written in order before anything new, so a receiver that drops gaps and
//     duplicates sees every message once and in order.
//   - CLOSED: both numbers are 0, the queue is empty, the version is unset.
//   - After our FIN nothing wrapped is sent until a reset.
//   - No allocation per message in steady state: frames live in chunks that are reused once acknowledged.
//
// # Where this differs from Linux 6.1, invisibly to it
//
//   - Sequence numbers are compared with wrap-around (6.1 compares duplicates plainly).
//   - ACKs are sent every AckEvery messages or after AckDelay, between what 6.1 (each batch) and 6.12 (each 32..256
//     messages) do; AckEvery 1 is 6.1's way. Duplicates met in one pass are answered by one ACK, at its end.
//   - Bare status traffic is refused with ErrClosing while the association ends: a 6.1 peer would reset its numbers.
//   - An ACK of something never sent is reported and ignored; 6.1 would drop its queue and hang.
//   - In CLOSED nothing but bare status traffic is taken: numbers are 0 there, always. A FIN that comes again then (our
//     last ACK was lost) is acknowledged, so that the peer need not wait for its timeout.
//   - LAST_ACK is left after ShutdownTimeout also by the side that stays; 6.1 stays there until the peer comes back.
//   - Messages to a 3.1 peer go bare, as in 6.1; the header still says 3.2.
package midcomms
