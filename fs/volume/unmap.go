package volume

import (
	"context"
	"fmt"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// unmapping removes the range [cpos, end) from an extent tree of an inode (its
// data, a directory's index, an xattr value) from the right, each transaction
// consistent: clusters go to the truncate log or, shared ones, are counted down
// in the refcount tree; extent blocks are noted in d.
type unmapping struct {
	i    *Inode
	t    extent.Tree
	cpos uint32
	end  uint64
	d    *alloc.Dealloc
	last bool // the range is the end of the tree: no record is cut in two
	// extra is the number of blocks that begin and finish declare.
	extra int
	// begin and finish, where not nil, run in each transaction before and
	// after the change.
	begin  func(tx *journal.Handle) error
	finish func(tx *journal.Handle) error
}

// maxRemoveStep bounds the records one transaction removes.
const maxRemoveStep = 64

// removeStep is that bound for this volume: the truncate log must hold them.
func (v *Volume) removeStep() int { return min(maxRemoveStep, v.geo.TruncCount()) }

// run does it all. The caller runs d.
func (u *unmapping) run(ctx context.Context) error {
	u.last = u.end == 1<<32
	for u.end > uint64(u.cpos) {
		if err := u.step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// step is one transaction; it lowers end.
func (u *unmapping) step(ctx context.Context) error {
	v := u.i.v
	p, err := u.plan(ctx)
	if err != nil || u.end <= uint64(u.cpos) {
		return err
	}
	defer p.release()
	meta, credits, err := u.t.Needs(extent.OpRemove, uint32(u.end-1))
	if err != nil {
		return err
	}
	if u.last {
		meta = 0 // a full volume must not keep anybody from deleting
	}
	hold, err := v.alloc.TruncLog().Prepare(ctx, v.removeStep())
	if err != nil {
		return err
	}
	defer hold.Release()
	req := alloc.Request{Meta: meta + p.meta, Hold: hold}
	return v.change(ctx, req, credits+p.credits+hold.Credits()+u.extra, func(tx *journal.Handle, res *alloc.Reservation) error {
		if u.begin != nil {
			if err := u.begin(tx); err != nil {
				return err
			}
		}
		if err := u.remove(tx, res, hold, &p); err != nil {
			return err
		}
		if u.finish != nil {
			return u.finish(tx)
		}
		return nil
	})
}

// portion is what one transaction of an unmapping removes: all it can behind
// lo, or exactly the clusters of one refcount record.
type portion struct {
	lo uint32
	sharedPart
}

// plan decides about the next transaction. It may lower end over a hole. In an
// inode without shared clusters nothing needs to be looked up.
func (u *unmapping) plan(ctx context.Context) (portion, error) {
	if u.i.attr.Dyn&ondisk.DynHasRefcount == 0 {
		return portion{lo: u.cpos}, nil
	}
	r, ok, err := lastIn(&u.t, u.cpos, u.end)
	if err != nil {
		return portion{}, fmt.Errorf("inode %d: %w", u.i.blkno, err)
	}
	if !ok {
		u.end = uint64(u.cpos)
		return portion{}, nil
	}
	u.end = min(u.end, r.End())
	lo := max(u.cpos, r.Cpos)
	if !r.Refcounted() {
		return portion{lo: lo}, nil
	}
	part := r.From(lo, u.i.v.geo.Bpc)
	part.Clusters = uint32(u.end - uint64(lo))
	s, err := u.i.lockShared(ctx, part, true)
	if err != nil {
		return portion{}, err
	}
	return portion{lo: uint32(u.end) - s.n, sharedPart: s}, nil
}

// lastIn returns the last record that overlaps [cpos, end).
func lastIn(t *extent.Tree, cpos uint32, end uint64) (extent.Run, bool, error) {
	some := false
	err := t.Walk(cpos, func(r extent.Run) bool {
		some = uint64(r.Cpos) < end
		return false
	})
	if err != nil || !some {
		return extent.Run{}, false, err
	}
	r, err := t.LookupHash(uint32(end - 1))
	return r, err == nil, err
}

// remove is the change itself.
func (u *unmapping) remove(tx *journal.Handle, res *alloc.Reservation, hold *alloc.TruncHold, p *portion) error {
	var runs [maxRemoveStep]extent.Run
	n := uint32(u.end - uint64(p.lo)) // 0 for the whole key space, as Remove wants it
	rm, err := u.t.Remove(tx, res, u.d, p.lo, n, runs[:0:u.i.v.removeStep()])
	if err != nil {
		return err
	}
	for _, r := range rm.Runs {
		free := true
		if r.Refcounted() {
			if free, err = p.decrement(tx, res, u.d, r); err != nil {
				return err
			}
		}
		if free {
			if err := hold.Append(tx, r.Blkno, r.Clusters); err != nil {
				return err
			}
		}
	}
	u.end = uint64(rm.End)
	if rm.Done {
		u.end = uint64(p.lo)
	}
	return nil
}
