package kcache

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// stuckTick is how often a page pass that has not returned is looked at.
const stuckTick = 100 * time.Microsecond

// probe is one INVAL_INODE of a run of pages on a thread of its own.
type probe struct {
	x        extent
	tid      atomic.Int64
	done     chan struct{}
	seen     int  // ticks at which its thread was found asleep in the kernel
	replaced bool // smaller probes do its work; it ends by itself
}

// dropPages drops every page that was given out since the last call. When it
// returns no page that was up to date when it was called is left. A revoke
// goes around pages that requests under way keep locked, which may wait for
// the very lock; others wait for these requests.
func (e *Engine) dropPages(i *Inode, goAround bool) {
	if xs := i.take(false, true).pagesOrNone(); xs != nil {
		e.dropExtents(i, xs, goAround)
	}
}

// dropExtents is dropPages for some pages.
func (e *Engine) dropExtents(i *Inode, xs []extent, goAround bool) {
	i.countDrop()
	defer i.countDrop()
	var probes []*probe
	for _, x := range xs {
		probes = append(probes, e.probePages(i, x))
	}
	var tick *time.Ticker
	for k := 0; k < len(probes); {
		p := probes[k]
		if p.replaced {
			k++
			continue
		}
		select {
		case <-p.done:
			k++
			continue
		default:
		}
		if tick == nil {
			tick = time.NewTicker(stuckTick)
			defer tick.Stop()
		}
		select {
		case <-p.done:
		case <-e.closing:
			return
		case <-tick.C:
			if goAround {
				probes = e.around(i, probes)
			}
		}
	}
}

// countDrop notes that pages have begun or ceased to go.
func (i *Inode) countDrop() {
	i.mu.Lock()
	i.drops++
	i.mu.Unlock()
}

// late counts the end of a probe that nobody waits for.
func (i *Inode) late(p *probe) {
	i.countDrop()
	go func() { <-p.done; i.countDrop() }()
}

// pagesOrNone is pages without an allocation for the common empty case.
func (g given) pagesOrNone() []extent {
	if !g.all && g.n == 0 {
		return nil
	}
	return g.pages()
}

// probePages drops the pages of x in the background.
func (e *Engine) probePages(i *Inode, x extent) *probe {
	p := &probe{x: x, done: make(chan struct{})}
	e.Counters.PageDrops.Add(1)
	length := int64(x.end - x.off)
	if x.end >= wholeFile.end {
		length = -1
	}
	p.run(func() { e.invalInode(i, int64(x.off), length) })
	return p
}

// run does fn on a thread of its own, whose sleep can be seen.
func (p *probe) run(fn func()) {
	go func() {
		defer close(p.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		p.tid.Store(int64(unix.Gettid()))
		fn()
		p.tid.Store(0)
	}()
}

// around replaces probes that sleep on a page which a request of ours keeps
// locked by probes of the rest. A page of a READ under way is locked and not
// up to date. Of a WRITE under way that is only so for a page which was not
// cached and is written in part: that one is found by cutting.
func (e *Engine) around(i *Inode, probes []*probe) []*probe {
	reads, writes, writeBack := i.locked()
	if writeBack {
		return probes // dirty pages are on their way: that ends without us
	}
	for _, p := range probes {
		select {
		case <-p.done:
			continue
		default:
		}
		if p.replaced || !asleep(p.tid.Load()) {
			p.seen = 0
			continue
		}
		if p.seen++; p.seen < 2 {
			continue
		}
		if rest, cut := cutAround(p.x, reads, writes); cut {
			e.Counters.Stuck.Add(1)
			p.replaced = true
			i.late(p)
			for _, x := range rest {
				probes = append(probes, e.probePages(i, x))
			}
		}
	}
	return probes
}

// cutAround returns what is left to probe of x when pages of reads and some
// pages of writes may be locked; cut is false if nothing of x can be.
func cutAround(x extent, reads, writes []extent) (rest []extent, cut bool) {
	rest = []extent{x}
	for _, r := range reads {
		rest, cut = subtract(rest, r, cut)
	}
	for _, w := range writes {
		if !w.overlaps(x) {
			continue
		}
		if x.end-x.off == pageSize {
			// One page of a WRITE under way, and it is locked: skipped.
			return nil, true
		}
		cut = true
		for _, at := range splitPoints(x, w) {
			rest = split(rest, at)
		}
	}
	return rest, cut
}

// splitPoints says where to cut x so that the locked pages of the WRITE w end
// up alone: at its borders, around its first and last page, and then in half.
func splitPoints(x, w extent) []uint64 {
	points := []uint64{w.off, w.off + pageSize, w.end - pageSize, w.end}
	if x.off >= w.off && x.end <= w.end {
		points = append(points, x.off+(x.end-x.off)/2&^(pageSize-1))
	}
	return points
}

// subtract removes y from the extents.
func subtract(xs []extent, y extent, cut bool) ([]extent, bool) {
	var out []extent
	for _, x := range xs {
		if !x.overlaps(y) {
			out = append(out, x)
			continue
		}
		cut = true
		if x.off < y.off {
			out = append(out, extent{x.off, y.off})
		}
		if y.end < x.end {
			out = append(out, extent{y.end, x.end})
		}
	}
	return out, cut
}

// split cuts the extents at one offset.
func split(xs []extent, at uint64) []extent {
	for k, x := range xs {
		if x.off < at && at < x.end {
			return slices.Insert(slices.Replace(xs, k, k+1, extent{x.off, at}), k+1, extent{at, x.end})
		}
	}
	return xs
}

// asleep reports whether a thread of this process is in uninterruptible
// sleep, as one that waits for a locked page is. A thread that is only waiting
// for a CPU is not.
func asleep(tid int64) bool {
	if tid == 0 {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", tid))
	if err != nil {
		return false
	}
	s := string(b)
	k := strings.LastIndexByte(s, ')')
	return k >= 0 && len(s) > k+2 && s[k+2] == 'D'
}
