package wire

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/ocfuse/ocfuse/dlm/wire/capture"
)

var rewrite = flag.Bool("rewrite", false, "make testdata/kernel.txt from the captures in OCFUSE_GOLDEN")

// kind names a frame by what it is: the sections of testdata/kernel.txt.
func kind(frame []byte) string {
	var h Header
	if h.Decode(frame) != nil {
		return "short"
	}
	prefix, inner := "bare ", frame
	if h.Cmd == CmdOpts {
		var o Opts
		if o.Decode(frame) != nil {
			return "bad OPTS"
		}
		prefix, inner = "wrapped ", o.Inner
		if h.Decode(inner) != nil {
			return "short"
		}
	}
	var m Message
	var r Rcom
	switch {
	case h.Cmd == CmdMsg && m.Decode(inner) == nil:
		k := prefix + m.Type.String()
		if m.Result != 0 {
			k += " " + m.Result.String()
		}
		if !m.Type.HasName() && len(m.Extra) > 0 {
			k += " with LVB"
		}
		if m.Flags&IFLUser != 0 {
			k += " of a user lock"
		}
		return k
	case h.Cmd == CmdRcom && r.Decode(inner) == nil:
		k := prefix + "RCOM " + r.Type.String()
		if r.Result < 0 {
			k += " " + Result(r.Result).String()
		}
		if len(r.Buf) > 0 && r.Buf[0] != 0 && r.Type == RcomNamesReply {
			k += " with names"
		}
		return k
	}
	return prefix + h.Cmd.String()
}

// reencode decodes everything in a frame, payloads too, and encodes it again.
func reencode(frame []byte) ([]byte, error) {
	var h Header
	if err := h.Decode(frame); err != nil {
		return nil, err
	}
	if h.Cmd != CmdOpts {
		return reencodeInner(frame, h.Cmd)
	}
	var o Opts
	if err := o.Decode(frame); err != nil {
		return nil, err
	}
	inner, err := reencodeInner(o.Inner, o.NextCmd)
	if err != nil {
		return nil, err
	}
	o.Inner = inner
	return o.Append(nil), nil
}

func reencodeInner(b []byte, cmd Cmd) ([]byte, error) {
	switch cmd {
	case CmdMsg:
		var m Message
		if err := m.Decode(b); err != nil {
			return nil, err
		}
		return m.Append(nil), nil
	case CmdRcom:
		var r Rcom
		if err := r.Decode(b); err != nil {
			return nil, err
		}
		buf, err := reencodePayload(&r)
		if err != nil {
			return nil, err
		}
		r.Buf = buf
		return r.Append(nil), nil
	}
	var h Header
	if err := h.DecodeBare(b, cmd); err != nil {
		return nil, err
	}
	return h.Append(nil), nil
}

func reencodePayload(r *Rcom) (out []byte, err error) {
	switch r.Type {
	case RcomStatus:
		var s StatusRequest
		err = s.Decode(r.Buf)
		return s.Append(nil), err
	case RcomStatusReply:
		var c RcomConfig
		slots, err := c.Decode(r.Buf)
		out = c.Append(nil)
		for ; err == nil && len(slots) > 0; slots = slots[RcomSlotSize:] {
			var s RcomSlot
			err = s.Decode(slots)
			out = s.Append(out)
		}
		return out, err
	case RcomNamesReply:
		c := NewNamesCursor(r.Buf)
		for {
			name, err := c.Next()
			if err != nil {
				return nil, err
			}
			if name == nil {
				break
			}
			out = AppendName(out, name)
		}
		out = AppendNamesEnd(out, c.Last())
		return append(out, make([]byte, NamesBufSize-len(out))...), nil // the kernel's zero fill
	case RcomLock, RcomLockReply:
		var l RcomLockBuf
		err = l.Decode(r.Buf)
		return l.Append(nil), err
	}
	return r.Buf, nil
}

// checkSendKernel applies CheckSend to a message of the kernel, whose private flag bits it may have.
func checkSendKernel(frame []byte) error {
	var o Opts
	if o.Decode(frame) == nil {
		frame = o.Inner
	}
	var m Message
	if m.Decode(frame) == nil {
		m.Flags &= IFLMask
		return m.CheckSend()
	}
	var r Rcom
	if r.Decode(frame) == nil {
		var l RcomLockBuf
		if r.Type == RcomLock || r.Type == RcomLockReply {
			if err := l.Decode(r.Buf); err != nil {
				return err
			}
			l.Flags &= IFLMask
			r.Buf = l.Append(nil)
		}
		return r.CheckSend()
	}
	return nil
}

func checkFrame(t *testing.T, where string, frame []byte) {
	t.Helper()
	again, err := reencode(frame)
	if err != nil {
		t.Errorf("%s: %v\n%x", where, err, frame)
		return
	}
	if !bytes.Equal(again, frame) {
		t.Errorf("%s: re-encoded differently\n%x\n%x", where, frame, again)
	}
	if err := checkSendKernel(frame); err != nil {
		t.Errorf("%s: CheckSend refuses what the kernel sends: %v\n%s", where, err, AppendFrame(nil, frame))
	}
	if line := string(AppendFrame(nil, frame)); strings.Contains(line, "bad") {
		t.Errorf("%s: printed as %q", where, line)
	}
}

// TestGoldenCaptures decodes whole captures of Linux 6.1 nodes. OCFUSE_GOLDEN names the folder; they are too large
// to be kept here, testdata/kernel.txt has one frame of every kind.
func TestGoldenCaptures(t *testing.T) {
	dir := os.Getenv("OCFUSE_GOLDEN")
	if dir == "" {
		t.Skip("OCFUSE_GOLDEN is not set; TestKernelFrames covers one frame of every kind")
	}
	files, err := filepath.Glob(filepath.Join(dir, "dlm-*.pcap.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dlm-*.pcap.gz in %s: %v", dir, err)
	}
	best, total := map[string][]byte{}, 0
	for _, f := range files {
		msgs := readCapture(t, f)
		total += len(msgs)
		kinds := map[string]int{}
		for _, c := range msgs {
			checkFrame(t, fmt.Sprintf("%s at %v %v->%v", filepath.Base(f), c.At, c.From, c.To), c.Data)
			k := kind(c.Data)
			if kinds[k]++; best[k] == nil {
				best[k] = c.Data
			}
		}
		t.Logf("%s: %d messages, %d kinds", filepath.Base(f), len(msgs), len(kinds))
	}
	if total < 1000 {
		t.Errorf("only %d messages found: the reassembler lost the stream", total)
	}
	if *rewrite {
		writeFrames(t, best)
	}
}

func readCapture(t *testing.T, path string) []capture.Frame {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	frames, err := capture.Read(f, 21064)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return frames
}

func writeFrames(t *testing.T, best map[string][]byte) {
	var names []string
	for k := range best {
		names = append(names, k)
	}
	sort.Strings(names)
	var b strings.Builder
	b.WriteString("# One frame of every kind seen between Linux 6.1 kernel nodes; made with -rewrite, see golden_test.go.\n" +
		"# A line that begins with # says what follows and how it prints; 00*N stands for N zero bytes.\n")
	for _, k := range names {
		fmt.Fprintf(&b, "\n# %s\n# > %s\n", k, AppendFrame(nil, best[k]))
		writeHex(&b, best[k])
	}
	if err := os.WriteFile("testdata/kernel.txt", []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func writeHex(b *strings.Builder, frame []byte) {
	for len(frame) > 0 {
		zeros := len(frame) - len(bytes.TrimLeft(frame, "\x00"))
		if zeros > 32 {
			fmt.Fprintf(b, "00*%d\n", zeros)
			frame = frame[zeros:]
			continue
		}
		n := min(32, len(frame))
		fmt.Fprintf(b, "%x\n", frame[:n])
		frame = frame[n:]
	}
}

type namedFrame struct {
	name, line string
	frame      []byte
}

// readFrames reads a file of named hex frames: "# name", optionally "# > printed line", then hex.
func readFrames(t testing.TB, file string) (out []namedFrame) {
	t.Helper()
	d, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, para := range strings.Split(string(d), "\n\n")[1:] {
		var n namedFrame
		for _, line := range strings.Split(strings.TrimSpace(para), "\n") {
			if s, ok := strings.CutPrefix(line, "# > "); ok {
				n.line = s
			} else if s, ok := strings.CutPrefix(line, "# "); ok {
				n.name = s
			} else if s, ok := strings.CutPrefix(line, "00*"); ok {
				z, err := strconv.Atoi(s)
				if err != nil {
					t.Fatal(err)
				}
				n.frame = append(n.frame, make([]byte, z)...)
			} else {
				h, err := hex.DecodeString(strings.ReplaceAll(line, " ", ""))
				if err != nil {
					t.Fatalf("%s, %s: %v", file, n.name, err)
				}
				n.frame = append(n.frame, h...)
			}
		}
		out = append(out, n)
	}
	return out
}

// TestKernelFrames decodes, re-encodes and prints one frame of every kind the kernel sent.
func TestKernelFrames(t *testing.T) {
	seen := map[string]bool{}
	for _, n := range readFrames(t, "testdata/kernel.txt") {
		checkFrame(t, n.name, n.frame)
		if k := kind(n.frame); k != n.name {
			t.Errorf("%s: decoded as %s", n.name, k)
		}
		if line := string(AppendFrame(nil, n.frame)); line != n.line {
			t.Errorf("%s: printed\n%s\nwant\n%s", n.name, line, n.line)
		}
		seen[strings.Join(strings.Fields(n.name)[1:2], " ")] = true
		seen[strings.Join(strings.Fields(n.name)[1:min(3, len(strings.Fields(n.name)))], " ")] = true
	}
	for i, name := range msgNames {
		if i > 0 && MsgType(i) != MsgPurge && !seen[name] { // nobody sends PURGE in the captures
			t.Errorf("no %s in testdata/kernel.txt", name)
		}
	}
	for i, name := range rcomNames {
		if i > 0 && !seen["RCOM "+name] {
			t.Errorf("no RCOM %s in testdata/kernel.txt", name)
		}
	}
	if !seen["ACK"] || !seen["FIN"] {
		t.Error("no ACK or FIN in testdata/kernel.txt")
	}
}
