package journal

import (
	"cmp"
	"slices"
	"time"

	"github.com/ocfuse/ocfuse/journal/format"
)

// entry is one block of a transaction.
type entry struct {
	b     *Block
	order uint32 // order of declaration
	esc   bool   // the image begins with the journal's magic
}

// transaction is a set of block images that becomes durable as a whole.
type transaction struct {
	tid  uint64
	done chan struct{} // closed when durable

	// Guarded by Journal.mu while running; owned by the commit goroutine once all
	// handles stopped; immutable when committed, until the checkpoint drops it.
	entries   []entry
	ordered   []Orderer
	orderSeen map[Orderer]struct{} // only with more than a few orderers
	onCommit  []func()
	born      time.Time // when the first change was declared

	// Guarded by Journal.mu.
	dirty    bool          // there is something to commit
	declared int           // blocks declared
	wantHome bool          // a full flush waits for it
	handles  int           // open handles
	reserved int           // blocks declared by stopped handles + credits of open ones
	locked   bool          // no new handles
	idle     chan struct{} // made when locked with open handles; closed by the last Stop

	// Set by freeze; pos and logLen guarded by Journal.mu.
	whole  []byte // a block for the journal superblock, then buf
	buf    []byte // the transaction as it lies in the log
	images int    // distinct blocks: len(entries) after freeze
	pos    uint32 // first log block
	logLen uint32
	frozen bool // pos is valid
}

func newTransaction(tid uint64) *transaction {
	return &transaction{tid: tid, done: make(chan struct{})}
}

// addOrdered adds o once. Precondition: Journal.mu held.
func (t *transaction) addOrdered(o Orderer) {
	const scan = 8
	if t.orderSeen == nil {
		if slices.Contains(t.ordered, o) {
			return
		}
		if len(t.ordered) == scan {
			t.orderSeen = make(map[Orderer]struct{}, 2*scan)
			for _, old := range t.ordered {
				t.orderSeen[old] = struct{}{}
			}
		}
	}
	if t.orderSeen != nil {
		if _, ok := t.orderSeen[o]; ok {
			return
		}
		t.orderSeen[o] = struct{}{}
	}
	t.ordered = append(t.ordered, o)
}

// sortEntries orders the entries by block number. Sorted images make the home
// writes of a checkpoint large, and bring two Blocks of one number together: the
// one declared last stays, the others (freed by their owners meanwhile) are
// returned so that their pins can be dropped.
func (t *transaction) sortEntries() (dropped []entry) {
	less := func(a, b entry) int {
		if c := cmp.Compare(a.b.Blkno, b.b.Blkno); c != 0 {
			return c
		}
		return cmp.Compare(a.order, b.order)
	}
	if !slices.IsSortedFunc(t.entries, less) {
		slices.SortFunc(t.entries, less)
	}
	keep := t.entries[:0]
	for i, e := range t.entries {
		if i+1 < len(t.entries) && t.entries[i+1].b.Blkno == e.b.Blkno {
			dropped = append(dropped, e)
			continue
		}
		keep = append(keep, e)
	}
	clear(t.entries[len(keep):])
	t.entries = keep
	return dropped
}

// imageOff is the offset of image i in buf: a descriptor precedes every group.
func imageOff(l format.Layout, i int) int {
	return (i + i/l.TagsPerDescriptor() + 1) * l.BlockSize
}

// image is the frozen image of entry i.
func (t *transaction) image(l format.Layout, i int) []byte {
	off := imageOff(l, i)
	return t.buf[off : off+l.BlockSize]
}

// encode completes buf: Finish on every image, escapes, descriptors, and the
// commit block. The images are in place already.
func (t *transaction) encode(l format.Layout, finish func(uint64, []byte), now time.Time) {
	seq := uint32(t.tid)
	var w format.DescriptorWriter
	per := l.TagsPerDescriptor()
	for i := range t.entries {
		e := &t.entries[i]
		if i%per == 0 {
			w.Finish()
			w.Reset(l, t.buf[imageOff(l, i)-l.BlockSize:], seq)
		}
		img := t.image(l, i)
		if finish != nil {
			finish(e.b.Blkno, img)
		}
		tag := format.Tag{Blkno: e.b.Blkno}
		if e.esc = format.Escaped(img); e.esc {
			format.Escape(img)
			tag.Flags = format.FlagEscape
		}
		w.Add(tag)
	}
	if t.images > 0 {
		w.Finish()
	}
	c := format.Commit{Sequence: seq, Sec: uint64(now.Unix()), Nsec: uint32(now.Nanosecond())}
	c.Put(t.commitBlock(l))
}

// commitBlock is the last block of buf.
func (t *transaction) commitBlock(l format.Layout) []byte {
	return t.buf[len(t.buf)-l.BlockSize:]
}

// unescape restores the images that were escaped for the log, for the home writes.
func (t *transaction) unescape(l format.Layout) {
	for i := range t.entries {
		if t.entries[i].esc {
			format.Unescape(t.image(l, i))
		}
	}
}
