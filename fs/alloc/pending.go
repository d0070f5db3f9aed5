package alloc

import (
	"sync"

	"github.com/ocfuse/ocfuse/journal"
)

// pending is the set of an allocator's bits that were freed in transactions not
// yet durable (Linux keeps a copy of the committed bitmap instead, b_committed_data
// in fs/ocfs2/suballoc.c). Overlays are replaced, never changed, so that a search
// needs no lock.
type pending struct {
	mu     sync.Mutex
	groups map[uint64]overlay // by descriptor block
	runs   []pendingRun       // in the order of their transactions
	total  uint32             // bits in all groups
	tid    uint64             // newest transaction that calls commit
}

type overlay struct {
	bits []byte
	n    int
}

type pendingRun struct {
	tid    uint64
	group  uint64
	bit, n int
}

// of returns the overlay of a group.
func (p *pending) of(group uint64) overlay {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.groups[group]
}

// count returns the number of pending bits.
func (p *pending) count() uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

// add notes that tx freed n bits of a group whose bitmap has size bytes.
func (p *pending) add(tx *journal.Handle, group uint64, size, bit, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if tid := tx.Tid(); p.tid != tid {
		p.tid = tid
		tx.OnCommit(func() { p.commit(tid) })
	}
	if p.groups == nil {
		p.groups = make(map[uint64]overlay)
	}
	o := p.groups[group]
	fresh := make([]byte, size)
	copy(fresh, o.bits)
	set(fresh, bit, n)
	p.groups[group] = overlay{fresh, o.n + n}
	p.runs = append(p.runs, pendingRun{p.tid, group, bit, n})
	p.total += uint32(n)
}

// commit makes the bits freed up to transaction tid free.
func (p *pending) commit(tid uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := 0
	for copied := map[uint64]bool{}; k < len(p.runs) && p.runs[k].tid <= tid; k++ {
		r := p.runs[k]
		o := p.groups[r.group]
		p.total -= uint32(r.n)
		if o.n -= r.n; o.n == 0 {
			delete(p.groups, r.group)
			continue
		}
		if !copied[r.group] {
			o.bits = append([]byte(nil), o.bits...)
			copied[r.group] = true
		}
		reset(o.bits, r.bit, r.n)
		p.groups[r.group] = o
	}
	p.runs = append(p.runs[:0], p.runs[k:]...)
}
