package wire

// Sizes of RCOM payload structures in bytes.
const (
	StatusRequestSize = 16
	RcomConfigSize    = 32
	RcomSlotSize      = 16
	// MaxSlots is the most slots a STATUS_REPLY can carry.
	MaxSlots = (MaxInner - RcomSize - RcomConfigSize) / RcomSlotSize
)

// UnknownLVBLen is rf_lvblen of the STATUS_REPLY to a lockspace the sender does not have (rc_result -3).
const UnknownLVBLen = 0xFFFFFFFF

// NeedSlots in StatusRequest.Flags asks for the slot list (Linux DLM_RSF_NEED_SLOTS).
const NeedSlots = 1

// RecoverStatus is the bit set of recovery steps a node has passed, rc_result of a STATUS_REPLY. The _ALL bits are
// set by the node with the lowest id only.
type RecoverStatus uint32

// Recovery status bits (Linux DLM_RS_*).
const (
	RSNodes    RecoverStatus = 0x01
	RSNodesAll RecoverStatus = 0x02
	RSDir      RecoverStatus = 0x04
	RSDirAll   RecoverStatus = 0x08
	RSLocks    RecoverStatus = 0x10
	RSLocksAll RecoverStatus = 0x20
	RSDone     RecoverStatus = 0x40
	RSDoneAll  RecoverStatus = 0x80
)

var rsNames = []flagName{
	{0x01, "NODES"}, {0x02, "NODES_ALL"}, {0x04, "DIR"}, {0x08, "DIR_ALL"}, {0x10, "LOCKS"}, {0x20, "LOCKS_ALL"},
	{0x40, "DONE"}, {0x80, "DONE_ALL"},
}

// String lists the bits by name.
func (s RecoverStatus) String() string { return flagString(rsNames, uint32(s)) }

// StatusRequest is the payload of a STATUS (Linux struct rcom_status).
//
//	off size field
//	  0    4 rs_flags  bit 0: NEED_SLOTS
//	  4   12 unused
type StatusRequest struct {
	Flags uint32
}

// Append encodes the 16 bytes.
func (s *StatusRequest) Append(dst []byte) []byte {
	dst = le.AppendUint32(dst, s.Flags)
	return append(dst, make([]byte, 12)...)
}

// Decode reads the payload of a STATUS.
func (s *StatusRequest) Decode(b []byte) error {
	if len(b) < StatusRequestSize {
		return bad(ErrShort, "rcom_status", "rs_flags", 0, StatusRequestSize, int64(len(b)))
	}
	s.Flags = le.Uint32(b)
	return nil
}

// RcomConfig is the payload of a STATUS_REPLY (Linux struct rcom_config), followed by NumSlots slots.
//
//	off size field
//	  0    4 rf_lvblen
//	  4    4 rf_lsflags
//	  8    4 rf_flags       0
//	 12    2 rf_our_slot    0: none yet
//	 14    2 rf_num_slots
//	 16    4 rf_generation
//	 20   12 unused
//	 32    . rcom_slot[rf_num_slots]
type RcomConfig struct {
	LVBLen     uint32
	LSFlags    uint32
	Flags      uint32
	OurSlot    uint16
	NumSlots   uint16
	Generation uint32
}

// Append encodes the 32 bytes; the caller appends NumSlots RcomSlot behind them.
func (c *RcomConfig) Append(dst []byte) []byte {
	dst = le.AppendUint32(dst, c.LVBLen)
	dst = le.AppendUint32(dst, c.LSFlags)
	dst = le.AppendUint32(dst, c.Flags)
	dst = le.AppendUint16(dst, c.OurSlot)
	dst = le.AppendUint16(dst, c.NumSlots)
	dst = le.AppendUint32(dst, c.Generation)
	return append(dst, make([]byte, 12)...)
}

// Decode reads the payload of a STATUS_REPLY and checks that all NumSlots slots are there; slots returns them
// undecoded, 16 bytes each, for RcomSlot.Decode.
func (c *RcomConfig) Decode(b []byte) (slots []byte, err error) {
	if len(b) < RcomConfigSize {
		return nil, bad(ErrShort, "rcom_config", "rf_lvblen", 0, RcomConfigSize, int64(len(b)))
	}
	c.LVBLen = le.Uint32(b)
	c.LSFlags = le.Uint32(b[4:])
	c.Flags = le.Uint32(b[8:])
	c.OurSlot = le.Uint16(b[12:])
	c.NumSlots = le.Uint16(b[14:])
	c.Generation = le.Uint32(b[16:])
	have := (len(b) - RcomConfigSize) / RcomSlotSize
	if int(c.NumSlots) > have {
		return nil, bad(ErrLength, "rcom_config", "rf_num_slots", 14, int64(have), int64(c.NumSlots))
	}
	return b[RcomConfigSize : RcomConfigSize+int(c.NumSlots)*RcomSlotSize], nil
}

// RcomSlot is one entry of the slot list (Linux struct rcom_slot).
//
//	off size field
//	  0    4 ro_nodeid
//	  4    2 ro_slot
//	  6   10 unused
type RcomSlot struct {
	NodeID uint32
	Slot   uint16
}

// Append encodes the 16 bytes.
func (s *RcomSlot) Append(dst []byte) []byte {
	dst = le.AppendUint32(dst, s.NodeID)
	dst = le.AppendUint16(dst, s.Slot)
	return append(dst, make([]byte, 10)...)
}

// Decode reads the entry at the beginning of b.
func (s *RcomSlot) Decode(b []byte) error {
	if len(b) < RcomSlotSize {
		return bad(ErrShort, "rcom_slot", "ro_nodeid", 0, RcomSlotSize, int64(len(b)))
	}
	s.NodeID = le.Uint32(b)
	s.Slot = le.Uint16(b[4:])
	return nil
}
