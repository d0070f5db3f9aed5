package volume

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/ocfuse/ocfuse/fs/dir"
)

// preloaders is how many inodes of a listing are loaded at the same time.
const preloaders = 16

// ReadDirPlus is ReadDir for callers that will ask for the inode of each name
// (Entry): those of the first n names that are not in memory are loaded before,
// side by side, since each takes two locks and a block of the device.
func (v *Volume) ReadDirPlus(ctx context.Context, d *Inode, pos uint64, n int, fn func(DirEntry) bool) error {
	return d.listing(ctx, func(l dir.Dir) error {
		missing, err := v.missing(l, pos, n)
		if err != nil {
			return err
		}
		defer v.preload(ctx, missing)()
		return each(l, pos, fn)
	})
}

// missing returns the inodes of the n names from pos on that are not in memory.
func (v *Volume) missing(d dir.Dir, pos uint64, n int) ([]uint64, error) {
	var list []uint64
	err := d.Each(pos, func(name []byte, e dir.Entry, _ uint64) bool {
		if string(name) != "." && string(name) != ".." && !v.loaded(e.Ino) {
			list = append(list, e.Ino)
		}
		n--
		return n > 0
	})
	return list, err
}

// loaded tells whether an inode is in memory, or on its way in or out.
func (v *Volume) loaded(blkno uint64) bool {
	s := v.table.shard(blkno)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[blkno] != nil
}

// preload loads inodes; release drops the references that keep them in memory.
// Of what fails the caller hears when it asks for the inode.
func (v *Volume) preload(ctx context.Context, list []uint64) (release func()) {
	if len(list) < 2 {
		return func() {}
	}
	var (
		wg   sync.WaitGroup
		next atomic.Int64
		got  = make([]*Inode, len(list))
	)
	for range min(preloaders, len(list)) {
		wg.Go(func() {
			for k := int(next.Add(1)) - 1; k < len(list); k = int(next.Add(1)) - 1 {
				got[k], _ = v.iget(ctx, list[k], igetServed) // nil after an error
			}
		})
	}
	wg.Wait()
	return func() {
		for _, i := range got {
			if i != nil {
				i.Put()
			}
		}
	}
}
