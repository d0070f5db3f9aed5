package check

import (
	"encoding/binary"
	"slices"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// slotOf is the slot of the per-slot system file with the inode, -1 if none.
func (c *checker) slotOf(kind ondisk.SystemFile, ino uint64) int {
	for s := range c.g.MaxSlots {
		if c.sys[ondisk.SystemInodeName(kind, s)] == ino {
			return s
		}
	}
	return -1
}

// localAlloc checks a local alloc inode and records its window.
func (c *checker) localAlloc(d ondisk.Dinode) {
	ino, l := d.Blkno(), d.LocalAlloc()
	total, used, start := uint64(d.Total()), uint64(d.Used()), uint64(l.BmOff())
	if int(l.Size()) > c.g.LocalAllocSize() {
		c.problem(LallocSize, ino, "Local alloc %d has a bitmap of %d bytes, room for %d", ino, l.Size(), c.g.LocalAllocSize())
		return
	}
	if total == 0 {
		if used != 0 {
			c.problem(LallocNZUsed, ino, "Local alloc %d is empty but has %d bits used", ino, used)
		}
		if start != 0 {
			c.problem(LallocNZBm, ino, "Local alloc %d is empty but starts at cluster %d", ino, start)
		}
		if i := bitBeyond(l.Bitmap(), 0); i >= 0 {
			c.problem(LallocUsedCount, ino, "Local alloc %d is empty but has bit %d set", ino, i)
		}
		return
	}
	switch {
	case start >= uint64(c.g.TotalClusters):
		c.problem(LallocBmOverrun, ino, "Local alloc %d starts at cluster %d, off the volume", ino, start)
		return
	case total > uint64(l.Size())*8:
		c.problem(LallocBmSize, ino, "Local alloc %d has %d bits, its bitmap %d", ino, total, int(l.Size())*8)
		return
	case start+total > uint64(c.g.TotalClusters):
		c.problem(LallocBmStraddle, ino, "Local alloc %d of %d clusters from %d ends off the volume", ino, total, start)
		return
	case used > total:
		c.problem(LallocUsedOverrun, ino, "Local alloc %d has %d bits used of %d", ino, used, total)
	}
	if n := uint64(setBits(l.Bitmap(), int(total))); n != used {
		c.problem(LallocUsedCount, ino, "Local alloc %d has %d bits set, i_used says %d", ino, n, used)
	}
	w := window{slot: c.slotOf(ondisk.SysLocalAlloc, ino)}
	for i := range total {
		if testBit(l.Bitmap(), int(i)) {
			continue
		}
		if n := len(w.free); n > 0 && w.free[n-1].end() == start+i {
			w.free[n-1].n++
			continue
		}
		w.free = append(w.free, run{start + i, 1})
	}
	c.windows = append(c.windows, w)
	c.note("local_alloc of slot %d holds %d clusters from %d, %d used", w.slot, total, start, used)
}

// truncLog checks a truncate log and records its deferred frees.
func (c *checker) truncLog(d ondisk.Dinode) {
	ino, t := d.Blkno(), d.TruncLog()
	if int(t.Count()) != c.g.TruncCount() {
		c.problem(DeallocCount, ino, "Truncate log %d has %d records, want %d", ino, t.Count(), c.g.TruncCount())
	}
	if t.Used() > t.Count() {
		c.problem(DeallocUsed, ino, "Truncate log %d uses %d of %d records", ino, t.Used(), t.Count())
	}
	used := min(int(t.Used()), int(t.Count()), c.g.TruncCount())
	for i := range used {
		r := t.Rec(i)
		start, n := uint64(r.Start()), uint64(r.Clusters())
		switch {
		case start == 0:
		case start >= uint64(c.g.TotalClusters):
			c.problem(TruncateRecStart, ino, "Truncate log %d: record %d starts at cluster %d, off the volume", ino, i, start)
		case start+n > uint64(c.g.TotalClusters):
			c.problem(TruncateRecRange, ino, "Truncate log %d: record %d of %d clusters from %d ends off the volume", ino, i, n, start)
		default:
			c.truncs = append(c.truncs, run{start, n})
		}
	}
	if used > 0 {
		c.note("truncate_log of slot %d holds %d records", c.slotOf(ondisk.SysTruncateLog, ino), used)
	}
}

// JBD2 superblock fields, big-endian (Linux include/linux/jbd2.h).
const (
	jbdMagic        = 0xC03B3998
	jbdSuperV1      = 3
	jbdSuperV2      = 4
	jbdKnownIncompt = 0x3 // REVOKE, 64BIT
)

type journalState struct {
	slot     int
	size     uint64
	features [3]uint32
	ok       bool
}

// compareJournals checks every slot's log superblock, and that all logs are
// alike.
func (c *checker) compareJournals() {
	var all []journalState
	for s := range c.g.MaxSlots {
		ino := c.sys[ondisk.SystemInodeName(ondisk.SysJournal, s)]
		if ino == 0 {
			continue
		}
		if d, ok := c.dinodeAt(ino, ondisk.SystemInodeName(ondisk.SysJournal, s)); ok {
			all = append(all, c.journal(d, s))
		}
	}
	all = slices.DeleteFunc(all, func(j journalState) bool { return !j.ok })
	for _, j := range all {
		if j.size < all[0].size {
			c.problem(JournalTooSmall, 0, "Journal of slot %d has %d bytes, that of slot %d has %d", j.slot, j.size, all[0].slot, all[0].size)
		} else if j.size > all[0].size {
			c.problem(JournalTooSmall, 0, "Journal of slot %d has %d bytes, that of slot %d has %d", all[0].slot, all[0].size, j.slot, j.size)
		}
		if j.features != all[0].features {
			c.problem(JournalMissing, 0, "Journals of slots %d and %d have different features %#x and %#x", all[0].slot, j.slot, all[0].features, j.features)
		}
	}
}

func (c *checker) journal(d ondisk.Dinode, slot int) journalState {
	j := journalState{slot: slot, size: d.Size()}
	ino := d.Blkno()
	b, err := c.fileHead(d, 1)
	if err != nil {
		c.problem(JournalFileInvalid, ino, "Journal of slot %d: %v", slot, err)
		return j
	}
	be := binary.BigEndian
	typ := be.Uint32(b[4:])
	blocks := d.Size() >> c.g.BlockBits
	switch {
	case be.Uint32(b) != jbdMagic || typ != jbdSuperV1 && typ != jbdSuperV2:
		c.problem(JournalFileInvalid, ino, "Journal of slot %d has no superblock", slot)
		return j
	case be.Uint32(b[0x0C:]) != uint32(c.g.BlockSize) || uint64(be.Uint32(b[0x10:])) > blocks || be.Uint32(b[0x14:]) >= be.Uint32(b[0x10:]):
		c.problem(JournalFileInvalid, ino, "Journal of slot %d has blocks of %d bytes, %d of them from %d, the file has %d",
			slot, be.Uint32(b[0x0C:]), be.Uint32(b[0x10:]), be.Uint32(b[0x14:]), blocks)
		return j
	}
	j.ok = true
	if typ == jbdSuperV2 {
		j.features = [3]uint32{be.Uint32(b[0x24:]), be.Uint32(b[0x28:]), be.Uint32(b[0x2C:])}
		if j.features[0] != 0 || j.features[1]&^jbdKnownIncompt != 0 || j.features[2] != 0 {
			c.problem(JournalUnknown, ino, "Journal of slot %d has unknown features %#x", slot, j.features)
		}
	}
	if d.JournalFlags()&ondisk.JournalDirty != 0 {
		c.note("journal of slot %d is dirty: mounted, or to be replayed; the blocks checked may be older than the log", slot)
	}
	if e := int32(be.Uint32(b[0x20:])); e != 0 {
		c.note("journal of slot %d was aborted with error %d", slot, e)
	}
	return j
}
