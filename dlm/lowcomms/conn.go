package lowcomms

import (
	"errors"
	"io"
	"sync"

	"github.com/ocfuse/ocfuse/dlm/midcomms"
	"github.com/ocfuse/ocfuse/dlm/wire"
)

const (
	readBuffer = 64 << 10  // one receive pass
	maxKeep    = 256 << 10 // output buffers larger than this are not kept for reuse
)

// conn is one connection of a link.
type conn struct {
	l      *link
	c      Conn
	dialed bool
	framer wire.Framer // used by readLoop only

	// Guarded by l.mu.
	out        []byte // not written yet
	spare      []byte // the other buffer, while out is being filled
	writing    bool   // somebody is in a write; he will take what is in out then
	closeWrite bool   // half-close when out is empty
	dead       bool
	err        error           // why writing failed
	ends       *sync.WaitGroup // told when the reader ends
}

// readLoop reads until the connection ends.
func (c *conn) readLoop() {
	l := c.l
	buf := make([]byte, readBuffer)
	err := c.read(buf)
	l.mu.Lock()
	if c.err != nil { // TCP tells the reason once, to whoever asks first; then reading looks like a clean end
		err = c.err
	}
	l.mu.Unlock()
	if l.ctx.Err() == nil {
		text := "connection lost"
		if err == nil {
			text = "connection closed by the peer"
		}
		l.t.cfg.Log(Record{Level: midcomms.Info, Node: l.node, Text: text, Err: err})
	}
	l.remove(c, err)
	l.notify()
	l.mu.Lock()
	ends := c.ends
	c.ends = nil
	l.mu.Unlock()
	if ends != nil {
		ends.Done()
	}
}

// read hands input to the Handler; nil is the peer's clean end.
func (c *conn) read(buf []byte) error {
	l := c.l
	for first := true; ; {
		n, err := c.c.Read(buf)
		if n > 0 {
			l.reads.Add(1)
			l.bytesIn.Add(uint64(n))
			if first { // the peer talks to us: the next dial need not wait
				first = false
				l.mu.Lock()
				l.delay = 0
				l.mu.Unlock()
			}
			if herr := l.input(&c.framer, buf[:n]); herr != nil {
				return herr
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// flush writes out, and what is added meanwhile, unless somebody else is doing so. It does not wait for the socket.
// l.mu held; released on return.
func (c *conn) flush() {
	l := c.l
	if c.writing || c.dead {
		l.mu.Unlock()
		return
	}
	c.writing = true
	for c.take() {
		buf := c.spare
		l.mu.Unlock()
		n, err := c.c.TryWrite(buf)
		if err == nil && n < len(buf) {
			c.stall(buf[n:])
			return
		}
		l.mu.Lock()
		if err != nil {
			c.giveUp(err)
			break
		}
	}
	c.writing = false
	l.mu.Unlock()
}

// take moves out to spare and says whether there is something to write; at the end it does the half close. mu held.
func (c *conn) take() bool {
	if c.dead {
		return false
	}
	if len(c.out) == 0 {
		if c.closeWrite {
			c.closeWrite = false
			_ = c.c.CloseWrite() // an error shows in the reader too
		}
		return false
	}
	if cap(c.spare) > maxKeep {
		c.spare = nil
	}
	c.out, c.spare = c.spare[:0], c.out
	c.l.stats.Writes++
	c.l.stats.BytesOut += uint64(len(c.spare))
	return true
}

// giveUp is a failed write: nothing more goes out, the reader will see the end too. mu held.
func (c *conn) giveUp(err error) {
	c.dead, c.err = true, err
	c.out = nil
	_ = c.c.Abort()
}

// stall leaves rest, and all that follows, to a goroutine that may wait for the socket. writing stays set.
func (c *conn) stall(rest []byte) {
	l := c.l
	ok := l.t.goIfRunning(func() { c.writeBlocking(rest) })
	l.mu.Lock()
	l.stats.Stalls++
	if !ok { // closed meanwhile
		c.giveUp(errClosed)
		c.writing = false
	}
	l.mu.Unlock()
}

func (c *conn) writeBlocking(rest []byte) {
	l := c.l
	for {
		_, err := c.c.Write(rest)
		l.mu.Lock()
		if err != nil {
			c.giveUp(err)
		}
		if err != nil || !c.take() {
			c.writing = false
			l.mu.Unlock()
			return
		}
		rest = c.spare
		l.mu.Unlock()
	}
}
