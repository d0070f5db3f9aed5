package dlm

import (
	"context"
	"errors"
	"fmt"

	"github.com/ocfuse/ocfuse/dlm"
	"github.com/ocfuse/ocfuse/stackglue"
)

// versionLock is the resource whose value block holds the running locking
// protocol (Linux fs/ocfs2/stack_user.c, VERSION_LOCK).
const versionLock = "version_lock"

// agree negotiates the locking protocol, but not for longer than this node may go
// on: once it is out no lock is granted to it any more.
func (c *conn) agree(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-c.fenced:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := c.negotiate(ctx, c.cfg.Protocol)
	if out := c.usable(); out != nil {
		return out
	}
	if err != nil {
		return fmt.Errorf("locking protocol: %w", err)
	}
	return nil
}

// negotiate finds out which locking protocol the group runs, or sets it if this
// node is the first. The lock is kept in PR until Disconnect (Linux
// fs/ocfs2/stack_user.c, version_lock and get_protocol_version).
func (c *conn) negotiate(ctx context.Context, max stackglue.Version) error {
	for {
		lk, _, err := c.space.LockWait(ctx, dlm.Request{Name: []byte(versionLock), Mode: dlm.EX, Flags: dlm.NoQueue | dlm.ValBlk, LVB: true})
		if err == nil {
			var lvb [stackglue.LVBLen]byte
			lvb[0], lvb[1] = max.Major, max.Minor
			if _, err = lk.ConvertWait(ctx, dlm.PR, dlm.ValBlk, lvb[:]); err != nil {
				return fmt.Errorf("publishing the locking protocol: %w", err)
			}
			c.version, c.versionLk = max, lk
			return nil
		}
		if !errors.Is(err, dlm.ErrAgain) {
			return fmt.Errorf("locking %s: %w", versionLock, err)
		}
		lk, st, err := c.space.LockWait(ctx, dlm.Request{Name: []byte(versionLock), Mode: dlm.PR, Flags: dlm.ValBlk, LVB: true})
		if err != nil {
			return fmt.Errorf("locking %s: %w", versionLock, err)
		}
		if st.Invalid || len(st.LVB) < 2 || st.LVB[0] == 0 {
			// Its first holder died before it had written: begin again, maybe
			// as the first.
			if err := lk.UnlockWait(ctx, 0, nil); err != nil {
				return fmt.Errorf("unlocking %s: %w", versionLock, err)
			}
			continue
		}
		running := stackglue.Version{Major: st.LVB[0], Minor: st.LVB[1]}
		c.versionLk = lk
		c.version, err = max.Negotiate(running)
		return err
	}
}
