// Package fuse serves a volume to the kernel through go-fuse's raw API. A node
// id is the inode's number (the root: 1), so there is one inode table, the
// volume's; each lookup the kernel counts is one reference of the inode.
//
// It is thin: a handler turns a request into one call of fs/volume, hands the
// result out through fs/fuse/kcache while the locks that cover it are held (the
// volume calls back for that), and turns errors into errno. Everything about
// what the kernel may cache, and how it is taken back, is kcache's.
//
// Files: ops_name.go (names), ops_attr.go (attributes), ops_file.go (open files
// and data), ops_dir.go (listings), ops_lock.go (flock), errno.go, mount.go.
package fuse
