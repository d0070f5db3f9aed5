package mkfs

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ocfuse/ocfuse/fs/ondisk"
)

// Kinds of failure, for errors.Is.
var (
	// ErrInvalid: an option has no meaning, or contradicts another one.
	ErrInvalid = errors.New("invalid option")
	// ErrTooSmall: the volume does not fit on the device with these options.
	ErrTooSmall = errors.New("volume too small")
)

// Type is what the volume is for; it chooses cluster and journal size.
type Type string

// Types of mkfs.ocfs2 -T.
const (
	TypeDefault   Type = ""
	TypeMail      Type = "mail"
	TypeDatafiles Type = "datafiles"
	TypeVMStore   Type = "vmstore"
)

// Level is a set of features to start from.
type Level string

// Levels of mkfs.ocfs2 --fs-feature-level.
const (
	LevelDefault     Level = "default"
	LevelMaxCompat   Level = "max-compat"
	LevelMaxFeatures Level = "max-features"
)

// levelFeatures are the features of each level.
var levelFeatures = map[Level]ondisk.Features{
	LevelDefault: {
		Compat: baseCompat, Incompat: baseIncompat, ROCompat: ondisk.FeatureROCompatUnwritten,
	},
	LevelMaxCompat: {Compat: baseCompat},
	LevelMaxFeatures: {
		Compat: baseCompat, Incompat: baseIncompat | ondisk.FeatureIncompatMetaECC,
		ROCompat: ondisk.FeatureROCompatUnwritten | ondisk.FeatureROCompatUsrQuota | ondisk.FeatureROCompatGrpQuota,
	},
}

const (
	baseCompat   = ondisk.FeatureCompatBackupSuper | ondisk.FeatureCompatJBD2SB
	baseIncompat = ondisk.FeatureIncompatSparseAlloc | ondisk.FeatureIncompatExtendedSlotMap |
		ondisk.FeatureIncompatInlineData | ondisk.FeatureIncompatXattr |
		ondisk.FeatureIncompatRefcountTree | ondisk.FeatureIncompatIndexedDirs |
		ondisk.FeatureIncompatDiscontigBG | ondisk.FeatureIncompatAppendDio
)

// Cluster names the cluster that may mount the volume. The zero value is classic
// o2cb: any o2cb cluster with local heartbeat.
type Cluster struct {
	Stack           string `json:"stack"`            // "o2cb", "pcmk" or "cman"
	Name            string `json:"name"`             // at most 16 bytes; letters and digits for o2cb
	GlobalHeartbeat bool   `json:"global_heartbeat"` // o2cb only
}

// Identity is what makes two volumes of the same options different. Zero fields are
// chosen: at random, Time as the time of the call.
type Identity struct {
	UUID       [16]byte
	Generation uint32    // volume generation, in every metadata block
	DxSeed     [3]uint32 // of the directory hash
	Time       time.Time // of all inodes, in seconds
}

// Owner is a user and a group. Zero is root, as mkfs.ocfs2 has it; another one can
// use a volume that nobody mounts as root.
type Owner struct{ UID, GID uint32 }

// Options says what to make. The zero value makes what mkfs.ocfs2 makes by default.
type Options struct {
	BlockSize   int    // bytes: 512, 1024, 2048, 4096; 0: by volume size
	ClusterSize int    // bytes: power of two, 4096 to 1 MiB; 0: by Type and volume size
	Slots       int    // 1 to 255; 0: by volume size, 1 for a local volume
	SizeBlocks  uint64 // volume size in blocks; 0: the whole device
	Label       string // less than 64 bytes
	Type        Type
	Level       Level  // "": default
	Features    string // changes to the level, as "metaecc,noxattr"
	// Local makes a volume for one node without a cluster. Cluster makes sure that
	// it is not local, whatever Features say; both is an error.
	Local       bool
	Clustered   bool
	Cluster     Cluster
	JournalSize int64 // bytes of one journal; 0: by Type and volume size
	Journal64   bool  // 64-bit block numbers, for more than 2^32 blocks
	Owner       Owner // of the root directory
	Discard     bool  // discard the device first
	Identity    Identity
	Progress    func(Progress) // called from one goroutine
}

// Progress is how far writing is.
type Progress struct {
	Stage       string // what is written, for people
	Done, Total int64  // bytes or blocks of the stage; Done == Total ends it
}

// features combines level, changes and cluster into the feature words.
func (o *Options) features() (ondisk.Features, error) {
	level := o.Level
	if level == "" {
		level = LevelDefault
	}
	base, ok := levelFeatures[level]
	if !ok {
		return base, fmt.Errorf("%w: feature level %q: use default, max-compat or max-features", ErrInvalid, level)
	}
	f, err := ondisk.ParseFeatures(base, o.Features)
	if err != nil {
		return f, fmt.Errorf("%w: features %q: %w", ErrInvalid, o.Features, err)
	}
	local := f.Incompat&ondisk.FeatureIncompatLocalMount != 0
	switch {
	case o.Local && o.Clustered, local && o.Clustered:
		return f, fmt.Errorf("%w: a volume is mounted local or in a cluster, not both", ErrInvalid)
	case o.Local:
		f.Incompat |= ondisk.FeatureIncompatLocalMount
		local = true
	}
	if err := o.Cluster.check(local); err != nil {
		return f, err
	}
	switch {
	case o.Cluster.Stack == "":
		if f.Incompat&ondisk.FeatureIncompatClusterInfo != 0 {
			return f, fmt.Errorf("%w: clusterinfo needs a cluster stack and a cluster name", ErrInvalid)
		}
	case f.Incompat&ondisk.FeatureIncompatClusterInfo != 0:
		f.Incompat |= ondisk.FeatureIncompatExtendedSlotMap
	case o.Cluster.Stack == "o2cb":
		f.Incompat |= ondisk.FeatureIncompatExtendedSlotMap | ondisk.FeatureIncompatClusterInfo
	default:
		f.Incompat |= ondisk.FeatureIncompatExtendedSlotMap | ondisk.FeatureIncompatUserspaceStack
	}
	return f, nil
}

// check verifies stack and cluster name.
func (c *Cluster) check(local bool) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)
	}
	switch {
	case *c == Cluster{}:
		return nil
	case local:
		return bad("a local volume has no cluster stack, cluster name or heartbeat")
	case c.Stack == "":
		return bad("cluster stack missing: o2cb, pcmk or cman")
	case c.Stack != "o2cb" && c.Stack != "pcmk" && c.Stack != "cman":
		return bad("cluster stack %q: use o2cb, pcmk or cman", c.Stack)
	case c.Name == "":
		return bad("cluster name missing")
	case len(c.Name) > 16:
		return bad("cluster name %q: at most 16 characters", c.Name)
	case c.Stack == "o2cb" && strings.ContainsFunc(c.Name, notAlnum):
		return bad("cluster name %q: only letters and digits with the o2cb stack", c.Name)
	case strings.ContainsFunc(c.Name, notPrintable):
		return bad("cluster name %q: only printable ASCII characters", c.Name)
	case c.GlobalHeartbeat && c.Stack != "o2cb":
		return bad("global heartbeat is a mode of the o2cb stack only")
	}
	return nil
}

func notAlnum(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
}

func notPrintable(r rune) bool { return r <= ' ' || r > '~' }
