package locking

import (
	"testing"

	"github.com/ocfuse/ocfuse/stackglue"
	"github.com/ocfuse/ocfuse/stackglue/fakestack"
)

func benchResources(b *testing.B, nodes int) []*Resource {
	c := fakestack.New(fakestack.Options{Sync: true})
	var rs []*Resource
	for i := range nodes {
		m := New(Config{})
		conn, err := c.Connect(uint32(i+1), m)
		if err != nil {
			b.Fatal(err)
		}
		m.Attach(conn)
		rs = append(rs, m.NewResource(Meta, Name(Meta, 1, 0), nil))
	}
	return rs
}

func lockUnlock(b *testing.B, r *Resource, level stackglue.Mode) {
	if err := r.Lock(bg, level, 0); err != nil {
		b.Fatal(err)
	}
	r.Unlock(level)
}

func BenchmarkCachedPR(b *testing.B) {
	r := benchResources(b, 1)[0]
	b.ReportAllocs()
	for b.Loop() {
		lockUnlock(b, r, pr)
	}
}

func BenchmarkCachedEX(b *testing.B) {
	r := benchResources(b, 1)[0]
	b.ReportAllocs()
	for b.Loop() {
		lockUnlock(b, r, ex)
	}
}

func BenchmarkCachedPRParallel(b *testing.B) {
	r := benchResources(b, 1)[0]
	lockUnlock(b, r, pr)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			lockUnlock(b, r, pr)
		}
	})
}

// BenchmarkPingPong is two handoffs of EX between two nodes.
func BenchmarkPingPong(b *testing.B) {
	rs := benchResources(b, 2)
	b.ReportAllocs()
	for b.Loop() {
		lockUnlock(b, rs[0], ex)
		lockUnlock(b, rs[1], ex)
	}
}
