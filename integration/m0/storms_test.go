package m0

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const stormTime = 1500 * time.Millisecond

// checkStorm: node 0 writes versions of a block; readers on every node, by
// read and by stat, never see an older one than was complete when they began,
// and the writer gets on.
func checkStorm(c *checker) {
	const blocks = 40
	page := func(v uint64) []byte { return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, v), 512) }
	c.put(c.p(0, "f"), bytes.Repeat(page(0), blocks))
	var done, writes, reads atomic.Uint64
	var stop atomic.Bool
	c.each(4, func(k, w int, rng *rand.Rand) {
		if w == 0 {
			defer stop.Store(true)
			f := c.open(c.p(k, "f"), os.O_WRONLY)
			defer f.Close()
			until(stormTime, &done, func() {
				v := done.Load() + 1
				for b := range blocks {
					_, err := f.WriteAt(page(v), int64(b)*4096)
					c.ok(err)
				}
				done.Store(v)
				writes.Add(1)
			})
			return
		}
		f := c.open(c.p(k, "f"), os.O_RDONLY)
		defer f.Close()
		buf := make([]byte, 3*4096)
		for !stop.Load() {
			before := done.Load()
			off := rng.Int63n(blocks*4096 - int64(len(buf)))
			off &^= 7
			_, err := f.ReadAt(buf, off)
			c.ok(err)
			for j := 0; j+8 <= len(buf); j += 8 {
				if v := binary.LittleEndian.Uint64(buf[j:]); v < before {
					c.fatalf("stale: version %d at %d, %d was written before the read", v, off+int64(j), before)
				}
			}
			reads.Add(1)
		}
	})
	if writes.Load() < 3 || reads.Load() < 10 {
		c.fatalf("starved: %d rounds of the writer, %d reads", writes.Load(), reads.Load())
	}
	fmt.Printf("%d rounds of %d writes, %d reads\n", writes.Load(), blocks, reads.Load())
}

// checkMmapStorm: page faults of mappings on every node against a writer.
func checkMmapStorm(c *checker) {
	const blocks = 16
	c.put(c.p(0, "f"), make([]byte, blocks*4096))
	var done, faults atomic.Uint64
	var stop atomic.Bool
	c.each(3, func(k, w int, rng *rand.Rand) {
		flags, prot := os.O_RDONLY, unix.PROT_READ
		if w%2 == 1 {
			flags, prot = os.O_RDWR, unix.PROT_READ|unix.PROT_WRITE
		}
		if w == 0 {
			defer stop.Store(true)
			f := c.open(c.p(k, "f"), os.O_WRONLY)
			defer f.Close()
			until(stormTime, &done, func() {
				v := done.Load() + 1
				for b := range blocks {
					_, err := f.WriteAt(binary.LittleEndian.AppendUint64(nil, v), int64(b)*4096)
					c.ok(err)
				}
				done.Store(v)
			})
			return
		}
		f := c.open(c.p(k, "f"), flags)
		defer f.Close()
		m, err := unix.Mmap(int(f.Fd()), 0, blocks*4096, prot, unix.MAP_SHARED)
		c.ok(err)
		defer func() { c.ok(unix.Munmap(m)) }()
		mine := uint64(0)
		for !stop.Load() {
			before, b := done.Load(), rng.Intn(blocks)
			if v := binary.LittleEndian.Uint64(m[b*4096:]); v < before {
				c.fatalf("stale: version %d in page %d, %d was written before", v, b, before)
			}
			if w%2 == 1 { // dirty a word of one's own in every page
				own := m[b*4096+64+w*8:]
				mine++
				binary.LittleEndian.PutUint64(own, mine)
				if v := binary.LittleEndian.Uint64(own); v != mine {
					c.fatalf("own word: %d after %d was stored", v, mine)
				}
			}
			faults.Add(1)
		}
	})
	if done.Load() < 3 || faults.Load() < 10 {
		c.fatalf("starved: %d rounds of the writer, %d reads of the mapping", done.Load(), faults.Load())
	}
	fmt.Printf("%d rounds of %d writes, %d reads of mappings\n", done.Load(), blocks, faults.Load())
}

// checkPartial: all nodes read a page and then write parts of the same pages,
// cached or not, each its own bytes: nothing hangs, nothing is lost.
func checkPartial(c *checker) {
	const pages, slot = 6, 64
	c.put(c.p(0, "f"), make([]byte, pages*4096))
	n := c.rounds * 10
	c.each(2, func(k, w int, rng *rand.Rand) {
		f := c.open(c.p(k, "f"), []int{os.O_RDWR, os.O_WRONLY}[w/len(c.mounts)%2])
		defer f.Close()
		r := c.open(c.p(k, "f"), os.O_RDONLY)
		defer r.Close()
		last := make([]uint64, pages)
		buf := make([]byte, 8)
		for i := range n {
			p := rng.Intn(pages)
			at := int64(p*4096 + w*slot)
			if rng.Intn(2) == 0 { // else the page may not be cached
				_, err := r.ReadAt(buf, at)
				c.ok(err)
				eq(c, binary.LittleEndian.Uint64(buf), last[p], "own bytes in page %d", p)
			}
			last[p] = uint64(i + 1)
			_, err := f.WriteAt(binary.LittleEndian.AppendUint64(nil, last[p]), at)
			c.ok(err)
		}
		for p := range pages {
			_, err := r.ReadAt(buf, int64(p*4096+w*slot))
			c.ok(err)
			eq(c, binary.LittleEndian.Uint64(buf), last[p], "own bytes in page %d at the end", p)
		}
	})
	eq(c, c.get(c.p(0, "f")), c.get(c.p(1, "f")), "file on both nodes")
}

// checkNegatives: more missing names than are remembered, then created.
func checkNegatives(c *checker) {
	for i := range 100 {
		c.gone(c.p(1, fmt.Sprint(i)))
		c.gone(c.p(1, fmt.Sprint(i)))
	}
	for i := range 100 {
		c.put(c.p(0, fmt.Sprint(i)), nil)
		if _, err := os.Stat(c.p(1, fmt.Sprint(i))); err != nil {
			c.fatalf("name %d was created elsewhere: %v", i, err)
		}
	}
	for i := range 100 {
		c.ok(os.Remove(c.p(0, fmt.Sprint(i))))
		c.gone(c.p(1, fmt.Sprint(i)))
	}
}

// checkSymlinks: a cached target goes with its symlink.
func checkSymlinks(c *checker) {
	for i := range c.rounds * 2 {
		want := strings.Repeat(fmt.Sprint("t", i), 1+c.rng.Intn(40))
		c.ok(os.Symlink(want, c.p(i, "s")))
		for k := range c.mounts {
			for range 2 {
				got, err := os.Readlink(c.p(k, "s"))
				c.ok(err)
				eq(c, got, want, "target on node %d", k)
			}
		}
		c.ok(os.Remove(c.p(i+1, "s")))
		for k := range c.mounts {
			if _, err := os.Readlink(c.p(k, "s")); !os.IsNotExist(err) {
				c.fatalf("removed symlink on node %d: %v", k, err)
			}
		}
	}
}

// checkTree: directories move around between parents, walked by all.
func checkTree(c *checker) {
	for _, d := range []string{"a", "b", "a/x", "b/y"} {
		c.ok(os.Mkdir(c.p(0, d), 0o755))
	}
	var moves atomic.Int64
	c.each(1, func(k, w int, rng *rand.Rand) {
		mine := fmt.Sprint("m", w)
		at := c.p(k, "a", mine)
		c.ok(os.Mkdir(at, 0o755))
		c.put(at+"/f", []byte(mine))
		for range c.rounds * 3 {
			to := c.p(k, []string{"a", "b", "a/x", "b/y"}[rng.Intn(4)], mine)
			if to == at {
				continue
			}
			c.ok(os.Rename(at, to))
			c.gone(at)
			eq(c, c.get(to+"/f"), mine, "file in the moved directory")
			at = to
			moves.Add(1)
			for _, d := range []string{"a", "b"} {
				c.list(c.p(k, d))
			}
		}
	})
	if moves.Load() == 0 {
		c.fatalf("nothing moved")
	}
	total := 0
	for _, d := range []string{"a", "b", "a/x", "b/y"} {
		total += len(c.list(c.p(0, d)))
		eq(c, strings.Join(c.list(c.p(0, d)), " "), strings.Join(c.list(c.p(1, d)), " "), "listing of %s", d)
	}
	eq(c, total, len(c.mounts)+2, "directories")
}

// checkSetflAppend: a cached descriptor becomes one that appends.
func checkSetflAppend(c *checker) {
	c.put(c.p(0, "f"), bytes.Repeat([]byte("a"), 5000))
	for i := range c.rounds {
		f := c.open(c.p(i, "f"), os.O_RDWR)
		_, err := io.ReadAll(f)
		c.ok(err)
		_, err = f.Seek(0, io.SeekStart)
		c.ok(err)
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, unix.O_APPEND)
		c.ok(err)
		before := c.get(c.p(i+1, "f"))
		other := c.open(c.p(i+1, "f"), os.O_WRONLY|os.O_APPEND)
		_, err = other.Write([]byte("other"))
		c.ok(err)
		c.ok(other.Close())
		add := strings.Repeat("b", []int{1, 100, 4096, 20000}[i%4])
		_, err = f.WriteString(add)
		c.ok(err)
		want := before + "other" + add
		got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
		c.ok(err)
		eq(c, string(got), want, "through the descriptor, round %d", i)
		eq(c, c.get(c.p(i+1, "f")), want, "on the other node, round %d", i)
		c.ok(f.Close())
	}
}

// checkListing: what a listing with attributes cached does not go stale.
func checkListing(c *checker) {
	const files = 30
	for i := range files {
		c.put(c.p(0, fmt.Sprint("f", i)), nil)
	}
	for i := range c.rounds * 2 {
		a, b := i%len(c.mounts), (i+1)%len(c.mounts)
		es, err := os.ReadDir(c.p(a))
		c.ok(err)
		eq(c, len(es), files, "names")
		for _, e := range es {
			_, err := e.Info()
			c.ok(err)
		}
		name := fmt.Sprint("f", c.rng.Intn(files))
		size := c.rng.Int63n(100000)
		c.ok(os.Truncate(c.p(b, name), size))
		c.size(c.p(a, name), size)
		c.ok(os.Rename(c.p(b, name), c.p(b, name+"x")))
		c.gone(c.p(a, name))
		c.ok(os.Rename(c.p(a, name+"x"), c.p(a, name)))
		c.size(c.p(b, name), size)
	}
}

// checkTruncate: one node truncates and extends, others read: what is past the
// end is never seen, and bytes that come back are zero.
func checkTruncate(c *checker) {
	const size = 50000
	full := bytes.Repeat([]byte{0xAA}, size)
	for i := range c.rounds * 4 {
		a, b := c.p(i, "f"), c.p(i+1, "f")
		c.put(a, full)
		r := c.open(b, os.O_RDONLY)
		got, err := io.ReadAll(r)
		c.ok(err)
		eq(c, string(got), string(full), "before")
		n := c.rng.Int63n(size)
		c.ok(os.Truncate(a, n))
		buf := make([]byte, size)
		m, err := r.ReadAt(buf, 0)
		if err != io.EOF || int64(m) != n {
			c.fatalf("read after truncate to %d: %d bytes, %v", n, m, err)
		}
		c.ok(os.Truncate(a, size))
		_, err = r.ReadAt(buf, 0)
		c.ok(err)
		eq(c, string(buf), string(append(append([]byte(nil), full[:n]...), make([]byte, size-n)...)), "after extension from %d", n)
		c.ok(r.Close())
	}
}

// checkShrinkStorm: one node shortens a file and writes it longer again while
// all read it. A read that runs across such a change can show zeros where the
// file was shortened: a limit of the kernel's client (see kcache), counted here.
// What must hold: no read shows anything but the bytes written and those zeros,
// everybody gets on, and afterwards all is as written.
func checkShrinkStorm(c *checker) {
	const size = 40000
	full := bytes.Repeat([]byte{0xAA}, size)
	c.put(c.p(0, "f"), full)
	var done, reads atomic.Uint64
	zeros := make([]atomic.Uint64, len(c.mounts))
	var stop atomic.Bool
	c.each(3, func(k, w int, rng *rand.Rand) {
		if w == 0 {
			defer stop.Store(true)
			f := c.open(c.p(k, "f"), os.O_WRONLY)
			defer f.Close()
			until(stormTime, &done, func() {
				n := rng.Int63n(size)
				c.ok(f.Truncate(n))
				_, err := f.WriteAt(full[n:], n)
				c.ok(err)
				done.Add(1)
			})
			return
		}
		f := c.open(c.p(k, "f"), os.O_RDONLY)
		defer f.Close()
		buf := make([]byte, size)
		for !stop.Load() {
			n, err := f.ReadAt(buf[:1+rng.Intn(size)], 0)
			if err != io.EOF {
				c.ok(err)
			}
			for _, b := range buf[:n] {
				if b != 0xAA && b != 0 {
					c.fatalf("a byte that nobody wrote: %#x", b)
				}
			}
			if bytes.IndexByte(buf[:n], 0) >= 0 {
				zeros[k].Add(1)
			}
			reads.Add(1)
		}
	})
	fmt.Printf("%d rounds, %d reads; zeros seen by node: %d, %d\n", done.Load(), reads.Load(), zeros[0].Load(), zeros[1].Load())
	for k := range c.mounts {
		c.size(c.p(k, "f"), size)
		eq(c, c.get(c.p(k, "f")), string(full), "content on node %d afterwards", k)
	}
}
