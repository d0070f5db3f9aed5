// Package control is how commands talk to a running node: one request and one
// reply in JSON over a Unix socket in the file system. It never touches the
// mount, so it works when the mount hangs, and from other network namespaces.
//
// A node listens on <runtime dir>/<key of the mount point>.sock. The key is
// computed from the cleaned absolute path, without looking at it. The runtime
// directory is /run/ocfuse for root, else $XDG_RUNTIME_DIR/ocfuse.
//
// A socket that nobody answers belongs to a node that died; Find tells so, and
// whoever mounts there next removes it.
package control
