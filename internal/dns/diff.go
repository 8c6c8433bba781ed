package dns

import (
	"fmt"
	"slices"
	"strings"
)

// Diff returns a unified diff of two configurations. Each file has one hunk, because
// [Install] and [Uninstall] change only one place. The diff is empty if the
// configurations are equal.
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
	oldLines, newLines := lines(before), lines(after)
	prefix := 0
	for prefix < min(len(oldLines), len(newLines)) && oldLines[prefix] == newLines[prefix] {
		prefix++
	}
	suffix := 0
	for suffix < min(len(oldLines), len(newLines))-prefix && oldLines[len(oldLines)-1-suffix] == newLines[len(newLines)-1-suffix] {
		suffix++
	}
	from, last := max(0, prefix-context), min(suffix, context)
	fmt.Fprintf(b, "--- %s\n+++ %s\n@@ -%s +%s @@\n", name, name, span(from, len(oldLines)-suffix+last), span(from, len(newLines)-suffix+last))
	write := func(mark string, lines []string) {
		for _, line := range lines {
			b.WriteString(mark + line)
			if !strings.HasSuffix(line, "\n") {
				b.WriteString("\n\\ No newline at end of file\n")
			}
		}
	}
	write(" ", oldLines[from:prefix])
	write("-", oldLines[prefix:len(oldLines)-suffix])
	write("+", newLines[prefix:len(newLines)-suffix])
	write(" ", oldLines[len(oldLines)-suffix:len(oldLines)-suffix+last])
}

// span formats a range of lines as diff does: the first line is 1, and an empty range
// names the line before.
func span(from, to int) string {
	if from == to {
		return fmt.Sprintf("%d,0", from)
	}
	return fmt.Sprintf("%d,%d", from+1, to-from)
}

// lines splits a text into lines with their ends.
func lines(text string) []string { return slices.Collect(strings.Lines(text)) }
