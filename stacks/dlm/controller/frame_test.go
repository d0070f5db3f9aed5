package controller

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/ocfuse/ocfuse/stacks/dlm/view"
)

func samples() []view.Message {
	a, b := view.ID{Node: 1, Inc: 11}, view.ID{Node: 200, Inc: 1 << 63}
	v := view.View{Num: 7, By: a, Members: []view.ID{a, b}, Floor: 3, Gone: []view.Gone{{ID: view.ID{Node: 5, Inc: 9}, How: view.Dead, View: 6}}}
	return []view.Message{
		{Kind: view.Hello, From: a, State: view.Joining, Num: 3, Seen: 4, By: b},
		{Kind: view.Propose, From: a, View: v},
		{Kind: view.Ack, From: b, Num: 7, By: a},
		{Kind: view.Nack, From: b, Num: 7, By: a, Seen: 9},
		{Kind: view.Commit, From: a, View: v},
		{Kind: view.Proof, From: a, About: b},
		{Kind: view.Evicted, From: a},
		{Kind: view.Refuse, From: a, Reason: "make the timeouts the same"},
		{Kind: view.Farewell, From: a, About: b},
	}
}

func TestFrames(t *testing.T) {
	var stream bytes.Buffer
	for _, m := range samples() {
		p, err := encode(&m)
		if err != nil {
			t.Fatal(err)
		}
		stream.Write(p)
	}
	g := greeting{Group: "0123", From: view.ID{Node: 3, Inc: 4}, To: 1, PeriodMS: 2000, Threshold: 31}
	stream.Write(g.encode())
	var buf []byte
	for _, want := range samples() {
		typ, p, err := readFrame(&stream, &buf)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decode(typ, p); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, want)
		}
	}
	typ, p, err := readFrame(&stream, &buf)
	if got, e := decodeGreeting(p); typ != typeGreeting || err != nil || e != nil || got != g {
		t.Errorf("greeting %+v, %v, %v", got, err, e)
	}
}

func TestBadFrames(t *testing.T) {
	var buf []byte
	for text, want := range map[string]string{
		"GET / HTTP/1.1\r\n\r\n":    "no ocfuse controller",
		"OFVC\x02\x01\x00\x00":      "version 2",
		"OFVC\x01\x03\xff\xffshort": io.ErrUnexpectedEOF.Error(),
		"OFVC\x01":                  io.ErrUnexpectedEOF.Error(),
	} {
		if _, _, err := readFrame(strings.NewReader(text), &buf); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	for _, m := range samples() {
		p, err := encode(&m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(p[5], p[headerLen:len(p)-len(m.Reason)-1]); !errors.Is(err, ErrFrame) {
			t.Errorf("%v cut short: %v", m.Kind, err)
		}
	}
}

func TestGreetingChecks(t *testing.T) {
	ours := greeting{Group: "A", From: view.ID{Node: 1, Inc: 1}, To: 2, PeriodMS: 2000, Threshold: 31}
	for name, c := range map[string]struct {
		change func(*greeting)
		want   string
	}{
		"fits":           {func(*greeting) {}, ""},
		"another volume": {func(g *greeting) { g.Group = "B" }, "another volume"},
		"another node":   {func(g *greeting) { g.From.Node = 3 }, "says it is node 3"},
		"no incarnation": {func(g *greeting) { g.From.Inc = 0 }, "says it is node 2"},
		"not for us":     {func(g *greeting) { g.To = 9 }, "takes this node for node 9"},
		"threshold":      {func(g *greeting) { g.Threshold = 5 }, "threshold 5"},
		"period":         {func(g *greeting) { g.PeriodMS = 500 }, "period 500 ms"},
	} {
		g := greeting{Group: "A", From: view.ID{Node: 2, Inc: 1}, To: 1, PeriodMS: 2000, Threshold: 31}
		c.change(&g)
		err := checkGreeting(typeGreeting, &g, &ours, 2)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzFrame(f *testing.F) {
	for _, m := range samples() {
		p, err := encode(&m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	g := greeting{Group: "x"}
	f.Add(g.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		var buf []byte
		core := view.New(view.ID{Node: 1, Inc: 11})
		core.Scanned(nil)
		core.Connected(2)
		for {
			typ, p, err := readFrame(r, &buf)
			if err != nil {
				return
			}
			_, _ = decodeGreeting(p)
			m, err := decode(typ, p)
			if err != nil {
				continue
			}
			q, err := encode(&m)
			if err != nil {
				t.Fatalf("%+v was decoded and cannot be encoded: %v", m, err)
			}
			if back, err := decode(q[5], q[headerLen:]); err != nil || !reflect.DeepEqual(back, m) {
				t.Fatalf("%+v comes back as %+v, %v", m, back, err)
			}
			// The state machine must stand whatever a peer says.
			m.From.Node = 2
			core.Receive(2, m)
			core.Stopped()
			_ = core.Effects()
			_ = core.Pending()
		}
	})
}
