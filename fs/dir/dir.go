package dir

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// MaxName is the longest name in bytes.
const MaxName = 255

var (
	// ErrNotFound: no such name.
	ErrNotFound = errors.New("no such name in the directory")
	// ErrNameTooLong: more than MaxName bytes.
	ErrNameTooLong = errors.New("name is longer than 255 bytes")
	// ErrBadName: empty, or with a slash or NUL byte.
	ErrBadName = errors.New("name is empty or has a '/' or NUL byte")
	// ErrIndexFull: more names with one hash value than an index leaf holds.
	ErrIndexFull = errors.New("too many names with the same hash value in this directory")
)

// Entry is a name's target.
type Entry struct {
	Ino  uint64
	Type uint8 // ondisk.FT*
}

// Dir is a directory inode's content.
type Dir struct {
	m  *buffer.Meta
	di *buffer.Buf
	g  *ondisk.Geometry
}

// Open makes a view of the directory whose dinode block is di. The view holds
// no reference of its own.
func Open(m *buffer.Meta, di *buffer.Buf) Dir { return Dir{m, di, m.Geometry()} }

// CheckName refuses names that cannot be stored.
func CheckName(name []byte) error {
	switch {
	case len(name) > MaxName:
		return fmt.Errorf("%w (%d)", ErrNameTooLong, len(name))
	case len(name) == 0 || bytes.IndexByte(name, '/') >= 0 || bytes.IndexByte(name, 0) >= 0:
		return ErrBadName
	}
	return nil
}

func (d Dir) dinode() ondisk.Dinode { return ondisk.Dinode(d.di.Data) }
func (d Dir) inline() bool          { return d.dinode().HasDyn(ondisk.DynInlineData) }
func (d Dir) indexed() bool         { return d.dinode().HasDyn(ondisk.DynIndexedDir) }
func (d Dir) trailers() bool        { return d.g.DirTrailers(d.dinode().DynFeatures()) }

// blocks is the number of formatted data blocks.
func (d Dir) blocks() uint32 { return uint32(d.dinode().Size() >> d.g.BlockBits) }

// corrupt reports damage found in this directory.
func (d Dir) corrupt(blkno uint64, format string, args ...any) error {
	return &ondisk.CorruptError{What: fmt.Sprintf("directory %d", d.di.Blkno), Blkno: blkno, Detail: fmt.Sprintf(format, args...)}
}

// entries walks a block's or the inline area's entries, naming the block in
// errors.
func (d Dir) scan(area []byte, blkno uint64, fn func(e ondisk.DirEntry, off, prev int) bool) error {
	it := ondisk.DirEntries(area)
	for it.Next() {
		if !fn(it.Entry(), it.Offset(), it.PrevOffset()) {
			return nil
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("directory %d, block %d: %w", d.di.Blkno, blkno, err)
	}
	return nil
}

// find looks for a used entry called name.
func (d Dir) find(area []byte, blkno uint64, name []byte) (found ondisk.DirEntry, off, prev int, err error) {
	err = d.scan(area, blkno, func(e ondisk.DirEntry, o, p int) bool {
		if e.Inode() != 0 && int(e.NameLen()) == len(name) && bytes.Equal(e.Name(), name) {
			found, off, prev = e, o, p
			return false
		}
		return true
	})
	return found, off, prev, err
}

// physical maps directory block n to its device block.
func (d Dir) physical(n uint32) (uint64, error) {
	t := extent.OfInode(d.m, d.di)
	r, err := t.Lookup(n >> d.g.BpcBits)
	if err != nil {
		return 0, err
	}
	if r.Blkno == 0 {
		return 0, d.corrupt(d.di.Blkno, "hole at block %d of %d", n, d.blocks())
	}
	return r.Blkno + uint64(n) - uint64(r.Cpos)<<d.g.BpcBits, nil
}

// block reads data block n.
func (d Dir) block(n uint32) (*buffer.Buf, error) {
	p, err := d.physical(n)
	if err != nil {
		return nil, err
	}
	return d.read(p)
}

// read reads the data block at device block blkno.
func (d Dir) read(blkno uint64) (*buffer.Buf, error) {
	return d.m.Read(blkno, d.checkBlock)
}

func (d Dir) checkBlock(data []byte, blkno uint64, g *ondisk.Geometry) error {
	return ondisk.CheckDirBlock(data, blkno, d.di.Blkno, g, d.trailers())
}

func (d Dir) area(b *buffer.Buf) []byte { return ondisk.DirBlock(b.Data).Area(d.trailers()) }

// place is where an entry is.
type place struct {
	buf       *buffer.Buf // nil: inline, in the dinode
	off, prev int
	e         ondisk.DirEntry
}

func (p place) put() { p.buf.Put() }

// lookup finds a name; the caller puts the place's buffer.
func (d Dir) lookup(name []byte) (place, error) {
	if len(name) > MaxName {
		return place{}, fmt.Errorf("%w (%d)", ErrNameTooLong, len(name))
	}
	if d.inline() {
		e, off, prev, err := d.find(d.dinode().Inline().Data(), d.di.Blkno, name)
		if err != nil {
			return place{}, err
		}
		if e == nil {
			return place{}, ErrNotFound
		}
		return place{nil, off, prev, e}, nil
	}
	if d.indexed() {
		return d.lookupIndexed(name)
	}
	for n := uint32(0); n < d.blocks(); n++ {
		b, err := d.block(n)
		if err != nil {
			return place{}, err
		}
		if p, ok, err := d.findIn(b, name); err != nil || ok {
			return p, err
		}
	}
	return place{}, ErrNotFound
}

// findIn looks in one block; it keeps b only in a place it returns.
func (d Dir) findIn(b *buffer.Buf, name []byte) (place, bool, error) {
	e, off, prev, err := d.find(d.area(b), b.Blkno, name)
	if err != nil || e == nil {
		b.Put()
		return place{}, false, err
	}
	return place{b, off, prev, e}, true, nil
}

// Lookup finds a name. ErrNotFound if it is not there.
func (d Dir) Lookup(name []byte) (Entry, error) {
	p, err := d.lookup(name)
	if err != nil {
		return Entry{}, err
	}
	defer p.put()
	return d.entry(p.e, p.buf)
}

// entry converts a disk entry, refusing inode numbers outside the volume.
func (d Dir) entry(e ondisk.DirEntry, b *buffer.Buf) (Entry, error) {
	if !d.g.ValidBlock(e.Inode()) {
		blk := d.di.Blkno
		if b != nil {
			blk = b.Blkno
		}
		return Entry{}, d.corrupt(blk, "entry %q names inode %d, outside the volume", e.Name(), e.Inode())
	}
	return Entry{e.Inode(), e.FileType()}, nil
}

// Each calls fn for every name from position pos on, until fn returns false.
// next is the position to continue at. Positions are byte offsets and stay
// meaningful while names come and go: an entry that is there all the time is
// delivered exactly once (entries never move, but for the conversion from
// inline, which keeps offsets).
func (d Dir) Each(pos uint64, fn func(name []byte, e Entry, next uint64) bool) error {
	if d.inline() {
		_, err := d.eachIn(d.dinode().Inline().Data(), nil, 0, pos, fn)
		return err
	}
	for n := uint32(pos >> d.g.BlockBits); n < d.blocks(); n++ {
		b, err := d.block(n)
		if err != nil {
			return err
		}
		more, err := d.eachIn(d.area(b), b, uint64(n)<<d.g.BlockBits, pos, fn)
		b.Put()
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (d Dir) eachIn(area []byte, b *buffer.Buf, base, pos uint64, fn func([]byte, Entry, uint64) bool) (more bool, err error) {
	blkno, more := d.di.Blkno, true
	if b != nil {
		blkno = b.Blkno
	}
	var bad error
	err = d.scan(area, blkno, func(e ondisk.DirEntry, off, _ int) bool {
		if at := base + uint64(off); e.Inode() == 0 || at < pos {
			return true
		}
		var ent Entry
		if ent, bad = d.entry(e, b); bad != nil {
			return false
		}
		more = fn(e.Name(), ent, base+uint64(off)+uint64(e.RecLen()))
		return more
	})
	if bad != nil {
		return false, bad
	}
	return more, err
}

// Empty tells whether there is no name but "." and "..".
func (d Dir) Empty() (bool, error) {
	empty := true
	err := d.Each(0, func(name []byte, _ Entry, _ uint64) bool {
		empty = string(name) == "." || string(name) == ".."
		return empty
	})
	return empty, err
}

// Parent returns the inode number that ".." names.
func (d Dir) Parent() (uint64, error) {
	e, err := d.Lookup([]byte(".."))
	if errors.Is(err, ErrNotFound) {
		return 0, d.corrupt(d.di.Blkno, "no \"..\" entry")
	}
	return e.Ino, err
}

// Rewrite points an existing name at another inode. One credit.
func (d Dir) Rewrite(tx *journal.Handle, name []byte, ino uint64, ftype uint8) error {
	p, err := d.lookup(name)
	if err != nil {
		return err
	}
	defer p.put()
	if err := tx.Write(d.blockOf(p)); err != nil {
		return err
	}
	p.e.SetInode(ino)
	p.e.SetFileType(ftype)
	return nil
}

func (d Dir) blockOf(p place) *journal.Block {
	if p.buf == nil {
		return &d.di.Block
	}
	return &p.buf.Block
}

// DeleteCredits is what Delete needs: entry block, dinode, dx root, dx leaf.
const DeleteCredits = 4

// Delete removes a name.
func (d Dir) Delete(tx *journal.Handle, name []byte) error {
	p, err := d.lookup(name)
	if err != nil {
		return err
	}
	defer p.put()
	if err := tx.Write(d.blockOf(p)); err != nil {
		return err
	}
	area := d.dinode().Inline()
	var region []byte
	if p.buf == nil {
		region = area.Data()
	} else {
		region = d.area(p.buf)
	}
	if p.prev >= 0 {
		before := ondisk.DirEntry(region[p.prev:])
		before.SetRecLen(before.RecLen() + p.e.RecLen())
	}
	p.e.SetInode(0)
	if p.buf == nil || !d.indexed() {
		return nil
	}
	if err := d.indexRemove(tx, name, p.buf.Blkno); err != nil {
		return err
	}
	return d.refreshFree(tx, p.buf, 0)
}
