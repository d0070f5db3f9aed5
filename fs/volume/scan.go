package volume

import (
	"math/rand/v2"
	"time"

	"github.com/ocfuse/ocfuse/fs/locking"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/stackglue"
)

// scanInterval is the period of the orphan scan (ORPHAN_SCAN_SCHEDULE_TIMEOUT);
// up to scanJitter is added so that nodes do not meet.
const (
	scanInterval = 600 * time.Second
	scanJitter   = 5 * time.Second
)

// orphanScan looks at all orphan directories once per period in the cluster,
// for inodes that nobody deleted because every node left it to another (Linux
// fs/ocfs2/journal.c, ocfs2_queue_orphan_scan). The lock's value block counts
// the scans: who finds that another node scanned meanwhile skips its turn.
func (v *Volume) orphanScan() {
	res := v.locks.NewResource(locking.OrphanScan, locking.GlobalName(locking.OrphanScan), nil)
	var seen uint32
	for {
		t := time.NewTimer(scanInterval + rand.N(scanJitter))
		select {
		case <-v.helperCtx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if err := res.Lock(v.helperCtx, stackglue.EX, 0); err != nil {
			continue // on the way out, or fenced
		}
		lvb := (*ondisk.OrphanScanLVB)(&res.LVB)
		seq := uint32(0)
		if res.LVBValid && lvb.Version() == ondisk.OrphanScanLVBVersion {
			seq = lvb.Seqno()
		}
		if seq == seen {
			v.scanOrphans()
			seq++
			lvb.SetVersion(ondisk.OrphanScanLVBVersion)
			lvb.SetSeqno(seq)
		}
		seen = seq
		res.Unlock(stackglue.EX)
	}
}

func (v *Volume) scanOrphans() {
	for slot := range v.geo.MaxSlots {
		if err := v.recoverOrphans(v.helperCtx, slot); err != nil && v.helperCtx.Err() == nil {
			v.logf("orphan scan: %v", err)
		}
	}
}
