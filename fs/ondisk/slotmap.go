package ondisk

// SlotMap is the content of the slot_map file in either format: the
// concatenation of its first blocks. Extended (8-byte entries) with the
// extended-slotmap feature, else 2-byte node numbers in one block.
type SlotMap struct {
	Data     []byte
	Extended bool
}

const (
	slotExtSize = 8
	slotOldSize = 2
)

// SlotMapBlocks is the number of blocks of the slot map that hold entries.
func (g *Geometry) SlotMapBlocks() int {
	if g.Incompat&FeatureIncompatExtendedSlotMap == 0 {
		return 1
	}
	return (g.MaxSlots*slotExtSize + g.BlockSize - 1) / g.BlockSize
}

// SlotMapBlock is the index of the block that holds the entry of slot.
func (g *Geometry) SlotMapBlock(slot int) int {
	if g.Incompat&FeatureIncompatExtendedSlotMap == 0 {
		return 0
	}
	return slot * slotExtSize / g.BlockSize
}

// Slots is the number of entries Data has room for.
func (m SlotMap) Slots() int {
	if m.Extended {
		return len(m.Data) / slotExtSize
	}
	return len(m.Data) / slotOldSize
}

// Node is the node number in slot; false when the slot is empty.
func (m SlotMap) Node(slot int) (uint32, bool) {
	if m.Extended {
		off := slot * slotExtSize
		return get32(m.Data, off+4), m.Data[off] != 0
	}
	v := get16(m.Data, slot*slotOldSize)
	return uint32(v), v != SlotEmpty
}

// Set puts a node into slot. The old format has room for 16 bits.
func (m SlotMap) Set(slot int, node uint32) {
	if m.Extended {
		off := slot * slotExtSize
		m.Data[off] = 1
		put32(m.Data, off+4, node)
		return
	}
	put16(m.Data, slot*slotOldSize, uint16(node))
}

// Clear empties slot.
func (m SlotMap) Clear(slot int) {
	if m.Extended {
		clear(m.Data[slot*slotExtSize : (slot+1)*slotExtSize])
		return
	}
	put16(m.Data, slot*slotOldSize, SlotEmpty)
}
