// Package cluster tests several real nodes: processes of the ocfuse binary that
// mount one image through FUSE on this machine. It needs root or fusermount3,
// and /dev/fuse, fsck.ocfs2 and flock(1). With -race the nodes are built with the
// race detector too, and what it reports fails the test.
//
// Every test gets a Cluster: an image, and nodes that it can mount, kill and
// unmount. When it ends all nodes leave, no process or mount may be left, and the
// volume is checked by fsck.ocfs2 and by fs/check.
package cluster
