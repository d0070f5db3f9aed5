package dlm_test

import (
	"context"
	"fmt"

	"github.com/ocfuse/ocfuse/dlm"
)

// One node alone: it is its own master and directory, and needs no network.
func Example() {
	node := dlm.NewNode(1)
	ls, err := node.Create(dlm.Config{Name: "testls", LVBLen: 64})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := ls.Start([]dlm.Member{{NodeID: 1, Weight: 1}}, nil); err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	a, _, err := ls.LockWait(ctx, dlm.Request{Name: []byte("res"), Mode: dlm.EX, Flags: dlm.ValBlk})
	fmt.Println("EX:", err)
	_, err = a.ConvertWait(ctx, dlm.PR, dlm.ValBlk, []byte("hello"))
	fmt.Println("PR:", err)
	b, st, err := ls.LockWait(ctx, dlm.Request{Name: []byte("res"), Mode: dlm.PR, Flags: dlm.ValBlk})
	fmt.Printf("second PR: %v, value %q\n", err, st.LVB[:5])
	_, _, err = ls.LockWait(ctx, dlm.Request{Name: []byte("res"), Mode: dlm.EX, Flags: dlm.NoQueue})
	fmt.Println("second EX:", err)
	fmt.Println("unlock:", a.UnlockWait(ctx, 0, nil), b.UnlockWait(ctx, 0, nil))
	fmt.Println("release:", ls.Release(false))
	// Output:
	// EX: <nil>
	// PR: <nil>
	// second PR: <nil>, value "hello"
	// second EX: dlm: EAGAIN
	// unlock: <nil> <nil>
	// release: <nil>
}
