package journal

import "errors"

// Kinds of failure, for errors.Is.
var (
	// ErrAborted: the journal gave up after an I/O error or by Abort; the error also
	// wraps the reason. Nothing can be changed any more.
	ErrAborted = errors.New("journal is aborted")
	// ErrClosed: the journal was closed.
	ErrClosed = errors.New("journal is closed")
	// ErrCredits: a handle asked for or used more blocks than it can have.
	ErrCredits = errors.New("not enough journal credits")
	// ErrNeedsReplay: the log is not empty; call Replay (dirty slot) or Wipe first.
	ErrNeedsReplay = errors.New("journal needs replay")
	// ErrCorrupt: the log or its superblock contradicts the format.
	ErrCorrupt = errors.New("journal is corrupt")
	// ErrUnsupported: the log uses a feature that this package refuses to write or replay.
	ErrUnsupported = errors.New("journal feature not supported")
)
