package alloc

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/journal"
)

// Reservation holds the locks of the allocators an operation may claim from, and
// their promise. It is an extent.MetaSource. Used by one goroutine, and not after
// Release.
type Reservation struct {
	a     *Allocator
	inode share
	meta  share
	space clusterShare
}

// clusterShare is the part of a reservation that promises clusters: from the
// local window or, if gb is set, from the global bitmap.
type clusterShare struct {
	la, gb *buffer.Buf
	n      uint32 // promised and not claimed
	contig bool
	runs   int
}

var reservationPool = sync.Pool{New: func() any { return new(Reservation) }}

// Reserve takes the locks and makes sure that the space asked for exists: it may
// grow suballocators, slide the local window and flush the truncate log, each in
// transactions of its own. Errors: ErrNoSpace with nothing held; corruption; those
// of the locks and the journal. The caller has no transaction open and holds no
// allocator's lock (except rq.Hold).
func (a *Allocator) Reserve(ctx context.Context, rq Request) (*Reservation, error) {
	if rq.Inodes < 0 || rq.Meta < 0 || rq.Runs < 0 {
		return nil, fmt.Errorf("alloc: reserving %+v", rq)
	}
	r := reservationPool.Get().(*Reservation)
	r.a = a
	for {
		err := r.fill(ctx, rq)
		if err == nil {
			return r, nil
		}
		r.unlock()
		if !errors.Is(err, ErrNoSpace) {
			r.recycle()
			return nil, err
		}
		if more, ferr := a.trunc.relieve(ctx, rq.Hold); ferr != nil || !more {
			r.recycle()
			return nil, errors.Join(err, ferr)
		}
	}
}

// fill takes everything asked for, in lock order.
func (r *Reservation) fill(ctx context.Context, rq Request) error {
	if rq.Inodes > 0 {
		if err := r.a.reserveBits(ctx, &r.inode, inodes, rq.Inodes, rq.InodeHint); err != nil {
			return err
		}
	}
	if rq.Meta > 0 {
		if err := r.a.reserveBits(ctx, &r.meta, extents, rq.Meta, 0); err != nil {
			return err
		}
	}
	if rq.Clusters == 0 {
		return nil
	}
	runs := rq.Runs
	if runs == 0 {
		runs = int(min(rq.Clusters, 8))
	}
	r.space = clusterShare{n: rq.Clusters, contig: rq.Contig, runs: runs}
	return r.a.reserveClusters(ctx, &r.space)
}

// reserveClusters locks the local window if it serves or can be made to, else the
// global bitmap.
func (a *Allocator) reserveClusters(ctx context.Context, sp *clusterShare) error {
	la, err := a.local.lock(ctx)
	if err != nil {
		return err
	}
	if a.local.wanted(sp.n) {
		ok := a.local.serves(la, sp.n, sp.contig)
		if !ok {
			ok, err = a.slide(ctx, la, sp.n)
		}
		if ok && err == nil {
			sp.la = la
			return nil
		}
	}
	if err == nil {
		err = a.reserveGlobal(ctx, la, sp)
	}
	a.local.unlock(la)
	return err
}

// reserveGlobal locks the global bitmap if it has what is wanted. Precondition:
// the local alloc is locked.
func (a *Allocator) reserveGlobal(ctx context.Context, la *buffer.Buf, sp *clusterShare) error {
	gb, err := a.bitmap.lock(ctx)
	if err != nil {
		return err
	}
	for {
		ok := a.bitmap.free(gb) >= sp.n
		if ok && sp.contig && sp.n > 1 {
			p, err := a.bitmap.find(gb, sp.n, sp.n, 0, 0)
			if err != nil {
				a.bitmap.unlock(gb)
				return err
			}
			ok = p.n >= int(sp.n)
		}
		if ok {
			sp.gb = gb
			return nil
		}
		more, err := a.scrape(ctx, la, gb)
		if err != nil || !more {
			free := a.bitmap.free(gb)
			a.bitmap.unlock(gb)
			if err == nil {
				err = fmt.Errorf("%d clusters wanted, %d free: %w", sp.n, free, ErrNoSpace)
			}
			return err
		}
	}
}

// Credits is what the claims cost at most: Request.Runs calls of ClaimClusters
// (without it as many as there are clusters, at most 8) and all other claims.
func (r *Reservation) Credits() int {
	n := r.inode.credits() + r.meta.credits()
	switch {
	case r.space.la != nil:
		n++
	case r.space.gb != nil:
		n += 1 + r.space.runs
	}
	return n
}

// ClaimInode takes an inode block. Nothing is written to it: the caller makes the
// dinode.
func (r *Reservation) ClaimInode(tx *journal.Handle) (MetaBlock, error) { return r.inode.claim(tx) }

// ClaimMeta takes a metadata block.
func (r *Reservation) ClaimMeta(tx *journal.Handle) (MetaBlock, error) { return r.meta.claim(tx) }

// ClaimClusters takes a run of 1..want clusters, at block goal if that is free (0:
// anywhere), and returns its first block and length; the run lies inside one
// cluster group. With Contig it takes exactly want.
func (r *Reservation) ClaimClusters(tx *journal.Handle, want uint32, goal uint64) (blkno uint64, n uint32, err error) {
	sp, g := &r.space, r.a.env.Geo
	if want == 0 || sp.n == 0 || (sp.contig && want > sp.n) {
		return 0, 0, fmt.Errorf("claiming %d clusters with %d reserved: %w", want, sp.n, ErrNoSpace)
	}
	want = min(want, sp.n)
	at := uint32(0)
	if goal < g.TotalBlocks && g.ClusterAligned(goal) {
		at = g.BlocksToClusters(goal)
	}
	var first uint32
	if sp.la != nil {
		first, n, err = r.a.local.claim(tx, sp.la, want, at, sp.contig)
	} else {
		first, n, err = r.a.claimGlobal(tx, sp.gb, want, at, sp.contig)
	}
	if err != nil {
		return 0, 0, err
	}
	sp.n -= n
	return g.ClustersToBlocks(first), n, nil
}

// claimGlobal takes clusters from the global bitmap.
func (a *Allocator) claimGlobal(tx *journal.Handle, gb *buffer.Buf, want, goal uint32, contig bool) (first, n uint32, err error) {
	least := uint32(1)
	if contig {
		least = want
	}
	p, err := a.bitmap.find(gb, want, least, goal, 0)
	if err != nil {
		return 0, 0, err
	}
	if p.n < int(least) {
		return 0, 0, a.bitmap.corrupt(gb.Blkno, "%d clusters are said to be free, no group has a run of %d", a.bitmap.free(gb), least)
	}
	first, err = a.bitmap.claim(tx, gb, p)
	return first, uint32(p.n), err
}

// Release gives back the locks; after tx.Stop. r must not be used afterwards.
func (r *Reservation) Release() {
	r.unlock()
	r.recycle()
}

// unlock drops the locks in the reverse of the order they were taken.
func (r *Reservation) unlock() {
	if r.space.gb != nil {
		r.a.bitmap.unlock(r.space.gb)
	}
	if r.space.la != nil {
		r.a.local.unlock(r.space.la)
	}
	r.space = clusterShare{}
	r.meta.release()
	r.inode.release()
}

func (r *Reservation) recycle() {
	r.a = nil
	reservationPool.Put(r)
}
