package journal

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/ocfuse/ocfuse/journal/format"
)

// Handle is one operation's share in the running transaction: what it changes
// becomes durable together. It is used by one goroutine and not after Stop.
type Handle struct {
	j       *Journal
	t       *transaction
	id      uint64
	credits int      // blocks it may declare
	added   int      // blocks it was the first to declare in the transaction
	blocks  []*Block // blocks it declared; len is the credits used
}

var handlePool = sync.Pool{New: func() any { return new(Handle) }}

// Start joins the running transaction with room for credits distinct blocks. It
// waits, as long as ctx allows, while the transaction is full or being closed for
// its commit, and for log space. More than MaxCredits is refused with ErrCredits.
func (j *Journal) Start(ctx context.Context, credits int) (*Handle, error) {
	if credits < 0 || credits > j.maxCredits {
		return nil, fmt.Errorf("%w: %d asked for, one operation can have 0..%d (a quarter of the log of %d blocks)",
			ErrCredits, credits, j.maxCredits, j.ring.end)
	}
	j.mu.Lock()
	t := j.running
	var waitedFrom time.Time
	if t.locked || j.down || !j.fits(t, credits) {
		waitedFrom = j.cfg.Now()
		var err error
		if t, err = j.startWait(ctx, credits); err != nil { // mu still held
			j.mu.Unlock()
			return nil, err
		}
	}
	t.handles++
	t.reserved += credits
	j.handleID++
	id := j.handleID
	j.mu.Unlock()
	if !waitedFrom.IsZero() {
		j.emit(Event{Kind: EventWait, Tid: t.tid, Took: j.cfg.Now().Sub(waitedFrom)})
	}
	h := handlePool.Get().(*Handle)
	h.j, h.t, h.id, h.credits, h.added = j, t, id, credits, 0
	return h, nil
}

// fits tells whether n more blocks go into t and into the log. Precondition: mu held.
func (j *Journal) fits(t *transaction, n int) bool {
	need := j.layout.LogBlocks(t.reserved + n)
	return need <= j.maxTrans && need <= j.ring.size()-j.used
}

// startWait waits until credits fit into the running transaction and returns it.
// Precondition: mu held; also on return.
func (j *Journal) startWait(ctx context.Context, credits int) (*transaction, error) {
	j.startWaits++
	for {
		if err := j.downErr(); err != nil {
			return nil, err
		}
		t := j.running
		if !t.locked {
			if j.fits(t, credits) {
				return t, nil
			}
			if j.layout.LogBlocks(t.reserved+credits) > j.maxTrans {
				j.wantCommit(t.tid)
			} else {
				j.spaceWant = true // a commit in flight passes it on to the checkpoint
				kick(j.kickCheckpoint)
			}
		}
		ch := j.changed.wait()
		j.mu.Unlock()
		var err error
		select {
		case <-ch:
		case <-j.aborted:
		case <-ctx.Done():
			err = fmt.Errorf("waiting for journal space: %w", context.Cause(ctx))
		}
		j.mu.Lock()
		if err != nil {
			return nil, err
		}
	}
}

// Write declares that b.Data is about to change in this handle's transaction. It
// is idempotent, and costs one credit the first time in this handle; ErrCredits if
// there is none left. After an error b.Data must not be changed.
func (h *Handle) Write(b *Block) error {
	if h.t == nil {
		return errStopped
	}
	if b.handle.Load() == h.id {
		return nil
	}
	tid := h.t.tid
	if b.tid.Load() == tid && h.has(b) {
		b.handle.Store(h.id) // another handle declared it in between
		return nil
	}
	if err := h.check(b); err != nil {
		return err
	}
	h.blocks = append(h.blocks, b)
	if b.tid.Load() != tid {
		h.add(b)
	}
	if b.Owner != nil {
		b.Owner.touch(tid)
	}
	b.handle.Store(h.id)
	return nil
}

// has tells whether this handle declared b before. Handles touch few blocks, and
// this is only asked about blocks that several handles of a transaction change.
func (h *Handle) has(b *Block) bool {
	for _, o := range h.blocks {
		if o == b {
			return true
		}
	}
	return false
}

// check refuses a block that cannot be journaled, or not in this handle.
func (h *Handle) check(b *Block) error {
	bs := h.j.cfg.BlockSize
	switch {
	case h.j.abortErr.Load() != nil:
		return h.j.Err()
	case len(h.blocks) >= h.credits:
		return fmt.Errorf("%w: block %d is one more than the %d this handle may change", ErrCredits, b.Blkno, h.credits)
	case len(b.Data) != bs:
		return fmt.Errorf("journal: block %d has %d bytes, block size is %d", b.Blkno, len(b.Data), bs)
	case b.Blkno > math.MaxUint32 && h.j.layout.Features&format.Incompat64Bit == 0:
		return fmt.Errorf("%w: block %d needs the 64BIT feature, which this log was not formatted with", ErrUnsupported, b.Blkno)
	case b.Blkno >= uint64(math.MaxInt64)/uint64(bs):
		return fmt.Errorf("journal: block %d is beyond any device", b.Blkno)
	}
	return nil
}

// add puts b into the transaction unless another handle just did.
func (h *Handle) add(b *Block) {
	j, t := h.j, h.t
	j.mu.Lock()
	if b.tid.Load() != t.tid {
		j.setDirty(t)
		t.declared++
		t.entries = append(t.entries, entry{b: b, order: uint32(len(t.entries))})
		b.pins.Add(1)
		b.tid.Store(t.tid)
		h.added++
	}
	j.mu.Unlock()
}

// Extend adds n credits if that is possible without waiting, else ErrCredits: the
// caller then brings its blocks into a consistent state, stops and starts again.
func (h *Handle) Extend(n int) error {
	if h.t == nil {
		return errStopped
	}
	j := h.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.Err(); err != nil {
		return err
	}
	if n < 0 || h.credits+n > j.maxCredits || !j.fits(h.t, n) {
		return fmt.Errorf("%w: %d more to %d, with %d of at most %d blocks of the transaction reserved and %d of %d log blocks used",
			ErrCredits, n, h.credits, h.t.reserved, j.maxCredits, j.used, j.ring.size())
	}
	h.credits += n
	h.t.reserved += n
	return nil
}

// Left is how many more blocks the handle may declare.
func (h *Handle) Left() int { return h.credits - len(h.blocks) }

// Ordered has o.FlushOrdered called by the commit, before anything of this
// transaction is durable; once per transaction. o must be comparable (a pointer).
func (h *Handle) Ordered(o Orderer) {
	j, t := h.j, h.t
	j.mu.Lock()
	j.setDirty(t)
	t.addOrdered(o)
	j.mu.Unlock()
}

// OnCommit has fn called when the transaction is durable, in the order of the
// calls, before Commit returns to anybody who waits for it. Never after an abort.
func (h *Handle) OnCommit(fn func()) {
	j, t := h.j, h.t
	j.mu.Lock()
	j.setDirty(t)
	t.onCommit = append(t.onCommit, fn)
	j.mu.Unlock()
}

// Tid returns the id of the handle's transaction, for Commit. Ask before Stop.
func (h *Handle) Tid() uint64 { return h.t.tid }

// Stop ends the handle, which must not be used afterwards. Unused credits go back.
// The error is ErrAborted if the journal gave up: the change will not be durable.
func (h *Handle) Stop() error {
	j, t := h.j, h.t
	if t == nil {
		return errStopped
	}
	j.mu.Lock()
	t.reserved -= h.credits - h.added
	t.handles--
	if t.handles == 0 && t.idle != nil {
		close(t.idle)
		t.idle = nil
	}
	if !t.locked {
		j.changed.fire() // the credits given back may be what a Start waits for
	}
	j.mu.Unlock()
	h.t = nil
	const keep = 1024
	if cap(h.blocks) > keep {
		h.blocks = nil
	}
	clear(h.blocks)
	h.blocks = h.blocks[:0]
	handlePool.Put(h)
	return j.Err()
}
