package main

import (
	"flag"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
)

type settings struct {
	binary  string // of the emulator
	oneshot bool
}

func parse(args []string, env func(string) string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&s.binary, "binary", "bin/gke-metadata-emulator", "")
	flags.BoolVar(&s.oneshot, "oneshot", false, "")
	if err := flags.Parse(args); err != nil {
		return s, fmt.Errorf("%w; usage: demo [--binary FILE] [--oneshot]", err)
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q; usage: demo [--binary FILE] [--oneshot]", flags.Arg(0))
	}
	if text := env("ONESHOT"); text != "" && !s.oneshot {
		var err error
		if s.oneshot, err = strconv.ParseBool(text); err != nil {
			return s, fmt.Errorf("ONESHOT is %q: set it to 1 or do not set it", text)
		}
	}
	path, err := exec.LookPath(s.binary)
	if err == nil {
		s.binary, err = filepath.Abs(path)
	}
	if err != nil {
		return s, fmt.Errorf("--binary: %w; build it with make demo", err)
	}
	return s, nil
}
