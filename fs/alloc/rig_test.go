package alloc

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/buffer"
	"github.com/ocfuse/ocfuse/fs/check"
	"github.com/ocfuse/ocfuse/fs/extent"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/journal"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sysIno is a SysInode without a cluster.
type sysIno struct {
	blkno uint64
	meta  buffer.Meta
	mu    sync.RWMutex
	locks int // EX locks taken; guarded by mu
}

func (s *sysIno) Blkno() uint64                { return s.blkno }
func (s *sysIno) Meta() *buffer.Meta           { return &s.meta }
func (s *sysIno) LockEX(context.Context) error { s.mu.Lock(); s.locks++; return nil }
func (s *sysIno) UnlockEX()                    { s.mu.Unlock() }
func (s *sysIno) RLock(context.Context) error  { s.mu.RLock(); return nil }
func (s *sysIno) RUnlock()                     { s.mu.RUnlock() }

// shape is what mkfs is asked for.
type shape struct {
	bs, cs, slots, mb int
	features          string
}

func (s shape) String() string {
	return fmt.Sprintf("bs%d-cs%d-n%d-%dM%s", s.bs, s.cs, s.slots, s.mb, s.features)
}

var images = struct {
	sync.Mutex
	m map[shape]*blockdev.Mem
}{m: map[shape]*blockdev.Mem{}}

// mkfs returns a fresh volume made by mkfs.ocfs2, which is required.
func mkfs(t testing.TB, s shape) *blockdev.Mem {
	t.Helper()
	if _, err := exec.LookPath("mkfs.ocfs2"); err != nil {
		t.Skip("mkfs.ocfs2 is not installed: apt-get install ocfs2-tools")
	}
	images.Lock()
	defer images.Unlock()
	if m := images.m[s]; m != nil {
		return m.Clone()
	}
	img := filepath.Join(t.TempDir(), "img")
	must(t, blockdev.NewMem(int64(s.mb)<<20, blockdev.MemOptions{}).WriteFile(img))
	args := []string{"-q", "-x", "-F", "-M", "local", "-N", fmt.Sprint(s.slots), "-b", fmt.Sprint(s.bs), "-C", fmt.Sprint(s.cs), "-J", "size=4M"}
	if s.features != "" {
		args = append(args, "--fs-features="+s.features)
	}
	if out, err := exec.Command("mkfs.ocfs2", append(args, img)...).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ocfs2 %v: %v\n%s", args, err, out)
	}
	m, err := blockdev.LoadMemFile(img)
	must(t, err)
	images.m[s] = m
	return m.Clone()
}

// volume is a mounted slot of a volume, as far as the allocators need one.
type volume struct {
	t     testing.TB
	dev   *blockdev.Mem
	geo   *ondisk.Geometry
	slot  int
	cache *buffer.Cache
	j     *journal.Journal
	a     *Allocator
	sys   map[string]*sysIno
	owner *sysIno // bad_blocks: a file that owns clusters
	gen   uint32
}

// sysBlkno is the block of a system inode: mkfs writes them in a fixed order
// behind the system directory (OCFS2 format: system directory).
func sysBlkno(g *ondisk.Geometry, kind string, slot int) uint64 {
	at := g.SystemDirBlkno + 1
	for _, k := range []string{"bad_blocks", "global_inode_alloc", "slot_map", "heartbeat", "global_bitmap"} {
		if k == kind {
			return at
		}
		at++
	}
	for _, k := range []string{"orphan_dir", "extent_alloc", "inode_alloc", "journal", "local_alloc", "truncate_log"} {
		if k == kind {
			return at + uint64(slot)
		}
		at += uint64(g.MaxSlots)
	}
	panic(kind)
}

func (v *volume) ino(kind string, slot int) *sysIno {
	key := fmt.Sprintf("%s:%d", kind, slot)
	s := v.sys[key]
	if s == nil {
		s = &sysIno{blkno: sysBlkno(v.geo, kind, slot)}
		s.meta.Init(v.cache)
		v.sys[key] = s
	}
	return s
}

// logOf maps the journal of a slot.
func logOf(t testing.TB, g *ondisk.Geometry, c *buffer.Cache, slot int) (exts []journal.Extent) {
	var m buffer.Meta
	m.Init(c)
	defer m.Invalidate()
	b, err := m.Read(sysBlkno(g, "journal", slot), ondisk.CheckDinode)
	must(t, err)
	defer b.Put()
	tree := extent.OfInode(&m, b)
	must(t, tree.Walk(0, func(r extent.Run) bool {
		exts = append(exts, journal.Extent{Log: uint32(g.ClustersToBlocks(r.Cpos)), Blkno: r.Blkno, Len: uint32(g.ClustersToBlocks(r.Clusters))})
		return true
	}))
	return exts
}

// replay brings dev up to date with the log of a slot.
func replay(t testing.TB, dev *blockdev.Mem, slot int) {
	t.Helper()
	g, _, err := ondisk.FindSuper(dev)
	must(t, err)
	_, err = journal.Replay(context.Background(), journal.ReplayConfig{
		Dev: dev, BlockSize: g.BlockSize, Extents: logOf(t, g, buffer.NewCache(dev, g, 1<<20), slot), VolumeBlocks: g.TotalBlocks})
	must(t, err)
}

// open mounts a slot. laBits is Env.LocalAllocBits.
func open(t testing.TB, dev *blockdev.Mem, slot, laBits int) *volume {
	t.Helper()
	g, _, err := ondisk.FindSuper(dev)
	must(t, err)
	v := &volume{t: t, dev: dev, geo: g, slot: slot, cache: buffer.NewCache(dev, g, 8<<20), sys: map[string]*sysIno{}, gen: 1}
	exts := logOf(t, g, v.cache, slot)
	_, err = journal.Wipe(context.Background(), journal.ReplayConfig{Dev: dev, BlockSize: g.BlockSize, Extents: exts})
	must(t, err)
	v.j, err = journal.Open(journal.Config{Dev: dev, BlockSize: g.BlockSize, Extents: exts,
		Finish: func(_ uint64, image []byte) { buffer.Seal(g, image) }})
	must(t, err)
	t.Cleanup(func() { v.j.Close(context.Background()) })
	var mu sync.Mutex
	file := func(kind string) func(int) (SysInode, error) {
		return func(slot int) (SysInode, error) {
			mu.Lock()
			defer mu.Unlock()
			return v.ino(kind, slot), nil
		}
	}
	v.a, err = New(Env{
		Geo: g, Journal: v.j, Slot: slot, LocalAllocBits: laBits, FullFlush: v.j.FullFlush, Logf: t.Logf,
		GlobalBitmap: v.ino("global_bitmap", 0), GlobalInodeAlloc: v.ino("global_inode_alloc", 0),
		InodeAlloc: file("inode_alloc"), ExtentAlloc: file("extent_alloc"),
		LocalAlloc: v.ino("local_alloc", slot), TruncateLog: v.ino("truncate_log", slot),
	})
	must(t, err)
	v.owner = v.ino("bad_blocks", 0)
	return v
}

// close is a clean unmount.
func (v *volume) close() {
	v.t.Helper()
	must(v.t, v.a.Shut(context.Background()))
	must(v.t, v.j.Close(context.Background()))
}

// tx runs fn in a handle.
func (v *volume) tx(credits int, fn func(*journal.Handle) error) {
	v.t.Helper()
	tx, err := v.j.Start(context.Background(), credits)
	must(v.t, err)
	must(v.t, fn(tx))
	must(v.t, tx.Stop())
}

// dinode reads the owner file's inode.
func (v *volume) dinode() *buffer.Buf {
	v.t.Helper()
	b, err := v.owner.Meta().Read(v.owner.blkno, ondisk.CheckDinode)
	must(v.t, err)
	return b
}

// append gives the owner file up to n clusters behind its last one and returns
// what it got.
func (v *volume) append(n uint32, contig bool) (extent.Run, error) {
	b := v.dinode()
	defer b.Put()
	tree := extent.OfInode(v.owner.Meta(), b)
	last, ok, err := tree.Last()
	must(v.t, err)
	run, goal := extent.Run{}, uint64(0)
	if ok {
		run.Cpos = uint32(last.End())
		goal = last.Blkno + v.geo.ClustersToBlocks(last.Clusters)
	}
	meta, credits, err := tree.Needs(extent.OpInsert, run.Cpos)
	must(v.t, err)
	r, err := v.a.Reserve(context.Background(), Request{Meta: meta, Clusters: n, Contig: contig, Runs: 1})
	if err != nil {
		return run, err
	}
	defer r.Release()
	v.tx(credits+r.Credits(), func(tx *journal.Handle) error {
		if run.Blkno, run.Clusters, err = r.ClaimClusters(tx, n, goal); err != nil {
			return err
		}
		if err := tree.Insert(tx, r, run); err != nil {
			return err
		}
		ondisk.Dinode(b.Data).SetSize(run.End() << v.geo.ClusterBits)
		return nil
	})
	return run, nil
}

// punch frees [cpos, cpos+n) of the owner file (n 0: to the end).
func (v *volume) punch(cpos, n uint32) (freed uint32) {
	v.t.Helper()
	ctx := context.Background()
	b := v.dinode()
	defer b.Put()
	tree := extent.OfInode(v.owner.Meta(), b)
	d := v.a.Dealloc()
	end := uint64(cpos) + uint64(n)
	if n == 0 {
		end = 1 << 32
	}
	for done := false; !done; {
		meta, credits, err := tree.Needs(extent.OpRemove, uint32(end-1))
		must(v.t, err)
		var buf [8]extent.Run
		hold, err := v.a.TruncLog().Prepare(ctx, len(buf))
		must(v.t, err)
		r, err := v.a.Reserve(ctx, Request{Meta: meta, Hold: hold})
		must(v.t, err)
		v.tx(credits+r.Credits()+hold.Credits()+1, func(tx *journal.Handle) error {
			rem, err := tree.Remove(tx, r, d, cpos, uint32(end-uint64(cpos)), buf[:0])
			if err != nil {
				return err
			}
			for _, run := range rem.Runs {
				if err := hold.Append(tx, run.Blkno, run.Clusters); err != nil {
					return err
				}
				freed += run.Clusters
			}
			end, done = uint64(rem.End), rem.Done
			return v.trim(tx, b, &tree)
		})
		r.Release()
		hold.Release()
	}
	must(v.t, d.Run(ctx))
	return freed
}

// trim makes i_size the end of the last cluster.
func (v *volume) trim(tx *journal.Handle, b *buffer.Buf, tree *extent.Tree) error {
	if err := tx.Write(&b.Block); err != nil {
		return err
	}
	last, ok, err := tree.Last()
	size := uint64(0)
	if ok {
		size = last.End() << v.geo.ClusterBits
	}
	ondisk.Dinode(b.Data).SetSize(size)
	return err
}

// create makes an inode that no directory names.
func (v *volume) create(hint uint64) (MetaBlock, error) {
	r, err := v.a.Reserve(context.Background(), Request{Inodes: 1, InodeHint: hint})
	if err != nil {
		return MetaBlock{}, err
	}
	defer r.Release()
	var mb MetaBlock
	v.tx(r.Credits()+1, func(tx *journal.Handle) error {
		if mb, err = r.ClaimInode(tx); err != nil {
			return err
		}
		b := v.owner.Meta().New(mb.Blkno)
		defer b.Put()
		if err := tx.Write(&b.Block); err != nil {
			return err
		}
		clear(b.Data)
		d := ondisk.Dinode(b.Data)
		d.Init(mb.Blkno, v.geo.FSGeneration)
		d.SetGeneration(v.gen)
		d.SetMode(ondisk.ModeRegular | 0o600)
		d.SetFlags(ondisk.InodeValid)
		d.SetLinks(1)
		d.SetSuballocSlot(mb.Slot)
		d.SetSuballocBit(mb.Bit)
		d.SetSuballocLoc(mb.Loc)
		d.Extents().SetCount(uint16(v.geo.InodeExtents()))
		return nil
	})
	v.gen++
	return mb, nil
}

// remove frees an inode of create.
func (v *volume) remove(mb MetaBlock) {
	v.t.Helper()
	f, err := v.a.LockInodeFree(context.Background(), mb.Slot)
	must(v.t, err)
	defer f.Release()
	v.tx(f.Credits()+1, func(tx *journal.Handle) error {
		b, err := v.owner.Meta().Read(mb.Blkno, ondisk.CheckDinode)
		if err != nil {
			return err
		}
		defer b.Put()
		if err := tx.Write(&b.Block); err != nil {
			return err
		}
		d := ondisk.Dinode(b.Data)
		d.SetFlags(0)
		d.SetDtime(77)
		d.SetLinks(0)
		return f.Free(tx, mb)
	})
}

// freeSpace is the exact number of free clusters.
func (v *volume) freeSpace() uint32 {
	v.t.Helper()
	s, err := v.a.Statfs(context.Background())
	must(v.t, err)
	if s != v.a.Cached() {
		v.t.Fatalf("Statfs %+v, Cached %+v", s, v.a.Cached())
	}
	return s.Free
}

// mkfsNoise are problems of a volume straight from mkfs.ocfs2.
var mkfsNoise = []string{check.DxTreeMissing, check.DxFreeLen}

// checked fails the test if our own check finds anything but the codes given.
func checked(t testing.TB, dev *blockdev.Mem, except ...string) {
	t.Helper()
	rep, err := check.Run(context.Background(), dev, check.Options{})
	must(t, err)
	bad := rep.Except(append(except, mkfsNoise...)...)
	for i, p := range bad {
		t.Errorf("check: %v", p)
		if i == 10 {
			break
		}
	}
	if len(bad) > 0 || rep.Stopped != "" {
		t.Fatalf("%d problems (%s)", len(bad), rep.Stopped)
	}
}

// fsck fails the test if fsck.ocfs2 finds anything.
func fsck(t testing.TB, dev *blockdev.Mem) {
	t.Helper()
	img := filepath.Join(t.TempDir(), "img")
	must(t, dev.WriteFile(img))
	out, _ := exec.Command("fsck.ocfs2", "-fn", img).CombinedOutput() // its exit code says nothing
	for _, line := range strings.Split(string(out), "\n") {
		if strings.HasPrefix(line, "[") && !strings.Contains(line, check.DxTreeMissing) || strings.HasPrefix(line, "fsck.ocfs2:") {
			t.Errorf("fsck.ocfs2: %s", line)
		}
	}
	if !strings.Contains(string(out), "Pass 4") {
		t.Errorf("fsck.ocfs2 did not finish:\n%s", out)
	}
}
