package wire

// Framer cuts a byte stream into messages. It holds at most one incomplete message (MaxFrame bytes) and yields
// complete ones in place where it can, so that a message is copied only if a read ended inside it. The zero value
// is ready. Not safe for concurrent use.
type Framer struct {
	n   int // bytes held in buf: the beginning of one message
	err error
	buf [MaxFrame]byte
}

// Next takes bytes from in and returns the first complete message and what is left of in. frame is nil when all of
// in is used up and the message is not complete yet. frame aliases in or the framer and is valid until the next
// call. A h_length below 16 or above 4096 is an error; the stream is then beyond repair and every further call
// returns the same error.
//
//	for {
//		frame, in, err = f.Next(in)
//		if frame == nil { break } // err or need more
//		...
//	}
func (f *Framer) Next(in []byte) (frame, rest []byte, err error) {
	if f.err != nil {
		return nil, nil, f.err
	}
	if f.n == 0 {
		if len(in) >= HeaderSize {
			n, err := f.length(in)
			if err != nil {
				return nil, nil, err
			}
			if len(in) >= n {
				return in[:n:n], in[n:], nil
			}
		}
		if len(in) > 0 {
			f.n = copy(f.buf[:], in)
		}
		return nil, nil, nil
	}
	return f.resume(in)
}

// resume completes the message whose beginning is held.
func (f *Framer) resume(in []byte) (frame, rest []byte, err error) {
	if f.n < HeaderSize {
		in = f.take(in, HeaderSize)
		if f.n < HeaderSize {
			return nil, nil, nil
		}
	}
	n, err := f.length(f.buf[:])
	if err != nil {
		return nil, nil, err
	}
	in = f.take(in, n)
	if f.n < n {
		return nil, nil, nil
	}
	f.n = 0
	return f.buf[:n:n], in, nil
}

// take moves bytes from in until want are held.
func (f *Framer) take(in []byte, want int) []byte {
	c := copy(f.buf[f.n:want], in)
	f.n += c
	return in[c:]
}

// length returns the h_length of the header at the beginning of b.
func (f *Framer) length(b []byte) (int, error) {
	n := int(le.Uint16(b[12:]))
	if n < HeaderSize {
		f.err = bad(ErrLength, "stream", "h_length", 12, HeaderSize, int64(n))
	} else if n > MaxFrame {
		f.err = bad(ErrLength, "stream", "h_length", 12, MaxFrame, int64(n))
	}
	return n, f.err
}

// Held returns how many bytes of an incomplete message are held.
func (f *Framer) Held() int { return f.n }

// Reset forgets everything, for a new connection.
func (f *Framer) Reset() { f.n, f.err = 0, nil }
