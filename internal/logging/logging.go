// Package logging answers one question: how do the log settings become a logger?
//
// It must not know the components that log.
package logging

import (
	"io"
	"log/slog"
)

// New returns a logger that writes to w. The level is one of debug, info, warn and
// error; an unknown one is info. The format is json or, by default, text.
func New(w io.Writer, level, format string) *slog.Logger {
	var threshold slog.Level
	_ = threshold.UnmarshalText([]byte(level))
	options := &slog.HandlerOptions{Level: threshold}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
