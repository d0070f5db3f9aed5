package alloc

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/journal"
)

// Dealloc collects the metadata blocks an operation took out of use and gives
// them back afterwards, with the locks of whose allocators they are (Linux
// fs/ocfs2/alloc.c, struct ocfs2_cached_dealloc_ctxt). It is an extent.MetaSink.
// Used by one goroutine.
type Dealloc struct {
	a      *Allocator
	blocks []MetaBlock
}

// Dealloc starts collecting.
func (a *Allocator) Dealloc() *Dealloc { return &Dealloc{a: a} }

// FreeMeta notes a block of an extent_alloc.
func (d *Dealloc) FreeMeta(b MetaBlock) { d.blocks = append(d.blocks, b) }

// Len is the number of blocks noted and not given back.
func (d *Dealloc) Len() int { return len(d.blocks) }

// freeBatch is the number of blocks freed per transaction.
const freeBatch = 32

// Run gives the blocks back, in transactions of its own, and is then empty. The
// caller has no transaction open and no allocator's lock. A crash before leaks the
// blocks, which is harmless. After an error the blocks not given back stay noted.
func (d *Dealloc) Run(ctx context.Context) error {
	slices.SortFunc(d.blocks, func(x, y MetaBlock) int {
		return cmp.Or(cmp.Compare(x.Slot, y.Slot), cmp.Compare(x.Group(), y.Group()), cmp.Compare(x.Bit, y.Bit))
	})
	for len(d.blocks) > 0 {
		n := 1
		for n < len(d.blocks) && d.blocks[n].Slot == d.blocks[0].Slot {
			n++
		}
		if err := d.runSlot(ctx, d.blocks[:n]); err != nil {
			return err
		}
		d.blocks = d.blocks[n:]
	}
	d.blocks = nil
	return nil
}

// runSlot frees blocks of one slot's extent_alloc.
func (d *Dealloc) runSlot(ctx context.Context, blocks []MetaBlock) error {
	s, err := d.a.suballoc(extents, blocks[0].Slot)
	if err != nil {
		return err
	}
	di, err := lockFile(ctx, &s.file)
	if err != nil {
		return err
	}
	defer s.unlock(di)
	for len(blocks) > 0 {
		n := min(freeBatch, len(blocks), d.a.env.Journal.MaxCredits()-1)
		tx, err := d.a.env.Journal.Start(ctx, 1+n)
		if err != nil {
			return err
		}
		for _, b := range blocks[:n] {
			if err := s.freeBlock(tx, di, b); err != nil {
				return d.a.broken(tx, err)
			}
		}
		if err := tx.Stop(); err != nil {
			return err
		}
		blocks = blocks[n:]
	}
	d.a.steal[extents].stop()
	return nil
}

// InodeFree is a locked inode_alloc, for the last transaction of a deletion.
type InodeFree struct {
	a  *Allocator
	s  *suballoc
	di *buffer.Buf
}

// LockInodeFree locks the inode_alloc of slot (i_suballoc_slot; ondisk.SlotGlobal
// is global_inode_alloc). After the orphan directory's lock, before the
// transaction.
func (a *Allocator) LockInodeFree(ctx context.Context, slot uint16) (*InodeFree, error) {
	s, err := a.suballoc(inodes, slot)
	if err != nil {
		return nil, err
	}
	di, err := lockFile(ctx, &s.file)
	if err != nil {
		return nil, err
	}
	return &InodeFree{a, s, di}, nil
}

// Credits is what one Free costs.
func (f *InodeFree) Credits() int { return 2 }

// Free clears the inode's bit. The caller has marked the dinode as free in the
// same transaction.
func (f *InodeFree) Free(tx *journal.Handle, b MetaBlock) error {
	if b.Slot != f.s.slot {
		return fmt.Errorf("alloc: inode %d of slot %d freed in %s", b.Blkno, b.Slot, f.s.what)
	}
	if err := f.s.freeBlock(tx, f.di, b); err != nil {
		return err
	}
	f.a.steal[inodes].stop()
	return nil
}

// Release unlocks; after tx.Stop.
func (f *InodeFree) Release() { f.s.unlock(f.di) }
