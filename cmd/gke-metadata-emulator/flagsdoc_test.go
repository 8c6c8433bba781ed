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

Each flag can be set by its environment variable too; the command line wins. A setting that is wrong or
contradicts another ends the program with exit code 2, before anything starts, and with one line that names the
flag and what to do. A failure while it runs is exit code 1.
`

func TestTheDocumentOfFlagsIsWhatTheCommandsSay(t *testing.T) {
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
