package journal

import (
	"context"
	"errors"
)

var errUnbuilt = errors.New("journal: this part is not built yet")

// Journal is an open log.
type Journal struct{}

// Handle is one operation's share in the running transaction.
type Handle struct{}

// Open reads and validates the journal superblock. The log must be empty (see
// Replay and Wipe), else ErrNeedsReplay.
func Open(cfg Config) (*Journal, error) { return nil, errUnbuilt }

// Start joins the running transaction with room for credits distinct blocks.
func (j *Journal) Start(ctx context.Context, credits int) (*Handle, error) { return nil, errUnbuilt }

// MaxCredits is the most credits one handle can have.
func (j *Journal) MaxCredits() int { return 0 }

// Write declares that b.Data is about to change.
func (h *Handle) Write(b *Block) error { return errUnbuilt }

// Extend adds n credits if that is possible without waiting, else ErrCredits.
func (h *Handle) Extend(n int) error { return errUnbuilt }

// Ordered has o.FlushOrdered called before anything of this transaction is durable.
func (h *Handle) Ordered(o Orderer) {}

// OnCommit has fn called after the transaction is durable (never after an abort).
func (h *Handle) OnCommit(fn func()) {}

// Tid returns the transaction's id.
func (h *Handle) Tid() uint64 { return 0 }

// Stop ends the handle, which must not be used afterwards.
func (h *Handle) Stop() error { return errUnbuilt }

// Commit makes everything up to transaction tid durable.
func (j *Journal) Commit(ctx context.Context, tid uint64) error { return errUnbuilt }

// CommitRunning makes everything durable that was stopped before the call.
func (j *Journal) CommitRunning(ctx context.Context) error { return errUnbuilt }

// FullFlush commits, writes home, and empties the log.
func (j *Journal) FullFlush(ctx context.Context) error { return errUnbuilt }

// Checkpointed tells whether no block of o waits for commit or home write, and the
// log holds no image of one.
func (j *Journal) Checkpointed(o *Owner) bool { return false }

// LastTid returns the last transaction that changed a block of o; 0: none.
func (j *Journal) LastTid(o *Owner) uint64 { return o.last.Load() }

// Close flushes fully and stops the journal's goroutines.
func (j *Journal) Close(ctx context.Context) error { return errUnbuilt }

// Abort gives up: all later calls fail with ErrAborted.
func (j *Journal) Abort(err error) {}

// Err returns the error of an aborted journal, wrapping ErrAborted; else nil.
func (j *Journal) Err() error { return nil }

// Stats returns counters.
func (j *Journal) Stats() Stats { return Stats{} }
