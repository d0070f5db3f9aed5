// Package kcache keeps the caches of the kernel's FUSE client in step with
// cluster locks. What the kernel caches (attributes, names, names known not to
// exist, pages, symlink targets) is valid exactly as long as the cluster lock
// that covers it is held, so everything is given out without expiry and taken
// back by a revoke before the lock is lowered.
//
// The filesystem's FUSE layer calls it at four places:
//
//   - every reply that the kernel will cache passes through Entry, Negative or
//     Attr, before the lock that covers it is released;
//   - READ, WRITE, READLINK and size changes are bracketed by Begin (before
//     the lock is asked for) and Op.End (before it is released);
//   - OPEN and RELEASE are reported (OpenFlags, Inode.Release);
//   - the downconvert hooks of fs/locking call RevokeInode and RevokeNames.
//
// An Inode is what the engine knows of one inode of the mount. The filesystem
// makes it with NewInode before the first reply that names the inode, and
// keeps it until Inode.Forget returns true.
//
// # Which lock covers what
//
//	attributes, pages, symlink target   META of the inode, PR
//	pages while an O_RDWR handle is open here   META of the inode, EX
//	a name                              the dentry lock of (directory, inode), PR
//	a name that does not exist          META of the directory, PR
//
// # Rules
//
// Seen on Linux 6.18 with FUSE 7.45; integration/m0 proves them again.
//
//  1. A revoke tells the kernel first (attributes, then pages and names), then
//     lowers. If something was granted meanwhile, fs/locking runs another
//     pass; the engine remembers what was given out since the last one began
//     and takes back only that.
//
//  2. INVAL_INODE answers ENOENT for an inode that the kernel is about to make
//     from a reply still in flight. It is repeated until it succeeds or the
//     kernel forgets the inode. So a lookup is counted before the lock that
//     covers the reply is released. Replies that make an inode (CREATE, MKNOD,
//     MKDIR, SYMLINK, LINK) carry attributes without validity.
//
//  3. A page that a request waiting for a cluster lock keeps locked is not up
//     to date: a revoke goes around it. Whether a page is locked is not
//     guessed from the time it takes: the state of the thread that waits for
//     it says so.
//
//  4. INVAL_ENTRY waits for all requests pending in the directory. If it has
//     not returned after a millisecond, the epoch is raised, which needs no
//     lock and makes all names of the mount be asked for again; the INVAL_ENTRY
//     ends later and is still needed, since it leads to FORGET. Kernels without
//     the epoch (before 6.16) get no names to cache.
//
//  5. Both hide file systems that are mounted on a directory inside the volume.
//     While there is one, no name is given out to cache and the epoch is left
//     alone as long as INVAL_ENTRY gets through in a tenth of a second.
//
//  6. The kernel lets a page that is mapped writable be dirtied without asking.
//     Only a handle opened O_RDWR can be mapped so: while there is one, pages
//     are cached under EX alone, and every loss of EX drops them. The dirty ones
//     come back as WRITE with WRITE_CACHE, which belong to the revoke: they are
//     served without a lock, and cut off at the end of the file.
//
//  7. No handler waits for a notify on its own file or directory while it holds
//     a cluster lock.
//
//  8. The kernel ignores attributes in a reply to a request that it sent before
//     an INVAL_INODE or a WRITE of the same inode ended, and then goes on with
//     the size it had: a read(2) would end too early. So, for an inode that was
//     ever taken back, a size that is larger than what the kernel is known to
//     believe is pushed (Engine.extend) before the reply is sent.
//
//  9. The kernel copies the data of a WRITE into cached pages before it sends
//     the WRITE. Such a page can be taken back and filled again by a READ before
//     the data arrives; it is dropped once more before the WRITE is answered.
//
//  10. INTERRUPT says that some signal came. Only a deadly one ends a wait for a
//     lock (Context), except for lock requests.
//
// # Limits of the kernel's client
//
// There is no notify that makes a file shorter. A READ sent before an
// INVAL_INODE, answered short because another node has shortened the file, is
// filled up with zeros to the size that the kernel believed in. So a read that
// runs while the file is being shortened can show zeros at its end, on any node
// (on the one that shortens it too, as with any FUSE file system); one that
// begins when nothing changes any more does not. Handles opened with
// FOPEN_DIRECT_IO are not concerned.
//
// # What differs from what was written down before it was tried
//
// Only O_RDWR handles count as able to dirty pages (rule 6): mmap wants a
// readable handle for any mapping. A late GETATTR reply is not harmless (rule
// 8), and dropping the pages of a WRITE that waits is not either (rule 9).
// Whether a page is locked is seen by the state of the thread, not by time.
//
// # Order of locks
//
// Inode.mu is a leaf: nothing is called with it held. Two inodes' mutexes are
// never held together.
package kcache
