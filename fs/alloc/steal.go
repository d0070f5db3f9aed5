package alloc

import "sync"

// stealsBeforeRetry is how often a victim is used before the own slot is tried
// again (Linux fs/ocfs2/suballoc.c, OCFS2_MAX_TO_STEAL).
const stealsBeforeRetry = 1024

// theft remembers from which slot bits are taken while the own slot's allocator
// can neither serve nor grow.
type theft struct {
	mu   sync.Mutex
	slot uint16
	left int
}

// victim returns the slot to steal from, if stealing goes on.
func (t *theft) victim() (uint16, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left == 0 {
		return 0, false
	}
	t.left--
	return t.slot, true
}

// begin starts stealing from slot.
func (t *theft) begin(slot uint16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slot, t.left = slot, stealsBeforeRetry
}

// stop makes the own slot be tried again.
func (t *theft) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = 0
}
