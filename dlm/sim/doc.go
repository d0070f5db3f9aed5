// Package sim runs a whole cluster of dlm/core state machines, with dlm/midcomms between them, in one goroutine on
// virtual time, from one seed. Who calls it: its own tests, and anybody who wants to replay a seed.
//
// One run (Run) is:
//
//  1. chaos: random clients on every node (lock, convert, unlock, cancel; most flags; LVB writers; holders that give
//     way when asked) while nodes crash, join, leave and come back, and connections are cut and stall. Membership is
//     agreed and numbered: all members stop before any starts, but each at its own time, and a change may overtake the
//     one before it at any step.
//  2. calm: no more faults, no new operations. Every pending operation must end, by BASTs alone.
//  3. agreement: with nothing in flight every resource has one master; master copies and process copies match; the
//     directory is right.
//  4. drain: everything is unlocked, then all caches must empty, on every node.
//
// Checked at every step: no two locks that their holders may believe to be granted are incompatible; a completion ends
// an operation that was issued, once; a value read under a lock above CR is the last one written, or marked invalid, or
// absent after all locks were gone; between two incarnations every reliable message arrives once and in order; nothing is
// sent that wire's CheckSend refuses. The cores' own invariants are checked regularly.
//
// What is fair: connections lose a suffix of what is in flight, in each direction separately; bare messages are lost
// with them. A node that crashes is gone at once; it is not found out at once. It does not come back under its number
// before all survivors were told that it is dead, which is the membership controller's duty.
package sim
