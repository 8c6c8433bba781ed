package config

import (
	"fmt"
	"os"
	"strings"
)

// FlagError is a setting that is wrong or contradicts another. Its message is one line.
type FlagError struct {
	Flag    string // without dashes
	Problem string
	Remedy  string // works if it is followed as it is
}

func (e *FlagError) Error() string {
	return fmt.Sprintf("--%s: %s; %s", e.Flag, e.Problem, e.Remedy)
}

// FlagErrorf returns a [*FlagError]. Line breaks, which errors of YAML have, become
// spaces.
func FlagErrorf(flag, remedy, format string, args ...any) error {
	return &FlagError{Flag: flag, Problem: strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " "), Remedy: remedy}
}

// readFile reads the file that a flag names.
func readFile(flag, path string) ([]byte, error) {
	document, err := os.ReadFile(path)
	if err != nil {
		return nil, FlagErrorf(flag, "give the path of a file that can be read", "%v", err)
	}
	return document, nil
}
