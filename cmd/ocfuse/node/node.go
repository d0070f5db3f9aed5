package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/ocfuse/ocfuse/cmd/ocfuse/control"
	"github.com/ocfuse/ocfuse/fs/blockdev"
	"github.com/ocfuse/ocfuse/fs/fuse"
	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
	"github.com/ocfuse/ocfuse/fs/volume"
)

// Config says what to mount where.
type Config struct {
	Device, MountPoint string
	Volume             volume.Options
	Fuse               kcache.MountConfig // Dir, Source, Logf are filled in
	Log                *logrus.Logger
	// Exclusive claims the device for this node alone, as the local stack
	// needs: nothing else would tell two such nodes of each other.
	Exclusive bool
	// Protected opens the device for reading: it cannot be written.
	Protected bool
	// Ready is called once the mount can be used, with what the user should know.
	Ready func(note string)
	// LeaveTimeout bounds a clean leave; 0: none.
	LeaveTimeout time.Duration
}

// Node is a running node.
type Node struct {
	cfg   Config
	mnt   string // cleaned mount point
	start time.Time
	state atomic.Value // string

	v *volume.Volume // set before state "mounted"
	m *kcache.Mount

	leave chan error    // what asked for the end: nil for an unmount that happened
	gone  chan struct{} // closed when the node has left
	mu    sync.Mutex    // guards err
	err   error         // outcome of leaving
}

// Run joins, mounts, serves, and leaves. It returns nil after a clean leave.
func Run(ctx context.Context, cfg Config) error {
	mnt, err := control.MountPoint(cfg.MountPoint)
	if err != nil {
		return err
	}
	n := &Node{cfg: cfg, mnt: mnt, start: time.Now(), leave: make(chan error, 4), gone: make(chan struct{})}
	n.state.Store("joining")
	if err := n.clearStale(); err != nil {
		return err
	}
	if err := checkPoint(mnt); err != nil {
		return err
	}
	srv, err := control.Listen(mnt, n.handle)
	if err != nil {
		return err
	}
	err = n.run(ctx)
	n.mu.Lock()
	n.err = err
	n.mu.Unlock()
	close(n.gone)
	return errors.Join(err, srv.Close())
}

// clearStale detaches the mount of a node that died; whatever else is mounted
// there is refused.
func (n *Node) clearStale() error {
	at, ok, err := control.MountAt(n.mnt)
	if err != nil || !ok || at.Type != "fuse."+subtype {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
	defer cancel()
	err = control.Call(ctx, n.mnt, "ping", nil, nil)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: the node mounted there does not answer: is it stopped? Kill it, or mount elsewhere: %w", n.mnt, err)
	}
	if err == nil {
		return fmt.Errorf("%s: %s is mounted there already", n.mnt, at.Source)
	}
	if !errors.Is(err, control.ErrDeadNode) && !errors.Is(err, control.ErrNoNode) {
		return err
	}
	n.cfg.Log.Warnf("%s is the mount point of a node that died; detaching it", n.mnt)
	if err := unix.Unmount(n.mnt, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("detaching the stale mount at %s: %w", n.mnt, err)
	}
	return nil
}

// pingTimeout is how long a node that is mounted may take to say so.
const pingTimeout = 5 * time.Second

// checkPoint refuses a mount point that cannot be one, before the cluster is
// joined for it.
func checkPoint(mnt string) error {
	st, err := os.Lstat(mnt)
	var pe *fs.PathError
	switch {
	case errors.As(err, &pe) && errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("mount point %s: %w: make the directory first", mnt, pe.Err)
	case errors.As(err, &pe):
		return fmt.Errorf("mount point %s: %w", mnt, pe.Err)
	case st.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("mount point %s: is a symbolic link: name the directory itself", mnt)
	case !st.IsDir():
		return fmt.Errorf("mount point %s: %w", mnt, unix.ENOTDIR)
	}
	return nil
}

// subtype makes the mount's type fuse.ocfuse.
const subtype = "ocfuse"

func (n *Node) run(ctx context.Context) error {
	claim := blockdev.ClaimShared
	if n.cfg.Exclusive {
		claim = blockdev.ClaimExclusive
	}
	if n.cfg.Protected {
		claim = blockdev.ClaimShared
	}
	dev, err := blockdev.Open(n.cfg.Device, blockdev.Options{Claim: claim, ReadOnly: n.cfg.Protected})
	if err != nil {
		return err
	}
	defer dev.Close()
	if w := dev.Warning(); w != "" {
		n.cfg.Log.Warn(w)
	}
	opts := n.cfg.Volume
	opts.Logf = n.cfg.Log.Infof
	if n.v, err = volume.Mount(ctx, dev, opts); err != nil {
		return fmt.Errorf("%s: %w", n.cfg.Device, err)
	}
	fc := n.cfg.Fuse
	fc.Dir, fc.Source, fc.Subtype, fc.Logf = n.mnt, n.cfg.Device, subtype, n.cfg.Log.Warnf
	fc.ReadOnly, _ = n.v.ReadOnly()
	fc.Locks = !n.v.Local()
	if n.m, err = fuse.Mount(n.v, fc); err != nil {
		return errors.Join(err, n.unmountVolume())
	}
	served := make(chan struct{})
	go func() { n.m.Serve(); close(served) }()
	if err := n.m.Server.WaitMount(); err != nil {
		return errors.Join(err, n.m.Unmount(true), n.unmountVolume())
	}
	g, err := startGuard(n.mnt)
	if err != nil {
		n.cfg.Log.Warnf("%v: a kill -9 may leave the mount hanging until umount -f", err)
	}
	defer g.end()
	n.state.Store("mounted")
	n.cfg.Log.Infof("node %d: %s mounted at %s, slot %d, stack %s", n.v.Node(), n.cfg.Device, n.mnt, n.v.Slot(), n.v.Stack())
	if n.cfg.Ready != nil {
		n.cfg.Ready(n.note())
	}
	n.serve(ctx, served)
	n.state.Store("leaving")
	n.v.Locks().Reopen() // after force: what leaving changes is changed under locks
	return n.unmountVolume()
}

// note is what the user should know of the mount.
func (n *Node) note() string {
	if why := n.v.Why(); why != "" {
		return fmt.Sprintf("%s: %s: mounted read-only", n.cfg.Device, why)
	}
	return ""
}

// serve returns when the mount is gone.
func (n *Node) serve(ctx context.Context, served chan struct{}) {
	select {
	case <-served:
		return
	case <-ctx.Done():
	}
	n.cfg.Log.Info("asked to end: unmounting")
	if err := n.m.Unmount(false); err != nil {
		n.cfg.Log.Warnf("%v: detaching it; programs that still use it get errors", err)
		n.force()
	}
	<-served
}

// force takes the mount away under its users. Requests that wait for locks end
// with an error first: nobody would interrupt them once the connection is
// gone. run opens the locks again when the last request is over.
func (n *Node) force() {
	n.v.Locks().Close()
	if err := n.m.Unmount(true); err != nil {
		n.cfg.Log.Errorf("%v", err)
	}
}

func (n *Node) unmountVolume() error {
	ctx := context.Background()
	if n.cfg.LeaveTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, n.cfg.LeaveTimeout)
		defer cancel()
	}
	if err := n.v.Unmount(ctx); err != nil {
		return fmt.Errorf("leaving %s: %w", n.cfg.Device, err)
	}
	n.cfg.Log.Infof("left %s cleanly", n.cfg.Device)
	return nil
}
