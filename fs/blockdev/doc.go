// Package blockdev is the lowest layer of the filesystem: it moves sectors
// between memory and a shared volume, and nothing else. Every other fs package
// reaches the volume through the Device interface.
//
// Kinds of device:
//
//   - File (Open): a block device or an image file, O_DIRECT, parallel.
//   - Gated (NewGated): puts the fencing gate in front of every write and flush.
//   - Overlay (NewOverlay): keeps what is written to a write-protected device in memory.
//   - Mem (NewMem): memory that remembers what is durable, so that a test can cut
//     the power (Crash), cut it after the n-th operation (CloneAt), or inject faults.
//   - Recorder (NewRecorder): logs the writes and flushes of any device, so that a
//     crash explorer can rebuild every state a power cut could have left.
//
// Rules that hold for all of them:
//
//   - Offsets and lengths are bytes and multiples of BlockAlign (at least 512).
//   - A 512-byte sector is written whole or not at all; nothing larger is atomic.
//   - A write that returned is visible to every later read of any node, but it is
//     durable only after a Flush that began later has returned, or if it was a
//     WriteFUA. Writes between two flushes may reach the medium in any order.
//   - A failed Flush is never healed by a later one: what it should have covered
//     may be gone, so every later Flush fails with ErrFlushLost.
//   - All methods may be called concurrently. Two overlapping concurrent writes
//     leave either one in each sector; callers above serialise them.
//   - Memory handed in need not be aligned; unaligned memory costs a copy through
//     a pooled buffer. AlignedBuf and GetBuf give memory that needs none.
//
// Locks: File has none on its data paths. Mem.mu guards all of Mem, Overlay.mu its
// pages; both are leaf locks. Log.mu is a leaf lock taken under no other lock of this
// package but Mem.mu.
package blockdev
