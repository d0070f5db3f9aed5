package posix

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var _ = register(map[string]check{
	"read-write": readWrite, "append": appends, "holes": holes, "fallocate": fallocates, "truncate": truncates, "mmap": mmaps,
	"direct": directs, "copy": copies, "fsync": fsyncs, "concurrent-append": concurrentAppend, "statfs": statfses,
})

func create(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// pattern is n bytes that tell where they belong.
func pattern(n int) []byte {
	p := make([]byte, n)
	for k := range p {
		p[k] = byte(k>>8 ^ k*7)
	}
	return p
}

func writeAt(t *testing.T, f *os.File, p []byte, off int64) {
	t.Helper()
	if _, err := f.WriteAt(p, off); err != nil {
		t.Fatalf("write %d bytes at %d: %v", len(p), off, err)
	}
}

// holds compares a file's whole content.
func holds(t *testing.T, what string, f *os.File, content []byte) {
	t.Helper()
	got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err != nil || !bytes.Equal(got, content) {
		at := 0
		for at < min(len(got), len(content)) && got[at] == content[at] {
			at++
		}
		t.Errorf("%s: %d bytes, want %d, %v; they differ at %d", what, len(got), len(content), err, at)
	}
}

func readWrite(t *testing.T, dir string) {
	f := create(t, dir+"/f")
	model := pattern(300000)
	writeAt(t, f, model, 0)
	for k, off := range []int{0, 1, 511, 512, 4095, 4096, 65535, 65537, 131072, 299000} {
		p := bytes.Repeat([]byte{byte(k + 1)}, 1000-k)
		writeAt(t, f, p, int64(off))
		copy(model[off:], p)
		if off+len(p) > 300000 {
			t.Fatal("the test writes too far")
		}
	}
	holds(t, "after overwriting", f, model)
	p := make([]byte, 100)
	if n, err := f.ReadAt(p, 299950); n != 50 || err != io.EOF {
		t.Errorf("read across the end: %d, %v", n, err)
	}
	if n, err := f.ReadAt(p, 1<<40); n != 0 || err != io.EOF {
		t.Errorf("read behind the end: %d, %v", n, err)
	}
	_, err := unix.Pread(int(f.Fd()), p, -1)
	want(t, "read before the beginning", err, unix.EINVAL)
	r, err := os.Open(dir + "/f")
	want(t, "open", err, 0)
	defer r.Close()
	_, err = r.Write(p)
	want(t, "write without permission", err, unix.EBADF)
	before := stat(t, dir+"/f")
	time.Sleep(20 * time.Millisecond)
	writeAt(t, f, p, 0)
	if after := stat(t, dir+"/f"); after.Mtim == before.Mtim || after.Ctim == before.Ctim {
		t.Error("a write left the times alone")
	}
}

func appends(t *testing.T, dir string) {
	put(t, dir+"/f", "one")
	f, err := os.OpenFile(dir+"/f", os.O_RDWR|os.O_APPEND, 0)
	want(t, "open", err, 0)
	defer f.Close()
	_, err = f.Seek(0, io.SeekStart)
	want(t, "seek", err, 0)
	_, err = f.WriteString("two")
	want(t, "write", err, 0)
	other, err := os.OpenFile(dir+"/f", os.O_WRONLY|os.O_APPEND, 0)
	want(t, "open", err, 0)
	defer other.Close()
	_, err = other.WriteString("three")
	want(t, "write", err, 0)
	_, err = f.WriteString("four")
	want(t, "write", err, 0)
	expect(t, dir+"/f", "onetwothreefour")
}

// concurrentAppend: no record of several writers is lost or torn.
func concurrentAppend(t *testing.T, dir string) {
	const writers, records = 4, 100
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			f, err := os.OpenFile(dir+"/log", os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for n := range records {
				if _, err := fmt.Fprintf(f, "writer %d record %06d %s\n", w, n, bytes.Repeat([]byte("."), 200)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	all, err := os.ReadFile(dir + "/log")
	want(t, "read", err, 0)
	next := [writers]int{}
	for line := range bytes.Lines(all) {
		var w, n int
		if _, err := fmt.Sscanf(string(line), "writer %d record %d", &w, &n); err != nil || len(line) != 224 || n != next[w] {
			t.Fatalf("line of %d bytes: %q, %v", len(line), line, err)
		}
		next[w]++
	}
	for w, n := range next {
		if n != records {
			t.Errorf("writer %d: %d records", w, n)
		}
	}
}

func holes(t *testing.T, dir string) {
	f := create(t, dir+"/f")
	const far = 40 << 20
	writeAt(t, f, []byte("end"), far)
	p := make([]byte, 1<<16)
	if n, err := f.ReadAt(p, 1<<20); n != len(p) || err != nil || !bytes.Equal(p, make([]byte, len(p))) {
		t.Errorf("a hole reads %d, %v", n, err)
	}
	if st := stat(t, dir+"/f"); st.Blocks*512 > 1<<20 {
		t.Errorf("a file with 3 bytes has %d blocks", st.Blocks)
	}
	fd := int(f.Fd())
	if off, err := unix.Seek(fd, 0, unix.SEEK_DATA); err != nil || off > far || off < far-(1<<16) {
		t.Errorf("data begins at %d, %v", off, err)
	}
	if off, err := unix.Seek(fd, 0, unix.SEEK_HOLE); err != nil || off != 0 {
		t.Errorf("the hole begins at %d, %v", off, err)
	}
	if off, err := unix.Seek(fd, far, unix.SEEK_HOLE); err != nil || off != far+3 {
		t.Errorf("the hole behind the end begins at %d, %v", off, err)
	}
	_, err := unix.Seek(fd, far+3, unix.SEEK_DATA)
	want(t, "SEEK_DATA at the end", err, unix.ENXIO)
}

func fallocates(t *testing.T, dir string) {
	f := create(t, dir+"/f")
	fd := int(f.Fd())
	model := pattern(400000)
	writeAt(t, f, model, 0)
	const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	want(t, "punch", unix.Fallocate(fd, punch, 70001, 150000), 0)
	clear(model[70001:220001])
	holds(t, "after a punch", f, model)
	before := stat(t, dir+"/f").Blocks
	if before*512 > 400000 {
		t.Errorf("%d blocks after a punch", before)
	}
	want(t, "allocate the hole", unix.Fallocate(fd, 0, 0, 400000), 0)
	holds(t, "after allocating", f, model)
	if after := stat(t, dir+"/f").Blocks; after <= before {
		t.Errorf("%d blocks, %d before allocating", after, before)
	}
	want(t, "allocate behind the end", unix.Fallocate(fd, 0, 400000, 100000), 0)
	model = append(model, make([]byte, 100000)...)
	holds(t, "after growing", f, model)
	if err := unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, 1000, 20000); err != unix.EOPNOTSUPP || !onTmpfs(t, dir) {
		want(t, "zero", err, 0)
		clear(model[1000:21000])
		holds(t, "after zeroing", f, model)
	}
	want(t, "punch without KEEP_SIZE", unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE, 0, 10), unix.EOPNOTSUPP)
	want(t, "no length", unix.Fallocate(fd, 0, 0, 0), unix.EINVAL)
	want(t, "punch behind the end", unix.Fallocate(fd, punch, 1<<30, 4096), 0)
	holds(t, "in the end", f, model)
}

func truncates(t *testing.T, dir string) {
	f := create(t, dir+"/f")
	model := pattern(100000)
	writeAt(t, f, model, 0)
	for _, size := range []int{99999, 50000, 4097, 4096, 100, 0, 10, 200000, 70001, 300000} {
		want(t, fmt.Sprintf("truncate to %d", size), f.Truncate(int64(size)), 0)
		if size <= len(model) {
			model = model[:size]
		} else {
			model = append(append([]byte(nil), model...), make([]byte, size-len(model))...)
		}
		holds(t, fmt.Sprintf("size %d", size), f, model)
		if size >= 100 {
			writeAt(t, f, []byte("mark"), int64(size-50))
			copy(model[size-50:], "mark")
		}
	}
	want(t, "below nothing", unix.Ftruncate(int(f.Fd()), -1), unix.EINVAL)
	want(t, "of a folder", unix.Truncate(dir, 0), unix.EISDIR)
}

func mmaps(t *testing.T, dir string) {
	f := create(t, dir+"/f")
	model := pattern(20000)
	writeAt(t, f, model, 0)
	fd := int(f.Fd())
	shared, err := unix.Mmap(fd, 0, 20000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	want(t, "shared mmap", err, 0)
	if err != nil {
		return
	}
	private, err := unix.Mmap(fd, 0, 20000, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	want(t, "private mmap", err, 0)
	if err != nil {
		return
	}
	copy(private[100:], "only here")
	copy(shared[5000:], "for all")
	copy(model[5000:], "for all")
	holds(t, "read after a store", f, model)
	writeAt(t, f, []byte("written"), 9000)
	copy(model[9000:], "written")
	if !bytes.Equal(shared, model) {
		t.Error("the mapping does not show what was written")
	}
	want(t, "msync", unix.Msync(shared, unix.MS_SYNC), 0)
	if !bytes.Equal(private[100:109], []byte("only here")) {
		t.Error("the private mapping lost its store")
	}
	want(t, "munmap", unix.Munmap(private), 0)
	copy(shared[19990:], "last bytes")
	copy(model[19990:], "last bytes")
	want(t, "munmap", unix.Munmap(shared), 0)
	holds(t, "after munmap", f, model)
}

func directs(t *testing.T, dir string) {
	fd, err := unix.Open(dir+"/f", unix.O_RDWR|unix.O_CREAT|unix.O_DIRECT, 0o644)
	if err == unix.EINVAL && onTmpfs(t, dir) {
		return // Linux before 6.6
	}
	want(t, "open O_DIRECT", err, 0)
	defer unix.Close(fd)
	buf, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	want(t, "memory", err, 0)
	defer func() { _ = unix.Munmap(buf) }()
	model := pattern(1 << 16)
	copy(buf, model)
	_, err = unix.Pwrite(fd, buf, 0)
	want(t, "direct write", err, 0)
	f, err := os.Open(dir + "/f")
	want(t, "open", err, 0)
	defer f.Close()
	holds(t, "buffered read of a direct write", f, model)
	put(t, dir+"/g", string(model))
	clear(buf)
	if n, err := unix.Pread(fd, buf[:8192], 4096); n != 8192 || err != nil || !bytes.Equal(buf[:8192], model[4096:4096+8192]) {
		t.Errorf("direct read: %d, %v", n, err)
	}
}

func copies(t *testing.T, dir string) {
	f, g, h := create(t, dir+"/f"), create(t, dir+"/g"), create(t, dir+"/h")
	model := pattern(200000)
	writeAt(t, f, model, 0)
	var from, to int64 = 1000, 0
	for to < 199000 {
		n, err := unix.CopyFileRange(int(f.Fd()), &from, int(g.Fd()), &to, 199000-int(to), 0)
		if n == 0 || err != nil {
			t.Fatalf("copy_file_range at %d: %d, %v", to, n, err)
		}
	}
	holds(t, "copy_file_range", g, model[1000:])
	var off int64
	for off < 200000 {
		n, err := unix.Sendfile(int(h.Fd()), int(f.Fd()), &off, 200000)
		if n == 0 || err != nil {
			t.Fatalf("sendfile at %d: %d, %v", off, n, err)
		}
	}
	holds(t, "sendfile", h, model)
}

func fsyncs(t *testing.T, dir string) {
	f := create(t, dir+"/f")
	writeAt(t, f, pattern(5000), 0)
	want(t, "fsync", unix.Fsync(int(f.Fd())), 0)
	writeAt(t, f, pattern(5000), 5000)
	want(t, "fdatasync", unix.Fdatasync(int(f.Fd())), 0)
	want(t, "syncfs", unix.Syncfs(int(f.Fd())), 0)
	d, err := os.Open(dir)
	want(t, "open", err, 0)
	defer d.Close()
	want(t, "fsync of a folder", unix.Fsync(int(d.Fd())), 0)
}

// statfses leaves out how much a file takes: OCFS2 takes space from the bitmap
// in windows, and gives that of deleted files back in the background.
func statfses(t *testing.T, dir string) {
	var before unix.Statfs_t
	want(t, "statfs", unix.Statfs(dir, &before), 0)
	if before.Namelen != 255 || before.Bfree > before.Blocks || before.Bavail > before.Bfree || before.Bsize <= 0 {
		t.Errorf("statfs: %+v", before)
	}
}

// onTmpfs tells whether the suite checks itself on a tmpfs of the host, which
// lacks some of what the volume must do.
func onTmpfs(t *testing.T, dir string) bool {
	t.Helper()
	var s unix.Statfs_t
	want(t, "statfs", unix.Statfs(dir, &s), 0)
	return s.Type == unix.TMPFS_MAGIC
}
