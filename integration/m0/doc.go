// Package m0 proves the cache protocol (fs/fuse/kcache over fs/locking) before
// there is a filesystem: several mounts in one process show one tree in
// memory, each as its own node of a fake lock manager (stackglue/fakestack).
// The tree is the disk; what is on trial is what each mount's kernel caches of
// it. META, RW and dentry locks are taken as the real filesystem takes them.
//
// The checks run in another process (this test binary again): a FUSE server
// that touches its own mounts can wait for itself. They need root and
// /dev/fuse. -m0.run runs a command over two mounts instead, {0} and {1}
// standing for their directories:
//
//	go test ./integration/m0 -run TestRun -m0.run 'some-check {0} {1}'
package m0
