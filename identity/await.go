package identity

import (
	"context"
	"errors"

	"gke-metadata-emulator/internal/change"
)

// await asks find again after every event until it answers, fails for good, or
// the context ends; then it returns find's last error. A look-up that the next
// event may answer fails with NotReady, Unknown or Ambiguous.
func await[T any](ctx context.Context, s *change.Signal, find func() (T, error)) (T, error) {
	for {
		// Taken before the look-up: an event between the two must not be missed.
		next := s.Next()
		v, err := find()
		if err == nil || !mayResolve(err) {
			return v, err
		}
		select {
		case <-next:
		case <-ctx.Done():
			return v, err
		}
	}
}

func mayResolve(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Reason == NotReady || e.Reason == Unknown || e.Reason == Ambiguous)
}
