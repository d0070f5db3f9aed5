package clusterconf

import (
	"errors"
	"fmt"
)

// ErrSyntax is the kind of every error about the content of a file.
var ErrSyntax = errors.New("bad cluster configuration")

// Error says what is wrong with a configuration file and where. It is of kind
// ErrSyntax.
type Error struct {
	File string
	Line int // from 1; 0 when the file as a whole is meant
	Col  int // from 1, in bytes
	Msg  string
}

// Error returns "file:line:column: what and what to do".
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Msg
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg)
}

// Unwrap makes errors.Is(err, ErrSyntax) true.
func (e *Error) Unwrap() error { return ErrSyntax }

// Note is something a reader of the file should know that is no error, such as
// a parameter this program does not use.
type Note struct {
	File      string
	Line, Col int
	Msg       string
}

// String returns "file:line:column: message".
func (n Note) String() string { return fmt.Sprintf("%s:%d:%d: %s", n.File, n.Line, n.Col, n.Msg) }
