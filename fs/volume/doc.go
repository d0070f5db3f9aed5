// Package volume is one mount of an OCFS2 volume on this node: slots, system
// files, inodes, names and data. It knows clusters only through stackglue and
// fs/locking, and FUSE only through the KernelCache interface.
//
// # Lock order
//
// Cluster locks first, then local mutexes, then the journal handle; never wait
// for a cluster lock with a handle open (Linux fs/ocfs2, OCFS2 locking order):
//
//	rename lock
//	  → nfs-sync lock
//	    → parent directories: META EX/PR + Inode.mu, ancestors first, else the lower inode number
//	      → children: RW, then META + Inode.mu, same rule
//	        → dentry lock (taken EX and released at once)
//	          → orphan directory: META EX + Inode.mu
//	            → allocators (fs/alloc: inode_alloc, extent_alloc, global_bitmap)
//	              → journal handle
//	                → short mutexes: table shard, dentry table
//
// OPEN locks are taken without holding Inode.mu of the same inode.
//
// # An inode's content
//
// Inode.attr, the blocks of Inode.meta and the data are guarded twice: by the
// META cluster lock against other nodes and by Inode.mu against other
// goroutines of this one. rlock/wlock take both. attr and meta are refreshed
// (from the lock value block or the disk) when META rises from NL.
//
// # Life of a write
//
//	FUSE WRITE → Volume.Write: RW EX, META EX, mu
//	  → whole blocks in allocated clusters go straight to the device
//	  → new clusters: alloc.Reserve, data to the device, or into a buffer that
//	    the commit writes first (writeBehind), and one transaction: allocator
//	    bits, extent record, i_size, times
//	  → the commit's flush makes the data durable before the commit record
//	BAST → fs/locking pass: KernelCache drops pages, journal full flush, LVB, convert
//
// # What a handoff costs
//
// The node that gives META EX up waits four times for the device (journal.FullFlush);
// one that gives up PR, or EX of an inode whose metadata is home, not at all. The node
// that gets it asks for all locks of an operation in one flight where it knows them
// beforehand: RW with META (lockRWMeta, expectWrite), the dentry lock with OPEN and
// META (igetIn) or with META EX (askDetach). Those of a new inode are not asked for
// at all until another node can know it (hide).
// Such a request holds nothing, so the lock order is that of the Lock calls behind it.
// A lock fought over stays for a quantum (tuning).
package volume
