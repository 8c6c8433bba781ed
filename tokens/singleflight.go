package tokens

import (
	"context"

	"golang.org/x/sync/singleflight"

	"gke-metadata-emulator/identity"
)

// singleFlight makes one call upstream of many equal requests at once. The call
// is the engine's own: it goes on when all who wait for it have gone.
type singleFlight struct {
	next    Source
	tasks   *tasks
	flights singleflight.Group
}

func newSingleFlight(next Source, tasks *tasks) *singleFlight {
	return &singleFlight{next: next, tasks: tasks}
}

// AccessToken implements [Source].
func (s *singleFlight) AccessToken(ctx context.Context, w identity.Workload, scopes Scopes) (Token, error) {
	return s.do(ctx, accessKey(w, scopes), func(ctx context.Context) (Token, error) { return s.next.AccessToken(ctx, w, scopes) })
}

// IDToken implements [Source].
func (s *singleFlight) IDToken(ctx context.Context, w identity.Workload, request IDTokenRequest) (Token, error) {
	return s.do(ctx, idKey(w, request), func(ctx context.Context) (Token, error) { return s.next.IDToken(ctx, w, request) })
}

func (s *singleFlight) do(ctx context.Context, k key, mint mintFunc) (Token, error) {
	landed := s.flights.DoChan(k.String(), func() (any, error) {
		token, err := Token{}, error(&Error{Kind: Unavailable, Message: "The metadata server is shutting down"})
		s.tasks.run(func(ctx context.Context) { token, err = mint(ctx) })
		return token, err
	})
	select {
	case flight := <-landed:
		return flight.Val.(Token), flight.Err
	case <-ctx.Done():
		return Token{}, unreachable("get a token", "Google", ctx.Err())
	}
}
