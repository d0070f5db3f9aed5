// Package tidy holds the project's rules of style and layering as tests: which
// package may import which, how long files and functions may be, what must be
// documented, and which calls are banned. `make check` runs it.
//
// Each rule is a function from a parsed file to findings, and each has a test that
// feeds it a bad source, so that a rule that went blind is noticed. Exceptions are
// tables next to the rule, with the reason; a table entry that is no longer needed
// fails the test, so the tables only shrink.
package tidy
