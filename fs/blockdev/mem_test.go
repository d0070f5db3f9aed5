package blockdev

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The crash tests speak a small language. A script is a list of operations on
// sectors: "w 0-3 A" writes letter A to sectors 0..3, "fua", "zero" and "flush"
// likewise. An image is shown as one letter per sector, '.' for zeros.

func script(t *testing.T, d Device, text string) {
	t.Helper()
	for _, line := range strings.Split(text, ";") {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if f[0] == "flush" {
			if err := d.Flush(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		lo, hi, _ := strings.Cut(f[1], "-")
		if hi == "" {
			hi = lo
		}
		a, err1 := strconv.Atoi(lo)
		b, err2 := strconv.Atoi(hi)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		off, n := int64(a)*SectorSize, (b-a+1)*SectorSize
		var err error
		switch f[0] {
		case "w":
			_, err = d.WriteAt(bytes.Repeat([]byte(f[2]), n), off)
		case "fua":
			err = d.WriteFUA(bytes.Repeat([]byte(f[2]), n), off)
		case "zero":
			err = ZeroRange(d, off, int64(n))
		default:
			t.Fatalf("unknown operation %q", f[0])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// show prints the first n sectors; a torn sector would show as '?'.
func show(t *testing.T, d Device, n int) string {
	t.Helper()
	b := make([]byte, n*SectorSize)
	if _, err := d.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	var s strings.Builder
	for i := range n {
		c := b[i*SectorSize]
		if !bytes.Equal(b[i*SectorSize:(i+1)*SectorSize], bytes.Repeat([]byte{c}, SectorSize)) {
			c = '?'
		} else if c == 0 {
			c = '.'
		}
		s.WriteByte(c)
	}
	return s.String()
}

func TestCrashTable(t *testing.T) {
	for _, c := range []struct{ name, script, keep, drop string }{
		{"nothing", "", "........", "........"},
		{"not flushed", "w 0-3 A", "AAAA....", "........"},
		{"flushed", "w 0-3 A; flush", "AAAA....", "AAAA...."},
		{"flush covers only what was before", "w 0 A; flush; w 1 B", "AB......", "A......."},
		{"fua alone", "w 0-1 A; fua 4 B", "AA..B...", "....B..."},
		{"fua over an older write", "w 0-3 A; fua 1 B", "ABAA....", ".B......"},
		{"older fua under a write", "fua 0-3 A; w 1 B", "ABAA....", "AAAA...."},
		{"zero is a write", "w 0-3 A; flush; zero 1-2", "A..A....", "AAAA...."},
		{"zero of durable", "w 0-3 A; flush; zero 1-2; flush", "A..A....", "A..A...."},
		{"overwrite", "w 0-7 A; flush; w 2-3 B; w 3-4 C; flush; w 0 D", "DABCCAAA", "AABCCAAA"},
		{"zero over nothing", "zero 0-7; flush", "........", "........"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := NewMem(1<<20, MemOptions{Record: true})
			script(t, m, c.script)
			live := show(t, m, 8)
			for _, k := range []struct {
				mode CrashMode
				want string
			}{{KeepAll, c.keep}, {DropAll, c.drop}} {
				if got := show(t, m.Crash(Crash{Mode: k.mode}), 8); got != k.want {
					t.Errorf("Crash mode %d: %s, want %s", k.mode, got, k.want)
				}
				at, err := m.CloneAt(m.Log().Len(), Crash{Mode: k.mode})
				if err != nil {
					t.Fatal(err)
				}
				if got := show(t, at, 8); got != k.want {
					t.Errorf("CloneAt mode %d: %s, want %s", k.mode, got, k.want)
				}
			}
			if m.Durable() != (c.keep == c.drop) {
				t.Errorf("Durable() is %v", m.Durable())
			}
			if got := show(t, m, 8); got != live {
				t.Errorf("the device changed: %s, was %s", got, live)
			}
		})
	}
}

func TestCloneAtEveryCut(t *testing.T) {
	m := NewMem(1<<20, MemOptions{Record: true})
	script(t, m, "w 0-1 A; w 2 B; flush; fua 3 C; w 0 D; flush; zero 1")
	for n, want := range []struct{ keep, drop string }{
		{"....", "...."}, {"AA..", "...."}, {"AAB.", "...."}, {"AAB.", "AAB."},
		{"AABC", "AABC"}, {"DABC", "AABC"}, {"DABC", "DABC"}, {"D.BC", "DABC"},
	} {
		for _, k := range []struct {
			mode CrashMode
			want string
		}{{KeepAll, want.keep}, {DropAll, want.drop}} {
			c, err := m.CloneAt(n, Crash{Mode: k.mode})
			if err != nil {
				t.Fatal(err)
			}
			if got := show(t, c, 4); got != k.want {
				t.Errorf("cut %d mode %d: %s, want %s", n, k.mode, got, k.want)
			}
		}
	}
	for _, n := range []int{-1, 8} {
		if _, err := m.CloneAt(n, Crash{}); err == nil {
			t.Errorf("cut %d accepted", n)
		}
	}
	if _, err := NewMem(4096, MemOptions{}).CloneAt(0, Crash{}); err == nil {
		t.Error("CloneAt without a log")
	}
}

// TestCrashOutcomes collects what the modes that choose can do over many seeds:
// exactly the possible outcomes, each seed always the same, and no torn sector.
func TestCrashOutcomes(t *testing.T) {
	for _, c := range []struct {
		name, script string
		mode         CrashMode
		want         int // number of different images
	}{
		{"tear last of two", "w 0 A; w 1-3 B", TearLast, 8},
		{"tear last is the zeroing", "w 0-3 A; zero 1-2", TearLast, 4},
		{"random over three sectors", "w 0 A; w 1 B; w 2 C", Random, 8},
		{"random over a durable base", "w 0-3 A; flush; w 1 B; w 1 C", Random, 3},
		{"durable is never torn", "w 0-3 A; flush", Random, 1},
		{"fua is never torn", "fua 0-3 A", TearLast, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := NewMem(1<<20, MemOptions{Record: true})
			script(t, m, c.script)
			seen := map[string]int{}
			for seed := range uint64(300) {
				cr := Crash{Mode: c.mode, Seed: seed}
				got := show(t, m.Crash(cr), 4)
				if strings.Contains(got, "?") {
					t.Fatalf("seed %d tore inside a sector: %s", seed, got)
				}
				at, err := m.CloneAt(m.Log().Len(), cr)
				if err != nil {
					t.Fatal(err)
				}
				if again := show(t, m.Crash(cr), 4); again != got {
					t.Fatalf("seed %d gave %s, then %s", seed, got, again)
				}
				seen[got]++
				seen[show(t, at, 4)]++
			}
			if len(seen) != c.want {
				t.Errorf("%d outcomes, want %d: %v", len(seen), c.want, seen)
			}
		})
	}
}

// TestRecorderInFlight: a flush covers only writes that were done before it began.
func TestRecorderInFlight(t *testing.T) {
	base := NewMem(1<<20, MemOptions{})
	l := new(Log)
	sector := func(c byte) []byte { return bytes.Repeat([]byte{c}, SectorSize) }
	a := l.begin(OpWrite, 0, SectorSize, sector('A'))
	l.end(a)
	b := l.begin(OpWrite, SectorSize, SectorSize, sector('B')) // still running when the flush begins
	f := l.begin(OpFlush, 0, 0, nil)
	l.end(b)
	l.end(f)
	l.end(l.begin(OpWrite, 2*SectorSize, SectorSize, sector('C')))
	m, err := l.ImageAt(base, l.Len(), Crash{Mode: DropAll})
	if err != nil {
		t.Fatal(err)
	}
	if got := show(t, m, 4); got != "A..." {
		t.Errorf("got %s, want A...: B was not covered by the flush", got)
	}
}

func TestRecorderReplaysFile(t *testing.T) {
	d := open(t, newFile(t, 1<<20), Options{})
	script(t, d, "w 0-7 Z; flush")
	base, err := LoadMem(d)
	if err != nil {
		t.Fatal(err)
	}
	r := NewRecorder(d)
	script(t, r, "w 0-1 A; w 2 B; flush; fua 3 C; zero 0")
	last, err := r.Log().ImageAt(base, r.Log().Len(), Crash{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := show(t, last, 8), show(t, d, 8); got != want || want != ".ABCZZZZ" {
		t.Errorf("replay %s, device %s", got, want)
	}
	cut, err := r.Log().ImageAt(base, 2, Crash{Mode: DropAll})
	if err != nil {
		t.Fatal(err)
	}
	if got := show(t, cut, 8); got != "ZZZZZZZZ" {
		t.Errorf("cut before the flush: %s", got)
	}
	if _, err := r.WriteAt(make([]byte, 512), r.Size()); !errors.Is(err, ErrRange) || r.Log().Len() != 5 {
		t.Errorf("a refused write was logged: %v, %d", err, r.Log().Len())
	}
}

// TestMemModel compares Mem, its clones and its crashes with flat arrays, over
// random operations that begin anywhere and cross pages.
func TestMemModel(t *testing.T) {
	const size = 64 << 10
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		m := NewMem(size, MemOptions{Record: seed%2 == 0})
		live, durable := make([]byte, size), make([]byte, size)
		same := func(what string, d *Mem, want []byte) {
			t.Helper()
			got := make([]byte, size)
			if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("seed %d: %s differs (%v)", seed, what, err)
			}
		}
		for i := range 300 {
			n := 512 * (1 + rng.IntN(40))
			off := 512 * rng.IntN((size-n)/512+1)
			switch rng.IntN(8) {
			case 0:
				if err := m.Flush(); err != nil {
					t.Fatal(err)
				}
				copy(durable, live)
			case 1:
				if err := m.ZeroRange(int64(off), int64(n)); err != nil {
					t.Fatal(err)
				}
				clear(live[off : off+n])
			case 2:
				c := m.Clone()
				same("clone", c, live)
				if _, err := c.WriteAt(fill(n, 99, true), int64(off)); err != nil {
					t.Fatal(err)
				}
				same("original of a changed clone", m, live)
			case 3:
				same("crash", m.Crash(Crash{Mode: DropAll}), durable)
				same("crash keeping all", m.Crash(Crash{Mode: KeepAll}), live)
			default:
				p := fill(n, seed*1000+uint64(i), true)
				if _, err := m.WriteAt(p, int64(off)); err != nil {
					t.Fatal(err)
				}
				copy(live[off:], p)
			}
			same("device", m, live)
		}
	}
}

func TestFaults(t *testing.T) {
	boom := errors.New("medium error")
	for _, c := range []struct {
		fault FaultFunc
		want  string // one letter per write of 6: '-' failed
	}{
		{FailNth(OpWrite, 3, boom), "ww----"},
		{FailOnce(OpWrite, 3, boom), "ww-www"},
		{FailNth(OpRead, 1, boom), "wwwwww"},
		{func(op OpKind, off, n int64) error {
			if op == OpWrite && off == 4*SectorSize {
				return boom
			}
			return nil
		}, "wwww-w"},
	} {
		m := NewMem(1<<20, MemOptions{})
		m.SetFault(c.fault)
		got := ""
		for i := range 6 {
			_, err := m.WriteAt(bytes.Repeat([]byte("w"), SectorSize), int64(i)*SectorSize)
			switch {
			case err == nil:
				got += "w"
			case errors.Is(err, boom):
				got += "-"
			default:
				t.Fatal(err)
			}
		}
		m.SetFault(nil)
		if got != c.want || show(t, m, 6) != strings.ReplaceAll(c.want, "-", ".") {
			t.Errorf("writes %s, image %s, want %s", got, show(t, m, 6), c.want)
		}
	}
}

func TestLostFlushStaysLost(t *testing.T) {
	boom := errors.New("medium error")
	m := NewMem(1<<20, MemOptions{})
	script(t, m, "w 0 A")
	m.SetFault(FailOnce(OpFlush, 1, boom))
	if err := m.Flush(); !errors.Is(err, boom) || errors.Is(err, ErrFlushLost) {
		t.Errorf("first flush: %v", err)
	}
	if err := m.Flush(); !errors.Is(err, ErrFlushLost) || !errors.Is(err, boom) {
		t.Errorf("second flush: %v", err)
	}
	if got := show(t, m.Crash(Crash{Mode: DropAll}), 1); got != "." {
		t.Errorf("durable without a flush: %s", got)
	}
}

func TestMemCloseAndReadOnly(t *testing.T) {
	m := NewMem(4096+100, MemOptions{Name: "vol"})
	if m.Size() != 4096 {
		t.Errorf("size %d", m.Size())
	}
	m.SetReadOnly(true)
	_, err := m.WriteAt(make([]byte, 512), 0)
	if !errors.Is(err, ErrReadOnly) || !strings.Contains(fmt.Sprint(err), "vol") || !m.ReadOnly() {
		t.Errorf("read-only: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Flush(); !errors.Is(err, ErrClosed) {
		t.Errorf("flush after close: %v", err)
	}
	if err := m.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second close: %v", err)
	}
}

func TestMemToFileAndBack(t *testing.T) {
	m := NewMem(3<<20+512, MemOptions{})
	script(t, m, "w 0-3 A; w 6144 B")
	path := filepath.Join(t.TempDir(), "m.img")
	if err := m.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	back, err := LoadMemFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if back.Size() != m.Size() || show(t, back, 6145) != show(t, m, 6145) {
		t.Errorf("contents differ")
	}
}

// TestHugeMem: sparse means that a terabyte costs nothing.
func TestHugeMem(t *testing.T) {
	m := NewMem(1<<40, MemOptions{})
	b := fill(8192, 1, true)
	off := int64(1)<<40 - 8192
	if _, err := m.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
	if err := m.ZeroRange(0, 1<<40-4608); err != nil {
		t.Fatal(err)
	}
	clear(b[:3584])
	got := make([]byte, 8192)
	if _, err := m.ReadAt(got, off); err != nil || !bytes.Equal(got, b) {
		t.Errorf("tail: %v", err)
	}
	if len(m.pages.m) != 2 {
		t.Errorf("%d pages", len(m.pages.m))
	}
}
