package dns

import (
	"fmt"
	"strings"
)

const (
	beginMark = "# BEGIN gke-metadata-emulator"
	// The line before had no end, and gets that back.
	onNewLine = " (on a new line)"
	endMark   = "# END gke-metadata-emulator"
)

// names are what software calls the metadata server.
func names() []string { return []string{"metadata.google.internal", "metadata"} }

// serverBlock answers A with the metadata address; everything else of the names
// exists and is empty, as a resolver that asks for AAAA gives up where the name does
// not exist; and below them is nothing. The template plugin keeps no state and
// can stand beside any other.
func serverBlock(ports []string) string {
	var labels []string
	for _, port := range ports {
		for _, name := range names() {
			labels = append(labels, name+":"+port)
		}
	}
	return strings.Join(labels, " ") + ` {
    errors
    template IN A {
        match ^metadata\.google\.internal\.$ ^metadata\.$
        answer "{{ .Name }} 300 IN A 169.254.169.254"
        fallthrough
    }
    template ANY ANY {
        match ^metadata\.google\.internal\.$ ^metadata\.$
        rcode NOERROR
        fallthrough
    }
    template ANY ANY {
        rcode NXDOMAIN
    }
}
`
}

// marked is a text that may hold our block: text[begin:end], marks included.
type marked struct {
	text       string
	begin, end int
	onNewLine  bool
}

// find finds the block. Without one, begin is -1.
func find(file, text string) (marked, error) {
	m := marked{text: text, begin: -1}
	damaged := func(line int, problem string) (marked, error) {
		return marked{}, refuse(Damaged, file, line, "%s; remove all from %q to %q by hand", problem, beginMark, endMark)
	}
	at, number, open := 0, 0, false
	for line := range strings.SplitAfterSeq(text, "\n") {
		number++
		switch trimmed := strings.TrimRight(line, "\r\n"); {
		case trimmed == beginMark, trimmed == beginMark+onNewLine:
			if m.begin >= 0 {
				return damaged(number, "a second begin")
			}
			m.begin, m.onNewLine, open = at, trimmed != beginMark, true
		case trimmed == endMark:
			if !open {
				return damaged(number, "an end without begin")
			}
			m.end, open = at+len(line), false
		case strings.Contains(line, beginMark), strings.Contains(line, endMark):
			return damaged(number, "a mark that has been changed")
		}
		at += len(line)
	}
	if open {
		return damaged(0, "a begin without end")
	}
	if m.onNewLine && (m.begin == 0 || text[m.begin-1] != '\n') {
		return damaged(0, "a begin in another place")
	}
	return m, nil
}

// without is the text as it was before install.
func (m marked) without() string {
	if m.begin < 0 {
		return m.text
	}
	before, after := m.text[:m.begin], m.text[m.end:]
	if m.onNewLine && after == "" {
		before = strings.TrimSuffix(before, "\n")
	}
	return before + after
}

// with is the text with the block, in its place or at the end.
func (m marked) with(block string) string {
	if m.begin >= 0 {
		mark := beginMark
		if m.onNewLine {
			mark += onNewLine
		}
		return m.text[:m.begin] + mark + "\n" + block + endMark + "\n" + m.text[m.end:]
	}
	if m.text != "" && !strings.HasSuffix(m.text, "\n") {
		return fmt.Sprintf("%s\n%s%s\n%s%s\n", m.text, beginMark, onNewLine, block, endMark)
	}
	return fmt.Sprintf("%s%s\n%s%s\n", m.text, beginMark, block, endMark)
}
