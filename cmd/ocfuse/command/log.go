package command

import (
	"fmt"
	"io"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"
)

// logOptions are the flags every command has.
type logOptions struct {
	level, format string
}

// logFormats are the values of --log-format.
var logFormats = map[string]logrus.Formatter{
	"text": &logrus.TextFormatter{FullTimestamp: true, TimestampFormat: "2006-01-02T15:04:05.000Z07:00"},
	"json": &logrus.JSONFormatter{TimestampFormat: "2006-01-02T15:04:05.000000Z07:00"},
}

// newLogger is the one logger of the process, quiet until apply.
func newLogger(w io.Writer) *logrus.Logger {
	l := logrus.New()
	l.SetOutput(w)
	l.SetLevel(logrus.WarnLevel)
	l.SetFormatter(logFormats["text"])
	return l
}

func (o *logOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.level, "log-level", "warn", "what to log: error, warn, info, debug or trace")
	f.StringVar(&o.format, "log-format", "text", "how to log: text or json")
}

// apply sets l up as the flags say.
func (o *logOptions) apply(l *logrus.Logger) error {
	level, err := logrus.ParseLevel(strings.ToLower(o.level))
	if err != nil {
		return fmt.Errorf("--log-level %q: use error, warn, info, debug or trace", o.level)
	}
	format, ok := logFormats[o.format]
	if !ok {
		return fmt.Errorf("--log-format %q: use text or json", o.format)
	}
	l.SetLevel(level)
	l.SetFormatter(format)
	return nil
}
