package fakestack_test

import (
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/stackglue"
	"github.com/ocfuse/ocfuse/stackglue/fakestack"
	"github.com/ocfuse/ocfuse/stackglue/stacktest"
)

func TestConformance(t *testing.T) {
	for name, o := range map[string]fakestack.Options{
		"plain":   {},
		"sync":    {Sync: true},
		"delayed": {Seed: 7, CallDelay: 300 * time.Microsecond, CallbackDelay: 300 * time.Microsecond},
	} {
		t.Run(name, func(t *testing.T) {
			stacktest.Run(t, func(t *testing.T, recs []stackglue.RecoveryHandler) []stacktest.Node {
				c := fakestack.New(o)
				var nodes []stacktest.Node
				for i, r := range recs {
					n, err := c.Connect(uint32(i+1), r)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(n.Abort)
					nodes = append(nodes, stacktest.Node{Conn: n, Crash: func() { c.Kill(uint32(i + 1)) }})
				}
				return nodes
			})
		})
	}
}
