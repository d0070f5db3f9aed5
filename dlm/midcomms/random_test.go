package midcomms

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// The randomized test lets two Peers talk over connections that are cut at any byte, in any order of notice, with
// remains of old connections read late, and checks that every message arrives once and in order, and that the FIN
// handshake always ends. One seed, one history.

// link is one connection: what each side wrote and the other has not read.
type link struct {
	pipe   [2][]byte // from side 0, from side 1
	framer [2]wire.Framer
	dead   bool // nothing more can be written; what is in the pipes may still be read
}

// side is one node.
type side struct {
	w      *world
	i      int
	p      *Peer
	send   *link // nil: no sending connection
	wantUp bool
	sent   uint32 // messages accepted by Send
	got    uint32 // messages delivered
}

type world struct {
	rng   *rand.Rand
	links []*link
	side  [2]*side
	now   int64
	trace []string
	err   error
	wide  int // largest number of unacknowledged messages seen
}

func (w *world) tracef(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
	if len(w.trace) > 60 {
		w.trace = w.trace[1:]
	}
}

func (w *world) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

func (s *side) Write(b []byte) {
	if s.send == nil {
		s.w.fail("node %d writes without a connection", s.i)
		return
	}
	if !s.send.dead {
		s.send.pipe[s.i] = append(s.send.pipe[s.i], b...)
	}
}

func (s *side) Deliver(_ wire.Cmd, b []byte) {
	var m wire.Message
	if m.Decode(b) != nil {
		return // status traffic, may be lost and doubled
	}
	if m.LkID != s.got {
		s.w.fail("node %d got message %d, want %d", s.i, m.LkID, s.got)
	}
	s.got++
}

func (s *side) Connect()                    { s.wantUp = true }
func (s *side) Abort()                      { s.w.fail("node %d aborts", s.i) }
func (s *side) StateChanged(from, to State) { s.w.tracef("node %d: %v -> %v", s.i, from, to) }
func (s *side) Log(ev Event) {
	s.w.tracef("node %d: %v", s.i, ev)
	switch ev.Kind {
	case EvAckUnsent, EvMalformed, EvFin, EvAfterFin, EvTimeout, EvUsers, EvUnexpected, EvBadVersion, EvStuckReset:
		s.w.fail("node %d: %v", s.i, ev)
	}
}

func newWorld(seed int64) *world {
	w := &world{rng: rand.New(rand.NewSource(seed))}
	for i := range w.side {
		s := &side{w: w, i: i}
		s.p = New(Config{Self: uint32(1 + i), Peer: uint32(2 - i), AckEvery: 1 + w.rng.Intn(40)}, s)
		w.side[i] = s
	}
	return w
}

func (s *side) msg() []byte {
	m := wire.Message{Header: wire.Header{Union: 7, NodeID: s.p.cfg.Self}, Type: wire.MsgConvert, LkID: s.sent,
		Extra: make([]byte, s.w.rng.Intn(120))}
	if s.w.rng.Intn(50) == 0 {
		m.Extra = make([]byte, s.w.rng.Intn(wire.MaxExtra+1))
	}
	return m.Append(nil)
}

// read lets side s read up to n bytes of what the other wrote on l.
func (s *side) read(l *link, n int) {
	pipe := &l.pipe[1-s.i]
	n = min(n, len(*pipe))
	in := (*pipe)[:n]
	*pipe = (*pipe)[n:]
	for {
		frame, rest, err := l.framer[s.i].Next(in)
		if err != nil {
			s.w.fail("node %d: %v", s.i, err)
		}
		if frame == nil {
			break
		}
		s.p.Receive(frame)
		in = rest
	}
	s.p.EndPass(s.w.now)
}

// connect makes a new connection and tells each side now or later.
func (w *world) connect() {
	l := &link{}
	w.links = append(w.links, l)
	for _, i := range w.rng.Perm(2) {
		w.side[i].send = l
		w.side[i].p.ConnUp()
		w.side[i].wantUp = false
	}
	w.tracef("connected")
}

// cut breaks a connection: of what is under way a part of any length arrives, the rest is lost. Each side notices now
// or later (notice).
func (w *world) cut() {
	if len(w.links) == 0 {
		return
	}
	l := w.links[w.rng.Intn(len(w.links))]
	if l.dead {
		return
	}
	l.dead = true
	for i := range l.pipe {
		l.pipe[i] = l.pipe[i][:w.rng.Intn(len(l.pipe[i])+1)]
	}
	w.tracef("cut")
}

func (s *side) notice() {
	if s.send != nil && s.send.dead {
		s.w.tracef("node %d notices", s.i)
		s.send = nil
		s.p.ConnDown()
	}
}

func (w *world) step(send bool) {
	s := w.side[w.rng.Intn(2)]
	switch x := w.rng.Intn(100); {
	case x < 40 && send:
		if err := s.p.Send(s.msg()); err == nil {
			s.sent++
		} else if err != ErrNoVersion && err != ErrClosing {
			w.fail("node %d: %v", s.i, err)
		}
	case x < 75:
		if len(w.links) > 0 {
			s.read(w.links[w.rng.Intn(len(w.links))], 1+w.rng.Intn(400))
		}
	case x < 80:
		w.now += int64(w.rng.Intn(20_000_000))
		s.p.Tick(w.now)
	case x < 82:
		w.cut()
	case x < 90:
		s.notice()
	case x < 95 && s.send == nil && s.wantUp:
		if o := w.side[1-s.i]; o.send == nil || o.send.dead {
			w.connect()
		} else { // the other side has not noticed: it accepts a second connection and goes on with either
			l := &link{}
			w.links = append(w.links, l)
			s.send, s.wantUp = l, false
			s.p.ConnUp()
			if w.rng.Intn(2) == 0 {
				o.send = l
				o.p.ConnUp()
			}
		}
	}
	n, _ := s.p.Unacked()
	w.wide = max(w.wide, n)
}

// drain reads everything, reconnects where asked for, until nothing moves.
func (w *world) drain() {
	for range 10000 {
		moved := false
		for _, s := range w.side {
			s.notice()
			if s.send == nil && s.wantUp {
				w.connect()
				moved = true
			}
			for _, l := range w.links {
				for len(l.pipe[1-s.i]) > 0 {
					s.read(l, 1+w.rng.Intn(5000))
					moved = true
				}
			}
			w.now += 20_000_000
			s.p.Tick(w.now)
		}
		if !moved {
			return
		}
	}
	w.fail("does not come to rest")
}

// status exchanges the bare message that begins everything.
func (w *world) status() {
	for _, s := range w.side {
		b := (&wire.Rcom{Header: wire.Header{NodeID: s.p.cfg.Self}, Type: wire.RcomStatus}).Append(nil)
		if err := s.p.Send(b); err != nil {
			w.fail("STATUS: %v", err)
		}
	}
	w.drain()
}

// round is one association: begin, talk under faults, end.
func (w *world) round() {
	for _, s := range w.side {
		s.p.MemberAdd()
	}
	w.status()
	if w.rng.Intn(2) == 0 { // numbers near the wrap
		x := ^uint32(0) - uint32(w.rng.Intn(40))
		y := ^uint32(0) - uint32(w.rng.Intn(40))
		a, b := w.side[0].p, w.side[1].p
		a.seqSend, b.seqNext, b.seqSend, a.seqNext = x, x, y, y
	}
	for range 100 + w.rng.Intn(1500) {
		w.step(true)
		if w.err != nil {
			return
		}
	}
	// The lockspaces end on both sides in any order; the remaining ones are shut down too, or the other only follows.
	order := w.rng.Perm(4)
	for _, e := range order {
		s := w.side[e%2]
		if e < 2 {
			s.p.MemberRemove(w.now)
		} else if e == 2 || w.rng.Intn(2) == 0 {
			s.p.Shutdown(w.now)
		}
		for range w.rng.Intn(60) {
			w.step(false)
		}
	}
	w.drain()
	w.check()
}

func (w *world) check() {
	for _, s := range w.side {
		o := w.side[1-s.i]
		if s.p.State() != Closed || s.p.seqSend != 0 || s.p.seqNext != 0 || s.p.queue.count != 0 {
			w.fail("node %d ends in %v, numbers %d %d, %d unacknowledged", s.i, s.p.State(), s.p.seqSend, s.p.seqNext,
				s.p.queue.count)
		}
		if s.sent != o.got {
			w.fail("node %d sent %d messages, node %d got %d", s.i, s.sent, o.i, o.got)
		}
		if _, ok := s.p.Deadline(); ok {
			w.fail("node %d: a deadline is left", s.i)
		}
	}
	w.links = w.links[:0]
	for _, s := range w.side {
		if s.send != nil {
			s.send = nil
			s.p.ConnDown()
		}
	}
}

func runSeed(seed int64, plant bool) (*world, error) {
	w := newWorld(seed)
	w.side[1].p.acceptDuplicates = plant
	for range 3 {
		if w.round(); w.err != nil {
			break
		}
	}
	return w, w.err
}

// TestRandom runs SEEDS seeds (300), or only SEED with its last events.
func TestRandom(t *testing.T) {
	if s := os.Getenv("SEED"); s != "" {
		seed, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		w, err := runSeed(seed, false)
		t.Logf("seed %d: %v\n%s", seed, err, strings.Join(w.trace, "\n"))
		if err != nil {
			t.Fail()
		}
		return
	}
	n := 300
	if s := os.Getenv("SEEDS"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	total, wide := 0, 0
	for seed := range int64(n) {
		w, err := runSeed(seed, false)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(w.trace, "\n"))
		}
		total += int(w.side[0].got + w.side[1].got)
		wide = max(wide, w.wide)
	}
	t.Logf("%d seeds, %d messages, up to %d unacknowledged", n, total, wide)
	if total < n*300 {
		t.Errorf("only %d messages in %d seeds: the test does not do its work", total, n)
	}
}

// TestRandomBites: without the duplicate filter the randomized test fails soon.
func TestRandomBites(t *testing.T) {
	for seed := range int64(20) {
		if _, err := runSeed(seed, true); err != nil {
			if !strings.Contains(err.Error(), "got message") {
				t.Errorf("seed %d found something else: %v", seed, err)
			}
			return
		}
	}
	t.Error("20 seeds accept duplicates and notice nothing")
}

// null does nothing with effects.
type null struct{}

func (null) Write([]byte)              {}
func (null) Deliver(wire.Cmd, []byte)  {}
func (null) Connect()                  {}
func (null) Abort()                    {}
func (null) StateChanged(State, State) {}
func (null) Log(Event)                 {}

func established() *Peer {
	p := New(Config{Self: 1, Peer: 2}, null{})
	p.MemberAdd()
	p.ConnUp()
	p.Receive((&wire.Rcom{Header: wire.Header{NodeID: 2}, Type: wire.RcomStatus}).Append(nil))
	return p
}

// pingPong sends one message and receives one and an ACK.
func pingPong(p *Peer, out, in, ack []byte) {
	if p.Send(out) != nil {
		panic("refused")
	}
	binary.LittleEndian.PutUint32(in[4:], p.seqNext)
	binary.LittleEndian.PutUint32(ack[4:], p.seqSend)
	p.Receive(in)
	p.Receive(ack)
	p.EndPass(1)
}

func pingPongFrames() (out, in, ack []byte) {
	m := wire.Message{Header: wire.Header{NodeID: 1}, Type: wire.MsgRequest, Extra: make([]byte, 31)}
	out = m.Append(nil)
	m.Header.NodeID = 2
	in = append(wire.AppendOpts(nil, 2, 0, wire.CmdMsg, len(out)), m.Append(nil)...)
	return out, in, wire.AppendAck(nil, 2, 0)
}

// TestNoAllocation: nothing is allocated per message, with few or many unacknowledged.
func TestNoAllocation(t *testing.T) {
	p := established()
	out, in, ack := pingPongFrames()
	if n := testing.AllocsPerRun(5000, func() { pingPong(p, out, in, ack) }); n != 0 {
		t.Errorf("%v allocations per exchange", n)
	}
	burst := func() {
		for range 500 {
			if err := p.Send(out); err != nil {
				t.Fatal(err)
			}
		}
		binary.LittleEndian.PutUint32(ack[4:], p.seqSend)
		p.Receive(ack)
	}
	if n := testing.AllocsPerRun(50, burst); n != 0 {
		t.Errorf("%v allocations per burst of 500", n)
	}
	if n, b := p.Unacked(); n != 0 || b != 0 {
		t.Errorf("%d messages, %d bytes left", n, b)
	}
}

func BenchmarkExchange(b *testing.B) {
	p := established()
	out, in, ack := pingPongFrames()
	b.ReportAllocs()
	for b.Loop() {
		pingPong(p, out, in, ack)
	}
}

// FuzzReceive: no frame brings a Peer down or lets it keep more than it should.
func FuzzReceive(f *testing.F) {
	out, in, ack := pingPongFrames()
	f.Add(append(append(append([]byte{}, in...), ack...), wire.AppendFin(nil, 2)...))
	f.Add(append(wire.AppendOpts(nil, 2, 0, wire.CmdFin, 16), wire.AppendFin(nil, 2)...))
	f.Fuzz(func(t *testing.T, stream []byte) {
		p := established()
		if err := p.Send(out); err != nil {
			t.Fatal(err)
		}
		var fr wire.Framer
		for {
			frame, rest, _ := fr.Next(stream)
			if frame == nil {
				break
			}
			p.Receive(frame)
			stream = rest
		}
		p.EndPass(1)
		p.ConnDown()
		p.ConnUp()
		p.Gone()
		if n, _ := p.Unacked(); n != 0 || p.State() != Closed {
			t.Fatal("Gone left something")
		}
	})
}
