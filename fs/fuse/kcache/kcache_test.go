package kcache

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// TestWireSizes: what goes to the kernel has the sizes of uapi/linux/fuse.h.
func TestWireSizes(t *testing.T) {
	for _, c := range []struct {
		what      string
		got, want uintptr
	}{
		{"fuse_out_header", unsafe.Sizeof(outHeader{}), 16},
		{"fuse_notify_inval_inode_out", unsafe.Sizeof(invalInode{}), 16 + 24},
		{"fuse_notify_inval_entry_out", unsafe.Sizeof(invalEntry{}), 16 + 16},
		{"fuse_notify_store_out", unsafe.Sizeof(store{}), 16 + 24},
		{"fuse_notify_prune_out", unsafe.Sizeof(prune{}), 16 + 16},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.what, c.got, c.want)
		}
	}
}

func TestPageExtent(t *testing.T) {
	for _, c := range []struct {
		off  uint64
		size uint32
		want extent
	}{
		{0, 1, extent{0, 4096}},
		{4095, 2, extent{0, 8192}},
		{4096, 4096, extent{4096, 8192}},
		{5000, 0, extent{4096, 8192}},
		{1<<64 - 2, 100, extent{(1<<64 - 2) &^ 4095, wholeFile.end}},
	} {
		if got := pageExtent(c.off, uint64(c.size)); got != c.want {
			t.Errorf("pageExtent(%d, %d) = %v, want %v", c.off, c.size, got, c.want)
		}
	}
}

// TestGiven: nothing that was given out is forgotten, however much it is.
func TestGiven(t *testing.T) {
	for seed := range int64(200) {
		rng := rand.New(rand.NewSource(seed))
		var g given
		var all []extent
		for range rng.Intn(20) {
			x := pageExtent(uint64(rng.Intn(1<<20)), uint64(1+rng.Intn(20000)))
			g.add(x)
			all = append(all, x)
		}
		for _, x := range all {
			if !covered(g.pages(), x) || !g.overlaps(x) {
				t.Fatalf("seed %d: %v is not in %v", seed, x, g.pages())
			}
		}
	}
}

// covered tells whether xs contain all of x.
func covered(xs []extent, x extent) bool {
	for p := x.off; p < x.end; p += pageSize {
		in := false
		for _, y := range xs {
			in = in || y.off <= p && p < y.end
		}
		if !in {
			return false
		}
	}
	return true
}

// TestCutAround: pages that no request keeps locked stay in the work, and
// repeated cutting isolates the locked page of a WRITE.
func TestCutAround(t *testing.T) {
	for seed := range int64(300) {
		rng := rand.New(rand.NewSource(seed))
		page := func() extent { return pageExtent(uint64(rng.Intn(60))*pageSize, uint64(1+rng.Intn(9*pageSize))) }
		var reads, writes []extent
		for range rng.Intn(3) {
			reads = append(reads, page())
		}
		for range rng.Intn(3) {
			writes = append(writes, page())
		}
		isLocked := map[uint64]bool{}
		for _, r := range reads {
			for p := r.off; p < r.end; p += pageSize {
				isLocked[p] = true
			}
		}
		for _, w := range writes {
			isLocked[w.end-pageSize] = true
		}
		work, dropped := []extent{{0, 70 * pageSize}}, map[uint64]bool{}
		for step := 0; len(work) != 0; step++ {
			if step > 2000 {
				t.Fatalf("seed %d: no end", seed)
			}
			x := work[0]
			work = work[1:]
			stuck := false
			for p := x.off; p < x.end && !stuck; p += pageSize {
				if stuck = isLocked[p]; !stuck {
					dropped[p] = true
				}
			}
			if stuck {
				rest, cut := cutAround(x, reads, writes)
				if !cut {
					t.Fatalf("seed %d: %v is stuck and cannot be cut", seed, x)
				}
				work = append(work, rest...)
			}
		}
		for p := uint64(0); p < 70*pageSize; p += pageSize {
			if !dropped[p] && !isLocked[p] {
				t.Fatalf("seed %d: page %d was left out (reads %v, writes %v)", seed, p/pageSize, reads, writes)
			}
		}
	}
}

// TestMaybeLocked: a READ proves that a WRITE does not keep its page locked.
func TestMaybeLocked(t *testing.T) {
	i := NewInode(5, 1, false)
	w := i.Begin(Write, 100, 3*pageSize)
	r := i.Begin(Read, pageSize, pageSize)
	reads, writes, _ := i.locked()
	if want := []extent{{0, pageSize}, {2 * pageSize, 4 * pageSize}}; !reflect.DeepEqual(writes, want) || len(reads) != 1 {
		t.Errorf("writes may lock %v, want %v; reads %v", writes, want, reads)
	}
	if !r.Covered(false) {
		t.Error("READ must start over without a mapper")
	}
	if reads, _, _ = i.locked(); len(reads) != 0 {
		t.Errorf("a READ that has its lock counts as waiting: %v", reads)
	}
	r.EndRead(pageSize)
	w.End()
	if i.ops != nil {
		t.Error("requests left")
	}
}

// TestMapper: while a handle is O_RDWR, READ needs EX, also one that has
// asked already.
func TestMapper(t *testing.T) {
	e := newEngine(-1, t.Logf)
	i := NewInode(5, 1, false)
	r := i.Begin(Read, 0, 10)
	if i.ReadNeedsEX() {
		t.Error("EX without a mapper")
	}
	if f := e.Open(i, syscall.O_RDWR); f&fuse.FOPEN_DIRECT_IO != 0 {
		t.Errorf("open flags %#x", f)
	}
	if !i.ReadNeedsEX() || r.Covered(false) || !r.Covered(true) {
		t.Error("PR is enough though pages can be dirtied")
	}
	r.End()
	i.Release(syscall.O_RDWR)
	if i.ReadNeedsEX() {
		t.Error("EX after the last mapper")
	}
	if f := e.Open(i, syscall.O_WRONLY|syscall.O_APPEND); f&fuse.FOPEN_DIRECT_IO == 0 || i.ReadNeedsEX() {
		t.Errorf("append: flags %#x", f)
	}
	if f := e.Open(i, syscall.O_RDONLY|syscall.O_APPEND); f&fuse.FOPEN_DIRECT_IO != 0 || f&fuse.FOPEN_NOFLUSH == 0 {
		t.Errorf("read only: flags %#x", f)
	}
}

// TestNames: what is counted, what is remembered, and how much.
func TestNames(t *testing.T) {
	e := newEngine(-1, t.Logf)
	e.Features.Epoch = true
	root, f := NewInode(fuse.FUSE_ROOT_ID, 0, true), NewInode(77, 3, false)
	var out fuse.EntryOut
	for k := range maxNegatives + 5 {
		out = fuse.EntryOut{}
		st := e.Negative(&out, root, fmt.Sprint(k))
		if remembered := st == fuse.OK && out.EntryValid != 0 && out.NodeId == 0; remembered != (k < maxNegatives) {
			t.Fatalf("missing name %d: status %v, validity %d", k, st, out.EntryValid)
		}
	}
	e.Entry(&out, root, "3", f, 0)
	if out.NodeId != 77 || out.Generation != 3 || out.EntryValid == 0 || out.AttrValid == 0 || !f.Known() {
		t.Errorf("entry %+v", out)
	}
	out = fuse.EntryOut{}
	e.Entry(&out, root, "x", f, Created|NameUncached)
	if out.EntryValid != 0 || out.AttrValid != 0 {
		t.Errorf("uncached entry %+v", out)
	}
	if f.Path() != "/3" || len(root.absent) != maxNegatives-1 || len(f.links) != 2 {
		t.Errorf("path %q, %d missing names, links %v", f.Path(), len(root.absent), f.links)
	}
	e.Renamed(root, "3", root, "7", f)
	e.Removed(root, "x", f)
	if f.Path() != "/7" || len(f.links) != 1 {
		t.Errorf("path %q, links %v", f.Path(), f.links)
	}
	if f.Forget(1) || !f.Forget(1) || f.Known() || !root.Known() {
		t.Error("forget")
	}
	e.mountBelow.Store(true)
	out = fuse.EntryOut{}
	if e.Entry(&out, root, "3", f, 0); out.EntryValid != 0 || e.Negative(&out, root, "q") != fuse.ENOENT {
		t.Error("names are given out though something is mounted inside")
	}
}

func TestMountinfo(t *testing.T) {
	const text = "22 27 0:21 / /proc rw,relatime - proc proc rw\n" +
		"44 27 0:40 / /mnt/a\\040b rw - fuse.x y rw\n45 44 0:41 / /mnt/a\\040b/c rw - tmpfs t rw\nshort\n"
	all := parseMountinfo([]byte(text))
	want := []mountEntry{{"0:21", "/proc"}, {"0:40", "/mnt/a b"}, {"0:41", "/mnt/a b/c"}}
	if !reflect.DeepEqual(all, want) {
		t.Errorf("got %q", all)
	}
	for dir, yes := range map[string]bool{"/mnt/a b": true, "/mnt/a b/c": false, "/mnt/a": false, "/": true} {
		if below(all, dir) != yes {
			t.Errorf("below(%q) = %v", dir, !yes)
		}
	}
}

func FuzzMountinfo(f *testing.F) {
	f.Add([]byte("44 27 0:40 / /a\\04 rw\n"))
	f.Add([]byte("1 2 3 4 \\\n\\777 b c d e"))
	f.Fuzz(func(t *testing.T, b []byte) { below(parseMountinfo(b), "/a") })
}

func TestKillPending(t *testing.T) {
	for text, want := range map[string]bool{
		"Name:\tx\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n": false,
		"SigPnd:\t0000000000000100\n":                                      true,
		"ShdPnd:\t0000000000000100\n":                                      true,
		"SigPnd:\t0000000000400000\nSigBlk:\t0000000000000100\n":           false,
		"":               false,
		"SigPnd:\tzzz\n": false,
	} {
		if got := killPending([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if dying(uint32(os.Getpid())) {
		t.Error("this process is dying")
	}
}

// TestContext: any signal ends a lock request, only a deadly one the others.
func TestContext(t *testing.T) {
	ch := make(chan struct{})
	some, any := Context(ch, uint32(os.Getpid()), false), Context(ch, uint32(os.Getpid()), true)
	if some.Err() != nil || any.Err() != nil {
		t.Error("over before any signal")
	}
	close(ch)
	<-some.Done()
	if some.Err() != nil || any.Err() == nil {
		t.Errorf("after a signal: %v, %v", some.Err(), any.Err())
	}
	if Context(ch, 1<<30, false).Err() == nil {
		t.Error("a thread that does not exist goes on waiting")
	}
}

// emptyFS has a root and nothing in it.
type emptyFS struct {
	fuse.RawFileSystem
	e    *Engine
	root *Inode
}

func (f *emptyFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Attr = fuse.Attr{Ino: 5, Mode: syscall.S_IFDIR | 0o755, Nlink: 2}
	f.e.Attr(out, f.root)
	return fuse.OK
}

func (f *emptyFS) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	return f.e.Negative(out, f.root, name)
}

// TestMount mounts both ways, and takes the mount away in use and not.
func TestMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, helper := range []bool{false, true} {
		t.Run(fmt.Sprintf("fusermount=%v", helper), func(t *testing.T) {
			dir := t.TempDir()
			m, err := newMount(MountConfig{Dir: dir, Source: "a,b", Subtype: "kc", Logf: t.Logf}, func(e *Engine) fuse.RawFileSystem {
				return &emptyFS{fuse.NewDefaultRawFileSystem(), e, NewInode(fuse.FUSE_ROOT_ID, 0, true)}
			}, helper)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() { m.Serve(); close(done) }()
			// Another process looks: the server must not.
			out, err := exec.Command("stat", "-c", "%i %F", dir).CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != "5 directory" {
				t.Errorf("stat: %s %v", out, err)
			}
			for range 3 {
				if err := exec.Command("stat", dir+"/nothing").Run(); err == nil {
					t.Error("a file in an empty tree")
				}
			}
			s := m.Status()
			if s.ByKind["lookup"] != 1 || !s.NamesCached || s.FuseRequests < 2 {
				t.Errorf("a missing name was not cached: %+v", s)
			}
			user := exec.Command("sleep", "100")
			user.Dir = dir
			if err := user.Start(); err != nil {
				t.Fatal(err)
			}
			if err := m.Unmount(false); !errors.Is(err, ErrBusy) {
				t.Errorf("unmount in use: %v", err)
			}
			if err := m.Unmount(true); err != nil {
				t.Errorf("forced: %v", err)
			}
			_ = user.Process.Kill()
			_ = user.Wait()
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				t.Error("the server did not end")
			}
			if err := m.n.epoch(); !errors.Is(err, errClosed) {
				t.Errorf("notify after the end: %v", err)
			}
		})
	}
}

// TestMountErrors: what is wrong is said.
func TestMountErrors(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	file := t.TempDir() + "/f"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, file + "x"} {
		for _, helper := range []bool{false, true} {
			if _, err := newMount(MountConfig{Dir: dir}, nil, helper); err == nil || !strings.Contains(err.Error(), dir) {
				t.Errorf("mount on %s: %v", dir, err)
			}
		}
	}
}
