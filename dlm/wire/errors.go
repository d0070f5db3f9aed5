package wire

import (
	"errors"
	"fmt"
)

// Kinds of FormatError, for errors.Is.
var (
	ErrShort   = errors.New("dlm wire: message too short")
	ErrLength  = errors.New("dlm wire: length field out of range")
	ErrVersion = errors.New("dlm wire: unsupported protocol version")
	ErrCmd     = errors.New("dlm wire: unexpected command")
	ErrValue   = errors.New("dlm wire: invalid field value")
)

// FormatError says which field of which structure was refused and why. Offset counts bytes from the beginning of
// the structure named by What.
type FormatError struct {
	Kind   error  // one of the Err kinds above
	What   string // structure: "header", "msg", "rcom_lock", ...
	Field  string // field, as in the kernel: "h_length", "rl_namelen", ...
	Offset int    // offset of the field in the structure, bytes
	Want   int64  // limit or expected value
	Have   int64  // value found
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("%v: %s.%s at offset %d: want %d, have %d", e.Kind, e.What, e.Field, e.Offset, e.Want, e.Have)
}

// Unwrap returns the kind.
func (e *FormatError) Unwrap() error { return e.Kind }

func bad(kind error, what, field string, off int, want, have int64) error {
	return &FormatError{Kind: kind, What: what, Field: field, Offset: off, Want: want, Have: have}
}
