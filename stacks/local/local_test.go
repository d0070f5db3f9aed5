package local_test

import (
	"context"
	"testing"

	"github.com/ocfuse/ocfuse/stackglue"
	"github.com/ocfuse/ocfuse/stackglue/stacktest"
	_ "github.com/ocfuse/ocfuse/stacks/local"
)

func TestConformance(t *testing.T) {
	stacktest.RunSingle(t, func(t *testing.T, recs []stackglue.RecoveryHandler) []stacktest.Node {
		c, err := stackglue.Connect(context.Background(), "local", stackglue.Config{
			Group: "0123456789ABCDEF0123456789ABCDEF", Node: 1, Protocol: stackglue.Version{Major: 1}, Recovery: recs[0]})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Abort)
		return []stacktest.Node{{Conn: c}}
	})
	if n := stackglue.InUse("local"); n != 0 {
		t.Errorf("%d connections of the stack are still counted", n)
	}
}
