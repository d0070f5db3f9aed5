package check

import (
	"fmt"
	"strings"
)

// Problem is one inconsistency.
type Problem struct {
	Pass  string // "super", "0a", "0b", "0c", "1", "2", "3", "4", "5"
	Code  string // a code of this package
	Blkno uint64 // the block or inode it was found in, 0 if none
	Text  string // what, where, wanted
}

// String is the line fsck.ocfs2 would print, without its question.
func (p Problem) String() string { return fmt.Sprintf("[%s] %s", p.Code, p.Text) }

// Summary counts what was seen.
type Summary struct {
	Clusters     uint64 // of the volume
	UsedClusters uint64 // set in the cluster bitmap
	Inodes       uint64 // valid ones, system files included
	Directories  uint64
	Names        uint64 // directory entries, "." and ".." included
	Extents      uint64 // leaf records of all trees
	MetaBlocks   uint64 // blocks used from the extent allocators
	Orphans      uint64 // entries of the orphan directories
	SharedRuns   uint64 // refcounted extents
	UnderFree    uint64 // directory blocks with more free space than they say
}

// Report is the result of [Run].
type Report struct {
	Problems []Problem
	// Notes are states that are legal but worth knowing: dirty journals, an
	// open local alloc window, deferred frees, orphans.
	Notes   []string
	Summary Summary
	// Truncated is the number of problems beyond [Options.MaxProblems] that
	// were not kept.
	Truncated int
	// Stopped says why the check could not go on, "" if it was complete.
	Stopped string
}

// Clean reports that the volume was checked completely and nothing is wrong.
//
// A volume straight from mkfs.ocfs2 1.8.7 with blocks of 512 or 1024 bytes has
// [DxTreeMissing] for its system directory; one made without inline-data,
// [DxFreeLen] for its root directory. Linux 6.1 itself leaves
// [InodeSparseSize] (preallocation beyond the end, quota files that grew) and
// [XattrFreeStart] (after removals from buckets). Except for DxFreeLen, fsck.ocfs2 reports the same.
func (r *Report) Clean() bool {
	return len(r.Problems) == 0 && r.Truncated == 0 && r.Stopped == ""
}

// Except is the problems whose code is none of codes.
func (r *Report) Except(codes ...string) []Problem {
	var rest []Problem
next:
	for _, p := range r.Problems {
		for _, c := range codes {
			if p.Code == c {
				continue next
			}
		}
		rest = append(rest, p)
	}
	return rest
}

// Has reports whether a problem with the code was found.
func (r *Report) Has(code string) bool {
	for _, p := range r.Problems {
		if p.Code == code {
			return true
		}
	}
	return false
}

// String lists problems and notes, one per line.
func (r *Report) String() string {
	var b strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "%s\n", p)
	}
	if r.Truncated > 0 {
		fmt.Fprintf(&b, "%d more problems\n", r.Truncated)
	}
	if r.Stopped != "" {
		fmt.Fprintf(&b, "check incomplete: %s\n", r.Stopped)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return b.String()
}
