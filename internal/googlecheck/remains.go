package googlecheck

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"google.golang.org/api/googleapi"
)

// cleanUpTimeout bounds the removal of everything, after the context has ended.
const cleanUpTimeout = 2 * time.Minute

// remain is a change of the project that the end of a run undoes.
type remain struct {
	command string // does the same by hand
	remove  func(context.Context) error
}

// willLeave notes a change before it is made: a call whose answer is lost may have
// succeeded. The function that it returns drops the note if Google has refused the change.
func (s *scratch) willLeave(r remain) (forget func(err error)) {
	s.remains = append(s.remains, r)
	return func(err error) {
		var refused *googleapi.Error
		if errors.As(err, &refused) && refused.Code < http.StatusInternalServerError {
			s.remains = slices.DeleteFunc(s.remains, func(other remain) bool { return other.command == r.command })
		}
	}
}

// leave removes everything, the latest change first, and returns the commands for the
// remains.
func (s *scratch) leave() []string {
	ctx, cancel := context.WithTimeout(context.Background(), cleanUpTimeout)
	defer cancel()
	var left []string
	for _, r := range slices.Backward(s.remains) {
		if !s.Keep {
			if err := r.remove(ctx); err == nil || hasCode(err, http.StatusNotFound) {
				continue
			}
		}
		left = append(left, r.command)
	}
	return left
}
