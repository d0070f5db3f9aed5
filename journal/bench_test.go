package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// nullDev is a device without cost, so that the journal's own shows.
type nullDev struct{ super []byte }

func (d nullDev) ReadAt(p []byte, off int64) (int, error)  { return copy(p, d.super), nil }
func (d nullDev) WriteAt(p []byte, off int64) (int, error) { return len(p), nil }
func (d nullDev) WriteFUA(p []byte, off int64) error       { return nil }
func (d nullDev) Flush() error                             { return nil }

// benchVolume has 4 KiB blocks and a log of 64 MiB.
var benchVolume = testVolume{bs: 4096, logLen: 16384, blocks: 16384 + 16 + 4096}

func benchJournal(b *testing.B, dev Device) *Journal {
	b.Helper()
	j, err := Open(benchVolume.config(dev))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = j.Close(context.Background()) })
	return j
}

func benchNull(b *testing.B) *Journal {
	b.Helper()
	img := benchVolume.format(b)
	off := int(benchVolume.extents()[0].Blkno) * benchVolume.bs
	return benchJournal(b, nullDev{super: img[off : off+benchVolume.bs]})
}

// BenchmarkHandle: Start, Write of 3 blocks that are in the transaction, Stop.
func BenchmarkHandle(b *testing.B) {
	j, ctx := benchNull(b), context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		bs := benchVolume.newBlocks(3, new(Owner))
		for pb.Next() {
			h, err := j.Start(ctx, 3)
			if err != nil {
				b.Fatal(err)
			}
			for _, blk := range bs {
				if err := h.Write(blk); err != nil {
					b.Fatal(err)
				}
			}
			if err := h.Stop(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkHandleNewBlock: the same with blocks that are new to the transaction,
// commits and checkpoints included.
func BenchmarkHandleNewBlock(b *testing.B) {
	j, ctx := benchNull(b), context.Background()
	bs := benchVolume.newBlocks(3000, new(Owner))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		h, err := j.Start(ctx, 1)
		if err != nil {
			b.Fatal(err)
		}
		if err := h.Write(bs[i%len(bs)]); err != nil {
			b.Fatal(err)
		}
		if err := h.Stop(); err != nil {
			b.Fatal(err)
		}
		if i%len(bs) == len(bs)-1 {
			if err := j.CommitRunning(ctx); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// benchCommit commits transactions of n blocks; full empties the log each time.
func benchCommit(b *testing.B, j *Journal, n int, full bool) {
	ctx := context.Background()
	bs := benchVolume.newBlocks(n, new(Owner))
	b.ReportAllocs()
	b.SetBytes(int64(n * benchVolume.bs))
	for b.Loop() {
		h, err := j.Start(ctx, n)
		if err != nil {
			b.Fatal(err)
		}
		for _, blk := range bs {
			if err := h.Write(blk); err != nil {
				b.Fatal(err)
			}
		}
		_ = h.Stop()
		if full {
			err = j.FullFlush(ctx)
		} else {
			err = j.CommitRunning(ctx)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("memory/%d", n), func(b *testing.B) { benchCommit(b, benchNull(b), n, false) })
		b.Run(fmt.Sprintf("file/%d", n), func(b *testing.B) { benchCommit(b, benchFile(b), n, false) })
	}
}

func BenchmarkFullFlush(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("memory/%d", n), func(b *testing.B) { benchCommit(b, benchNull(b), n, true) })
		b.Run(fmt.Sprintf("file/%d", n), func(b *testing.B) { benchCommit(b, benchFile(b), n, true) })
	}
}

// benchFile is a journal on a file of the temporary directory.
func benchFile(b *testing.B) *Journal {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "volume.img"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	if _, err := f.WriteAt(benchVolume.format(b), 0); err != nil {
		b.Fatal(err)
	}
	return benchJournal(b, fileDev{f})
}
