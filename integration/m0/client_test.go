package m0

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// client is the other process: it runs one check and returns the exit code.
func client(name string, mounts []string, seed, rounds string) int {
	s, _ := strconv.ParseInt(seed, 10, 64)
	n, _ := strconv.Atoi(rounds)
	c := &checker{mounts: mounts, rounds: n, rng: rand.New(rand.NewSource(s)), dir: name}
	fn := checks[name]
	if fn == nil || n == 0 {
		fmt.Printf("no check %q, or no rounds (%q)\n", name, rounds)
		return 2
	}
	defer func() {
		if r := recover(); r != nil {
			fmt.Println("FAIL:", r)
			os.Exit(1)
		}
	}()
	c.ok(os.Mkdir(c.p(0), 0o755))
	fn(c)
	if len(c.failed) != 0 {
		fmt.Println("FAIL:", c.failed[0])
		return 1
	}
	return 0
}

// checker has what the checks share.
type checker struct {
	mounts []string
	rounds int
	rng    *rand.Rand
	dir    string

	mu     sync.Mutex // guards failed
	failed []string
}

// p is a path in the check's directory as node k sees it.
func (c *checker) p(k int, names ...string) string {
	return filepath.Join(append([]string{c.mounts[k%len(c.mounts)], c.dir}, names...)...)
}

// ok ends the check if err is not nil.
func (c *checker) ok(err error) {
	if err != nil {
		panic(err) // recovered by client and each
	}
}

func (c *checker) fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func eq[T comparable](c *checker, got, want T, what string, args ...any) {
	if got != want {
		c.fatalf("%s: got %.80v, want %.80v", fmt.Sprintf(what, args...), got, want)
	}
}

// each runs fn for every node, per times, at once, and waits.
func (c *checker) each(per int, fn func(k, worker int, rng *rand.Rand)) {
	var wg sync.WaitGroup
	for w := range per * len(c.mounts) {
		seed := c.rng.Int63()
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer func() {
				if r := recover(); r != nil {
					c.mu.Lock()
					c.failed = append(c.failed, fmt.Sprintf("node %d: %v", w%len(c.mounts), r))
					c.mu.Unlock()
				}
			}()
			fn(w%len(c.mounts), w, rand.New(rand.NewSource(seed)))
		}()
	}
	wg.Wait()
	if len(c.failed) != 0 {
		c.fatalf("%s", c.failed[0])
	}
}

func (c *checker) put(path string, data []byte) { c.ok(os.WriteFile(path, data, 0o644)) }

func (c *checker) get(path string) string {
	b, err := os.ReadFile(path)
	c.ok(err)
	return string(b)
}

// list returns the names in a directory, sorted.
func (c *checker) list(path string) []string {
	f, err := os.Open(path)
	c.ok(err)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	c.ok(err)
	sort.Strings(names)
	return names
}

func (c *checker) open(path string, flags int) *os.File {
	f, err := os.OpenFile(path, flags, 0o644)
	c.ok(err)
	return f
}

// gone expects ENOENT.
func (c *checker) gone(path string) {
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		c.fatalf("%s: %v, want ENOENT", path, err)
	}
}

func (c *checker) size(path string, want int64) {
	st, err := os.Stat(path)
	c.ok(err)
	eq(c, st.Size(), want, "size of %s", path)
}

// until repeats fn for a time and until it has counted three rounds: a writer
// that starves runs into the limit of the check.
func until(d time.Duration, rounds *atomic.Uint64, fn func()) {
	for end := time.Now().Add(d); time.Now().Before(end) || rounds.Load() < 3; {
		fn()
	}
}

func checkNames() []string {
	var all []string
	for n := range checks {
		all = append(all, n)
	}
	sort.Strings(all)
	return all
}
