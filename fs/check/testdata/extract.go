//go:build ignore

// extract copies what a check reads of a volume, its metadata, into a file that
// the tests load as a sparse volume: block size u32, block count u64, then
// {block number u64, block} for each block that is not zero, all little-endian.
//
//	go run extract.go volume.img | gzip -9n >kernel-512.vol.gz
//
// kernel-512: mkfs.ocfs2 -b 512 -C 4096 -N 2 -J size=4M -M local
// --fs-features=metaecc,usrquota,grpquota, 200 MiB, populated by a Linux 6.1
// kernel: an indexed directory with 470 names left of 700, a file of 320
// extents in two levels, shared by three inodes and partly copied, attributes
// inline, in a block, in buckets, and large ones, ACLs, links, devices, quota of
// several owners; cleanly unmounted.
//
// kernel-1024-crash: the same without quota, blocks of 1024, power cut while an
// unlinked file and a removed directory were open.
//
// kernel-512-deep: mkfs.ocfs2 -b 512 -C 4096 -N 1 -M local, 120 MiB: a file of
// 1069 extents in three levels after random writes, punches and a truncate, its
// reflink, a directory of 5500 links less a third, a file of 710 attributes, an
// unwritten file partly written.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"os"
	"slices"

	"github.com/ocfuse/ocfuse/fs/check"
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

type recorder struct {
	f    *os.File
	bs   int
	seen map[uint64][]byte
}

func (r *recorder) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.f.ReadAt(p, off)
	if r.bs != 0 {
		for i := 0; i+r.bs <= n; i += r.bs {
			r.seen[uint64(off+int64(i))/uint64(r.bs)] = slices.Clone(p[i : i+r.bs])
		}
	}
	return n, err
}

func main() {
	f, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	g, _, err := ondisk.FindSuper(f)
	if err != nil {
		panic(err)
	}
	r := &recorder{f, g.BlockSize, map[uint64][]byte{}}
	if _, err := check.Run(context.Background(), r, check.Options{}); err != nil {
		panic(err)
	}
	var out bytes.Buffer
	le := binary.LittleEndian
	out.Write(le.AppendUint64(le.AppendUint32(nil, uint32(g.BlockSize)), g.TotalBlocks))
	for _, blkno := range slices.Sorted(maps.Keys(r.seen)) {
		if b := r.seen[blkno]; !bytes.Equal(b, make([]byte, len(b))) {
			out.Write(le.AppendUint64(nil, blkno))
			out.Write(b)
		}
	}
	if _, err := os.Stdout.Write(out.Bytes()); err != nil {
		panic(err)
	}
}
