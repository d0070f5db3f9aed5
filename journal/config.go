package journal

import (
	"time"
)

// Device is where the log and the home locations live. Offsets are bytes and
// multiples of the block size. fs/blockdev.Device satisfies it.
type Device interface {
	// ReadAt fills p from offset off or fails.
	ReadAt(p []byte, off int64) (int, error)
	// WriteAt writes p at off. It is durable after a Flush that began later.
	WriteAt(p []byte, off int64) (int, error)
	// WriteFUA is WriteAt that returns when p is durable. It orders nothing else.
	WriteFUA(p []byte, off int64) error
	// Flush makes all writes durable that had returned before it was called.
	Flush() error
}

// Extent maps a run of the log: log blocks Log..Log+Len-1 are the device blocks
// Blkno..Blkno+Len-1. A log's extents are sorted by Log, begin at 0 and have no
// holes (they are the extent list of the journal inode).
type Extent struct {
	Log   uint32
	Blkno uint64
	Len   uint32
}

// Config describes a journal to Open. Dev, BlockSize and Extents are required.
type Config struct {
	Dev       Device
	BlockSize int      // bytes, 512..4096; must equal the log's
	Extents   []Extent // where the log is
	// VolumeUUID is the uuid of the volume. mkfs writes it into s_uuid; a log with
	// another one is accepted, because tunefs.ocfs2 -U does not rewrite the journals,
	// but Stats says so. Zero: unknown.
	VolumeUUID [16]byte
	// CommitInterval is the longest time a change waits for its commit; 0 means 5 s.
	CommitInterval time.Duration
	// AllocBuf returns n bytes of memory, zero or not, fit for direct I/O. Nil: make.
	AllocBuf func(n int) []byte
	// Finish completes a frozen image of block blkno before it is written to the
	// log (and later home): it computes the block check. It runs on the commit
	// goroutine, on the copy, never on live data. May be nil.
	Finish func(blkno uint64, image []byte)
	// OnAbort is called once, with the reason, when the journal gives up. It runs on
	// the goroutine that noticed and must not wait for the journal. May be nil.
	OnAbort func(err error)
	// OnEvent observes commits, checkpoints and waits. It is called without locks
	// held, from several goroutines, and must be quick. May be nil.
	OnEvent func(Event)
	// HomeWriters is how many home writes of a checkpoint are in flight at once; 0 means 8.
	HomeWriters int
	// Now is the clock for commit times and events. Nil: time.Now.
	Now func() time.Time
}

// DefaultCommitInterval is the commit interval of JBD2 and of ocfs2's commit= option.
const DefaultCommitInterval = 5 * time.Second

// Orderer is something with file data that must be on disk before a transaction
// commits (data=ordered).
type Orderer interface {
	// FlushOrdered writes all data that transaction tid makes visible. When it
	// returns, the writes have returned; the commit's own flush makes them durable,
	// so it needs none (if the data is on the journal's device). An error aborts the
	// journal: committing would show stale blocks.
	FlushOrdered(tid uint64) error
}

// EventKind says what an Event reports.
type EventKind uint8

const (
	// EventCommit: a transaction became durable.
	EventCommit EventKind = iota + 1
	// EventCheckpoint: images were written home and the log tail was moved.
	EventCheckpoint
	// EventWait: a Start waited for the transaction to change or for log space.
	EventWait
	// EventAbort: the journal gave up.
	EventAbort
)

// String names the kind.
func (k EventKind) String() string {
	switch k {
	case EventCommit:
		return "commit"
	case EventCheckpoint:
		return "checkpoint"
	case EventWait:
		return "wait"
	case EventAbort:
		return "abort"
	}
	return "unknown"
}

// Event is one thing the journal did, for traces and statistics.
type Event struct {
	Kind   EventKind
	Tid    uint64        // commit: the transaction; checkpoint: the newest one written home
	Blocks int           // images committed or written home
	Writes int           // device writes it took (log blocks or home), without flushes and FUA writes
	Took   time.Duration // commit: from lock to durable; wait: time waited
	Err    error         // abort: the reason
}

// Stats are counters since Open and a picture of the log. Blocks are log blocks.
type Stats struct {
	Handles        uint64 `json:"handles"`
	StartWaits     uint64 `json:"start_waits"` // Starts that had to wait
	Commits        uint64 `json:"commits"`
	CommitBlocks   uint64 `json:"commit_blocks"` // images committed
	Checkpoints    uint64 `json:"checkpoints"`
	HomeBlocks     uint64 `json:"home_blocks"` // images written home
	HomeWrites     uint64 `json:"home_writes"` // device writes they took
	FullFlushes    uint64 `json:"full_flushes"`
	FullFlushFree  uint64 `json:"full_flush_free"` // full flushes that found nothing to do
	Flushes        uint64 `json:"flushes"`         // device flushes
	FUAs           uint64 `json:"fua_writes"`
	SuperWrites    uint64 `json:"super_writes"` // journal superblock written
	RunningTid     uint64 `json:"running_tid"`
	DurableTid     uint64 `json:"durable_tid"`
	TailTid        uint64 `json:"tail_tid"` // oldest transaction a replay could see
	LogBlocks      int    `json:"log_blocks"`
	LogUsed        int    `json:"log_used"`
	RetainedBytes  int64  `json:"retained_bytes"` // memory of images not yet home
	ForeignUUID    bool   `json:"foreign_uuid"`   // s_uuid is not Config.VolumeUUID
	RecordedErrno  int32  `json:"recorded_errno"` // s_errno found at Open (an aborted kernel journal)
	RunningBlocks  int    `json:"running_blocks"`
	RunningHandles int    `json:"running_handles"`
}
