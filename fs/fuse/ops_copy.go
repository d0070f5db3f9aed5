package fuse

import (
	"math"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
)

const (
	copyPiece = 1 << 20  // bytes read and written at once
	copyMost  = 64 << 20 // bytes of one request; programs ask for the rest
)

// CopyFileRange implements fuse.RawFileSystem: copy_file_range(2) without the
// data passing through the kernel. A piece is read under the lock of its file,
// then written under that of the other, so that no two files' locks are held. The
// kernel has written its dirty pages of both ranges back before.
func (f *FS) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	from, to := f.inode(in.NodeId), f.inode(in.NodeIdOut)
	switch {
	case from == nil || to == nil:
		return 0, fuse.Status(estale)
	case in.Flags != 0 || in.OffIn > math.MaxInt64 || in.OffOut > math.MaxInt64:
		return 0, fuse.EINVAL
	}
	ctx, k := ctxOf(cancel, &in.InHeader), f.kernel(to)
	most := min(in.Len, copyMost)
	buf := blockdev.GetBuf(int(min(most, copyPiece)))
	defer blockdev.PutBuf(buf)
	done := uint64(0)
	for done < most {
		n, err := f.v.Read(ctx, from, buf[:min(uint64(len(buf)), most-done)], int64(in.OffIn+done), nil)
		if err == nil && n > 0 {
			at := in.OffOut + done
			c := &cover{e: f.engine, k: k, kind: kcache.Direct}
			c.op = k.Begin(c.kind, at, uint32(n))
			_, n, err = f.v.Write(ctx, to, buf[:n], int64(at), 0, c)
			c.end()
			done += uint64(n)
		}
		if err != nil && done == 0 {
			return 0, f.status("copy_file_range", err)
		}
		if err != nil || n == 0 || ctx.Err() != nil {
			break
		}
	}
	return uint32(done), fuse.OK
}
