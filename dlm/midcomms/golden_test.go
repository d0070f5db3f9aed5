package midcomms

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/dlm/wire"
	"github.com/ocfuse/ocfuse/dlm/wire/capture"
)

// stand is a Peer that stands in for node self of a capture and is fed what the real one met.
type stand struct {
	t       *testing.T
	p       *Peer
	self    byte
	peer    byte
	where   string
	written [][]byte // wrapped messages, not yet matched with the kernel's
	sent    int      // wrapped messages matched, FINs included
	got     int      // messages delivered
	resets  int
	dups    int // messages of the peer that came again
}

func (s *stand) Write(b []byte) {
	if wire.Cmd(b[14]) == wire.CmdOpts {
		s.written = append(s.written, bytes.Clone(b))
	}
}
func (s *stand) Deliver(wire.Cmd, []byte) { s.got++ }
func (s *stand) Connect()                 {}
func (s *stand) Abort()                   { s.t.Errorf("%s: abort", s.where) }

func (s *stand) StateChanged(_, to State) {
	if to == Closed {
		s.resets++
	}
}

func (s *stand) Log(ev Event) {
	switch {
	case ev.Kind == EvDuplicate:
		s.dups++
	case ev.Kind.Level() == Warn || ev.Kind == EvGap:
		s.t.Errorf("%s: %v", s.where, ev)
	}
}

// replay feeds one frame of the capture that self sent or received.
func (s *stand) replay(f capture.Frame, now int64) {
	if f.From[3] == s.peer {
		s.p.Receive(f.Data)
		s.p.EndPass(now)
		return
	}
	var h wire.Header
	if h.Decode(f.Data) != nil {
		s.t.Fatalf("%s: bad frame", s.where)
	}
	switch h.Cmd {
	case wire.CmdRcom:
		if err := s.p.Send(f.Data); err != nil {
			s.t.Errorf("%s: %v", s.where, err)
		}
	case wire.CmdAck:
		if next := s.p.seqNext; s.p.State() != Closed && int32(h.Union-next) > 0 {
			s.t.Errorf("%s: the kernel acknowledges %d, we expect %d", s.where, h.Union, next)
		}
	case wire.CmdOpts:
		s.replayWrapped(f.Data, now)
	}
}

func (s *stand) replayWrapped(frame []byte, now int64) {
	var o wire.Opts
	if err := o.Decode(frame); err != nil {
		s.t.Fatalf("%s: %v", s.where, err)
	}
	if s.p.State() == Closed || int32(o.Seq()-s.p.seqSend) < 0 && len(s.written) == 0 {
		return // sent again
	}
	if o.NextCmd == wire.CmdFin {
		s.fin(now)
	} else if inner := o.Inner; wire.RcomType(inner[16]) == wire.RcomStatusReply && o.NextCmd == wire.CmdRcom {
		s.p.sendWrapped(o.NextCmd, inner) // 6.1 wraps the answer of an unknown lockspace; we would send it bare
	} else if err := s.p.Send(inner); err != nil {
		s.t.Errorf("%s: %v", s.where, err)
		return
	}
	if len(s.written) == 0 || !bytes.Equal(s.written[0], frame) {
		s.t.Fatalf("%s: the kernel sent\n%s\nwe\n%s", s.where, wire.AppendFrame(nil, frame), s.written)
	}
	s.written = s.written[1:]
	s.sent++
}

// fin lets the stand send its FIN for the reason the kernel had.
func (s *stand) fin(now int64) {
	switch s.p.State() {
	case Established:
		s.p.Shutdown(now)
	case CloseWait:
		s.p.MemberRemove(now)
	}
}

// TestGoldenCaptures lets a Peer live through what each Linux 6.1 node of a capture met: it must write the same
// wrapped frames, byte by byte, deliver every message once, take every ACK, and go through the same endings. The
// captures are those of package wire, in the folder OCFUSE_GOLDEN.
func TestGoldenCaptures(t *testing.T) {
	dir := os.Getenv("OCFUSE_GOLDEN")
	if dir == "" {
		t.Skip("OCFUSE_GOLDEN is not set; the transcripts show the same rules")
	}
	files, err := filepath.Glob(filepath.Join(dir, "dlm-*.pcap.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dlm-*.pcap.gz in %s: %v", dir, err)
	}
	var sent, got, resets, dups int
	for _, file := range files {
		in, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		frames, err := capture.Read(in, 21064)
		_ = in.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, pair := range pairs(frames) {
			s := &stand{t: t, self: pair[0], peer: pair[1]}
			s.run(filepath.Base(file), frames)
			t.Logf("%s, node %d with %d: wrote %d wrapped, got %d, %d duplicates, %d endings, at last %v", filepath.Base(file),
				s.self, s.peer, s.sent, s.got, s.dups, s.resets, s.p.State())
			sent, got, resets, dups = sent+s.sent, got+s.got, resets+s.resets, dups+s.dups
		}
	}
	if sent < 800 || got < 1200 || resets < 6 || dups < 3 {
		t.Errorf("too little seen: %d sent, %d got, %d endings, %d duplicates", sent, got, resets, dups)
	}
}

func pairs(frames []capture.Frame) (out [][2]byte) {
	seen := map[[2]byte]bool{}
	for _, f := range frames {
		p := [2]byte{f.From[3], f.To[3]}
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

func (s *stand) run(file string, frames []capture.Frame) {
	s.p = New(Config{Self: uint32(s.self), Peer: uint32(s.peer)}, s)
	s.p.MemberAdd()
	s.p.ConnUp()
	for _, f := range frames {
		from, to := f.From[3], f.To[3]
		if !(from == s.self && to == s.peer || from == s.peer && to == s.self) {
			continue
		}
		if s.p.State() == Closed && s.p.Users() == 0 {
			s.p.MemberAdd() // joins again
		}
		s.where = fmt.Sprintf("%s at %v, node %d, %v->%v %s", file, f.At.Round(time.Microsecond), s.self, from, to,
			wire.AppendFrame(nil, f.Data))
		s.replay(f, int64(f.At)+1)
		if s.t.Failed() {
			return
		}
	}
}
