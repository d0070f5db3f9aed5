package check

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// TestKernelVolumesAreClean: volumes a Linux 6.1 kernel wrote show nothing but
// what fsck.ocfs2 1.8.7 names on the same images.
func TestKernelVolumesAreClean(t *testing.T) {
	for name, c := range map[string]struct {
		known []string
		notes int
		sum   Summary
	}{
		"kernel-512": {[]string{DxTreeMissing, InodeSparseSize}, 0, Summary{
			Clusters: 51200, UsedClusters: 3621, Inodes: 604, Directories: 44, Names: 691, Extents: 1104, MetaBlocks: 64, SharedRuns: 950}},
		"kernel-512-deep": {[]string{DxTreeMissing}, 0, Summary{
			Clusters: 30720, UsedClusters: 3664, Inodes: 19, Directories: 5, Names: 3636, Extents: 2844, MetaBlocks: 142, SharedRuns: 2092}},
		"kernel-1024-crash": {[]string{DxTreeMissing}, 4, Summary{
			Clusters: 76800, UsedClusters: 7745, Inodes: 600, Directories: 45, Names: 689, Extents: 1083, MetaBlocks: 32, Orphans: 2, SharedRuns: 950}},
	} {
		r := loadVolume(t, name).run(t)
		if p := r.Except(c.known...); len(p) > 0 || r.Stopped != "" || r.Truncated > 0 {
			t.Errorf("%s:\n%s", name, r)
		}
		if len(r.Notes) != c.notes {
			t.Errorf("%s: notes %q", name, r.Notes)
		}
		if r.Summary != c.sum {
			t.Errorf("%s: summary %+v", name, r.Summary)
		}
		for _, code := range c.known {
			if !r.Has(code) {
				t.Errorf("%s: %s not found, fsck.ocfs2 names it", name, code)
			}
		}
	}
}

func TestRunRefuses(t *testing.T) {
	ctx := context.Background()
	if _, err := Run(ctx, &volume{bs: 512, size: 1 << 20}, Options{}); !errors.Is(err, ondisk.ErrNotOCFS2) {
		t.Errorf("empty device: %v", err)
	}
	v := loadVolume(t, "kernel-512")
	bad := v.clone()
	bad.edit(ondisk.SuperBlkno, func(b []byte) {
		f := ondisk.Dinode(b).Super().Features()
		f.Incompat |= 1 << 20
		ondisk.Dinode(b).Super().SetFeatures(f)
	})
	if _, err := Run(ctx, bad, Options{}); !errors.Is(err, ondisk.ErrUnsupported) {
		t.Errorf("unknown feature: %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := Run(cancelled, v, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	small := v.clone()
	small.size /= 2
	if r := small.run(t); !r.Has(DeviceTooSmall) || r.Stopped == "" || r.Clean() {
		t.Errorf("half a device:\n%s", r)
	}
}

func TestProgressAndLimits(t *testing.T) {
	v := loadVolume(t, "kernel-512")
	passes := map[string]bool{}
	if _, err := Run(context.Background(), v, Options{Progress: func(pass string, done, total uint64) {
		passes[pass] = true
		if done > total {
			t.Errorf("pass %s: %d of %d", pass, done, total)
		}
	}}); err != nil {
		t.Fatal(err)
	}
	if !passes["1"] || !passes["2"] || !passes["4"] {
		t.Errorf("progress of passes %v", passes)
	}
	r, err := Run(context.Background(), v, Options{MaxProblems: 1})
	if err != nil || len(r.Problems) != 1 || r.Truncated != 2 || r.Clean() || !strings.Contains(r.String(), "2 more problems") {
		t.Errorf("at most one problem kept: %v\n%s", err, r)
	}
}
