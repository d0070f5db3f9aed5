package wire

import "encoding/binary"

var le = binary.LittleEndian

// Protocol versions as found in h_version (major in the high, minor in the low 16 bits).
const (
	Version   = 0x00030002 // 3.2: what we send, and the only version that has the reliable layer
	Version31 = 0x00030001 // 3.1: peers that send MSG and RCOM bare
)

// Sizes in bytes.
const (
	HeaderSize   = 16
	OptsSize     = 24
	AckSize      = HeaderSize
	FinSize      = HeaderSize
	MessageSize  = 88                     // MSG without m_extra
	RcomSize     = 48                     // RCOM without rc_buf
	MaxFrame     = 4096                   // largest h_length on the stream (Linux DLM_MAX_SOCKET_BUFSIZE)
	MaxInner     = MaxFrame - OptsSize    // largest message inside the wrapper
	MaxExtra     = MaxInner - MessageSize // largest m_extra
	MaxRcomBuf   = MaxInner - RcomSize    // largest rc_buf
	ResNameMax   = 64                     // longest resource name (Linux DLM_RESNAME_MAXLEN)
	LockspaceMax = 64                     // longest lockspace name (Linux DLM_LOCKSPACE_LEN)
)

// Cmd is h_cmd: what follows the header.
type Cmd uint8

// Commands.
const (
	CmdMsg  Cmd = 1 // lock operation, Message
	CmdRcom Cmd = 2 // recovery message, Rcom
	CmdOpts Cmd = 3 // reliable wrapper, Opts
	CmdAck  Cmd = 4 // acknowledgement, header only
	CmdFin  Cmd = 5 // end of the pair's association, header only, wrapped
)

var cmdNames = [...]string{CmdMsg: "MSG", CmdRcom: "RCOM", CmdOpts: "OPTS", CmdAck: "ACK", CmdFin: "FIN"}

// String returns the kernel's name of the command.
func (c Cmd) String() string { return nameOf(cmdNames[:], uint32(c), "CMD") }

// Header is the 16-byte header of every message (Linux struct dlm_header).
//
//	off size field
//	  0    4 h_version
//	  4    4 u.h_lockspace (MSG, RCOM) | u.h_seq (OPTS, ACK) | 0 (FIN)
//	  8    4 h_nodeid, the sender
//	 12    2 h_length, whole message with this header
//	 14    1 h_cmd
//	 15    1 h_pad
type Header struct {
	Version uint32
	// Union is the lockspace's global id in MSG and RCOM, the sequence number in OPTS, and the next expected
	// sequence number in ACK.
	Union  uint32
	NodeID uint32
	Length uint16
	Cmd    Cmd
	Pad    uint8
}

// Append encodes h behind dst, as it stands (h_version 0 becomes Version).
func (h *Header) Append(dst []byte) []byte {
	v := h.Version
	if v == 0 {
		v = Version
	}
	dst = le.AppendUint32(dst, v)
	dst = le.AppendUint32(dst, h.Union)
	dst = le.AppendUint32(dst, h.NodeID)
	dst = le.AppendUint16(dst, h.Length)
	return append(dst, byte(h.Cmd), h.Pad)
}

// Decode reads the header at the beginning of b, which may be longer. It checks nothing but that 16 bytes are
// there; ErrShort otherwise.
func (h *Header) Decode(b []byte) error {
	if len(b) < HeaderSize {
		return bad(ErrShort, "header", "h_version", 0, HeaderSize, int64(len(b)))
	}
	_ = b[15]
	h.Version = le.Uint32(b)
	h.Union = le.Uint32(b[4:])
	h.NodeID = le.Uint32(b[8:])
	h.Length = le.Uint16(b[12:])
	h.Cmd = Cmd(b[14])
	h.Pad = b[15]
	return nil
}

// decode reads and checks the header of a message that fills b: known version, command want, h_length == len(b),
// at least minimum bytes, at most MaxFrame.
func (h *Header) decode(b []byte, what string, want Cmd, minimum int) error {
	if err := h.Decode(b); err != nil {
		return err
	}
	switch {
	case h.Version != Version && h.Version != Version31:
		return bad(ErrVersion, what, "h_version", 0, Version, int64(h.Version))
	case h.Cmd != want:
		return bad(ErrCmd, what, "h_cmd", 14, int64(want), int64(h.Cmd))
	case len(b) > MaxFrame:
		return bad(ErrLength, what, "h_length", 12, MaxFrame, int64(len(b)))
	case int(h.Length) != len(b):
		return bad(ErrLength, what, "h_length", 12, int64(len(b)), int64(h.Length))
	case len(b) < minimum:
		return bad(ErrShort, what, "h_length", 12, int64(minimum), int64(len(b)))
	}
	return nil
}

// DecodeBare reads a message that consists of its header only: ACK, or a FIN after unwrapping.
func (h *Header) DecodeBare(b []byte, want Cmd) error {
	if err := h.decode(b, want.String(), want, HeaderSize); err != nil {
		return err
	}
	if len(b) != HeaderSize {
		return bad(ErrLength, want.String(), "h_length", 12, HeaderSize, int64(len(b)))
	}
	return nil
}

// AppendAck encodes an ACK of node saying that next is the next expected sequence number (bare, 16 bytes).
func AppendAck(dst []byte, node, next uint32) []byte {
	h := Header{Union: next, NodeID: node, Length: AckSize, Cmd: CmdAck}
	return h.Append(dst)
}

// AppendFin encodes the inner 16-byte FIN of node; it travels wrapped in Opts.
func AppendFin(dst []byte, node uint32) []byte {
	h := Header{NodeID: node, Length: FinSize, Cmd: CmdFin}
	return h.Append(dst)
}
