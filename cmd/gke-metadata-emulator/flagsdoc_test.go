package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"gke-metadata-emulator/internal/config"
)

const flagsIntro = `# Flags

Each flag can also be set by its environment variable; the command line takes precedence. An invalid setting, or one
that contradicts another, ends the program before anything starts, with exit code 2 and one line that names the flag
and the remedy. A failure at run time is exit code 1.
`

func TestFlags_DocumentIsUpToDate(t *testing.T) {
	var b strings.Builder
	b.WriteString(flagsIntro)
	for _, c := range commands() {
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n\n| Flag | Environment | Default | Meaning |\n|---|---|---|---|\n", strings.Join(words(c), " "), c.Short)
		for _, f := range flagsOf(c) {
			kind, meaning := pflag.UnquoteUsage(f)
			row := []string{code(strings.TrimSpace("--" + f.Name + " " + kind)), code(config.EnvName(f.Name)), code(f.DefValue), meaning}
			b.WriteString("| " + strings.Join(row, " | ") + " |\n")
			if strings.ContainsAny(strings.Join(row, ""), "|\n<>") {
				t.Errorf("--%s does not fit into a table: %q", f.Name, row)
			}
		}
	}
	golden(t, filepath.Join("..", "..", "docs", "flags.md"), b.String())
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
