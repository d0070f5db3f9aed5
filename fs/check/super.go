package check

import (
	"fmt"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// passSuper looks at the superblock and its backups, sets up the claims, reads
// the system directory and the slot map.
func (c *checker) passSuper(super []byte) {
	c.ecc("superblock", ondisk.SuperBlkno, super, ondisk.CheckOffDinode)
	last := make([]byte, c.g.BlockSize)
	if err := c.read(c.g.TotalBlocks-1, last); err != nil {
		c.problem(DeviceTooSmall, c.g.TotalBlocks-1,
			"Superblock says %d blocks, but the last one can not be read: %v", c.g.TotalBlocks, err)
		c.stop("the device is smaller than the volume")
		return
	}
	ro, _ := featureErr(c.g) // refused ones ended the run before
	if len(ro) > 0 {
		c.problem(SuperFeatures, ondisk.SuperBlkno, "Unknown read-only compatible features %v", ro)
	}
	if f := c.g.Incompat & (ondisk.FeatureIncompatResizeInProgress | ondisk.FeatureIncompatTunefsInProgress); f != 0 {
		c.problem(SuperFeatures, ondisk.SuperBlkno, "Superblock has %v set: a resize or tunefs run was interrupted",
			ondisk.Features{Incompat: f}.Names())
	}
	if c.g.State&ondisk.SuperStateError != 0 {
		c.problem(SuperState, ondisk.SuperBlkno, "Superblock is marked with errors")
	}
	c.used = newBitmap(uint64(c.g.TotalClusters))
	c.claimFixed()
	c.checkBackups()
	c.loadSystemDir()
	if c.rep.Stopped == "" {
		c.checkSlotMap()
	}
	c.rep.Summary.Clusters = uint64(c.g.TotalClusters)
}

// claimFixed claims what no inode owns: boot area, group descriptors, backup
// superblocks.
func (c *checker) claimFixed() {
	c.used.setRun(0, uint64(c.g.BlocksToClusters(c.g.FirstClusterGroup))+1)
	for i := 1; i < c.g.GroupCount(); i++ {
		c.used.set(uint64(c.g.BlocksToClusters(c.g.GroupBlkno(i))))
	}
	for i := range ondisk.BackupSuperMax {
		if b, ok := c.g.BackupSuperBlkno(i); ok {
			c.used.set(uint64(c.g.BlocksToClusters(b)))
		}
	}
}

func (c *checker) checkBackups() {
	for i := range ondisk.BackupSuperMax {
		blkno, ok := c.g.BackupSuperBlkno(i)
		if !ok {
			continue
		}
		b, ok := c.block(blkno)
		if !ok {
			continue
		}
		bg, err := ondisk.ParseBackupSuper(b, c.g.BlockSize, blkno)
		switch {
		case err != nil:
			c.problem(BackupSuper, blkno, "Backup superblock %d at block %d: %v", i+1, blkno, err)
		case bg.TotalClusters != c.g.TotalClusters || bg.Features != c.g.Features || bg.UUID != c.g.UUID ||
			bg.FSGeneration != c.g.FSGeneration || bg.MaxSlots != c.g.MaxSlots:
			c.problem(BackupSuper, blkno, "Backup superblock %d at block %d describes another state of the volume", i+1, blkno)
		}
	}
}

// dinodeAt reads a dinode whose head must be right; what is wrong inside is
// pass 1's to report. role names it in the problem.
func (c *checker) dinodeAt(blkno uint64, role string) (ondisk.Dinode, bool) {
	b := make([]byte, c.g.BlockSize)
	if err := c.read(blkno, b); err != nil {
		c.problem(SystemInodeMissing, blkno, "Inode %d (%s) can not be read: %v", blkno, role, err)
		return nil, false
	}
	d := ondisk.Dinode(b)
	if !ondisk.HasSignature(b, ondisk.SigDinode) || d.FSGeneration() != c.g.FSGeneration ||
		d.Blkno() != blkno || !d.HasFlag(ondisk.InodeValid) {
		c.problem(SystemInodeMissing, blkno, "Block %d does not hold the valid inode of %s", blkno, role)
		return nil, false
	}
	c.dropBadArea(d) // reported in pass 1
	return d, true
}

// loadSystemDir fills c.sys and demands the files the features call for.
func (c *checker) loadSystemDir() {
	d, ok := c.dinodeAt(c.g.SystemDirBlkno, "the system directory")
	if !ok {
		c.stop("no system directory")
		return
	}
	err := c.eachName(d, func(name string, ino uint64) { c.sys[name] = ino })
	if err != nil {
		c.problem(SystemDirInvalid, d.Blkno(), "System directory: %v", err)
	}
	for kind := range ondisk.NumSystemFiles {
		if !kind.Required(c.g) {
			continue
		}
		slots := 1
		if kind.PerSlot() {
			slots = c.g.MaxSlots
		}
		for s := range slots {
			c.requireSystemFile(kind, s)
		}
	}
}

func (c *checker) requireSystemFile(kind ondisk.SystemFile, slot int) {
	name := ondisk.SystemInodeName(kind, slot)
	if c.sys[name] != 0 {
		return
	}
	if kind == ondisk.SysBadBlocks {
		return // no kernel looks at it
	}
	if kind == ondisk.SysOrphanDir {
		c.problem(OrphanDirMissing, c.g.SystemDirBlkno, "Orphan directory %s is missing", name)
		return
	}
	c.problem(SystemInodeMissing, c.g.SystemDirBlkno, "System file %s is missing", name)
	if kind == ondisk.SysGlobalBitmap {
		c.stop("no cluster bitmap")
	}
}

// eachName calls fn for every used entry of a directory, "." and ".." left out.
// It trusts nothing but reports only by its error: passes 1 and 2 look at the
// same blocks with all codes.
func (c *checker) eachName(d ondisk.Dinode, fn func(name string, ino uint64)) error {
	walk := func(area []byte) error {
		it := ondisk.DirEntries(area)
		for it.Next() {
			e := it.Entry()
			if n := e.Name(); e.Inode() != 0 && string(n) != "." && string(n) != ".." {
				fn(string(n), e.Inode())
			}
		}
		return it.Err()
	}
	if err := ondisk.CheckDinode(d, d.Blkno(), c.g); err != nil {
		return err
	}
	if d.HasDyn(ondisk.DynInlineData) {
		return walk(d.Inline().Data())
	}
	runs, err := c.quietRuns(d.Extents())
	if err != nil {
		return err
	}
	blocks := d.Size() >> c.g.BlockBits
	b := make([]byte, c.g.BlockSize)
	for _, r := range runs {
		for i := uint64(0); i < r.n && blocks > 0; i, blocks = i+1, blocks-1 {
			if err := c.read(r.start+i, b); err != nil {
				return fmt.Errorf("block %d: %w", r.start+i, err)
			}
			area := ondisk.DirBlock(b).Area(c.g.DirTrailers(d.DynFeatures()))
			if err := walk(area); err != nil {
				return fmt.Errorf("block %d: %w", r.start+i, err)
			}
		}
	}
	return nil
}

// quietNodes bounds quietRuns on a tree whose pointers form a web.
const quietNodes = 1 << 16

// quietRuns is the block runs of a tree's leaf records, in order.
func (c *checker) quietRuns(l ondisk.ExtentList) ([]run, error) {
	var runs []run
	nodes := 0
	var visit func(l ondisk.ExtentList) error
	visit = func(l ondisk.ExtentList) error {
		for i := range int(l.NextFree()) {
			rec := l.Rec(i)
			if l.Depth() == 0 {
				runs = append(runs, run{rec.Blkno(), c.g.ClustersToBlocks(uint32(rec.Clusters()))})
				continue
			}
			if nodes++; nodes > quietNodes {
				return fmt.Errorf("extent tree of more than %d nodes", quietNodes)
			}
			b := make([]byte, c.g.BlockSize)
			if err := c.read(rec.Blkno(), b); err != nil {
				return fmt.Errorf("extent block %d: %w", rec.Blkno(), err)
			}
			if err := ondisk.CheckTreeNode(b, rec.Blkno(), l.Depth()-1, c.g); err != nil {
				return err
			}
			if err := visit(ondisk.ExtentBlock(b).List()); err != nil {
				return err
			}
		}
		return nil
	}
	err := visit(l)
	return runs, err
}

// checkSlotMap verifies that the entries are well formed and no node has two
// slots.
func (c *checker) checkSlotMap() {
	ino := c.sys[ondisk.SystemInodeName(ondisk.SysSlotMap, 0)]
	if ino == 0 {
		return // reported
	}
	d, ok := c.dinodeAt(ino, "slot_map")
	if !ok {
		return
	}
	data, err := c.fileHead(d, c.g.SlotMapBlocks())
	if err != nil {
		c.problem(SlotMapInvalid, ino, "Slot map: %v", err)
		return
	}
	m := ondisk.SlotMap{Data: data, Extended: c.g.HasExtendedSlotMap()}
	nodes := map[uint32]int{}
	for s := range min(m.Slots(), c.g.MaxSlots) {
		node, used := m.Node(s)
		if m.Extended && data[s*8] > 1 {
			c.problem(SlotMapInvalid, ino, "Slot %d: valid byte is %d", s, data[s*8])
		}
		if !used {
			continue
		}
		if other, dup := nodes[node]; dup {
			c.problem(SlotMapInvalid, ino, "Node %d holds slots %d and %d", node, other, s)
		}
		nodes[node] = s
		c.note("slot %d is held by node %d: mounted, or not cleanly unmounted", s, node)
	}
}

// fileHead reads the first n blocks of a file with extents.
func (c *checker) fileHead(d ondisk.Dinode, n int) ([]byte, error) {
	if err := ondisk.CheckDinode(d, d.Blkno(), c.g); err != nil {
		return nil, err
	}
	if d.HasDyn(ondisk.DynInlineData) {
		return nil, fmt.Errorf("inode %d has inline data", d.Blkno())
	}
	runs, err := c.quietRuns(d.Extents())
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 0, n<<c.g.BlockBits)
	for _, r := range runs {
		for i := uint64(0); i < r.n && len(buf) < cap(buf); i++ {
			buf = buf[:len(buf)+c.g.BlockSize]
			if err := c.read(r.start+i, buf[len(buf)-c.g.BlockSize:]); err != nil {
				return nil, fmt.Errorf("block %d: %w", r.start+i, err)
			}
		}
	}
	if len(buf) < cap(buf) {
		return nil, fmt.Errorf("inode %d has %d of %d blocks", d.Blkno(), len(buf)>>c.g.BlockBits, n)
	}
	return buf, nil
}
