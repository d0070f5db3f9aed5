package command

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress shows how far a long work is: a bar per stage on a terminal, else one
// line when a stage ends.
type progress struct {
	w     io.Writer
	tty   bool
	stage string    // running; empty before the first and after the last
	drawn time.Time // when the bar was last drawn
}

// newProgress draws on w; not at all when quiet.
func newProgress(w io.Writer, quiet bool) *progress {
	p := &progress{w: w}
	if quiet {
		p.w = io.Discard
	}
	if f, ok := w.(*os.File); ok && !quiet {
		st, err := f.Stat()
		p.tty = err == nil && st.Mode()&os.ModeCharDevice != 0
	}
	return p
}

const barWidth = 30

// report says that done of total of a stage is done.
func (p *progress) report(stage string, done, total int64) {
	if p.stage != "" && stage != p.stage {
		p.end()
	}
	p.stage = stage
	if done >= total {
		p.end()
		return
	}
	if !p.tty || time.Since(p.drawn) < time.Second/10 {
		return
	}
	p.drawn = time.Now()
	n := int(done * barWidth / total)
	fmt.Fprintf(p.w, "\r%-28s [%s%s] %3d%%", stage, strings.Repeat("#", n), strings.Repeat(".", barWidth-n), done*100/total)
}

// end finishes the line of the running stage.
func (p *progress) end() {
	if p.stage == "" {
		return
	}
	if p.tty {
		fmt.Fprintf(p.w, "\r\033[K")
	}
	fmt.Fprintf(p.w, "%s: done\n", p.stage)
	p.stage = ""
}
