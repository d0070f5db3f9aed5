// Package node runs one cluster node: a volume, its FUSE mount, and the control
// socket, from joining to leaving. It is what `ocfuse mount` runs in the
// background, or in the foreground with --foreground.
//
// States, as `ocfuse status` shows them:
//
//	joining ── volume mounted, then mount(2) ──▶ mounted ── umount, SIGTERM ──▶ leaving ──▶ (gone)
//	                                                │
//	                                                └── fenced, journal aborted ──▶ failed (read-only or dead; umount still works)
package node
