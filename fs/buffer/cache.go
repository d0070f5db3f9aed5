package buffer

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// Cache bounds the memory of all metadata blocks of one mount.
type Cache struct {
	dev   blockdev.Device
	geo   *ondisk.Geometry
	limit int // blocks; 0 means no limit

	count atomic.Int64 // blocks in all Metas

	mu    sync.Mutex // guards ring and hand
	ring  []*Buf     // every cached block once, in no order
	hand  int
	stats struct{ reads, hits, evicted atomic.Uint64 }
}

// NewCache makes a cache of at most limitBytes of blocks (plus what is pinned).
func NewCache(dev blockdev.Device, geo *ondisk.Geometry, limitBytes int) *Cache {
	return &Cache{dev: dev, geo: geo, limit: limitBytes / geo.BlockSize}
}

// Geometry returns the volume's geometry.
func (c *Cache) Geometry() *ondisk.Geometry { return c.geo }

// Device returns the device below the cache.
func (c *Cache) Device() blockdev.Device { return c.dev }

// Stats is a snapshot of the cache's counters.
type Stats struct {
	Blocks  int64  `json:"blocks"`
	Reads   uint64 `json:"reads"`
	Hits    uint64 `json:"hits"`
	Evicted uint64 `json:"evicted"`
}

// Stats returns counters since the mount.
func (c *Cache) Stats() Stats {
	return Stats{c.count.Load(), c.stats.reads.Load(), c.stats.hits.Load(), c.stats.evicted.Load()}
}

// Check validates the content of a block just read: one of the validators of
// fs/ondisk. It runs after the block check (metaecc) was verified.
type Check func(data []byte, blkno uint64, geo *ondisk.Geometry) error

// Buf is one metadata block in memory. Get one from a Meta, give it back with
// Put.
type Buf struct {
	journal.Block
	meta *Meta
	refs atomic.Int32 // users; eviction needs 0
	used atomic.Bool  // the clock's reference bit
	slot int          // index in Cache.ring, guarded by Cache.mu
	// Aux holds what the owner derived from the content (a decoded index, a
	// free-bit summary); guarded like the content, dropped with the block.
	Aux any
}

// Put gives the block back. It may be evicted afterwards.
func (b *Buf) Put() {
	if b != nil && b.refs.Add(-1) < 0 {
		panic("buffer: Put without Get") // invariant
	}
}

// Hold takes another reference.
func (b *Buf) Hold() *Buf { b.refs.Add(1); return b }

// Meta is the metadata cache of one owner. Make it with Init; it may be
// embedded. Its journal.Owner is what journal.Checkpointed asks about.
type Meta struct {
	journal.Owner
	cache *Cache
	mu    sync.Mutex // guards bufs
	bufs  map[uint64]*Buf
}

// Init readies a Meta.
func (m *Meta) Init(c *Cache) { m.cache = c }

// Geometry returns the volume's geometry.
func (m *Meta) Geometry() *ondisk.Geometry { return m.cache.geo }

// Cache returns the cache the Meta belongs to.
func (m *Meta) Cache() *Cache { return m.cache }

// peek returns a cached block with a reference, or nil.
func (m *Meta) peek(blkno uint64) *Buf {
	m.mu.Lock()
	b := m.bufs[blkno]
	if b != nil {
		b.refs.Add(1)
		b.used.Store(true)
	}
	m.mu.Unlock()
	return b
}

// Read returns block blkno, from memory or from the device. A block read from
// the device has its block check verified (single bit errors are mended) and
// is then given to check.
func (m *Meta) Read(blkno uint64, check Check) (*Buf, error) {
	if b := m.peek(blkno); b != nil {
		m.cache.stats.hits.Add(1)
		return b, nil
	}
	g := m.cache.geo
	if blkno == 0 || blkno >= g.TotalBlocks {
		return nil, &ondisk.CorruptError{What: "block reference", Blkno: blkno, Detail: fmt.Sprintf("outside the volume of %d blocks", g.TotalBlocks)}
	}
	b, err := m.load(blkno, check)
	if err != nil {
		return nil, err
	}
	return m.insert(b), nil
}

// ReadPlain is Read for blocks that have no block check of their own, but may
// hold any bytes, even those of one that has: the blocks of an xattr bucket,
// which has one check for all of them. The caller validates.
func (m *Meta) ReadPlain(blkno uint64) (*Buf, error) {
	if b := m.peek(blkno); b != nil {
		m.cache.stats.hits.Add(1)
		return b, nil
	}
	if g := m.cache.geo; blkno == 0 || blkno >= g.TotalBlocks {
		return nil, &ondisk.CorruptError{What: "block reference", Blkno: blkno, Detail: fmt.Sprintf("outside the volume of %d blocks", g.TotalBlocks)}
	}
	data, err := m.fetch(blkno)
	if err != nil {
		return nil, err
	}
	return m.insert(m.newBuf(blkno, data)), nil
}

// fetch reads a block from the device.
func (m *Meta) fetch(blkno uint64) ([]byte, error) {
	data := blockdev.GetBuf(m.cache.geo.BlockSize)
	m.cache.stats.reads.Add(1)
	if _, err := m.cache.dev.ReadAt(data, int64(blkno)<<m.cache.geo.BlockBits); err != nil {
		blockdev.PutBuf(data)
		return nil, fmt.Errorf("reading metadata block %d: %w", blkno, err)
	}
	return data, nil
}

// load reads and validates a block from the device.
func (m *Meta) load(blkno uint64, check Check) (*Buf, error) {
	g := m.cache.geo
	data, err := m.fetch(blkno)
	if err != nil {
		return nil, err
	}
	if err := Verify(g, data, blkno); err != nil {
		return nil, err
	}
	if check != nil {
		if err := check(data, blkno, g); err != nil {
			return nil, err
		}
	}
	return m.newBuf(blkno, data), nil
}

// checkField finds the block check of a metadata block by its signature: at
// the front for all kinds but directory blocks, whose trailer is at the end.
// A directory block cannot look like the others: their signatures, read as the
// inode number of a first entry, are beyond any volume.
func checkField(g *ondisk.Geometry, data []byte) (off int, ok bool) {
	if off, ok = ondisk.CheckOffset(string(data[:8])); ok {
		return off, true
	}
	if ondisk.DirBlock(data).Trailer().HasSignature() {
		return ondisk.CheckOffTail(g.BlockSize), true
	}
	return 0, false
}

// Verify checks the block check (metaecc) of a block just read, mending a
// single flipped bit. Volumes without the feature pass; a block without a
// known signature is left to its validator.
func Verify(g *ondisk.Geometry, data []byte, blkno uint64) error {
	if !g.HasMetaECC() {
		return nil
	}
	off, ok := checkField(g, data)
	if !ok {
		return nil
	}
	if err := ondisk.ValidateCheck(data, off); err != nil {
		return fmt.Errorf("metadata block %d: %w", blkno, err)
	}
	return nil
}

// Seal computes the block check of an image about to be written; the
// journal's Config.Finish hook.
func Seal(g *ondisk.Geometry, image []byte) {
	if !g.HasMetaECC() {
		return
	}
	if off, ok := checkField(g, image); ok {
		ondisk.ComputeCheck(image, off)
	}
}

func (m *Meta) newBuf(blkno uint64, data []byte) *Buf {
	b := &Buf{meta: m}
	b.Blkno, b.Data, b.Owner = blkno, data, &m.Owner
	b.refs.Store(1)
	b.used.Store(true)
	return b
}

// insert publishes a block; if another reader was faster its block wins.
func (m *Meta) insert(b *Buf) *Buf {
	m.mu.Lock()
	if old := m.bufs[b.Blkno]; old != nil {
		old.refs.Add(1)
		m.mu.Unlock()
		return old
	}
	if m.bufs == nil {
		m.bufs = make(map[uint64]*Buf, 4)
	}
	m.bufs[b.Blkno] = b
	m.mu.Unlock()
	m.cache.added(b)
	return b
}

// New returns a zeroed block without reading it: for blocks just allocated.
// A stale cached block of the same number is overwritten.
func (m *Meta) New(blkno uint64) *Buf {
	if b := m.peek(blkno); b != nil {
		clear(b.Data)
		b.Aux = nil
		return b
	}
	data := blockdev.GetBuf(m.cache.geo.BlockSize)
	clear(data)
	return m.insert(m.newBuf(blkno, data))
}

// Invalidate drops every block: the owner's cluster lock is being given up.
// Precondition: the journal says the owner is checkpointed, and nobody uses
// its blocks.
func (m *Meta) Invalidate() {
	m.mu.Lock()
	bufs := m.bufs
	m.bufs = nil
	m.mu.Unlock()
	for _, b := range bufs {
		m.cache.removed(b)
	}
}

// Dropped tells whether the cache holds no block.
func (m *Meta) Dropped() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.bufs) == 0
}

// WriteThrough writes the block to its home place at once, outside the
// journal, with its block check: only for the structures that the format
// wants written in place (OCFS2 format: slot map, journal inode flags, the
// local alloc and truncate log of a recovered slot). Precondition: the block
// is not part of a transaction.
func (b *Buf) WriteThrough() error {
	if b.Pinned() {
		return fmt.Errorf("block %d is in the journal, it cannot be written in place", b.Blkno)
	}
	g := b.meta.cache.geo
	Seal(g, b.Data)
	if err := b.meta.cache.dev.WriteFUA(b.Data, int64(b.Blkno)<<g.BlockBits); err != nil {
		return fmt.Errorf("writing metadata block %d: %w", b.Blkno, err)
	}
	return nil
}

// Limit returns the bound in bytes.
func (c *Cache) Limit() int { return c.limit * c.geo.BlockSize }
