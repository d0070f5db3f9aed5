package ondisk

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
)

func TestCapacities(t *testing.T) {
	for _, c := range []struct{ bs, inode, eb, inline, dxRoot, dxLeaf, tl, la, cpg, groupRecs, refcount int }{
		{512, 19, 28, 312, 19, 29, 39, 304, 3584, 11, 23},
		{1024, 51, 60, 824, 51, 61, 103, 816, 7680, 43, 55},
		{2048, 115, 124, 1848, 115, 125, 231, 1840, 15872, 107, 119},
		{4096, 243, 252, 3896, 243, 253, 487, 3888, 32256, 235, 247},
	} {
		g := testGeometry(c.bs, 4096, 1<<20)
		for name, p := range map[string][2]int{
			"inode": {g.InodeExtents(), c.inode}, "chains": {g.ChainCount(), c.inode}, "eb": {g.EBExtents(), c.eb},
			"inline": {g.InlineCount(), c.inline}, "dx root": {g.DxRootEntries(), c.dxRoot}, "dx leaf": {g.DxLeafEntries(), c.dxLeaf},
			"dx extents": {g.DxRootExtents(), c.inode}, "truncate log": {g.TruncCount(), c.tl}, "local alloc": {g.LocalAllocSize(), c.la},
			"cpg": {int(g.CPG), c.cpg}, "group list": {g.GroupListRecs(), c.groupRecs}, "refcount": {g.RefcountRecs(), c.refcount},
			"xattr tree": {g.XattrTreeExtents(), (c.bs - 0x50) / 16}, "fast link": {g.FastSymlinkMax(), c.bs - 0xC1},
		} {
			if p[0] != p[1] {
				t.Errorf("bs %d: %s %d, want %d", c.bs, name, p[0], p[1])
			}
		}
		e := make(ExtentBlock, c.bs)
		e.Init(99, g.FSGeneration)
		if int(e.List().Count()) != c.eb || CheckExtentBlock(e, 99, g) != nil {
			t.Errorf("bs %d: fresh extent block %v", c.bs, CheckExtentBlock(e, 99, g))
		}
		lf := make(DxLeaf, c.bs)
		lf.Init(98, g.FSGeneration)
		if int(lf.Entries().Count()) != c.dxLeaf || CheckDxLeaf(lf, 98, g) != nil {
			t.Errorf("bs %d: fresh dx leaf", c.bs)
		}
	}
}

// testGeometry makes a geometry through ParseSuper.
func testGeometry(bs, cs int, clusters uint32) *Geometry {
	g, err := ParseSuper(testSuper(bs, cs, clusters), bs)
	if err != nil {
		panic(err)
	}
	return g
}

func testSuper(bs, cs int, clusters uint32) Dinode {
	log2 := func(n int) (b uint32) {
		for ; n > 1; n >>= 1 {
			b++
		}
		return b
	}
	d := make(Dinode, bs)
	SetSignature(d, SigSuper)
	d.SetBlkno(SuperBlkno)
	d.SetClusters(clusters)
	d.SetFSGeneration(0x1234)
	d.SetFlags(InodeValid | InodeSystem | InodeSuperBlock)
	s := d.Super()
	s.SetMinorRev(MinorRev)
	s.SetBlocksizeBits(log2(bs))
	s.SetClustersizeBits(log2(cs))
	s.SetRootBlkno(17)
	s.SetSystemDirBlkno(18)
	s.SetFirstClusterGroup(8)
	s.SetMaxSlots(4)
	s.SetFeatures(Features{Compat: 3, Incompat: 0xB750, ROCompat: 1})
	return d
}

func TestGroupsOfClusters(t *testing.T) {
	g := testGeometry(512, 4096, 3584*2+100)
	if g.GroupCount() != 3 || g.GroupBits(0) != 3584 || g.GroupBits(2) != 100 {
		t.Errorf("%d groups, the last of %d bits", g.GroupCount(), g.GroupBits(2))
	}
	for c, want := range map[uint32]struct {
		desc uint64
		bit  int
	}{0: {8, 0}, 3583: {8, 3583}, 3584: {3584 * 8, 0}, 7170: {7168 * 8, 2}} {
		if desc, bit := g.GroupOfCluster(c); desc != want.desc || bit != want.bit {
			t.Errorf("cluster %d: group %d bit %d", c, desc, bit)
		}
	}
	big := testGeometry(4096, 1<<20, math.MaxUint32)
	if big.TotalBlocks != math.MaxUint32*256 || big.GroupBlkno(big.GroupCount()-1) >= big.TotalBlocks {
		t.Errorf("largest volume: %d blocks", big.TotalBlocks)
	}
	if desc, bit := big.GroupOfCluster(math.MaxUint32 - 1); desc != big.GroupBlkno(big.GroupCount()-1) || bit >= big.GroupBits(big.GroupCount()-1) {
		t.Errorf("last cluster: group %d bit %d", desc, bit)
	}
}

func TestRounding(t *testing.T) {
	g := testGeometry(1024, 4096, 1000)
	for n, want := range map[uint64]uint64{0: 0, 1: 1, 4096: 1, 4097: 2, math.MaxUint64: 1 << 52} {
		if got := g.ClustersForBytes(n); got != want {
			t.Errorf("%d bytes: %d clusters, want %d", n, got, want)
		}
	}
	if g.BlocksForBytes(1025) != 2 || g.ClustersToBlocks(3) != 12 || g.BlocksToClusters(15) != 3 || !g.ClusterAligned(8) || g.ClusterAligned(9) {
		t.Error("block arithmetic")
	}
	if g.ValidBlock(2) || !g.ValidBlock(3) || !g.ValidBlock(3999) || g.ValidBlock(4000) || g.ByteOfBlock(5) != 5120 {
		t.Error("block range")
	}
}

func TestParseSuperRefuses(t *testing.T) {
	for name, spoil := range map[string]func(d Dinode){
		"block size bits":   func(d Dinode) { d.Super().SetBlocksizeBits(12) },
		"cluster size bits": func(d Dinode) { d.Super().SetClustersizeBits(21) },
		"huge cluster bits": func(d Dinode) { d.Super().SetClustersizeBits(1 << 31) },
		"revision":          func(d Dinode) { d.Super().SetMinorRev(91) },
		"place":             func(d Dinode) { d.SetBlkno(3) },
		"clusters":          func(d Dinode) { d.SetClusters(0) },
		"root":              func(d Dinode) { d.Super().SetRootBlkno(0) },
		"system dir":        func(d Dinode) { d.Super().SetSystemDirBlkno(1 << 40) },
		"group":             func(d Dinode) { d.Super().SetFirstClusterGroup(0) },
		"no slots":          func(d Dinode) { d.Super().SetMaxSlots(0) },
		"slots":             func(d Dinode) { d.Super().SetMaxSlots(256) },
		"inline xattrs":     func(d Dinode) { d.Super().SetXattrInlineSize(1000) },
		"block check": func(d Dinode) {
			d.Super().SetFeatures(Features{Incompat: FeatureIncompatMetaECC})
			ComputeCheck(d, CheckOffDinode)
			d.SetClusters(d.Clusters() ^ 3)
		},
	} {
		d := testSuper(1024, 4096, 10000)
		spoil(d)
		if _, err := ParseSuper(d, 1024); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := testSuper(1024, 4096, 10000)
	d[0] = 'X'
	if _, err := ParseSuper(d, 1024); !errors.Is(err, ErrNotOCFS2) {
		t.Errorf("signature: %v", err)
	}
	if _, err := ParseSuper(testSuper(1024, 4096, 10000), 512); err == nil {
		t.Error("wrong length accepted")
	}
}

func TestParseSuperCorrectsACopy(t *testing.T) {
	d := testSuper(1024, 4096, 10000)
	d.Super().SetFeatures(Features{Incompat: FeatureIncompatMetaECC})
	ComputeCheck(d, CheckOffDinode)
	d.SetClusters(d.Clusters() ^ 4)
	before := bytes.Clone(d)
	g, err := ParseSuper(d, 1024)
	if err != nil || g.TotalClusters != 10000 || !bytes.Equal(d, before) {
		t.Errorf("one flipped bit: %v, %+v", err, g)
	}
}

func TestFindSuperProbesAllSizes(t *testing.T) {
	for bs := 512; bs <= 4096; bs *= 2 {
		img := make([]byte, 64<<10)
		copy(img[2*bs:], testSuper(bs, 4096, 100))
		g, block, err := FindSuper(bytes.NewReader(img))
		if err != nil || g.BlockSize != bs || len(block) != bs {
			t.Errorf("bs %d: %v", bs, err)
		}
		if _, _, err := FindSuper(bytes.NewReader(img[:2*bs+bs/2])); !errors.Is(err, ErrNotOCFS2) {
			t.Errorf("bs %d: truncated volume: %v", bs, err)
		}
		Dinode(img[2*bs : 3*bs]).Super().SetMaxSlots(0)
		if _, _, err := FindSuper(bytes.NewReader(img)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("bs %d: damaged superblock: %v", bs, err)
		}
	}
	if _, _, err := FindSuper(failingReader{}); err == nil || errors.Is(err, ErrNotOCFS2) {
		t.Errorf("read error: %v", err)
	}
}

type failingReader struct{}

func (failingReader) ReadAt([]byte, int64) (int, error) { return 0, errors.New("medium error") }

func TestBackupSuperblocks(t *testing.T) {
	g := testGeometry(1024, 4096, 5<<18) // 5 GiB
	b0, ok0 := g.BackupSuperBlkno(0)
	b1, ok1 := g.BackupSuperBlkno(1)
	_, ok2 := g.BackupSuperBlkno(2)
	if b0 != 1<<20 || b1 != 4<<20 || !ok0 || !ok1 || ok2 {
		t.Errorf("backups %d %v %d %v %v", b0, ok0, b1, ok1, ok2)
	}
	d := testSuper(1024, 4096, 5<<18)
	d.SetBlkno(b1)
	if _, err := ParseBackupSuper(d, 1024, b1); err != nil {
		t.Error(err)
	}
}

func TestFeatureLists(t *testing.T) {
	base := Features{3, 0xB750, 1}
	for list, want := range map[string]Features{
		"":                    base,
		"metaecc":             {3, 0xBF50, 1},
		"noinline-data,local": {3, 0xB718, 1},
		"nosparse":            {3, 0xB740, 0},
		"nounwritten":         {3, 0xB750, 0},
		"usrquota,grpquota":   {3, 0xB750, 7},
		"nobackup-super":      {2, 0xB750, 1},
	} {
		got, err := ParseFeatures(base, list)
		if err != nil || got != want {
			t.Errorf("%q: %v %v, want %v", list, got, err, want)
		}
	}
	for _, list := range []string{"bogus", "noheartbeat-dev", "heartbeat-dev", "unwritten,nosparse", "xattr,noxattr", "usrquota grpquota", "strict-journal-super"} {
		if _, err := ParseFeatures(base, list); err == nil {
			t.Errorf("%q accepted", list)
		}
	}
	for _, f := range FeatureNames {
		if !f.User {
			continue
		}
		got, err := ParseFeatures(Features{}, f.Name)
		if err != nil || !got.Has(f.Bit) || !strings.Contains(got.String(), f.Name) {
			t.Errorf("%s: %v %v", f.Name, got, err)
		}
	}
}

func TestCheckFeatures(t *testing.T) {
	for _, c := range []struct {
		f    Features
		word string // in the error
		ro   string
	}{
		{Features{Incompat: SupportedIncompat, ROCompat: SupportedROCompat, Compat: 0xFFFFFFFF}, "", ""},
		{Features{Incompat: FeatureIncompatHeartbeatDev}, "heartbeat", ""},
		{Features{Incompat: FeatureIncompatResizeInProgress}, "fsck", ""},
		{Features{Incompat: FeatureIncompatTunefsInProgress}, "tunefs", ""},
		{Features{Incompat: 0x10000}, "incompat-0x10000", ""},
		{Features{ROCompat: 0x18}, "", "ro-compat-0x8,ro-compat-0x10"},
	} {
		g := &Geometry{Features: c.f}
		ro, err := g.CheckFeatures()
		if (err != nil) != (c.word != "") || err != nil && (!errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), c.word)) {
			t.Errorf("%v: %v", c.f, err)
		}
		if strings.Join(ro, ",") != c.ro {
			t.Errorf("%v: read-only for %v", c.f, ro)
		}
	}
}

func TestSystemFileNames(t *testing.T) {
	for want, got := range map[string]string{
		"bad_blocks": SystemInodeName(SysBadBlocks, 0), "global_bitmap": SystemInodeName(SysGlobalBitmap, 3),
		"orphan_dir:0000": SystemInodeName(SysOrphanDir, 0), "aquota.user": SystemInodeName(SysQuotaUser, 0),
		"aquota.group:0254": SystemInodeName(SysLocalQuotaGroup, 254), "local_alloc:0012": SystemInodeName(SysLocalAlloc, 12),
		"0000000000005224": OrphanName(0x5224),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if SysLocalAlloc.Flags() != 0xD1 || SysTruncateLog.Flags() != 0x811 || SysOrphanDir.Mode() != 0o40755 || !SysJournal.PerSlot() || SysHeartbeat.PerSlot() {
		t.Error("system file attributes")
	}
}

func TestRdev(t *testing.T) {
	for enc, mm := range map[uint64][2]uint32{0xAC8: {10, 200}, 0x11112C70: {300, 70000}} {
		if EncodeRdev(mm[0], mm[1]) != enc {
			t.Errorf("%v: %#x", mm, EncodeRdev(mm[0], mm[1]))
		}
		if a, b := DecodeRdev(enc); a != mm[0] || b != mm[1] {
			t.Errorf("%#x: %d:%d", enc, a, b)
		}
	}
}
