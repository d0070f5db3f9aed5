package volume_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/ocfuse/ocfuse/fs/dir"
	"github.com/ocfuse/ocfuse/fs/ondisk"
	"github.com/ocfuse/ocfuse/stackglue/fakestack"
)

// clusterImage makes one of the kernel's volumes usable by several nodes: more
// slots, and no local mount. (tunefs.ocfs2 does the latter only with a cluster
// stack running.)
func clusterImage(t testing.TB, name string) string {
	t.Helper()
	path := sharedImage(t, name)
	if out, err := exec.Command(tool(t, "tunefs.ocfs2"), "-N", "3", "--yes", path).CombinedOutput(); err != nil {
		t.Fatalf("tunefs.ocfs2: %v\n%s", err, out)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, b, err := ondisk.FindSuper(f)
	if err != nil {
		t.Fatal(err)
	}
	s := ondisk.Dinode(b).Super()
	s.SetFeatures(s.Features().Without(ondisk.Features{Incompat: ondisk.FeatureIncompatLocalMount}))
	if g.HasMetaECC() {
		off, _ := ondisk.CheckOffset(ondisk.SigSuper)
		ondisk.ComputeCheck(b, off)
	}
	if _, err := f.WriteAt(b, int64(ondisk.SuperBlkno*g.BlockSize)); err != nil {
		t.Fatal(err)
	}
	return path
}

func openCluster(t testing.TB, path string, nodes int) *cluster {
	t.Helper()
	c := &cluster{t: t, path: path, fake: fakestack.New(fakestack.Options{Seed: 5}), nodes: map[uint32]*clusterNode{}}
	name := fmt.Sprintf("%s-%p", t.Name(), c)
	fakeClusters.Store(name, c.fake)
	t.Cleanup(func() { fakeClusters.Delete(name) })
	for n := range nodes {
		c.mount(uint32(n+1), name)
	}
	return c
}

// TestClusterShared: files that share clusters and one refcount tree are
// changed on two nodes by turns, and every node sees all of it.
func TestClusterShared(t *testing.T) {
	for _, name := range []string{"1k-4k-ecc", "2k-16k"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := clusterImage(t, name)
			files := sharedFiles(t, path)
			names := []string{"/rf/a", "/rf/b", "/rf/c", "/rf/many", "/rf/holes", "/rf/pre", "/rf/pre2", "/rf/xa", "/rf/xb"}
			c := openCluster(t, path, 2)
			rng := rand.New(rand.NewPCG(21, 22))
			for step := range 120 {
				f := names[rng.IntN(len(names))]
				if err := changeShared(rng, c.pick(rng), f, files); err != nil {
					t.Fatalf("step %d, %s: %v", step, f, err)
				}
				if step%20 == 19 {
					compareFiles(t, c.pick(rng), files)
				}
			}
			for _, n := range c.numbers() {
				compareFiles(t, c.nodes[n].mounted, files)
			}
			c.umount()
			checked(t, path)
		})
	}
}

// TestClusterSharedParallel: each node deletes and writes its own files of
// shared trees at the same time as the other.
func TestClusterSharedParallel(t *testing.T) {
	path := clusterImage(t, "1k-4k-ecc")
	files := sharedFiles(t, path)
	c := openCluster(t, path, 2)
	mine := map[uint32][]string{1: {"/rf/a", "/rf/many", "/rf/pre", "/rf/xa"}, 2: {"/rf/b", "/rf/holes", "/rf/pre2", "/rf/xb"}}
	var wg sync.WaitGroup
	for n, names := range mine {
		own := map[string][]byte{}
		for _, f := range names {
			own[f] = files[f]
		}
		wg.Go(func() {
			m, rng := c.nodes[n].mounted, rand.New(rand.NewPCG(31, uint64(n)))
			for step := range 60 {
				f := names[rng.IntN(len(names))]
				if err := changeShared(rng, m, f, own); err != nil {
					t.Errorf("node %d step %d, %s: %v", n, step, f, err)
					return
				}
			}
			for f, want := range own {
				got, err := c.nodes[3-n].read(f)
				if err != nil || diff(got, want) != "equal" {
					t.Errorf("node %d reads %s: %v, %s", 3-n, f, err, diff(got, want))
				}
				if err := m.unlink(f); err != nil {
					t.Errorf("node %d, %s: %v", n, f, err)
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if _, err := c.nodes[2].read("/rf/a"); !errors.Is(err, dir.ErrNotFound) {
		t.Errorf("reading a deleted file: %v", err)
	}
	compareFiles(t, c.nodes[2].mounted, map[string][]byte{"/rf/c": files["/rf/c"], "/rf/solo": files["/rf/solo"]})
	c.umount()
	checked(t, path)
}
