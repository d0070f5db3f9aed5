package dlm

import (
	"fmt"
	"sync/atomic"

	"github.com/ocfuse/ocfuse/stackglue"
)

// openGate lets everything through until it is closed: under manual membership
// there is no lease, fencing is the operator's business.
type openGate struct{ reason atomic.Pointer[error] }

// Enter implements stackglue.Gate.
func (g *openGate) Enter() error {
	if e := g.reason.Load(); e != nil {
		return *e
	}
	return nil
}

// Leave implements stackglue.Gate.
func (g *openGate) Leave() {}

// Close refuses everything from now on.
func (g *openGate) Close(reason error) {
	reason = fmt.Errorf("%w: %w", stackglue.ErrFenced, reason)
	g.reason.CompareAndSwap(nil, &reason)
}
