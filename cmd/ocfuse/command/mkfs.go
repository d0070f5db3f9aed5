package command

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/mkfs"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/spf13/cobra"
)

// heartbeatWait is how long an old volume's heartbeat area is watched: more than two
// periods of the slowest heartbeat (o2cb: 2 s).
const (
	heartbeatWait = 5 * time.Second
	heartbeatStep = time.Second / 2
)

// mkfsOptions are the flags of mkfs.ocfs2; those that need parsing are strings.
type mkfsOptions struct {
	mkfs.Options
	blockSize, clusterSize, journal, uuid, mount, level, typ, owner string

	noBackup, noDiscard       bool
	force, yes, quiet, dryRun bool
	verbose, json             bool
}

func newMkfsCommand(e *Env) *cobra.Command {
	var o mkfsOptions
	cmd := &cobra.Command{
		Use:   "mkfs [flags] DEVICE [BLOCKS]",
		Short: "Make an OCFS2 volume",
		Long: `Make an OCFS2 volume on DEVICE, a block device or an image file, as mkfs.ocfs2
makes it. BLOCKS limits its size.

A device that is mounted, or that another program holds, is refused. So is an OCFS2
volume that may be mounted by another node: a node in the slot map, a journal that
was not recovered, or a heartbeat (--force skips these checks). Any other contents
are overwritten after a question (--yes skips it).`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.parse(args); err != nil {
				return err
			}
			return o.run(cmd.Context(), e, args[0])
		},
	}
	o.register(cmd)
	return cmd
}

// register declares the flags, with the letters of mkfs.ocfs2.
func (o *mkfsOptions) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.blockSize, "block-size", "b", "", "block size: 512, 1K, 2K or 4K (default: by volume size)")
	f.StringVarP(&o.clusterSize, "cluster-size", "C", "", "cluster size: 4K to 1M (default: by volume size and type)")
	f.IntVarP(&o.Slots, "node-slots", "N", 0, "how many nodes can mount at once: 1 to 255 (default: by volume size)")
	f.StringVarP(&o.Label, "label", "L", "", "volume label, at most 63 bytes")
	f.StringVarP(&o.journal, "journal-options", "J", "", "size=BYTES, block32, block64; comma-separated")
	f.StringVarP(&o.uuid, "uuid", "U", "", "volume uuid (default: random)")
	f.StringVarP(&o.mount, "mount", "M", "", "how it is mounted: local or cluster (default: cluster)")
	f.StringVarP(&o.typ, "type", "T", "", "what it is for: mail, datafiles or vmstore")
	f.StringVar(&o.level, "fs-feature-level", "default", "features to start from: default, max-compat or max-features")
	f.StringVar(&o.Features, "fs-features", "", "features to switch: "+strings.Join(ondisk.UserFeatureNames(), ", ")+"; each also with no in front")
	f.StringVar(&o.Cluster.Stack, "cluster-stack", "", "cluster stack: o2cb, pcmk or cman (default: any o2cb)")
	f.StringVar(&o.Cluster.Name, "cluster-name", "", "cluster name, at most 16 characters")
	f.BoolVar(&o.Cluster.GlobalHeartbeat, "global-heartbeat", false, "o2cb with global heartbeat")
	f.StringVar(&o.owner, "root-owner", "0:0", "`UID:GID` that own the root directory")
	f.BoolVar(&o.Discard, "discard", true, "discard the device first")
	f.BoolVar(&o.noDiscard, "nodiscard", false, "do not discard the device first")
	f.BoolVar(&o.noBackup, "no-backup-super", false, "no copies of the superblock")
	f.BoolVarP(&o.force, "force", "F", false, "do not check whether another node uses the volume")
	f.BoolVarP(&o.yes, "yes", "x", false, "overwrite without a question")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "only print what would be made")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "print nothing but errors")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "print the feature words and the generation, too")
	addJSON(cmd, &o.json)
}

// parse turns the flags into mkfs.Options.
func (o *mkfsOptions) parse(args []string) error {
	size := func(flag, s string) (int64, error) {
		if s == "" {
			return 0, nil
		}
		n, err := parseSize(s)
		if err != nil || n == 0 || n > 1<<30 {
			return 0, fmt.Errorf("%s %q: want a size such as 4096 or 4K", flag, s)
		}
		return n, nil
	}
	bs, err1 := size("--block-size", o.blockSize)
	cs, err2 := size("--cluster-size", o.clusterSize)
	if err := errors.Join(err1, err2, o.parseJournal(), o.parseOwner()); err != nil {
		return err
	}
	o.BlockSize, o.ClusterSize = int(bs), int(cs)
	o.Type, o.Level = mkfs.Type(o.typ), mkfs.Level(o.level)
	switch o.mount {
	case "":
	case "local":
		o.Local = true
	case "cluster":
		o.Clustered = true
	default:
		return fmt.Errorf("--mount %q: use local or cluster", o.mount)
	}
	if o.uuid != "" {
		raw, err := hex.DecodeString(strings.ReplaceAll(o.uuid, "-", ""))
		if err != nil || len(raw) != 16 {
			return fmt.Errorf("--uuid %q: want 32 hexadecimal digits, as 2A4D1C581FAA42A1A41D26EFC90C1315", o.uuid)
		}
		copy(o.Identity.UUID[:], raw)
		if o.Identity.UUID == [16]byte{} {
			return fmt.Errorf("--uuid %q: not all zeros", o.uuid)
		}
	}
	if o.noBackup {
		o.Features = strings.TrimPrefix(o.Features+",nobackup-super", ",")
	}
	o.Discard = o.Discard && !o.noDiscard
	if len(args) > 1 {
		n, err := strconv.ParseUint(args[1], 0, 63)
		if err != nil || n == 0 {
			return fmt.Errorf("BLOCKS %q: want a number of blocks", args[1])
		}
		o.SizeBlocks = n
	}
	return nil
}

// parseJournal reads -J.
func (o *mkfsOptions) parseJournal() error {
	if o.journal == "" {
		return nil
	}
	for _, opt := range strings.Split(o.journal, ",") {
		value, isSize := strings.CutPrefix(opt, "size=")
		switch {
		case isSize:
			n, err := parseSize(value)
			if err != nil {
				return fmt.Errorf("--journal-options size %q: want a size such as 64M", value)
			}
			o.JournalSize = n
		case opt == "block64", opt == "noblock32":
			o.Journal64 = true
		case opt == "block32", opt == "noblock64":
			o.Journal64 = false
		default:
			return fmt.Errorf("--journal-options %q: use size=BYTES, block32 or block64", opt)
		}
	}
	return nil
}

// parseOwner reads --root-owner.
func (o *mkfsOptions) parseOwner() error {
	uid, gid, ok := strings.Cut(o.owner, ":")
	u, err1 := strconv.ParseUint(uid, 10, 32)
	g, err2 := strconv.ParseUint(gid, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return fmt.Errorf("--root-owner %q: want two numbers such as 1000:1000", o.owner)
	}
	o.Owner = mkfs.Owner{UID: uint32(u), GID: uint32(g)}
	return nil
}

// parseSize reads a number of bytes with an optional suffix b, k, m, g or t.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "bBkKmMgGtT")
	shift := map[string]uint{"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}
	by, ok := shift[strings.ToLower(s[len(digits):])]
	n, err := strconv.ParseInt(digits, 0, 64)
	if err != nil || !ok || n < 0 || n > 1<<62>>by {
		return 0, fmt.Errorf("bad size %q", s)
	}
	return n << by, nil
}

// run makes the volume.
func (o *mkfsOptions) run(ctx context.Context, e *Env, path string) error {
	if err := checkNotMounted(path); err != nil && !o.dryRun {
		return err
	}
	claim := blockdev.ClaimExclusive
	if o.dryRun {
		claim = blockdev.ClaimNone
	}
	dev, err := blockdev.Open(path, blockdev.Options{Claim: claim, ReadOnly: o.dryRun})
	if err != nil {
		return err
	}
	defer dev.Close()
	if w := dev.Warning(); w != "" {
		e.Log.Warnf("%s: %s", path, w)
	}
	old, err := mkfs.Inspect(dev)
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	o.keepCluster(old)
	plan, err := mkfs.NewPlan(dev.Size(), dev.BlockAlign(), o.Options)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	o.Identity = o.Identity.Fill()
	if !o.quiet && !o.json {
		o.printPlan(e.Out, plan)
	}
	if o.dryRun {
		return o.result(e, path, plan)
	}
	if o.uuid != "" && !o.quiet {
		fmt.Fprintln(e.Err, "Warning: two volumes with one uuid take each other's locks. Be sure that it is not in use.")
	}
	if err := o.mayOverwrite(ctx, e, path, dev, old); err != nil {
		return err
	}
	bar := newProgress(e.Err, o.quiet)
	o.Progress = func(p mkfs.Progress) { bar.report(p.Stage, p.Done, p.Total) }
	err = mkfs.FormatPlan(ctx, dev, plan, o.Options)
	bar.end()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return o.result(e, path, plan)
}

// keepCluster takes stack and name of an old volume where the user gave none, but
// for plain o2cb, which is the default anyway.
func (o *mkfsOptions) keepCluster(old *mkfs.Existing) {
	g := old.Geometry
	local := o.Local || strings.Contains(","+o.Features+",", ",local,")
	if g == nil || !g.HasClusterInfo() || local || o.Cluster != (mkfs.Cluster{}) {
		return
	}
	asked := strings.Contains(","+o.Features+",", ",clusterinfo,")
	if g.ClusterStack == "o2cb" && g.StackFlags == 0 && !asked {
		return
	}
	o.Cluster = mkfs.Cluster{Stack: g.ClusterStack, Name: g.ClusterName,
		GlobalHeartbeat: g.StackFlags&ondisk.StackGlobalHeartbeat != 0}
}

// mayOverwrite checks that no node uses what is on the device, and asks.
func (o *mkfsOptions) mayOverwrite(ctx context.Context, e *Env, path string, dev blockdev.Device, old *mkfs.Existing) error {
	if old.Kind == "" {
		return nil
	}
	if old.Kind == "ocfs2" && !o.force {
		if why := old.InUse(); why != "" {
			return fmt.Errorf("%s holds an OCFS2 volume that may be in use: %s. Unmount it everywhere, or use --force if it is not", path, why)
		}
		nodes, err := old.Beating(ctx, dev, heartbeatWait, heartbeatStep)
		if err != nil {
			return fmt.Errorf("watch the heartbeat of %s: %w", path, err)
		}
		if nodes != nil {
			return fmt.Errorf("%s is in use: node %d writes its heartbeat. Unmount it there first", path, nodes[0])
		}
	}
	if o.yes {
		return nil
	}
	what := old.Kind
	if g := old.Geometry; g != nil {
		what = fmt.Sprintf("ocfs2, label %q, uuid %s", g.Label, g.UUIDString())
	}
	fmt.Fprintf(e.Err, "%s holds data (%s), which will be lost.\nProceed (y/N): ", path, what)
	answer, err := bufio.NewReader(e.In).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return errors.New("not confirmed; nothing was changed (--yes overwrites without a question)")
	}
	return nil
}

// result prints what was made.
func (o *mkfsOptions) result(e *Env, path string, p *mkfs.Plan) error {
	if o.json {
		return printJSON(e.Out, struct {
			Device string     `json:"device"`
			DryRun bool       `json:"dry_run"`
			UUID   string     `json:"uuid"`
			Plan   *mkfs.Plan `json:"volume"`
		}{path, o.dryRun, fmt.Sprintf("%X", o.Identity.UUID), p})
	}
	if !o.quiet && !o.dryRun {
		fmt.Fprintln(e.Out, "mkfs successful")
	}
	return nil
}

// printPlan prints the sizes as mkfs.ocfs2 does.
func (o *mkfsOptions) printPlan(w io.Writer, p *mkfs.Plan) {
	if c := p.Cluster; c.Stack != "" {
		fmt.Fprintf(w, "Cluster stack: %s\nCluster name: %s\n", c.Stack, c.Name)
	} else if p.Features.Incompat&ondisk.FeatureIncompatLocalMount == 0 {
		fmt.Fprintln(w, "Cluster stack: classic o2cb")
	}
	fmt.Fprintf(w, "Label: %s\nUUID: %X\nFeatures: %s\n", p.Label, o.Identity.UUID, strings.Join(p.FeatureNames, " "))
	if o.verbose {
		fmt.Fprintf(w, "Feature words: compat %#x incompat %#x ro_compat %#x\nGeneration: %#x\n",
			p.Features.Compat, p.Features.Incompat, p.Features.ROCompat, o.Identity.Generation)
	}
	fmt.Fprintf(w, "Block size: %d\nCluster size: %d\n", p.BlockSize, p.ClusterSize)
	fmt.Fprintf(w, "Volume size: %d (%d clusters) (%d blocks)\n", uint64(p.Clusters)*uint64(p.ClusterSize), p.Clusters, p.Blocks)
	fmt.Fprintf(w, "Extent allocator groups: %d\nJournal size: %d\nNode slots: %d\n", p.ExtentGroups, p.JournalSize, p.Slots)
}
