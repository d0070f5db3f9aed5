package ondisk

import (
	"fmt"
	"slices"
	"strings"
)

// s_feature_compat bits; unknown ones may be ignored.
const (
	FeatureCompatBackupSuper = 0x1
	FeatureCompatJBD2SB      = 0x2
)

// s_feature_incompat bits; a volume with an unknown one is refused.
const (
	FeatureIncompatHeartbeatDev     = 0x0002
	FeatureIncompatResizeInProgress = 0x0004
	FeatureIncompatLocalMount       = 0x0008
	FeatureIncompatSparseAlloc      = 0x0010
	FeatureIncompatTunefsInProgress = 0x0020
	FeatureIncompatInlineData       = 0x0040
	FeatureIncompatUserspaceStack   = 0x0080
	FeatureIncompatExtendedSlotMap  = 0x0100
	FeatureIncompatXattr            = 0x0200
	FeatureIncompatIndexedDirs      = 0x0400
	FeatureIncompatMetaECC          = 0x0800
	FeatureIncompatRefcountTree     = 0x1000
	FeatureIncompatDiscontigBG      = 0x2000
	FeatureIncompatClusterInfo      = 0x4000
	FeatureIncompatAppendDio        = 0x8000
)

// s_feature_ro_compat bits; a volume with an unknown one is mounted read-only.
const (
	FeatureROCompatUnwritten = 0x1
	FeatureROCompatUsrQuota  = 0x2
	FeatureROCompatGrpQuota  = 0x4
)

// What this implementation reads and writes; equal to Linux 6.1 and
// ocfs2-tools 1.8.7.
const (
	SupportedCompat   = FeatureCompatBackupSuper | FeatureCompatJBD2SB
	SupportedIncompat = FeatureIncompatLocalMount | FeatureIncompatSparseAlloc |
		FeatureIncompatInlineData | FeatureIncompatUserspaceStack |
		FeatureIncompatExtendedSlotMap | FeatureIncompatXattr |
		FeatureIncompatIndexedDirs | FeatureIncompatMetaECC |
		FeatureIncompatRefcountTree | FeatureIncompatDiscontigBG |
		FeatureIncompatClusterInfo | FeatureIncompatAppendDio
	SupportedROCompat = FeatureROCompatUnwritten | FeatureROCompatUsrQuota | FeatureROCompatGrpQuota
)

// Features is the three feature words of the superblock.
type Features struct {
	Compat   uint32
	Incompat uint32
	ROCompat uint32
}

// Has reports whether all bits of o are set in f.
func (f Features) Has(o Features) bool {
	return f.Compat&o.Compat == o.Compat && f.Incompat&o.Incompat == o.Incompat &&
		f.ROCompat&o.ROCompat == o.ROCompat
}

// Or is the union of f and o.
func (f Features) Or(o Features) Features {
	return Features{f.Compat | o.Compat, f.Incompat | o.Incompat, f.ROCompat | o.ROCompat}
}

// Without is f less the bits of o.
func (f Features) Without(o Features) Features {
	return Features{f.Compat &^ o.Compat, f.Incompat &^ o.Incompat, f.ROCompat &^ o.ROCompat}
}

// Feature is one feature bit, its name in mkfs.ocfs2 and tunefs.ocfs2, and what
// switching it drags along.
type Feature struct {
	Name string
	Bit  Features // the bit itself
	// Set is switched on with the feature, Clear off without it, Bit
	// included: unwritten needs sparse.
	Set   Features
	Clear Features
	// User marks names a user may give; the others are states of a volume.
	User bool
}

func compat(b uint32) Features   { return Features{Compat: b} }
func incompat(b uint32) Features { return Features{Incompat: b} }
func roCompat(b uint32) Features { return Features{ROCompat: b} }

// FeatureNames lists every known feature in bit order.
var FeatureNames = []Feature{
	simple("backup-super", compat(FeatureCompatBackupSuper)),
	// mkfs.ocfs2 always sets it and takes no word for it.
	state("strict-journal-super", compat(FeatureCompatJBD2SB)),
	state("heartbeat-dev", incompat(FeatureIncompatHeartbeatDev)),
	state("resize-in-progress", incompat(FeatureIncompatResizeInProgress)),
	simple("local", incompat(FeatureIncompatLocalMount)),
	{"sparse", incompat(FeatureIncompatSparseAlloc), incompat(FeatureIncompatSparseAlloc),
		Features{Incompat: FeatureIncompatSparseAlloc, ROCompat: FeatureROCompatUnwritten}, true},
	state("tunefs-in-progress", incompat(FeatureIncompatTunefsInProgress)),
	simple("inline-data", incompat(FeatureIncompatInlineData)),
	state("userspace-stack", incompat(FeatureIncompatUserspaceStack)),
	simple("extended-slotmap", incompat(FeatureIncompatExtendedSlotMap)),
	simple("xattr", incompat(FeatureIncompatXattr)),
	simple("indexed-dirs", incompat(FeatureIncompatIndexedDirs)),
	simple("metaecc", incompat(FeatureIncompatMetaECC)),
	simple("refcount", incompat(FeatureIncompatRefcountTree)),
	simple("discontig-bg", incompat(FeatureIncompatDiscontigBG)),
	simple("clusterinfo", incompat(FeatureIncompatClusterInfo)),
	simple("append-dio", incompat(FeatureIncompatAppendDio)),
	{"unwritten", roCompat(FeatureROCompatUnwritten),
		Features{Incompat: FeatureIncompatSparseAlloc, ROCompat: FeatureROCompatUnwritten},
		roCompat(FeatureROCompatUnwritten), true},
	simple("usrquota", roCompat(FeatureROCompatUsrQuota)),
	simple("grpquota", roCompat(FeatureROCompatGrpQuota)),
}

func simple(name string, bit Features) Feature { return Feature{name, bit, bit, bit, true} }
func state(name string, bit Features) Feature  { return Feature{name, bit, bit, bit, false} }

// FeatureByName finds a feature by its mkfs.ocfs2 name.
func FeatureByName(name string) (Feature, bool) {
	i := slices.IndexFunc(FeatureNames, func(f Feature) bool { return f.Name == name })
	if i < 0 {
		return Feature{}, false
	}
	return FeatureNames[i], true
}

// ParseFeatures applies a comma-separated list as mkfs.ocfs2 takes it
// ("xattr,nosparse") to base: a name sets the feature, "no" + name clears it.
// A list that both sets and clears what two of its names drag along is
// refused, as are unknown names.
func ParseFeatures(base Features, list string) (Features, error) {
	var set, clr Features
	for word := range strings.SplitSeq(list, ",") {
		if word == "" {
			continue
		}
		f, ok := FeatureByName(word)
		if ok && f.User {
			set = set.Or(f.Set)
			continue
		}
		rest, neg := strings.CutPrefix(word, "no")
		f, ok = FeatureByName(rest)
		if !neg || !ok || !f.User {
			return base, fmt.Errorf("unknown feature %q (known: %s)", word, strings.Join(UserFeatureNames(), ", "))
		}
		clr = clr.Or(f.Clear)
	}
	both := Features{set.Compat & clr.Compat, set.Incompat & clr.Incompat, set.ROCompat & clr.ROCompat}
	if both != (Features{}) {
		return base, fmt.Errorf("features %q: %s both wanted and unwanted", list, both)
	}
	return base.Or(set).Without(clr), nil
}

// UserFeatureNames are the names [ParseFeatures] takes.
func UserFeatureNames() []string {
	var names []string
	for _, f := range FeatureNames {
		if f.User {
			names = append(names, f.Name)
		}
	}
	return names
}

// Names lists the features of f by name, unknown bits as "incompat-0x10000".
func (f Features) Names() []string {
	var names []string
	for _, k := range FeatureNames {
		if f.Has(k.Bit) {
			names = append(names, k.Name)
			f = f.Without(k.Bit)
		}
	}
	names = append(names, bitNames("compat", f.Compat)...)
	names = append(names, bitNames("incompat", f.Incompat)...)
	return append(names, bitNames("ro-compat", f.ROCompat)...)
}

// String is the comma-separated list of names.
func (f Features) String() string { return strings.Join(f.Names(), ",") }

func bitNames(word string, bits uint32) []string {
	var names []string
	for ; bits != 0; bits &= bits - 1 {
		names = append(names, fmt.Sprintf("%s-%#x", word, bits&-bits))
	}
	return names
}

// CheckFeatures decides whether the volume may be used. An error (matching
// [ErrUnsupported]) refuses it; readOnly lists unknown ro_compat features that
// forbid writing. Linux fs/ocfs2/super.c, ocfs2_check_feature rules.
func (g *Geometry) CheckFeatures() (readOnly []string, err error) {
	switch {
	case g.Incompat&FeatureIncompatHeartbeatDev != 0:
		return nil, fmt.Errorf("%w: this is a heartbeat device, it holds no filesystem; mount another device", ErrUnsupported)
	case g.Incompat&FeatureIncompatResizeInProgress != 0:
		return nil, fmt.Errorf("%w: an offline resize was interrupted; run fsck.ocfs2 on the volume first", ErrUnsupported)
	case g.Incompat&FeatureIncompatTunefsInProgress != 0:
		return nil, fmt.Errorf("%w: a tunefs.ocfs2 run was interrupted; run fsck.ocfs2 on the volume first", ErrUnsupported)
	}
	if bits := g.Incompat &^ SupportedIncompat; bits != 0 {
		return nil, fmt.Errorf("%w: incompatible features %s; switch them off with tunefs.ocfs2 or use a newer version",
			ErrUnsupported, strings.Join(Features{Incompat: bits}.Names(), ","))
	}
	return Features{ROCompat: g.ROCompat &^ SupportedROCompat}.Names(), nil
}
