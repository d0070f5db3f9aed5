package midcomms

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expected part of the transcripts in testdata")

// TestTranscripts runs testdata/*.txt. A transcript is a list of blocks:
//
//	# comment, with the rule it shows
//	command
//	command
//	----
//	what the peer did
//
// Node 1 is us, node 2 the peer. Commands:
//
//	add | remove | up | down | gone | shutdown
//	tick D                 D after the beginning
//	send MSG|rcom-TYPE|FIN
//	recv rcom-TYPE         bare
//	recv #N TYPE           wrapped; TYPE is MSG, rcom-TYPE or FIN
//	recv ACK N
//	recv hex BYTES
//	pass                   no more frames at hand
//	state                  print numbers
//	seq S N                pretend that numbers S (to send) and N (expected) were reached
//
// Options of recv: v31 (3.1 header), from=N (h_nodeid).
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) { runTranscript(t, f) })
	}
}

func runTranscript(t *testing.T, file string) {
	in, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{}
	r.p = New(Config{Self: 1, Peer: 2}, r)
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(string(in)), "\n\n") {
		cmds, want, _ := strings.Cut(block+"\n", "----\n")
		r.out.Reset()
		for _, line := range strings.Split(strings.TrimSpace(cmds), "\n") {
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if err := r.command(strings.Fields(line)); err != nil {
				t.Fatalf("block %d, %q: %v", i+1, line, err)
			}
		}
		have := r.out.String()
		if !*rewrite && have != want {
			t.Errorf("block %d\n%shave\n%swant\n%s", i+1, cmds, have, want)
		}
		if i > 0 {
			out.WriteString("\n")
		}
		out.WriteString(cmds + "----\n" + have)
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// runner executes commands on one Peer and writes down its effects.
type runner struct {
	p   *Peer
	out bytes.Buffer
	now int64 // time since the beginning, ns
}

func (r *runner) say(format string, args ...any) { fmt.Fprintf(&r.out, format+"\n", args...) }

func (r *runner) Write(b []byte) {
	var f wire.Framer
	for {
		frame, rest, err := f.Next(b)
		if frame == nil {
			if err != nil || f.Held() > 0 {
				r.say("write GARBAGE %x %v", b, err)
			}
			return
		}
		r.say("write %s", short(frame))
		b = rest
	}
}

// short describes a frame by number and type.
func short(frame []byte) string {
	words := strings.Fields(string(wire.AppendFrame(nil, frame)))
	var keep []string
	for _, w := range words {
		if k, _, ok := strings.Cut(w, "="); ok && k != "next" {
			continue
		}
		keep = append(keep, w)
	}
	return strings.Join(keep, " ")
}

func (r *runner) Deliver(_ wire.Cmd, b []byte) { r.say("deliver %s", short(b)) }
func (r *runner) Connect()                     { r.say("connect") }
func (r *runner) Abort()                       { r.say("abort") }
func (r *runner) StateChanged(from, to State)  { r.say("state %v -> %v", from, to) }
func (r *runner) Log(ev Event) {
	if ev.Peer != 2 {
		r.say("log of peer %d", ev.Peer)
	}
	r.say("log %s", ev)
}

func (r *runner) command(w []string) error {
	p := r.p
	switch w[0] {
	case "add":
		p.MemberAdd()
	case "remove":
		p.MemberRemove(r.now)
	case "up":
		p.ConnUp()
	case "down":
		p.ConnDown()
	case "gone":
		p.Gone()
	case "pass":
		p.EndPass(r.now)
	case "shutdown":
		p.Shutdown(r.now)
	case "tick":
		d, err := time.ParseDuration(w[1])
		r.now = int64(d)
		p.Tick(r.now)
		return err
	case "state":
		n, _ := p.Unacked()
		due, _ := p.Deadline()
		r.say("%v send=%d next=%d unacked=%d users=%d deadline=%v", p.State(), p.seqSend, p.seqNext, n, p.Users(), time.Duration(due))
	case "seq":
		if p.queue.count > 0 {
			return fmt.Errorf("queue is not empty")
		}
		var s, n uint64
		if _, err := fmt.Sscan(strings.Join(w[1:], " "), &s, &n); err != nil {
			return err
		}
		p.seqSend, p.seqNext = uint32(s), uint32(n)
	case "send":
		b, _, err := inner(1, w[1:])
		if err != nil {
			return err
		}
		if err := p.Send(b); err != nil {
			r.say("error %v", err)
		}
	case "recv":
		b, err := frame(w[1:])
		if err != nil {
			return err
		}
		p.Receive(b)
	default:
		return fmt.Errorf("no such command")
	}
	return nil
}

// inner builds a MSG or RCOM of node.
func inner(node uint32, w []string) ([]byte, wire.Cmd, error) {
	h := wire.Header{Union: 0xe5adef01, NodeID: node}
	name := w[0]
	for _, o := range w[1:] {
		switch {
		case o == "v31":
			h.Version = wire.Version31
		case strings.HasPrefix(o, "from="):
			n, err := strconv.Atoi(o[5:])
			if err != nil {
				return nil, 0, err
			}
			h.NodeID = uint32(n)
		default:
			return nil, 0, fmt.Errorf("option %q", o)
		}
	}
	if s, ok := strings.CutPrefix(name, "rcom-"); ok {
		for t := wire.RcomStatus; t <= wire.RcomLockReply; t++ {
			if t.String() == s {
				return (&wire.Rcom{Header: h, Type: t, Buf: make([]byte, 32)}).Append(nil), wire.CmdRcom, nil
			}
		}
	}
	switch name {
	case "MSG":
		return (&wire.Message{Header: h, Type: wire.MsgRequest, Extra: []byte("res1")}).Append(nil), wire.CmdMsg, nil
	case "FIN":
		return wire.AppendFin(nil, node), wire.CmdFin, nil
	}
	return nil, 0, fmt.Errorf("no message %q", name)
}

// frame builds what the peer sends.
func frame(w []string) ([]byte, error) {
	switch {
	case w[0] == "ACK":
		n, err := strconv.ParseUint(w[1], 10, 32)
		return wire.AppendAck(nil, 2, uint32(n)), err
	case w[0] == "hex":
		var b []byte
		_, err := fmt.Sscanf(strings.Join(w[1:], ""), "%x", &b)
		return b, err
	case strings.HasPrefix(w[0], "#"):
		n, err := strconv.ParseUint(w[0][1:], 10, 32)
		if err != nil {
			return nil, err
		}
		in, cmd, err := inner(2, w[1:])
		return append(wire.AppendOpts(nil, 2, uint32(n), cmd, len(in)), in...), err
	}
	b, _, err := inner(2, w)
	return b, err
}
