package core

import "github.com/ocfuse/ocfuse/dlm/wire"

// Tables of the lock manager, indexed by mode+1 so that IV (-1) has a row. They are data on purpose: the tests go
// through them cell by cell.

// compatTable[a+1][b+1] tells whether a lock granted in mode a lets a lock be granted in mode b. IV is compatible with
// everything. (Linux fs/dlm/lock.c __dlm_compat_matrix.)
var compatTable = [7][7]bool{
	//       IV    NL    CR    CW     PR     PW     EX
	/*IV*/ {true, true, true, true, true, true, true},
	/*NL*/ {true, true, true, true, true, true, true},
	/*CR*/ {true, true, true, true, true, true, false},
	/*CW*/ {true, true, true, true, false, false, false},
	/*PR*/ {true, true, true, false, true, false, false},
	/*PW*/ {true, true, true, false, false, false, false},
	/*EX*/ {true, true, false, false, false, false, false},
}

// lvbOp says what happens to the lock value block at a grant.
type lvbOp uint8

const (
	lvbNone  lvbOp = iota // nothing moves
	lvbRead               // the resource's LVB is returned to the lock
	lvbWrite              // the lock's LVB is written to the resource
)

// lvbTable[grmode+1][rqmode+1] is the LVB operation of a grant. (Linux fs/dlm/lock.c dlm_lvb_operations.)
var lvbTable = [7][7]lvbOp{
	//       IV       NL        CR        CW        PR        PW        EX
	/*IV*/ {lvbNone, lvbRead, lvbRead, lvbRead, lvbRead, lvbRead, lvbRead},
	/*NL*/ {lvbNone, lvbRead, lvbRead, lvbRead, lvbRead, lvbRead, lvbRead},
	/*CR*/ {lvbNone, lvbNone, lvbRead, lvbRead, lvbRead, lvbRead, lvbRead},
	/*CW*/ {lvbNone, lvbNone, lvbNone, lvbRead, lvbRead, lvbRead, lvbRead},
	/*PR*/ {lvbNone, lvbNone, lvbNone, lvbNone, lvbRead, lvbRead, lvbRead},
	/*PW*/ {lvbNone, lvbWrite, lvbWrite, lvbWrite, lvbWrite, lvbWrite, lvbRead},
	/*EX*/ {lvbNone, lvbWrite, lvbWrite, lvbWrite, lvbWrite, lvbWrite, lvbWrite},
}

// quecvtTable[grmode+1][rqmode+1] tells whether QUECVT may be given with the conversion: strict up-conversions and the
// middle ones. (Linux fs/dlm/lock.c __quecvt_compat_matrix.)
var quecvtTable = [7][7]bool{
	//       IV     NL     CR     CW     PR     PW     EX
	/*IV*/ {false, false, false, false, false, false, false},
	/*NL*/ {false, false, true, true, true, true, true},
	/*CR*/ {false, false, false, true, true, true, true},
	/*CW*/ {false, false, false, false, true, true, true},
	/*PR*/ {false, false, false, true, false, true, true},
	/*PW*/ {false, false, false, false, false, false, true},
	/*EX*/ {false, false, false, false, false, false, false},
}

// Compatible reports whether two locks on one resource may be granted in modes a and b at once. Modes outside IV..EX
// are compatible with nothing.
func Compatible(a, b wire.Mode) bool {
	if a < wire.IV || a > wire.EX || b < wire.IV || b > wire.EX {
		return false
	}
	return compatTable[a+1][b+1]
}

// middle reports a conversion between PR and CW, neither of which includes the other. (Linux middle_conversion.)
func middle(gr, rq wire.Mode) bool {
	return gr == wire.PR && rq == wire.CW || gr == wire.CW && rq == wire.PR
}

// down reports a down conversion, which a master does not answer. (Linux down_conversion.)
func down(gr, rq wire.Mode) bool { return !middle(gr, rq) && rq < gr }
