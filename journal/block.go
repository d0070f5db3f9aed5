package journal

import "sync/atomic"

// Owner is one metadata cache: the blocks of an inode, an allocator or a refcount
// tree, all covered by one cluster lock. It remembers the last transaction that
// changed any of its blocks. Embed it; the zero value is ready. Owners are not copied.
type Owner struct {
	last atomic.Uint64 // tid; 0: never changed
}

// touch raises the owner's last tid to tid.
func (o *Owner) touch(tid uint64) {
	for {
		old := o.last.Load()
		if old >= tid || o.last.CompareAndSwap(old, tid) {
			return
		}
	}
}

// Block is one metadata block in memory; fs/buffer embeds it. Blkno, Data and
// Owner are set before the first Write and keep their values as long as the block
// is pinned. Data has the journal's block size and may only be changed between
// Handle.Write and Handle.Stop. Blocks are not copied.
//
// Two Blocks may carry the same Blkno (a block freed by one owner and allocated
// by another): of those in one transaction the one declared last is written.
type Block struct {
	Blkno uint64
	Data  []byte
	Owner *Owner // may be nil

	tid    atomic.Uint64 // newest transaction the block was declared in
	handle atomic.Uint64 // id of the handle that declared it last
	pins   atomic.Int32  // transactions that hold it: running, committing, committed but not home
}

// Pinned tells whether the block is in a running or committing transaction, or
// committed but not yet written home. A pinned block must not be evicted, and must
// not be read from its home location.
func (b *Block) Pinned() bool { return b.pins.Load() != 0 }

// Tid returns the newest transaction the block was declared in; 0: none.
func (b *Block) Tid() uint64 { return b.tid.Load() }
