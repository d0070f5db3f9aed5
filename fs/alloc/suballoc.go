package alloc

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// inodeLimit is the first block that is no inode number for programs with 32-bit
// inode numbers (Linux: without the mount option inode64).
const inodeLimit = 1 << 32

// suballoc is the inode_alloc or extent_alloc of a slot.
type suballoc struct {
	file
	slot  uint16
	limit uint64 // groups are made below this block; 0: anywhere
	last  uint64 // group used last; guarded by the EX lock
}

// kind tells the two apart.
type kind uint8

const (
	inodes kind = iota
	extents
)

func (k kind) String() string {
	if k == inodes {
		return "inode_alloc"
	}
	return "extent_alloc"
}

// suballoc returns the allocator of a slot; slot ondisk.SlotGlobal is
// global_inode_alloc.
func (a *Allocator) suballoc(k kind, slot uint16) (*suballoc, error) {
	if slot != ondisk.SlotGlobal && int(slot) >= a.env.Geo.MaxSlots || slot == ondisk.SlotGlobal && k != inodes {
		return nil, ondisk.Corruptf(k.String(), 0, "no such slot: %d", slot)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.subs[k][slot]; s != nil {
		return s, nil
	}
	ino, err := a.env.GlobalInodeAlloc, error(nil)
	what := "global_inode_alloc"
	if slot != ondisk.SlotGlobal {
		open := a.env.InodeAlloc
		if k == extents {
			open = a.env.ExtentAlloc
		}
		ino, err = open(int(slot))
		what = fmt.Sprintf("%s:%04d", k, slot)
	}
	if err != nil {
		return nil, err
	}
	s := &suballoc{file: file{geo: a.env.Geo, ino: ino, what: what}, slot: slot}
	if k == inodes {
		s.limit = inodeLimit
	}
	a.subs[k][slot] = s
	return s, nil
}

// share is what a reservation holds of a suballocator: its lock, its inode, the
// group in use, and a promise of n bits.
type share struct {
	s  *suballoc // nil: nothing
	di *buffer.Buf
	g  group // may be empty
	n  int
}

// release gives the lock back.
func (sh *share) release() {
	if sh.s == nil {
		return
	}
	if sh.g.buf != nil {
		sh.s.last = sh.g.buf.Blkno
		sh.g.put()
	}
	sh.s.unlock(sh.di)
	*sh = share{}
}

// credits is the inode and, unless the group in use has all bits, one group for
// each.
func (sh *share) credits() int {
	switch {
	case sh.s == nil || sh.n == 0:
		return 0
	case sh.g.buf != nil && sh.g.avail() >= sh.n:
		return 2
	}
	return 1 + sh.n
}

// settle makes hint, or the group used last, the group in use if it has a bit.
// A hint that is no group of the allocator is ignored: it is only a hint.
func (sh *share) settle(hint uint64) error {
	for _, blkno := range [2]uint64{hint, sh.s.last} {
		if blkno == 0 {
			continue
		}
		g, err := sh.s.group(sh.di, blkno)
		if err != nil {
			continue // an error that matters comes up again in the walk
		}
		if g.avail() > 0 {
			sh.g = g
			return nil
		}
		g.put()
	}
	return sh.advance()
}

// advance makes some group with a free bit the group in use.
func (sh *share) advance() error {
	if sh.g.buf != nil {
		sh.g.put()
	}
	p, err := sh.s.search(sh.di, query{want: 1, min: 1})
	if err != nil {
		return err
	}
	if p.n == 0 {
		return sh.s.corrupt(sh.di.Blkno, "%d bits are said to be free, no group has one", sh.s.free(sh.di))
	}
	sh.g, err = sh.s.group(sh.di, p.group)
	return err
}

// claim takes one of the promised bits.
func (sh *share) claim(tx *journal.Handle) (MetaBlock, error) {
	if sh.n == 0 {
		return MetaBlock{}, fmt.Errorf("claiming more than was reserved: %w", ErrNoSpace)
	}
	if sh.g.buf == nil || sh.g.avail() == 0 {
		if err := sh.advance(); err != nil {
			return MetaBlock{}, err
		}
	}
	g := &sh.g
	bit := g.bits().nextClear(0, int(g.d.Bits()))
	blkno, ok := g.d.BlockOfBit(bit, int(ondisk.Dinode(sh.di.Data).Chains().BPC()))
	if !ok || bit == int(g.d.Bits()) || !sh.s.geo.ValidBlock(blkno) {
		return MetaBlock{}, sh.s.corrupt(g.buf.Blkno, "%d bits are said to be free; the first, %d of %d, is block %d", g.d.FreeBitsCount(), bit, g.d.Bits(), blkno)
	}
	if err := sh.s.take(tx, sh.di, g, bit, 1); err != nil {
		return MetaBlock{}, err
	}
	sh.n--
	mb := MetaBlock{Blkno: blkno, Slot: sh.s.slot, Bit: uint16(bit)}
	if g.d.IsDiscontig() {
		mb.Loc = g.buf.Blkno
	}
	return mb, nil
}

// free gives back one block.
func (s *suballoc) freeBlock(tx *journal.Handle, di *buffer.Buf, b MetaBlock) error {
	if b.Loc == 0 && uint64(b.Bit) > b.Blkno {
		return s.corrupt(b.Blkno, "bit %d of a group that begins before the volume", b.Bit)
	}
	g, err := s.group(di, b.Group())
	if err != nil {
		return err
	}
	defer g.put()
	blkno, ok := g.d.BlockOfBit(int(b.Bit), int(ondisk.Dinode(di.Data).Chains().BPC()))
	if b.Bit == 0 || !ok || blkno != b.Blkno {
		return s.corrupt(g.buf.Blkno, "freeing block %d as bit %d, which is block %d", b.Blkno, b.Bit, blkno)
	}
	return s.give(tx, di, &g, int(b.Bit), 1)
}

// reserveBits fills sh with a promise of n bits from the own slot's allocator,
// which grows if needed, or from another slot's.
func (a *Allocator) reserveBits(ctx context.Context, sh *share, k kind, n int, hint uint64) error {
	victim, stealing := a.steal[k].victim()
	if stealing {
		if ok, err := a.tryBits(ctx, sh, k, victim, n, hint); ok || err != nil {
			return err
		}
		a.steal[k].stop()
	}
	own, err := a.suballoc(k, uint16(a.env.Slot))
	if err != nil {
		return err
	}
	if err := a.ownBits(ctx, sh, own, n, hint); err == nil || !errors.Is(err, ErrNoSpace) {
		return err
	}
	for i := 1; i < a.env.Geo.MaxSlots; i++ {
		slot := uint16((a.env.Slot + i) % a.env.Geo.MaxSlots)
		ok, err := a.tryBits(ctx, sh, k, slot, n, hint)
		if ok {
			a.steal[k].begin(slot)
		}
		if ok || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: %w", k, ErrNoSpace)
}

// ownBits reserves from the own slot's allocator.
func (a *Allocator) ownBits(ctx context.Context, sh *share, s *suballoc, n int, hint uint64) error {
	di, err := lockFile(ctx, &s.file)
	if err != nil {
		return err
	}
	*sh = share{s: s, di: di, n: n}
	if int(s.free(di)) < n && int(s.free(di)+s.pend.count()) >= n {
		err = a.env.Journal.CommitRunning(ctx) // makes the pending bits free
	}
	for err == nil && int(s.free(di)) < n {
		err = a.grow(ctx, s, di)
	}
	if err == nil {
		err = sh.settle(hint)
	}
	if err != nil {
		sh.release()
	}
	return err
}

// tryBits reserves existing bits of any slot's allocator; ok false: it has not
// enough.
func (a *Allocator) tryBits(ctx context.Context, sh *share, k kind, slot uint16, n int, hint uint64) (ok bool, err error) {
	s, err := a.suballoc(k, slot)
	if err != nil {
		return false, err
	}
	di, err := lockFile(ctx, &s.file)
	if err != nil {
		return false, err
	}
	*sh = share{s: s, di: di, n: n}
	if int(s.free(di)) >= n {
		if err = sh.settle(hint); err == nil {
			return true, nil
		}
	}
	sh.release()
	return false, err
}
