// Package view agrees on who is a member: numbered views that every member
// starts with the same content. It takes the place of dlm_controld and corosync
// for lockspaces whose nodes are all ocfuse. Core is a pure state machine: events
// in, effects out, no clock, socket or goroutine. Its tests drive five of them in a
// seeded simulator, package controller drives one over TCP.
//
// # One change
//
//	coordinator            member
//	Propose(view) -------> stop lockspaces
//	              <------- Ack            (a joiner and a leaver ack as well)
//	all acked: Commit ---> start lockspaces with exactly this list
//
// The coordinator is the lowest member that lives and does not leave. It proposes
// when a member is proven dead, asks to leave, or a newcomer has said Hello and
// its heartbeat was verified. If a member dies before it acked, the coordinator
// proposes again with a higher number; if the coordinator dies, the next one does.
//
// # Why two different views never both go on
//
//  1. A member is left out only if it is proven dead (fenced: see package
//     heartbeat) or has acked its own leave. A cut network proves nothing: the
//     view then cannot change, and o2quo's rule makes one side fence itself.
//  2. A commit needs the ack of everybody in the new view. An ack promises not to
//     ack anything lower, by (number, proposer's node). Of two proposals with one
//     number at most one commits, because each proposer is in the other's
//     required set, or else proven dead, and then no ack of its was given.
//  3. Who acked a proposal that another node made counts the members of that
//     proposal as possible members of the next one (owed), since it may have been
//     committed where it cannot see. The proposer itself knows that it was not.
//  4. The first view: a node forms one only after its own heartbeat block was on
//     disk and it has read all the others after that. Of two nodes that start at
//     once, at least one sees the other (each writes, then reads). Whoever is seen
//     must be proven dead, or answer on its connection that it is a joiner too and
//     ack; whoever is not seen wrote later, has seen us, and needs our ack.
//  5. A joiner that inherits a proposal, because whoever made it died, knows only
//     the members of that time. Before it acts it reads all slots again: whoever
//     was admitted since has written there before.
//  6. A node that stopped for a proposal answers nothing in the DLM until a commit
//     starts it, so a member that has started alone waits for the others there.
//
// Numbers begin at 1 again when a first node forms a cluster, which it does only
// when no member of an earlier one can be alive.
//
// # States
//
//	joining --(commit that lists us)--> member --(Leave)--> leaving --(commit)--> left
//	any --(declared dead, quorum lost)--> fenced
//
// Joining becomes member with the first commit; stopped and running alternate
// within member.
package view
