package config

import "github.com/spf13/pflag"

// Logging has the level and the format of the log.
type Logging struct {
	Level  string // debug, info, warn, error
	Format string // text, json
}

func logLevels() []string  { return []string{"debug", "info", "warn", "error"} }
func logFormats() []string { return []string{"text", "json"} }

func (l *Logging) flags(f *pflag.FlagSet) {
	choiceVar(f, &l.Level, "log-level", "info", logLevels(), "lowest level that is logged: debug, info, warn or error")
	choiceVar(f, &l.Format, "log-format", "text", logFormats(), "format of the log: text or json")
}

func (l *Logging) group() Group { return newGroup("Logging", l.flags) }

func (l *Logging) check() error {
	if err := checkChoice("log-level", l.Level, logLevels()); err != nil {
		return err
	}
	return checkChoice("log-format", l.Format, logFormats())
}
