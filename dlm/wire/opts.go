package wire

// Opts is the wrapper of the reliable layer (Linux struct dlm_opts), 24 bytes, then options, then the inner message
// with its own complete header.
//
//	off size field
//	  0   16 o_header: h_cmd OPTS, h_seq the sequence number, h_length 24 + o_optlen + inner length
//	 16    1 o_nextcmd: MSG, RCOM or FIN
//	 17    1 o_pad
//	 18    2 o_optlen: bytes of options, always 0 today
//	 20    4 o_pad2
//	 24    . options, inner message
type Opts struct {
	Header  Header
	NextCmd Cmd
	Pad     uint8
	OptLen  uint16
	Pad2    uint32
	Options []byte // raw option records, aliases the input
	Inner   []byte // inner message, aliases the input
}

// Seq returns the sequence number.
func (o *Opts) Seq() uint32 { return o.Header.Union }

// Append encodes o with its options and inner message; lengths are taken from the slices.
func (o *Opts) Append(dst []byte) []byte {
	h := o.Header
	h.Cmd = CmdOpts
	h.Length = uint16(OptsSize + len(o.Options) + len(o.Inner))
	dst = h.Append(dst)
	dst = append(dst, byte(o.NextCmd), o.Pad)
	dst = le.AppendUint16(dst, uint16(len(o.Options)))
	dst = le.AppendUint32(dst, o.Pad2)
	dst = append(dst, o.Options...)
	return append(dst, o.Inner...)
}

// AppendOpts encodes only the 24 wrapper bytes of node with sequence number seq; the caller appends the inner
// message of innerLen bytes and kind next behind it.
func AppendOpts(dst []byte, node, seq uint32, next Cmd, innerLen int) []byte {
	h := Header{Union: seq, NodeID: node, Length: uint16(OptsSize + innerLen), Cmd: CmdOpts}
	dst = h.Append(dst)
	return append(dst, byte(next), 0, 0, 0, 0, 0, 0, 0)
}

// minInner is the least length of an inner message of each command (Linux dlm_midcomms_recv_opts); 0 = not allowed.
var minInner = [...]int{CmdMsg: MessageSize, CmdRcom: RcomSize, CmdOpts: 0, CmdAck: 0, CmdFin: FinSize}

func innerMinimum(c Cmd) int {
	if int(c) < len(minInner) {
		return minInner[c]
	}
	return 0
}

// Decode reads a whole wrapped frame. Besides the header it checks what the kernel checks: o_optlen fits, the rest
// is at least the minimum of o_nextcmd, and the inner h_length at least the minimum of the inner h_cmd; further that
// the inner message ends exactly with the outer one and that both name the same command, without which the stream
// and the message would disagree about what was delivered.
func (o *Opts) Decode(b []byte) error {
	if err := o.Header.decode(b, "opts", CmdOpts, OptsSize); err != nil {
		return err
	}
	o.NextCmd, o.Pad = Cmd(b[16]), b[17]
	o.OptLen, o.Pad2 = le.Uint16(b[18:]), le.Uint32(b[20:])
	rest := b[OptsSize:]
	if int(o.OptLen) > len(rest) {
		return bad(ErrLength, "opts", "o_optlen", 18, int64(len(rest)), int64(o.OptLen))
	}
	o.Options, o.Inner = rest[:o.OptLen:o.OptLen], rest[o.OptLen:]
	least := innerMinimum(o.NextCmd)
	if least == 0 {
		return bad(ErrCmd, "opts", "o_nextcmd", 16, int64(CmdMsg), int64(o.NextCmd))
	}
	if len(o.Inner) < least {
		return bad(ErrShort, "opts", "inner", OptsSize+int(o.OptLen), int64(least), int64(len(o.Inner)))
	}
	var in Header
	if err := in.Decode(o.Inner); err != nil {
		return err
	}
	if in.Cmd != o.NextCmd {
		return bad(ErrCmd, "opts", "inner h_cmd", OptsSize+int(o.OptLen)+14, int64(o.NextCmd), int64(in.Cmd))
	}
	if int(in.Length) != len(o.Inner) {
		return bad(ErrLength, "opts", "inner h_length", OptsSize+int(o.OptLen)+12, int64(len(o.Inner)), int64(in.Length))
	}
	return nil
}
