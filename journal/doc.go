// Package journal is a JBD2 journal: it groups changes of metadata blocks into
// transactions, makes each transaction durable as a whole, writes the blocks to
// their home locations later, and replays a log after a crash. The log it writes
// and reads is that of the Linux kernel (fs/jbd2), as OCFS2 uses it: one log per
// node slot, no checksums and no revoke records written.
//
// Who calls it: fs/buffer embeds Block and Owner; fs/alloc, fs/extent and the
// layers above open handles; fs/locking asks Checkpointed and FullFlush before a
// cluster lock is given away; mount and recovery call Replay and Wipe.
//
// # The life of a change
//
//	h, err := j.Start(ctx, 3)      // room for three blocks in the running transaction
//	err = h.Write(b)               // declare b, then change b.Data
//	h.Ordered(file)                // new clusters: file data must be on disk first
//	err = h.Stop()
//	err = j.Commit(ctx, tid)       // fsync: durable up to tid
//
// # States of a transaction
//
//	running    handles join and declare blocks; at most one
//	locked     commit was asked for: new handles wait, open ones finish
//	frozen     all handles stopped: images copied, the next transaction is running
//	committing ordered data, log blocks, flush, commit block (FUA)
//	committed  durable; images kept in memory until they are home
//	home       newest images written home and flushed; the log tail moved past it
//
// One transaction is running (or locked), at most one is committing, any number
// is committed. Commits happen in order on one goroutine; home writes
// (checkpoints) on another, so that an fsync does not wait for them.
//
// # Invariants
//
//   - A block is written home only from an image whose commit block is durable.
//   - The log tail (s_start, s_sequence of the journal superblock) moves past a
//     transaction only after its images, or newer ones, are durable at home.
//   - Log space is used again only after the superblock that frees it is durable.
//   - Block data is never read by the journal while a handle is open: images are
//     copied in the instant when no handle is.
//   - The 32-bit sequence on disk is the low half of the 64-bit transaction id
//     (tid) used in memory, and never goes back.
//
// # Rules for callers
//
//   - Order: cluster locks first, then Start, then mutexes. A goroutine that has a
//     handle open must not Start another one, must not wait for Commit or FullFlush
//     and must not wait for anybody who does.
//   - A block's Data is changed only between Write of it and Stop.
//   - FlushOrdered and OnCommit functions run on the commit goroutine: they must
//     not call Start, Commit, FullFlush or Close.
//
// # Locks
//
// Journal.sbMu, then Journal.mu. sbMu serialises changes of the journal
// superblock and is held over its write. mu is short: it is never held over I/O,
// allocation of buffers, or a callback.
package journal
