package alloc

import (
	"context"
	"fmt"
	"time"

	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

// localOff is how long the window stays closed after no run worth a window was
// found (Linux fs/ocfs2/localalloc.c, OCFS2_LA_ENABLE_INTERVAL).
const localOff = 30 * time.Second

// local is the local alloc of the own slot: a run of clusters claimed from the
// global bitmap in advance, so that allocating needs no cluster lock. Its methods
// need the inode's lock; the fields are guarded by it.
//
// States: closed (i_total 0) <-> open. Apart from that, full, throttled or off:
// size is the window wished for, which is the default, less after runs of that
// length became rare, or 0 when even those were not found. The latter two last
// until a time.
type local struct {
	file
	def   uint32 // clusters; 0: never a window
	size  uint32
	until time.Time // when size is def again; zero: it is
	next  int       // where the last claim ended, in bits
	now   func() time.Time
}

// defaultWindow is the window Linux uses (fs/ocfs2/localalloc.c,
// ocfs2_la_default_mb), in clusters.
func defaultWindow(g *ondisk.Geometry) uint32 {
	const maxMB = 256
	toMB := func(c uint64) uint64 { return c << g.ClusterBits >> 20 }
	toClusters := func(mb uint64) uint64 { return mb << 20 >> g.ClusterBits }
	mb := uint64(8)
	if small := g.BlockSize == 512 && g.ClusterSize <= 8192 || g.BlockSize == 1024 && g.ClusterSize == 4096; !small {
		if group := toMB(uint64(g.CPG)); group > 32 {
			mb = min(group-16, maxMB) &^ 4
		}
	}
	bits := min(toClusters(mb), uint64(g.LocalAllocSize())*8, uint64(g.TotalClusters)/uint64(g.MaxSlots))
	return uint32(bits)
}

// lock takes the lock and reads the inode.
func (l *local) lock(ctx context.Context) (*buffer.Buf, error) {
	if err := l.ino.LockEX(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", l.what, err)
	}
	b, err := readLocal(l.ino)
	if err != nil {
		l.ino.UnlockEX()
	}
	return b, err
}

// readLocal reads a local alloc inode.
func readLocal(ino SysInode) (*buffer.Buf, error) {
	b, err := ino.Meta().Read(ino.Blkno(), ondisk.CheckDinode)
	if err != nil {
		return nil, err
	}
	if d := ondisk.Dinode(b.Data); !d.HasFlag(ondisk.InodeValid) || !d.HasFlag(ondisk.InodeLocalAlloc) {
		b.Put()
		return nil, ondisk.Corruptf("local alloc", b.Blkno, "flags %#x", d.Flags())
	}
	return b, nil
}

// window is the state of the window.
func window(b *buffer.Buf) (off, total, used uint32, bm []byte) {
	d := ondisk.Dinode(b.Data)
	la := d.LocalAlloc()
	return la.BmOff(), d.Total(), d.Used(), la.Bitmap()
}

// peek looks for a run of n free clusters below block limit (0: anywhere).
func (l *local) peek(b *buffer.Buf, n uint32, limit uint64) (first uint32, ok bool) {
	off, total, used, bm := window(b)
	if limit != 0 && uint64(off+total)<<l.geo.BpcBits > limit {
		return 0, false
	}
	if total-used < n {
		return 0, false
	}
	bit, k := bitset{b: bm}.run(0, int(total), int(n))
	return off + uint32(bit), uint32(k) >= n
}

// serves tells whether n clusters (in one run, if contig) can be claimed.
func (l *local) serves(b *buffer.Buf, n uint32, contig bool) bool {
	if contig && n > 1 {
		_, ok := l.peek(b, n, 0)
		return ok
	}
	_, total, used, _ := window(b)
	return total-used >= n
}

// claim takes 1..want clusters (all of want, if contig): those at goal if they
// are free; else the first run long enough behind the last claim; else the first
// long enough or the longest.
func (l *local) claim(tx *journal.Handle, b *buffer.Buf, want, goal uint32, contig bool) (first, n uint32, err error) {
	off, total, _, bm := window(b)
	set := bitset{b: bm}
	bit, k := 0, 0
	if goal >= off && goal-off < total {
		bit = int(goal - off)
		k = set.nextSet(bit, min(int(total), bit+int(want))) - bit
		if contig && k < int(want) {
			k = 0
		}
	}
	if k == 0 && l.next < int(total) {
		if bit, k = set.run(l.next, int(total), int(want)); k < int(want) {
			k = 0
		}
	}
	if k == 0 {
		bit, k = set.run(0, int(total), int(want))
	}
	if k == 0 || (contig && k < int(want)) {
		return 0, 0, l.corrupt(b.Blkno, "no run for %d clusters, but %d of %d bits are said to be used", want, ondisk.Dinode(b.Data).Used(), total)
	}
	l.next = bit + k
	return off + uint32(bit), uint32(k), l.take(tx, b, off+uint32(bit), uint32(k))
}

// take marks clusters of the window used.
func (l *local) take(tx *journal.Handle, b *buffer.Buf, first, n uint32) error {
	off, total, used, bm := window(b)
	if first < off || n == 0 || uint64(first-off)+uint64(n) > uint64(total) || count(bm, int(first-off), int(n)) != 0 || used+n > total {
		return l.corrupt(b.Blkno, "taking clusters %d+%d of window %d+%d with %d used", first, n, off, total, used)
	}
	if err := tx.Write(&b.Block); err != nil {
		return err
	}
	set(bm, int(first-off), int(n))
	ondisk.Dinode(b.Data).SetUsed(used + n)
	return nil
}

// clearWindow writes the state "closed".
func clearWindow(b *buffer.Buf) {
	d := ondisk.Dinode(b.Data)
	d.SetTotal(0)
	d.SetUsed(0)
	la := d.LocalAlloc()
	la.SetBmOff(0)
	clear(la.Bitmap())
}

// giveBack frees what the window b has not handed out and closes it. Credits: b,
// the bitmap inode, and the groups of the window.
func giveBack(tx *journal.Handle, b *buffer.Buf, c *clusters, gb *buffer.Buf) error {
	off, total, used, bm := window(b)
	if uint64(off)+uint64(total) > uint64(c.geo.TotalClusters) || count(bm, 0, int(total)) != int(used) {
		return c.corrupt(b.Blkno, "local alloc window %d+%d with %d used, %d bits set", off, total, used, count(bm, 0, int(total)))
	}
	if err := tx.Write(&b.Block); err != nil {
		return err
	}
	set := bitset{b: bm}
	for at := set.nextClear(0, int(total)); at < int(total); {
		end := set.nextSet(at, int(total))
		if err := c.release(tx, gb, off+uint32(at), uint32(end-at)); err != nil {
			return err
		}
		at = set.nextClear(end, int(total))
	}
	clearWindow(b)
	return nil
}

// wanted tells whether a request of n clusters should use a window at all: the
// large ones would only use it up.
func (l *local) wanted(n uint32) bool {
	if !l.until.IsZero() && !l.now().Before(l.until) {
		l.until, l.size = time.Time{}, l.def
	}
	return n <= l.size/2
}

// throttle makes size the window wished for during the next localOff.
func (l *local) throttle(size uint32) {
	l.size, l.until = size, l.now().Add(localOff)
}

// slide closes the window and opens another one with a run of n clusters at
// least, in one transaction. ok false: none was found, nothing was changed but
// the window wished for.
func (a *Allocator) slide(ctx context.Context, la *buffer.Buf, n uint32) (ok bool, err error) {
	gb, err := a.bitmap.lock(ctx)
	if err != nil {
		return false, err
	}
	defer a.bitmap.unlock(gb)
	l := &a.local
	size := min(l.size, max(n, a.bitmap.free(gb)/2))
	p, err := a.bitmap.find(gb, size, n, 0, 0)
	if err != nil {
		return false, err
	}
	if l.shrink(uint32(p.n), size, n) {
		a.logf("no free run for a local alloc window of %d clusters (longest seen: %d): not used for %v", size, p.n, localOff)
		return false, nil
	}
	off, total, _, _ := window(la)
	tx, err := a.env.Journal.Start(ctx, 3+a.bitmap.groupsOf(off, total))
	if err != nil {
		return false, err
	}
	if err := giveBack(tx, la, &a.bitmap, gb); err != nil {
		return false, a.broken(tx, err)
	}
	first, err := a.bitmap.claim(tx, gb, p)
	if err != nil {
		return false, a.broken(tx, err)
	}
	d := ondisk.Dinode(la.Data)
	d.SetTotal(uint32(p.n))
	d.LocalAlloc().SetBmOff(first)
	l.next = 0
	return true, tx.Stop()
}

// shrink adapts the wished size to the longest run found, and turns the window
// off (true) when that is not worth one.
func (l *local) shrink(found, size, n uint32) (off bool) {
	const worth = 16 // of the default
	switch {
	case found < n || found < min(size, l.def/worth):
		l.throttle(0)
	case found < size:
		l.throttle(found)
	}
	return l.size == 0
}

// closeWindow gives the window back, in a transaction of its own. Precondition:
// the local alloc and the bitmap are locked.
func (a *Allocator) closeWindow(ctx context.Context, la, gb *buffer.Buf) error {
	off, total, _, _ := window(la)
	if total == 0 {
		return nil
	}
	tx, err := a.env.Journal.Start(ctx, 2+a.bitmap.groupsOf(off, total))
	if err != nil {
		return err
	}
	if err := giveBack(tx, la, &a.bitmap, gb); err != nil {
		return a.broken(tx, err)
	}
	return tx.Stop()
}

// scrape makes more of the bitmap usable when it is nearly full: it gives the
// window back and waits until pending bits are free. more false: there was
// nothing.
func (a *Allocator) scrape(ctx context.Context, la, gb *buffer.Buf) (more bool, err error) {
	_, total, _, _ := window(la)
	if total > 0 {
		if err := a.closeWindow(ctx, la, gb); err != nil {
			return false, err
		}
		a.local.throttle(0)
	}
	if a.bitmap.pend.count() == 0 {
		return false, nil
	}
	return true, a.env.Journal.CommitRunning(ctx)
}

// LoadLocal checks at mount that the own local alloc is empty: ErrNeedsFsck
// otherwise, as Linux refuses it (fs/ocfs2/localalloc.c, ocfs2_load_local_alloc).
func (a *Allocator) LoadLocal(ctx context.Context) error {
	b, err := a.local.lock(ctx)
	if err != nil {
		return err
	}
	defer a.local.unlock(b)
	off, total, used, bm := window(b)
	if n := count(bm, 0, len(bm)*8); n != 0 || used != 0 || total != 0 || off != 0 {
		return fmt.Errorf("%w: inconsistent detected, clean journal with unrecovered local alloc, please run fsck.ocfs2! "+
			"found = %d, set = %d, taken = %d, off = %d", ErrNeedsFsck, n, used, total, off)
	}
	return nil
}
