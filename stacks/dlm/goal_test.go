package dlm

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/ocfuse/ocfuse/stackglue"
)

// quietOwner is a lock owner that wants to know nothing.
type quietOwner struct{ done chan struct{} }

func (o *quietOwner) LockAST(*stackglue.Lksb)                           { o.done <- struct{}{} }
func (o *quietOwner) BlockingAST(*stackglue.Lksb, stackglue.Mode)       {}
func (o *quietOwner) UnlockAST(*stackglue.Lksb, stackglue.Flags, error) { o.done <- struct{}{} }

// TestMemoryPerLock: an idle granted lock, with everything the stack keeps for it and
// the status block that its owner has, costs less than 1 KiB.
func TestMemoryPerLock(t *testing.T) {
	g := newGroup(t, 1)
	g.opts["membership"] = "manual"
	c := g.connect(1, newRecorder())
	o := &quietOwner{make(chan struct{}, 1)}
	const n = 50000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	locks := make([]*stackglue.Lksb, n)
	for i := range locks {
		l := &stackglue.Lksb{Owner: o}
		l.SetName(fmt.Appendf(nil, "M%030d", i))
		for _, step := range []struct {
			mode stackglue.Mode
			flag stackglue.Flags
		}{{stackglue.EX, 0}, {stackglue.PR, stackglue.FlagConvert}} { // the resource has a value block now
			if err := c.Lock(l, step.mode, step.flag|stackglue.FlagValBlk); err != nil {
				t.Fatal(err)
			}
			<-o.done
			if l.Status != nil {
				t.Fatal(l.Status)
			}
		}
		locks[i] = l
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := (after.HeapAlloc - before.HeapAlloc) / n
	t.Logf("%d bytes per idle granted lock", per)
	if per >= 1024 {
		t.Errorf("%d bytes per idle granted lock, want less than 1024", per)
	}
	for _, l := range locks {
		if err := c.Unlock(l, 0); err != nil {
			t.Fatal(err)
		}
		<-o.done
	}
}
