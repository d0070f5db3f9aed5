package mkfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// full runs every case; otherwise those that take long are left out, and of the
// combinations of features and block sizes every third is taken: each feature and each
// block size several times.
var full = flag.Bool("full", false, "compare all volumes with mkfs.ocfs2 and fsck.ocfs2")

// refCase is one volume: our options, and the same for mkfs.ocfs2.
type refCase struct {
	mb   int64
	o    Options
	slow bool // only with -full
}

// args are the flags of mkfs.ocfs2 for the options.
func (c refCase) args() []string {
	o := c.o
	var a []string
	add := func(use bool, flag ...string) {
		if use {
			a = append(a, flag...)
		}
	}
	add(o.BlockSize != 0, "-b", strconv.Itoa(o.BlockSize))
	add(o.ClusterSize != 0, "-C", strconv.Itoa(o.ClusterSize))
	add(o.Slots != 0, "-N", strconv.Itoa(o.Slots))
	add(o.Label != "", "-L", o.Label)
	add(o.Type != "", "-T", string(o.Type))
	add(o.Level != "", "--fs-feature-level="+string(o.Level))
	add(o.Features != "", "--fs-features="+o.Features)
	add(o.Local, "-M", "local")
	add(o.Clustered, "-M", "cluster")
	add(o.Cluster.Stack != "", "--cluster-stack="+o.Cluster.Stack, "--cluster-name="+o.Cluster.Name)
	add(o.Cluster.GlobalHeartbeat, "--global-heartbeat")
	var j []string
	if o.JournalSize != 0 {
		j = append(j, "size="+strconv.FormatInt(o.JournalSize, 10))
	}
	if o.Journal64 {
		j = append(j, "block64")
	}
	add(j != nil, "-J", strings.Join(j, ","))
	return a
}

// scratch is a folder for images that outside programs make or read: in memory, where
// their many fsyncs cost nothing, if that takes the O_DIRECT they ask for.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "mkfs-test")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	f, err := os.OpenFile(filepath.Join(dir, "probe"), os.O_CREATE|os.O_RDWR|syscall.O_DIRECT, 0o600)
	if err != nil {
		return t.TempDir()
	}
	f.Close()
	return dir
}

// name is the subtest's name.
func (c refCase) name() string {
	return fmt.Sprintf("%dM %s", c.mb, strings.Join(c.args(), " "))
}

// reference runs mkfs.ocfs2 and returns what it made.
func (c refCase) reference(t *testing.T) *blockdev.Mem {
	t.Helper()
	img := filepath.Join(scratch(t), "ref.img")
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, c.mb*mib); err != nil {
		t.Fatal(err)
	}
	args := append(c.args(), img)
	if c.o.SizeBlocks != 0 {
		args = append(args, strconv.FormatUint(c.o.SizeBlocks, 10))
	}
	out, err := exec.Command("mkfs.ocfs2", append([]string{"-x", "-F"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("mkfs.ocfs2 %v: %v\n%s", args, err, out)
	}
	m, err := blockdev.LoadMemFile(img)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// refCases covers block and cluster sizes, features, slots, journals and types.
func refCases() []refCase {
	cases := []refCase{
		{mb: 300},
		{mb: 100}, {mb: 600}, {mb: 1100, slow: true},
		{mb: 300, o: Options{Local: true, Label: "a label"}},
		{mb: 300, o: Options{Cluster: Cluster{Stack: "o2cb", Name: "ocfuse"}}},
		{mb: 300, o: Options{Cluster: Cluster{Stack: "o2cb", Name: "sixteencharacter", GlobalHeartbeat: true}}},
		{mb: 300, o: Options{Cluster: Cluster{Stack: "pcmk", Name: "my-cluster"}}},
		{mb: 300, o: Options{Cluster: Cluster{Stack: "pcmk", Name: "hacluster"}, Features: "clusterinfo"}},
		{mb: 300, o: Options{Journal64: true, JournalSize: 5*mib + 4096}},
		{mb: 300, o: Options{SizeBlocks: 50000, BlockSize: 1024, ClusterSize: 32768}},
		{mb: 300, o: Options{SizeBlocks: 30000}},
		{mb: 700, o: Options{Type: TypeMail}, slow: true},
		{mb: 3000, o: Options{Type: TypeDatafiles}, slow: true},
		{mb: 3000, o: Options{Type: TypeVMStore, Slots: 3}, slow: true},
		{mb: 5000, o: Options{Features: "metaecc", Slots: 2}, slow: true},
		{mb: 17000, o: Options{Slots: 2, Level: LevelMaxFeatures}, slow: true},
		{mb: 1100, o: Options{BlockSize: 512, Slots: 2, JournalSize: 30 * mib}, slow: true},
		{mb: 2000, o: Options{BlockSize: 4096, Slots: 255, JournalSize: 4 * mib}, slow: true},
		{mb: 2000, o: Options{BlockSize: 1024, Slots: 100, JournalSize: 4 * mib}, slow: true},
		{mb: 600, o: Options{BlockSize: 512, Slots: 64, JournalSize: 4 * mib}, slow: true},
	}
	singles := len(cases)
	for _, bs := range []int{512, 1024, 2048, 4096} {
		for _, cs := range []int{4 * kib, 8 * kib, 64 * kib, mib} {
			cases = append(cases, refCase{mb: 400, o: Options{BlockSize: bs, ClusterSize: cs, Slots: 2, Local: true}})
		}
		for _, f := range []string{"metaecc", "noinline-data", "noinline-data,metaecc", "noindexed-dirs",
			"noindexed-dirs,noinline-data", "noindexed-dirs,noinline-data,metaecc", "noxattr,noindexed-dirs",
			"noextended-slotmap", "nodiscontig-bg", "nosparse", "nobackup-super,norefcount,noappend-dio",
			"usrquota", "usrquota,grpquota,metaecc,noinline-data"} {
			cases = append(cases, refCase{mb: 200, o: Options{BlockSize: bs, ClusterSize: 4 * kib, Slots: 3, Features: f, JournalSize: 4 * mib}})
		}
		for _, l := range []Level{LevelMaxCompat, LevelMaxFeatures} {
			cases = append(cases, refCase{mb: 200, o: Options{BlockSize: bs, ClusterSize: 16 * kib, Level: l, Slots: 1}})
		}
	}
	if *full {
		return cases
	}
	var sample []refCase
	for i, c := range cases {
		if !c.slow && (i < singles || i%3 == 0) {
			sample = append(sample, c)
		}
	}
	return sample
}

// TestSameAsReference compares with mkfs.ocfs2, block by block.
func TestSameAsReference(t *testing.T) {
	for _, c := range refCases() {
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			ref := c.reference(t)
			ours := c.likeReference(t, ref)
			compare(t, ref, ours)
		})
	}
}

// identity reads what mkfs.ocfs2 chose.
func identity(t *testing.T, ref *blockdev.Mem) (Identity, *ondisk.Geometry) {
	t.Helper()
	g, block, err := ondisk.FindSuper(ref)
	if err != nil {
		t.Fatal(err)
	}
	return Identity{UUID: g.UUID, Generation: g.FSGeneration, DxSeed: g.DxSeed,
		Time: time.Unix(int64(ondisk.Dinode(block).Super().LastCheck()), 0)}, g
}

// likeReference lays out what mkfs.ocfs2 should have made, with the three facts that
// it gets wrong (see doc.go), and without the index that it leaves out.
func (c refCase) likeReference(t *testing.T, ref *blockdev.Mem) *blockdev.Mem {
	t.Helper()
	id, _ := identity(t, ref)
	p, err := NewPlan(ref.Size(), 512, c.o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := layout(p, id)
	if err != nil {
		t.Fatal(err)
	}
	b.finish()
	if !b.lost.inline && b.lost.trailers() {
		b.lost.di.SetSize(uint64(b.g.BlockSize - ondisk.DirTrailerSize))
	}
	if b.root.di.DxRoot() != 0 {
		trailer := ondisk.DirBlock(b.root.blocks[0]).Trailer()
		trailer.SetFreeRecLen(trailer.FreeRecLen() + uint16(ondisk.DirRecLen(len("lost+found"))))
	}
	b.unquota()
	for _, di := range b.inodes[ondisk.SysJournal] {
		binary.BigEndian.PutUint32(b.blocks[di.Extents().Rec(0).Blkno()].data[0x1C:], 1) // s_start
	}
	m := blockdev.NewMem(ref.Size(), blockdev.MemOptions{})
	if err := b.write(context.Background(), m, Options{}); err != nil {
		t.Fatal(err)
	}
	return m
}

// unquota takes lost+found out of the quota files, and repeats the reference's
// mistake in their headers.
func (b *builder) unquota() {
	for _, kind := range []ondisk.SystemFile{ondisk.SysQuotaUser, ondisk.SysQuotaGroup} {
		for _, di := range b.inodes[kind] {
			q := &quotaFile{b: b, di: di}
			head := ondisk.QuotaHeader(b.blocks[q.block(0)].data)
			entry := b.blocks[q.block(head.FreeEntry())].data[dqHeader:]
			le.PutUint64(entry[0x18:], 1)
			le.PutUint64(entry[0x30:], uint64(b.root.di.Clusters())<<b.g.ClusterBits)
			if b.root.di.DxRoot() != 0 {
				head.SetBlocks(2)
				head.SetFreeEntry(0)
			}
		}
	}
}

// compare reports the blocks that differ, times and checks aside.
func compare(t *testing.T, ref, ours *blockdev.Mem) {
	t.Helper()
	_, g := identity(t, ref)
	const chunk = mib
	a, b := make([]byte, chunk), make([]byte, chunk)
	found := 0
	for off := int64(0); off < ref.Size() && found < 5; off += chunk {
		n := min(chunk, ref.Size()-off)
		if _, err := ref.ReadAt(a[:n], off); err != nil {
			t.Fatal(err)
		}
		if _, err := ours.ReadAt(b[:n], off); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(a[:n], b[:n]) {
			continue
		}
		for i := int64(0); i+int64(g.BlockSize) <= n; i += int64(g.BlockSize) {
			x, y := a[i:i+int64(g.BlockSize)], b[i:i+int64(g.BlockSize)]
			normalize(x, g)
			normalize(y, g)
			if !bytes.Equal(x, y) {
				found++
				t.Errorf("block %d differs:\n%s", (off+i)/int64(g.BlockSize), diff(x, y))
			}
		}
	}
}

// normalize clears what may differ: times, and checks, which cover the times.
func normalize(b []byte, g *ondisk.Geometry) {
	off, ok := ondisk.CheckOffset(string(b[:8]))
	switch {
	case ondisk.HasSignature(b, ondisk.SigSuper):
		clear(b[0xC0+0x10 : 0xC0+0x18]) // s_lastcheck
		name := b[0xC0+0xA8 : 0xC0+0xB8]
		if i := bytes.IndexByte(name, 0); i >= 0 {
			clear(name[i:]) // mkfs.ocfs2 copies 16 bytes of a shorter string
		}
		fallthrough
	case ondisk.HasSignature(b, ondisk.SigDinode):
		clear(b[0x30:0x48])
	}
	if magic := ondisk.QuotaHeader(b).Magic(); magic>>8 == ondisk.QuotaGlobalMagic[0]>>8 {
		clear(b[0x20:ondisk.CheckOffTail(len(b))]) // again memory of mkfs.ocfs2
		off, ok = ondisk.CheckOffTail(len(b)), true
	}
	if magic := ondisk.QuotaHeader(b).Magic(); !ok && (normalizeDir(b, g) || magic == 0) {
		off, ok = ondisk.CheckOffTail(len(b)), true
	}
	if ok && g.HasMetaECC() {
		clear(b[off : off+8])
	}
}

// normalizeDir clears the padding behind names in the first block of a directory:
// mkfs.ocfs2 leaves memory of its own there.
func normalizeDir(b []byte, g *ondisk.Geometry) bool {
	if b[8] != ondisk.DotRecLen || b[10] != 1 || b[12] != '.' {
		return false
	}
	it := ondisk.DirEntries(ondisk.DirBlock(b).Area(g.HasMetaECC() || g.HasIndexedDirs()))
	for it.Next() {
		e := it.Entry()
		clear(e[12+len(e.Name()):])
	}
	return it.Err() == nil
}

// diff prints the words in which two blocks differ.
func diff(a, b []byte) string {
	var s strings.Builder
	n := 0
	for i := 0; i < len(a); i += 8 {
		if bytes.Equal(a[i:i+8], b[i:i+8]) {
			continue
		}
		if n++; n > 12 {
			s.WriteString("  ...\n")
			break
		}
		fmt.Fprintf(&s, "  %03x: reference % x  ours % x\n", i, a[i:i+8], b[i:i+8])
	}
	return fmt.Sprintf("  (%q)\n%s", a[:8], s.String())
}
