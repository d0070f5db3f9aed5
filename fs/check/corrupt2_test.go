package check

import (
	"encoding/binary"
	"testing"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// onDirBlock changes block n of a directory below the root.
func onDirBlock(name string, n uint64, change func(b ondisk.DirBlock)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) {
		v.edit(fileBlock(t, v, v.lookup(t, v.g.RootBlkno, name), n), func(b []byte) { change(b) })
	}
}

// onEntry changes entry i of block n of /dir.
func onEntry(n uint64, i int, change func(e ondisk.DirEntry)) func(testing.TB, *volume) {
	return onDirBlock("dir", n, func(b ondisk.DirBlock) {
		it := ondisk.DirEntries(b.Area(true))
		for k := 0; it.Next(); k++ {
			if k == i {
				change(it.Entry())
				return
			}
		}
		panic("no such entry")
	})
}

func onTrailer(change func(tr ondisk.DirTrailer)) func(testing.TB, *volume) {
	return onDirBlock("dir", 3, func(b ondisk.DirBlock) { change(b.Trailer()) })
}

// subEntry changes the entry of a name in /dir, which must be in its first
// blocks.
func onName(dir, name string, change func(e ondisk.DirEntry)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) {
		ino := v.g.RootBlkno
		if dir != "" {
			ino = v.lookup(t, ino, dir)
		}
		done := false
		b := v.find(t, name, func(_ uint64, b []byte) bool {
			tr := ondisk.DirBlock(b).Trailer()
			if !tr.HasSignature() || tr.ParentDinode() != ino {
				return false
			}
			it := ondisk.DirEntries(ondisk.DirBlock(b).Area(true))
			for it.Next() {
				if string(it.Entry().Name()) == name && it.Entry().Inode() != 0 {
					return true
				}
			}
			return false
		})
		v.edit(b, func(b []byte) {
			it := ondisk.DirEntries(ondisk.DirBlock(b).Area(true))
			for it.Next() {
				if string(it.Entry().Name()) == name && !done {
					change(it.Entry())
					done = true
				}
			}
		})
	}
}

var dirCorruptions = []corruption{
	{DirentLength, "zero", "", onEntry(1, 0, func(e ondisk.DirEntry) { e.SetRecLen(0) })},
	{DirentLength, "crosses the end", "", onEntry(1, 0, func(e ondisk.DirEntry) { e.SetRecLen(4000) })},
	{DirentDotInode, "dot", "", onEntry(0, 0, func(e ondisk.DirEntry) { e.SetInode(17) })},
	{DirentDotExcess, "rec_len", "", onEntry(0, 0, func(e ondisk.DirEntry) { e.SetRecLen(32) })},
	{DirentNotDotty, "free", "", onEntry(0, 0, func(e ondisk.DirEntry) { e.SetInode(0) })},
	{DirentNotDotty, "name", "", onEntry(0, 1, func(e ondisk.DirEntry) { e[12] = 'x' })},
	{DirentNotDotty, "empty", "", on("lost+found", func(d ondisk.Dinode) { d.SetSize(0) })},
	{DirentDottyDup, "later", "", onEntry(1, 0, func(e ondisk.DirEntry) { e.SetNameLen(1); e[12] = '.' })},
	{DirentZero, "length", "", onEntry(1, 0, func(e ondisk.DirEntry) { e.SetNameLen(0) })},
	{DirentNameChars, "slash", "", onEntry(1, 0, func(e ondisk.DirEntry) { e[12] = '/' })},
	{DirentNameChars, "NUL", "", onEntry(1, 0, func(e ondisk.DirEntry) { e[12] = 0 })},
	{DirentInodeRange, "inode", "", onEntry(1, 0, func(e ondisk.DirEntry) { e.SetInode(1 << 50) })},
	{DirentInodeFree, "inode", "", onEntry(1, 0, func(e ondisk.DirEntry) { e.SetInode(5) })},
	{DirentType, "type", "", onEntry(1, 0, func(e ondisk.DirEntry) { e.SetFileType(ondisk.FTSocket) })},
	{DirentType, "dot", "", onEntry(0, 0, func(e ondisk.DirEntry) { e.SetFileType(ondisk.FTRegular) })},
	{DirentDuplicate, "name", "", onName("", "hard", func(e ondisk.DirEntry) { copy(e[12:], "frag") })},
	{DirParentDup, "two names", "", onName("", "frag", func(e ondisk.DirEntry) { e.SetInode(21090) })},
	{DirTrailerInode, "inode", "", onTrailer(func(tr ondisk.DirTrailer) { tr.SetCompatInode(1) })},
	{DirTrailerNameLen, "name_len", "", onTrailer(func(tr ondisk.DirTrailer) { tr[10] = 1 })},
	{DirTrailerNameLen, "signature", "", onTrailer(func(tr ondisk.DirTrailer) { tr[0x10] = 0 })},
	{DirTrailerRecLen, "rec_len", "", onTrailer(func(tr ondisk.DirTrailer) { tr.SetCompatRecLen(60) })},
	{DirTrailerBlkno, "blkno", "", onTrailer(func(tr ondisk.DirTrailer) { tr.SetBlkno(1) })},
	{DirTrailerParent, "parent", "", onTrailer(func(tr ondisk.DirTrailer) { tr.SetParentDinode(1) })},
	{LostFoundMissing, "name", "", onName("", "lost+found", func(e ondisk.DirEntry) { e[12] = 'L' })},
	{DirNotConnected, "no name", "", onName("", "dir", func(e ondisk.DirEntry) { e.SetInode(0) })},
	{DirDotDot, "parent", "", onEntry(0, 1, func(e ondisk.DirEntry) { e.SetInode(18) })},
	{InodeNotConnected, "no name", "", onName("", "unwritten", func(e ondisk.DirEntry) { e.SetInode(0) })},
}

// onDxRoot changes the index root of /dir.
func onDxRoot(change func(r ondisk.DxRoot)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) {
		v.edit(ondisk.Dinode(v.get(v.lookup(t, v.g.RootBlkno, "dir"))).DxRoot(), func(b []byte) { change(b) })
	}
}

// onDxLeaf changes the first index leaf of /dir.
func onDxLeaf(change func(l ondisk.DxLeaf)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) {
		r := ondisk.DxRoot(v.get(ondisk.Dinode(v.get(v.lookup(t, v.g.RootBlkno, "dir"))).DxRoot()))
		v.edit(r.Extents().Rec(0).Blkno(), func(b []byte) { change(b) })
	}
}

var indexCorruptions = []corruption{
	{DxTreeMissing, "flag", "", on("dir", func(d ondisk.Dinode) { d.SetDynFeatures(d.DynFeatures() &^ ondisk.DynIndexedDir) })},
	{DxTreeCorrupt, "root range", "", on("dir", func(d ondisk.Dinode) { d.SetDxRoot(1) })},
	{DxTreeCorrupt, "root generation", "", onDxRoot(func(r ondisk.DxRoot) { r.SetFSGeneration(1) })},
	{DxTreeCorrupt, "root of another", "", onDxRoot(func(r ondisk.DxRoot) { r.SetDirBlkno(17) })},
	{DxTreeCorrupt, "clusters", "", onDxRoot(func(r ondisk.DxRoot) { r.SetClusters(1) })},
	{DxTreeCorrupt, "no extent for hash 0", "", onDxRoot(func(r ondisk.DxRoot) { r.Extents().Rec(0).SetCpos(5) })},
	{DxTreeCorrupt, "inline with clusters", "", func(t testing.TB, v *volume) {
		v.edit(ondisk.Dinode(v.get(v.g.RootBlkno)).DxRoot(), func(b []byte) { ondisk.DxRoot(b).SetClusters(1) })
	}},
	{DxTreeCorrupt, "leaf", "", onDxLeaf(func(l ondisk.DxLeaf) { l.SetBlkno(1) })},
	{DxTreeCorrupt, "leaf used", "", onDxLeaf(func(l ondisk.DxLeaf) { l.Entries().SetNumUsed(30) })},
	{DxTreeCorrupt, "entry in the wrong leaf", "", onDxLeaf(func(l ondisk.DxLeaf) {
		e := l.Entries().Rec(5)
		e.Set(e.MajorHash(), e.MinorHash()^1, e.DirentBlk())
	})},
	{DxLookupFailed, "block", "", onDxLeaf(func(l ondisk.DxLeaf) { e := l.Entries().Rec(5); e.SetDirentBlk(e.DirentBlk() + 1) })},
	{DxLookupFailed, "name", "", onEntry(1, 0, func(e ondisk.DirEntry) { e[12] = 'Z' })},
	{DxEntryStale, "block", "", onDxLeaf(func(l ondisk.DxLeaf) { e := l.Entries().Rec(5); e.SetDirentBlk(e.DirentBlk() + 1) })},
	{DxEntryCount, "names", "", onDxRoot(func(r ondisk.DxRoot) { r.SetNumEntries(1) })},
	{DxEntryCount, "capacity", "", onDxLeaf(func(l ondisk.DxLeaf) { l.Entries().SetCount(28) })},
	{DxFreeList, "link to another block", "", onDxRoot(func(r ondisk.DxRoot) { r.SetFreeBlk(3) })},
	{DxFreeList, "list cut", "", onDxRoot(func(r ondisk.DxRoot) { r.SetFreeBlk(0) })},
	{DxFreeList, "loop", "", func(t testing.TB, v *volume) {
		head := ondisk.DxRoot(v.get(ondisk.Dinode(v.get(v.lookup(t, v.g.RootBlkno, "dir"))).DxRoot())).FreeBlk()
		v.edit(head, func(b []byte) { ondisk.DirBlock(b).Trailer().SetFreeNext(head) })
	}},
	{DxFreeList, "full block on it", "", func(t testing.TB, v *volume) {
		head := ondisk.DxRoot(v.get(ondisk.Dinode(v.get(v.lookup(t, v.g.RootBlkno, "dir"))).DxRoot())).FreeBlk()
		v.edit(head, func(b []byte) { ondisk.DirBlock(b).Trailer().SetFreeRecLen(0) })
	}},
	{DxFreeList, "directory without index", "", func(t testing.TB, v *volume) {
		v.edit(fileBlock(t, v, v.g.SystemDirBlkno, 0), func(b []byte) { ondisk.DirBlock(b).Trailer().SetFreeRecLen(16) })
	}},
	{DxFreeLen, "too large", "", onTrailer(func(tr ondisk.DirTrailer) { tr.SetFreeRecLen(444) })},
}

const crash = "kernel-1024-crash"

// orphanOf is the inode of the first orphan of that type.
func orphanOf(t testing.TB, v *volume, dir bool) uint64 {
	t.Helper()
	return v.findInode(t, "orphan", func(d ondisk.Dinode) bool { return d.HasFlag(ondisk.InodeOrphaned) && d.IsDir() == dir })
}

func onOrphan(change func(d ondisk.Dinode)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) { v.inode(orphanOf(t, v, false), change) }
}

// onOrphanEntry changes the entry of the orphaned file.
func onOrphanEntry(change func(e ondisk.DirEntry)) func(testing.TB, *volume) {
	return onSys(ondisk.SysOrphanDir, 0, func(d ondisk.Dinode) {
		it := ondisk.DirEntries(d.Inline().Data())
		for it.Next() {
			if e := it.Entry(); e.Inode() != 0 && e.FileType() == ondisk.FTRegular {
				change(e)
				return
			}
		}
		panic("no orphan")
	})
}

var orphanCorruptions = []corruption{
	{OrphanEntry, "inode not flagged", crash, onOrphan(func(d ondisk.Dinode) { d.SetFlags(ondisk.InodeValid) })},
	{OrphanEntry, "other slot", crash, onOrphan(func(d ondisk.Dinode) { d.SetOrphanedSlot(1) })},
	{OrphanEntry, "name", crash, onOrphanEntry(func(e ondisk.DirEntry) { e[12] = '1' })},
	{OrphanFlag, "not in the directory", crash, onOrphanEntry(func(e ondisk.DirEntry) { e.SetInode(0) })},
	{OrphanFlag, "dio", crash, on("frag", func(d ondisk.Dinode) { d.SetFlags(d.Flags() | ondisk.InodeDioOrphaned) })},
	{InodeCount, "orphan with links", crash, onOrphan(func(d ondisk.Dinode) { d.SetLinks(1) })},
	{InodeCount, "orphan dir", crash, onSys(ondisk.SysOrphanDir, 0, func(d ondisk.Dinode) { d.SetLinks(2) })},
}

// quotaRef changes the first non-zero reference of tree block blk.
func quotaRef(t testing.TB, v *volume, blk uint64, change func(ref uint32) uint32) uint32 {
	t.Helper()
	var was uint32
	v.edit(fileBlock(t, v, v.sys(t, ondisk.SysQuotaUser, 0), blk), func(b []byte) {
		for i := 0; i+12 <= len(b); i += 4 {
			if was = binary.LittleEndian.Uint32(b[i:]); was != 0 {
				binary.LittleEndian.PutUint32(b[i:], change(was))
				return
			}
		}
	})
	return was
}

// quotaPath follows the tree of the user quota file down to the data block of
// its lowest id, and returns the blocks on the way.
func quotaPath(t testing.TB, v *volume) []uint64 {
	t.Helper()
	path := []uint64{1}
	for range 5 {
		path = append(path, uint64(quotaRef(t, v, path[len(path)-1], func(ref uint32) uint32 { return ref })))
	}
	return path
}

var quotaCorruptions = []corruption{
	{QMagicInvalid, "global", "", onSysBlock(ondisk.SysQuotaUser, 0, 0, func(b []byte) { b[0] ^= 1 })},
	{QMagicInvalid, "local", "", onSysBlock(ondisk.SysLocalQuotaGroup, 1, 0, func(b []byte) { b[0] ^= 1 })},
	{QuotaInfo, "global blocks", "", onSysBlock(ondisk.SysQuotaGroup, 0, 0, func(b []byte) { ondisk.QuotaHeader(b).SetBlocks(1000) })},
	{QuotaInfo, "local chunks", "", onSysBlock(ondisk.SysLocalQuotaUser, 0, 0, func(b []byte) { ondisk.QuotaHeader(b).SetLocalChunks(0) })},
	{QTreeBlkInvalid, "range", "", func(t testing.TB, v *volume) { quotaRef(t, v, 1, func(uint32) uint32 { return 5000 }) }},
	{QTreeBlkInvalid, "loop", "", func(t testing.TB, v *volume) {
		p := quotaPath(t, v)
		quotaRef(t, v, p[2], func(uint32) uint32 { return uint32(p[1]) })
	}},
	{DQBlkInvalid, "no entry", "", func(t testing.TB, v *volume) {
		p := quotaPath(t, v)
		v.edit(fileBlock(t, v, v.sys(t, ondisk.SysQuotaUser, 0), p[5]), func(b []byte) { clear(b[16:]) })
	}},
	{DupDQBlk, "twice", "", func(t testing.TB, v *volume) {
		p := quotaPath(t, v)
		v.edit(fileBlock(t, v, v.sys(t, ondisk.SysQuotaUser, 0), p[5]), func(b []byte) { copy(b[16+88:16+2*88], b[16:16+88]) })
	}},
}
