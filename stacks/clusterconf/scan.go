package clusterconf

import (
	"strings"
)

// param is one `name = value` line.
type param struct {
	key, val        string
	line, col, vcol int
	used            bool
}

// stanza is a header and its parameters.
type stanza struct {
	kind      string
	line, col int
	params    []param
}

// get returns the last parameter of that name (o2cb's tools let a later line
// win) and marks all of them as used.
func (s *stanza) get(key string) (param, bool) {
	found := -1
	for i := range s.params {
		if s.params[i].key == key {
			s.params[i].used = true
			found = i
		}
	}
	if found < 0 {
		return param{}, false
	}
	return s.params[found], true
}

// scan splits a file into stanzas.
func scan(file string, data []byte) ([]stanza, error) {
	var out []stanza
	rest := strings.TrimPrefix(string(data), "\ufeff")
	for n := 1; rest != ""; n++ {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		if i := strings.IndexByte(line, 0); i >= 0 {
			return nil, &Error{file, n, i + 1, "a zero byte: this is not a text file"}
		}
		body := strings.TrimLeft(line, " \t")
		col := len(line) - len(body) + 1
		body = strings.TrimRight(body, " \t\r")
		if body == "" || body[0] == '#' {
			continue
		}
		if eq := strings.IndexByte(body, '='); eq >= 0 {
			if err := scanParam(file, &out, body, eq, n, col); err != nil {
				return nil, err
			}
			continue
		}
		// A header may carry a comment behind the colon.
		kind, tail, ok := strings.Cut(body, ":")
		if tail = strings.TrimSpace(tail); !ok || (tail != "" && tail[0] != '#') {
			return nil, &Error{file, n, col, "neither a stanza (`node:`) nor a parameter (`name = value`): " + quote(body)}
		}
		out = append(out, stanza{kind: strings.TrimSpace(kind), line: n, col: col})
	}
	return out, nil
}

// scanParam appends the parameter in body to the last stanza.
func scanParam(file string, out *[]stanza, body string, eq, line, col int) error {
	key := strings.TrimRight(body[:eq], " \t")
	val := strings.TrimLeft(body[eq+1:], " \t")
	p := param{key: key, val: val, line: line, col: col, vcol: col + len(body) - len(val)}
	if i := strings.Index(p.val, " #"); i >= 0 {
		p.val = strings.TrimRight(p.val[:i], " \t")
	}
	if key == "" {
		return &Error{file, line, col, "a value without a name; write `name = value`"}
	}
	if len(*out) == 0 {
		return &Error{file, line, col, "parameter " + quote(key) + " before any stanza; begin with `cluster:` or `node:` in a line of its own"}
	}
	last := &(*out)[len(*out)-1]
	last.params = append(last.params, p)
	return nil
}

// quote makes text of the file safe and short for an error.
func quote(s string) string {
	const most = 40
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8("\""+strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)+"\"", "?")
}
