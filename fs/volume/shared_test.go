package volume_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ocfuse/ocfuse/fs/check"
	"github.com/ocfuse/ocfuse/fs/volume"
)

// The volumes of these tests were written by a Linux kernel; testdata/shared.sh
// says what is on them.
var sharedImages = []string{"4k-4k-ecc", "1k-4k-ecc", "512-4k", "2k-16k"}

// sharedImage unpacks one of them.
func sharedImage(t testing.TB, name string) string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "shared-"+name+".img.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name+".img")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// eachShared runs a test on each of the volumes.
func eachShared(t *testing.T, fn func(t *testing.T, path string)) {
	for _, name := range sharedImages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fn(t, sharedImage(t, name))
		})
	}
}

// val is the content that the script gave everything: numbers from 1 to 1000,
// one per line, over and over.
func val(n int) []byte {
	b := make([]byte, 0, n+8)
	for i := int64(0); len(b) < n; i++ {
		b = append(strconv.AppendInt(b, i%1000+1, 10), '\n')
	}
	return b[:n]
}

// sharedFiles are the contents on a volume.
func sharedFiles(t testing.TB, path string) map[string][]byte {
	holes := val(1200000)
	cs := geometry(t, path).ClusterSize
	for at := 0; at < len(holes); at += 2 * cs {
		clear(holes[at:min(at+cs, len(holes))])
	}
	pre := append(val(50000), make([]byte, 150000)...)
	return map[string][]byte{
		"/rf/a": val(300000), "/rf/b": val(300000), "/rf/c": val(300000), "/rf/solo": val(100000),
		"/rf/many": val(1200000), "/rf/holes": holes, "/rf/pre": pre, "/rf/pre2": slices.Clone(pre),
		"/rf/xa": val(50000), "/rf/xb": val(50000), "/xa/data": val(10000),
		"/xa/inline": {}, "/xa/block": {}, "/xa/buckets": {},
	}
}

// compareFiles reads everything.
func compareFiles(t *testing.T, m *mounted, want map[string][]byte) {
	t.Helper()
	for name, w := range want {
		got, err := m.read(name)
		if err != nil {
			t.Fatalf("read %s: %v", name, err)
		}
		if !bytes.Equal(got, w) {
			t.Fatalf("content of %s: %s", name, diff(got, w))
		}
	}
}

// knownNoise are problems that a kernel leaves behind: its buckets' free start
// after a removal is too low.
var knownNoise = []string{check.XattrFreeStart}

// leave unmounts, and checks the volume with both checkers.
func leave(t *testing.T, m *mounted) {
	t.Helper()
	m.umount()
	checked(t, m.path)
}

// checked has our own checker judge an image.
func checked(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rep, err := check.Run(bg, f, check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sysdir := geometry(t, path).SystemDirBlkno // without an index, by mkfs.ocfs2
	for _, p := range rep.Problems {
		if p.Code == check.DxTreeMissing && p.Blkno == sysdir {
			continue
		}
		if !slices.Contains(knownNoise, p.Code) {
			t.Errorf("check: %v", p)
		}
	}
}

func TestReadShared(t *testing.T) {
	eachShared(t, func(t *testing.T, path string) {
		m := mount(t, path)
		compareFiles(t, m, sharedFiles(t, path))
		leave(t, m)
	})
}

// TestDeleteXattrs deletes what has extended attributes of every kind.
func TestDeleteXattrs(t *testing.T) {
	eachShared(t, func(t *testing.T, path string) {
		m := mount(t, path)
		for _, name := range []string{"inline", "block", "buckets", "data", "link"} {
			if err := m.unlink("/xa/" + name); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.rmdir("/xa/dir"); err != nil {
			t.Fatal(err)
		}
		leave(t, m)
		if n := orphans(t, path); n > 0 {
			t.Fatalf("%d orphans are left", n)
		}
	})
}

// orphans counts them with our own mount.
func orphans(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rep, err := check.Run(bg, f, check.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return int(rep.Summary.Orphans)
}

// TestDeleteShared deletes the users of shared clusters one by one, in orders
// that depend on the seed; the others keep their content.
func TestDeleteShared(t *testing.T) {
	eachShared(t, func(t *testing.T, path string) {
		for seed := range uint64(3) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				copied := filepath.Join(t.TempDir(), "copy.img")
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(copied, data, 0o600); err != nil {
					t.Fatal(err)
				}
				deleteShared(t, copied, seed)
			})
		}
	})
}

func deleteShared(t *testing.T, path string, seed uint64) {
	files := sharedFiles(t, path)
	var names []string
	for n := range files {
		if strings.HasPrefix(n, "/rf/") {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	rng := rand.New(rand.NewPCG(seed, 7))
	rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for len(names) > 0 {
		m := mount(t, path)
		n := min(len(names), 3)
		for _, name := range names[:n] {
			if err := m.unlink(name); err != nil {
				t.Fatal(err)
			}
			delete(files, name)
		}
		names = names[n:]
		compareFiles(t, m, files)
		leave(t, m)
		if n := orphans(t, path); n > 0 {
			t.Fatalf("%d orphans are left", n)
		}
	}
}

// TestChangeShared writes, truncates and punches shared files at random and
// compares all files with a model.
func TestChangeShared(t *testing.T) {
	eachShared(t, func(t *testing.T, path string) {
		files := sharedFiles(t, path)
		names := []string{"/rf/a", "/rf/b", "/rf/c", "/rf/solo", "/rf/many", "/rf/holes", "/rf/pre", "/rf/pre2", "/rf/xa", "/rf/xb"}
		rng := rand.New(rand.NewPCG(11, 12))
		for range 4 {
			m := mount(t, path)
			for step := range 40 {
				name := names[rng.IntN(len(names))]
				if err := changeShared(rng, m, name, files); err != nil {
					t.Fatalf("step %d, %s: %v", step, name, err)
				}
			}
			compareFiles(t, m, files)
			leave(t, m)
		}
		m := mount(t, path)
		compareFiles(t, m, files)
		for _, name := range names {
			if err := m.unlink(name); err != nil {
				t.Fatal(err)
			}
		}
		leave(t, m)
	})
}

// changeShared makes one change of a file and its model.
func changeShared(rng *rand.Rand, m *mounted, name string, files map[string][]byte) error {
	d := slices.Clone(files[name])
	defer func() { files[name] = d }()
	grow := func(n int) {
		if n > len(d) {
			d = append(d, make([]byte, n-len(d))...)
		}
	}
	switch rng.IntN(10) {
	case 0:
		size := rng.IntN(len(d) + 20000)
		if size < len(d) {
			d = d[:size:size]
		}
		grow(size)
		return m.truncate(name, uint64(size))
	case 1:
		off, n := rng.IntN(len(d)+1), 1+rng.IntN(50000)
		if off < len(d) {
			clear(d[off:min(off+n, len(d))])
		}
		i, _, err := m.lookup(name)
		if err != nil {
			return err
		}
		defer m.put(i)
		return m.Fallocate(bg, i, volume.FallocPunchHole|volume.FallocKeepSize, int64(off), int64(n), nil)
	}
	p := make([]byte, 1+rng.IntN([]int{40, 5000, 60000}[rng.IntN(3)]))
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	off := rng.IntN(len(d) + 3000)
	grow(off + len(p))
	copy(d[off:], p)
	return m.write(name, p, int64(off))
}

// TestSharedZeros looks at what becomes of shared clusters behind the end of a
// file: they must not be zeroed in place when it grows again.
func TestSharedZeros(t *testing.T) {
	eachShared(t, func(t *testing.T, path string) {
		files := sharedFiles(t, path)
		bs := geometry(t, path).BlockSize
		m := mount(t, path)
		for name, size := range map[string]int{"/rf/a": bs, "/rf/b": 5 * bs, "/rf/solo": 100} {
			if err := m.truncate(name, uint64(size)); err != nil {
				t.Fatal(err)
			}
			if err := m.truncate(name, 70000); err != nil {
				t.Fatal(err)
			}
			clear(files[name][size:])
			files[name] = files[name][:70000]
			compareFiles(t, m, files)
		}
		leave(t, m)
	})
}
