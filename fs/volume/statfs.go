package volume

import "context"

// StatFS is what statfs(2) shows, in blocks.
type StatFS struct {
	BlockSize   int // the cluster size: the unit of allocation
	Blocks      uint64
	Free        uint64
	Files       uint64
	FilesFree   uint64
	NameMax     int
	FSID        [2]uint32
	ClusterSize int
}

// StatFS reads the counters under the global bitmap's lock, as Linux does: what
// another node wrote or freed counts. A node that the cluster gave up answers
// with what it saw last.
func (v *Volume) StatFS(ctx context.Context) (StatFS, error) {
	sp, err := v.alloc.Statfs(ctx)
	if err != nil {
		if v.trouble.Load() == nil {
			return StatFS{}, err
		}
		sp = v.alloc.Cached()
	}
	g := v.geo
	free := uint64(sp.Free)
	perCluster := uint64(1)
	if g.ClusterSize > g.BlockSize {
		perCluster = uint64(g.Bpc)
	}
	return StatFS{
		BlockSize: g.ClusterSize, Blocks: uint64(g.TotalClusters), Free: free,
		Files: uint64(g.TotalClusters) * perCluster, FilesFree: free * perCluster,
		NameMax: 255, FSID: [2]uint32{g.UUIDHash, g.FSGeneration}, ClusterSize: g.ClusterSize,
	}, nil
}
