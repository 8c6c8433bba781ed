package dns

import (
	"fmt"
	"slices"
	"strings"
)

// Diff is a unified diff of the configurations: of ours, which is one hunk in a file
// as only one place is ever changed. It is empty where they are the same.
func Diff(before, after Config) string {
	var b strings.Builder
	diff(&b, Corefile, before.Corefile, after.Corefile)
	diff(&b, ServerKey, before.Custom[ServerKey], after.Custom[ServerKey])
	return b.String()
}

func diff(b *strings.Builder, name, before, after string) {
	if before == after {
		return
	}
	const context = 3
	old, fresh := lines(before), lines(after)
	same := 0
	for same < min(len(old), len(fresh)) && old[same] == fresh[same] {
		same++
	}
	tail := 0
	for tail < min(len(old), len(fresh))-same && old[len(old)-1-tail] == fresh[len(fresh)-1-tail] {
		tail++
	}
	from, last := max(0, same-context), min(tail, context)
	fmt.Fprintf(b, "--- %s\n+++ %s\n@@ -%s +%s @@\n", name, name, span(from, len(old)-tail+last), span(from, len(fresh)-tail+last))
	write := func(mark string, lines []string) {
		for _, line := range lines {
			b.WriteString(mark + line)
			if !strings.HasSuffix(line, "\n") {
				b.WriteString("\n\\ No newline at end of file\n")
			}
		}
	}
	write(" ", old[from:same])
	write("-", old[same:len(old)-tail])
	write("+", fresh[same:len(fresh)-tail])
	write(" ", old[len(old)-tail:len(old)-tail+last])
}

// span is lines as diff counts them: the first is 1, but for none at all.
func span(from, to int) string {
	if from == to {
		return fmt.Sprintf("%d,0", from)
	}
	return fmt.Sprintf("%d,%d", from+1, to-from)
}

// lines keeps their ends.
func lines(text string) []string { return slices.Collect(strings.Lines(text)) }
