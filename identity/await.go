package identity

import (
	"context"
	"errors"

	"gke-metadata-emulator/internal/change"
)

// await repeats a lookup after every event until it succeeds, fails permanently, or the
// context ends; then it returns the lookup's last error. A lookup that a later event can
// resolve fails with [NotReady], [Unknown] or [Ambiguous].
func await[T any](ctx context.Context, events *change.Signal, lookup func() (T, error)) (T, error) {
	for {
		// Taken before the lookup: an event between the two must not be missed.
		next := events.Next()
		v, err := lookup()
		if err == nil || !isTemporary(err) {
			return v, err
		}
		select {
		case <-next:
		case <-ctx.Done():
			return v, err
		}
	}
}

func isTemporary(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Reason == NotReady || e.Reason == Unknown || e.Reason == Ambiguous)
}
