package m0

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// checks are the properties, each over all mounts. Nothing is retried and
// nothing waits for a cache to expire.
var checks = map[string]func(*checker){
	"content": checkContent, "openFiles": checkOpenFiles, "names": checkNames2, "attrs": checkAttrs, "mmap": checkMmap,
	"unlinkedOpen": checkUnlinkedOpen, "append": checkAppend, "appendFollow": checkAppendFollow, "mmapWords": checkMmapWords,
	"exclusive": checkExclusive, "sharedDir": checkSharedDir, "lockFile": checkLockFile, "storm": checkStorm, "partial": checkPartial,
	"negatives": checkNegatives, "symlinks": checkSymlinks, "tree": checkTree, "setflAppend": checkSetflAppend, "mmapStorm": checkMmapStorm,
	"listing": checkListing, "truncate": checkTruncate, "shrinkStorm": checkShrinkStorm,
}

// checkContent: what a closed file holds is what the next open elsewhere reads.
func checkContent(c *checker) {
	for i := range c.rounds * len(c.mounts) {
		data := bytes.Repeat(fmt.Appendf(nil, "%d.", i), []int{1, 50, 2000, 90000, 700000}[c.rng.Intn(5)])
		c.put(c.p(i, "f"), data)
		eq(c, c.get(c.p(i+1, "f")), string(data), "round %d", i)
	}
}

// checkOpenFiles: descriptors that stay open see writes and truncations.
func checkOpenFiles(c *checker) {
	const size = 100000
	c.put(c.p(0, "f"), make([]byte, size))
	var fs []*os.File
	for k := range c.mounts {
		fs = append(fs, c.open(c.p(k, "f"), []int{os.O_RDWR, os.O_RDWR | os.O_SYNC}[k%2]))
	}
	ro := c.open(c.p(1, "f"), os.O_RDONLY)
	for i := range c.rounds * 10 {
		w, r := fs[i%len(fs)], fs[(i+1)%len(fs)]
		off, data := c.rng.Int63n(size-9000), bytes.Repeat([]byte{byte(i)}, 1+c.rng.Intn(9000))
		_, err := w.WriteAt(data, off)
		c.ok(err)
		for _, f := range []*os.File{r, ro} {
			got := make([]byte, len(data))
			_, err := f.ReadAt(got, off)
			c.ok(err)
			eq(c, string(got), string(data), "round %d, %d bytes at %d", i, len(data), off)
		}
		if i%7 == 6 {
			n := c.rng.Int63n(size)
			c.ok(w.Truncate(n))
			st, err := r.Stat()
			c.ok(err)
			eq(c, st.Size(), n, "size after truncate")
			all, err := io.ReadAll(io.NewSectionReader(ro, 0, size*2))
			c.ok(err)
			eq(c, int64(len(all)), n, "bytes to the end after truncate")
			c.ok(w.Truncate(size))
		}
	}
	for _, f := range append(fs, ro) {
		c.ok(f.Close())
	}
}

// checkNames2: every change of names is seen at once.
func checkNames2(c *checker) {
	for i := range c.rounds * len(c.mounts) {
		a, b := func(s string) string { return c.p(i, fmt.Sprint(s, i)) }, func(s string) string { return c.p(i+1, fmt.Sprint(s, i)) }
		c.gone(b("f"))
		c.put(a("f"), []byte("x"))
		eq(c, c.get(b("f")), "x", "created")
		c.ok(os.Rename(b("f"), b("g")))
		c.gone(a("f"))
		eq(c, c.get(a("g")), "x", "renamed")
		c.ok(os.Link(a("g"), a("l")))
		for _, n := range []string{b("l"), b("g"), a("g")} {
			eq(c, nlink(c, n), 2, "links of %s", n)
		}
		c.ok(os.Remove(b("l")))
		c.gone(a("l"))
		eq(c, nlink(c, a("g")), 1, "links")
		c.ok(os.Mkdir(a("d"), 0o755))
		if err := os.Mkdir(b("d"), 0o755); !os.IsExist(err) {
			c.fatalf("mkdir twice: %v", err)
		}
		c.put(b("d")+"/x", nil)
		if err := os.Remove(a("d")); !errors.Is(err, syscall.ENOTEMPTY) {
			c.fatalf("rmdir of a full directory: %v", err)
		}
		c.ok(os.Rename(b("d"), b("e")))
		c.gone(a("d"))
		eq(c, strings.Join(c.list(a("e")), " "), "x", "listing")
		c.put(a("g")+"2", []byte("y"))
		eq(c, c.get(b("g")+"2"), "y", "before replace")
		c.ok(os.Rename(a("g"), a("g")+"2"))
		eq(c, c.get(b("g")+"2"), "x", "after replace")
		c.gone(b("g"))
		c.ok(os.Remove(a("e") + "/x"))
		c.ok(os.Remove(b("e")))
		c.gone(a("e"))
		c.ok(os.Remove(b("g") + "2"))
	}
}

func nlink(c *checker, path string) int {
	var st unix.Stat_t
	c.ok(unix.Stat(path, &st))
	return int(st.Nlink)
}

// checkAttrs: mode, owner, times and size.
func checkAttrs(c *checker) {
	c.put(c.p(0, "f"), []byte("abc"))
	for i := range c.rounds * 4 {
		a, b := c.p(i, "f"), c.p(i+1, "f")
		var st unix.Stat_t
		mode := uint32(c.rng.Intn(0o1000))
		c.ok(unix.Chmod(a, mode))
		c.ok(unix.Stat(b, &st))
		eq(c, st.Mode&0o7777, mode, "mode")
		uid := c.rng.Intn(60000)
		c.ok(unix.Chown(b, uid, uid+1))
		c.ok(unix.Stat(a, &st))
		eq(c, [2]uint32{st.Uid, st.Gid}, [2]uint32{uint32(uid), uint32(uid + 1)}, "owner")
		at := time.Unix(c.rng.Int63n(1<<31), c.rng.Int63n(1e9))
		c.ok(os.Chtimes(a, at, at.Add(5)))
		fi, err := os.Stat(b)
		c.ok(err)
		eq(c, fi.ModTime().UnixNano(), at.Add(5).UnixNano(), "mtime")
		n := c.rng.Int63n(300000)
		c.ok(os.Truncate(b, n))
		c.size(a, n)
	}
}

// mapping maps a file shared.
func (c *checker) mapping(f *os.File, size int) []byte {
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	c.ok(err)
	return m
}

// checkMmap: mappings see what others wrote; msync shows it to others.
func checkMmap(c *checker) {
	const size = 16384
	c.put(c.p(0, "f"), make([]byte, size))
	var fs []*os.File
	var ms [][]byte
	for k := range c.mounts {
		f := c.open(c.p(k, "f"), os.O_RDWR)
		defer f.Close()
		m := c.mapping(f, size)
		defer func() { c.ok(unix.Munmap(m)) }()
		fs, ms = append(fs, f), append(ms, m)
	}
	for i := range c.rounds * 5 {
		w, r, off := i%len(fs), (i+1)%len(fs), c.rng.Intn(size/8)*8
		v := binary.LittleEndian.AppendUint64(nil, uint64(i+1))
		if c.rng.Intn(2) == 0 {
			copy(ms[w][off:], v)
			c.ok(unix.Msync(ms[w], unix.MS_SYNC))
		} else {
			_, err := fs[w].WriteAt(v, int64(off))
			c.ok(err)
		}
		eq(c, string(ms[r][off:off+8]), string(v), "through the mapping, round %d", i)
		got := make([]byte, 8)
		_, err := fs[r].ReadAt(got, int64(off))
		c.ok(err)
		eq(c, string(got), string(v), "through read, round %d", i)
	}
}

// checkUnlinkedOpen: an open file outlives its name, whoever removes it.
func checkUnlinkedOpen(c *checker) {
	for i := range c.rounds * 2 {
		a, b := c.p(i, "u"), c.p(i+1, "u")
		c.put(a, []byte("keep me"))
		f := c.open(a, os.O_RDWR)
		c.ok(os.Remove(b))
		c.gone(a)
		got := make([]byte, 7)
		_, err := f.ReadAt(got, 0)
		c.ok(err)
		_, err = f.WriteAt([]byte("K"), 0)
		c.ok(err)
		c.put(b, []byte("other"))
		_, err = f.ReadAt(got, 0)
		c.ok(err)
		eq(c, string(got), "Keep me", "old file")
		var st unix.Stat_t
		c.ok(unix.Fstat(int(f.Fd()), &st))
		eq(c, st.Nlink, 0, "links")
		eq(c, c.get(a), "other", "new file")
		c.ok(f.Close())
		c.ok(os.Remove(a))
	}
}

// checkAppend: no record is lost, torn or out of its writer's order.
func checkAppend(c *checker) {
	n := c.rounds * 10
	c.put(c.p(0, "log"), nil)
	c.each(2, func(k, w int, rng *rand.Rand) {
		f := c.open(c.p(k, "log"), os.O_WRONLY|os.O_APPEND)
		for i := range n {
			_, err := fmt.Fprintf(f, "%d %d %s\n", w, i, strings.Repeat(".", rng.Intn(200)))
			c.ok(err)
		}
		c.ok(f.Close())
	})
	for k := range c.mounts {
		checkRecords(c, c.get(c.p(k, "log")), 2*len(c.mounts), n)
	}
}

func checkRecords(c *checker, s string, workers, n int) {
	next := make([]int, workers)
	for _, l := range strings.Split(strings.TrimSpace(s), "\n") {
		var w, i int
		if _, err := fmt.Sscanf(l, "%d %d", &w, &i); err != nil || w >= workers {
			c.fatalf("a record that nobody wrote: %q", l)
		}
		eq(c, i, next[w], "next record of worker %d", w)
		next[w]++
	}
	for w := range next {
		eq(c, next[w], n, "records of worker %d", w)
	}
}

// checkAppendFollow: readers see a growing file whose past never changes.
func checkAppendFollow(c *checker) {
	n := c.rounds * 5
	c.put(c.p(0, "log"), nil)
	c.each(1, func(k, w int, _ *rand.Rand) {
		f, r := c.open(c.p(k, "log"), os.O_WRONLY|os.O_APPEND), c.open(c.p(k, "log"), os.O_RDONLY)
		seen := ""
		for i := range n {
			_, err := fmt.Fprintf(f, "<%04d %08d>\n", w, i)
			c.ok(err)
			b, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<30))
			c.ok(err)
			if !strings.HasPrefix(string(b), seen) {
				c.fatalf("bytes that were read before have changed")
			}
			seen = string(b)
			if !strings.Contains(seen, fmt.Sprintf("<%04d %08d>\n", w, i)) {
				c.fatalf("own record %d is missing", i)
			}
			if len(seen)%16 != 0 || strings.Contains(seen, "\x00") {
				c.fatalf("a record that nobody wrote")
			}
		}
		c.ok(f.Close())
		c.ok(r.Close())
	})
}

// checkMmapWords: all nodes count in their own word of one mapped page.
func checkMmapWords(c *checker) {
	n := uint64(c.rounds * 5)
	c.put(c.p(0, "page"), make([]byte, 4096))
	c.each(1, func(k, w int, _ *rand.Rand) {
		f := c.open(c.p(k, "page"), os.O_RDWR)
		m := c.mapping(f, 4096)
		for i := range n {
			eq(c, binary.LittleEndian.Uint64(m[w*8:]), i, "own word of node %d", k)
			binary.LittleEndian.PutUint64(m[w*8:], i+1)
			c.ok(unix.Msync(m, unix.MS_SYNC))
		}
		c.ok(unix.Munmap(m))
		c.ok(f.Close())
	})
	for k := range c.mounts {
		b := c.get(c.p(k, "page"))
		for w := range c.mounts {
			eq(c, binary.LittleEndian.Uint64([]byte(b[w*8:])), n, "word %d on node %d", w, k)
		}
	}
}

// checkExclusive: one winner for each name, however it is made.
func checkExclusive(c *checker) {
	n := c.rounds * 2
	won := make([]atomic.Int64, 4*n)
	c.each(2, func(k, w int, _ *rand.Rand) {
		for i := range n {
			if f, err := os.OpenFile(c.p(k, fmt.Sprint("x", i)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil {
				won[i].Add(1)
				c.ok(f.Close())
			} else if !os.IsExist(err) {
				c.ok(err)
			}
			src := c.p(k, fmt.Sprint("src", w))
			c.put(src, nil)
			for j, fn := range []func() error{
				func() error { return os.Mkdir(c.p(k, fmt.Sprint("d", i)), 0o700) },
				func() error { return os.Symlink("t", c.p(k, fmt.Sprint("s", i))) },
				func() error { return os.Link(src, c.p(k, fmt.Sprint("l", i))) },
			} {
				if err := fn(); err == nil {
					won[(j+1)*n+i].Add(1)
				} else if !os.IsExist(err) {
					c.ok(err)
				}
			}
			c.ok(os.Remove(src))
		}
	})
	for i := range won {
		eq(c, won[i].Load(), 1, "winners of name %d", i)
	}
}

// checkSharedDir: one directory under creates, renames and unlinks of all.
func checkSharedDir(c *checker) {
	n := c.rounds * 4
	c.put(c.p(0, "settled"), nil)
	c.each(2, func(k, w int, _ *rand.Rand) {
		for i := range n {
			p, q := c.p(k, fmt.Sprintf("p%d-%d", w, i)), c.p(k, fmt.Sprintf("q%d-%d", w, i))
			c.put(p, []byte("x"))
			names := c.list(c.p(k))
			settled := 0
			for j, name := range names {
				if j > 0 && names[j-1] == name {
					c.fatalf("%s is listed twice", name)
				}
				if name == "settled" {
					settled++
				}
			}
			eq(c, settled, 1, "times the settled name is listed")
			switch i % 3 {
			case 0:
				c.ok(os.Remove(p))
			case 1:
				c.ok(os.Rename(p, q))
				c.gone(p)
			}
		}
	})
	want := 1
	for i := range n {
		if i%3 != 0 {
			want += 2 * len(c.mounts)
		}
	}
	for k := range c.mounts {
		eq(c, len(c.list(c.p(k))), want, "names on node %d", k)
	}
}

// checkLockFile: a counter under a lock file made with O_EXCL.
func checkLockFile(c *checker) {
	n := c.rounds * 2
	c.put(c.p(0, "c"), []byte("0"))
	c.each(1, func(k, _ int, _ *rand.Rand) {
		for range n {
			for {
				f, err := os.OpenFile(c.p(k, "lock"), os.O_CREATE|os.O_EXCL, 0o600)
				if err == nil {
					c.ok(f.Close())
					break
				}
				if !os.IsExist(err) {
					c.ok(err)
				}
				time.Sleep(200 * time.Microsecond)
			}
			var v int
			_, err := fmt.Sscan(c.get(c.p(k, "c")), &v)
			c.ok(err)
			c.put(c.p(k, "c"), fmt.Append(nil, v+1))
			c.ok(os.Remove(c.p(k, "lock")))
		}
	})
	eq(c, c.get(c.p(0, "c")), fmt.Sprint(n*len(c.mounts)), "counter")
}
