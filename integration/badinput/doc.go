// Package badinput proves that bad input ends in a clear error: no panic, no
// hang, nothing lost.
//
//   - Damaged volumes: metadata blocks of a volume in memory are changed by seed,
//     the volume is mounted in this process with the local stack, walked, read,
//     changed a little and left. Errors are expected, and whatever comes of it,
//     it ends within a deadline and leaves no goroutine behind.
//   - The command line: the ocfuse binary is given what it must refuse, and its
//     exit code and message are compared with what the manual promises.
//
// The cases of the command line that mount need root and /dev/fuse.
package badinput
