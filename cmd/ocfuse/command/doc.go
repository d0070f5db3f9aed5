// Package command is the command line of ocfuse: one file per command, each with an
// options struct, a constructor that declares the flags, and a run function. Only
// commands that work are registered (root.go).
//
// Rules for a command:
//
//   - It reads and writes only through its Env, so that a test can run the real
//     root command and look at what came out.
//   - A command that prints facts has --json (addJSON, printJSON); the field names
//     are an interface and do not change.
//   - Results go to Out, progress and messages to Err.
//   - It returns errors; the exit code is chosen in exitcode.go, and nowhere else.
//   - Logging goes through Env.Log, which --log-level and --log-format set up.
package command
