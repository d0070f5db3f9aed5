package volume

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/journal"
)

const (
	// behindSize is the size of one device write of a writeBehind.
	behindSize = 1 << 20
	// behindDeep is how many of them one inode has under way.
	behindDeep = 2
	// behindMin is the smallest write that begins a buffer: small files are
	// written at once, many at a time, not one by one by the commit.
	behindMin = 64 << 10
	// behindLimit bounds the buffers of all inodes: an fsync of any file
	// waits for them.
	behindLimit = 32 << 20
)

// writeBehind holds data of new clusters that has not been written to the
// device yet. It loses nothing in a crash that was safe before: the
// transaction that maps the clusters is not committed either, and its commit
// writes the data first (journal.Orderer). Hence these rules:
//
//   - Data gets here only inside the transaction that maps its clusters, under
//     META EX. So META cannot be handed on before the data is on disk, since
//     that takes the owner's last transaction to be committed.
//   - Whoever reads or writes data of the inode on the device, or frees
//     clusters of it, calls settle first.
//   - A write that fails aborts the journal, as one in a transaction does.
type writeBehind struct {
	some atomic.Bool // settle has something to do

	mu   sync.Mutex // guards the rest; a leaf, held over waits for the device
	buf  []byte     // being filled up to len; nil: none
	dev  int64      // where buf begins on the device
	room chan struct{}
	busy sync.WaitGroup // writes under way
	err  atomic.Pointer[error]
}

// writeLater is writeDevice for clusters that tx maps.
func (i *Inode) writeLater(tx *journal.Handle, p []byte, dev int64) error {
	b := &i.behind
	if len(p) > behindSize || len(p) < behindMin && !b.some.Load() || i.v.behind.Load() >= behindLimit {
		return i.writeDevice(p, dev)
	}
	tx.Ordered(i)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.some.Store(true)
	for len(p) > 0 {
		if b.buf != nil && b.dev+int64(len(b.buf)) != dev {
			i.send()
		}
		if b.buf == nil {
			b.buf, b.dev = blockdev.GetBuf(behindSize)[:0], dev
			i.v.behind.Add(behindSize)
		}
		k := min(len(p), behindSize-len(b.buf))
		b.buf = append(b.buf, p[:k]...)
		p, dev = p[k:], dev+int64(k)
		if len(b.buf) == behindSize {
			i.send()
		}
	}
	return b.failed()
}

// send begins to write the buffer. b.mu held. The commit of the transaction that
// maps the clusters waits for it, so it has ended before the slot is left clean.
func (i *Inode) send() {
	b := &i.behind
	if b.room == nil {
		b.room = make(chan struct{}, behindDeep)
	}
	b.room <- struct{}{}
	buf, dev := b.buf, b.dev
	b.buf = nil
	b.busy.Add(1)
	go func() {
		if _, err := i.v.dev.WriteAt(buf, dev); err != nil {
			err = fmt.Errorf("writing data of inode %d: %w", i.blkno, err)
			b.err.CompareAndSwap(nil, &err)
		}
		blockdev.PutBuf(buf[:behindSize])
		i.v.behind.Add(-behindSize)
		<-b.room
		b.busy.Done()
	}()
}

// failed returns the first error of a write; it stays.
func (b *writeBehind) failed() error {
	if e := b.err.Load(); e != nil {
		return *e
	}
	return nil
}

// settle returns when all data of the inode has been written to the device.
func (i *Inode) settle() error {
	b := &i.behind
	if !b.some.Load() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.buf != nil {
		i.send()
	}
	b.busy.Wait()
	err := b.failed()
	b.some.Store(err != nil)
	return err
}

// FlushOrdered implements journal.Orderer.
func (i *Inode) FlushOrdered(uint64) error { return i.settle() }

// Flush is for close(2): it returns when the device has the data of the inode,
// durable or not, and tells if it could not be written.
func (v *Volume) Flush(i *Inode) error { return i.settle() }
