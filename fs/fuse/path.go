package fuse

import "github.com/ocfuse/ocfuse/fs/volume"

// PathOf returns a path, from the root of the mount, of what a lock resource
// protects (its Data), for display; "" if none is known.
func PathOf(data any) string {
	i, ok := data.(*volume.Inode)
	if !ok {
		return ""
	}
	if k := known(i); k != nil {
		return k.Path()
	}
	return i.SystemName()
}
