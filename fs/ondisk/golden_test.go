package ondisk

import (
	"bufio"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// goldenBlock is a block read from a volume that Linux 6.1 wrote; see
// testdata/extract.go.
type goldenBlock struct {
	kind  string
	blkno uint64
	data  []byte
}

type goldenHash struct {
	major, minor uint32
	name         string
}

type golden struct {
	g      *Geometry
	blocks []goldenBlock
	hashes []goldenHash
	xattrs []goldenHash
}

var goldenSizes = []int{512, 1024, 4096}

func loadGolden(t testing.TB, blockSize int) *golden {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("testdata/golden-%d.txt.gz", blockSize))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	gold := &golden{}
	sc := bufio.NewScanner(z)
	for sc.Scan() {
		gold.parse(t, strings.Fields(sc.Text()))
	}
	if sc.Err() != nil || gold.g == nil {
		t.Fatalf("golden file without superblock, error %v", sc.Err())
	}
	return gold
}

func (gold *golden) parse(t testing.TB, w []string) {
	t.Helper()
	num := func(s string) uint64 {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	last := ""
	if len(w) > 2 {
		last = w[len(w)-1]
	}
	data, err := base64.StdEncoding.DecodeString(last)
	if err != nil {
		t.Fatal(err)
	}
	switch w[0] {
	case "hash":
		gold.hashes = append(gold.hashes, goldenHash{uint32(num(w[1])), uint32(num(w[2])), string(data)})
	case "xhash":
		gold.xattrs = append(gold.xattrs, goldenHash{uint32(num(w[1])), 0, string(data)})
	default:
		gold.blocks = append(gold.blocks, goldenBlock{w[0], num(w[1]), data})
		if w[0] == "super" {
			if gold.g, err = ParseSuper(data, len(data)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (gold *golden) block(t testing.TB, kind string) goldenBlock {
	t.Helper()
	for _, b := range gold.blocks {
		if b.kind == kind {
			return b
		}
	}
	t.Fatalf("no golden block of kind %q", kind)
	return goldenBlock{}
}

// check runs the validator for the kind of block.
func (gb goldenBlock) check(g *Geometry, b []byte) error {
	switch {
	case gb.kind == "dirblock":
		return CheckDirBlock(b, gb.blkno, DirBlock(b).Trailer().ParentDinode(), g, true)
	case gb.kind == "bucket":
		return CheckXattrBucket(b, gb.blkno)
	case gb.kind == "group" || gb.kind == "subgroup":
		return CheckGroupDesc(b, gb.blkno, g)
	case gb.kind == "extent":
		return CheckExtentBlock(b, gb.blkno, g)
	case gb.kind == "xattr" || gb.kind == "xattrtree":
		return CheckXattrBlock(b, gb.blkno, g)
	case gb.kind == "dxroot":
		return CheckDxRoot(b, gb.blkno, g)
	case gb.kind == "dxleaf":
		return CheckDxLeaf(b, gb.blkno, g)
	case strings.HasPrefix(gb.kind, "refcount"):
		return CheckRefcountBlock(b, gb.blkno, g)
	}
	return CheckDinode(b, gb.blkno, g)
}

// checkOff is the offset of the block's check.
func (gb goldenBlock) checkOff() int {
	switch gb.kind {
	case "dirblock":
		return CheckOffTail(len(gb.data))
	case "bucket":
		return CheckOffBucket
	}
	off, ok := CheckOffset(string(gb.data[:8]))
	if !ok {
		panic("golden block of unknown signature")
	}
	return off
}

func TestGoldenBlocksPassTheirValidator(t *testing.T) {
	for _, bs := range goldenSizes {
		gold := loadGolden(t, bs)
		if len(gold.blocks) < 18 {
			t.Errorf("%d: only %d golden blocks", bs, len(gold.blocks))
		}
		for _, gb := range gold.blocks {
			if err := gb.check(gold.g, gb.data); err != nil {
				t.Errorf("%d: %s: %v", bs, gb.kind, err)
			}
			exercise(gb.kind, gb.data)
		}
	}
}

func TestValidatorsRefuseWrongHeads(t *testing.T) {
	gold := loadGolden(t, 512)
	for _, gb := range gold.blocks {
		if gb.kind == "bucket" || gb.kind == "dirblock" {
			continue
		}
		b := append([]byte(nil), gb.data...)
		b[0] ^= 1
		if gb.check(gold.g, b) == nil {
			t.Errorf("%s: wrong signature accepted", gb.kind)
		}
		moved := gb
		moved.blkno++
		if moved.check(gold.g, gb.data) == nil {
			t.Errorf("%s: block of another place accepted", gb.kind)
		}
		other := *gold.g
		other.FSGeneration++
		if gb.check(&other, gb.data) == nil {
			t.Errorf("%s: block of another generation accepted", gb.kind)
		}
		if gb.check(gold.g, gb.data[:len(gb.data)/2]) == nil {
			t.Errorf("%s: half a block accepted", gb.kind)
		}
	}
}

func TestGoldenGeometry(t *testing.T) {
	g := loadGolden(t, 512).g
	// Values printed by debugfs.ocfs2 "stats".
	if g.BlockSize != 512 || g.ClusterSize != 4096 || g.Bpc != 8 || g.BpcBits != 3 {
		t.Errorf("sizes %d %d %d", g.BlockSize, g.ClusterSize, g.Bpc)
	}
	if g.TotalClusters != 51200 || g.TotalBlocks != 409600 || g.CPG != 3584 {
		t.Errorf("clusters %d blocks %d cpg %d", g.TotalClusters, g.TotalBlocks, g.CPG)
	}
	if g.RootBlkno != 17 || g.SystemDirBlkno != 18 || g.FirstClusterGroup != 8 || g.MaxSlots != 2 {
		t.Errorf("root %d sysdir %d group %d slots %d", g.RootBlkno, g.SystemDirBlkno, g.FirstClusterGroup, g.MaxSlots)
	}
	if g.UUIDString() != "40E32E5E4F7A43D09801D80DA74AA743" || g.Label != "k512" {
		t.Errorf("uuid %s label %q", g.UUIDString(), g.Label)
	}
	if g.UUIDHash != 0x36e030fb || UUIDHash(g.UUID) != g.UUIDHash {
		t.Errorf("uuid hash %#x, computed %#x", g.UUIDHash, UUIDHash(g.UUID))
	}
	if g.DxSeed != [3]uint32{0x4255c65b, 0xf02e0a94, 0x0181952c} || g.FSGeneration != 0xf7f6d2ec {
		t.Errorf("seeds %#x generation %#x", g.DxSeed, g.FSGeneration)
	}
	if g.Features != (Features{3, 48984, 7}) || !g.IsLocal() || g.HasClusterInfo() || g.XattrInlineSize != 256 {
		t.Errorf("features %v", g.Features)
	}
	const names = "backup-super,strict-journal-super,local,sparse,inline-data,extended-slotmap,xattr," +
		"indexed-dirs,metaecc,refcount,discontig-bg,append-dio,unwritten,usrquota,grpquota"
	if g.Features.String() != names {
		t.Errorf("features %s", g.Features)
	}
	if ro, err := g.CheckFeatures(); err != nil || len(ro) != 0 {
		t.Errorf("features refused: %v %v", ro, err)
	}
}

func TestGoldenFields(t *testing.T) {
	gold := loadGolden(t, 512)
	// Values printed by debugfs.ocfs2 for the same blocks.
	d := Dinode(gold.block(t, "chain").data)
	c := d.Chains()
	if d.Used() != 26 || d.Total() != 272 || c.CPG() != 34 || c.BPC() != 8 || c.Count() != 19 || c.NextFree() != 1 ||
		c.Rec(0).Free() != 246 || c.Rec(0).Total() != 272 || c.Rec(0).Blkno() != 16 {
		t.Errorf("chain inode %d: %d/%d", d.Blkno(), d.Used(), d.Total())
	}
	d = Dinode(gold.block(t, "journal").data)
	l := d.Extents()
	if d.Generation() != 4160148204 || d.Size() != 4194304 || d.Clusters() != 1024 || d.Links() != 1 ||
		d.SuballocSlot() != SlotGlobal || d.SuballocBit() != 16 || d.JournalFlags() != 0 || d.RecoveryGeneration() != 0 ||
		l.Count() != 19 || l.NextFree() != 1 || l.Rec(0).Clusters() != 1024 || l.Rec(0).Blkno() != 552 || l.Rec(0).Flags() != 0 ||
		d.Flags() != SysJournal.Flags() || d.Mode() != SysJournal.Mode() {
		t.Errorf("journal inode: %x", d[:0xE0])
	}
	d = Dinode(gold.block(t, "indexeddir").data)
	csec, cnsec := d.Ctime()
	asec, _ := d.Atime()
	if d.Blkno() != 17 || d.DynFeatures() != DynIndexedDir || d.Size() != 512 || d.Links() != 5 || d.DxRoot() != 16999 ||
		csec != 0x6b00ae50 || cnsec != 0x306b25d7 || asec != 0x6b00ae1b || !d.IsDir() {
		t.Errorf("root directory: %x", d[:0xE0])
	}
	d = Dinode(gold.block(t, "symlink").data)
	if string(d.FastSymlink()) != "short target" || d.Generation() != 0x50a1900d || d.SuballocBit() != 193 {
		t.Errorf("fast symlink %q", d.FastSymlink())
	}
	d = Dinode(gold.block(t, "trunclog").data)
	if tl := d.TruncLog(); tl.Count() != 39 || tl.Used() != 0 || int(tl.Count()) != gold.g.TruncCount() {
		t.Errorf("truncate log %d/%d", tl.Used(), tl.Count())
	}
	d = Dinode(gold.block(t, "localalloc").data)
	if la := d.LocalAlloc(); la.Size() != 304 || la.BmOff() != 0 || len(la.Bitmap()) != 304 || gold.g.LocalAllocSize() != 304 {
		t.Errorf("local alloc size %d", la.Size())
	}
	d = Dinode(gold.block(t, "file").data)
	if in := d.Inline(); in.Count() != 312 || gold.g.InlineCount() != 312 || len(in.Data()) != 312 || in.Data()[0] != '1' {
		t.Errorf("inline file %d %q", in.Count(), in.Data()[:4])
	}
}

func TestGoldenTreeFields(t *testing.T) {
	gold := loadGolden(t, 512)
	e := ExtentBlock(gold.block(t, "extent").data)
	r := e.List().Rec(0)
	if e.Blkno() != 16939 || e.SuballocBit() != 3 || e.SuballocSlot() != 0 || e.NextLeafBlk() != 16940 || e.List().Depth() != 0 ||
		e.List().Count() != 28 || e.List().NextFree() != 28 || r.Cpos() != 4 || r.Clusters() != 1 || r.Blkno() != 30648 ||
		r.Flags() != ExtentRefcounted || gold.g.EBExtents() != 28 {
		t.Errorf("extent block: %x", e[:0x60])
	}
	x := DxRoot(gold.block(t, "dxroot").data)
	if x.Blkno() != 16937 || x.Clusters() != 6 || x.LastEbBlk() != 0 || x.DirBlkno() != 21090 || x.SuballocBit() != 1 ||
		x.IsInline() || x.NumEntries() != 471 || x.Extents().Count() != 19 || x.Extents().NextFree() != 6 {
		t.Errorf("dx root: %x", x[:0xE0])
	}
	lf := DxLeaf(gold.block(t, "dxleaf").data)
	le := lf.Entries().Rec(3)
	if lf.Entries().Count() != 29 || lf.Entries().NumUsed() != 17 || le.MajorHash() != 0x01e22147 ||
		le.MinorHash() != 0x1eda8588 || le.DirentBlk() != 28684 {
		t.Errorf("dx leaf: %x", lf[:0x80])
	}
	rc := RefcountBlock(gold.block(t, "refcount2").data)
	if rc.Blkno() != 16958 || rc.SuballocBit() != 22 || rc.Parent() != 0 || rc.Count() != 3 || rc.Clusters() != 14 || !rc.IsTree() {
		t.Errorf("refcount root: %x", rc[:0x90])
	}
	rc = RefcountBlock(gold.block(t, "refcount1").data)
	rl := rc.Records()
	if rc.Blkno() != 16960 || rc.Parent() != 16958 || rc.Cpos() != 0 || rl.Count() != 23 || rl.Used() != 12 ||
		rl.Rec(1).Cpos() != 3639 || rl.Rec(1).Clusters() != 3 || rl.Rec(1).Refcount() != 3 {
		t.Errorf("refcount leaf: %x", rc[:0xB0])
	}
	h := XattrHeader(gold.block(t, "bucket").data)
	big := h.Entry(8)
	if h.Count() != 9 || h.NumBuckets() != 1 || big.Index() != XattrIndexUser || big.IsLocal() || big.ValueSize() != 20000 ||
		string(h.Name(big)) != "bigvalue" || h.ValueRoot(big).Clusters() != 5 || h.ValueRoot(big).List().Rec(0).Blkno() != 34384 {
		t.Errorf("bucket: %x", h[:0xA0])
	}
	first := h.Entry(0)
	if !first.IsLocal() || first.ValueSize() != 60 || len(h.Value(first)) != 60 || first.NameLen() != 6 {
		t.Errorf("bucket entry 0: %x", first)
	}
	gd := GroupDesc(gold.block(t, "group").data)
	if gd.Bits() != 3584 || gd.FreeBitsCount() != 692 || gd.Size() != 448 || gd.IsDiscontig() || len(gd.Bitmap()) != 448 {
		t.Errorf("group: %x", gd[:0x40])
	}
	if sg := GroupDesc(gold.block(t, "subgroup").data); sg.Size() != 256 || sg.IsDiscontig() || !sg.HasList() || sg.Bits() != 2048 {
		t.Errorf("suballocator group: %x", sg[:0x40])
	}
}

func TestGoldenDirectoryBlocks(t *testing.T) {
	gold := loadGolden(t, 512)
	b := DirBlock(gold.block(t, "dirblock").data)
	if tr := b.Trailer(); tr.Blkno() != 288 || tr.ParentDinode() != 18 || tr.CompatRecLen() != 64 || tr.FreeNext() != 0 {
		t.Errorf("trailer: %x", tr)
	}
	want := []string{".", "..", "bad_blocks", "global_inode_alloc", "slot_map", "heartbeat", "global_bitmap", "aquota.user"}
	it := DirEntries(b.Area(true))
	for i := 0; it.Next(); i++ {
		e := it.Entry()
		if i < len(want) && string(e.Name()) != want[i] {
			t.Errorf("entry %d is %q", i, e.Name())
		}
		if i == 2 && (e.Inode() != 19 || e.RecLen() != 24 || e.FileType() != FTRegular || it.PrevOffset() != 16 || it.Offset() != 32) {
			t.Errorf("entry 2: %x", e)
		}
	}
	if it.Err() != nil {
		t.Error(it.Err())
	}
}

func TestDxHashMatchesKernelIndex(t *testing.T) {
	total, nonASCII := 0, 0
	for _, bs := range goldenSizes {
		gold := loadGolden(t, bs)
		for _, h := range gold.hashes {
			total++
			major, minor := gold.g.DxHash(h.name)
			major2, minor2 := gold.g.DxHashBytes([]byte(h.name))
			if major != h.major || minor != h.minor || major2 != major || minor2 != minor {
				t.Errorf("hash of %q is %#x %#x, kernel has %#x %#x", h.name, major, minor, h.major, h.minor)
			}
			um, _ := gold.g.DxHashUnsigned(h.name)
			if ascii := IsASCII(h.name); ascii != (um == major) {
				t.Errorf("%q: unsigned hash %#x, signed %#x", h.name, um, major)
			}
			if !IsASCII(h.name) {
				nonASCII++
			}
		}
	}
	if total < 50 || nonASCII < 20 {
		t.Errorf("only %d hashes checked, %d not ASCII", total, nonASCII)
	}
}

func TestXattrHashMatchesKernel(t *testing.T) {
	total := 0
	for _, bs := range goldenSizes {
		gold := loadGolden(t, bs)
		for _, h := range gold.xattrs {
			total++
			if got := gold.g.XattrHash(h.name); got != h.major || gold.g.XattrHashBytes([]byte(h.name)) != got {
				t.Errorf("hash of %q is %#x, kernel has %#x", h.name, got, h.major)
			}
		}
		if gold.g.XattrHash("") != gold.g.UUIDHash {
			t.Error("the empty name does not hash to the uuid hash")
		}
	}
	if total < 20 {
		t.Errorf("only %d hashes checked", total)
	}
}
