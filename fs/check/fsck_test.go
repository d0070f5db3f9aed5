package check

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// full runs the comparisons with fsck.ocfs2 that take a second or more each in
// all combinations instead of a sample.
var full = flag.Bool("full", false, "compare all combinations with fsck.ocfs2")

// needTools skips when ocfs2-tools, the oracle, is not installed.
func needTools(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"mkfs.ocfs2", "fsck.ocfs2"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed (apt-get install ocfs2-tools)", tool)
		}
	}
}

// mkfs makes a sparse image.
func mkfs(t *testing.T, size int64, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "volume.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("mkfs.ocfs2", append(append([]string{"-q", "-F"}, args...), path)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ocfs2 %v: %v\n%s", args, err, out)
	}
	return path
}

var fsckProblem = regexp.MustCompile(`(?m)^\[([A-Z0-9_]+)\]`)

// fsck is the problem codes of fsck.ocfs2 -fn, sorted. All passes must run.
func fsck(t *testing.T, path string) []string {
	t.Helper()
	out, err := exec.Command("fsck.ocfs2", "-fn", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "All passes succeeded") {
		t.Fatalf("fsck.ocfs2 -fn: %v\n%s", err, out)
	}
	var codes []string
	for _, m := range fsckProblem.FindAllStringSubmatch(string(out), -1) {
		codes = append(codes, m[1])
	}
	slices.Sort(codes)
	return codes
}

// ours is the problem codes of this package, sorted.
func ours(t *testing.T, path string) (codes []string, rep *Report) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if rep, err = Run(context.Background(), f, Options{}); err != nil {
		t.Fatal(err)
	}
	for _, p := range rep.Problems {
		codes = append(codes, p.Code)
	}
	slices.Sort(codes)
	return codes, rep
}

// TestFreshVolumesAgreeWithFsck: volumes of all block sizes, with small, middle
// and large clusters (with -full in all combinations), and of many feature sets, straight from
// mkfs.ocfs2.
func TestFreshVolumesAgreeWithFsck(t *testing.T) {
	needTools(t)
	type variant struct {
		size int64
		args []string
	}
	var all []variant
	for bs := 512; bs <= 4096; bs *= 2 {
		for cs := 4096; cs <= 1<<20; cs *= 2 {
			if !*full && cs != 4096 && (cs != 1<<20 || bs != 512 && bs != 4096) && (cs != 32768 || bs != 1024) {
				continue
			}
			journal := fmt.Sprintf("size=%d", max(4<<20, 9*cs)) // what mkfs demands
			all = append(all, variant{128 << 20, []string{"-b", fmt.Sprint(bs), "-C", fmt.Sprint(cs), "-N", "2", "-J", journal, "-M", "local"}})
		}
	}
	for _, features := range []string{
		"metaecc", "metaecc,usrquota,grpquota", "nosparse", "noindexed-dirs", "noxattr,norefcount", "nodiscontig-bg",
		"noextended-slotmap", "nobackup-super", "noinline-data,noindexed-dirs", "noinline-data,noindexed-dirs,metaecc",
	} {
		for i, bs := range []string{"512", "4096"} {
			if !*full && len(all)%2 != i {
				continue
			}
			all = append(all, variant{128 << 20, []string{"-b", bs, "-C", "4096", "-N", "3", "-J", "size=4M", "-M", "local", "--fs-features=" + features}})
		}
	}
	if *full { // backup superblocks, many slots; fsck.ocfs2 takes time by size
		all = append(all,
			variant{5 << 30, []string{"-b", "4096", "-C", "32768", "-N", "4", "-M", "local"}},
			variant{1100 << 20, []string{"-b", "1024", "-C", "4096", "-N", "2", "-J", "size=4M", "-M", "local", "--fs-features=metaecc"}},
			variant{600 << 20, []string{"-b", "4096", "-C", "4096", "-N", "60", "-J", "size=4M", "-M", "cluster", "--cluster-stack=pcmk", "--cluster-name=x"}},
		)
	}
	all = append(all,
		variant{300 << 20, []string{"-b", "4096", "-C", "4096", "-N", "20", "-J", "size=4M", "-M", "cluster", "--cluster-stack=pcmk", "--cluster-name=x"}},
		variant{128 << 20, []string{"-b", "1024", "-C", "8192", "-N", "2", "-M", "cluster", "--cluster-stack=o2cb", "--cluster-name=x", "--global-heartbeat"}},
	)
	for _, v := range all {
		t.Run(strings.Join(v.args, " "), func(t *testing.T) {
			t.Parallel()
			path := mkfs(t, v.size, v.args...)
			want := fsck(t, path)
			got, rep := ours(t, path)
			if !slices.Equal(got, want) || rep.Stopped != "" {
				t.Errorf("fsck.ocfs2: %v\nhere: %v\n%s", want, got, rep)
			}
			for _, code := range got {
				if code != DxTreeMissing { // G: mkfs leaves the system directory without index
					t.Errorf("fresh volume has %s", code)
				}
			}
		})
	}
}

// TestDamageAgreesWithFsck: on the same damaged image, fsck.ocfs2 and this
// package name the same code. testdata/agreed-with-fsck.txt lists the damage for
// which that is so; for the rest, fsck.ocfs2 has no check, another code, or gives
// up earlier. A sample is compared, with -full all of it.
func TestDamageAgreesWithFsck(t *testing.T) {
	needTools(t)
	good := loadVolume(t, "kernel-512")
	setFeatures(func(f *ondisk.Features) { f.Incompat &^= ondisk.FeatureIncompatMetaECC })(t, good)
	list, err := os.ReadFile("testdata/agreed-with-fsck.txt")
	if err != nil {
		t.Fatal(err)
	}
	agreed := strings.Fields(string(list))
	found := 0
	for _, c := range allCorruptions() {
		name := c.code + "/" + strings.ReplaceAll(c.name, " ", "_")
		i := slices.Index(agreed, name)
		if c.vol != "" || i < 0 {
			continue
		}
		found++
		if !*full && i%28 != 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			v := good.clone()
			c.spoil(t, v)
			path := filepath.Join(t.TempDir(), "volume.img")
			v.write(t, path)
			out, err := exec.Command("fsck.ocfs2", "-fn", path).CombinedOutput()
			if !strings.Contains(string(out), "\n["+c.code+"]") {
				t.Errorf("fsck.ocfs2 does not name it: %v\n%.3000s", err, out)
			}
			if got, rep := ours(t, path); !slices.Contains(got, c.code) {
				t.Errorf("not named here:\n%.3000s", rep)
			}
		})
	}
	if found != len(agreed) {
		t.Errorf("%d kinds of damage listed as agreed, %d of them known", len(agreed), found)
	}
}

// write makes an image file of the volume.
func (v *volume) write(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(v.size); err != nil {
		t.Fatal(err)
	}
	for blkno, b := range v.blocks {
		if _, err := f.WriteAt(b, int64(blkno)*int64(v.bs)); err != nil {
			t.Fatal(err)
		}
	}
}
