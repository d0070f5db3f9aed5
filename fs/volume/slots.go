package volume

import (
	"fmt"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// slotMap is the slot map on disk: which node has which slot. It is read and
// written in place, never through a cache or the journal, under the superblock
// lock (OCFS2 format: slot map).
type slotMap struct {
	v      *Volume
	blocks []uint64
	m      ondisk.SlotMap
}

func (v *Volume) newSlotMap() (*slotMap, error) {
	_, runs, err := v.rawExtents(ondisk.SysSlotMap, 0)
	if err != nil {
		return nil, err
	}
	n := v.geo.SlotMapBlocks()
	blocks, err := v.blocksOf(runs, n)
	if err != nil {
		return nil, fmt.Errorf("slot map: %w", err)
	}
	return &slotMap{v, blocks, ondisk.SlotMap{
		Data:     blockdev.AlignedBuf(n * v.geo.BlockSize),
		Extended: v.geo.HasExtendedSlotMap(),
	}}, nil
}

// read refreshes the map from disk.
func (s *slotMap) read() error {
	bs := s.v.geo.BlockSize
	for n, b := range s.blocks {
		if _, err := s.v.dev.ReadAt(s.m.Data[n*bs:(n+1)*bs], s.v.geo.ByteOfBlock(b)); err != nil {
			return fmt.Errorf("slot map: %w", err)
		}
	}
	return nil
}

// write writes the block that holds slot's entry, durably.
func (s *slotMap) write(slot int) error {
	bs, n := s.v.geo.BlockSize, s.v.geo.SlotMapBlock(slot)
	if err := s.v.dev.WriteFUA(s.m.Data[n*bs:(n+1)*bs], s.v.geo.ByteOfBlock(s.blocks[n])); err != nil {
		return fmt.Errorf("slot map: %w", err)
	}
	return nil
}

// find returns the slot of a node.
func (s *slotMap) find(node uint32) (int, bool) {
	for slot := range s.v.geo.MaxSlots {
		if n, ok := s.m.Node(slot); ok && n == node {
			return slot, true
		}
	}
	return 0, false
}

// choose picks a slot for this node: the one it still has after a crash, the
// preferred one if free, else the first free one.
func (s *slotMap) choose(node uint32, preferred int) (int, error) {
	if slot, ok := s.find(node); ok {
		return slot, nil
	}
	if preferred >= 0 && preferred < s.v.geo.MaxSlots {
		if _, taken := s.m.Node(preferred); !taken {
			return preferred, nil
		}
	}
	for slot := range s.v.geo.MaxSlots {
		if _, taken := s.m.Node(slot); !taken {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("all %d slots are taken; unmount a node or add slots with tunefs.ocfs2 -N: %w", s.v.geo.MaxSlots, ErrBusySlot)
}
