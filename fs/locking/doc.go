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
// refreshing, queued, freeing, noCache; virtual is ours. UPCONVERT_FINISHING has no flag: the
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
// though another node waits, and the lock is not given up: handing it on costs
// as much as dozens of operations under it. The quantum ends early when nobody
// has used the lock for Tuning.Linger, so that nodes that take turns, with one
// operation each, do not wait for it.
//
// # Locks of new objects
//
// The locks of an inode that this node just made (META, RW, OPEN, its dentry
// lock) need not exist in the cluster as long as no other node can ask for
// them. Manager.Hide gives them to this node alone, behind covers: locks that
// are held EX, one of which every other node must get before it can learn the
// inode's number. They are then raised and dropped without a call of the stack.
// The rule is:
//
//	a cover is not lowered or dropped before every lock behind it is real
//
// Real means granted by the stack at the level it has here. When a pass of a
// cover stands, the locks behind it are requested, all in one flight, and the
// convert is sent when the last is granted; nothing new gets behind the cover
// meanwhile, because that takes a holder of EX, after whom another pass is due.
// A lock that guards no cache and has no holder (RW) is given up instead.
//
// The covers of an inode are the META locks of
//
//   - every directory with a name of it: LINK and RENAME add theirs
//     (Fresh.Join) while they hold it EX, as the orphan directory does
//     (Fresh.Cover); one that lost the name stays a cover, which does no harm.
//     A ".." names a directory whose children can only be found through it;
//   - the inode allocator it came from: a kernel node that decodes a file handle
//     of an earlier inode of the same number asks the allocator's bitmap first
//     (ocfs2_get_dentry), under the nfs-sync lock EX, which keeps the number
//     from being freed until it has the inode.
//
// A new directory's META can itself be a cover: its children stay hidden behind
// it when it becomes real, so that a whole new tree is revealed level by level.
// A node that comes with a number it remembers from an earlier life of the inode
// (orphan scan, a ".." read before) may take the locks, which nobody has. It
// finds on disk an inode that is not what it looks for, changes nothing, and
// lets go; a lock that becomes real meanwhile waits for it as for any other
// holder. It must not delete what looks like an orphan before it had the orphan
// directory, a cover, while it holds OPEN. If this node dies, nobody holds the
// hidden locks and the covers wait for the recovery, whose replay is all that
// others see.
//
// Nobody waits in a circle: making locks real waits for the stack only, and
// another node that has one of them has it for a moment, without waiting for a
// cover. Tuning.Hidden bounds the objects behind a lock: beyond it the oldest
// become real in the background.
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
//	Fresh.mu → Resource.mu
//	Resource.mu → Manager.queueMu, Manager.recMu, Manager.regMu
//	Resource.mu → whatever Hooks.Ready and Hooks.FillLVB take
//
// No mutex is held while the stack, Hooks.Refresh, Hooks.MakeReady or
// Hooks.Downconvert is called.
package locking
