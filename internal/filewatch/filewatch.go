package filewatch

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/wait"
)

// period is the time between two reads of the file, plus up to half of it at random.
const period = 2 * time.Second

// Options of [New]. Those without a default are required.
type Options[T any] struct {
	Path  string
	Title string // what the file is, in log messages: "policy file"

	// Parse returns the value of the file's content. An error refuses the content.
	Parse func(content []byte) (T, error)
	// Equal reports whether a change of the content is none of the value.
	// Default: each change of the content is one of the value.
	Equal func(previous, next T) bool
	// Take puts a value into effect.
	Take func(T)

	// Initial is the value that is in effect already. Default: none; the first
	// value is put into effect without being counted or logged as a change.
	Initial *T

	// LogAttrs are further attributes of the log message about a change, as for
	// [slog.Logger.Info]. Default: none.
	LogAttrs func(T) []any
	// Changes counts changes by result: taken or refused.
	Changes *prometheus.CounterVec
	Log     *slog.Logger
}

// Watcher puts the current content of a file into effect.
type Watcher[T any] struct {
	options Options[T]

	// The fields below belong to the goroutine of Run.
	value   *T     // in effect; nil before the first value
	content []byte // of which value was parsed; nil before the first read
	refusal string // why the current content is refused; empty if it is not
}

// New returns a watcher that does nothing until [Watcher.Run].
func New[T any](o Options[T]) *Watcher[T] {
	return &Watcher[T]{options: o, value: o.Initial}
}

// Run polls the file until ctx ends, and returns nil then.
func (w *Watcher[T]) Run(ctx context.Context) error {
	wait.JitterUntilWithContext(ctx, func(context.Context) { w.poll() }, period, 0.5, true)
	return nil
}

func (w *Watcher[T]) poll() {
	content, err := os.ReadFile(w.options.Path)
	if err != nil {
		w.refuse(err)
		return
	}
	if w.content != nil && bytes.Equal(content, w.content) {
		w.refusal = ""
		return
	}
	next, err := w.options.Parse(content)
	if err != nil {
		w.refuse(err)
		return
	}
	// Never nil, even for an empty file.
	w.content, w.refusal = append([]byte{}, content...), ""
	previous := w.value
	w.value = &next
	switch {
	case previous == nil:
		w.options.Take(next)
	case w.options.Equal == nil || !w.options.Equal(*previous, next):
		w.options.Take(next)
		w.options.Changes.WithLabelValues("taken").Inc()
		attrs := []any{"file", w.options.Path}
		if w.options.LogAttrs != nil {
			attrs = append(attrs, w.options.LogAttrs(next)...)
		}
		w.options.Log.Info("the "+w.options.Title+" has changed; its new content is in effect", attrs...)
	}
}

// refuse counts and logs each reason once, until the content is valid again or the
// reason is another.
func (w *Watcher[T]) refuse(err error) {
	if err.Error() == w.refusal {
		return
	}
	w.refusal = err.Error()
	w.options.Changes.WithLabelValues("refused").Inc()
	w.options.Log.Error("the "+w.options.Title+" is refused; its previous content stays in effect", "file", w.options.Path, "error", err)
}
