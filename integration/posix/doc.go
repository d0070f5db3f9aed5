// Package posix proves that a mounted volume behaves as programs expect of a
// file system: a suite of named checks, each given an empty folder on the mount.
// The server is the real program in a process of its own, on a volume of the
// local stack; the checks run in the test process. The same suite runs on a
// folder of the host's own file system, so that a check that asks for more than
// Linux gives fails there.
//
// The suite needs root and /dev/fuse.
package posix
