package kcache

import "github.com/hanwen/go-fuse/v2/fuse"

// forever is a validity in seconds that the kernel never sees end.
const forever = 1 << 32

// EntryFlags modify Entry.
type EntryFlags uint8

// The flags of Entry.
const (
	// Created: the reply makes the inode (CREATE, MKNOD, MKDIR, SYMLINK,
	// LINK): its attributes get no validity.
	Created EntryFlags = 1 << iota
	// NameUncached: the caller does not hold the dentry lock.
	NameUncached
	// AttrUncached: the caller does not hold META of the child.
	AttrUncached
)

// Entry completes a reply that names child as dir/name; the attributes are
// already in out. The caller holds the dentry lock and META of child, or says
// in f that it does not, has not yet released META of dir, and holds what keeps
// local changes of child's size away. It counts the
// lookup, so the reply must be sent; use Unsent if it is not.
func (e *Engine) Entry(out *fuse.EntryOut, dir *Inode, name string, child *Inode, f EntryFlags) {
	out.NodeId, out.Generation = child.id, child.gen
	if e.nameCacheable() && f&NameUncached == 0 {
		out.EntryValid = forever
	}
	fresh := false
	child.mu.Lock()
	if child.lookups++; child.lookups == 1 && child.id != fuse.FUSE_ROOT_ID {
		child.size, fresh = out.Size, true
	}
	if f&(Created|AttrUncached) == 0 {
		out.AttrValid = forever
	}
	child.given.attrs = true
	child.addLink(dir, name)
	child.mu.Unlock()
	dir.mu.Lock()
	delete(dir.absent, name)
	dir.mu.Unlock()
	if !fresh && !child.dir {
		e.noteSize(child, out.Size)
	}
}

// Unsent takes an Entry back whose reply was not sent after all.
func (e *Engine) Unsent(child *Inode) { child.Forget(1) }

// addLink remembers a name; few inodes have more than one. mu held.
func (i *Inode) addLink(dir *Inode, name string) {
	for _, l := range i.links {
		if l.dir == dir && l.name == name {
			return
		}
	}
	i.links = append(i.links, link{dir, name})
}

// Negative completes the reply to a LOOKUP of a name that does not exist. The
// caller holds META of dir. Its result is that of the handler.
func (e *Engine) Negative(out *fuse.EntryOut, dir *Inode, name string) fuse.Status {
	if !e.nameCacheable() {
		return fuse.ENOENT
	}
	dir.mu.Lock()
	defer dir.mu.Unlock()
	if _, known := dir.absent[name]; !known {
		if len(dir.absent) >= maxNegatives {
			return fuse.ENOENT
		}
		if dir.absent == nil {
			dir.absent = map[string]struct{}{}
		}
		dir.absent[name] = struct{}{}
	}
	out.NodeId, out.EntryValid = 0, forever
	return fuse.OK
}

// Attr completes a GETATTR or SETATTR reply; the attributes are already in
// out. The caller holds META of i, and what keeps local changes of the size
// away (the mutex that guards the attributes).
func (e *Engine) Attr(out *fuse.AttrOut, i *Inode) {
	out.AttrValid = forever
	i.mu.Lock()
	i.given.attrs = true
	i.mu.Unlock()
	if !i.dir {
		e.noteSize(i, out.Size)
	}
}

// Renamed notes that the kernel's name of child moves with a RENAME of this
// node. The caller holds META EX of both directories.
func (e *Engine) Renamed(dir *Inode, name string, newDir *Inode, newName string, child *Inode) {
	child.mu.Lock()
	child.unlink(dir, name)
	child.addLink(newDir, newName)
	child.mu.Unlock()
	newDir.mu.Lock()
	delete(newDir.absent, newName)
	newDir.mu.Unlock()
}

// Removed notes that an UNLINK or RMDIR of this node, or a RENAME over it, took
// the name of child away: the kernel drops it by itself.
func (e *Engine) Removed(dir *Inode, name string, child *Inode) {
	child.mu.Lock()
	defer child.mu.Unlock()
	child.unlink(dir, name)
}

// unlink forgets a name. mu held.
func (i *Inode) unlink(dir *Inode, name string) {
	for k, l := range i.links {
		if l.dir == dir && l.name == name {
			i.links = append(i.links[:k], i.links[k+1:]...)
			return
		}
	}
}

// nameCacheable reports whether names can be taken back if they are given out.
func (e *Engine) nameCacheable() bool { return e.Features.Epoch && !e.mountBelow.Load() }
