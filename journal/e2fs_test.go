package journal

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ocfuse/ocfuse/journal/format"
)

// TestE2fsLog replays logs with checksums and revoke records that e2fsprogs'
// debugfs wrote, and compares with e2fsck's replay. OCFS2 has no such logs; this
// shows that the code for them follows the format and not only itself.
func TestE2fsLog(t *testing.T) {
	for _, version := range []int{2, 3} {
		for _, wide := range []string{"64bit", "^64bit"} {
			t.Run(fmt.Sprintf("v%d,%s", version, wide), func(t *testing.T) {
				theirs := makeE2fs(t, version, wide)
				ours := theirs.copyTo(t, "ours.img")
				run(t, "e2fsck", "-y", "-E", "journal_only", theirs.path)
				super, _, err := readSuper(ours.open(t), &logMap{exts: ours.journal, bs: 1024, blocks: 4096}, func(n int) []byte { return make([]byte, n) })
				must(t, err)
				want := format.IncompatCsumV2
				if version == 3 {
					want = format.IncompatCsumV3
				}
				if super.Incompat&want == 0 || (super.Incompat&format.Incompat64Bit != 0) != (wide == "64bit") {
					t.Fatalf("the log has features %v", super.Incompat)
				}
				res := ours.replay(t)
				if res.Transactions != 3 || res.Written != 22 || res.Revoked != 1 {
					t.Errorf("%+v", res)
				}
				for _, blkno := range differing(t, theirs, ours) {
					if blkno >= 25000 { // the others are the ext4 and journal superblocks
						t.Errorf("block %d differs from e2fsck's replay", blkno)
					}
				}
			})
		}
	}
}

// makeE2fs makes an ext4 volume whose log has three transactions: images of blocks
// 25000.., revokes of 25003 and 25005, and images of 25005 and 25100...
func makeE2fs(t *testing.T, version int, wide string) ocfs2Image {
	t.Helper()
	dir := t.TempDir()
	im := ocfs2Image{path: filepath.Join(dir, "ext4.img"), bs: 1024}
	must(t, os.WriteFile(im.path, nil, 0o600))
	must(t, os.Truncate(im.path, 32<<20))
	run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-O", "metadata_csum,^resize_inode,"+wide, "-J", "size=4", im.path)

	data := make([]byte, 20<<10)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	copy(data[7<<10:], []byte{0xC0, 0x3B, 0x39, 0x98}) // escaped
	file := filepath.Join(dir, "data")
	must(t, os.WriteFile(file, data, 0o600))
	script := filepath.Join(dir, "script")
	must(t, os.WriteFile(script, fmt.Appendf(nil,
		"jo -c -v %d\njw -b 25000-25019 %s\njw -r 25003,25005\njw -b 25005,25100-25102 %s\njc\n", version, file, file), 0o600))
	run(t, "debugfs", "-w", "-f", script, im.path)

	out := run(t, "debugfs", "-R", "blocks <8>", im.path)
	blocks := strings.Fields(out[strings.Index(out, "\n")+1:])
	for i, s := range blocks {
		blkno, err := strconv.ParseUint(s, 10, 64)
		must(t, err)
		last := len(im.journal) - 1
		if last >= 0 && im.journal[last].Blkno+uint64(im.journal[last].Len) == blkno {
			im.journal[last].Len++
			continue
		}
		im.journal = append(im.journal, Extent{Log: uint32(i), Blkno: blkno, Len: 1})
	}
	before, err := os.ReadFile(im.path)
	must(t, err)
	if bytes.Contains(before[25000<<10:], data[:16]) {
		t.Fatal("debugfs wrote the blocks home")
	}
	return im
}
