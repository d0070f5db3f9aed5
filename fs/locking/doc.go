// Package locking keeps the cluster locks of one mount: what Linux
// fs/ocfs2/dlmglue.c does for the kernel.
//
// A Resource is one cluster lock (an inode's META, RW or OPEN lock, a dentry
// lock, the superblock lock ...). It remembers the level this node holds, who
// uses it here, and what other nodes wait for. A lock once obtained stays
// cached; a blocking AST makes a worker give it up as soon as nobody here
// needs it. The Manager owns the connection to the stack, the workers, the
// recovery map and the counters. Callers are the inode, directory and
// allocator layers of fs; the package knows nothing of FUSE or of a stack.
//
// # Levels and holders
//
// Levels are IV (no lock exists), NL, PR and EX. Readers hold PR, writers EX.
// This is exclusion between nodes only: on one node readers and writers of a
// Resource coexist, and the callers' own mutexes order them. Between nodes EX
// excludes everything and PR excludes EX.
//
// # States
//
//	            Lock            LockAST              BAST
//	IV/NL/PR ─────────▶ busy ──────────▶ PR/EX ──────────▶ blocked
//	   ▲                 │ cancelled /                        │ no holder above
//	   │                 ▼ refused                            ▼ what may stay
//	   └──────────── old level                          pass: Hooks.Downconvert
//	   ▲                                                      │ nothing granted
//	   │      LockAST of the convert down                     ▼ since it began
//	   └──────────────────────────────────────────────── converting down
//
// The flags are those of Linux: attached, busy (here: an action in flight),
// pending (the call into the stack has not returned), blocked, needsRefresh,
// refreshing, queued, freeing, noCache. UPCONVERT_FINISHING has no flag: the
// completion that raises the level counts the waiters as holders in the same
// critical section, so that a BAST cannot take the lock before it was used.
//
// # Who is granted what while another node waits (blocked)
//
//   - Fair requests (the default) that need more than may stay wait until the
//     other node had its turn. WRITE, SETATTR, CREATE, UNLINK, RENAME, LINK,
//     MKDIR and every internal caller (allocators, journal, orphan scan) are
//     fair: they can run for ever in a loop, and nothing a revoke waits for
//     waits for them (a WRITE that holds a page locked is stepped around by
//     the cache engine).
//   - Served requests (flag Served) are granted as long as the level held
//     covers them and the message that gives it up is not out: LOOKUP,
//     GETATTR, READ, READDIR, READDIRPLUS, READLINK, GETXATTR, LISTXATTR,
//     ACCESS. The kernel holds page locks or a directory's i_rwsem while it
//     waits for them, and the revoke needs just these.
//   - Nested requests (flag Nested) come from a caller that holds the lock
//     already; they are granted whenever the level held covers them.
//
// # Giving a lock up
//
// A worker waits until no holder is above the level that may stay, starts the
// flush if Hooks.Ready says one is needed, and runs Hooks.Downconvert without
// the mutex: a pass. Afterwards, in one critical section: if anything above
// the remaining level was granted since the pass began, it waits for those
// holders and runs another pass; if not (and Ready), it sends the convert.
//
// This is bounded. While holders drain, Served requests are let in for
// Tuning.DrainQuantum after the BAST and wait afterwards (holders must not
// wait for a notify, so the drain cannot depend on them). The first
// Tuning.OpenPasses passes run with the gate open; the next, up to
// Tuning.HoldPasses, keep new Served requests out for Tuning.HoldTime from
// their start (a pass that needs one of them gets it then); all later ones
// are Closed: nothing is granted until the level is down, and the hook is
// told so, because it must then step around requests that wait. Hence no more
// than HoldPasses+1 passes and as many drains.
//
// Tuning.MinHold is the fair quantum of a lock that is fought over: for so
// long after the level was raised Fair requests that it covers are granted
// though another node waits, and the lock is not given up.
//
// # Recovery
//
// After a node died no META lock may be used until its journal was replayed:
// Lock waits until the recovery map is empty, acquires, and looks again after
// the grant. The flag Recovery is for the recovery code itself. Once this node
// is evicted, every Lock fails with stackglue.ErrFenced.
//
// # Lock order of mutexes
//
//	Resource.mu → Manager.queueMu, Manager.recMu, Manager.regMu
//	Resource.mu → whatever Hooks.Ready and Hooks.FillLVB take
//
// No mutex is held while the stack, Hooks.Refresh, Hooks.MakeReady or
// Hooks.Downconvert is called.
package locking
