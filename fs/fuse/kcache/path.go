package kcache

import "github.com/hanwen/go-fuse/v2/fuse"

// Path returns a path of the inode from the mount's root, from the names that
// the kernel was told of; "" if it was told of none. It is for display: the
// file may be called something else by now.
func (i *Inode) Path() string {
	path := ""
	for depth := 0; i.id != fuse.FUSE_ROOT_ID; depth++ {
		i.mu.Lock()
		if len(i.links) == 0 || depth > maxPathDepth {
			i.mu.Unlock()
			return ""
		}
		l := i.links[0]
		i.mu.Unlock()
		path = "/" + l.name + path
		i = l.dir
	}
	if path == "" {
		return "/"
	}
	return path
}

// maxPathDepth ends a walk through names that went stale in a circle.
const maxPathDepth = 4096
