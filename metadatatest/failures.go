package metadatatest

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"gke-metadata-emulator/identity"
	"gke-metadata-emulator/tokens"
)

// gate stands before the tokens' source.
type gate struct {
	next tokens.Source

	mu     sync.Mutex
	fail   int // requests yet to fail; all where negative
	kind   tokens.Kind
	delay  time.Duration
	counts int
}

var kinds = map[int]tokens.Kind{
	http.StatusForbidden: tokens.Denied, http.StatusNotFound: tokens.NotFound, http.StatusServiceUnavailable: tokens.Unavailable,
}

func (g *gate) AccessToken(ctx context.Context, w identity.Workload, scopes tokens.Scopes) (tokens.Token, error) {
	if err := g.pass(ctx); err != nil {
		return tokens.Token{}, err
	}
	return g.next.AccessToken(ctx, w, scopes)
}

func (g *gate) IDToken(ctx context.Context, w identity.Workload, request tokens.IDTokenRequest) (tokens.Token, error) {
	if err := g.pass(ctx); err != nil {
		return tokens.Token{}, err
	}
	return g.next.IDToken(ctx, w, request)
}

// pass waits, and says whether a request is to fail.
func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	g.counts++
	kind, delay := tokens.Kind(""), g.delay
	if g.fail != 0 {
		kind = g.kind
		g.fail = max(g.fail-1, -1)
	}
	g.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return &tokens.Error{Kind: tokens.Unavailable, Message: "Unable to get a token in time", Err: ctx.Err()}
		}
	}
	if kind != "" {
		return &tokens.Error{Kind: kind, Message: "Unable to generate a token: made to fail by the test"}
	}
	return nil
}

func (g *gate) set(fail int, kind tokens.Kind, delay time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail, g.kind, g.delay = fail, kind, delay
}

// FailNext makes the next n requests for a token fail with one of the statuses that a
// metadata server has for it: 403 (no binding), 404 (no such GSA), 503 (Google
// cannot be reached). Google's libraries ask again after 503. Another status panics.
func (s *Server) FailNext(n, status int) {
	kind, ok := kinds[status]
	if !ok || n < 1 {
		panic(fmt.Sprintf("metadatatest: FailNext(%d, %d): give a number from 1, and 403, 404 or 503", n, status))
	}
	s.gate.set(n, kind, 0)
}

// Outage makes all requests for a token fail with 503 until [Server.Recover]. The
// other values are answered.
func (s *Server) Outage() { s.gate.set(-1, tokens.Unavailable, 0) }

// SlowTokens answers each request for a token after a pause only.
func (s *Server) SlowTokens(pause time.Duration) { s.gate.set(0, "", pause) }

// Recover ends FailNext, Outage and SlowTokens.
func (s *Server) Recover() { s.gate.set(0, "", 0) }

// TokenRequests is how many requests for a token there were, failed ones included.
func (s *Server) TokenRequests() int {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.gate.counts
}

// SetTokenLife bounds the life of the tokens from now on; it is at least 2 s. Google's
// Go libraries take one of up to 10 s for expired, and ask for another at each use.
func (s *Server) SetTokenLife(life time.Duration) {
	s.fake.SetTokenLife(max(life, 2*time.Second))
	s.callers.change(func(map[string]string) {})
}
