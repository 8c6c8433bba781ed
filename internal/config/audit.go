package config

import "github.com/spf13/pflag"

// Audit has the file in which issued and refused tokens are recorded.
type Audit struct {
	Log string // path of a file, - for standard output; empty: no record
}

func (a *Audit) flags(f *pflag.FlagSet) {
	f.StringVar(&a.Log, "audit-log", "", "`file` to which a line of JSON is appended for each token that is issued or refused, - for standard output (default: none); see docs/tokens.md")
}
