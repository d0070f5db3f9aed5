package kcache

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Features is what the running kernel can do.
type Features struct {
	Major, Minor uint32
	Epoch        bool // FUSE_NOTIFY_INC_EPOCH (Linux 6.16)
	Prune        bool // FUSE_NOTIFY_PRUNE (FUSE 7.45)
}

// Engine keeps the kernel's caches of one mount in step with cluster locks.
type Engine struct {
	// Counters may be read at any time.
	Counters Counters
	// Features is set before the first request is served.
	Features Features

	n          *notifier
	closing    chan struct{}
	closeOnce  sync.Once
	mountBelow atomic.Bool // another file system is mounted inside the volume
	logf       func(format string, args ...any)
}

func newEngine(fd int, logf func(string, ...any)) *Engine {
	if logf == nil {
		logf = func(string, ...any) {}
	}
	return &Engine{n: newNotifier(fd), closing: make(chan struct{}), logf: logf}
}

// probe finds out what the kernel can do. Nothing is cached yet, so raising
// the epoch does no harm.
func (e *Engine) probe(in *fuse.InitIn) {
	e.Features = Features{Major: in.Major, Minor: in.Minor, Epoch: e.n.epoch() == nil,
		Prune: in.SupportsNotify(fuse.NOTIFY_PRUNE)}
	if !e.Features.Epoch {
		e.logf("this kernel (FUSE %d.%d) cannot raise the epoch of names: names are not cached", in.Major, in.Minor)
	}
}

// stop ends everything that waits for the kernel; the mount is going away.
func (e *Engine) stop() { e.closeOnce.Do(func() { close(e.closing) }) }

// sleep waits, and reports false if the mount is going away.
func (e *Engine) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-e.closing:
		return false
	}
}

// Prune asks the kernel to forget inodes that nobody uses, at most 1000 at a
// time: their FORGETs follow. It does nothing on kernels that cannot.
func (e *Engine) Prune(inodes []*Inode) error {
	if !e.Features.Prune || len(inodes) == 0 {
		return nil
	}
	const batch = 1000
	ids := make([]uint64, 0, min(len(inodes), batch))
	for _, i := range inodes {
		if ids = append(ids, i.id); len(ids) == batch {
			if err := e.n.prune(ids); err != nil {
				return err
			}
			ids = ids[:0]
		}
	}
	e.Counters.Prunes.Add(uint64(len(inodes)))
	if len(ids) == 0 {
		return nil
	}
	return e.n.prune(ids)
}
