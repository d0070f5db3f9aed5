package command

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
)

// Exit codes. They are an interface for scripts, /etc/fstab and boot systems, and
// follow the conventions of the tools that each command stands for. A code that was
// once given out keeps its meaning.
//
// All commands:
const (
	// ExitOK: success.
	ExitOK = 0
	// ExitFailure: the command failed; the message says why.
	ExitFailure = 1
	// ExitUsage: wrong flags or arguments. Commands that follow another convention
	// have their own code for this, see commandCodes.
	ExitUsage = 2
	// ExitInterrupted: ended by SIGINT or SIGTERM (128 + SIGINT, as shells have it).
	ExitInterrupted = 130
)

// fsck (fsck(8)); the sum of the conditions that hold.
const (
	// ExitFsckCorrected: errors were found and corrected.
	ExitFsckCorrected = 1
	// ExitFsckReboot: corrected, and the volume should be mounted anew everywhere.
	ExitFsckReboot = 2
	// ExitFsckUncorrected: errors were left uncorrected.
	ExitFsckUncorrected = 4
	// ExitFsckError: the check could not be done.
	ExitFsckError = 8
	// ExitFsckUsage: wrong flags or arguments.
	ExitFsckUsage = 16
	// ExitFsckCanceled: the user ended it.
	ExitFsckCanceled = 32
)

// mount and umount (mount(8)).
const (
	// ExitMountUsage: wrong flags or arguments, or no permission.
	ExitMountUsage = 1
	// ExitMountSystem: a system error (out of memory, cannot fork, no /dev/fuse).
	ExitMountSystem = 2
	// ExitMountInterrupted: the user ended it.
	ExitMountInterrupted = 8
	// ExitMountFailed: the mount failed.
	ExitMountFailed = 32
)

// codes is what a command exits with when its error carries no code of its own.
type codes struct{ failure, usage, interrupted int }

// commandCodes holds the commands that follow a convention; mkfs(8) knows only 0
// and 1.
var commandCodes = map[string]codes{
	"mkfs":   {ExitFailure, ExitFailure, ExitFailure},
	"fsck":   {ExitFsckError, ExitFsckUsage, ExitFsckCanceled},
	"mount":  {ExitMountFailed, ExitMountUsage, ExitMountInterrupted},
	"umount": {ExitMountFailed, ExitMountUsage, ExitMountInterrupted},
}

// ExitError gives an error the exit code that goes with it.
type ExitError struct {
	Code int
	Err  error
}

// Error implements error.
func (e *ExitError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ExitError) Unwrap() error { return e.Err }

// exitCode chooses the exit code for err, the outcome of cmd. ran tells that the
// flags and arguments were accepted.
func exitCode(cmd *cobra.Command, ran bool, err error) int {
	if err == nil {
		return ExitOK
	}
	var coded *ExitError
	if errors.As(err, &coded) {
		return coded.Code
	}
	c, ok := commandCodes[cmd.Name()]
	if !ok {
		c = codes{ExitFailure, ExitUsage, ExitInterrupted}
	}
	switch {
	case !ran:
		return c.usage
	case errors.Is(err, context.Canceled):
		return c.interrupted
	}
	return c.failure
}
