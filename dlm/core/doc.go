// Package core is the lock manager of the Linux DLM (protocol 3.2): one lockspace on one node as a state machine.
// Events go in as method calls, effects come out through the Effects interface; there are no goroutines, clocks,
// sockets, loggers or random numbers in it, and nothing depends on the order of a map. The same core runs behind real
// sockets (package dlm) and, many at a time in one goroutine, in the simulator (dlm/sim).
//
// # Who calls it
//
// The embedder serialises all calls. Events:
//
//	Lock, Convert, Unlock, Cancel   local operations; ends are reported as Completion
//	Receive, ReceiveRcom            messages from other nodes, each node's in the order sent
//	Stop, Start, Release            membership, from a controller that agrees it with all nodes
//	Tick                            time; Deadline says when it is wanted next
//
// Effects must not call back into the core.
//
// # Terms
//
// As in the kernel: a resource (rsb) has a name and one master node, which decides about it, and a directory node, a
// function of the name and the member list, which knows the master. A lock (lkb) is a local copy if its owner is the
// master, else it exists twice: the process copy at the owner and the master copy at the master. An inactive resource
// (kernel: toss list) has no locks and is kept as a record of who the master is.
//
// # States of a lock
//
//	         Lock                  REQUEST_REPLY -EINPROGRESS
//	(none) ------> looking up ------------------------------> waiting
//	                   | granted                                 | GRANT
//	                   +-------------> granted <-----------------+
//	                              Convert |  ^ GRANT, EDEADLK, ECANCEL, EAGAIN
//	                                      v  |
//	                                     convert
//
// At most one operation is in flight per lock, except that a cancel or a forced unlock may overlap another one. What a
// reply to an overlapped operation means is decided in waiters.go.
//
// # States of the lockspace
//
//	stopped --Start--> recovering --all steps--> running --Stop--> stopped
//	   ^                   |
//	   +-------Stop--------+
//
// Until running, lock messages from peers are queued (requests) and local operations kept (deferred). A run of recovery
// is a list of steps with a barrier between them (recover.go); a Stop at any point discards it, and the next Start
// begins again with step one. What an interrupted run did move stays moved, and the departed it did not finish with are
// remembered.
//
// # Invariants
//
//   - On the master no two granted locks of a resource are incompatible (a lock on the convert queue counts with its
//     granted mode).
//   - A rsb is on exactly one of active, inactive, dirRecs; active means that it has lkbs or recovery holds it.
//   - A lkb is on at most one of its rsb's queues; it is on waiters iff replies are outstanding.
//   - Messages to a node are emitted in the order in which they must arrive.
//
// # Following the kernel, and where not
//
// What a peer can see is as in Linux 6.1 (fs/dlm/lock.c, dir.c, rcom.c, recover.c, member.c); names of functions are
// in the comments. Deliberate differences, none of which a kernel peer can tell from ordinary timing:
//
//   - m_sbflags is 0 in an owner's messages, and the upper half of m_flags always.
//   - A refused REQUEST (m_result outside the protocol's list) fails with EAGAIN; the kernel logs it and the lock hangs.
//   - A CANCEL that a grant overtook is counted, so that its late reply is not taken for that of the next cancel, and
//     the owner can issue its next operation at once.
//   - A request given up while it was to find the master passes that duty to the next held request on every path; the
//     kernel forgets it on some.
//   - A middle conversion (PR<->CW) whose master died is sent to the new master with its old granted mode, as a
//     conversion in flight. Linux 6.1 sends "no mode", which loses it; the kernel changed this later.
//   - Convert puts a value into the lock's LVB buffer only if that transition will write it, because recovery takes the
//     buffer of any holder above CR for the current value.
//   - A lock whose LVB was marked invalid when last read goes to a new master without VALBLK, and a forced unlock of a
//     lock with an operation in flight does not write the buffer unless the lock is known to be PW or EX. In the
//     kernel either can bring an old value back as valid.
//   - A local lock that reads the LVB of a resource that has none gets zeros, as a remote one does; the kernel leaves the
//     caller's buffer alone.
//   - With ALTPR and ALTCW both set only PR is tried: that is what owners take ALTMODE for.
//   - A conversion with CONVDEADLK whose master died counts as demoted; a cancelled one takes the mode from the reply.
//   - A GRANT for a lock that waits for none is ignored: a duplicate would damage its mode.
//   - Incarnations of a node that died and came back within one change are told apart by the recovery in which something
//     was learned, so that an interrupted recovery does not purge what the new one sent, locked or masters.
//   - A directory node notices that a master on record did not name a resource in recovery, and drops the record with its
//     own last lock; a refused request puts nobody on record. In the kernel both can send askers round for ever (-EBADR).
//   - A lock that was being force-unlocked at a dead master is gone; it does not move to the new one first.
//   - A reply that can answer nothing that is in flight is ignored; the kernel takes any reply for any operation.
//   - With Config.FirstPoll a barrier's STATUS is first repeated sooner than the kernel does.
//   - Only directory mode is supported ("nodir" lockspaces are not), and the deprecated TIMEOUT flag is refused.
//   - A plain Unlock of a lock that is not granted is refused (ErrBusy); FORCEUNLOCK does it.
//
// HEADQUE on a conversion can overtake a conversion that it then waits for; nobody breaks that deadlock, here or in the
// kernel (which logs it). Do not use it there.
package core
