package journal

import "context"

// ReplayConfig names a log to Replay or Wipe.
type ReplayConfig struct {
	Dev       Device
	BlockSize int
	Extents   []Extent
	// VolumeBlocks is the size of the volume; an image for a block beyond it is
	// corruption. 0: only the device's own limit is checked.
	VolumeBlocks uint64
	AllocBuf     func(n int) []byte
	// Progress is told how much of the log has been handled. May be nil.
	Progress func(done, total int)
}

// ReplayResult is what a replay did.
type ReplayResult struct {
	Transactions int    // committed transactions found
	Images       int    // images in them
	Written      int    // blocks written home (newest image of each, not revoked)
	Revoked      int    // images not written because of a revoke record
	LastSequence uint32 // of the last committed transaction; meaningless if Transactions is 0
	NextSequence uint32 // s_sequence now in the log's superblock
	Errno        int32  // s_errno: an error the previous user recorded
	WasEmpty     bool   // s_start was 0
}

// Replay brings the home blocks up to date with the log and marks the log empty.
func Replay(ctx context.Context, cfg ReplayConfig) (ReplayResult, error) {
	return ReplayResult{}, errUnbuilt
}

// Wipe marks a log empty that needs no replay.
func Wipe(ctx context.Context, cfg ReplayConfig) (ReplayResult, error) {
	return ReplayResult{}, errUnbuilt
}
