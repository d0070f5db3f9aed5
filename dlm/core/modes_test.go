package core

import (
	"testing"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

var allModes = []wire.Mode{wire.NL, wire.CR, wire.CW, wire.PR, wire.PW, wire.EX}

// The compatibility matrix as every description of the VMS lock manager prints it; Linux __dlm_compat_matrix. The
// grants are made by a core, so that the table and its use are both tested.
var compatRows = map[wire.Mode]string{
	wire.NL: "yyyyyy",
	wire.CR: "yyyyyn",
	wire.CW: "yyynnn",
	wire.PR: "yynynn",
	wire.PW: "yynnnn",
	wire.EX: "ynnnnn",
}

func TestCompatibilityOfEachCell(t *testing.T) {
	for gr, row := range compatRows {
		for i, rq := range allModes {
			n := newCluster(t, 1).nodes[1]
			a := n.lock("r", gr, 0)
			n.want(a, "AST 0 "+gr.String())
			b := n.lock("r", rq, wire.LKFNoQueue)
			want := "AST EAGAIN IV"
			if row[i] == 'y' {
				want = "AST 0 " + rq.String()
			}
			n.want(b, want)
			if Compatible(gr, rq) != (row[i] == 'y') || Compatible(rq, gr) != (row[i] == 'y') {
				t.Errorf("Compatible(%v, %v) is wrong or not symmetric", gr, rq)
			}
		}
	}
	for _, m := range allModes {
		if !Compatible(wire.IV, m) || !Compatible(m, wire.IV) {
			t.Errorf("IV and %v must be compatible", m)
		}
	}
	if Compatible(6, wire.NL) || Compatible(wire.NL, -2) {
		t.Error("modes outside the table are compatible with nothing")
	}
}

// Linux dlm_lvb_operations: R the resource's LVB is returned, W the lock's is written, - neither.
var lvbRows = map[wire.Mode]string{
	wire.IV: "RRRRRR",
	wire.NL: "RRRRRR",
	wire.CR: "-RRRRR",
	wire.CW: "--RRRR",
	wire.PR: "---RRR",
	wire.PW: "WWWWWR",
	wire.EX: "WWWWWW",
}

func TestLVBOfEachCell(t *testing.T) {
	for _, remote := range []bool{false, true} {
		for gr, row := range lvbRows {
			for i, rq := range allModes {
				testLVBCell(t, remote, gr, rq, row[i])
			}
		}
	}
}

// testLVBCell: the resource holds "old"; a lock goes from gr to rq offering "new".
func testLVBCell(t *testing.T, remote bool, gr, rq wire.Mode, op byte) {
	t.Helper()
	cl := newCluster(t, 1, 2)
	name := cl.nameFor(1, "r")
	n := cl.nodes[1]
	keeper := n.lock(name, wire.NL, wire.LKFValBlk)
	n.convert(keeper, wire.EX, wire.LKFValBlk, "")
	n.convert(keeper, wire.NL, wire.LKFValBlk, "old")
	u := n
	if remote {
		u = cl.nodes[2]
	}
	var id LockID
	if gr == wire.IV {
		id = u.lock(name, rq, wire.LKFValBlk)
	} else {
		id = u.lock(name, gr, 0) // no VALBLK: the LVB is not read
		u.convert(id, rq, wire.LKFValBlk, "new")
	}
	atRes := string(trim(n.c.table.find([]byte(name), wire.ResourceHash([]byte(name))).lvb))
	mine := u.lvb(id)
	want := map[byte][2]string{'R': {"old", "old"}, 'W': {"new", "new"}, '-': {"old", ""}}[op]
	if atRes != want[0] || mine != want[1] {
		t.Errorf("remote %v %v->%v (%c): resource %q, lock %q, want %q %q", remote, gr, rq, op, atRes, mine, want[0], want[1])
	}
}

func trim(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// Linux __quecvt_compat_matrix, middle_conversion, down_conversion.
func TestConversionKinds(t *testing.T) {
	for _, gr := range allModes {
		for _, rq := range allModes {
			isMiddle := gr == wire.PR && rq == wire.CW || gr == wire.CW && rq == wire.PR
			if middle(gr, rq) != isMiddle {
				t.Errorf("middle(%v, %v)", gr, rq)
			}
			if down(gr, rq) != (rq < gr && !isMiddle) {
				t.Errorf("down(%v, %v)", gr, rq)
			}
			if quecvtTable[gr+1][rq+1] != (rq > gr || isMiddle) {
				t.Errorf("QUECVT %v->%v", gr, rq)
			}
		}
	}
}
