package ondisk

import (
	"bytes"
	"testing"
)

// exercise reads everything a caller may index by the counts of a block that
// its validator accepted. It must not panic.
func exercise(kind string, b []byte) {
	switch kind {
	case "dirblock":
		exerciseDir(DirBlock(b).Area(true))
	case "bucket":
		exerciseXattrs(XattrHeader(b))
	case "group", "subgroup":
		g := GroupDesc(b)
		for bit := range int(g.Bits()) {
			_ = g.Bitmap()[bit/8]
			if blk, ok := g.BlockOfBit(bit, 8); ok {
				g.BitOfBlock(blk, 8)
			}
		}
	case "extent":
		exerciseList(ExtentBlock(b).List())
	case "xattr", "xattrtree":
		if x := XattrBlock(b); x.IsIndexed() {
			exerciseList(x.Root().List())
		} else {
			exerciseXattrs(x.Header())
		}
	case "dxroot":
		if r := DxRoot(b); r.IsInline() {
			exerciseEntries(r.Entries())
		} else {
			exerciseList(r.Extents())
		}
	case "dxleaf":
		exerciseEntries(DxLeaf(b).Entries())
	case "refcount0", "refcount1", "refcount2":
		r := RefcountBlock(b)
		if r.IsTree() {
			exerciseList(r.Extents())
			return
		}
		for i := range int(r.Records().Count()) {
			r.Records().Rec(i).SetCpos(r.Records().Rec(i).Cpos())
		}
	default:
		exerciseDinode(Dinode(b))
	}
}

func exerciseDinode(d Dinode) {
	if d.HasDyn(DynInlineXattr) {
		exerciseXattrs(d.XattrArea())
	}
	switch {
	case d.HasFlag(InodeSuperBlock):
		_ = d.Super().Label() + d.Super().ClusterName()
	case d.HasFlag(InodeLocalAlloc):
		for bit := range int(d.Total()) {
			_ = d.LocalAlloc().Bitmap()[bit/8]
		}
	case d.HasFlag(InodeChain):
		for i := range int(d.Chains().Count()) {
			d.Chains().Rec(i).SetFree(d.Chains().Rec(i).Free())
		}
	case d.HasFlag(InodeDealloc):
		for i := range int(d.TruncLog().Count()) {
			d.TruncLog().Rec(i).SetStart(d.TruncLog().Rec(i).Start())
		}
	case d.HasDyn(DynInlineData):
		_ = d.Inline().Data()[:d.Size()]
		exerciseDir(d.Inline().Data())
	case d.IsFastSymlink():
		d.FastSymlink()
	default:
		exerciseList(d.Extents())
	}
}

func exerciseList(l ExtentList) {
	for i := range int(l.Count()) {
		r := l.Rec(i)
		r.SetLeaf(r.Cpos(), r.Clusters(), r.Blkno(), r.Flags())
	}
	_ = l.Recs(0, int(l.Count()))
}

func exerciseEntries(l DxEntryList) {
	for i := range int(l.Count()) {
		e := l.Rec(i)
		e.Set(e.MajorHash(), e.MinorHash(), e.DirentBlk())
	}
	_ = l.Recs(0, int(l.Count()))
}

func exerciseXattrs(h XattrHeader) {
	for i := range int(h.Count()) {
		e := h.Entry(i)
		if len(h.Name(e)) != int(e.NameLen()) {
			panic("name cut")
		}
		if e.IsLocal() {
			_ = h.Value(e)[:e.ValueSize()]
			continue
		}
		h.ValueRoot(e).Clusters()
		for j := range int(h.ValueRoot(e).List().Count()) {
			h.ValueRoot(e).List().Rec(j).Blkno()
		}
	}
}

func exerciseDir(area []byte) {
	it := DirEntries(area)
	n := 0
	for it.Next() {
		e := it.Entry()
		if len(e.Name()) != int(e.NameLen()) || e.Used() > len(e) {
			panic("entry beyond its rec_len")
		}
		if n++; n > len(area)/MinDirRec {
			panic("iteration does not end")
		}
	}
	LargestHole(area)
}

// FuzzValidators mutates real blocks: what a validator accepts must be safe to
// read, and nothing panics. The block's head is repaired so that mutations reach
// the body.
func FuzzValidators(f *testing.F) {
	gold := loadGolden(f, 512)
	for i := range gold.blocks {
		f.Add(uint8(i), uint16(0xC0), []byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})
		f.Add(uint8(i), uint16(0x2C), []byte{0xFF, 0x0F})
		f.Add(uint8(i), uint16(0x76), []byte{0x0F})
	}
	f.Fuzz(func(_ *testing.T, which uint8, off uint16, patch []byte) {
		gb := gold.blocks[int(which)%len(gold.blocks)]
		b := append([]byte(nil), gb.data...)
		copy(b[int(off)%len(b):], patch)
		if gb.check(gold.g, b) == nil {
			exercise(gb.kind, b)
		}
	})
}

// FuzzDirEntries walks arbitrary bytes.
func FuzzDirEntries(f *testing.F) {
	gold := loadGolden(f, 512)
	f.Add([]byte(DirBlock(gold.block(f, "dirblock").data).Area(true)))
	f.Add([]byte{})
	f.Add(make([]byte, 64))
	f.Fuzz(func(t *testing.T, area []byte) {
		exerciseDir(area)
		if it := DirEntries(area); CheckDirArea(area, 1) == nil {
			sum := 0
			for it.Next() {
				sum += int(it.Entry().RecLen())
			}
			if sum != len(area) {
				t.Errorf("entries tile %d of %d bytes", sum, len(area))
			}
		}
	})
}

// FuzzParseSuper feeds arbitrary superblocks.
func FuzzParseSuper(f *testing.F) {
	for _, bs := range goldenSizes {
		f.Add(loadGolden(f, bs).block(f, "super").data)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := ParseSuper(b, len(b))
		if err == nil && (g.BlockSize != len(b) || g.TotalBlocks == 0 || g.GroupCount() == 0 || g.String() == "") {
			t.Errorf("accepted superblock with geometry %+v", g)
		}
		_, _, _ = FindSuper(bytes.NewReader(b))
	})
}

// FuzzParseLockName: what is accepted prints back to the same name.
func FuzzParseLockName(f *testing.F) {
	f.Add([]byte("M000000000000000000522400000000"))
	n := DentryLockName(5, 0x5224)
	f.Add(n[:])
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := ParseLockName(b)
		if err != nil {
			return
		}
		back := NewLockName(info.Type, info.Blkno, info.Generation)
		if info.Type == LockDentry {
			back = DentryLockName(info.Parent, info.Blkno)
		}
		if !bytes.Equal(back[:], b) || back.String() == "" {
			t.Errorf("%q parsed to %+v", b, info)
		}
	})
}
