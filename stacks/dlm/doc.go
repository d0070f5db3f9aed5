// Package dlm is the cluster stack "dlm": the Linux DLM 3.2 run in this process.
// The kernel's own ocfs2 calls it the "user" stack; volumes for it carry the label
// pcmk. It ties together the lock manager (package dlm of this module), its
// transport (dlm/lowcomms), and one of two memberships:
//
//   - disk (the default): heartbeats in the volume's heartbeat file
//     (stacks/heartbeat) say who is alive, numbered views (view, controller) say
//     who is a member. All nodes must be ocfuse.
//   - manual: an operator or a test says who is in, on every node, as one does with
//     configfs on a kernel node. Kernel nodes can take part.
//
// cmd links the package in; fs sees it only through stackglue.
//
// # Options (stackglue.Config.Options)
//
//	membership    "disk" or "manual"
//	members       manual: the first list, such as "1 2"; this node alone if empty
//	runtime-dir   folder where the nodes of this host know each other (/run/ocfuse)
//	heartbeat-ms  heartbeat period, the same on all nodes (2000)
//	dlm-port      TCP port of the lock manager, the same on all nodes (21064)
//	drop-wait-ms  manual: how long Disconnect waits to be dropped (60000)
//
// # Order of things
//
// Connect (disk): claim the number on this host; heartbeat (listen first); listen
// for the DLM; listen for the controller and agree on a view; recovery to its
// end; the version lock. Connect (manual): the same without the first two and
// without views.
//
// A death: proof of death -> the view without the node is proposed -> every member
// stops its lockspace -> commit -> lowcomms forgets the node -> lockspace starts
// with the dead node's number -> Recovery.NodeDown -> its locks are granted to
// others. The lockspace delivers NodeDown and the grants on one goroutine, which
// keeps that order.
//
// Disconnect: the version lock; leave the view (all others stop and start without
// us); release the lockspace; FIN with every peer; last heartbeat block; number on
// this host. Under manual membership nobody can be asked to drop us: the log says
// that we wait for it, FIN goes out, and the peers answer it when they have.
//
// Eviction (lease lost, quorum lost, declared dead): the gate closes first, then
// all connections are dropped and Recovery.Evicted runs; the lockspace stays until
// Abort or Disconnect. When everything that was in flight to the device has
// returned, a last heartbeat block says so and the others need not wait for the
// dead time.
//
// # Locks
//
// handle.mu before nothing; it is not held during callbacks or calls into the
// lockspace. conn.mu guards the state of a connection and is a leaf. The methods of
// host run on the controller's loop.
package dlm
