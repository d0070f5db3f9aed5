// Package wire holds the messages of the Linux DLM protocol 3.2 as they travel over TCP: structs, hand-written
// marshalling, the stream framer, the resource hash and the directory function. It knows formats, not behaviour.
//
// Who uses it: dlm/core builds and reads Message and Rcom; dlm/midcomms wraps them in Opts and adds Ack and Fin;
// dlm/lowcomms cuts the stream with Framer; `ocfuse debug dlm` prints with AppendFrame.
//
// A stream is a plain concatenation of messages, no padding, each beginning with Header:
//
//	bare frame      Header | body                         RCOM STATUS(_REPLY), NAMES(_REPLY), ACK
//	wrapped frame   Opts (24) | Header | body             everything else: MSG, other RCOM, FIN
//
// Byte order: little-endian throughout, except the 16-bit name lengths of a NAMES_REPLY payload (big-endian). The
// lock value blocks inside are opaque here.
//
// Conventions, the same for every struct:
//
//   - Append(dst) encodes behind dst and returns the longer slice; with enough capacity it does not allocate. It sets
//     h_length and h_cmd itself; h_version 0 is written as Version. Everything else is written as it stands.
//   - Decode(b) wants exactly one message in b (len(b) == h_length), sets every field, allocates nothing, and lets
//     byte slices of the struct (Extra, Buf, Name, LVB) alias b. It fails with a *FormatError; the receiver is then
//     unspecified.
//   - Reserved bytes of headers are kept, so decode and re-encode is the identity on every accepted frame.
//   - Nothing panics on input.
//
// Rules: Linux fs/dlm/dlm_internal.h (structs), fs/dlm/midcomms.c (length checks), fs/dlm/rcom.c, fs/dlm/dir.c.
package wire
