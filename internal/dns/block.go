package dns

import (
	"fmt"
	"strings"

	"gke-metadata-emulator/internal/wellknown"
)

const (
	beginMark = "# BEGIN gke-metadata-emulator"
	// onNewLine marks a block before which a newline was added, because the text did
	// not end with one. Uninstall removes it.
	onNewLine = " (on a new line)"
	endMark   = "# END gke-metadata-emulator"
)

// names are the DNS names of the metadata server.
func names() []string {
	return []string{wellknown.MetadataHost, wellknown.MetadataShortHost}
}

// serverBlock answers A queries with the metadata address. Other queries for the
// names get an empty answer: a resolver that queries AAAA gives up if the name does
// not exist. Names below them do not exist. The template plugin has no state and
// works beside any other plugin.
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
        answer "{{ .Name }} 300 IN A ` + wellknown.MetadataIPv4 + `"
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

// marked is a text that can contain our block: text[begin:end], including the marks.
type marked struct {
	text       string
	begin, end int  // begin is -1 if there is no block
	onNewLine  bool // a newline was added before the block
}

// find finds our block in a text.
func find(file, text string) (marked, error) {
	m := marked{text: text, begin: -1}
	damaged := func(line int, problem string) (marked, error) {
		return marked{}, refuse(Damaged, file, line, "%s; remove everything from %q to %q by hand", problem, beginMark, endMark)
	}
	offset, number, open := 0, 0, false
	for line := range strings.SplitAfterSeq(text, "\n") {
		number++
		switch trimmed := strings.TrimRight(line, "\r\n"); {
		case trimmed == beginMark, trimmed == beginMark+onNewLine:
			if m.begin >= 0 {
				return damaged(number, "there is a second begin mark")
			}
			m.begin, m.onNewLine, open = offset, trimmed != beginMark, true
		case trimmed == endMark:
			if !open {
				return damaged(number, "there is an end mark without a begin mark")
			}
			m.end, open = offset+len(line), false
		case strings.Contains(line, beginMark), strings.Contains(line, endMark):
			return damaged(number, "a mark has been changed")
		}
		offset += len(line)
	}
	if open {
		return damaged(0, "there is a begin mark without an end mark")
	}
	if m.onNewLine && (m.begin == 0 || text[m.begin-1] != '\n') {
		return damaged(0, "the begin mark has been moved")
	}
	return m, nil
}

// without returns the text as it was before install.
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

// with returns the text with the block: in its place, or at the end.
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
