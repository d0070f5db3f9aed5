// Package dlm is a distributed lock manager that speaks the Linux kernel's DLM protocol 3.2: the shell around dlm/core
// that makes its state machine safe for concurrent use and connects it to a network and a clock.
//
// # Use
//
// One Node per process holds the lockspaces. Its Deliver method is the receiving end of a lowcomms.Node (or of any
// Network); a Lockspace is created with Node.Create, told its members with Start, and then takes locks:
//
//	n := dlm.NewNode(1)
//	lc, err := lowcomms.NewNode(lowcomms.Config{Self: 1, Addr: addr}, n.Deliver)
//	n.Attach(lc)
//	ls, err := n.Create(dlm.Config{Name: "testls", LVBLen: 64})
//	err = ls.Start([]dlm.Member{{NodeID: 1, Weight: 1}, {NodeID: 2, Weight: 1}}, nil)
//	lk, st, err := ls.LockWait(ctx, dlm.Request{Name: []byte("res"), Mode: dlm.EX, Flags: dlm.ValBlk})
//
// Whoever decides about membership calls Stop on all nodes before Start on any; see core.Core.Start.
//
// # Two ways to use a lock
//
// LockWait, ConvertWait and UnlockWait wait for the end of the operation; a local uncontended one never leaves the
// caller's goroutine. Lock, Convert and Unlock return at once, and the end comes as a call of Handler.AST. Blocking
// callbacks always come through Handler.BAST.
//
// # Callbacks
//
// Handler and Events run on one goroutine per lockspace, in the order in which things happened, without any lock of this
// package held. They may issue operations; they should not wait in them, since nothing else is delivered meanwhile. A
// BAST that follows a grant may run before LockWait has returned to its caller.
//
// # Locks
//
// Lockspace.mu guards the core and everything of a Lock. The network is called with it held and must not call back into
// the lockspace from Send; lowcomms does not. Order: lowcomms peer.rxMu, Lockspace.mu, lowcomms peer.mu. Node.mu is a
// leaf.
//
// # Decisions on open points
//
//   - A STATUS for a lockspace that does not exist here is answered bare (no sequence number is used), which Linux 6.1
//     accepts.
//   - recover_seq begins at 0 as in 6.1.
//   - The -ESRCH answer, every RCOM and every MSG leave through the same ordered Send.
package dlm
