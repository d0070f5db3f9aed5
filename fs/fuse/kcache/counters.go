package kcache

import "sync/atomic"

// Counters say what passed between the kernel and this node.
type Counters struct {
	Requests [numRequests]atomic.Uint64

	Revokes   atomic.Uint64 // RevokeInode calls for inodes that the kernel knows
	Inodes    atomic.Uint64 // INVAL_INODE sent
	Entries   atomic.Uint64 // INVAL_ENTRY sent
	Epochs    atomic.Uint64 // INC_EPOCH sent
	Prunes    atomic.Uint64 // inodes named in PRUNE
	PageDrops atomic.Uint64 // INVAL_INODE of pages, of Inodes
	Extends   atomic.Uint64 // STORE sent to raise a file's size
	Retries   atomic.Uint64 // INVAL_INODE repeated for a reply in flight
	Stuck     atomic.Uint64 // page drops that went around a locked page
	GivenUp   atomic.Uint64 // inodes whose reply the kernel never took
}

// Status is a snapshot of the counters for `ocfuse status`.
type Status struct {
	FuseRequests uint64            `json:"fuse_requests"` // without FORGET, RELEASE, RELEASEDIR, INTERRUPT
	ByKind       map[string]uint64 `json:"fuse_requests_by_kind"`
	Notifies     uint64            `json:"fuse_notifies"`
	Epochs       uint64            `json:"fuse_epochs"`
	Revokes      uint64            `json:"fuse_revokes"`
	Retries      uint64            `json:"fuse_notify_retries"`
	Stuck        uint64            `json:"fuse_notifies_stuck"`
	NamesCached  bool              `json:"fuse_names_cached"`
}

// Status returns the counters.
func (e *Engine) Status() Status {
	c := &e.Counters
	s := Status{ByKind: map[string]uint64{}, Epochs: c.Epochs.Load(), Revokes: c.Revokes.Load(), Retries: c.Retries.Load(),
		Stuck: c.Stuck.Load(), NamesCached: e.nameCacheable()}
	s.Notifies = c.Inodes.Load() + c.Entries.Load() + s.Epochs + c.Extends.Load()
	for k := range c.Requests {
		if n := c.Requests[k].Load(); n != 0 {
			s.ByKind[requestNames[k]] = n
			s.FuseRequests += n
		}
	}
	return s
}
