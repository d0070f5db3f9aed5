//go:build ignore

// extract picks sample metadata blocks from OCFS2 images into a text file, one
// per line: kind, block number, block in base64. How the golden files were made
// (Linux 6.1 and ocfs2-tools 1.8.7):
//
//	mkfs.ocfs2 -b 512 -C 4096 -N 2 -J size=4M -M local --fs-features=metaecc,usrquota,grpquota -L k512 512.img
//	mkfs.ocfs2 -b 1024 -C 4096 -N 2 -J size=8M -M local -L k1k 1024.img
//	mkfs.ocfs2 -b 4096 -C 4096 -N 2 -J size=16M -M local --fs-features=metaecc -L k4k 4096.img
//
// each mounted by a Linux 6.1 kernel that made a directory of hundreds of names
// (ASCII and not), a fragmented file, reflinks of it partly overwritten, and
// files with few, many, and large extended attributes; unmounted; then
//
//	go run extract.go 512.img | gzip -9 >golden-512.txt.gz
//
// Names found in the kernel's own directory index follow as lines
// "hash major minor name" (name in base64), extended attribute names as
// "xhash hash name": only those whose stored hash was read from the volume.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

type image struct {
	f *os.File
	g *ondisk.Geometry
	n map[string]int
}

func main() {
	f, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	g, super, err := ondisk.FindSuper(f)
	if err != nil {
		panic(err)
	}
	im := &image{f, g, map[string]int{}}
	im.emit("super", ondisk.SuperBlkno, super, 1)
	for blkno := uint64(3); blkno < g.TotalBlocks; blkno++ {
		b := im.read(blkno, g.BlockSize)
		im.classify(blkno, b)
	}
}

func (im *image) read(blkno uint64, n int) []byte {
	b := make([]byte, n)
	if _, err := im.f.ReadAt(b, im.g.ByteOfBlock(blkno)); err != nil {
		panic(err)
	}
	return b
}

func (im *image) emit(kind string, blkno uint64, b []byte, limit int) {
	if im.n[kind]++; im.n[kind] > limit {
		return
	}
	fmt.Println(kind, blkno, base64.StdEncoding.EncodeToString(b))
}

func (im *image) classify(blkno uint64, b []byte) {
	own := map[string]int{ondisk.SigDinode: 0x50, ondisk.SigGroup: 0x28, ondisk.SigExtent: 0x18, ondisk.SigXattr: 0x10,
		ondisk.SigDxRoot: 0x18, ondisk.SigDxLeaf: 0x10, ondisk.SigRefcount: 0x10}
	if off, ok := own[string(b[:8])]; ok && binary.LittleEndian.Uint64(b[off:]) != blkno {
		return // an image in a journal
	}
	switch {
	case ondisk.HasSignature(b, ondisk.SigDinode):
		im.dinode(blkno, ondisk.Dinode(b))
	case ondisk.HasSignature(b, ondisk.SigGroup):
		if ondisk.GroupDesc(b).HasList() {
			im.emit("subgroup", blkno, b, 1)
			return
		}
		im.emit("group", blkno, b, 1)
	case ondisk.HasSignature(b, ondisk.SigExtent) && ondisk.ExtentBlock(b).FSGeneration() == im.g.FSGeneration:
		im.emit("extent", blkno, b, 2)
	case ondisk.HasSignature(b, ondisk.SigXattr) && ondisk.XattrBlock(b).FSGeneration() == im.g.FSGeneration:
		im.xattr(blkno, ondisk.XattrBlock(b))
	case ondisk.HasSignature(b, ondisk.SigDxRoot):
		im.emit("dxroot", blkno, b, 2)
		im.hashes(ondisk.DxRoot(b))
	case ondisk.HasSignature(b, ondisk.SigDxLeaf) && ondisk.DxLeaf(b).Entries().NumUsed() > 0:
		im.emit("dxleaf", blkno, b, 1)
	case ondisk.HasSignature(b, ondisk.SigRefcount):
		im.emit(fmt.Sprintf("refcount%d", ondisk.RefcountBlock(b).Flags()), blkno, b, 1)
	case ondisk.DirBlock(b).Trailer().HasSignature() && ondisk.DirBlock(b).Trailer().Blkno() == blkno:
		im.emit("dirblock", blkno, b, 1)
	}
}

func (im *image) dinode(blkno uint64, d ondisk.Dinode) {
	kind := ""
	switch {
	case d.HasFlag(ondisk.InodeLocalAlloc):
		kind = "localalloc"
	case d.HasFlag(ondisk.InodeChain):
		kind = "chain"
	case d.HasFlag(ondisk.InodeDealloc):
		kind = "trunclog"
	case d.HasFlag(ondisk.InodeJournal):
		kind = "journal"
	case d.IsFastSymlink():
		kind = "symlink"
	case d.HasDyn(ondisk.DynInlineData) && d.IsDir():
		kind = "inlinedir"
	case d.HasDyn(ondisk.DynInlineXattr):
		kind = "inlinexattr"
	case d.HasDyn(ondisk.DynIndexedDir):
		kind = "indexeddir"
	case d.IsRegular() && d.Extents().Depth() > 0:
		kind = "file"
	default:
		return
	}
	im.emit(kind, blkno, d, 1)
}

func (im *image) xattr(blkno uint64, x ondisk.XattrBlock) {
	if !x.IsIndexed() {
		im.emit("xattr", blkno, x, 1)
		return
	}
	im.emit("xattrtree", blkno, x, 1)
	l := x.Root().List()
	if l.Depth() != 0 {
		return
	}
	bucket := im.read(l.Rec(0).Blkno(), ondisk.XattrBucketSize)
	im.emit("bucket", l.Rec(0).Blkno(), bucket, 1)
	h := ondisk.XattrHeader(bucket)
	for i := range min(int(h.Count()), 10) {
		e := h.Entry(i)
		fmt.Println("xhash", e.NameHash(), base64.StdEncoding.EncodeToString(h.Name(e)))
	}
}

// hashes prints names of a directory with their hashes, which must be in the
// index that the kernel made, with the block the name is in.
func (im *image) hashes(r ondisk.DxRoot) {
	pairs := map[[3]uint64]int{}
	add := func(l ondisk.DxEntryList) {
		for i := range int(l.NumUsed()) {
			e := l.Rec(i)
			pairs[[3]uint64{uint64(e.MajorHash()), uint64(e.MinorHash()), e.DirentBlk()}]++
		}
	}
	if r.IsInline() {
		add(r.Entries())
	} else if l := r.Extents(); l.Depth() == 0 {
		for i := range int(l.NextFree()) {
			rec := l.Rec(i)
			for b := range uint64(rec.Clusters()) * uint64(im.g.Bpc) {
				add(ondisk.DxLeaf(im.read(rec.Blkno()+b, im.g.BlockSize)).Entries())
			}
		}
	}
	blocks := map[uint64]bool{}
	printed := 0
	for p := range pairs {
		if blocks[p[2]] {
			continue
		}
		blocks[p[2]] = true
		it := ondisk.DirEntries(ondisk.DirBlock(im.read(p[2], im.g.BlockSize)).Area(true))
		for it.Next() {
			e := it.Entry()
			if e.Inode() == 0 {
				continue
			}
			major, minor := im.g.DxHashBytes(e.Name())
			if pairs[[3]uint64{uint64(major), uint64(minor), p[2]}] == 0 {
				panic(fmt.Sprintf("name %q of block %d is not in the kernel's index", e.Name(), p[2]))
			}
			if printed++; printed <= 12 || !ondisk.IsASCII(e.Name()) && printed <= 40 {
				fmt.Println("hash", major, minor, base64.StdEncoding.EncodeToString(e.Name()))
			}
		}
	}
}
