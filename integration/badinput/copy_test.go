package badinput

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCopyFileRange: copy_file_range was not served, and the kernel moved the data
// through its page cache instead. It copies what is there, dirty pages of a mapping
// included, and stays right beside pages that are cached.
func TestCopyFileRange(t *testing.T) {
	b := newBench(t)
	img, mnt := b.volume("v.img", 100<<20, "-M", "local"), b.mkdir("mnt")
	b.mount(img, mnt)
	open := func(name string) *os.File {
		f, err := os.OpenFile(filepath.Join(mnt, name), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	from, to := open("from"), open("to")
	model := make([]byte, 5<<20+777)
	for i := range model {
		model[i] = byte(i * 7 >> 3)
	}
	for _, f := range []*os.File{from, to} {
		if _, err := f.WriteAt(model[:1<<20], 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := from.WriteAt(model, 0); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(to.Name()) // its pages are cached now
	if err != nil {
		t.Fatal(err)
	}
	mapped, err := unix.Mmap(int(from.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	copy(mapped[5000:], "dirty")
	copy(model[5000:], "dirty")
	copied := func(n int, offIn, offOut int64) {
		t.Helper()
		for n > 0 {
			k, err := unix.CopyFileRange(int(from.Fd()), &offIn, int(to.Fd()), &offOut, n, 0)
			if err != nil || k == 0 {
				t.Fatalf("copy of %d bytes at %d to %d: %d, %v", n, offIn, offOut, k, err)
			}
			n -= k
		}
	}
	want := append(make([]byte, 0, 6<<20), old...)
	put := func(p []byte, at int) {
		want = append(want, make([]byte, max(0, at+len(p)-len(want)))...)
		copy(want[at:], p)
	}
	copied(3000, 4500, 100)
	put(model[4500:7500], 100)
	copied(len(model)-10, 10, 12345)
	put(model[10:], 12345)
	if got, err := os.ReadFile(to.Name()); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy differs: %d bytes, want %d, %v", len(got), len(want), err)
	}
	if err := unix.Munmap(mapped); err != nil {
		t.Error(err)
	}
	end, at := int64(len(model)), int64(0)
	if k, err := unix.CopyFileRange(int(from.Fd()), &end, int(to.Fd()), &at, 100, 0); k != 0 || err != nil {
		t.Errorf("copy behind the end: %d, %v", k, err)
	}
	end, at = 0, 1<<44
	if _, err := unix.CopyFileRange(int(from.Fd()), &end, int(to.Fd()), &at, 100, 0); !errors.Is(err, unix.EFBIG) {
		t.Errorf("copy to behind the largest file: %v, want EFBIG", err)
	}
	self, into := int64(0), int64(2<<20)
	if k, err := unix.CopyFileRange(int(from.Fd()), &self, int(from.Fd()), &into, 1<<20, 0); k == 0 || err != nil {
		t.Errorf("copy inside a file: %d, %v", k, err)
	} else {
		copy(model[2<<20:], model[:k])
	}
	if got, err := os.ReadFile(from.Name()); err != nil || !bytes.Equal(got, model) {
		t.Errorf("the source differs: %v", err)
	}
	var status struct {
		Requests map[string]uint64 `json:"fuse_requests_by_kind"`
	}
	code, out := b.ocfuse("status", "--json", mnt)
	if err := json.Unmarshal([]byte(out), &status); code != 0 || err != nil || status.Requests["copyfilerange"] < 3 {
		t.Errorf("copy_file_range requests: %v, %v", status.Requests, err)
	}
	from.Close()
	to.Close()
	b.must("umount", mnt)
	b.fsck(img)
}
