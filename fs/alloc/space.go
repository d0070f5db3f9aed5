package alloc

import (
	"context"
	"fmt"
)

// Cached is the volume's space as last seen, without any lock; zero before the
// first look.
func (a *Allocator) Cached() Space { return a.bitmap.space() }

// Statfs reads the volume's space under the global bitmap's lock at PR.
func (a *Allocator) Statfs(ctx context.Context) (Space, error) {
	c := &a.bitmap
	if err := c.ino.RLock(ctx); err != nil {
		return Space{}, fmt.Errorf("%s: %w", c.what, err)
	}
	defer c.ino.RUnlock()
	di, err := c.dinode()
	if err != nil {
		return Space{}, err
	}
	defer di.Put()
	c.note(di)
	return c.space(), nil
}

// Shut gives back the window and flushes the truncate log, at unmount; nothing
// may be reserved any more. If it fails the slot stays dirty and is recovered.
func (a *Allocator) Shut(ctx context.Context) error {
	if err := a.trunc.Flush(ctx); err != nil {
		return err
	}
	la, err := a.local.lock(ctx)
	if err != nil {
		return err
	}
	defer a.local.unlock(la)
	if _, total, _, _ := window(la); total == 0 {
		return nil
	}
	gb, err := a.bitmap.lock(ctx)
	if err != nil {
		return err
	}
	defer a.bitmap.unlock(gb)
	a.local.def, a.local.size = 0, 0 // no window any more
	return a.closeWindow(ctx, la, gb)
}
