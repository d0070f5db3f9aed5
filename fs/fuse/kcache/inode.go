package kcache

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// maxNegatives is how many names known not to exist one directory may give
// out: each has to be taken back one by one.
const maxNegatives = 64

// maxRanges is how many page ranges are remembered apart before a revoke
// drops all pages.
const maxRanges = 8

// extent is a run of bytes; end is exclusive.
type extent struct{ off, end uint64 }

func (x extent) overlaps(y extent) bool { return x.off < y.end && y.off < x.end }

// pageExtent widens a byte range to whole pages.
func pageExtent(off, size uint64) extent {
	end := off + size
	if end < off || end+pageSize-1 < end {
		end = wholeFile.end
	} else {
		end = (end + pageSize - 1) &^ (pageSize - 1)
	}
	return extent{off &^ (pageSize - 1), end}
}

// pageSize is the page cache's unit; it is the smallest the kernel can use.
const pageSize = 4096

// wholeFile covers every offset the kernel can cache.
var wholeFile = extent{0, 1 << 63}

// given is what the kernel may have cached since the last revoke began.
type given struct {
	attrs  bool
	all    bool // pages anywhere
	n      int
	ranges [maxRanges]extent
}

// add notes pages, merging neighbours.
func (g *given) add(x extent) {
	if g.all || x.off >= x.end {
		return
	}
	for i := range g.ranges[:g.n] {
		r := &g.ranges[i]
		if x.off <= r.end && r.off <= x.end {
			r.off, r.end = min(r.off, x.off), max(r.end, x.end)
			return
		}
	}
	if g.n == maxRanges {
		g.all = true
		return
	}
	g.ranges[g.n] = x
	g.n++
}

// overlaps reports whether any page of x was given out.
func (g *given) overlaps(x extent) bool {
	hit := g.all
	for _, r := range g.ranges[:g.n] {
		hit = hit || r.overlaps(x)
	}
	return hit
}

// pages returns what is to be dropped.
func (g *given) pages() []extent {
	if g.all {
		return []extent{wholeFile}
	}
	return append([]extent(nil), g.ranges[:g.n]...)
}

// link is one name of an inode that the kernel was told of.
type link struct {
	dir  *Inode
	name string
}

// Inode is what the kernel knows of one inode.
type Inode struct {
	id  uint64 // FUSE node id
	gen uint64
	dir bool

	mu      sync.Mutex // guards the rest
	lookups uint64     // what the kernel will FORGET
	given   given
	ops     *Op // requests under way that may have pages locked
	mappers int // open handles that can be mapped writable
	// size is what the kernel believes the file's size to be, at least; it
	// matters once recalled is set: an INVAL_INODE has been sent.
	size     uint64
	recalled bool
	// drops counts page drops, begun and ended; written is its value when
	// the last cached WRITE ended; refill is what was READ since the first
	// drop after that. See EndWrite.
	drops   uint64
	written uint64
	refill  given
	links   []link
	absent  map[string]struct{} // of a directory: names given out as not existing
}

// NewInode describes an inode that the kernel does not know yet. id is the
// FUSE node id: fuse.FUSE_ROOT_ID for the root, else the inode number.
// generation is the inode's: node ids are used again after a deletion.
func NewInode(id, generation uint64, isDir bool) *Inode {
	return &Inode{id: id, gen: generation, dir: isDir}
}

// ID returns the FUSE node id.
func (i *Inode) ID() uint64 { return i.id }

// Known reports whether the kernel holds a reference, or a reply that gives it
// one is on its way. The root is always known.
func (i *Inode) Known() bool {
	if i.id == fuse.FUSE_ROOT_ID {
		return true
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.lookups != 0
}

// Forget takes n references back, as the kernel's FORGET says, and reports
// whether none is left: the filesystem may drop the inode.
func (i *Inode) Forget(n uint64) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lookups -= min(n, i.lookups)
	if i.lookups != 0 {
		return false
	}
	i.given, i.links, i.absent, i.size, i.recalled = given{}, nil, nil, 0, false
	return i.id != fuse.FUSE_ROOT_ID
}

// mapped reports whether a handle of this node can be mapped writable.
func (i *Inode) mapped() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.mappers != 0
}

// ReadNeedsEX reports whether a READ must take META EX instead of PR, because
// the pages it fills could be dirtied without asking. To be called by the READ
// handler after Begin; Op.Covered asks again once it has the lock.
func (i *Inode) ReadNeedsEX() bool { return i.mapped() }

// Open must be called by OPEN and CREATE, without a cluster lock held, before
// the reply. flags are the open flags. It returns the flags for the reply, and
// drops the pages cached under PR if the handle can be mapped writable. Every
// successful Open needs a Release.
func (e *Engine) Open(i *Inode, flags uint32) (openFlags uint32) {
	openFlags = fuse.FOPEN_KEEP_CACHE
	if appendOnly(flags) {
		openFlags |= fuse.FOPEN_DIRECT_IO
	}
	switch flags & unix.O_ACCMODE {
	case unix.O_RDONLY:
		openFlags |= fuse.FOPEN_NOFLUSH
	case unix.O_RDWR:
		i.mu.Lock()
		i.mappers++
		first := i.mappers == 1
		i.mu.Unlock()
		if first {
			e.dropPages(i, false)
		}
	}
	return openFlags
}

// appendOnly reports whether a handle opened with flags goes past the page
// cache: through it the kernel would copy the data to where it believes the
// end to be.
func appendOnly(flags uint32) bool {
	return flags&unix.O_APPEND != 0 && flags&unix.O_ACCMODE != unix.O_RDONLY
}

// ReadKind returns Read, or Direct for a READ that goes past the page cache.
// opened are the flags of the OPEN, now those of the READ.
func ReadKind(opened, now uint32) OpKind {
	if appendOnly(opened) || now&unix.O_DIRECT != 0 {
		return Direct
	}
	return Read
}

// WriteKind is ReadKind for a WRITE, whose write flags it wants too.
func WriteKind(opened, now, writeFlags uint32) OpKind {
	switch {
	case writeFlags&fuse.WRITE_CACHE != 0:
		return WriteBack
	case appendOnly(opened) || now&unix.O_DIRECT != 0:
		return Direct
	}
	return Write
}

// Release ends a handle opened with the same flags.
func (i *Inode) Release(flags uint32) {
	if flags&unix.O_ACCMODE != unix.O_RDWR {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.mappers > 0 {
		i.mappers--
	}
}

// take returns what has been given out and forgets it, attributes or pages or
// both.
func (i *Inode) take(attrs, pages bool) given {
	i.mu.Lock()
	defer i.mu.Unlock()
	var g given
	if attrs {
		g.attrs, i.given.attrs = i.given.attrs, false
	}
	if pages {
		g.all, g.n, g.ranges = i.given.all, i.given.n, i.given.ranges
		i.given.all, i.given.n = false, 0
	}
	return g
}

// OpKind says what an Op does to the page cache.
type OpKind uint8

// The kinds.
const (
	// Read is a READ of a cached handle: its pages are locked until the
	// reply.
	Read OpKind = iota
	// Write is a WRITE of a cached handle: a page that is written in part
	// and was not cached is locked until the reply.
	Write
	// WriteBack is a WRITE with WRITE_CACHE: it belongs to a revoke or a
	// flush, and ends without waiting for a lock.
	WriteBack
	// Direct is a READ or WRITE past the page cache.
	Direct
)

// Op is a READ or WRITE under way.
type Op struct {
	i          *Inode
	prev, next *Op
	kind       OpKind
	want       extent // the bytes
	x          extent // the pages
	// maybe is the part of a Write's x that it may keep locked, when that is
	// no longer all of x.
	maybe   []extent
	part    bool // maybe counts: a READ of the same pages began after the WRITE
	covered bool // has its lock
}

var ops = sync.Pool{New: func() any { return new(Op) }}

// Begin announces a READ or WRITE of size bytes at off, before it asks for a
// lock. Every Begin needs an End.
func (i *Inode) Begin(kind OpKind, off uint64, size uint32) *Op {
	o := ops.Get().(*Op)
	*o = Op{i: i, kind: kind, x: pageExtent(off, uint64(size)), want: extent{off, off + uint64(size)}}
	i.mu.Lock()
	defer i.mu.Unlock()
	if kind == Write {
		// Pages written whole are readable here before we answer.
		i.given.add(o.x)
	}
	if kind == Read && i.drops != i.written {
		i.refill.add(o.x)
	}
	if kind == Read {
		// This READ has its pages locked, so no WRITE has.
		for w := i.ops; w != nil; w = w.next {
			if w.kind == Write && w.x.overlaps(o.x) {
				w.maybe, _ = subtract(w.mayLock(), o.x, false)
				w.part = true
			}
		}
	}
	if o.next = i.ops; o.next != nil {
		o.next.prev = o
	}
	i.ops = o
	return o
}

// mayLock returns the pages that a Write may keep locked.
func (o *Op) mayLock() []extent {
	if o.part {
		return o.maybe
	}
	return []extent{o.x}
}

// Covered says that the caller has META at EX or PR, before it touches the
// data. It is false for a READ under PR that must start over with EX: a handle
// that can be mapped writable was opened meanwhile.
func (o *Op) Covered(ex bool) bool {
	o.i.mu.Lock()
	defer o.i.mu.Unlock()
	if o.kind == Read && !ex && o.i.mappers != 0 {
		return false
	}
	o.covered = true
	return true
}

// End says that the work is done: the reply follows. To be called before the
// lock is released, also after errors. The Op may not be used afterwards. A
// WRITE that wrote something ends with Engine.EndWrite, a READ with EndRead.
func (o *Op) End() {
	i := o.i
	i.mu.Lock()
	o.end()
	i.mu.Unlock()
	*o = Op{}
	ops.Put(o)
}

// EndRead is End for a READ that found n bytes.
func (o *Op) EndRead(n int) {
	i, x := o.i, o.want
	i.mu.Lock()
	if n < int(x.end-x.off) {
		i.size = min(i.size, x.off+uint64(n)) // the kernel learns the size from it
	}
	i.mu.Unlock()
	o.End()
}

// end takes the Op off the list. mu of the inode held.
func (o *Op) end() {
	i := o.i
	if o.prev != nil {
		o.prev.next = o.next
	} else {
		i.ops = o.next
	}
	if o.next != nil {
		o.next.prev = o.prev
	}
	i.given.attrs = true // the reply may change the size the kernel believes in
	if o.kind == Read || o.kind == Write {
		i.given.add(o.x)
	}
}

// locked returns what requests under way may keep locked.
func (i *Inode) locked() (reads, writes []extent, writeBack bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for o := i.ops; o != nil; o = o.next {
		switch o.kind {
		case Read:
			if !o.covered { // else it ends soon
				reads = append(reads, o.x)
			}
		case Write:
			writes = append(writes, o.mayLock()...)
		case WriteBack:
			writeBack = true
		}
	}
	return reads, writes, writeBack
}

// SymlinkRead notes that a READLINK reply will be cached. To be called before
// the lock is released.
func (i *Inode) SymlinkRead() {
	i.mu.Lock()
	i.given.all = true
	i.mu.Unlock()
}
