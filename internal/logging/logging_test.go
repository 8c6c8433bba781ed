package logging

import (
	"strings"
	"testing"
)

func TestNew_AppliesLevelAndFormat(t *testing.T) {
	for _, test := range []struct{ level, format, want string }{
		{"debug", "text", "level=DEBUG msg=one level=INFO msg=two level=ERROR msg=three"},
		{"info", "text", "level=INFO msg=two level=ERROR msg=three"},
		{"error", "text", "level=ERROR msg=three"},
		{"unknown", "text", "level=INFO msg=two level=ERROR msg=three"},
		{"error", "json", `"level":"ERROR","msg":"three"}`},
	} {
		var b strings.Builder
		log := New(&b, test.level, test.format)
		log.Debug("one")
		log.Info("two")
		log.Error("three")
		var lines []string
		for line := range strings.Lines(b.String()) {
			_, line, _ = strings.Cut(strings.TrimSpace(line), map[string]string{"text": " ", "json": ","}[test.format]) // the time
			lines = append(lines, line)
		}
		if got := strings.Join(lines, " "); got != test.want {
			t.Errorf("%s, %s: %s, want %s", test.level, test.format, got, test.want)
		}
	}
}
