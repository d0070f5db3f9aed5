package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// Reader is the volume: reads at byte offsets that are multiples of the block
// size.
type Reader interface {
	ReadAt(p []byte, off int64) (int, error)
}

// Options tune a [Run]; the zero value is fine.
type Options struct {
	// Progress, if set, is called now and then from the checking goroutine:
	// the pass and how much of it is done, in units of the pass.
	Progress func(pass string, done, total uint64)
	// MaxProblems bounds the problems kept; 0 means 10000.
	MaxProblems int
}

const defaultMaxProblems = 10000

// Run checks the whole volume. The error is that of the context, or of a volume
// that can not be checked at all: no superblock ([ondisk.ErrNotOCFS2]), a
// damaged one ([ondisk.ErrCorrupt]), unknown features
// ([ondisk.ErrUnsupported]). What is wrong inside is in the report; blocks that
// can not be read are problems.
func Run(ctx context.Context, r Reader, opts Options) (*Report, error) {
	g, super, err := ondisk.FindSuper(r)
	if err != nil {
		return nil, err
	}
	if _, err := featureErr(g); err != nil {
		return nil, err
	}
	if opts.MaxProblems == 0 {
		opts.MaxProblems = defaultMaxProblems
	}
	c := newChecker(ctx, r, g, opts)
	c.passSuper(super)
	for _, p := range []struct {
		name string
		run  func()
	}{
		{"0a", c.pass0a}, {"0b", c.pass0b}, {"0c", c.pass0c}, {"1", c.pass1}, {"2", c.pass2},
		{"3", c.pass3}, {"4", c.pass4}, {"5", c.pass5},
	} {
		if c.rep.Stopped != "" {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.pass = p.name
		p.run()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.rep, nil
}

// featureErr is CheckFeatures, but lets an interrupted resize or tunefs pass:
// that is what a check is for.
func featureErr(g *ondisk.Geometry) (readOnly []string, err error) {
	masked := *g
	masked.Incompat &^= ondisk.FeatureIncompatResizeInProgress | ondisk.FeatureIncompatTunefsInProgress
	return masked.CheckFeatures()
}

// checker is the state of one run. One goroutine.
type checker struct {
	ctx  context.Context
	r    Reader
	g    *ondisk.Geometry
	opts Options
	rep  *Report
	pass string
	seen int // problems, kept or not

	sys    map[string]uint64 // system directory: name -> inode
	allocs []*allocator      // all chain allocators
	inodes inodeTable
	dirs   []*dirInfo // directories in the order of pass 1

	used   bitmap // clusters claimed
	shared bitmap // clusters first claimed by a refcounted extent; nil without
	groups groupIndex
	// groupOwner is the allocator of every group descriptor seen.
	groupOwner map[uint64]*allocator
	outer      map[uint64]bool // metadata blocks claimed outside every group
	trees      map[uint64]*refTree

	truncs  []run // truncate log records, in clusters
	windows []window
}

// run is a range of blocks or clusters.
type run struct{ start, n uint64 }

func (r run) end() uint64 { return r.start + r.n }

func newChecker(ctx context.Context, r Reader, g *ondisk.Geometry, opts Options) *checker {
	return &checker{
		ctx: ctx, r: r, g: g, opts: opts, rep: &Report{}, pass: "super",
		sys: map[string]uint64{}, outer: map[uint64]bool{}, groupOwner: map[uint64]*allocator{}, trees: map[uint64]*refTree{},
	}
}

// problem records an inconsistency found in block blkno.
func (c *checker) problem(code string, blkno uint64, format string, args ...any) {
	c.seen++
	if len(c.rep.Problems) >= c.opts.MaxProblems {
		c.rep.Truncated++
		return
	}
	c.rep.Problems = append(c.rep.Problems, Problem{c.pass, code, blkno, fmt.Sprintf(format, args...)})
}

func (c *checker) note(format string, args ...any) {
	if len(c.rep.Notes) < c.opts.MaxProblems {
		c.rep.Notes = append(c.rep.Notes, fmt.Sprintf(format, args...))
	}
}

// stop ends the check after the current step.
func (c *checker) stop(format string, args ...any) {
	if c.rep.Stopped == "" {
		c.rep.Stopped = fmt.Sprintf(format, args...)
	}
}

func (c *checker) progress(done, total uint64) {
	if c.opts.Progress != nil {
		c.opts.Progress(c.pass, done, total)
	}
}

// cancelled is asked in long loops.
func (c *checker) cancelled() bool { return c.ctx.Err() != nil }

// errRange is the read error of a block behind the end of the volume.
var errRange = errors.New("block number out of the volume")

// read fills buf from block blkno on. Every offset is inside the volume.
func (c *checker) read(blkno uint64, buf []byte) error {
	n := uint64(len(buf)+c.g.BlockSize-1) >> c.g.BlockBits
	if blkno >= c.g.TotalBlocks || n > c.g.TotalBlocks-blkno || blkno > math.MaxInt64>>c.g.BlockBits {
		return errRange
	}
	got, err := c.r.ReadAt(buf, c.g.ByteOfBlock(blkno))
	if got == len(buf) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// block reads one block into a new buffer; a failure is a problem.
func (c *checker) block(blkno uint64) ([]byte, bool) {
	b := make([]byte, c.g.BlockSize)
	if err := c.read(blkno, b); err != nil {
		c.problem(ReadError, blkno, "Block %d can not be read: %v", blkno, err)
		return nil, false
	}
	return b, true
}

// ecc verifies the block check of b, which is block blkno, and corrects a
// single flipped bit for the rest of the run. A block that fails is still
// looked at: its other damage is worth knowing.
func (c *checker) ecc(what string, blkno uint64, b []byte, off int) {
	if !c.g.HasMetaECC() || ondisk.CheckMatches(b, off) {
		return
	}
	c.problem(BadCRC32, blkno, "Block check of %s at block %d is wrong", what, blkno)
	// The report stands whether the bit can be corrected or not.
	_ = ondisk.ValidateCheck(b, off)
}
