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
	i.mu.Lock()
	i.recalled = true
	i.mu.Unlock()
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

// EndWrite is Op.End for a WRITE or size change that has put n bytes at offset
// at. It sees that the kernel keeps nothing older of these bytes than they are:
//
//   - a WRITE past the page cache (an append, O_DIRECT) leaves cached pages;
//   - an append through a cached handle, which F_SETFL makes possible, was
//     put by the kernel where it believed the end to be;
//   - the kernel copies the data into cached pages before it sends the WRITE.
//     Such a page may be taken back, and filled again by a READ, before the
//     data is here. The kernel sends cached WRITEs of an inode one after the
//     other, so that this can have happened only if pages were dropped and
//     read since the one before ended;
//   - an append ends further out than the kernel believes.
//
// To be called before META is released. It goes around requests that wait.
func (e *Engine) EndWrite(o *Op, at uint64, n uint32) {
	i, x := o.i, pageExtent(at, uint64(n))
	moved := at != o.want.off
	i.mu.Lock()
	drop := given{}
	switch o.kind {
	case Direct:
		drop.add(i.cached(x))
	case Write:
		if moved {
			drop.add(x)
		}
		if moved || i.refill.overlaps(o.x) {
			drop.add(o.x)
		} else {
			i.refill, i.written = given{}, i.drops
		}
	}
	grow := moved && at+uint64(n) > i.size
	if !moved {
		i.size = max(i.size, at+uint64(n))
	}
	i.mu.Unlock()
	if grow {
		e.extend(i, at+uint64(n))
	}
	if xs := drop.pagesOrNone(); xs != nil {
		i.mu.Lock()
		before := i.drops
		i.mu.Unlock()
		e.dropExtents(i, xs, true)
		i.mu.Lock()
		if i.drops == before+2 {
			i.refill, i.written = given{}, i.drops // nobody else's
		}
		i.mu.Unlock()
	}
	o.End()
}

// cached returns x if any page of it may be cached or on its way, else
// nothing. mu held.
func (i *Inode) cached(x extent) extent {
	hit := i.given.overlaps(x)
	for o := i.ops; o != nil && !hit; o = o.next {
		hit = o.kind == Read && o.x.overlaps(x)
	}
	if !hit {
		return extent{}
	}
	return x
}

// extend makes the kernel believe that the file is at least size bytes long.
func (e *Engine) extend(i *Inode, size uint64) {
	e.Counters.Extends.Add(1)
	p := &probe{done: make(chan struct{})}
	p.run(func() {
		if err := e.n.extend(i.id, size); err != nil && !errors.Is(err, syscall.ENOENT) && !errors.Is(err, errClosed) {
			e.logf("telling the kernel the size of inode %d: %v", i.id, err)
		}
	})
	for {
		select {
		case <-p.done:
		case <-e.closing:
		case <-time.After(stuckTick):
			if !asleep(p.tid.Load()) {
				continue
			}
			// It sleeps on the last page: the size is raised by then.
		}
		break
	}
	i.mu.Lock()
	i.size = max(i.size, size)
	i.mu.Unlock()
}

// noteSize sees that a file's size in a reply is not lost. The kernel ignores
// attributes that were asked for before an INVAL_INODE, and goes on with the
// size it had. Smaller sizes it finds out by READ.
func (e *Engine) noteSize(i *Inode, size uint64) {
	i.mu.Lock()
	grow := i.recalled && size > i.size
	if size < i.size {
		i.size = size
	}
	i.mu.Unlock()
	if grow {
		e.extend(i, size)
	}
}

// InvalidateRange drops the pages of a range whose bytes were changed by
// something else than a WRITE: fallocate, a copy, a clone. To be called before
// META is released. It goes around requests that wait.
func (e *Engine) InvalidateRange(i *Inode, off, size uint64) {
	i.mu.Lock()
	x := i.cached(pageExtent(off, size))
	i.mu.Unlock()
	if x.off < x.end {
		e.dropExtents(i, []extent{x}, true)
	}
}
