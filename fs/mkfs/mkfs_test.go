package mkfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// fsckClean runs fsck.ocfs2 on the contents of m: all passes, no problem code.
func fsckClean(t *testing.T, m *blockdev.Mem) {
	t.Helper()
	img := filepath.Join(scratch(t), "vol.img")
	if err := m.WriteFile(img); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("fsck.ocfs2", "-fn", img).CombinedOutput()
	text := string(out)
	if err != nil || !strings.Contains(text, "All passes succeeded") || strings.Contains("\n"+text, "\n[") ||
		strings.Contains(text, "Skipping journal") || strings.Contains(text, " while ") {
		t.Fatalf("fsck.ocfs2: %v\n%s", err, text)
	}
	out, err = exec.Command("debugfs.ocfs2", "-R", "ls -l /lost+found", img).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "drwxr-xr-x   3") {
		t.Errorf("debugfs.ocfs2: %v\n%s", err, out)
	}
}

// fsckCases are volumes that cover what differs from mkfs.ocfs2 (its own are known to
// be clean, and TestSameAsReference compares all of them): directories outside of
// the inode, quota files, and each block size once. A run of fsck.ocfs2 takes a second.
func fsckCases() []refCase {
	cases := []refCase{
		{mb: 300}, {mb: 300, o: Options{Cluster: Cluster{Stack: "pcmk", Name: "hacluster"}}},
	}
	if *full {
		cases = append(cases, refCase{mb: 5000, o: Options{Features: "metaecc", Slots: 2}},
			refCase{mb: 2000, o: Options{BlockSize: 4096, Slots: 64, JournalSize: 4 * mib}})
	}
	for _, bs := range []int{512, 1024, 2048, 4096} {
		o := Options{BlockSize: bs, ClusterSize: 4 * kib, Slots: 2, JournalSize: 4 * mib}
		for i, f := range []string{"noinline-data,metaecc", "", "noinline-data,usrquota,grpquota"} {
			if i > 0 && bs != 512 && bs != 4096 {
				continue
			}
			o.Features = f
			cases = append(cases, refCase{mb: 100, o: o})
		}
		o.Level, o.Features, o.ClusterSize = LevelMaxFeatures, "", 64*kib
		cases = append(cases, refCase{mb: 100, o: o})
	}
	return cases
}

// TestFsckClean formats devices full of garbage.
func TestFsckClean(t *testing.T) {
	for _, c := range fsckCases() {
		t.Run(c.name(), func(t *testing.T) {
			t.Parallel()
			m := blockdev.NewMem(c.mb*mib, blockdev.MemOptions{})
			junk := bytes.Repeat([]byte("junk"), 64*kib)
			for off := int64(0); off < 64*mib; off += int64(len(junk)) {
				if _, err := m.WriteAt(junk, off); err != nil {
					t.Fatal(err)
				}
			}
			if err := Format(context.Background(), m, c.o); err != nil {
				t.Fatal(err)
			}
			if !m.Durable() {
				t.Error("the end of the format is not durable")
			}
			fsckClean(t, m)
			checkIndexes(t, m)
			e, err := Inspect(m)
			if err != nil || e.Kind != "ocfs2" || e.InUse() != "" || e.Unknown != nil {
				t.Errorf("Inspect: %+v, %v", e, err)
			}
		})
	}
}

// checkIndexes looks every name of the system directory up by its index.
func checkIndexes(t *testing.T, m *blockdev.Mem) {
	t.Helper()
	_, g := identity(t, m)
	r := reader{m, g}
	di, err := r.inode(g.SystemDirBlkno)
	if err != nil {
		t.Fatal(err)
	}
	inline := di.HasDyn(ondisk.DynInlineData)
	if indexed := di.HasDyn(ondisk.DynIndexedDir); indexed != (g.HasIndexedDirs() && !inline) {
		t.Fatalf("system directory indexed: %v, inline: %v", indexed, inline)
	} else if !indexed {
		return
	}
	names, err := r.list(g.SystemDirBlkno)
	if err != nil {
		t.Fatal(err)
	}
	root := ondisk.DxRoot(readBlock(t, m, g, di.DxRoot()))
	if err := ondisk.CheckDxRoot(root, di.DxRoot(), g); err != nil {
		t.Fatal(err)
	}
	if int(root.NumEntries()) != len(names) || root.DirBlkno() != di.Blkno() {
		t.Errorf("%d entries of directory %d, want %d of %d", root.NumEntries(), root.DirBlkno(), len(names), di.Blkno())
	}
	for name, inode := range names {
		if got := lookup(t, m, g, root, name); got != inode {
			t.Errorf("%s: inode %d by index, %d by name", name, got, inode)
		}
	}
}

func readBlock(t *testing.T, m *blockdev.Mem, g *ondisk.Geometry, blkno uint64) []byte {
	t.Helper()
	b := make([]byte, g.BlockSize)
	if _, err := m.ReadAt(b, g.ByteOfBlock(blkno)); err != nil {
		t.Fatal(err)
	}
	return b
}

// lookup finds a name by the rules of the format: the record with the largest cpos
// not above the major hash, the leaf by the minor hash.
func lookup(t *testing.T, m *blockdev.Mem, g *ondisk.Geometry, root ondisk.DxRoot, name string) uint64 {
	t.Helper()
	major, minor := g.DxHash(name)
	entries := root.Entries()
	if !root.IsInline() {
		list := root.Extents()
		i := int(list.NextFree()) - 1
		for list.Rec(i).Cpos() > major {
			i--
		}
		blkno := list.Rec(i).Blkno() + uint64(minor&(g.Bpc-1))
		leaf := ondisk.DxLeaf(readBlock(t, m, g, blkno))
		if err := ondisk.CheckDxLeaf(leaf, blkno, g); err != nil {
			t.Fatal(err)
		}
		entries = leaf.Entries()
	}
	for i := range int(entries.NumUsed()) {
		e := entries.Rec(i)
		if e.MajorHash() != major || e.MinorHash() != minor {
			continue
		}
		it := ondisk.DirEntries(ondisk.DirBlock(readBlock(t, m, g, e.DirentBlk())).Area(true))
		for it.Next() {
			if string(it.Entry().Name()) == name {
				return it.Entry().Inode()
			}
		}
	}
	return 0
}

// TestManySlots: index leaves, split by hash, in the smallest blocks.
func TestManySlots(t *testing.T) {
	m := blockdev.NewMem(500*mib, blockdev.MemOptions{})
	slots := 40
	if *full {
		slots = 100
	}
	o := Options{BlockSize: 512, ClusterSize: 4 * kib, Slots: slots, JournalSize: 4 * mib, Level: LevelMaxFeatures}
	if err := Format(context.Background(), m, o); err != nil {
		t.Fatal(err)
	}
	fsckClean(t, m)
	checkIndexes(t, m)
}

// TestDiscontiguousJournal: a journal longer than a cluster group.
func TestDiscontiguousJournal(t *testing.T) {
	m := blockdev.NewMem(600*mib, blockdev.MemOptions{})
	if err := Format(context.Background(), m, Options{BlockSize: 512, ClusterSize: 4 * kib, Slots: 2, JournalSize: 100 * mib}); err != nil {
		t.Fatal(err)
	}
	fsckClean(t, m)
}

// TestHugeVolume: more groups than chains, all backup superblocks, 64-bit blocks.
func TestHugeVolume(t *testing.T) {
	m := blockdev.NewMem(2<<40, blockdev.MemOptions{})
	o := Options{BlockSize: 512, ClusterSize: mib, Journal64: true, Slots: 3}
	if !*full { // fsck.ocfs2 takes time by blocks
		o.BlockSize = 4096
	}
	if err := Format(context.Background(), m, o); err != nil {
		t.Fatal(err)
	}
	_, g := identity(t, m)
	for i, blkno := range backupBlocks(g) {
		b := readBlock(t, m, g, blkno)
		if got := ondisk.Dinode(b).Blkno(); got != blkno || !ondisk.HasSignature(b, ondisk.SigSuper) {
			t.Errorf("backup %d at block %d says %d", i, blkno, got)
		}
	}
	if n := len(backupBlocks(g)); n != ondisk.BackupSuperMax {
		t.Errorf("%d backups", n)
	}
	fsckClean(t, m)
}

// TestPowerCut formats over an old volume and cuts the power at every operation:
// there is the old volume until the first flush, then none, then the whole new one.
func TestPowerCut(t *testing.T) {
	ctx := context.Background()
	m := blockdev.NewMem(20*mib, blockdev.MemOptions{})
	old := Identity{UUID: [16]byte{1}, Generation: 1, DxSeed: [3]uint32{1}, Time: time.Unix(1e9, 0)}
	fresh := Identity{UUID: [16]byte{2}, Generation: 2, DxSeed: [3]uint32{2}, Time: time.Unix(2e9, 0)}
	if err := Format(ctx, m, Options{BlockSize: 1024, Slots: 1, Identity: old}); err != nil {
		t.Fatal(err)
	}
	m.StartRecording()
	if err := Format(ctx, m, Options{BlockSize: 4096, Slots: 2, Identity: fresh, Features: "metaecc"}); err != nil {
		t.Fatal(err)
	}
	want := hash(t, m)
	ops := m.Log().Ops()
	flushed, seen := false, map[string]bool{}
	for n := 0; n <= len(ops); n++ {
		for _, c := range []blockdev.Crash{{Mode: blockdev.KeepAll}, {Mode: blockdev.DropAll}, {Mode: blockdev.Random, Seed: uint64(n)}} {
			cut, err := m.CloneAt(n, c)
			if err != nil {
				t.Fatal(err)
			}
			g, _, err := ondisk.FindSuper(cut)
			switch {
			case err != nil:
				seen["none"] = true
			case g.UUID == old.UUID && !flushed:
				seen["old"] = true
			case g.UUID == fresh.UUID && hash(t, cut) == want:
				seen["new"] = true
			default:
				t.Fatalf("cut before operation %d of %d, %+v: volume %x (whole: %v)", n, len(ops), c, g.UUID, hash(t, cut) == want)
			}
		}
		if n < len(ops) && ops[n].Kind == blockdev.OpFlush {
			flushed = true
		}
	}
	if len(seen) != 3 {
		t.Errorf("seen only %v", seen)
	}
}

// hash stands for the contents of m.
func hash(t *testing.T, m *blockdev.Mem) string {
	t.Helper()
	b := make([]byte, m.Size())
	if _, err := m.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// TestDeviceErrors: an error or an interrupt at any point leaves no volume behind.
func TestDeviceErrors(t *testing.T) {
	boom := errors.New("medium error")
	for _, kind := range []blockdev.OpKind{blockdev.OpWrite, blockdev.OpFUA, blockdev.OpZero, blockdev.OpFlush} {
		for n := 1; ; n++ {
			m := blockdev.NewMem(20*mib, blockdev.MemOptions{})
			m.SetFault(blockdev.FailOnce(kind, n, boom))
			err := Format(context.Background(), m, Options{})
			if err == nil {
				if n == 1 {
					t.Errorf("no %v happened", kind)
				}
				break
			}
			if !errors.Is(err, boom) {
				t.Fatal(err)
			}
			m.SetFault(nil)
			cut := m.Crash(blockdev.Crash{Mode: blockdev.DropAll})
			if _, _, err := ondisk.FindSuper(cut); !errors.Is(err, ondisk.ErrNotOCFS2) {
				t.Fatalf("%v %d failed, yet there is a volume: %v", kind, n, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	stages := 0
	m := blockdev.NewMem(20*mib, blockdev.MemOptions{})
	err := Format(ctx, m, Options{Progress: func(Progress) {
		if stages++; stages == 3 {
			cancel()
		}
	}})
	if _, _, ferr := ondisk.FindSuper(m); !errors.Is(err, context.Canceled) || !errors.Is(ferr, ondisk.ErrNotOCFS2) {
		t.Errorf("interrupted: %v, volume: %v", err, ferr)
	}
	m.SetReadOnly(true)
	if err := Format(context.Background(), m, Options{}); !errors.Is(err, blockdev.ErrReadOnly) {
		t.Errorf("read-only device: %v", err)
	}
}

// TestInterruptedDiscard: the old superblock lived on while what it describes was
// discarded.
func TestInterruptedDiscard(t *testing.T) {
	boom := errors.New("medium error")
	m := blockdev.NewMem(20*mib, blockdev.MemOptions{})
	if err := Format(context.Background(), m, Options{}); err != nil {
		t.Fatal(err)
	}
	m.SetFault(blockdev.FailNth(blockdev.OpDiscard, 1, boom))
	if err := Format(context.Background(), m, Options{Discard: true}); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	cut := m.Crash(blockdev.Crash{Mode: blockdev.DropAll})
	if _, _, err := ondisk.FindSuper(cut); !errors.Is(err, ondisk.ErrNotOCFS2) {
		t.Errorf("a discard failed, yet there is a volume: %v", err)
	}
}

// TestRefusals: what cannot be made is refused before anything is written.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		mb   int64
		o    Options
		want error
		text string
	}{
		{100, Options{BlockSize: 3000}, ErrInvalid, "block size 3000"},
		{100, Options{ClusterSize: 2048}, ErrInvalid, "cluster size 2048"},
		{100, Options{ClusterSize: 2 * mib}, ErrInvalid, "cluster size"},
		{100, Options{Slots: 256}, ErrInvalid, "256 node slots"},
		{100, Options{Slots: -1}, ErrInvalid, "-1 node slots"},
		{100, Options{Label: strings.Repeat("x", 64)}, ErrInvalid, "63 bytes"},
		{100, Options{Type: "fast"}, ErrInvalid, "mail, datafiles or vmstore"},
		{100, Options{Level: "all"}, ErrInvalid, "max-compat"},
		{100, Options{Features: "sparkle"}, ErrInvalid, "sparkle"},
		{100, Options{Local: true, Clustered: true}, ErrInvalid, "not both"},
		{100, Options{Clustered: true, Features: "local"}, ErrInvalid, "not both"},
		{100, Options{Local: true, Cluster: Cluster{Stack: "o2cb", Name: "x"}}, ErrInvalid, "local volume"},
		{100, Options{Cluster: Cluster{Name: "x"}}, ErrInvalid, "stack missing"},
		{100, Options{Cluster: Cluster{Stack: "o2cb"}}, ErrInvalid, "name missing"},
		{100, Options{Cluster: Cluster{Stack: "dlm", Name: "x"}}, ErrInvalid, "use o2cb, pcmk or cman"},
		{100, Options{Cluster: Cluster{Stack: "o2cb", Name: "a-b"}}, ErrInvalid, "letters and digits"},
		{100, Options{Cluster: Cluster{Stack: "pcmk", Name: "a b"}}, ErrInvalid, "printable"},
		{100, Options{Cluster: Cluster{Stack: "pcmk", Name: strings.Repeat("x", 17)}}, ErrInvalid, "16 characters"},
		{100, Options{Cluster: Cluster{Stack: "pcmk", Name: "x", GlobalHeartbeat: true}}, ErrInvalid, "o2cb stack only"},
		{100, Options{Features: "clusterinfo"}, ErrInvalid, "clusterinfo needs"},
		{100, Options{Owner: Owner{UID: 7}, Features: "usrquota"}, ErrInvalid, "owned by 7:0"},
		{100, Options{SizeBlocks: 1 << 40}, ErrInvalid, "the device has"},
		{100, Options{JournalSize: mib}, ErrInvalid, "at least 4194304"},
		{100, Options{JournalSize: 60 * mib}, ErrTooSmall, "do not fit"},
		{100, Options{JournalSize: 4 * mib, ClusterSize: mib, Slots: 1}, ErrInvalid, "at least 9437184"},
		{8, Options{ClusterSize: mib, Slots: 4}, ErrTooSmall, "do not fit"},
		{1, Options{BlockSize: 4096}, ErrTooSmall, "a journal needs 2048"},
		{0, Options{}, ErrTooSmall, "a journal needs 2048"},
		{100, Options{Slots: 100}, ErrTooSmall, "no room for"},
		{1000, Options{Type: TypeDatafiles}, ErrTooSmall, "2 GiB"},
		{600, Options{BlockSize: 512, ClusterSize: 4 * kib, Slots: 1, JournalSize: 400 * mib}, ErrInvalid, "extents"},
		{4 << 20, Options{BlockSize: 512}, ErrInvalid, "block64"},
		{16 << 20, Options{ClusterSize: 4 * kib}, ErrInvalid, "larger clusters"},
		{6000, Options{BlockSize: 512, ClusterSize: mib, Slots: 255, JournalSize: 9 * mib}, ErrInvalid, "do not fit one group"},
	} {
		m := blockdev.NewMem(c.mb*mib, blockdev.MemOptions{})
		err := Format(context.Background(), m, c.o)
		if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.text) {
			t.Errorf("%dM %+v: %v", c.mb, c.o, err)
		}
		if s := m.Stats(); s.Writes+s.FUAs+s.Zeroes != 0 {
			t.Errorf("%dM %+v: something was written: %+v", c.mb, c.o, s)
		}
	}
	if _, err := NewPlan(100*mib, 4096, Options{BlockSize: 1024}); !errors.Is(err, ErrInvalid) {
		t.Errorf("blocks below the sector size: %v", err)
	}
	if p, err := NewPlan(100*mib, 4096, Options{}); err != nil || p.BlockSize != 4096 {
		t.Errorf("default blocks on large sectors: %+v, %v", p, err)
	}
}

// TestIdentity: zero fields are chosen anew each time, given ones are kept.
func TestIdentity(t *testing.T) {
	a, b := Identity{}.Fill(), Identity{}.Fill()
	if a.UUID == b.UUID || a.Generation == 0 || a.DxSeed == b.DxSeed || a.Time.IsZero() {
		t.Errorf("%+v, %+v", a, b)
	}
	if a.UUID[6]>>4 != 4 || a.UUID[8]>>6 != 2 {
		t.Errorf("not a version 4 uuid: %x", a.UUID)
	}
	if got := b.Fill(); got != b {
		t.Errorf("%+v became %+v", b, got)
	}
}

// TestRootOwner: a volume that an ordinary user makes and mounts can be used by them.
func TestRootOwner(t *testing.T) {
	m := blockdev.NewMem(100*mib, blockdev.MemOptions{})
	if err := Format(context.Background(), m, Options{Owner: Owner{1000, 100}}); err != nil {
		t.Fatal(err)
	}
	g, _, err := ondisk.FindSuper(m)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, g.BlockSize)
	if _, err := m.ReadAt(b, g.ByteOfBlock(g.RootBlkno)); err != nil {
		t.Fatal(err)
	}
	if d := ondisk.Dinode(b); d.UID() != 1000 || d.GID() != 100 {
		t.Errorf("the root directory belongs to %d:%d", d.UID(), d.GID())
	}
	fsckClean(t, m)
}

func BenchmarkFormatSmall(b *testing.B) {
	for range b.N {
		m := blockdev.NewMem(64*mib, blockdev.MemOptions{})
		if err := Format(context.Background(), m, Options{Slots: 4}); err != nil {
			b.Fatal(err)
		}
	}
}
