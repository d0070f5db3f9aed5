package clusterconf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/ocfuse/ocfuse/stackglue"
)

// Where o2cb's tools keep the files on Debian.
const (
	DefaultConfig   = "/etc/ocfs2/cluster.conf"
	DefaultTimeouts = "/etc/default/o2cb"
)

// maxSize bounds a configuration file: 255 nodes need about 40 KiB.
const maxSize = 1 << 20

// Options say what to load; empty fields have the Debian defaults.
type Options struct {
	Config   string // cluster.conf
	Timeouts string // /etc/default/o2cb; it need not exist
	Cluster  string // name of the cluster, "" for the only one
}

// Load reads both files. A missing timeouts file is no error: the kernel's
// defaults hold.
func Load(o Options) (*stackglue.Cluster, []Note, error) {
	if o.Config == "" {
		o.Config = DefaultConfig
	}
	if o.Timeouts == "" {
		o.Timeouts = DefaultTimeouts
	}
	data, err := read(o.Config)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the node list (give another file with --config): %w", err)
	}
	f, err := Parse(o.Config, data)
	if err != nil {
		return nil, nil, err
	}
	c, err := f.Cluster(o.Cluster)
	if err != nil {
		return nil, nil, err
	}
	data, err = read(o.Timeouts)
	if errors.Is(err, fs.ErrNotExist) {
		return c, f.Notes, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the cluster timeouts: %w", err)
	}
	notes, err := ParseTimeouts(o.Timeouts, data, c)
	return c, append(f.Notes, notes...), err
}

func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err == nil && len(data) > maxSize {
		err = &Error{name, 0, 0, fmt.Sprintf("longer than %d bytes: this is no cluster.conf", maxSize)}
	}
	return data, err
}
