package check

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// corruption damages a good volume in one way, which the check must name.
type corruption struct {
	code  string
	name  string
	vol   string // "" is kernel-512
	spoil func(t testing.TB, v *volume)
}

func allCorruptions() []corruption {
	return slices.Concat(superCorruptions, chainCorruptions, inodeCorruptions, slotFileCorruptions, treeCorruptions,
		xattrCorruptions, refcountCorruptions, dirCorruptions, indexCorruptions, orphanCorruptions, quotaCorruptions)
}

func TestCorruptionsAreNamed(t *testing.T) {
	vols := map[string]*volume{}
	baseline := map[string]*Report{}
	for _, c := range allCorruptions() {
		name := c.vol
		if name == "" {
			name = "kernel-512"
		}
		if vols[name] == nil {
			vols[name] = loadVolume(t, name)
			baseline[name] = vols[name].run(t)
		}
		t.Run(c.code+"/"+c.name, func(t *testing.T) {
			v := vols[name].clone()
			c.spoil(t, v)
			r := v.run(t)
			n := 0
			for _, p := range r.Problems {
				if p.Code == c.code && !slices.Contains(baseline[name].Problems, p) {
					n++
				}
			}
			if n == 0 {
				t.Errorf("not found:\n%.2000s", r)
			}
		})
	}
}

// TestEveryCodeHasACorruption reads codes.go, so that no check can be added
// without a test that makes it speak.
func TestEveryCodeHasACorruption(t *testing.T) {
	covered := map[string]bool{}
	for _, c := range allCorruptions() {
		covered[c.code] = true
	}
	f, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	ast.Inspect(f, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		code, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		if total++; !covered[code] {
			t.Errorf("no corruption for %s", code)
		}
		return true
	})
	if total < 100 {
		t.Errorf("only %d codes found in codes.go", total)
	}
}

// on makes a spoil function that changes the inode of a path below the root.
func on(name string, change func(d ondisk.Dinode)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) { v.inode(v.lookup(t, v.g.RootBlkno, name), change) }
}

// onSys is the same for a system file.
func onSys(kind ondisk.SystemFile, slot int, change func(d ondisk.Dinode)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) { v.inode(v.sys(t, kind, slot), change) }
}

// onSuper changes the superblock.
func onSuper(change func(d ondisk.Dinode)) func(testing.TB, *volume) {
	return func(_ testing.TB, v *volume) { v.edit(ondisk.SuperBlkno, func(b []byte) { change(b) }) }
}

// setFeatures changes the volume's feature bits.
func setFeatures(change func(f *ondisk.Features)) func(testing.TB, *volume) {
	return onSuper(func(d ondisk.Dinode) {
		f := d.Super().Features()
		change(&f)
		d.Super().SetFeatures(f)
	})
}

// fileBlock is block n of an inode.
func fileBlock(t testing.TB, v *volume, ino uint64, n uint64) uint64 {
	t.Helper()
	l := ondisk.Dinode(v.get(ino)).Extents()
	for i := range int(l.NextFree()) {
		r := l.Rec(i)
		blocks := v.g.ClustersToBlocks(uint32(r.Clusters()))
		if l.Depth() == 0 && n < blocks {
			return r.Blkno() + n
		}
		n -= blocks
	}
	t.Fatalf("inode %d has no such block", ino)
	return 0
}

// onFileBlock changes block n of a system file.
func onSysBlock(kind ondisk.SystemFile, slot int, n uint64, change func(b []byte)) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) { v.edit(fileBlock(t, v, v.sys(t, kind, slot), n), change) }
}

var superCorruptions = []corruption{
	{DeviceTooSmall, "truncated", "", func(_ testing.TB, v *volume) { v.size -= 512 }},
	{SuperFeatures, "unknown ro_compat", "", setFeatures(func(f *ondisk.Features) { f.ROCompat |= 0x100 })},
	{SuperFeatures, "tunefs", "", setFeatures(func(f *ondisk.Features) { f.Incompat |= ondisk.FeatureIncompatTunefsInProgress })},
	{SuperState, "error bit", "", onSuper(func(d ondisk.Dinode) { d.Super().SetState(ondisk.SuperStateError) })},
	{SuperblockClusters, "fewer", "", onSuper(func(d ondisk.Dinode) { d.SetClusters(d.Clusters() - 1) })},
	{BackupSuper, "missing", "", func(t testing.TB, v *volume) {
		// A volume that claims to be larger than 1 GiB has a backup there.
		v.size = 2 << 30
		onSuper(func(d ondisk.Dinode) { d.SetClusters(uint32(v.size >> 12)) })(t, v)
	}},
	{SystemInodeMissing, "no name", "", func(t testing.TB, v *volume) {
		b := v.find(t, "system directory block", func(_ uint64, b []byte) bool {
			return ondisk.DirBlock(b).Trailer().HasSignature() && ondisk.DirBlock(b).Trailer().ParentDinode() == v.g.SystemDirBlkno
		})
		v.edit(b, func(b []byte) {
			it := ondisk.DirEntries(ondisk.DirBlock(b).Area(true))
			for it.Next() {
				if string(it.Entry().Name()) == "slot_map" {
					it.Entry().SetInode(0)
				}
			}
		})
	}},
	{SystemInodeMissing, "not valid", "", onSys(ondisk.SysExtentAlloc, 1, func(d ondisk.Dinode) { d.SetFlags(0) })},
	{OrphanDirMissing, "more slots", "", onSuper(func(d ondisk.Dinode) { d.Super().SetMaxSlots(3) })},
	{SystemDirInvalid, "entry", "", func(t testing.TB, v *volume) {
		v.edit(fileBlock(t, v, v.g.SystemDirBlkno, 1), func(b []byte) { ondisk.DirEntry(b).SetRecLen(7) })
	}},
	{SlotMapInvalid, "node twice", "", onSysBlock(ondisk.SysSlotMap, 0, 0, func(b []byte) {
		m := ondisk.SlotMap{Data: b, Extended: true}
		m.Set(0, 5)
		m.Set(1, 5)
	})},
	{SlotMapInvalid, "valid byte", "", onSysBlock(ondisk.SysSlotMap, 0, 0, func(b []byte) { b[0] = 9 })},
	{ReadError, "directory block", "", func(t testing.TB, v *volume) {
		v.broken = fileBlock(t, v, v.lookup(t, v.g.RootBlkno, "dir"), 3)
	}},
	{ReadError, "inode group", "", func(t testing.TB, v *volume) { v.broken = v.lookup(t, v.g.RootBlkno, "frag") }},
	{ReadError, "bucket", "", func(t testing.TB, v *volume) { v.broken = v.bucket(t, "xbucket", 2) }},
	{BadCRC32, "inode", "", func(_ testing.TB, v *volume) { damage(v, v.g.RootBlkno) }},
	{BadCRC32, "superblock", "", func(_ testing.TB, v *volume) { damageBit(v, ondisk.SuperBlkno) }},
	{BadCRC32, "group", "", func(_ testing.TB, v *volume) { damage(v, v.g.FirstClusterGroup) }},
	{BadCRC32, "extent block", "", damageSig(ondisk.SigExtent)},
	{BadCRC32, "xattr block", "", damageSig(ondisk.SigXattr)},
	{BadCRC32, "dx root", "", damageSig(ondisk.SigDxRoot)},
	{BadCRC32, "dx leaf", "", damageSig(ondisk.SigDxLeaf)},
	{BadCRC32, "refcount block", "", damageSig(ondisk.SigRefcount)},
	{BadCRC32, "directory block", "", func(t testing.TB, v *volume) { damage(v, fileBlock(t, v, v.g.RootBlkno, 0)) }},
	{BadCRC32, "quota block", "", func(t testing.TB, v *volume) { damage(v, fileBlock(t, v, v.sys(t, ondisk.SysQuotaUser, 0), 0)) }},
	{BadCRC32, "bucket", "", func(t testing.TB, v *volume) {
		b := v.bucket(t, "xbucket", 0)
		damage(v, b+7)
	}},
}

// damage flips bits in the check field's neighbourhood that nothing else looks
// at: the block check alone must notice.
func damage(v *volume, blkno uint64) {
	b := append([]byte(nil), v.get(blkno)...)
	off := len(b) - 8
	if o, ok := ondisk.CheckOffset(string(b[:8])); ok {
		off = o
	}
	b[off] ^= 0x55
	v.blocks[blkno] = b
}

// damageBit flips one bit that the ECC can correct.
func damageBit(v *volume, blkno uint64) {
	b := append([]byte(nil), v.get(blkno)...)
	b[len(b)-1] ^= 1
	v.blocks[blkno] = b
}

func damageSig(sig string) func(testing.TB, *volume) {
	return func(t testing.TB, v *volume) {
		damage(v, v.find(t, sig, func(_ uint64, b []byte) bool { return ondisk.HasSignature(b, sig) }))
	}
}

// bucket is the first block of the bucket of record i of a file's attributes.
func (v *volume) bucket(t testing.TB, name string, i int) uint64 {
	t.Helper()
	x := ondisk.XattrBlock(v.get(ondisk.Dinode(v.get(v.lookup(t, v.g.RootBlkno, name))).XattrLoc()))
	if !x.IsIndexed() || x.Root().List().Depth() != 0 {
		t.Fatalf("%q has no flat bucket tree", name)
	}
	return x.Root().List().Rec(i).Blkno()
}
