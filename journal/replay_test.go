package journal

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/ocfuse/ocfuse/journal/format"
)

// logBuilder writes a log by hand, with every feature a kernel could have used.
type logBuilder struct {
	t   testing.TB
	v   testVolume
	l   format.Layout
	img []byte
	pos uint32
	seq uint32
	r   ring
	s   format.Superblock
}

func newLogBuilder(t testing.TB, v testVolume, start uint32) *logBuilder {
	t.Helper()
	l, err := format.NewLayout(v.bs, v.features)
	must(t, err)
	b := &logBuilder{t: t, v: v, l: l, img: v.format(t), pos: start, seq: max(v.seq, 1)}
	b.s = format.New(uint32(v.bs), v.logLen, [16]byte{1, 2, 3}, v.features)
	b.s.Sequence, b.s.Start = b.seq, start
	if l.Checksums() {
		b.s.ChecksumType = format.ChecksumCRC32C
	}
	b.r = ring{first: b.s.First, end: v.logLen}
	b.super()
	return b
}

func (b *logBuilder) super() { b.s.Put(b.at(0)) }

// at is log block pos in the image.
func (b *logBuilder) at(pos uint32) []byte {
	m, err := newLogMap(b.v.extents(), b.v.bs)
	must(b.t, err)
	off, _ := m.run(pos, 1)
	return b.img[off:][:b.v.bs]
}

// next returns the next block of the log, cleared.
func (b *logBuilder) next() []byte {
	p := b.at(b.pos)
	clear(p)
	b.pos = b.r.add(b.pos, 1)
	return p
}

func (b *logBuilder) seed() uint32 { return format.Seed(b.s.UUID) }

// image is an image of a home block for the log.
type image struct {
	home int
	val  byte
}

// blocks writes one descriptor with images; a value of 0xC0 makes one that needs
// escaping.
func (b *logBuilder) blocks(images ...image) *logBuilder {
	var w format.DescriptorWriter
	d := b.next()
	w.Reset(b.l, d, b.seq)
	for _, im := range images {
		p := b.next()
		copy(p, fill(im.val, b.v.bs))
		tag := format.Tag{Blkno: b.v.home(im.home)}
		if im.val == 0xC0 {
			format.Escape(p)
			tag.Flags = format.FlagEscape
		}
		tag.Checksum = b.l.TagChecksum(b.seed(), b.seq, p)
		if !b.l.Checksums() {
			tag.Checksum = 0
		}
		if !w.Add(tag) {
			b.t.Fatal("descriptor is full")
		}
	}
	w.Finish()
	b.l.SealBlock(b.seed(), d)
	return b
}

func (b *logBuilder) revoke(homes ...int) *logBuilder {
	var blknos []uint64
	for _, h := range homes {
		blknos = append(blknos, b.v.home(h))
	}
	p := b.next()
	b.l.PutRevoke(p, b.seq, blknos)
	b.l.SealBlock(b.seed(), p)
	return b
}

func (b *logBuilder) commit() *logBuilder {
	p := b.next()
	c := format.Commit{Sequence: b.seq, Sec: 1}
	c.Put(p)
	b.l.SealCommit(b.seed(), p)
	b.seq++
	return b
}

// replay replays and checks home block i against want[i] (0: untouched).
func (b *logBuilder) replay(want ...byte) (ReplayResult, *memDev) {
	b.t.Helper()
	dev := newMemDev(bytes.Clone(b.img))
	res, err := Replay(context.Background(), b.v.replayConfig(dev))
	if err != nil {
		b.t.Fatal(err)
	}
	for i, val := range want {
		exp := fill(val, b.v.bs)
		if val == 0xC0 {
			format.Unescape(exp)
		}
		if got := b.v.homeData(dev, i); !bytes.Equal(got, exp) {
			b.t.Errorf("home block %d has %x..., want %x", i, got[:8], exp[:8])
		}
	}
	after := newMemDev(bytes.Clone(dev.data))
	again, err := Replay(context.Background(), b.v.replayConfig(after))
	if err != nil || !again.WasEmpty || !bytes.Equal(after.data, dev.data) {
		b.t.Errorf("second replay: %+v, %v", again, err)
	}
	if again.NextSequence != res.NextSequence {
		b.t.Errorf("next sequence %d on disk, %d returned", again.NextSequence, res.NextSequence)
	}
	return res, dev
}

var replayVariants = []format.Incompat{
	format.IncompatRevoke, format.IncompatRevoke | format.Incompat64Bit,
	format.IncompatRevoke | format.IncompatCsumV2, format.IncompatRevoke | format.IncompatCsumV2 | format.Incompat64Bit,
	format.IncompatRevoke | format.IncompatCsumV3, format.IncompatRevoke | format.IncompatCsumV3 | format.Incompat64Bit,
}

// TestReplayVariants: revokes, escapes, wrap-around and an incomplete end, in every
// variant of the format, with the sequence wrapping.
func TestReplayVariants(t *testing.T) {
	for _, f := range replayVariants {
		v := smallVolume
		v.features, v.seq = f, 0xFFFFFFFF
		b := newLogBuilder(t, v, v.logLen-6)
		b.blocks(image{0, 1}, image{1, 1}).blocks(image{2, 1}, image{3, 1}, image{4, 1}).commit()
		b.revoke(1, 9).blocks(image{0, 2}, image{5, 0xC0}).commit() // 1 revoked after its image
		b.blocks(image{2, 3}).revoke(2, 3).commit()                 // 2 in its own transaction, 3 later
		b.blocks(image{3, 4}).commit()                              // 3 again after the revoke
		b.blocks(image{0, 9}, image{6, 9}).revoke(4)                // never committed
		res, _ := b.replay(2, 0, 0, 4, 1, 0xC0, 0)
		want := ReplayResult{Transactions: 4, Images: 9, Written: 4, Revoked: 2, LastSequence: 2, NextSequence: 4}
		if res != want {
			t.Errorf("%v: %+v, want %+v", f, res, want)
		}
	}
}

// TestReplayEmpty: mkfs.ocfs2 leaves s_start 1 in an empty log.
func TestReplayEmpty(t *testing.T) {
	b := newLogBuilder(t, smallVolume, 1)
	res, _ := b.replay(0)
	if want := (ReplayResult{LastSequence: 0, NextSequence: 2}); res != want {
		t.Errorf("%+v", res)
	}
	dev := newMemDev(bytes.Clone(b.img))
	res, err := Wipe(t.Context(), smallVolume.replayConfig(dev))
	must(t, err)
	if want := (ReplayResult{LastSequence: 0, NextSequence: 2}); res != want {
		t.Errorf("wipe: %+v", res)
	}
	j, err := Open(smallVolume.config(dev))
	must(t, err)
	must(t, j.Close(t.Context()))
}

// TestWipeSkipsSequences: a wiped log's transactions must not be taken for new ones.
func TestWipeSkipsSequences(t *testing.T) {
	b := newLogBuilder(t, smallVolume, 1)
	b.blocks(image{0, 1}).commit().blocks(image{1, 1}).commit()
	dev := newMemDev(b.img)
	res, err := Wipe(t.Context(), smallVolume.replayConfig(dev))
	must(t, err)
	if res.Transactions != 2 || res.NextSequence != 4 || smallVolume.homeData(dev, 0)[0] != 0 {
		t.Errorf("%+v", res)
	}
}

// TestReplayCorrupt: damage is found before anything is written.
func TestReplayCorrupt(t *testing.T) {
	v := smallVolume
	sums := v
	sums.features = format.IncompatCsumV3
	for name, c := range map[string]struct {
		v      testVolume
		damage func(b *logBuilder)
	}{
		"outside the volume": {v, func(b *logBuilder) { b.blocks(image{v.blocks, 1}) }},
		"in the journal":     {v, func(b *logBuilder) { b.blocks(image{-16 - int(v.logLen) + 5, 1}) }},
		"image checksum":     {sums, func(b *logBuilder) { p := b.pos + 1; b.blocks(image{1, 1}); b.at(p)[99]++ }},
		"descriptor":         {sums, func(b *logBuilder) { p := b.pos; b.blocks(image{1, 1}); b.at(p)[99]++ }},
		"revoke block":       {sums, func(b *logBuilder) { p := b.pos; b.revoke(1); b.at(p)[99]++ }},
		"revoke count":       {v, func(b *logBuilder) { p := b.pos; b.revoke(1); b.at(p)[12] = 0xFF }},
	} {
		b := newLogBuilder(t, c.v, 1)
		b.blocks(image{0, 1}).commit()
		c.damage(b)
		uncommitted := bytes.Clone(b.img)
		b.commit()
		dev := newMemDev(bytes.Clone(b.img))
		_, err := Replay(t.Context(), c.v.replayConfig(dev))
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(dev.data, b.img) {
			t.Errorf("%s: the volume was changed", name)
		}
		// The same in a transaction without its commit block is the end of the log.
		dev = newMemDev(uncommitted)
		if res, err := Replay(t.Context(), c.v.replayConfig(dev)); err != nil || res.Transactions != 1 {
			t.Errorf("%s, uncommitted: %+v, %v", name, res, err)
		}
	}
	b := newLogBuilder(t, sums, 1)
	b.blocks(image{0, 1}).commit().blocks(image{0, 2}).commit()
	b.at(b.pos - 1)[0x30]++ // the last commit block's checksum is wrong: torn, not there
	if res, _ := b.replay(1); res.Transactions != 1 {
		t.Errorf("%+v", res)
	}
}

func TestReplayRefuses(t *testing.T) {
	for _, change := range []func(s *format.Superblock){
		func(s *format.Superblock) { s.Incompat = format.IncompatAsyncCommit },
		func(s *format.Superblock) { s.Incompat = format.IncompatFastCommit },
		func(s *format.Superblock) { s.Incompat = 0x40 },
		func(s *format.Superblock) { s.ROCompat = 1 },
	} {
		b := newLogBuilder(t, smallVolume, 1)
		change(&b.s)
		b.super()
		_, err := Replay(t.Context(), smallVolume.replayConfig(newMemDev(b.img)))
		wantIs(t, err, ErrUnsupported)
	}
	b := newLogBuilder(t, smallVolume, 1)
	b.blocks(image{0, 1}).commit()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Replay(ctx, smallVolume.replayConfig(newMemDev(b.img)))
	wantIs(t, err, context.Canceled)
}

// TestReplayLarge: more than a batch and a window, images scattered and repeated.
func TestReplayLarge(t *testing.T) {
	v := testVolume{bs: 4096, logLen: 12000, blocks: 12000 + 16 + 5000} // one round is less than half the log
	dev := newMemDev(v.format(t))
	j, err := Open(v.config(dev))
	must(t, err)
	bs := v.newBlocks(4500, nil)
	for round := range 2 {
		for first := 0; first < len(bs); first += 1500 {
			change(t, j, byte(round*16+first/1500+1), bs[first:first+1500]...)
			must(t, j.CommitRunning(t.Context()))
		}
		if round == 0 {
			must(t, j.FullFlush(t.Context()))
		}
	}
	crashed := newMemDev(dev.data)
	j.Abort(errors.New("crash"))
	var steps []int
	cfg := v.replayConfig(crashed)
	cfg.Progress = func(done, total int) { steps = append(steps, done) }
	res, err := Replay(t.Context(), cfg)
	must(t, err)
	if res.Written != len(bs) || !slices.IsSorted(steps) || steps[len(steps)-1] != res.Written {
		t.Errorf("%+v, progress %v", res, steps)
	}
	for i := range bs {
		if got := v.homeData(crashed, i); got[0] != byte(17+i/1500) {
			t.Fatalf("block %d has %d", i, got[0])
		}
	}
	if w, _, _ := crashed.counts(); w > 20 {
		t.Errorf("replay took %d writes for consecutive blocks", w)
	}
}

// FuzzReplay replays any bytes as a log: it must end, not panic, and not write
// outside the home blocks unless it succeeds in emptying the log.
func FuzzReplay(f *testing.F) {
	v := testVolume{bs: 512, logLen: 24, blocks: 24 + 16 + 8}
	logOf := func(b *logBuilder) (log []byte) {
		for pos := range v.logLen {
			log = append(log, b.at(pos)...)
		}
		return log
	}
	for _, feat := range replayVariants[:2] {
		v.features = feat
		b := newLogBuilder(f, v, 20)
		b.blocks(image{0, 1}, image{1, 0xC0}).commit().revoke(1).commit().blocks(image{2, 3}).commit()
		f.Add(logOf(b))
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		b := &logBuilder{t: t, v: v, img: make([]byte, v.blocks*v.bs)}
		for pos := range v.logLen {
			copy(b.at(pos), log[min(int(pos)*v.bs, len(log)):])
		}
		before := bytes.Clone(b.img)
		dev := newMemDev(b.img)
		res, err := Replay(context.Background(), v.replayConfig(dev))
		if err != nil && !bytes.Equal(before, dev.data) {
			t.Errorf("failed with %v after changing the volume", err)
		}
		if err == nil && !res.WasEmpty {
			if again, err := Replay(context.Background(), v.replayConfig(dev)); err != nil || !again.WasEmpty {
				t.Errorf("not empty after replay: %+v, %v", again, err)
			}
		}
	})
}
