package midcomms

// State is the state of the association with a peer (Linux enum of DLM_CLOSED .. DLM_CLOSE_WAIT). The transitions
// are drawn in the package comment.
type State uint8

// States.
const (
	Closed      State = iota // nothing agreed; also the initial state
	Established              // normal work
	FinWait1                 // our FIN is on its way
	FinWait2                 // our FIN is acknowledged, the peer's has not come
	CloseWait                // the peer's FIN came first; we still may send
	LastAck                  // the peer's FIN came, ours is on its way
	Closing                  // both FINs crossed, ours is not acknowledged
)

var stateNames = [...]string{"CLOSED", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE_WAIT", "LAST_ACK", "CLOSING"}

// String returns the kernel's name of the state.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "STATE(?)"
}

// closing reports whether a FIN was sent or received and the association is not reset yet.
func (s State) closing() bool { return s > Established }
