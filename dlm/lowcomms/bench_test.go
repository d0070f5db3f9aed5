package lowcomms

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/ocfuse/ocfuse/dlm/wire"
)

// The benchmarks put a Node beside a bare TCP connection in the same run: what counts is the ratio, reported as
// x-raw.

// frameSize is a wrapped REQUEST of an ocfs2 lock: 24 + 88 + 31 bytes.
const frameSize = wire.OptsSize + wire.MessageSize + 31

// rawPair returns two ends of a TCP connection over the loopback.
func rawPair(b *testing.B) (x, y net.Conn) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	x, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	if y, err = l.Accept(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = x.Close(); _ = y.Close() })
	return x, y
}

// rawPingPong returns the time n round trips of a frame take.
func rawPingPong(b *testing.B, n int) time.Duration {
	x, y := rawPair(b)
	go func() {
		buf := make([]byte, frameSize)
		for {
			if _, err := io.ReadFull(y, buf); err != nil {
				return
			}
			if _, err := y.Write(buf); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, frameSize)
	start := time.Now()
	for range n {
		if _, err := x.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(x, buf); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start)
}

// echo lets node 2 answer every message.
func echo(x *tester) {
	buf := msg(nil, 2, 0, 31)
	k := uint32(0)
	x.each = func(from uint32, _ wire.Cmd, _ []byte) {
		binary.LittleEndian.PutUint32(buf[28:], k)
		k++
		if err := x.node.Send(from, buf); err != nil {
			x.fail(err)
		}
	}
}

func pair(b *testing.B) []*tester {
	x := group(b, TCP{}, 2)
	b.Cleanup(func() {
		for _, t := range x[1:] {
			if e := t.bad.Load(); e != nil {
				b.Error(*e)
			}
		}
	})
	return x
}

func report(b *testing.B, raw, node time.Duration) {
	b.ReportMetric(float64(raw)/float64(b.N), "raw-ns/op")
	b.ReportMetric(float64(node)/float64(raw), "x-raw")
}

// BenchmarkPingPong: the next message is sent by the goroutine that got the answer, as the bare loop does.
func BenchmarkPingPong(b *testing.B) {
	raw := rawPingPong(b, b.N)
	x := pair(b)
	echo(x[2])
	buf := msg(nil, 1, 0, 31)
	done := make(chan struct{})
	k := uint32(0)
	ping := func() {
		binary.LittleEndian.PutUint32(buf[28:], k)
		if err := x[1].node.Send(2, buf); err != nil {
			b.Error(err)
		}
	}
	x[1].each = func(uint32, wire.Cmd, []byte) {
		if k++; k == uint32(b.N) {
			close(done)
			return
		}
		ping()
	}
	b.ReportAllocs()
	b.ResetTimer()
	start := time.Now()
	ping()
	<-done
	report(b, raw, time.Since(start))
}

// BenchmarkPingPongCaller: the sender is another goroutine and is woken by the answer, as a lock request is.
func BenchmarkPingPongCaller(b *testing.B) {
	raw := rawPingPong(b, b.N)
	x := pair(b)
	echo(x[2])
	buf := msg(nil, 1, 0, 31)
	pong := make(chan struct{}, 1)
	x[1].each = func(uint32, wire.Cmd, []byte) { pong <- struct{}{} }
	b.ReportAllocs()
	b.ResetTimer()
	start := time.Now()
	for k := range uint32(b.N) {
		binary.LittleEndian.PutUint32(buf[28:], k)
		if err := x[1].node.Send(2, buf); err != nil {
			b.Fatal(err)
		}
		<-pong
	}
	report(b, raw, time.Since(start))
}

// rawStream returns the time n frames take one way, each written by itself or batch at a time.
func rawStream(b *testing.B, n, batch int) time.Duration {
	x, y := rawPair(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, readBuffer)
		for left := n * frameSize; left > 0; {
			k, err := y.Read(buf)
			if err != nil {
				return
			}
			left -= k
		}
	}()
	buf := make([]byte, frameSize*batch)
	start := time.Now()
	for left := n; left > 0; left -= batch {
		if _, err := x.Write(buf[:min(batch, left)*frameSize]); err != nil {
			b.Fatal(err)
		}
	}
	<-done
	return time.Since(start)
}

func benchStream(b *testing.B, batch int) {
	raw := rawStream(b, b.N, batch)
	x := pair(b)
	done := make(chan struct{})
	left := b.N
	x[2].each = func(uint32, wire.Cmd, []byte) {
		if left--; left == 0 {
			close(done)
		}
	}
	buf := msg(nil, 1, 0, 31)
	b.ReportAllocs()
	b.SetBytes(frameSize)
	b.ResetTimer()
	start := time.Now()
	for k := range uint32(b.N) {
		binary.LittleEndian.PutUint32(buf[28:], k)
		if err := x[1].node.Queue(2, buf); err != nil {
			b.Fatal(err)
		}
		if (int(k)+1)%batch == 0 {
			x[1].node.Flush(2)
		}
	}
	x[1].node.Flush(2)
	<-done
	report(b, raw, time.Since(start))
	s := x[1].node.tr.(*Conns).Stats(2)
	b.ReportMetric(float64(s.Writes)/float64(b.N), "writes/op")
}

// BenchmarkStream1: every message is sent by itself.
func BenchmarkStream1(b *testing.B) { benchStream(b, 1) }

// BenchmarkStream32: 32 messages are queued and flushed together.
func BenchmarkStream32(b *testing.B) { benchStream(b, 32) }
