package badinput

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// spoilt copies a volume and changes it with fn, which is given all of its bytes
// and the offset of the journal inode of slot 0.
func (b *bench) spoilt(image, name string, fn func(all []byte, g *ondisk.Geometry, inode int)) string {
	b.t.Helper()
	all, err := os.ReadFile(image)
	if err != nil {
		b.t.Fatal(err)
	}
	g, _, err := ondisk.FindSuper(bytes.NewReader(all))
	if err != nil {
		b.t.Fatal(err)
	}
	at := -1
	for off := 3 * g.BlockSize; off < len(all) && at < 0; off += g.BlockSize {
		if d := ondisk.Dinode(all[off : off+g.BlockSize]); ondisk.HasSignature(d, ondisk.SigDinode) && d.HasFlag(ondisk.InodeJournal) {
			at = off
		}
	}
	if at < 0 {
		b.t.Fatal("the volume has no journal")
	}
	fn(all, g, at)
	out := b.path(name)
	if err := os.WriteFile(out, all, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return out
}

// TestBadJournal mounts volumes whose journal is not there, or cannot be one.
func TestBadJournal(t *testing.T) {
	b := newBench(t)
	img, mnt := b.volume("v.img", 64<<20, "-M", "local"), b.mkdir("mnt")
	log := func(all []byte, g *ondisk.Geometry, inode int) []byte {
		blk := ondisk.Dinode(all[inode : inode+g.BlockSize]).Extents().Rec(0).Blkno()
		return all[g.ByteOfBlock(blk):]
	}
	for name, c := range map[string]struct {
		fn    func(all []byte, g *ondisk.Geometry, inode int)
		words []string
	}{
		"no-name": {func(all []byte, _ *ondisk.Geometry, _ int) {
			copy(all[bytes.Index(all, []byte("journal:0000")):], "jOurnal:0000")
		}, []string{"journal:0000", "no such name", "fsck.ocfs2"}},
		"no-inode": {func(all []byte, g *ondisk.Geometry, inode int) { clear(all[inode : inode+g.BlockSize]) },
			[]string{"journal of slot 0", "corrupt dinode", "signature", "run fsck"}},
		"freed": {func(all []byte, g *ondisk.Geometry, inode int) {
			ondisk.Dinode(all[inode : inode+g.BlockSize]).SetFlags(0)
		}, []string{"journal", "slot 0", "fsck"}},
		"small": {func(all []byte, g *ondisk.Geometry, inode int) {
			ondisk.Dinode(all[inode : inode+g.BlockSize]).SetSize(1 << 20)
		}, []string{"journal of slot 0", "1048576 bytes", "4194304", "fsck.ocfs2"}},
		"short": {func(all []byte, g *ondisk.Geometry, inode int) {
			ondisk.Dinode(all[inode : inode+g.BlockSize]).Extents().Rec(0).SetClusters(3)
		}, []string{"journal of slot 0", "claims", "the journal file has 12"}},
		"hole": {func(all []byte, g *ondisk.Geometry, inode int) {
			ondisk.Dinode(all[inode : inode+g.BlockSize]).Extents().Rec(0).SetCpos(7)
		}, []string{"corrupt journal", "hole", "cluster 7"}},
		"no-log": {func(all []byte, g *ondisk.Geometry, inode int) { clear(log(all, g, inode)[:1024]) },
			[]string{"journal of slot 0", "no journal superblock", "fsck.ocfs2"}},
		"block-size": {func(all []byte, g *ondisk.Geometry, inode int) { log(all, g, inode)[0x0D] = 7 },
			[]string{"journal of slot 0", "block size"}},
		"first": {func(all []byte, g *ondisk.Geometry, inode int) { copy(log(all, g, inode)[0x14:], "\xFF\xFF\xFF\xFF") },
			[]string{"journal of slot 0", "first log block"}},
		"feature": {func(all []byte, g *ondisk.Geometry, inode int) { log(all, g, inode)[0x2B] = 0x20 },
			[]string{"journal of slot 0", "FAST_COMMIT"}},
	} {
		bad := b.spoilt(img, name, c.fn)
		b.refused(failed, append([]string{name}, c.words...), "mount", "--foreground", bad, mnt)
		b.refused(failed, c.words, "mount", "-o", "ro", bad, mnt)
	}
	b.must("mount", img, mnt)
	b.must("umount", mnt)
	b.fsck(img)
}

// TestOrdinaryLimits uses a volume as programs with bugs do.
func TestOrdinaryLimits(t *testing.T) {
	b := newBench(t)
	img, mnt := b.volume("v.img", 64<<20, "-M", "local"), b.mkdir("mnt")
	b.mount(img, mnt)
	long := filepath.Join(mnt, string(bytes.Repeat([]byte("n"), 256)))
	target := string(bytes.Repeat([]byte("t"), 4096))
	if err := os.WriteFile(filepath.Join(mnt, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"create":  os.WriteFile(long, nil, 0o600),
		"mkdir":   os.Mkdir(long, 0o700),
		"symlink": os.Symlink("x", long),
		"link":    os.Link(filepath.Join(mnt, "f"), long),
		"rename":  os.Rename(filepath.Join(mnt, "f"), long),
		"stat":    func() error { _, err := os.Lstat(long); return err }(),
		"remove":  syscall.Unlink(long),
		"rmdir":   syscall.Rmdir(long),
		"mknod":   syscall.Mknod(long, syscall.S_IFIFO|0o600, 0),
		"target":  os.Symlink(target, filepath.Join(mnt, "s")),
	} {
		if !errors.Is(err, syscall.ENAMETOOLONG) {
			t.Errorf("%s with too long a name: %v, want ENAMETOOLONG", what, err)
		}
	}
	if err := os.Symlink(target[:4095], filepath.Join(mnt, "s")); err != nil {
		t.Errorf("a target of 4095 bytes: %v", err)
	}
	if got, err := os.Readlink(filepath.Join(mnt, "s")); err != nil || got != target[:4095] {
		t.Errorf("a target of 4095 bytes is %d bytes: %v", len(got), err)
	}
	f, err := os.OpenFile(filepath.Join(mnt, "f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const most = 1 << 44 // 2^32 clusters of 4 KiB
	if _, err := f.WriteAt([]byte("x"), most); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("a byte behind the largest file: %v, want EFBIG", err)
	}
	if err := f.Truncate(most + 1); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("a size behind the largest file: %v, want EFBIG", err)
	}
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, 1<<40); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("preallocating a terabyte: %v, want ENOSPC", err)
	}
	f.Close()
	if err := os.Remove(filepath.Join(mnt, "f")); err != nil {
		t.Error(err)
	}
	b.must("umount", mnt)
	b.fsck(img)
}
