package demo

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// see: what one node writes the others read at once.
func (d *Demo) see() error {
	text := []byte("written by node 1\n")
	tr, took, err := d.during(func() error {
		if err := os.WriteFile(d.path(1, "hello"), text, 0o644); err != nil {
			return err
		}
		for n := 2; n <= nodes; n++ {
			got, err := os.ReadFile(d.path(n, "hello"))
			if err != nil {
				return err
			}
			if !bytes.Equal(got, text) {
				return fmt.Errorf("node %d reads %q", n, got)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.say("see", tr.facts(took), "Node 1 wrote a file; nodes 2 and 3 read it at once: %v in all, %d lock messages, %d locks handed on.", took.Round(10*time.Microsecond), tr.messages, tr.handoffs)
	return nil
}

// cached: reading again asks nobody.
func (d *Demo) cached() error {
	const times = 1000
	files := make([]*os.File, nodes+1)
	for n := 1; n <= nodes; n++ {
		f, err := os.Open(d.path(n, "hello"))
		if err != nil {
			return err
		}
		defer f.Close()
		files[n] = f
	}
	read := func() error {
		var b [64]byte
		for n := 1; n <= nodes; n++ {
			if _, err := os.Stat(d.path(n, "hello")); err != nil {
				return err
			}
			if got, err := files[n].ReadAt(b[:], 0); got != 18 {
				return fmt.Errorf("node %d reads %d bytes: %w", n, got, err)
			}
		}
		return nil
	}
	for range 2 { // a first read makes the kernel ask for the attributes once more
		if err := read(); err != nil {
			return err
		}
	}
	tr, took, err := d.during(func() error {
		for range times {
			if err := read(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if tr.messages != 0 || tr.requests != 0 {
		return fmt.Errorf("%d warm reads on each node cost %d messages and %d requests, not 0", times, tr.messages, tr.requests)
	}
	d.say("cached", tr.facts(took), "All nodes looked at it and read it %d times more: 0 messages, 0 requests to any node, %v each: the caches live as long as the locks.", times, took/(times*nodes))
	return nil
}

// append: records of all nodes in one file, none lost.
func (d *Demo) append() error {
	const each = 200
	tr, took, err := d.during(func() error {
		var wg sync.WaitGroup
		errs := make([]error, nodes+1)
		for n := 1; n <= nodes; n++ {
			wg.Add(1)
			go func() {
				defer wg.Done()
				errs[n] = d.appendLines(n, each)
			}()
		}
		wg.Wait()
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	b, err := os.ReadFile(d.path(1, "log"))
	if err != nil {
		return err
	}
	if lines := strings.Count(string(b), "\n"); lines != nodes*each {
		return fmt.Errorf("the shared log has %d records, %d were appended", lines, nodes*each)
	}
	d.say("append", tr.facts(took), "All nodes at once appended %d records each to one file: none lost, none torn; %v, %d messages, %d locks handed on.", each, took.Round(time.Millisecond), tr.messages, tr.handoffs)
	return nil
}

func (d *Demo) appendLines(n, lines int) error {
	f, err := os.OpenFile(d.path(n, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for k := range lines {
		if _, err := fmt.Fprintf(f, "node %d record %d\n", n, k); err != nil {
			return err
		}
	}
	return nil
}

// race: exactly one node wins each name.
func (d *Demo) race() error {
	const names = 50
	var won [nodes + 1]int
	var wg sync.WaitGroup
	errs := make([]error, nodes+1)
	for n := 1; n <= nodes; n++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for k := range names {
				f, err := os.OpenFile(d.path(n, fmt.Sprintf("race%d", k)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
				switch {
				case err == nil:
					won[n]++
					f.Close()
				case !errors.Is(err, fs.ErrExist):
					errs[n] = err
					return
				}
			}
		}()
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if total := won[1] + won[2] + won[3]; total != names {
		return fmt.Errorf("%d names had %d winners: %v", names, total, won[1:])
	}
	d.say("race", facts{"names": names, "won": won[1:]}, "All raced to create %d names: each had one winner (%d, %d and %d).", names, won[1], won[2], won[3])
	return nil
}

// writer writes and syncs small files until told to stop.
type writer struct {
	n       int
	acked   []string
	longest time.Duration
	err     error
}

func (d *Demo) write(w *writer, stop *atomic.Bool) {
	last := time.Now()
	for k := 0; !stop.Load(); k++ {
		name := fmt.Sprintf("w%d-%d", w.n, k)
		if w.err = promise(d.path(w.n, name), []byte(name)); w.err != nil {
			return
		}
		w.acked = append(w.acked, name)
		w.longest = max(w.longest, time.Since(last))
		last = time.Now()
	}
}

// promise writes a file and syncs it.
func promise(path string, data []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// death: node 3 is killed; the others go on and nothing promised is lost.
func (d *Demo) death() error {
	var stop atomic.Bool
	var wg sync.WaitGroup
	ws := make([]*writer, nodes+1)
	for n := 1; n <= nodes; n++ {
		ws[n] = &writer{n: n}
		wg.Add(1)
		go func() { defer wg.Done(); d.write(ws[n], &stop) }()
	}
	d.pause(700 * time.Millisecond)
	if err := d.proc[3].Process.Kill(); err != nil {
		return err
	}
	<-d.exit[3]
	d.proc[3] = nil
	d.say("kill", facts{"node": 3}, "All nodes write and fsync small files. Node 3 is killed (-9).")
	d.pause(1500 * time.Millisecond)
	stop.Store(true)
	d.detach(3)
	wg.Wait()
	promised := 0
	for n := 1; n <= nodes; n++ {
		if ws[n].err != nil && n != 3 {
			return fmt.Errorf("node %d: %w", n, ws[n].err)
		}
		promised += len(ws[n].acked)
		for _, name := range ws[n].acked {
			for reader := 1; reader < nodes; reader++ {
				got, err := os.ReadFile(d.path(reader, name))
				if err != nil || string(got) != name {
					return fmt.Errorf("%s, which was synced on node %d, reads %q on node %d: %w", name, n, got, reader, err)
				}
			}
		}
	}
	pause := max(ws[1].longest, ws[2].longest)
	d.say("death", facts{"pause": pause.Seconds(), "synced": promised}, "Nodes 1 and 2 proved it dead, replayed its journal and went on: the longest pause of a writer was %v. All %d synced files are there.", pause.Round(time.Millisecond), promised)
	return nil
}

// back: the dead node returns.
func (d *Demo) back() error {
	t := time.Now()
	if err := d.mount(3); err != nil {
		return err
	}
	if _, err := os.ReadFile(d.path(3, "hello")); err != nil {
		return err
	}
	took := time.Since(t)
	d.say("back", facts{"node": 3, "took": took.Seconds()}, "Node 3 came back in %v.", took.Round(time.Millisecond))
	return nil
}
