package wire

// CheckSend judges a message that is about to be sent: it refuses what would crash, wedge or mislead a Linux 6.1
// peer, which does not check these things itself (Linux fs/dlm/lock.c uses modes as table indexes, stores results
// and flags as they come). Nothing of this is checked when receiving. Use it in tests, simulators and debug builds.
func (m *Message) CheckSend() error {
	if err := checkVersion("msg", m.Header.Version); err != nil {
		return err
	}
	switch {
	case m.Type < MsgRequest || m.Type > MsgPurge:
		return bad(ErrValue, "msg", "m_type", 16, int64(MsgPurge), int64(m.Type))
	case m.Flags&^IFLMask != 0:
		return bad(ErrValue, "msg", "m_flags", 52, int64(m.Flags&IFLMask), int64(m.Flags))
	case m.ParentLkID != 0:
		return bad(ErrValue, "msg", "m_parent_lkid", 36, 0, int64(m.ParentLkID))
	case m.ParentRemID != 0:
		return bad(ErrValue, "msg", "m_parent_remid", 40, 0, int64(m.ParentRemID))
	}
	if err := m.checkExtra(); err != nil {
		return err
	}
	return m.checkByType()
}

func checkVersion(what string, v uint32) error {
	if v != 0 && v != Version {
		return bad(ErrVersion, what, "h_version", 0, Version, int64(v))
	}
	return nil
}

// checkExtra: a name of 1..64 bytes with its right hash, or an LVB where one may be, or nothing.
func (m *Message) checkExtra() error {
	n := int64(len(m.Extra))
	switch {
	case m.Type.HasName() && (n < 1 || n > ResNameMax):
		return bad(ErrLength, "msg", "m_extra (name)", 88, ResNameMax, n)
	case m.Type.HasName() && m.Hash != ResourceHash(m.Extra):
		return bad(ErrValue, "msg", "m_hash", 60, int64(ResourceHash(m.Extra)), int64(m.Hash))
	case m.Type.MayHaveLVB() && n > MaxExtra:
		return bad(ErrLength, "msg", "m_extra (LVB)", 88, MaxExtra, n)
	case !m.Type.HasName() && !m.Type.MayHaveLVB() && n != 0:
		return bad(ErrLength, "msg", "m_extra", 88, 0, n)
	}
	return nil
}

func (m *Message) checkByType() error {
	switch m.Type {
	case MsgRequest, MsgLookup, MsgConvert:
		if !m.RqMode.Valid() {
			return bad(ErrValue, "msg", "m_rqmode", 72, int64(EX), int64(m.RqMode))
		}
		return m.checkOwner()
	case MsgUnlock, MsgCancel:
		return m.checkOwner()
	case MsgGrant:
		if !m.GrMode.Valid() {
			return bad(ErrValue, "msg", "m_grmode", 68, int64(EX), int64(m.GrMode))
		}
	case MsgBast:
		if !m.BastMode.Valid() {
			return bad(ErrValue, "msg", "m_bastmode", 76, int64(EX), int64(m.BastMode))
		}
		if m.Asts&AstBlocking == 0 {
			return bad(ErrValue, "msg", "m_asts", 80, int64(AstBlocking), int64(m.Asts))
		}
	case MsgLookupReply:
		if m.NodeID == 0 || m.NodeID < -1 {
			return bad(ErrValue, "msg", "m_nodeid", 20, -1, int64(m.NodeID))
		}
	}
	return m.checkResult()
}

// checkOwner: the master would store the owner's m_sbflags.
func (m *Message) checkOwner() error {
	if m.SBFlags != 0 {
		return bad(ErrValue, "msg", "m_sbflags", 48, 0, int64(m.SBFlags))
	}
	return m.checkResult()
}

func (m *Message) checkResult() error {
	if m.Result == 0 {
		return nil
	}
	for i := range resultTable {
		if resultTable[i].code == m.Result {
			return nil
		}
	}
	return bad(ErrValue, "msg", "m_result", 84, 0, int64(m.Result))
}

// CheckSend judges a recovery message that is about to be sent; see Message.CheckSend. (Linux fs/dlm/rcom.c,
// fs/dlm/lock.c dlm_recover_master_copy, receive_rcom_lock_args.)
func (r *Rcom) CheckSend() error {
	if err := checkVersion("rcom", r.Header.Version); err != nil {
		return err
	}
	n := int64(len(r.Buf))
	if n > MaxRcomBuf {
		return bad(ErrLength, "rcom", "rc_buf", 48, MaxRcomBuf, n)
	}
	switch r.Type {
	case RcomStatus:
		var s StatusRequest
		return s.Decode(r.Buf)
	case RcomStatusReply:
		var c RcomConfig
		_, err := c.Decode(r.Buf)
		return err
	case RcomNames:
		if n > ResNameMax {
			return bad(ErrLength, "rcom", "rc_buf (name)", 48, ResNameMax, n)
		}
	case RcomNamesReply:
		return checkNames(r.Buf)
	case RcomLookup:
		if n < 1 || n > ResNameMax {
			return bad(ErrLength, "rcom", "rc_buf (name)", 48, ResNameMax, n)
		}
	case RcomLookupReply:
		if r.Result <= 0 {
			return bad(ErrValue, "rcom", "rc_result (master)", 20, 1, int64(r.Result))
		}
	case RcomLock, RcomLockReply:
		return checkRcomLock(r.Buf)
	default:
		return bad(ErrValue, "rcom", "rc_type", 16, int64(RcomLockReply), int64(r.Type))
	}
	return nil
}

func checkNames(buf []byte) error {
	c := NewNamesCursor(buf)
	for {
		if name, err := c.Next(); name == nil {
			return err
		}
	}
}

func checkRcomLock(buf []byte) error {
	var l RcomLockBuf
	if err := l.Decode(buf); err != nil {
		return err
	}
	switch {
	case l.Status < StatusWaiting || l.Status > StatusConvert:
		return bad(ErrValue, "rcom_lock", "rl_status", 38, int64(StatusConvert), int64(l.Status))
	case l.RqMode < IV || l.RqMode > EX:
		return bad(ErrValue, "rcom_lock", "rl_rqmode", 36, int64(EX), int64(l.RqMode))
	case l.GrMode < IV || l.GrMode > EX:
		return bad(ErrValue, "rcom_lock", "rl_grmode", 37, int64(EX), int64(l.GrMode))
	case l.ParentLkID != 0:
		return bad(ErrValue, "rcom_lock", "rl_parent_lkid", 12, 0, int64(l.ParentLkID))
	case l.Flags&^IFLMask != 0:
		return bad(ErrValue, "rcom_lock", "rl_flags", 24, int64(l.Flags&IFLMask), int64(l.Flags))
	}
	return nil
}
