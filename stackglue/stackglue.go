package stackglue

import (
	"context"
	"errors"
	"fmt"
)

// LVBLen is the length in bytes of a lock value block of the filesystem's
// groups (DLM_LVB_LEN in fs/ocfs2/stackglue.h; the "user" stack creates its
// lockspaces with the same length).
const LVBLen = 64

// MaxNameLen is the longest lock name any stack carries (DLM_RESNAME_MAXLEN).
const MaxNameLen = 64

// Mode is a lock mode with the numbers of include/uapi/linux/dlmconstants.h.
type Mode int8

// The modes. The filesystem asks for NL, PR and EX only.
const (
	IV Mode = -1 // no lock exists
	NL Mode = 0
	CR Mode = 1
	CW Mode = 2
	PR Mode = 3
	PW Mode = 4
	EX Mode = 5
)

var modeNames = [...]string{"IV", "NL", "CR", "CW", "PR", "PW", "EX"}

// String returns the two-letter name of the mode.
func (m Mode) String() string {
	if m < IV || m > EX {
		return fmt.Sprintf("Mode(%d)", int8(m))
	}
	return modeNames[m+1]
}

// Flags modify a Lock or Unlock call. The numbers are those of
// dlmconstants.h so that a trace reads the same on both sides.
type Flags uint32

// The flags that the filesystem uses.
const (
	FlagNoQueue Flags = 0x00000001 // refuse instead of waiting
	FlagCancel  Flags = 0x00000002 // with Unlock: cancel what is in flight
	FlagConvert Flags = 0x00000004 // change the mode of a lock that exists
	FlagValBlk  Flags = 0x00000008 // read (going up) or write (from EX) the LVB
	// FlagLocal says that the name has never been used in the cluster, so
	// that the stack may master it here without asking (o2cb only; others
	// ignore it). DLM_LKF_LOCAL in fs/ocfs2/stackglue.h.
	FlagLocal Flags = 0x00100000
)

// Errors that stacks report, as completion status or from a call.
var (
	// ErrAgain: a NoQueue request found the lock taken (-EAGAIN).
	ErrAgain = errors.New("lock is held by another node")
	// ErrCanceled: the request was cancelled before it was granted (-DLM_ECANCEL).
	ErrCanceled = errors.New("lock request cancelled")
	// ErrBusy: a call is in flight for this lock already (-EBUSY).
	ErrBusy = errors.New("a call for this lock is in flight")
	// ErrInvalid: the call does not fit the lock's state (-EINVAL).
	ErrInvalid = errors.New("lock call does not fit the state of the lock")
	// ErrShutdown: the connection is closed or has been aborted.
	ErrShutdown = errors.New("cluster connection is closed")
	// ErrFenced: this node was given up by the others or lost its lease; it
	// must not write again under this connection.
	ErrFenced = errors.New("this node has been fenced")
	// ErrUnsupported: the stack does not offer this; wrapped with its name.
	ErrUnsupported = errors.New("not supported by this cluster stack")
)

// Version is a locking protocol version (struct ocfs2_protocol_version).
type Version struct{ Major, Minor uint8 }

// String returns "major.minor".
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Negotiate applies the rule of fs/ocfs2/stackglue.c: equal majors, and a
// joiner with a higher minor lowers itself to the running one.
func (v Version) Negotiate(running Version) (Version, error) {
	if v.Major != running.Major || v.Minor < running.Minor {
		return Version{}, fmt.Errorf("locking protocol %v of this node does not fit %v, which the cluster runs", v, running)
	}
	return running, nil
}

// Lock callbacks, implemented by the owner of a Lksb (a lock resource of
// fs/locking). They must not block and must not call back into the
// connection for the same Lksb (defer that to another goroutine).
type LockOwner interface {
	// LockAST ends a Lock call; lksb.Status is nil when granted.
	LockAST(lksb *Lksb)
	// BlockingAST says that another node waits for a mode that the held one
	// is not compatible with.
	BlockingAST(lksb *Lksb, blocked Mode)
	// UnlockAST ends an Unlock (err nil: the lock is gone) or a cancel (err
	// nil: there was nothing left to cancel or the cancel succeeded, in
	// which case LockAST with ErrCanceled has run or will run).
	UnlockAST(lksb *Lksb, flags Flags, err error)
}

// Lksb is a lock status block: one lock of this node on one resource. The
// owner embeds it and fills Name and Owner once; the stack keeps its own
// state in Handle. It may not be copied once used.
type Lksb struct {
	// Name of the resource: bytes, not a C string (dentry locks are binary).
	Name    [MaxNameLen]byte
	NameLen uint8
	Owner   LockOwner

	// Status of the last completed Lock. Written by the stack before LockAST.
	Status error
	// LVB as of the last completed call with FlagValBlk; set it before a
	// convert from EX with FlagValBlk to publish it.
	LVB [LVBLen]byte
	// LVBValid is false when the content of the value block is not known to
	// be the last one written (its writer died: DLM_SBF_VALNOTVALID).
	LVBValid bool

	// Handle belongs to the stack.
	Handle any
	// ID is the stack's number for this lock in dumps and traces (lkid).
	ID uint64
}

// SetName copies name into the block. Names longer than MaxNameLen are a
// programming error.
func (l *Lksb) SetName(name []byte) {
	if len(name) == 0 || len(name) > MaxNameLen {
		panic(fmt.Sprintf("stackglue: lock name of %d bytes", len(name))) // invariant: names are built by fs/ondisk
	}
	l.NameLen = uint8(copy(l.Name[:], name))
}

// NameBytes returns the name; the slice aliases the block.
func (l *Lksb) NameBytes() []byte { return l.Name[:l.NameLen] }

// RecoveryHandler is told of node deaths
// (ocfs2_cluster_connection.cc_recovery_handler).
type RecoveryHandler interface {
	// NodeDown runs before any lock of the dead node is granted here. It
	// must return at once. It may be called more than once for one death.
	NodeDown(node uint32)
	// Evicted says that this node itself was given up (lease lost, view
	// without it, quorum lost). Nothing may be written any more; reason is
	// for the log and status.
	Evicted(reason error)
}

// BlockRegion is a run of fixed-size blocks that all nodes can read and
// write in place, one block a node number: the volume's heartbeat file.
// Implementations bypass every cache and the write gate (a node's own
// heartbeat is what opens the gate).
type BlockRegion interface {
	BlockSize() int
	Blocks() int
	// ReadBlocks fills p with whole blocks starting at block first.
	ReadBlocks(first int, p []byte) error
	// WriteBlock writes one block durably.
	WriteBlock(n int, p []byte) error
}

// Config says how to connect. Fields a stack does not need are ignored.
type Config struct {
	// Group is the name of the lock domain or lockspace: the volume's uuid
	// as 32 upper-case hex digits.
	Group string
	// ClusterName as labelled on the volume, "" if none.
	ClusterName string
	// Node is this node's number in the cluster's configuration.
	Node uint32
	// Cluster lists the configured nodes; nil for stacks without one.
	Cluster *Cluster
	// Protocol is the highest locking protocol this filesystem speaks.
	Protocol Version
	Recovery RecoveryHandler
	// Heartbeat is the heartbeat region of the volume; nil if it has none.
	Heartbeat BlockRegion
	// Options carries stack options of the command line, such as
	// "membership": "manual", "members": "1 2".
	Options map[string]string
	// Logf receives what an operator should read; never nil after Connect
	// has filled in a default.
	Logf func(format string, args ...any)
	// LocalKey names the volume on this host (device identity) for
	// same-host proofs of death and double-mount refusal.
	LocalKey string
}

// Cluster is what cluster.conf says.
type Cluster struct {
	Name  string
	Nodes []ClusterNode
	// Timeouts in the kernel's units.
	DeadThreshold   int // heartbeat periods of 2 s until a node counts as dead
	IdleTimeoutMS   int
	KeepaliveMS     int
	ReconnectMS     int
	GlobalHeartbeat bool
}

// ClusterNode is one node of cluster.conf.
type ClusterNode struct {
	Number uint32
	Name   string
	Addr   string // ip_address
	Port   int    // ip_port
}

// Node returns the configured node with that number.
func (c *Cluster) Node(n uint32) (ClusterNode, bool) {
	if c != nil {
		for _, cn := range c.Nodes {
			if cn.Number == n {
				return cn, true
			}
		}
	}
	return ClusterNode{}, false
}

// Gate is asked before and after every write to the shared device; it
// refuses with ErrFenced once this node may have been given up.
type Gate interface {
	Enter() error
	Leave()
}

// Conn is a connection to one group of one stack.
type Conn interface {
	// Version is the negotiated locking protocol.
	Version() Version
	// ThisNode is the cluster's number of this node.
	ThisNode() uint32
	// Lock requests (or with FlagConvert converts to) a mode.
	Lock(l *Lksb, mode Mode, flags Flags) error
	// Unlock drops the lock, or with FlagCancel cancels the call in flight.
	Unlock(l *Lksb, flags Flags) error
	// Gate guards device writes; nil if the stack needs none.
	Gate() Gate
	// Status describes membership and traffic for `ocfuse status`.
	Status() Status
	// Dump calls fn for every lock resource this node knows.
	Dump(fn func(LockDump))
	// Disconnect leaves the group; see the package comment.
	Disconnect(ctx context.Context) error
	// Abort leaves at once without telling anybody that all is well: used
	// when the mount failed or was fenced; survivors recover this node.
	Abort()
}

// Admin is implemented by connections whose membership an operator can set
// (`ocfuse members MNT set LIST [--dead LIST]`).
type Admin interface {
	SetMembers(ctx context.Context, members, dead []uint32) error
}

// Counters are monotonically increasing traffic figures by message kind.
type Counters map[string]uint64

// Member is one node as the stack sees it.
type Member struct {
	Node  uint32 `json:"node"`
	Name  string `json:"name,omitempty"`
	Addr  string `json:"addr,omitempty"`
	State string `json:"state"` // "self", "member", "joining", "dead", "left", ...
}

// Status is a snapshot for operators.
type Status struct {
	Stack      string   `json:"stack"`
	Node       uint32   `json:"node"`
	Protocol   string   `json:"protocol"`
	Membership string   `json:"membership"` // "none", "disk", "manual"
	View       uint64   `json:"view"`
	Members    []Member `json:"members"`
	Recovering string   `json:"recovering,omitempty"` // what recovery waits for
	Fencing    string   `json:"fencing"`              // how a death is proved
	// MessagesSent counts lock requests and replies; the same by kind, and
	// what is counted apart, in Messages.
	MessagesSent uint64   `json:"messages_sent"`
	Messages     Counters `json:"messages"`
	Notes        []string `json:"notes,omitempty"`
}

// LockDump describes one lock resource for `ocfuse locks`.
type LockDump struct {
	Name    []byte    `json:"-"`
	Master  uint32    `json:"master"`
	LVB     []byte    `json:"-"`
	LVBSeq  uint32    `json:"lvb_seq"`
	Locks   []LockRow `json:"locks"`
	Details string    `json:"details,omitempty"`
}

// LockRow is one lock on a resource.
type LockRow struct {
	Node  uint32 `json:"node"`
	ID    uint64 `json:"id"`
	Queue string `json:"queue"` // "granted", "convert", "waiting"
	Mode  Mode   `json:"mode"`
	Want  Mode   `json:"want"`
}
