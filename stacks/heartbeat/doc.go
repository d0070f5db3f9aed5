// Package heartbeat is the disk heartbeat of OCFS2 clusters (o2hb), the lease
// and the fences that hang on it, and o2quo's rule for a cut network. The dlm
// stack uses it for its own membership; the o2cb stack speaks it with kernel
// nodes. Format and rules: Linux fs/ocfs2/cluster/ocfs2_heartbeat.h,
// heartbeat.c, quorum.c.
//
// # Parts
//
//   - Block: one slot on disk, encode and decode. Pure.
//   - Core: who is alive, from samples of all slots. Pure: samples in, Up, Down
//     and Silent events out.
//   - Quorum: o2quo's decision. Pure.
//   - Lease: the gate every device write passes (stackglue.Gate).
//   - Deadman: a kernel timer that kills this process when the lease has run out.
//   - Registry: who runs on this host, by process id; proves deaths at once.
//   - Runner: the shell, one locked OS thread per region.
//
// # Why a survivor may believe in a death
//
// P is the period, T the dead threshold; both are equal on all nodes (hb_dead_ms
// in every block; a node with another one is refused).
//
//   - A node writes its slot every P. Only a write that succeeded *and* read back
//     as this node's own counts. s is the time it was submitted, on
//     CLOCK_BOOTTIME, which a suspended machine does not stop.
//   - Lease refuses device writes from s + (T-1)P - margin on. Deadman kills the
//     process, stopped or not, at s + (T-1)P, unless the gate is closed for good
//     and nothing is in flight behind it. A lease that has run out once never
//     comes back (Lease.Renew).
//   - An observer sees that block no earlier than s, and samples no faster than
//     every P, so it counts T equal samples no earlier than s + TP.
//   - A kernel node obeys the same times (fs/ocfs2/cluster/heartbeat.c: write
//     timeout (T-1)*2000 ms, then it resets the machine).
//
// What is left is a request that the kernel or the storage network holds back for
// longer than P after the process died. Only the device itself could fence that.
//
// On one host none of this is waited for: a process is dead when its pidfd says so
// (all its threads have ended, and with them every system call that could write).
// A closed connection proves nothing and is never taken for a death.
//
// # Why a newcomer cannot be a double
//
// The node number is the claim to a slot. Before the first write a newcomer takes
// an OFD lock per volume and number, so that one host cannot run a number twice.
// Then it reads its slot: all zero (never used), generation zero (left), or a
// generation whose process this host knows to be dead are free at once. Anything
// else must stand still for T periods first: an earlier holder that only hangs
// has a valid lease for that long. A double that started at the same moment
// elsewhere is found by the read-back and by the own-slot check of every sample;
// neither gets a lease then.
//
// # Locks
//
// Runner.mu guards the Core and is held for no I/O. Lease has no lock. The handler
// is called by the heartbeat thread without locks and must not block.
package heartbeat
