package cluster

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ocfuse/ocfuse/cmd/ocfuse/control"
)

// bigFile is far more than what the nodes' windows of free clusters, which count
// as used, grow and shrink by.
const bigFile = 256 << 20

// free is the free space in bytes, as node k says.
func free(t *testing.T, c *Cluster, k int) int64 {
	t.Helper()
	var st unix.Statfs_t
	do(t, unix.Statfs(c.Nodes[k].Mnt, &st))
	return int64(st.Bfree) * st.Bsize
}

// putBig makes a file of bigFile bytes on node k, and returns what it begins with.
func putBig(t *testing.T, c *Cluster, k int, name string) []byte {
	t.Helper()
	data := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
	f, err := os.Create(c.path(k, name))
	do(t, err)
	do(t, unix.Fallocate(int(f.Fd()), 0, 0, bigFile))
	_, err = f.Write(data)
	do(t, err)
	do(t, f.Sync())
	do(t, f.Close())
	return data
}

// back expects the space of a big file to be free again within a second, seen
// from every node that runs.
func back(t *testing.T, c *Cluster, what string, before int64) {
	t.Helper()
	for k, n := range c.Nodes {
		if n.proc == nil {
			continue
		}
		within(t, time.Second, fmt.Sprintf("%s: the space is back, seen from node %d", what, n.N), func() error {
			if got := free(t, c, k); got < before-bigFile/2 {
				return fmt.Errorf("%d MiB are missing", (before-got)>>20)
			}
			return nil
		})
	}
}

// TestSpace: what no name leads to and nobody has open takes no space, whoever
// removed it, and whoever had it in memory.
func TestSpace(t *testing.T) {
	onEach(t, 3, func(t *testing.T, c *Cluster) {
		for k := range c.Nodes { // each takes its window of clusters
			put(t, c.path(k, fmt.Sprint("window", k)), string(make([]byte, 100000)))
		}
		before := free(t, c, 0)
		statted(t, c, before)
		pairs(c, func(a, b int) { openElsewhere(t, c, a, b, before) })
		overwritten(t, c, before)
		cachedEverywhere(t, c, before)
		killedUser(t, c, before)
	})
}

// statted: another node looked at the file, which must not keep it.
func statted(t *testing.T, c *Cluster, before int64) {
	putBig(t, c, 0, "statted")
	for k := range c.Nodes {
		_, err := os.Stat(c.path(k, "statted"))
		do(t, err)
	}
	do(t, os.Remove(c.path(1, "statted")))
	back(t, c, "a file others had looked at", before)
}

// openElsewhere: node b has it open when a removes it.
func openElsewhere(t *testing.T, c *Cluster, a, b int, before int64) {
	data := putBig(t, c, a, "open")
	f, err := os.OpenFile(c.path(b, "open"), os.O_RDWR, 0)
	do(t, err)
	do(t, os.Remove(c.path(a, "open")))
	if got := free(t, c, a); got > before-bigFile/2 {
		t.Errorf("the space of an open file is free: %d, %d before it was written", got, before)
	}
	var st unix.Stat_t
	do(t, unix.Fstat(int(f.Fd()), &st))
	if st.Nlink != 0 {
		t.Errorf("nlink of a removed file: %d", st.Nlink)
	}
	_, err = f.WriteAt([]byte("still writable"), 100)
	do(t, err)
	copy(data[100:], "still writable")
	if got := readAt(t, f, len(data), 0); !bytes.Equal(got, data) {
		t.Errorf("what is removed but open reads differently")
	}
	do(t, f.Close())
	back(t, c, fmt.Sprintf("open on node %d, removed on node %d", b+1, a+1), before)
}

// overwritten: a rename takes the last name.
func overwritten(t *testing.T, c *Cluster, before int64) {
	putBig(t, c, 0, "target")
	f, err := os.Open(c.path(1, "target"))
	do(t, err)
	put(t, c.path(2, "source"), "small")
	do(t, os.Rename(c.path(2, "source"), c.path(2, "target")))
	expect(t, c.path(1, "target"), "small")
	do(t, f.Close())
	back(t, c, "replaced by rename", before)
}

// cachedEverywhere: all have read it, all forget it when it is removed.
func cachedEverywhere(t *testing.T, c *Cluster, before int64) {
	data := putBig(t, c, 2, "cached")
	for k := range c.Nodes {
		f, err := os.Open(c.path(k, "cached"))
		do(t, err)
		if got := readAt(t, f, len(data), 0); !bytes.Equal(got, data) {
			t.Fatalf("node %d reads something else", k+1)
		}
		do(t, f.Close())
	}
	do(t, os.Remove(c.path(0, "cached")))
	back(t, c, "read by all", before)
}

// killedUser: the node that has it open is killed.
func killedUser(t *testing.T, c *Cluster, before int64) {
	putBig(t, c, 0, "killed")
	f, err := os.Open(c.path(2, "killed"))
	do(t, err)
	defer f.Close()
	do(t, os.Remove(c.path(0, "killed")))
	c.Nodes[2].Kill()
	within(t, 10*time.Second, "the space is back after the user's node died", func() error {
		if got := free(t, c, 1); got < before-bigFile/2 {
			return fmt.Errorf("%d MiB are missing", (before-got)>>20)
		}
		return nil
	})
}

// TestBindMountDetached: what is mounted inside the volume stays, however many
// names other nodes change beside it.
func TestBindMountDetached(t *testing.T) {
	onEach(t, 2, func(t *testing.T, c *Cluster) {
		do(t, os.MkdirAll(c.path(0, "dir/point"), 0o755))
		outside := t.TempDir()
		put(t, outside+"/inside", "it is there")
		point := c.path(0, "dir/point")
		do(t, unix.Mount(outside, point, "", unix.MS_BIND, ""))
		defer func() { do(t, unix.Unmount(point, unix.MNT_DETACH)) }()
		for k := range 1000 {
			do(t, os.WriteFile(c.path(1, fmt.Sprintf("dir/remote%d", k)), nil, 0o644))
			if k%3 == 0 {
				do(t, os.Remove(c.path(1, fmt.Sprintf("dir/remote%d", k))))
			}
			if k%50 != 0 {
				continue
			}
			expect(t, point+"/inside", "it is there")
			_, err := os.Stat(c.path(0, fmt.Sprintf("dir/remote%d", k+1)))
			want(t, "stat of a name that is not there yet", err, syscall.ENOENT)
		}
		if _, ok, err := control.MountAt(point); err != nil || !ok {
			t.Errorf("the bind mount was detached: %v", err)
		}
		expect(t, point+"/inside", "it is there")
		if n := len(entries(t, c.path(0, "dir"))); n != 667 {
			t.Errorf("%d entries beside it, want 667", n)
		}
	})
}
