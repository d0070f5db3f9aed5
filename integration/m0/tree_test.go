package m0

import (
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// disk is the tree that all nodes share: what a shared volume would be. The
// fields of a dnode are guarded by cluster locks (META), the map by mu.
type disk struct {
	mu    sync.Mutex // guards nodes, next
	nodes map[uint64]*dnode
	next  uint64
}

type dnode struct {
	id, gen  uint64
	kind     uint32 // type bits of mode, constant
	mode     uint32
	uid, gid uint32
	nlink    uint32
	atime    time.Time
	mtime    time.Time
	ctime    time.Time
	data     []byte
	target   string
	names    map[string]*dent
	cookie   uint64
	parent   uint64 // of a directory; changed under the rename lock
}

type dent struct {
	name   string
	id     uint64
	mode   uint32
	cookie uint64
}

func newDisk() *disk {
	d := &disk{nodes: map[uint64]*dnode{}, next: fuse.FUSE_ROOT_ID}
	root := d.add(syscall.S_IFDIR|0o755, 0, 0)
	root.parent = root.id
	return d
}

func (d *disk) add(mode, uid, gid uint32) *dnode {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	n := &dnode{id: d.next, gen: 1, kind: mode & syscall.S_IFMT, mode: mode, uid: uid, gid: gid, nlink: 1, atime: now, mtime: now, ctime: now, cookie: 2}
	if mode&syscall.S_IFMT == syscall.S_IFDIR {
		n.names, n.nlink = map[string]*dent{}, 2
	}
	d.next++
	d.nodes[n.id] = n
	return n
}

func (d *disk) get(id uint64) *dnode {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.nodes[id]
}

func (n *dnode) isDir() bool { return n.kind == syscall.S_IFDIR }

func (n *dnode) touch() { n.mtime = time.Now(); n.ctime = n.mtime }

func (n *dnode) insert(name string, c *dnode) {
	n.cookie++
	n.names[name] = &dent{name, c.id, c.kind, n.cookie}
	n.touch()
}

func (n *dnode) remove(name string) {
	delete(n.names, name)
	n.touch()
}

// after lists the entries behind a cookie, in order.
func (n *dnode) after(off uint64) []*dent {
	var all []*dent
	for _, e := range n.names {
		if e.cookie > off {
			all = append(all, e)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].cookie < all[j].cookie })
	return all
}

func (n *dnode) size() uint64 {
	switch n.kind {
	case syscall.S_IFDIR:
		return 4096
	case syscall.S_IFLNK:
		return uint64(len(n.target))
	}
	return uint64(len(n.data))
}

func (n *dnode) attr(a *fuse.Attr) {
	*a = fuse.Attr{Ino: n.id, Size: n.size(), Blocks: (n.size() + 511) / 512, Mode: n.mode, Nlink: n.nlink, Blksize: 4096,
		Owner: fuse.Owner{Uid: n.uid, Gid: n.gid}}
	a.SetTimes(&n.atime, &n.mtime, &n.ctime)
}

// resize truncates or extends with zeros.
func (n *dnode) resize(size uint64) {
	if size <= uint64(len(n.data)) {
		n.data = append([]byte(nil), n.data[:size]...)
		return
	}
	n.data = append(n.data, make([]byte, size-uint64(len(n.data)))...)
}

// writeAt extends the file if it has to.
func (n *dnode) writeAt(p []byte, off uint64) {
	if end := off + uint64(len(p)); end > uint64(len(n.data)) {
		n.resize(end)
	}
	copy(n.data[off:], p)
}

// faults are what a run does to provoke races.
type faults struct {
	replyDelay time.Duration // longest, after the locks are released
	seq        atomic.Uint64
}

// pause spreads replies over replyDelay without a shared random source.
func (f *faults) pause() {
	if f.replyDelay > 0 {
		n := f.seq.Add(1) * 0x9E3779B97F4A7C15
		time.Sleep(time.Duration(n>>33) % f.replyDelay)
	}
}
