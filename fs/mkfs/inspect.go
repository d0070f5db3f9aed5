package mkfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// Existing is what a device holds before it is formatted.
type Existing struct {
	// Kind names the contents: "ocfs2", another filesystem, or "" for nothing known.
	Kind string
	// Geometry of an OCFS2 volume; nil when its superblock is damaged.
	Geometry *ondisk.Geometry
	// Slots of the slot map that a node holds, or did when it died.
	Slots []SlotUse
	// DirtyJournals are slots whose journal says in use, or not recovered.
	DirtyJournals []int
	// Unknown says why use of an OCFS2 volume cannot be told; nil when it can.
	Unknown error

	heartbeat []extent // where its heartbeat blocks are
}

// SlotUse is a slot of the slot map in use.
type SlotUse struct {
	Slot int
	Node uint32
}

// magics tell other contents: bytes at an offset.
var magics = []struct {
	off   int64
	bytes string
	kind  string
}{
	{0x438, "\x53\xEF", "ext2/ext3/ext4"},
	{0, "XFSB", "xfs"},
	{0x10040, "_BHRfS_M", "btrfs"},
	{0x10000, "\x01\x16\x19\x70", "gfs2"},
	{0xFF6, "SWAPSPACE2", "swap"},
	{0, "LUKS\xBA\xBE", "LUKS"},
	{0x218, "LVM2 001", "LVM physical volume"},
	{0x200, "EFI PART", "GPT partition table"},
	{0x36, "FAT", "FAT"}, {0x52, "FAT32", "FAT"},
	{3, "NTFS    ", "NTFS"}, {3, "EXFAT   ", "exFAT"},
	{0x400, "\x10\x20\xF5\xF2", "f2fs"},
	{0x8001, "CD001", "ISO 9660"},
}

// Inspect looks at what dev holds. An error comes from the device only.
func Inspect(dev blockdev.Device) (*Existing, error) {
	e := &Existing{}
	g, _, err := ondisk.FindSuper(wholeSectors{dev})
	switch {
	case err == nil:
		e.Kind, e.Geometry = "ocfs2", g
		e.Unknown = e.readUse(dev)
		return e, nil
	case errors.Is(err, ondisk.ErrCorrupt):
		e.Kind, e.Unknown = "ocfs2", err
		return e, nil
	case !errors.Is(err, ondisk.ErrNotOCFS2):
		return nil, err
	}
	head := make([]byte, min(dev.Size(), 128*kib))
	if _, err := dev.ReadAt(head, 0); err != nil {
		return nil, err
	}
	for _, m := range magics {
		if m.off+int64(len(m.bytes)) <= int64(len(head)) && bytes.HasPrefix(head[m.off:], []byte(m.bytes)) {
			e.Kind = m.kind
			break
		}
	}
	return e, nil
}

// wholeSectors reads a device like a file: what ends past its end is io.EOF, and a
// read smaller than a sector is widened.
type wholeSectors struct{ dev blockdev.Device }

// ReadAt implements io.ReaderAt.
func (r wholeSectors) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > r.dev.Size() {
		return 0, io.EOF
	}
	align := int64(r.dev.BlockAlign())
	from, to := off&^(align-1), (off+int64(len(p))+align-1)&^(align-1)
	if from == off && to == off+int64(len(p)) {
		return r.dev.ReadAt(p, off)
	}
	wide := make([]byte, to-from)
	if _, err := r.dev.ReadAt(wide, from); err != nil {
		return 0, err
	}
	return copy(p, wide[off-from:]), nil
}

// readUse reads slot map, journals and the place of the heartbeat area.
func (e *Existing) readUse(dev blockdev.Device) error {
	if _, err := e.Geometry.CheckFeatures(); err != nil {
		return err
	}
	r := reader{dev, e.Geometry}
	names, err := r.list(e.Geometry.SystemDirBlkno)
	if err != nil {
		return err
	}
	if e.heartbeat, _, err = r.extents(names, ondisk.SysHeartbeat, 0); err != nil {
		return err
	}
	for slot := range e.Geometry.MaxSlots {
		di, err := r.system(names, ondisk.SysJournal, slot)
		if err != nil {
			return err
		}
		if di.JournalFlags()&ondisk.JournalDirty != 0 {
			e.DirtyJournals = append(e.DirtyJournals, slot)
		}
	}
	return e.readSlotMap(r, names)
}

// readSlotMap notes the slots in use.
func (e *Existing) readSlotMap(r reader, names map[string]uint64) error {
	parts, size, err := r.extents(names, ondisk.SysSlotMap, 0)
	if err != nil {
		return err
	}
	m := ondisk.SlotMap{Extended: e.Geometry.HasExtendedSlotMap()}
	need := uint64(e.Geometry.SlotMapBlocks() * e.Geometry.BlockSize)
	if size < need {
		return ondisk.Corruptf("slot map", parts[0].blkno, "%d bytes for %d slots", size, e.Geometry.MaxSlots)
	}
	m.Data = make([]byte, need)
	if _, err := r.dev.ReadAt(m.Data, e.Geometry.ByteOfBlock(parts[0].blkno)); err != nil {
		return err
	}
	for slot := range min(e.Geometry.MaxSlots, m.Slots()) {
		if node, used := m.Node(slot); used {
			e.Slots = append(e.Slots, SlotUse{slot, node})
		}
	}
	return nil
}

// InUse says in one sentence why the volume may be mounted somewhere, or "".
func (e *Existing) InUse() string {
	var why []string
	for _, s := range e.Slots {
		why = append(why, fmt.Sprintf("node %d is in slot %d", s.Node, s.Slot))
	}
	for _, slot := range e.DirtyJournals {
		why = append(why, fmt.Sprintf("the journal of slot %d is in use or was not recovered", slot))
	}
	if e.Kind == "ocfs2" && e.Unknown != nil {
		why = append(why, fmt.Sprintf("its use cannot be told (%v)", e.Unknown))
	}
	return strings.Join(why, "; ")
}

// Beating watches the heartbeat area of an OCFS2 volume until a block of it changes
// or wait is over, and returns the nodes whose blocks changed. It returns at once
// when no node ever wrote there.
func (e *Existing) Beating(ctx context.Context, dev blockdev.Device, wait, step time.Duration) ([]int, error) {
	if e.Geometry == nil || len(e.heartbeat) == 0 {
		return nil, nil
	}
	g := e.Geometry
	n := min(e.heartbeat[0].clusters*g.ClusterSize, ondisk.HeartbeatBlocks*g.BlockSize)
	first, now := make([]byte, n), make([]byte, n)
	read := func(p []byte) error {
		_, err := dev.ReadAt(p, g.ByteOfBlock(e.heartbeat[0].blkno))
		return err
	}
	if err := read(first); err != nil {
		return nil, err
	}
	if bytes.Equal(first, now) { // all zeros
		return nil, nil
	}
	for ; wait > 0; wait -= step {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(step):
		}
		if err := read(now); err != nil {
			return nil, err
		}
		var nodes []int
		for node := range n / g.BlockSize {
			at := node * g.BlockSize
			if !bytes.Equal(first[at:at+g.BlockSize], now[at:at+g.BlockSize]) {
				nodes = append(nodes, node)
			}
		}
		if nodes != nil {
			return nodes, nil
		}
	}
	return nil, nil
}

// reader finds system files of a volume that nobody is known to use: without locks,
// so what it reads may change under it. Every block is checked.
type reader struct {
	dev blockdev.Device
	g   *ondisk.Geometry
}

// inode reads and checks a dinode.
func (r reader) inode(blkno uint64) (ondisk.Dinode, error) {
	if !r.g.ValidBlock(blkno) {
		return nil, ondisk.Corruptf("dinode", blkno, "outside the volume of %d blocks", r.g.TotalBlocks)
	}
	b := make([]byte, r.g.BlockSize)
	if _, err := r.dev.ReadAt(b, r.g.ByteOfBlock(blkno)); err != nil {
		return nil, err
	}
	return b, ondisk.CheckDinode(b, blkno, r.g)
}

// runs returns the extents of an inode whose tree is in the inode itself.
func (r reader) runs(di ondisk.Dinode) ([]extent, error) {
	list := di.Extents()
	if list.Depth() != 0 || list.NextFree() == 0 {
		return nil, ondisk.Corruptf("dinode", di.Blkno(), "a system file with %d extents at depth %d", list.NextFree(), list.Depth())
	}
	all := make([]extent, list.NextFree())
	for i := range all {
		rec := list.Rec(i)
		all[i] = extent{rec.Blkno(), int(rec.Clusters())}
		if !r.g.ValidBlock(rec.Blkno()) || rec.Clusters() == 0 ||
			!r.g.ValidBlock(rec.Blkno()+r.g.ClustersToBlocks(uint32(rec.Clusters()))-1) {
			return nil, ondisk.Corruptf("dinode", di.Blkno(), "extent %d of %d clusters at block %d is outside the volume", i, rec.Clusters(), rec.Blkno())
		}
	}
	return all, nil
}

// list reads all names of a directory.
func (r reader) list(dir uint64) (map[string]uint64, error) {
	di, err := r.inode(dir)
	if err != nil {
		return nil, err
	}
	names := make(map[string]uint64)
	if di.HasDyn(ondisk.DynInlineData) {
		return names, collect(names, di.Inline().Data(), dir)
	}
	runs, err := r.runs(di)
	if err != nil {
		return nil, err
	}
	left := di.Size() >> r.g.BlockBits
	block := make([]byte, r.g.BlockSize)
	for _, run := range runs {
		for i := uint64(0); i < r.g.ClustersToBlocks(uint32(run.clusters)) && left > 0; i, left = i+1, left-1 {
			if _, err := r.dev.ReadAt(block, r.g.ByteOfBlock(run.blkno+i)); err != nil {
				return nil, err
			}
			if err := collect(names, ondisk.DirBlock(block).Area(r.g.DirTrailers(di.DynFeatures())), run.blkno+i); err != nil {
				return nil, err
			}
		}
	}
	return names, nil
}

// collect adds the entries of an area to names.
func collect(names map[string]uint64, area []byte, blkno uint64) error {
	it := ondisk.DirEntries(area)
	for it.Next() {
		if e := it.Entry(); e.Inode() != 0 {
			names[string(e.Name())] = e.Inode()
		}
	}
	if err := it.Err(); err != nil {
		return ondisk.Corruptf("directory block", blkno, "%v", err)
	}
	return nil
}

// system reads the dinode of a system file.
func (r reader) system(names map[string]uint64, kind ondisk.SystemFile, slot int) (ondisk.Dinode, error) {
	name := ondisk.SystemInodeName(kind, slot)
	blkno, ok := names[name]
	if !ok {
		return nil, ondisk.Corruptf("directory", r.g.SystemDirBlkno, "no system file %s", name)
	}
	return r.inode(blkno)
}

// extents returns where a system file is, and its size.
func (r reader) extents(names map[string]uint64, kind ondisk.SystemFile, slot int) ([]extent, uint64, error) {
	di, err := r.system(names, kind, slot)
	if err != nil {
		return nil, 0, err
	}
	runs, err := r.runs(di)
	return runs, di.Size(), err
}
