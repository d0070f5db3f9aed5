package volume

import (
	"context"

	"github.com/ocfuse/ocfuse/fs/alloc"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// inlineData tells whether the file's bytes are in the dinode.
func (i *Inode) inlineData() bool { return i.attr.Dyn&ondisk.DynInlineData != 0 }

// tryInline writes into the dinode if the file is inline and stays small
// enough, or is empty and the write fits (Linux
// ocfs2_try_to_write_inline_data). Else an inline file becomes one with
// extents first, and done is false.
func (w writer) tryInline(ctx context.Context, p []byte, off int64) (done bool, err error) {
	i := w.i
	end := off + int64(len(p))
	empty := i.attr.Clusters == 0 && i.attr.Size == 0 && w.v.geo.HasInlineData()
	if !i.inlineData() && !empty {
		return false, nil
	}
	b, di, err := i.dinode()
	if err != nil {
		return false, err
	}
	defer b.Put()
	room := int64(w.v.geo.InlineCount() - di.XattrAreaSize())
	if end > room {
		if i.inlineData() {
			return false, i.uninline(ctx)
		}
		return false, nil
	}
	return true, w.v.transact(ctx, 1, func(tx *journal.Handle) error {
		c, err := i.begin(tx)
		if err != nil {
			return err
		}
		if !i.inlineData() {
			clear(di.ID2())
			di.SetDynFeatures(di.DynFeatures() | ondisk.DynInlineData)
			di.Inline().SetCount(uint16(room))
		}
		copy(di.Inline().Data()[off:], p)
		w.grown(end)
		w.stamp()
		c.finish()
		return nil
	})
}

// uninline moves inline data to a cluster (Linux ocfs2_convert_inline_data_to_extents).
func (i *Inode) uninline(ctx context.Context) error {
	g := i.v.geo
	b, di, err := i.dinode()
	if err != nil {
		return err
	}
	defer b.Put()
	data := append([]byte(nil), di.Inline().Data()[:min(i.attr.Size, uint64(di.Inline().Count()))]...)
	req := alloc.Request{}
	if len(data) > 0 {
		req.Clusters = 1
	}
	return i.v.change(ctx, req, 2, func(tx *journal.Handle, res *alloc.Reservation) error {
		c, err := i.begin(tx)
		if err != nil {
			return err
		}
		clear(di.ID2())
		di.SetDynFeatures(di.DynFeatures() &^ ondisk.DynInlineData)
		l := di.Extents()
		l.SetCount(uint16(l.Space()))
		if len(data) > 0 {
			blkno, n, err := res.ClaimClusters(tx, 1, 0)
			if err != nil {
				return err
			}
			if err := i.writePadded(data, 0, 0, int64(g.ClusterSize), g.ByteOfBlock(blkno)); err != nil {
				return err
			}
			t := i.tree(c.b)
			if err := t.Insert(tx, res, extent.Run{Clusters: n, Blkno: blkno}); err != nil {
				return err
			}
		}
		c.finish()
		return nil
	})
}
