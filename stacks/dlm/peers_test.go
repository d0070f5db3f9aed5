package dlm

import (
	"testing"

	"github.com/ocfuse/ocfuse/dlm/wire"
	"github.com/ocfuse/ocfuse/stackglue"
)

// TestTidyingCountedApart: the names of unused locks are taken out of the directory
// seconds after their last use. Such messages must not look as if a cached access had
// cost some.
func TestTidyingCountedApart(t *testing.T) {
	var n countingNet
	for i := wire.MsgRequest; i <= wire.MsgPurge; i++ {
		n.msgs[i].Add(uint64(i))
	}
	n.rcoms[1].Add(1000)
	by := stackglue.Counters{}
	want := uint64(1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 9 + 10 + 11 + 13)
	if got := n.counters(by); got != want {
		t.Errorf("%d messages in total, want %d: %v", got, want, by)
	}
	if by["msg_REMOVE"] != uint64(wire.MsgRemove) || by["msg_PURGE"] != uint64(wire.MsgPurge) {
		t.Errorf("by kind: %v", by)
	}
}
