// Package stackglue is the plug between the filesystem and a cluster stack.
//
// The filesystem (fs/...) knows only this package: it connects to a group of
// nodes by name, takes and releases locks, and is told which node died. A
// stack (stacks/local, stacks/dlm, stacks/o2cb) registers itself as a Plugin
// and knows nothing of the filesystem. The shape is that of the kernel's
// fs/ocfs2/stackglue.h (struct ocfs2_stack_operations,
// struct ocfs2_locking_protocol, struct ocfs2_cluster_connection), in Go's
// idiom.
//
// # Contract of a connection
//
// Every stack keeps these rules; stackglue/stacktest checks them.
//
//   - Connect returns only when (a) node-down notices for the group will reach
//     Config.Recovery and (b) lock requests will be processed.
//   - NodeDown(n) is called before any lock that node n held is granted to
//     anybody on this node. It must not block: it records the node and returns.
//   - For one Lksb at most one Lock, convert, Unlock or cancel is in flight,
//     but a cancel may be issued while a convert or request is. Each accepted
//     call ends in exactly one completion: LockAST for Lock (also for one that
//     was cancelled or refused; Lksb.Status says which), UnlockAST for Unlock
//     and for a cancel. A call that returns an error has no completion.
//   - Completions may run before the call returns, on any goroutine, and must
//     not block; for one Lksb they never run concurrently, and a BlockingAST
//     for a level is never delivered before the LockAST of the grant it is
//     about *has been started* by the stack. The receiver must still tolerate
//     a BlockingAST for a level it has given up already.
//   - BlockingAST(level) is repeated only when a higher level is blocked or
//     after the lock changed its level.
//   - Lksb.LVB is written by the stack only between a call and its completion,
//     and only for calls with FlagValBlk. LVBValid says whether it is what the
//     last holder of EX wrote.
//   - A request with FlagNoQueue that cannot be granted at once completes with
//     ErrAgain and leaves the level as it was. Its holders hear nothing of
//     it: no BlockingAST (Linux sends one only with NOQUEUEBAST).
//   - Disconnect returns only when the stack will never again touch the
//     connection, the locks or the callbacks. All locks must have been dropped
//     before, unless the node gives up (Abort).
package stackglue
