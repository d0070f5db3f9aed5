package command

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/ocfuse/ocfuse/cmd/ocfuse/control"
	"github.com/ocfuse/ocfuse/cmd/ocfuse/node"
)

func newUmountCommand(e *Env) *cobra.Command {
	var force, asJSON bool
	cmd := &cobra.Command{
		Use:   "umount MOUNTPOINT",
		Short: "Unmount a volume and leave its cluster",
		Long: `umount takes the mount away and returns when the node has left its cluster
cleanly. umount(8) and SIGTERM to the node do the same, without the waiting.

The mount point of a node that died is detached.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			done := umounted{MountPoint: args[0], Clean: true}
			slow := time.AfterFunc(umountPatience, func() { sayWhyWaiting(e, args[0]) })
			defer slow.Stop()
			err := control.Call(cmd.Context(), args[0], "umount", node.UmountArgs{Force: force}, nil)
			if errors.Is(err, control.ErrDeadNode) || errors.Is(err, control.ErrNoNode) {
				done.Clean = false
				err = umountStale(e, args[0], err)
			}
			if err != nil || !asJSON {
				return err
			}
			return printJSON(e.Out, done)
		},
	}
	addJSON(cmd, &asJSON)
	cmd.Flags().BoolVarP(&force, "force", "f", false, "unmount though it is in use; programs that use it get errors")
	return cmd
}

// umountPatience is how long an unmount may take without a word.
const umountPatience = 5 * time.Second

// sayWhyWaiting tells what an unmount that takes long waits for.
func sayWhyWaiting(e *Env, mnt string) {
	at, ok, err := control.MountAt(mnt)
	switch {
	case err != nil:
		e.Log.Warnf("%s: still waiting; %v", mnt, err)
	case ok:
		e.Log.Warnf("%s: still waiting for the node of %s to leave its cluster; ocfuse status tells what it does", mnt, at.Source)
	default:
		e.Log.Warnf("%s is unmounted, but its node has not ended yet: another mount namespace (a container?) may still have the mount, or the node is leaving its cluster", mnt)
	}
}

// umounted is the output of "umount --json".
type umounted struct {
	MountPoint string `json:"mount_point"`
	Clean      bool   `json:"clean"` // false: the node was dead, its mount was detached
}

// umountStale detaches the mount of a node that died.
func umountStale(e *Env, mnt string, cause error) error {
	point, err := control.MountPoint(mnt)
	if err != nil {
		return err
	}
	at, ok, err := control.MountAt(point)
	if err != nil {
		return err
	}
	if !ok || at.Type != "fuse.ocfuse" {
		return cause
	}
	e.Log.Warnf("the node at %s has died; detaching its mount. Other nodes, or the next mount, recover it", point)
	if err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("detaching the mount at %s: %w (root can, or fusermount3 -u -z)", point, err)
	}
	return nil
}
