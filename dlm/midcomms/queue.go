package midcomms

import "encoding/binary"

// chunkSize is the unit of memory of a queue, bytes; at least one largest frame.
const chunkSize = 32 << 10

// keepFree is how many empty chunks a queue keeps for reuse.
const keepFree = 2

// chunk holds whole frames, one behind the other, in buf[head:tail].
type chunk struct {
	head, tail int
	next       *chunk
	buf        [chunkSize]byte
}

// queue is a FIFO of frames with their own length at offset 12 (h_length). Frames of one chunk lie next to each
// other, so a resend writes few large spans. Chunks are reused: no allocation per frame.
type queue struct {
	first, last *chunk
	free        *chunk
	nfree       int
	count       int // frames
	bytes       int
}

// push appends a frame of n bytes, 16..4096, and returns its memory for the caller to fill; valid until popped.
func (q *queue) push(n int) []byte {
	c := q.last
	if c == nil || chunkSize-c.tail < n {
		c = q.take()
		if q.last == nil {
			q.first = c
		} else {
			q.last.next = c
		}
		q.last = c
	}
	b := c.buf[c.tail : c.tail+n : c.tail+n]
	c.tail += n
	q.count++
	q.bytes += n
	return b
}

func (q *queue) take() *chunk {
	c := q.free
	if c == nil {
		return new(chunk)
	}
	q.free, q.nfree = c.next, q.nfree-1
	c.head, c.tail, c.next = 0, 0, nil
	return c
}

// pop removes the k oldest frames, k <= count.
func (q *queue) pop(k int) {
	for ; k > 0; k-- {
		c := q.first
		n := int(binary.LittleEndian.Uint16(c.buf[c.head+12:]))
		c.head += n
		q.count--
		q.bytes -= n
		if c.head == c.tail {
			q.drop()
		}
	}
}

// drop takes the first chunk, empty now, out of the list. A queue that ran empty keeps using its only chunk.
func (q *queue) drop() {
	c := q.first
	if c == q.last {
		c.head, c.tail = 0, 0
		return
	}
	q.first = c.next
	if q.nfree < keepFree {
		c.next = q.free
		q.free, q.nfree = c, q.nfree+1
	}
}

// clear removes everything.
func (q *queue) clear() { q.pop(q.count) }

// each calls f with the queued frames in order, as spans of whole frames.
func (q *queue) each(f func(span []byte)) {
	for c := q.first; c != nil; c = c.next {
		if c.head < c.tail {
			f(c.buf[c.head:c.tail])
		}
	}
}
