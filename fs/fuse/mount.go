package fuse

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/ocfuse/ocfuse/fs/fuse/kcache"
	"github.com/ocfuse/ocfuse/fs/volume"
)

// Mount shows a mounted volume to the kernel. Serve must be called.
func Mount(v *volume.Volume, cfg kcache.MountConfig) (*kcache.Mount, error) {
	logf := cfg.Logf
	if logf == nil {
		logf = func(string, ...any) {}
	}
	f := &FS{RawFileSystem: fuse.NewDefaultRawFileSystem(), v: v, logf: logf}
	v.SetKernel(revoker{f})
	return kcache.New(cfg, func(e *kcache.Engine) fuse.RawFileSystem {
		f.engine = e
		return f
	})
}
