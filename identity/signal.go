package identity

import (
	"context"
	"errors"
	"sync"
)

// signal wakes everybody who waits for the cluster's next event.
type signal struct {
	mu   sync.Mutex
	next chan struct{}
}

// wait returns a channel that the next raise closes.
func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = make(chan struct{})
	}
	return s.next
}

func (s *signal) raise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		close(s.next)
		s.next = nil
	}
}

// await asks find again after every event until it answers, fails for good, or
// the context ends; then it returns find's last error. A look-up that the next
// event may answer fails with NotReady, Unknown or Ambiguous.
func await[T any](ctx context.Context, s *signal, find func() (T, error)) (T, error) {
	for {
		// Taken before the look-up: an event between the two must not be missed.
		next := s.wait()
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
