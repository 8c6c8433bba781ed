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

// faultInjector is a source of tokens that fails or is slow on demand.
type faultInjector struct {
	next tokens.Source

	mu       sync.Mutex
	failures int // number of requests that will fail; all if negative
	kind     tokens.Kind
	delay    time.Duration
	requests int
}

// kindOfStatus returns the kind of error that the server answers with a status.
func kindOfStatus(status int) (kind tokens.Kind, ok bool) {
	switch status {
	case http.StatusForbidden:
		return tokens.Denied, true
	case http.StatusNotFound:
		return tokens.NotFound, true
	case http.StatusServiceUnavailable:
		return tokens.Unavailable, true
	}
	return "", false
}

func (f *faultInjector) AccessToken(ctx context.Context, w identity.Workload, scopes tokens.Scopes) (tokens.Token, error) {
	if err := f.inject(ctx); err != nil {
		return tokens.Token{}, err
	}
	return f.next.AccessToken(ctx, w, scopes)
}

func (f *faultInjector) IDToken(ctx context.Context, w identity.Workload, request tokens.IDTokenRequest) (tokens.Token, error) {
	if err := f.inject(ctx); err != nil {
		return tokens.Token{}, err
	}
	return f.next.IDToken(ctx, w, request)
}

// inject waits for the delay, and returns an error if the request has to fail.
func (f *faultInjector) inject(ctx context.Context) error {
	f.mu.Lock()
	f.requests++
	kind, delay := tokens.Kind(""), f.delay
	if f.failures != 0 {
		kind = f.kind
		f.failures = max(f.failures-1, -1)
	}
	f.mu.Unlock()
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
		return &tokens.Error{Kind: kind, Message: "Unable to generate a token: the test has made this request fail"}
	}
	return nil
}

func (f *faultInjector) set(failures int, kind tokens.Kind, delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures, f.kind, f.delay = failures, kind, delay
}

// FailNext makes the next n requests for a token fail with one of the statuses with
// which a metadata server refuses them: 403 (no binding), 404 (no such GSA) or 503
// (Google cannot be reached). Google's libraries retry after 503. FailNext panics if n
// is less than 1 or the status is another one.
func (s *Server) FailNext(n, status int) {
	kind, ok := kindOfStatus(status)
	if !ok || n < 1 {
		panic(fmt.Sprintf("metadatatest: FailNext(%d, %d): give a number from 1, and 403, 404 or 503", n, status))
	}
	s.faults.set(n, kind, 0)
}

// Outage makes all requests for a token fail with 503 until [Server.Recover]. Requests
// for other values succeed.
func (s *Server) Outage() { s.faults.set(-1, tokens.Unavailable, 0) }

// SlowTokens delays the answer to each request for a token.
func (s *Server) SlowTokens(delay time.Duration) { s.faults.set(0, "", delay) }

// Recover ends the effects of FailNext, Outage and SlowTokens.
func (s *Server) Recover() { s.faults.set(0, "", 0) }

// TokenRequests returns the number of requests for a token, including failed ones.
func (s *Server) TokenRequests() int {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return s.faults.requests
}

// SetTokenLifetime sets the longest lifetime of the tokens from now on, at least 2 s,
// and drops cached tokens. Google's Go libraries take a token with 10 s or less left
// for expired, and request another at each use.
func (s *Server) SetTokenLifetime(lifetime time.Duration) {
	s.google.SetTokenLifetime(max(lifetime, 2*time.Second))
	s.callers.change(func(map[string]string) {})
}
