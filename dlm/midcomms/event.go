package midcomms

import (
	"fmt"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// EventKind says what an Event reports.
type EventKind uint8

// Events, by Level: debug first, then info, then warnings.
const (
	EvDuplicate   EventKind = iota // debug: Seq below Want was dropped
	EvGap                          // debug: Seq above Want was dropped; it will come again after a reconnect
	EvResend                       // debug: Seq unacknowledged messages are written again
	EvClosed                       // debug: message of command Cmd dropped, there is no association
	EvVersion                      // info: the peer's version Seq was detected
	EvReset                        // info: all state of the association forgotten
	EvVersion31                    // warning: the peer speaks 3.1, which has no reliable layer
	EvBadVersion                   // warning: message of version Seq dropped, Want was agreed (0: none)
	EvStuckReset                   // warning: status traffic or member add in a closing state; reset
	EvUnexpected                   // warning: message of command Cmd dropped, not allowed here
	EvMalformed                    // warning: message dropped, see Err
	EvBadNodeID                    // warning: message dropped, h_nodeid Seq is not the peer's
	EvAckUnsent                    // warning: ACK of Seq, but only Want was sent: the peer kept numbers of an earlier life
	EvFin                          // warning: FIN in a state that does not expect it
	EvAfterFin                     // warning: wrapped message after the peer's FIN, delivered
	EvUsers                        // warning: member removed that was not added
	EvTimeout                      // warning: the peer did not end the association in time; reset
	EvFinRepeated                  // debug: FIN ignored, ours is on its way
)

// Level is the severity of an event for a logger.
type Level uint8

// Levels.
const (
	Debug Level = iota
	Info
	Warn
)

// Level returns the severity of the kind.
func (k EventKind) Level() Level {
	switch k {
	case EvDuplicate, EvGap, EvResend, EvFinRepeated, EvClosed:
		return Debug
	case EvVersion, EvReset:
		return Info
	}
	return Warn
}

// Event is something worth a log line. The meaning of the numbers is given at the kind.
type Event struct {
	Kind  EventKind
	Peer  uint32
	State State
	Cmd   wire.Cmd
	Seq   uint32
	Want  uint32
	Err   error
}

// String describes the event in one line, with what to do where something can be done.
func (e Event) String() string {
	s := fmt.Sprintf("dlm node %d (%v): ", e.Peer, e.State)
	switch e.Kind {
	case EvDuplicate:
		return s + fmt.Sprintf("duplicate message #%d dropped, #%d expected", e.Seq, e.Want)
	case EvGap:
		return s + fmt.Sprintf("message #%d dropped, #%d expected", e.Seq, e.Want)
	case EvResend:
		return s + fmt.Sprintf("%d unacknowledged messages sent again", e.Seq)
	case EvVersion:
		return s + fmt.Sprintf("protocol version %#x detected", e.Seq)
	case EvReset:
		return s + "association reset"
	case EvVersion31:
		return s + "speaks DLM 3.1, messages may be lost or doubled when a connection breaks; update that node"
	case EvBadVersion:
		return s + fmt.Sprintf("message of version %#x dropped, version %#x agreed", e.Seq, e.Want)
	case EvStuckReset:
		return s + "begins anew while the association was ending; reset"
	case EvUnexpected:
		return s + fmt.Sprintf("%v message dropped, not allowed here", e.Cmd)
	case EvClosed:
		return s + fmt.Sprintf("%v message dropped, no association", e.Cmd)
	case EvMalformed:
		return s + fmt.Sprintf("malformed message dropped: %v", e.Err)
	case EvBadNodeID:
		return s + fmt.Sprintf("message of node id %d dropped; check the node ids and addresses", e.Seq)
	case EvAckUnsent:
		return s + fmt.Sprintf("acknowledges #%d, only #%d was sent: one side restarted without the other noticing; "+
			"remove and re-create the node's comms entry there", e.Seq, e.Want)
	case EvFin:
		return s + "unexpected FIN"
	case EvFinRepeated:
		return s + "FIN ignored, ours is on its way"
	case EvAfterFin:
		return s + fmt.Sprintf("message #%d after FIN", e.Seq)
	case EvUsers:
		return s + "member removed that was not added"
	case EvTimeout:
		return s + "did not end the association in time; reset"
	}
	return s + "event"
}
