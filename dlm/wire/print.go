package wire

import "strconv"

// AppendFrame appends one line (without newline) that describes the frame, wrapped or bare, for people. A frame
// that does not decode is described by its error and length; it never fails.
func AppendFrame(dst, frame []byte) []byte {
	var h Header
	if err := h.Decode(frame); err != nil {
		return appendBad(dst, frame, err)
	}
	if h.Cmd != CmdOpts {
		return appendInner(dst, frame)
	}
	var o Opts
	if err := o.Decode(frame); err != nil {
		return appendBad(dst, frame, err)
	}
	dst = appendKey(dst, "#", uint64(o.Seq()))
	dst = append(dst, ' ')
	return appendInner(dst, o.Inner)
}

// appendInner describes a message without wrapper.
func appendInner(dst, b []byte) []byte {
	var h Header
	if err := h.Decode(b); err != nil {
		return appendBad(dst, b, err)
	}
	switch h.Cmd {
	case CmdMsg:
		var m Message
		if err := m.Decode(b); err != nil {
			return appendBad(dst, b, err)
		}
		return m.AppendText(dst)
	case CmdRcom:
		var r Rcom
		if err := r.Decode(b); err != nil {
			return appendBad(dst, b, err)
		}
		return r.AppendText(dst)
	case CmdAck, CmdFin:
		if err := h.DecodeBare(b, h.Cmd); err != nil {
			return appendBad(dst, b, err)
		}
		dst = append(dst, h.Cmd.String()...)
		dst = appendKey(dst, " from=", uint64(h.NodeID))
		if h.Cmd == CmdAck {
			dst = appendKey(dst, " next=", uint64(h.Union))
		}
		return dst
	}
	return appendBad(dst, b, bad(ErrCmd, "stream", "h_cmd", 14, int64(CmdMsg), int64(h.Cmd)))
}

func appendBad(dst, b []byte, err error) []byte {
	dst = append(dst, "bad frame of "...)
	dst = strconv.AppendInt(dst, int64(len(b)), 10)
	dst = append(dst, " bytes: "...)
	return append(dst, err.Error()...)
}

// AppendText appends a one-line description: type, sender, lockspace, then every field that is not zero.
func (m *Message) AppendText(dst []byte) []byte {
	dst = append(dst, m.Type.String()...)
	dst = appendKey(dst, " from=", uint64(m.Header.NodeID))
	dst = appendHex(dst, " ls=", uint64(m.Header.Union))
	dst = appendKey(dst, " lkid=", uint64(m.LkID))
	dst = appendKey(dst, " remid=", uint64(m.RemID))
	if m.NodeID != 0 {
		dst = strconv.AppendInt(append(dst, " nodeid="...), int64(m.NodeID), 10)
	}
	dst = append(append(dst, " gr="...), m.GrMode.String()...)
	dst = append(append(dst, " rq="...), m.RqMode.String()...)
	if m.Type == MsgBast {
		dst = append(append(dst, " blocked="...), m.BastMode.String()...)
	}
	dst = appendFlagKey(dst, " ex=", lkfNames, uint32(m.ExFlags))
	dst = appendFlagKey(dst, " sb=", sbfNames, uint32(m.SBFlags))
	dst = appendFlagKey(dst, " fl=", iflNames, uint32(m.Flags))
	dst = appendFlagKey(dst, " asts=", astNames, uint32(m.Asts))
	if m.LVBSeq != 0 {
		dst = appendKey(dst, " lvbseq=", uint64(m.LVBSeq))
	}
	if m.Pid != 0 {
		dst = appendKey(dst, " pid=", uint64(m.Pid))
	}
	if m.Hash != 0 {
		dst = appendHex(dst, " hash=", uint64(m.Hash))
	}
	if m.Status != 0 {
		dst = append(append(dst, " on="...), m.Status.String()...)
	}
	if m.Result != 0 {
		dst = append(append(dst, " result="...), m.Result.String()...)
	}
	switch {
	case m.Type.HasName():
		dst = appendBytes(append(dst, " name="...), m.Extra)
	case len(m.Extra) > 0:
		dst = appendLVB(dst, m.Extra)
	}
	return dst
}

// String returns the line of AppendText.
func (m *Message) String() string { return string(m.AppendText(nil)) }

// AppendText appends a one-line description of the message and its payload.
func (r *Rcom) AppendText(dst []byte) []byte {
	dst = append(append(dst, "RCOM "...), r.Type.String()...)
	dst = appendKey(dst, " from=", uint64(r.Header.NodeID))
	dst = appendHex(dst, " ls=", uint64(r.Header.Union))
	dst = appendHex(dst, " id=", r.ID)
	dst = appendKey(dst, " seq=", r.Seq)
	if r.Type.IsReply() {
		dst = appendKey(dst, " reply_to=", r.SeqReply)
	}
	switch r.Type {
	case RcomStatus:
		var s StatusRequest
		if err := s.Decode(r.Buf); err != nil {
			return append(append(dst, " bad payload: "...), err.Error()...)
		}
		dst = appendHex(dst, " flags=", uint64(s.Flags))
	case RcomStatusReply:
		dst = r.appendStatusReply(dst)
	case RcomNames, RcomLookup:
		dst = appendBytes(append(dst, " name="...), r.Buf)
	case RcomNamesReply:
		dst = r.appendNames(dst)
	case RcomLookupReply:
		dst = strconv.AppendInt(append(dst, " master="...), int64(r.Result), 10)
	case RcomLock, RcomLockReply:
		dst = r.appendLock(dst)
	}
	return dst
}

// String returns the line of AppendText.
func (r *Rcom) String() string { return string(r.AppendText(nil)) }

func (r *Rcom) appendStatusReply(dst []byte) []byte {
	if r.Result < 0 {
		dst = append(append(dst, " status="...), Result(r.Result).String()...)
	} else {
		dst = append(append(dst, " status="...), RecoverStatus(r.Result).String()...)
	}
	var c RcomConfig
	slots, err := c.Decode(r.Buf)
	if err != nil {
		return append(append(dst, " bad payload: "...), err.Error()...)
	}
	dst = strconv.AppendInt(append(dst, " lvblen="...), int64(int32(c.LVBLen)), 10)
	dst = appendHex(dst, " lsflags=", uint64(c.LSFlags))
	dst = appendKey(dst, " slot=", uint64(c.OurSlot))
	dst = appendKey(dst, " generation=", uint64(c.Generation))
	for i := 0; i < len(slots); i += RcomSlotSize {
		var s RcomSlot
		if s.Decode(slots[i:]) == nil {
			dst = appendKey(dst, " ", uint64(s.Slot))
			dst = appendKey(dst, ":", uint64(s.NodeID))
		}
	}
	return dst
}

func (r *Rcom) appendNames(dst []byte) []byte {
	c, sep := NewNamesCursor(r.Buf), byte('[')
	dst = append(dst, ' ')
	for {
		name, err := c.Next()
		if err != nil {
			return append(append(dst, " bad payload: "...), err.Error()...)
		}
		if name == nil {
			break
		}
		dst = appendBytes(append(dst, sep), name)
		sep = ' '
	}
	if sep == '[' {
		dst = append(dst, '[')
	}
	if dst = append(dst, ']'); !c.Last() {
		dst = append(dst, " more"...)
	}
	return dst
}

func (r *Rcom) appendLock(dst []byte) []byte {
	var l RcomLockBuf
	if err := l.Decode(r.Buf); err != nil {
		return append(append(dst, " bad payload: "...), err.Error()...)
	}
	dst = appendKey(dst, " lkid=", uint64(l.LkID))
	dst = appendKey(dst, " remid=", uint64(l.RemID))
	dst = append(append(dst, " gr="...), l.GrMode.String()...)
	dst = append(append(dst, " rq="...), l.RqMode.String()...)
	dst = append(append(dst, " on="...), l.Status.String()...)
	dst = appendFlagKey(dst, " ex=", lkfNames, uint32(l.ExFlags))
	dst = appendFlagKey(dst, " fl=", iflNames, uint32(l.Flags))
	dst = appendFlagKey(dst, " asts=", astNames, uint32(l.Asts))
	if l.WaitType != 0 {
		dst = append(append(dst, " waits="...), l.WaitType.String()...)
	}
	if l.LVBSeq != 0 {
		dst = appendKey(dst, " lvbseq=", uint64(l.LVBSeq))
	}
	if l.Result != 0 {
		dst = append(append(dst, " result="...), l.Result.String()...)
	}
	dst = appendBytes(append(dst, " name="...), l.Name)
	if len(l.LVB) > 0 {
		dst = appendLVB(dst, l.LVB)
	}
	return dst
}

func appendKey(dst []byte, key string, v uint64) []byte {
	return strconv.AppendUint(append(dst, key...), v, 10)
}

func appendHex(dst []byte, key string, v uint64) []byte {
	return strconv.AppendUint(append(append(dst, key...), "0x"...), v, 16)
}

func appendFlagKey(dst []byte, key string, names []flagName, v uint32) []byte {
	if v == 0 {
		return dst
	}
	return appendFlags(append(dst, key...), names, v)
}

const hexDigits = "0123456789abcdef"

// appendBytes writes printable ASCII as it is and the rest as \xNN, so that binary names stay one word.
func appendBytes(dst, b []byte) []byte {
	for _, c := range b {
		if c > ' ' && c < 0x7f && c != '\\' {
			dst = append(dst, c)
			continue
		}
		dst = append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
	}
	return dst
}

// appendLVB writes the length and the content up to the last byte that is not zero.
func appendLVB(dst, b []byte) []byte {
	dst = appendKey(dst, " lvb[", uint64(len(b)))
	dst = append(dst, "]="...)
	n := len(b)
	for n > 0 && b[n-1] == 0 {
		n--
	}
	return appendBytes(dst, b[:n])
}
