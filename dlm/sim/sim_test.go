package sim

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// report runs a failing configuration again with the trace on and prints the end of it.
func report(t *testing.T, cfg Config, err error) {
	t.Helper()
	const keep = 120
	var ring []string
	cfg.Trace = func(line string) {
		if len(ring) == keep {
			ring = ring[1:]
		}
		ring = append(ring, line)
	}
	_, again := Run(cfg)
	if again == nil || again.Error() != err.Error() {
		t.Errorf("seed %d is not deterministic: %v, then %v", cfg.Seed, err, again)
	}
	t.Errorf("SEED=%d: %v\nlast events:\n%s", cfg.Seed, err, strings.Join(ring, "\n"))
}

// configOf: every fifth seed keeps its members and only cuts connections.
func configOf(seed uint64) Config {
	return Config{Seed: seed, Quiet: seed%5 == 0}
}

// TestSeeds runs many clusters. SEEDS=n runs n seeds, SEED=k replays one with its whole trace.
func TestSeeds(t *testing.T) {
	if k := os.Getenv("SEED"); k != "" {
		seed, err := strconv.ParseUint(k, 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		cfg := configOf(seed)
		cfg.Trace = func(line string) { fmt.Println(line) }
		res, err := Run(cfg)
		t.Logf("%+v", res)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	n := 200
	if v := os.Getenv("SEEDS"); v != "" {
		var err error
		if n, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	var sum Result
	failed := 0
	for seed := uint64(1); seed <= uint64(n) && failed < 3; seed++ {
		cfg := configOf(seed)
		res, err := Run(cfg)
		if err != nil {
			report(t, cfg, err)
			failed++
		}
		sum.add(res)
	}
	t.Logf("%d seeds: %+v", n, sum)
}

func (r *Result) add(o Result) {
	r.Events += o.Events
	r.Ops += o.Ops
	r.Grants += o.Grants
	r.Basts += o.Basts
	r.Views += o.Views
	r.Crashes += o.Crashes
	r.Joins += o.Joins
	r.Leaves += o.Leaves
	r.Cuts += o.Cuts
	r.Reads += o.Reads
	r.InvalidReads += o.InvalidReads
	r.Writes += o.Writes
	r.Virtual += o.Virtual
}
