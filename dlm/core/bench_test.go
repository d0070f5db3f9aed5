package core

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// discard is an Effects that only counts.
type discard struct{ sent, asts int }

func (d *discard) Send(int32, *wire.Message)          { d.sent++ }
func (d *discard) SendRcom(int32, *wire.Rcom)         { d.sent++ }
func (d *discard) Complete(*Completion)               { d.asts++ }
func (d *discard) Block(*Blocking)                    {}
func (d *discard) MemberAdded(int32)                  {}
func (d *discard) MemberRemoved(int32)                {}
func (d *discard) RecoverPrep()                       {}
func (d *discard) RecoverSlot(Slot)                   {}
func (d *discard) RecoverDone([]Slot, uint16, uint32) {}
func (d *discard) RecoverFailed(error)                {}

func lone(tb testing.TB, lvbLen int) (*Core, *discard) {
	d := &discard{}
	c, err := New(Config{NodeID: 1, Name: "bench", LVBLen: lvbLen}, d)
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.Start(members(1), nil); err != nil {
		tb.Fatal(err)
	}
	return c, d
}

// BenchmarkLockUnlock is a new lock on an inactive resource and its unlock, all local.
func BenchmarkLockUnlock(b *testing.B) {
	c, d := lone(b, 64)
	req := &LockReq{Name: []byte("M000000000000000000000500000000"), Mode: wire.EX, Flags: vb}
	b.ReportAllocs()
	for b.Loop() {
		id, err := c.Lock(req)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Unlock(id, 0, nil); err != nil {
			b.Fatal(err)
		}
	}
	if d.sent != 0 {
		b.Fatal("messages were sent")
	}
}

// BenchmarkConvert is EX -> NL -> EX of a local lock.
func BenchmarkConvert(b *testing.B) {
	c, _ := lone(b, 64)
	id, err := c.Lock(&LockReq{Name: []byte("r"), Mode: wire.EX, Flags: vb})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if c.Convert(id, wire.NL, vb, nil) != nil || c.Convert(id, wire.EX, vb, nil) != nil {
			b.Fatal("convert failed")
		}
	}
}

// BenchmarkRemoteMaster is what a master does for a remote owner: REQUEST and UNLOCK with their replies.
func BenchmarkRemoteMaster(b *testing.B) {
	c, _ := lone(b, 64)
	c.members = append(c.members, member{id: 2})
	name := []byte("M000000000000000000000500000000")
	hdr := wire.Header{Union: c.cfg.GlobalID, NodeID: 2}
	req := wire.Message{Header: hdr, Type: wire.MsgRequest, LkID: 5, ExFlags: vb, RqMode: wire.EX, Asts: 3, Extra: name}
	unl := wire.Message{Header: hdr, Type: wire.MsgUnlock, LkID: 5, ExFlags: vb}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Receive(2, &req); err != nil {
			b.Fatal(err)
		}
		unl.RemID = c.msg.LkID
		if err := c.Receive(2, &unl); err != nil {
			b.Fatal(err)
		}
	}
}

// The steady state allocates nothing.
func TestNoAllocations(t *testing.T) {
	c, _ := lone(t, 64)
	req := &LockReq{Name: []byte("r"), Mode: wire.EX, Flags: vb}
	lvb := make([]byte, 64)
	n := testing.AllocsPerRun(1000, func() {
		id, err := c.Lock(req)
		if err != nil || c.Convert(id, wire.NL, vb, lvb) != nil || c.Unlock(id, 0, nil) != nil {
			t.Fatal("failed")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per lock, convert, unlock", n)
	}
}

// An idle granted lock, its resource, name and both LVB buffers included, costs less than 600 bytes.
func TestMemoryPerLock(t *testing.T) {
	c, _ := lone(t, 64)
	const n = 100000
	var a, b runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&a)
	for i := 0; i < n; i++ {
		name := fmt.Appendf(nil, "M%030d", i)
		id, err := c.Lock(&LockReq{Name: name, Mode: wire.EX, Flags: vb})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Convert(id, wire.PR, vb, name); err != nil { // the resource has an LVB now
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&b)
	per := (b.HeapAlloc - a.HeapAlloc) / n
	t.Logf("%d bytes per idle granted lock with LVB", per)
	if per > 600 {
		t.Errorf("%d bytes per lock, want at most 600", per)
	}
	runtime.KeepAlive(c)
}
