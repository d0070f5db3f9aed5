package alloc

import (
	"context"
	"errors"

	"github.com/ocfuse/ocfuse/journal"
)

var errUnbuilt = errors.New("alloc: this part is not built yet")

// Allocator is the space of one mounted volume, as one slot sees it.
type Allocator struct{}

// New prepares the allocators. Nothing is read or locked.
func New(env Env) (*Allocator, error) { return nil, errUnbuilt }

// Reserve takes the locks and makes sure that the space asked for exists. It
// returns ErrNoSpace with nothing held.
func (a *Allocator) Reserve(ctx context.Context, rq Request) (*Reservation, error) {
	return nil, errUnbuilt
}

// Reservation holds the locks of the allocators an operation may claim from. It
// is an extent.MetaSource. Used by one goroutine.
type Reservation struct{}

// Credits is what the claims cost at most.
func (r *Reservation) Credits() int { return 0 }

// ClaimInode takes an inode block.
func (r *Reservation) ClaimInode(tx *journal.Handle) (MetaBlock, error) {
	return MetaBlock{}, errUnbuilt
}

// ClaimMeta takes a metadata block.
func (r *Reservation) ClaimMeta(tx *journal.Handle) (MetaBlock, error) {
	return MetaBlock{}, errUnbuilt
}

// ClaimClusters takes a run of 1..want clusters, at block goal if that is free (0:
// anywhere), and returns its first block and length. With Contig it takes want.
func (r *Reservation) ClaimClusters(tx *journal.Handle, want uint32, goal uint64) (blkno uint64, n uint32, err error) {
	return 0, 0, errUnbuilt
}

// Release gives back the locks; after tx.Stop. r must not be used afterwards.
func (r *Reservation) Release() {}

// TruncLog is the truncate log of the own slot.
type TruncLog struct{}

// TruncLog returns the own slot's log.
func (a *Allocator) TruncLog() *TruncLog { return nil }

// TruncHold is a locked truncate log with room for some appends.
type TruncHold struct{}

// Prepare locks the log and makes room for n records, flushing it if needed.
// Before Reserve and before the transaction.
func (t *TruncLog) Prepare(ctx context.Context, n int) (*TruncHold, error) { return nil, errUnbuilt }

// Credits is what the appends cost.
func (h *TruncHold) Credits() int { return 1 }

// Append records that the clusters at blkno are free once tx is durable.
func (h *TruncHold) Append(tx *journal.Handle, blkno uint64, clusters uint32) error {
	return errUnbuilt
}

// Room is the number of further records that surely fit.
func (h *TruncHold) Room() int { return 0 }

// Release unlocks the log; after tx.Stop.
func (h *TruncHold) Release() {}

// Flush frees what the log holds.
func (t *TruncLog) Flush(ctx context.Context) error { return errUnbuilt }

// Len is the number of records and clusters in the log, as last seen.
func (t *TruncLog) Len() (records int, clusters uint64) { return 0, 0 }

// Dealloc collects the metadata blocks an operation freed. It is an
// extent.MetaSink. The zero value is not ready; use Allocator.Dealloc.
type Dealloc struct{}

// Dealloc starts collecting.
func (a *Allocator) Dealloc() *Dealloc { return nil }

// FreeMeta notes a block of an extent_alloc.
func (d *Dealloc) FreeMeta(b MetaBlock) {}

// Run gives the blocks back, in transactions of its own.
func (d *Dealloc) Run(ctx context.Context) error { return errUnbuilt }

// InodeFree is a locked inode_alloc, for the last transaction of a deletion.
type InodeFree struct{}

// LockInodeFree locks the inode_alloc of slot (or ondisk.SlotGlobal).
func (a *Allocator) LockInodeFree(ctx context.Context, slot uint16) (*InodeFree, error) {
	return nil, errUnbuilt
}

// Credits is what one Free costs.
func (f *InodeFree) Credits() int { return 2 }

// Free clears the inode's bit.
func (f *InodeFree) Free(tx *journal.Handle, b MetaBlock) error { return errUnbuilt }

// Release unlocks; after tx.Stop.
func (f *InodeFree) Release() {}

// LoadLocal checks at mount that the own local alloc is empty: ErrNeedsFsck
// otherwise.
func (a *Allocator) LoadLocal(ctx context.Context) error { return errUnbuilt }

// Shut returns the window and flushes the truncate log, at unmount.
func (a *Allocator) Shut(ctx context.Context) error { return errUnbuilt }

// Recover frees what a dead slot's (or, at mount after a replay, the own slot's)
// local alloc and truncate log hold, and empties both, then flushes the journal.
// Precondition: the slot's journal was replayed and the superblock lock is held.
// bitmap is the global bitmap locked with the recovery flag; nil: Env's.
func (a *Allocator) Recover(ctx context.Context, localAlloc, truncLog, bitmap SysInode) error {
	return errUnbuilt
}

// Cached is the volume's space as last seen, without any lock.
func (a *Allocator) Cached() Space { return Space{} }

// Statfs reads the volume's space under the global bitmap's lock at PR.
func (a *Allocator) Statfs(ctx context.Context) (Space, error) { return Space{}, errUnbuilt }
