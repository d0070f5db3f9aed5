package mkfs

import (
	"fmt"
	"math"
	"math/bits"
	"strings"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30

	// minJournal is the smallest journal a kernel mounts (Linux
	// fs/ocfs2/ocfs2_fs.h, OCFS2_MIN_JOURNAL_SIZE).
	minJournal = 4 * mib
	// clearEnds is what is zeroed at both ends of the volume first.
	clearEnds = mib
	// maxExtentPercent: extent allocators larger than this share of the volume lose
	// a group.
	maxExtentPercent = 5
)

// Plan is the outcome of the sizing rules: all that Format needs beside the device.
type Plan struct {
	BlockSize    int             `json:"block_size"`
	ClusterSize  int             `json:"cluster_size"`
	Blocks       uint64          `json:"blocks"`
	Clusters     uint32          `json:"clusters"`
	Slots        int             `json:"slots"`
	JournalSize  int64           `json:"journal_size"` // bytes of one journal
	Journal64    bool            `json:"journal_64bit"`
	ExtentGroups int             `json:"extent_groups"` // groups in each extent allocator
	Label        string          `json:"label"`
	Owner        Owner           `json:"-"`
	Cluster      Cluster         `json:"cluster"`
	Features     ondisk.Features `json:"-"`
	FeatureNames []string        `json:"features"`
}

// NewPlan applies the sizing rules of mkfs.ocfs2 to a device of size bytes with
// sectors of sector bytes. Errors are of kind ErrInvalid or ErrTooSmall.
func NewPlan(size int64, sector int, o Options) (*Plan, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	f, err := o.features()
	if err != nil {
		return nil, err
	}
	const quotas = ondisk.FeatureROCompatUsrQuota | ondisk.FeatureROCompatGrpQuota
	if o.Owner != (Owner{}) && f.ROCompat&quotas != 0 {
		return nil, fmt.Errorf("%w: a root directory owned by %d:%d cannot be counted in new quota files: change the owner after mounting", ErrInvalid, o.Owner.UID, o.Owner.GID)
	}
	p := &Plan{Label: o.Label, Owner: o.Owner, Cluster: o.Cluster, Features: f, FeatureNames: f.Names(), Journal64: o.Journal64}
	bytes, err := p.chooseBlockSize(size, sector, o)
	if err != nil {
		return nil, err
	}
	if err := p.chooseClusterSize(bytes, o); err != nil {
		return nil, err
	}
	p.chooseSlots(o)
	if err := p.chooseJournal(o); err != nil {
		return nil, err
	}
	p.chooseExtentGroups(o)
	return p, nil
}

// check verifies the options that need no device.
func (o *Options) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
	}
	pow2 := func(n, lo, hi int) bool { return n >= lo && n <= hi && n&(n-1) == 0 }
	switch {
	case o.BlockSize != 0 && !pow2(o.BlockSize, 512, 4096):
		return bad("block size %d: use 512, 1K, 2K or 4K", o.BlockSize)
	case o.ClusterSize != 0 && !pow2(o.ClusterSize, 4*kib, mib):
		return bad("cluster size %d: use a power of two from 4K to 1M", o.ClusterSize)
	case o.Slots < 0 || o.Slots > ondisk.MaxSlots:
		return bad("%d node slots: use 1 to %d", o.Slots, ondisk.MaxSlots)
	case len(o.Label) >= 64:
		return bad("label %q: at most 63 bytes", o.Label)
	case strings.ContainsRune(o.Label, 0):
		return bad("label %q: no NUL", o.Label)
	case o.JournalSize != 0 && o.JournalSize < minJournal:
		return bad("journal of %d bytes: at least %d", o.JournalSize, minJournal)
	}
	switch o.Type {
	case TypeDefault, TypeMail, TypeDatafiles, TypeVMStore:
		return nil
	}
	return bad("filesystem type %q: use mail, datafiles or vmstore", o.Type)
}

// chooseBlockSize fixes the block size and returns the volume's bytes. Without -b a
// volume up to 3 MiB gets 512; else 4K from 1 GiB on, 2K from 512 MiB, 1K below.
func (p *Plan) chooseBlockSize(size int64, sector int, o Options) (uint64, error) {
	p.BlockSize = o.BlockSize
	if p.BlockSize == 0 {
		p.BlockSize = 4096
	}
	if p.BlockSize < sector {
		return 0, fmt.Errorf("%w: block size %d is smaller than the device's sectors of %d bytes", ErrInvalid, p.BlockSize, sector)
	}
	blocks := uint64(max(size, 0)) / uint64(p.BlockSize)
	if o.SizeBlocks > blocks {
		return 0, fmt.Errorf("%w: %d blocks of %d bytes asked for, the device has %d", ErrInvalid, o.SizeBlocks, p.BlockSize, blocks)
	}
	if o.SizeBlocks != 0 {
		blocks = o.SizeBlocks
	}
	if bytes := blocks * uint64(p.BlockSize); o.BlockSize == 0 {
		switch {
		case bytes <= 3*mib:
			p.BlockSize = 512
		case bytes < gib/2:
			p.BlockSize = 1024
		case bytes < gib:
			p.BlockSize = 2048
		}
		p.BlockSize = max(p.BlockSize, sector)
		if o.SizeBlocks == 0 {
			blocks = uint64(size) / uint64(p.BlockSize)
		}
	}
	return blocks * uint64(p.BlockSize), nil
}

// chooseClusterSize fixes the cluster size and cuts the volume to whole clusters.
func (p *Plan) chooseClusterSize(bytes uint64, o Options) error {
	p.ClusterSize = o.ClusterSize
	if p.ClusterSize == 0 {
		switch o.Type {
		case TypeDatafiles, TypeVMStore:
			if bytes < 2*gib {
				return fmt.Errorf("%w: type %s needs at least 2 GiB", ErrTooSmall, o.Type)
			}
			p.ClusterSize = datafileClusters(bytes / gib)
		default:
			p.ClusterSize = 4 * kib
			for p.ClusterSize < mib && bytes/uint64(p.ClusterSize) > math.MaxUint32-1 {
				p.ClusterSize <<= 1
			}
		}
	}
	clusters := bytes / uint64(p.ClusterSize)
	if clusters > math.MaxUint32 {
		return fmt.Errorf("%w: %d clusters of %d bytes: a volume has at most %d; use larger clusters",
			ErrInvalid, clusters, p.ClusterSize, uint32(math.MaxUint32))
	}
	p.Clusters = uint32(clusters)
	p.Blocks = clusters * uint64(p.ClusterSize/p.BlockSize)
	if p.Blocks > math.MaxUint32 && !p.Journal64 {
		return fmt.Errorf("%w: %d blocks need 64-bit block numbers in the journal: use -J block64, or larger blocks", ErrInvalid, p.Blocks)
	}
	return nil
}

// datafileClusters is the cluster size in bytes for volumes of few large files.
func datafileClusters(gigs uint64) int {
	switch {
	case gigs < 64:
		return 128 * kib
	case gigs < 96:
		return 256 * kib
	case gigs < 128:
		return 512 * kib
	}
	return mib
}

// bytes is the size of the volume.
func (p *Plan) bytes() uint64 { return uint64(p.Clusters) * uint64(p.ClusterSize) }

// chooseSlots fixes the number of node slots.
func (p *Plan) chooseSlots(o Options) {
	p.Slots = o.Slots
	if p.Slots != 0 {
		return
	}
	switch gigs := p.bytes() / gib; {
	case p.Features.Incompat&ondisk.FeatureIncompatLocalMount != 0:
		p.Slots = 1
	case gigs < 2:
		p.Slots = 2
	case gigs < 10:
		p.Slots = 4
	case gigs < 1024:
		p.Slots = 8
	default:
		p.Slots = 16
	}
}

// chooseJournal fixes the size of one journal. The smallest lets a transaction of a
// quarter of the log, halved for reservation, hold a cluster's worth of blocks.
func (p *Plan) chooseJournal(o Options) error {
	if p.Blocks < 2048 {
		return fmt.Errorf("%w: %d blocks of %d bytes; a journal needs 2048", ErrTooSmall, p.Blocks, p.BlockSize)
	}
	cs, bs := int64(p.ClusterSize), int64(p.BlockSize)
	least := 9 * cs
	size := o.JournalSize
	if size == 0 {
		size = defaultJournal(o.Type, p.Blocks, bs) * bs
	}
	// The default is tried without this check: the allocation tells exactly.
	if o.JournalSize != 0 || size < least {
		if o.JournalSize == 0 {
			size = least
		}
		if blocks := uint64(size / bs); blocks > math.MaxUint32/2 || blocks*uint64(p.Slots)+1024 > p.Blocks {
			return fmt.Errorf("%w: %d journals of %d bytes do not fit on a volume of %d: use fewer slots, smaller clusters, or -J size=",
				ErrTooSmall, p.Slots, size, p.bytes())
		}
	}
	p.JournalSize = (size + cs - 1) / cs * cs
	if p.JournalSize < least {
		return fmt.Errorf("%w: journal of %d bytes: at least %d with clusters of %d", ErrInvalid, size, least, cs)
	}
	return nil
}

// defaultJournal is the journal size in blocks by type and volume size in blocks.
func defaultJournal(t Type, blocks uint64, bs int64) int64 {
	switch small, medium := blocks < 262144, blocks < 524288; {
	case t == TypeDatafiles:
		return 8192
	case t == TypeMail && small, t == TypeVMStore && !small && medium:
		return 16384
	case t == TypeMail && medium, t == TypeVMStore && !medium:
		return 32768
	case t == TypeMail:
		return 65536
	case t == TypeVMStore:
		return 8192
	case blocks < 32768:
		return minJournal / bs
	case small:
		return 4096
	}
	return int64(min(max(blocks/160, 16384), 65536))
}

// groupClusters is cl_cpg of inode and extent allocators.
func (p *Plan) groupClusters() int {
	megs := map[int]int{512: 1, 1024: 2, 2048: 4, 4096: 4}[p.BlockSize]
	return megs * mib / p.ClusterSize
}

// chooseExtentGroups sizes the extent allocators: together at least 0.1% of the
// volume (0.3% where files are large), unless a single round of groups is too much.
func (p *Plan) chooseExtentGroups(o Options) {
	target := 0.1
	if o.Type == TypeDatafiles || o.Type == TypeVMStore {
		target = 0.3
	}
	unit := float64(p.groupClusters()) * float64(p.ClusterSize) * float64(p.Slots)
	volume := float64(p.bytes())
	groups, percent := 1, unit*100/volume
	for ; percent < target; groups++ {
		percent = float64(groups+1) * unit * 100 / volume
	}
	if percent > maxExtentPercent {
		groups--
	}
	p.ExtentGroups = groups
}

// geometry is the volume as the format sees it. Block numbers of directories are
// filled in by the builder.
func (p *Plan) geometry(id Identity) *ondisk.Geometry {
	g := &ondisk.Geometry{
		BlockSize: p.BlockSize, BlockBits: uint(bits.TrailingZeros(uint(p.BlockSize))),
		ClusterSize: p.ClusterSize, ClusterBits: uint(bits.TrailingZeros(uint(p.ClusterSize))),
		Bpc:           uint32(p.ClusterSize / p.BlockSize),
		TotalClusters: p.Clusters, TotalBlocks: p.Blocks,
		MaxSlots: p.Slots, FSGeneration: id.Generation,
		CPG:      uint32(p.BlockSize-0x40) * 8,
		Features: p.Features, UUID: id.UUID, Label: p.Label, DxSeed: id.DxSeed,
		ClusterStack: p.Cluster.Stack, ClusterName: p.Cluster.Name,
	}
	g.BpcBits = g.ClusterBits - g.BlockBits
	if g.HasXattr() || g.HasIndexedDirs() {
		g.UUIDHash = ondisk.UUIDHash(id.UUID)
	}
	if g.HasXattr() {
		g.XattrInlineSize = ondisk.XattrInlineDefault
	}
	if p.Cluster.GlobalHeartbeat {
		g.StackFlags = ondisk.StackGlobalHeartbeat
	}
	return g
}
