package conformance

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Report collects results, and writes them for people or for programs. The zero value
// is empty.
type Report struct {
	results []Result
}

// Add adds a result.
func (p *Report) Add(r Result) { p.results = append(p.results, r) }

// Count returns the number of cases with an outcome: of all kinds of evidence, or
// only of the given ones.
func (p *Report) Count(outcome Outcome, truths ...Truth) int {
	count := 0
	for _, r := range p.results {
		if r.Outcome == outcome && (len(truths) == 0 || slices.Contains(truths, r.Truth)) {
			count++
		}
	}
	return count
}

// Summary returns one line with the number of cases that passed, failed and were not
// applicable, by kind of evidence.
func (p *Report) Summary() string {
	var parts []string
	for _, outcome := range []struct {
		Outcome
		verb string
	}{{Pass, "passed"}, {Fail, "failed"}, {NotApplicable, "not applicable"}} {
		part := fmt.Sprintf("%d %s", p.Count(outcome.Outcome), outcome.verb)
		var counts []string
		for _, truth := range Truths() {
			if n := p.Count(outcome.Outcome, truth); n > 0 {
				counts = append(counts, fmt.Sprintf("%s %d", truth, n))
			}
		}
		if counts != nil {
			part += " (" + strings.Join(counts, ", ") + ")"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

// JSON writes all results as one JSON document. The target is a field of it.
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

// Text writes a result as one line. If the case has failed, more lines show its
// source, the expectations that are not met, the request (>), and the head (<) and the
// body (|) of the answer.
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

// printable escapes characters with which a server could move a terminal's cursor.
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
