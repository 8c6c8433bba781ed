package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
)

// Report collects results for people or for programs.
type Report struct {
	results []Result
}

// Add writes a result down.
func (p *Report) Add(r Result) { p.results = append(p.results, r) }

// Count is how many cases had an outcome, all together or of some truths only.
func (p *Report) Count(outcome Outcome, of ...Truth) int {
	count := 0
	for _, r := range p.results {
		if r.Outcome == outcome && (len(of) == 0 || r.Truth == of[0]) {
			count++
		}
	}
	return count
}

// Summary is one line: how many passed, failed and were not applicable, by truth.
func (p *Report) Summary() string {
	var parts []string
	for _, outcome := range []struct {
		Outcome
		verb string
	}{{Pass, "passed"}, {Fail, "failed"}, {NotApplicable, "not applicable"}} {
		part := fmt.Sprintf("%d %s", p.Count(outcome.Outcome), outcome.verb)
		var by []string
		for _, truth := range Truths() {
			if n := p.Count(outcome.Outcome, truth); n > 0 {
				by = append(by, fmt.Sprintf("%s %d", truth, n))
			}
		}
		if by != nil {
			part += " (" + strings.Join(by, ", ") + ")"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

// JSON writes all results as one document.
func (p *Report) JSON(w io.Writer, target string) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		Target        string   `json:"target"`
		Passed        int      `json:"passed"`
		Failed        int      `json:"failed"`
		NotApplicable int      `json:"notApplicable"`
		Cases         []Result `json:"cases"`
	}{target, p.Count(Pass), p.Count(Fail), p.Count(NotApplicable), p.results})
}

// Text writes a result: a line, and where it failed what was sent (>), what is not
// so, and what was seen: the head (<) and the body (|) of the answer.
func (r Result) Text(w io.Writer) error {
	var b strings.Builder
	outcome := strings.ToUpper(string(r.Outcome))
	if r.Outcome == NotApplicable {
		outcome = string(r.Outcome)
	}
	fmt.Fprintf(&b, "%-4s  %-10s  %s", outcome, r.Truth, r.Name)
	if r.Reason != "" {
		b.WriteString(": " + r.Reason)
	}
	b.WriteByte('\n')
	if r.Outcome == Fail {
		prefixed(&b, "      from      ", r.Source, "\n")
		prefixed(&b, "      expected  ", r.Expected, "\n")
		prefixed(&b, "      > ", strings.TrimSuffix(r.Request, "\r\n\r\n"), "\r\n")
		head, body, _ := strings.Cut(r.Seen, "\r\n\r\n")
		prefixed(&b, "      < ", head, "\r\n")
		if text, newline := strings.CutSuffix(body, "\n"); body != "" {
			prefixed(&b, "      | ", text, "\n")
			if !newline {
				b.WriteString("      \\ no newline at the end\n")
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func prefixed(b *strings.Builder, prefix, text, separator string) {
	for line := range strings.SplitSeq(text, separator) {
		b.WriteString(strings.TrimRight(prefix+printable(line), " ") + "\n")
	}
}

// printable keeps what a server sends from moving a terminal's cursor.
func printable(line string) string {
	var b strings.Builder
	for _, r := range line {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}
