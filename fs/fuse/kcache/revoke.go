package kcache

import (
	"errors"
	"syscall"
	"time"

	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/stackglue"
)

const (
	// enoentPause is between two tries for an inode whose reply is in flight.
	enoentPause = 20 * time.Microsecond
	// enoentLimit: a reply that the kernel threw away (its process was killed
	// before it was sent) leaves a lookup that is never forgotten.
	enoentLimit = 10 * time.Second
	// entryPatience is how long INVAL_ENTRY may take before the epoch is
	// raised instead.
	entryPatience = time.Millisecond
	// entryPatienceMounts is the same while the epoch would detach a mount.
	entryPatienceMounts = 100 * time.Millisecond
)

// RevokeInode is the work of a downconvert hook of META: it takes back from
// the kernel what p.To does not cover. i may be nil or unknown to the kernel.
func (e *Engine) RevokeInode(i *Inode, p locking.Pass) locking.Verdict {
	if i == nil || !i.Known() {
		return locking.Convert
	}
	e.Counters.Revokes.Add(1)
	if p.To >= stackglue.PR {
		if i.mapped() && !i.dir {
			e.dropPages(i, true)
		}
		return locking.Convert
	}
	if i.take(true, false).attrs {
		e.invalInode(i, -1, 0)
	}
	if i.dir {
		e.revokeAbsent(i)
		return locking.Convert
	}
	e.dropPages(i, true)
	return locking.Convert
}

// RevokeNames is the work of a downconvert hook of a dentry lock whose level
// falls to NL: every name of child in dir goes. It raises the epoch rather
// than wait for requests pending in dir.
func (e *Engine) RevokeNames(dir, child *Inode) {
	if dir == nil || child == nil {
		return
	}
	child.mu.Lock()
	var names []string
	keep := child.links[:0]
	for _, l := range child.links {
		if l.dir == dir {
			names = append(names, l.name)
		} else {
			keep = append(keep, l)
		}
	}
	child.links = keep
	child.mu.Unlock()
	e.invalEntries(dir, names)
}

// revokeAbsent takes the names back that are known not to be in dir.
func (e *Engine) revokeAbsent(dir *Inode) {
	dir.mu.Lock()
	names := make([]string, 0, len(dir.absent))
	for n := range dir.absent {
		names = append(names, n)
	}
	clear(dir.absent)
	dir.mu.Unlock()
	e.invalEntries(dir, names)
}

// invalEntries makes the kernel ask again for names of dir.
func (e *Engine) invalEntries(dir *Inode, names []string) {
	if len(names) == 0 {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, n := range names {
			e.Counters.Entries.Add(1)
			if err := e.n.entry(dir.id, n); err != nil && !errors.Is(err, syscall.ENOENT) && !errors.Is(err, errClosed) && !errors.Is(err, syscall.ENOTDIR) {
				e.logf("taking back the name %q in inode %d: %v", n, dir.id, err)
			}
		}
	}()
	if !e.Features.Epoch {
		return // none of them was given out to cache; this is for FORGET
	}
	patience := entryPatience
	if e.mountBelow.Load() {
		patience = entryPatienceMounts
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-done:
	case <-e.closing:
	case <-t.C:
		e.Counters.Epochs.Add(1)
		if err := e.n.epoch(); err != nil && !errors.Is(err, errClosed) {
			e.logf("raising the epoch: %v", err)
			<-done
		}
	}
}

// invalInode sends INVAL_INODE until the kernel knows the inode or has
// forgotten it.
func (e *Engine) invalInode(i *Inode, off, length int64) {
	var end time.Time
	for {
		e.Counters.Inodes.Add(1)
		err := e.n.inode(i.id, off, length)
		if err == nil || errors.Is(err, errClosed) {
			return
		}
		if !errors.Is(err, syscall.ENOENT) {
			e.logf("taking back inode %d: %v", i.id, err)
			return
		}
		if !i.Known() {
			return
		}
		e.Counters.Retries.Add(1)
		if end.IsZero() {
			end = time.Now().Add(enoentLimit)
		} else if time.Now().After(end) {
			e.logf("the kernel has not taken the reply that names inode %d for %v: going on without it", i.id, enoentLimit)
			e.Counters.GivenUp.Add(1)
			return
		}
		if !e.sleep(enoentPause) {
			return
		}
	}
}

// InvalidateRange drops the pages of a range: a WRITE past the page cache has
// changed them. To be called without a cluster lock, before the reply.
func (e *Engine) InvalidateRange(i *Inode, off uint64, size uint32) {
	x := pageExtent(off, size)
	i.mu.Lock()
	hit := i.given.all
	for _, r := range i.given.ranges[:i.given.n] {
		hit = hit || r.overlaps(x)
	}
	i.mu.Unlock()
	if hit {
		e.invalInode(i, int64(x.off), int64(x.end-x.off))
	}
}

// Misplaced drops what the kernel keeps of a WRITE that it put at another
// offset than the filesystem did: an append through a cached handle, which
// F_SETFL makes possible (the WRITE's flags have O_APPEND, those of the OPEN had
// not). To be called before Op.End, without a cluster lock.
func (e *Engine) Misplaced(o *Op) {
	o.i.mu.Lock()
	o.i.given.all = true
	o.i.mu.Unlock()
	e.dropPages(o.i, true)
}
