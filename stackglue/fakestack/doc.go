// Package fakestack is a lock manager for several nodes in one process. It
// keeps the contract of package stackglue to the letter and nothing more:
// tests of fs/locking and of the FUSE cache engine run on it, with delays and
// reordering drawn from a seed, before a real lock manager is involved.
//
// Its rules are those of Linux fs/dlm: a request is granted when it is
// compatible with all granted modes and nothing waits before it; converts go
// before requests; two PR holders that both convert to EX wait for ever unless
// one cancels; value blocks are written by the holder of EX and lost with it.
//
// One mutex guards everything: speed is not its purpose. Callbacks run
// without it, one at a time for one lock, in order; callbacks of different
// locks overtake each other.
package fakestack
