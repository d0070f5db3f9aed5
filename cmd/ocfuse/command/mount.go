package command

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ocfuse/ocfuse/cmd/ocfuse/control"
	"github.com/ocfuse/ocfuse/cmd/ocfuse/node"
	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/fs/volume"
	"github.com/ocfuse/ocfuse/stacks/clusterconf"

	_ "github.com/ocfuse/ocfuse/stacks/dlm" // the stacks that are linked in
	_ "github.com/ocfuse/ocfuse/stacks/local"
)

type mountOptions struct {
	node       int
	config     string
	timeouts   string
	stack      string
	membership string
	members    string
	options    []string
	foreground bool
	debugFuse  bool
	fake       bool
	json       bool
}

func newMountCommand(e *Env) *cobra.Command {
	var o mountOptions
	cmd := &cobra.Command{
		Use:   "mount [flags] DEVICE MOUNTPOINT",
		Short: "Mount a volume as one node of its cluster",
		Long: `mount joins the volume's cluster as one node and mounts the volume. The mount
point appears when the volume is ready: the node has joined, and its own and dead
nodes' journals are replayed. The node then runs in the background until umount.

The cluster stack is the one the volume is labelled for: "local" for volumes made
with mkfs -M local, "dlm" for the label pcmk. A write-protected device is mounted
read-only without a cluster, if all journals of the volume are clean.

mount -t fuse.ocfuse and a line in /etc/fstab do the same. What are flags here can
be said with -o there, members with colons:

	/dev/sdX  /mnt  fuse.ocfuse  node=1,config=/etc/ocfs2/cluster.conf,_netdev  0 0`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.takeClusterOptions(cmd.Flags()); err != nil {
				return &ExitError{ExitMountUsage, err}
			}
			return runMount(cmd, e, o, args[0], args[1])
		},
	}
	o.register(cmd.Flags())
	return cmd
}

// register declares the flags.
func (o *mountOptions) register(f *pflag.FlagSet) {
	f.IntVar(&o.node, "node", -1, "this node's `number` in the cluster configuration")
	f.StringVar(&o.config, "config", "", "cluster configuration `file` (default /etc/ocfs2/cluster.conf)")
	f.StringVar(&o.timeouts, "timeouts", "", "`file` with the cluster's timeouts (default /etc/default/o2cb)")
	f.StringVar(&o.stack, "stack", "", "cluster `stack`; an error if it is not that of the volume's label")
	f.StringVar(&o.membership, "membership", "disk", "`who` decides about membership: disk (heartbeats) or manual")
	f.StringVar(&o.members, "members", "", "first `members` with --membership manual, such as \"1 2\"")
	f.StringArrayVarP(&o.options, "options", "o", nil, "mount `options`, separated by commas, as of mount.ocfs2(8) and mount(8)")
	f.BoolVar(&o.foreground, "foreground", false, "stay in the foreground and log to stderr; this process is the node")
	f.BoolVar(&o.debugFuse, "debug-fuse", false, "log every FUSE request")
	f.BoolVar(&o.fake, "fake", false, "check the options and the volume's label, but do not mount")
	f.BoolVar(&o.json, "json", false, "print the node's status as JSON when it is mounted")
}

func runMount(cmd *cobra.Command, e *Env, o mountOptions, device, mnt string) error {
	mo, err := parseMountOptions(o.options)
	if err != nil {
		return &ExitError{ExitMountUsage, err}
	}
	if o.fake {
		_, err := o.nodeConfig(e, mo, device, mnt)
		return err
	}
	holdReady()
	if !o.foreground {
		files, err := o.files()
		if err != nil {
			return &ExitError{ExitMountUsage, err}
		}
		err = daemonize(cmd.Context(), e, device, mnt, append(givenFlags(cmd.Flags(), o.options), files...))
		if err != nil || !o.json {
			return err
		}
		return printNode(cmd.Context(), e, mnt)
	}
	cfg, err := o.nodeConfig(e, mo, device, mnt)
	if err != nil {
		return err
	}
	cfg.Ready = func(note string) {
		notifyReady(note)
		if !o.json {
			return
		}
		if err := printNode(cmd.Context(), e, mnt); err != nil {
			e.Log.Warn(err)
		}
	}
	if !cmd.Flags().Changed("log-level") {
		e.Log.SetLevel(logrus.InfoLevel) // a node tells its story
	}
	return node.Run(cmd.Context(), cfg)
}

// printNode prints what a node says of itself, as JSON.
func printNode(ctx context.Context, e *Env, mnt string) error {
	var st node.Status
	if err := control.Call(ctx, mnt, "status", nil, &st); err != nil {
		return err
	}
	return printJSON(e.Out, st)
}

// clusterOptions are the flags that -o can stand for.
var clusterOptions = map[string]bool{"node": true, "config": true, "timeouts": true, "stack": true, "membership": true, "members": true}

// takeClusterOptions sets the flags that -o stands for, unless they were given
// themselves.
func (o *mountOptions) takeClusterOptions(flags *pflag.FlagSet) error {
	var rest []string
	for _, opt := range strings.Split(strings.Join(o.options, ","), ",") {
		key, val, _ := strings.Cut(opt, "=")
		if !clusterOptions[key] {
			if opt != "" {
				rest = append(rest, opt)
			}
			continue
		}
		if val == "" {
			return fmt.Errorf("mount option %s: want %s=VALUE, as for the flag --%s", opt, key, key)
		}
		if flags.Changed(key) {
			continue
		}
		if key == "members" {
			val = strings.ReplaceAll(val, ":", " ")
		}
		if err := flags.Set(key, val); err != nil {
			return fmt.Errorf("mount option %s: %w", opt, err)
		}
	}
	o.options = rest
	return nil
}

// files are the flags that name files, with absolute paths: given after the others
// they are what counts.
func (o mountOptions) files() ([]string, error) {
	var flags []string
	for _, f := range []struct{ name, path string }{{"--config", o.config}, {"--timeouts", o.timeouts}} {
		if f.path == "" {
			continue
		}
		abs, err := filepath.Abs(f.path)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", f.name, f.path, err)
		}
		flags = append(flags, f.name+"="+abs)
	}
	return flags, nil
}

// nodeConfig turns flags into a node's configuration.
func (o mountOptions) nodeConfig(e *Env, mo parsedOptions, device, mnt string) (node.Config, error) {
	cfg := node.Config{Device: device, MountPoint: mnt, Log: e.Log}
	cfg.Fuse = mo.fuse
	cfg.Fuse.Debug = o.debugFuse
	cfg.Volume = mo.volume
	cfg.Volume.Stack = o.stack
	stack, protected, err := o.stackOf(device)
	cfg.Protected = protected
	switch {
	case err != nil || protected: // no cluster is joined with what cannot be written
		return cfg, err
	case stack == "local":
		cfg.Exclusive = true
		return cfg, nil // --node, --config and --membership mean nothing there
	}
	return cfg, o.cluster(e, &cfg)
}

// stackOf finds the stack the volume is labelled for, and whether the device is
// write-protected. Nodes on different stacks do not see each other's locks, so
// that --stack cannot choose another one.
func (o mountOptions) stackOf(device string) (stack string, protected bool, err error) {
	dev, err := blockdev.Open(device, blockdev.Options{ReadOnly: true, MinSize: leastVolume})
	if err != nil {
		return "", false, err
	}
	defer dev.Close()
	g, _, err := ondisk.FindSuper(dev)
	if errors.Is(err, ondisk.ErrNotOCFS2) {
		return "", false, fmt.Errorf("%s: %w: is this the device you mean? (ocfuse mkfs makes a volume)", device, err)
	}
	if err != nil {
		return "", false, fmt.Errorf("%s: %w", device, err)
	}
	stack, err = volume.StackFor(g)
	if dev.Protected() {
		return "local", true, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("%s: %w", device, err)
	}
	if o.stack != "" && o.stack != stack {
		return "", false, fmt.Errorf("%s: --stack %s: the volume is made for the stack %s, and other nodes mount it with that: leave --stack away", device, o.stack, stack)
	}
	return stack, false, nil
}

// leastVolume is a size in bytes that holds a superblock of any block size; less
// cannot be a volume.
const leastVolume = (ondisk.SuperBlkno + 1) << ondisk.MaxBlockBits

// cluster fills in what cluster stacks need.
func (o mountOptions) cluster(e *Env, cfg *node.Config) error {
	if o.node < 0 {
		return &ExitError{ExitMountUsage, errors.New("which node is this? give --node N, its number in cluster.conf")}
	}
	c, notes, err := clusterconf.Load(clusterconf.Options{Config: o.config, Timeouts: o.timeouts})
	if err != nil {
		return &ExitError{ExitMountUsage, err}
	}
	for _, n := range notes {
		e.Log.Warn(n)
	}
	if _, ok := c.Node(uint32(o.node)); !ok {
		return &ExitError{ExitMountUsage, fmt.Errorf("node %d is not in the cluster configuration", o.node)}
	}
	cfg.Volume.Conn.Node, cfg.Volume.Conn.Cluster = uint32(o.node), c
	cfg.Volume.Conn.Options = map[string]string{"membership": o.membership, "members": o.members}
	return nil
}

// parsedOptions is what -o means.
type parsedOptions struct {
	volume volume.Options
	fuse   kcache.MountConfig
}

// ignoredOptions are known and need nothing done: they are defaults here, or
// meant for mount(8) itself.
var ignoredOptions = map[string]bool{
	"rw": true, "defaults": true, "auto": true, "noauto": true, "user": true, "nouser": true, "users": true, "_netdev": true,
	"nofail": true, "relatime": true, "noatime": true, "nodiratime": true, "async": true, "nointr": true, "intr": true,
	"heartbeat=local": true, "heartbeat=none": true, "data=ordered": true, "barrier=1": true, "localalloc": true,
	"coherency=full": true, "dev": true, "suid": true, "exec": true, "allow_other": true,
}

// refusedOptions are options of mount.ocfs2 that change what is promised, and
// that this program does not offer.
var refusedOptions = map[string]string{
	"data=writeback":       "file data is always written before the metadata that names it",
	"barrier=0":            "writes would not survive a power cut",
	"coherency=buffered":   "direct writes of several nodes would not be ordered",
	"acl":                  "POSIX ACLs are not supported yet",
	"user_xattr":           "extended attributes are not supported yet",
	"usrquota":             "quotas are not supported yet",
	"grpquota":             "quotas are not supported yet",
	"inode64":              "inode numbers beyond 32 bits are not supported yet",
	"localflocks":          "locks that hold on one node only are not supported yet",
	"journal_async_commit": "asynchronous commits are not supported",
}

// maxOption bounds the numbers in options: seconds, and slots.
const maxOption = 1 << 20

// parseMountOptions understands the option names of mount.ocfs2(8) and
// mount(8).
func parseMountOptions(lists []string) (parsedOptions, error) {
	p := parsedOptions{volume: volume.Options{Slot: -1}}
	for _, opt := range strings.Split(strings.Join(lists, ","), ",") {
		if err := p.option(strings.TrimSpace(opt)); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (p *parsedOptions) option(opt string) error {
	if why, ok := refusedOptions[opt]; ok {
		return fmt.Errorf("mount option %s: %s", opt, why)
	}
	if opt == "" || ignoredOptions[opt] || strings.HasPrefix(opt, "x-") || strings.HasPrefix(opt, "comment=") {
		return nil
	}
	key, val, hasVal := strings.Cut(opt, "=")
	switch key {
	case "ro", "nosuid", "nodev", "noexec":
		if hasVal {
			return fmt.Errorf("mount option %s: takes no value", opt)
		}
	}
	num, numErr := strconv.Atoi(val)
	switch key {
	case "ro":
		p.volume.ReadOnly = true
	case "nosuid":
		p.fuse.NoSuid = true
	case "nodev":
		p.fuse.NoDev = true
	case "noexec":
		p.fuse.NoExec = true
	case "commit":
		p.volume.CommitInterval = time.Duration(num) * time.Second
	case "preferred_slot":
		p.volume.Slot = num
	case "localalloc":
		return fmt.Errorf("mount option %s: the size of the local allocation window cannot be chosen yet", opt)
	case "errors":
		if val != "remount-ro" && val != "continue" {
			return fmt.Errorf("mount option %s: errors always make the mount read-only, never stop the host", opt)
		}
	case "cluster_stack", "atime_quantum", "resv_level", "dir_resv_level", "fsname", "subtype":
	default:
		return fmt.Errorf("mount option %q is not known", opt)
	}
	numeric := key == "commit" || key == "preferred_slot"
	if numeric && (numErr != nil || num < 0 || num > maxOption) {
		return fmt.Errorf("mount option %s: %q is not a number of 0 to %d", key, val, maxOption)
	}
	return nil
}
