// Package cluster tests several real nodes: processes of the ocfuse binary that
// mount one image through FUSE on this machine. It needs root or fusermount3,
// and /dev/fuse.
package cluster
